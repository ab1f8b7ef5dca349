"""When each report was last sent, with or without a digest. No digest is read here. Portable SQL only."""

from f2b_digest.store.sql import Statements

KEPT = 11
"""Runs kept per report: as many as `periods.pace` needs."""
_HOUR = 3600


def note(connection: Statements, report: str, now: float) -> None:
    """Record that a report was sent now (UTC epoch seconds); only the last run of an hour is kept."""
    values = {"report": report, "hour": int(now // _HOUR), "at": now, "most": KEPT - 1}
    connection.execute(_FORGET, values)
    connection.execute("INSERT INTO run (report, hour, at) VALUES (:report, :hour, :at)", values)


# Also this hour's, and those from when the clock was fast.
_FORGET = """
DELETE FROM run WHERE report = :report AND hour NOT IN (
    SELECT hour FROM run WHERE report = :report AND hour < :hour ORDER BY hour DESC LIMIT :most
)
"""


def read(connection: Statements, report: str) -> list[float]:
    """Return when a report was sent, the oldest first, in UTC epoch seconds."""
    return list(connection.scalars("SELECT at FROM run WHERE report = :report ORDER BY at", {"report": report}))
