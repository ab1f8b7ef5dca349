"""The bans of each host, in SQLite's SQL, for a fleet's scratch store; a host's own store has but one.

The table `late` is made by `fleet.scratch`: the ids of bans from before the digest's period, which stand in `event` as
history so that no other number has them.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from f2b_digest.model.baseline import HostActivity
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import User
from f2b_digest.model.fleet import Everywhere, LateOfHost
from f2b_digest.model.selection import Selection
from f2b_digest.store.selected import Wanted, jails
from f2b_digest.store.sql import Connection

MOST_EVERYWHERE = 10
"""Ids that are fetched; what is beyond them is counted."""


def group(connection: Connection, wanted: Wanted) -> None:
    """Make the temporary table `at_host`: the bans by host, jail and id."""
    connection.execute(_AT_HOST.format(where=wanted.where), wanted.values)


_AT_HOST = """
CREATE TEMP TABLE at_host AS
SELECT host, jail, ip, count(*) AS bans, max(at) AS last FROM event WHERE {where} GROUP BY host, jail, ip
"""


def spread(connection: Connection, wanted: Wanted, counts: Counts, least: int) -> Counts:
    """Return counts with on how many hosts each was; and the ids that were on `least` of them or more.

    Needs `at_host`, and the temporary tables of `summary`, `users` and `campaigns`.
    """
    of_jails = dict(_pairs(connection, _OF_JAILS))
    of_addresses = {(jail, ip): hosts for jail, ip, hosts in connection.execute(_OF_ADDRESSES)}
    of_campaigns = dict(_pairs(connection, _OF_CAMPAIGNS))
    of_names = dict(_pairs(connection, _OF_NAMES.format(where=wanted.where), wanted.values))
    connection.execute(_EVERYWHERE, {"least": least})
    jails_of: dict[str, list[str]] = {}
    for ip, jail in connection.execute(_EVERYWHERE_IN, {"most": MOST_EVERYWHERE}):
        jails_of.setdefault(ip, []).append(jail)
    most = connection.execute(_MOST_EVERYWHERE, {"most": MOST_EVERYWHERE}).fetchall()

    def of_hosts(users: tuple[User, ...]) -> tuple[User, ...]:
        return tuple(replace(user, hosts=of_names.get(user.name)) for user in users)

    return replace(
        counts,
        jails=tuple(
            replace(
                jail, hosts=of_jails.get(jail.name),
                worst=tuple(replace(each, hosts=of_addresses.get((jail.name, each.ip))) for each in jail.worst),
            )
            for jail in counts.jails
        ),
        campaigns=tuple(replace(each, hosts=of_campaigns.get(place)) for place, each in enumerate(counts.campaigns, 1)),
        users=counts.users
        and replace(counts.users, most=of_hosts(counts.users.most), existing=of_hosts(counts.users.existing)),
        everywhere=tuple(Everywhere(ip, hosts, bans, tuple(jails_of[ip])) for ip, hosts, bans in most),
        everywhere_in_all=connection.scalar("SELECT count(*) FROM temp.everywhere"),
    )  # fmt: skip


def _pairs(connection: Connection, query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, int]]:
    return [(key, hosts) for key, hosts in connection.execute(query, values or {})]


_OF_JAILS = "SELECT jail, count(DISTINCT host) FROM temp.at_host GROUP BY jail"
_OF_ADDRESSES = """
SELECT jail, ip, count(*) FROM temp.at_host WHERE (jail, ip) IN (SELECT jail, ip FROM temp.worst) GROUP BY jail, ip
"""
_OF_CAMPAIGNS = """
SELECT shown.place, count(DISTINCT host)
FROM temp.at_host CROSS JOIN temp.member USING (ip) JOIN temp.shown ON shown.id = member.campaign GROUP BY shown.place
"""
_OF_NAMES = """
SELECT name, count(DISTINCT host)
FROM (SELECT DISTINCT host, users FROM event WHERE users IS NOT NULL AND {where}) JOIN temp.named USING (users)
GROUP BY name
"""
_EVERYWHERE = """
CREATE TEMP TABLE everywhere AS SELECT ip, count(DISTINCT host) AS hosts, sum(bans) AS bans
FROM temp.at_host WHERE ip <> '' GROUP BY ip HAVING count(DISTINCT host) >= :least
"""
_MOST_EVERYWHERE = "SELECT ip, hosts, bans FROM temp.everywhere ORDER BY hosts DESC, bans DESC, ip LIMIT :most"
_EVERYWHERE_IN = f"""
SELECT ip, jail FROM temp.at_host WHERE ip IN (SELECT ip FROM ({_MOST_EVERYWHERE}))
GROUP BY ip, jail ORDER BY ip, sum(bans) DESC, jail
"""


def hosts(connection: Connection) -> list[str]:
    """Return the hosts of any ban, in order; a skip scan of the index that `fleet.scratch` makes."""
    return list(connection.scalars(_HOSTS))


_HOSTS = """
WITH RECURSIVE each (host) AS (
    SELECT min(host) FROM event WHERE kind = 'ban'
    UNION ALL
    SELECT (SELECT min(host) FROM event WHERE kind = 'ban' AND event.host > each.host) FROM each
    WHERE each.host IS NOT NULL
)
SELECT host FROM each WHERE host IS NOT NULL
"""


def activity(connection: Connection, selection: Selection) -> dict[str, HostActivity]:
    """Return what each host banned, of those that banned somebody. Needs `at_host`."""
    bans: defaultdict[str, dict[str, int]] = defaultdict(dict)
    newest: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for host, jail, count, last in connection.execute(_BANS):
        bans[host][jail], newest[host][jail] = count, last
    late = _late(connection, selection)
    return {
        host: HostActivity(bans.get(host, {}), newest.get(host, {}), late=late.get(host))
        for host in sorted({*bans, *late})
    }


_BANS = "SELECT host, jail, sum(bans), max(last) FROM temp.at_host GROUP BY host, jail"


def _late(connection: Connection, selection: Selection) -> dict[str, LateOfHost]:
    """Return by host the bans from before the period."""
    wanted = set(jails(connection, selection.jails))
    found: dict[str, LateOfHost] = {}
    for host, jail, bans, first, last in connection.execute(_LATE, {"last": selection.last_id}):
        if jail in wanted:
            so_far = found.get(host, LateOfHost(0, first, last))
            found[host] = LateOfHost(so_far.bans + bans, min(so_far.first, first), max(so_far.last, last))
    return found


_LATE = """
SELECT event.host, event.jail, count(*), min(event.at), max(event.at) FROM late JOIN event USING (id)
WHERE id <= :last GROUP BY event.host, event.jail
"""
