"""The bans of each host, in SQLite's SQL, for a fleet's scratch store; a host's own store has but one.

On which hosts each row of `tried` was, is packed: four bytes for each, a number that has a meaning only there.

The table `late` is made by `fleet.scratch`: the ids of bans from before the digest's period, which stand in `event` as
history so that no other number has them.
"""

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from f2b_digest.model.baseline import HostActivity
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import User
from f2b_digest.model.fleet import Everywhere, LateOfHost
from f2b_digest.model.selection import Selection
from f2b_digest.store.selected import Wanted, jails
from f2b_digest.store.sql import Connection

MOST_EVERYWHERE = 10
"""Ids that are fetched; what is beyond them is counted."""


def is_of_a_fleet(connection: Connection) -> bool:
    """Return whether this is a fleet's scratch store."""
    return connection.has_table("origin")


def host_set(numbers: Iterable[int]) -> bytes:
    """Return the numbers of hosts as `tried` has them, each once."""
    return array("I", set(numbers)).tobytes()


class _Packed:
    """SQL aggregate: the numbers of some hosts, packed."""

    numbers: dict[str, int]

    def __init__(self) -> None:
        self._found: set[int] = set()

    def step(self, host: str) -> None:
        """Add a host."""
        self._found.add(self.numbers.setdefault(host, len(self.numbers)))

    def finalize(self) -> bytes:
        """Return the numbers."""
        return host_set(self._found)


class _Hosts:
    """SQL aggregate: how many different hosts some rows of `tried` name."""

    def __init__(self) -> None:
        self._found: set[int] = set()

    def step(self, hosts: bytes) -> None:
        """Add the hosts of a row."""
        self._found.update(memoryview(hosts).cast("I"))

    def finalize(self) -> int:
        """Return the number."""
        return len(self._found)


def add_functions(connection: Connection, numbers: dict[str, int] | None = None) -> None:
    """Register the SQL aggregates `packed` (of hosts' names) and `hosts_of` (of what is packed).

    `numbers` are those that hosts have already.
    """
    kind = type("_Packed", (_Packed,), {"numbers": {} if numbers is None else numbers})
    connection.create_aggregate("packed", 1, cast("Any", kind))
    connection.create_aggregate("hosts_of", 1, cast("Any", _Hosts))


def group(connection: Connection, wanted: Wanted) -> None:
    """Make the temporary table `of_host`: the bans by host and jail."""
    connection.execute("CREATE TEMP TABLE of_host (host TEXT, jail TEXT, bans INTEGER, last REAL)")
    connection.execute(_OF_HOST.format(where=wanted.where), wanted.values)


_OF_HOST = "INSERT INTO temp.of_host SELECT host, jail, count(*), max(at) FROM event WHERE {where} GROUP BY host, jail"


def add(connection: Connection, bans: Iterable[tuple[str, str, int, float]]) -> None:
    """Add bans to `of_host`: a host, a jail, their number, and when the last was; a host may be there already."""
    connection.executemany("INSERT INTO temp.of_host VALUES (?, ?, ?, ?)", bans)


def spread(connection: Connection, counts: Counts, least: int) -> Counts:
    """Return counts with on how many hosts each was; and the ids that were on `least` of them or more.

    Needs `of_host`, and the temporary tables of `summary`, `users` and `campaigns`.
    """
    of_jails = dict(_pairs(connection, _OF_JAILS))
    of_addresses = {(jail, ip): hosts for jail, ip, hosts in connection.execute(_OF_ADDRESSES)}
    of_campaigns = dict(_pairs(connection, _OF_CAMPAIGNS))
    shown = (*counts.users.most, *counts.users.existing) if counts.users else ()
    of_names = dict(_pairs(connection, _OF_NAMES, {"names": json.dumps([user.name for user in shown])}))
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


_OF_JAILS = "SELECT jail, count(DISTINCT host) FROM temp.of_host GROUP BY jail"
_OF_ADDRESSES = """
SELECT worst.jail, worst.ip, hosts_of(tried.hosts)
FROM temp.worst CROSS JOIN temp.tried
  ON tried.rowid BETWEEN lists_from AND lists_to AND tried.jail = worst.jail AND tried.ip = worst.ip
GROUP BY worst.jail, worst.ip
"""
_OF_CAMPAIGNS = """
SELECT shown.place, hosts_of(tried.hosts)
FROM temp.tried CROSS JOIN temp.member USING (ip) JOIN temp.shown ON shown.id = member.campaign GROUP BY shown.place
"""
_OF_NAMES = """
SELECT name, hosts_of(tried.hosts) FROM temp.tried JOIN temp.named USING (users)
WHERE name IN (SELECT value FROM json_each(:names)) GROUP BY name
"""
_EVERYWHERE = """
CREATE TEMP TABLE everywhere AS SELECT ip, hosts_of(hosts) AS hosts, sum(bans) AS bans
FROM temp.tried WHERE ip <> '' GROUP BY ip HAVING hosts_of(hosts) >= :least
"""
_MOST_EVERYWHERE = "SELECT ip, hosts, bans FROM temp.everywhere ORDER BY hosts DESC, bans DESC, ip LIMIT :most"
_EVERYWHERE_IN = f"""
SELECT ip, jail FROM temp.address WHERE ip IN (SELECT ip FROM ({_MOST_EVERYWHERE})) ORDER BY ip, bans DESC, jail
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


Late = tuple[str, str, int, float, float]
"""A host, its jail, the bans there from before the period, and when the first and the last was."""


def activity(connection: Connection, selection: Selection, late: Iterable[Late]) -> dict[str, HostActivity]:
    """Return what each host banned, of those that banned somebody. Needs `of_host`."""
    bans: defaultdict[str, dict[str, int]] = defaultdict(dict)
    newest: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for host, jail, count, last in connection.execute(_BANS):
        bans[host][jail], newest[host][jail] = count, last
    before = _by_host(late, set(jails(connection, selection.jails)))
    return {
        host: HostActivity(bans.get(host, {}), newest.get(host, {}), late=before.get(host))
        for host in sorted({*bans, *before})
    }


_BANS = "SELECT host, jail, sum(bans), max(last) FROM temp.of_host GROUP BY host, jail"


def late(connection: Connection, last_id: int) -> Iterable[Late]:
    """Return the bans from before the period, up to an id."""
    return connection.execute(_LATE, {"last": last_id})


def _by_host(late: Iterable[Late], wanted: set[str]) -> dict[str, LateOfHost]:
    """Return by host the bans from before the period in some jails."""
    found: dict[str, LateOfHost] = {}
    for host, jail, bans, first, last in late:
        if jail in wanted:
            so_far = found.get(host, LateOfHost(0, first, last))
            found[host] = LateOfHost(so_far.bans + bans, min(so_far.first, first), max(so_far.last, last))
    return found


_LATE = """
SELECT event.host, event.jail, count(*), min(event.at), max(event.at) FROM late JOIN event USING (id)
WHERE id <= :last GROUP BY event.host, event.jail
"""
