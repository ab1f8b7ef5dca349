"""When each report was last sent, whether or not there was anything to tell. No digest is read here."""

import sqlalchemy as sa

KEPT = 11
"""Runs of a report: as many as a report's pace is told by."""
_HOUR = 3600
# A table of its own, made by the first send that has it: no other program reads it, so that the store's schema stays.
_TABLE = "CREATE TABLE IF NOT EXISTS run (report TEXT, hour INTEGER, at REAL, PRIMARY KEY (report, hour)) WITHOUT ROWID"
_FORGET = """
DELETE FROM run WHERE report = :report AND hour NOT IN (
    SELECT hour FROM run WHERE report = :report AND hour <= :hour ORDER BY hour DESC LIMIT :kept
)
"""


def note(connection: sa.Connection, report: str, now: float) -> None:
    """Note that a report was sent now (UTC epoch seconds); of the runs of one hour, the last one stays."""
    values = {"report": report, "hour": int(now // _HOUR), "at": now, "kept": KEPT}
    connection.exec_driver_sql(_TABLE)
    connection.execute(sa.text("INSERT OR REPLACE INTO run VALUES (:report, :hour, :at)"), values)
    connection.execute(sa.text(_FORGET), values)  # also what a clock that was fast has left


def read(connection: sa.Connection, report: str) -> list[float]:
    """Return when a report was sent, the oldest first, in UTC epoch seconds."""
    if not sa.inspect(connection).has_table("run"):
        return []
    return list(
        connection.scalars(sa.text("SELECT at FROM run WHERE report = :report ORDER BY at"), {"report": report})
    )
