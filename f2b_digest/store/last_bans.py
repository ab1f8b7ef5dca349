"""Joins (SQLite's SQL) for the last ban of each row of a table, its final ban time and its end. No query runs here."""

from f2b_digest.model.bans import IN_TIME, LATER, ROUNDED

# The last ban of the rows of a table, and its time after bantime.increment: fail2ban reports that later, with the ban's
# own time. Its unban has that time too, rounded if fail2ban was restarted since, or the log's time where a ban of
# the database ended there; the host's name may differ as well. When it was, `recorded_at` says.
# CROSS JOIN forces SQLite to start with the few rows: it would otherwise scan a million events.
_LAST_BAN = """
CROSS JOIN event ON event.jail = {of}.jail AND event.ip = {of}.ip AND event.at = {of}.last AND {where}
LEFT JOIN event AS prolong
  ON prolong.jail = event.jail AND prolong.ip = event.ip AND prolong.kind = 'prolong' AND prolong.at = event.at
     AND prolong.host = event.host
LEFT JOIN event AS unban
  ON unban.jail = event.jail AND unban.ip = event.ip AND unban.kind = 'unban'
     AND unban.at BETWEEN event.at - {before} AND event.at + {after} AND unban.recorded_at >= event.recorded_at
     {unbanned_there}
"""


def last_ban(of: str, where: str, *, same_host: bool) -> str:
    """Return the joins that find the last ban of each row of a table, with what `BANTIME` and `UNBANNED` need.

    With `same_host` only an unban of the ban's own host counts: in a fleet, where several hosts ban an address at about
    the same time, and their names are the centre's. Otherwise, the name may have changed in between.
    """
    there = "AND unban.host = event.host" if same_host else ""
    return _LAST_BAN.format(of=of, where=where, before=ROUNDED, after=LATER, unbanned_there=there)


BANTIME = "max(coalesce(prolong.bantime, event.bantime))"
UNBANNED = "min(unban.recorded_at)"


def end_of_ban(last: float, bantime: int | None, unbanned: float | None) -> tuple[float | None, bool]:
    """Return when a ban ends or ended, None if never or unknown; and whether it was lifted early.

    fail2ban counts from the last failure, and also unbans when the time is over. Times are UTC epoch
    seconds.
    """
    due = None if bantime is None or bantime < 0 else last + bantime
    if unbanned is None or (due is not None and unbanned >= due - IN_TIME):
        return due, False
    return unbanned, bantime is not None
