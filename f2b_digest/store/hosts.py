"""The bans of each host, in SQLite's SQL, for a fleet's scratch store; a host's own store has but one.

The table `late` is made by `fleet.scratch`: the ids of bans from before the digest's period, which stand in `event` as
history so that no other number has them.
"""

from collections import defaultdict

import sqlalchemy as sa

from f2b_digest.model.baseline import HostActivity
from f2b_digest.model.fleet import LateOfHost
from f2b_digest.model.selection import Selection
from f2b_digest.store.selected import Wanted, jails


def group(connection: sa.Connection, wanted: Wanted) -> None:
    """Make the temporary table `at_host`: the bans by host, jail and id."""
    connection.execute(sa.text(_AT_HOST.format(where=wanted.where)), wanted.values)


_AT_HOST = """
CREATE TEMP TABLE at_host AS
SELECT host, jail, ip, count(*) AS bans, max(at) AS last FROM event WHERE {where} GROUP BY host, jail, ip
"""


def hosts(connection: sa.Connection) -> list[str]:
    """Return the hosts of any ban, in order; a skip scan of the index that `fleet.scratch` makes."""
    return list(connection.scalars(sa.text(_HOSTS)))


_HOSTS = """
WITH RECURSIVE each (host) AS (
    SELECT min(host) FROM event WHERE kind = 'ban'
    UNION ALL
    SELECT (SELECT min(host) FROM event WHERE kind = 'ban' AND event.host > each.host) FROM each
    WHERE each.host IS NOT NULL
)
SELECT host FROM each WHERE host IS NOT NULL
"""


def activity(connection: sa.Connection, selection: Selection) -> dict[str, HostActivity]:
    """Return what each host banned, of those that banned somebody. Needs `at_host`."""
    bans: defaultdict[str, dict[str, int]] = defaultdict(dict)
    newest: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for host, jail, count, last in connection.execute(sa.text(_BANS)):
        bans[host][jail], newest[host][jail] = count, last
    late = _late(connection, selection)
    return {
        host: HostActivity(bans.get(host, {}), newest.get(host, {}), late=late.get(host))
        for host in sorted({*bans, *late})
    }


_BANS = "SELECT host, jail, sum(bans), max(last) FROM temp.at_host GROUP BY host, jail"


def _late(connection: sa.Connection, selection: Selection) -> dict[str, LateOfHost]:
    """Return by host the bans from before the period."""
    wanted = set(jails(connection, selection.jails))
    found: dict[str, LateOfHost] = {}
    for host, jail, bans, first, last in connection.execute(sa.text(_LATE), {"last": selection.last_id}):
        if jail in wanted:
            so_far = found.get(host, LateOfHost(0, first, last))
            found[host] = LateOfHost(so_far.bans + bans, min(so_far.first, first), max(so_far.last, last))
    return found


_LATE = """
SELECT event.host, event.jail, count(*), min(event.at), max(event.at) FROM late JOIN event USING (id)
WHERE id <= :last GROUP BY event.host, event.jail
"""
