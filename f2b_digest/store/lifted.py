"""Bans that were lifted manually, found by their unbans. Read-only."""

from datetime import tzinfo

from f2b_digest.model.bans import IN_TIME, LATER, ROUNDED
from f2b_digest.model.digest import Lifted, moment
from f2b_digest.model.selection import Selection
from f2b_digest.store.hosts import is_of_a_fleet
from f2b_digest.store.selected import wanted
from f2b_digest.store.sql import Connection

MOST_LIFTED = 20
"""Rows that are fetched; those beyond them are counted."""


def lifted(connection: Connection, selection: Selection, zone: tzinfo) -> tuple[tuple[Lifted, ...], int]:
    """Return the bans that unbans of a selection ended early, the latest first, and how many there are.

    An unban has the time of its ban; `recorded_at` is its own. Unbans without a stored ban are skipped.
    In a fleet, another host's ban of the same address at about the same time is none.
    """
    where, values = wanted(connection, selection, "unban")
    there = "AND ban.host = unban.host" if is_of_a_fleet(connection) else ""
    query = _LIFTED.format(where=where, banned_there=there)
    rows = connection.execute(query, values | {"most": MOST_LIFTED}).fetchall()
    found = tuple(
        Lifted(jail, ip, moment(banned, zone), moment(unbanned, zone)) for jail, ip, banned, unbanned, _ in rows
    )
    return found, rows[0][-1] if rows else 0


_LIFTED = f"""
SELECT unban.jail, unban.ip, ban.at AS banned_at, min(unban.recorded_at) AS lifted_at, count(*) OVER () AS in_all
FROM (SELECT jail, ip, at, recorded_at, host FROM event WHERE {{where}}) AS unban
CROSS JOIN event AS ban
  ON ban.jail = unban.jail AND ban.ip = unban.ip AND ban.kind = 'ban'
     AND ban.at BETWEEN unban.at - {LATER} AND unban.at + {ROUNDED} AND ban.recorded_at <= unban.recorded_at
     {{banned_there}}
LEFT JOIN event AS prolong
  ON prolong.jail = ban.jail AND prolong.ip = ban.ip AND prolong.kind = 'prolong' AND prolong.at = ban.at
     AND prolong.host = ban.host
WHERE coalesce(prolong.bantime, ban.bantime) < 0
   OR unban.recorded_at < ban.at + coalesce(prolong.bantime, ban.bantime) - {IN_TIME}
GROUP BY unban.jail, unban.ip, ban.at ORDER BY lifted_at DESC LIMIT :most
"""
