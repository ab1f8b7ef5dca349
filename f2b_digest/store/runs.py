"""When each report was last sent, whether or not there was anything to tell. No digest is read here."""

import sqlalchemy as sa

from f2b_digest.store.tables import run

KEPT = 11
"""Runs of a report: as many as a report's pace is told by."""
_HOUR = 3600


def note(connection: sa.Connection, report: str, now: float) -> None:
    """Note that a report was sent now (UTC epoch seconds); of the runs of one hour, the last one stays."""
    hour = int(now // _HOUR)
    run.create(connection, checkfirst=True)
    mine = run.c.report == report
    kept = sa.select(run.c.hour).where(mine, run.c.hour < hour).order_by(run.c.hour.desc()).limit(KEPT - 1)
    # Also that of this hour, and what a clock that was fast has left.
    connection.execute(sa.delete(run).where(mine, run.c.hour.not_in(kept)))
    connection.execute(sa.insert(run).values(report=report, hour=hour, at=now))


def read(connection: sa.Connection, report: str) -> list[float]:
    """Return when a report was sent, the oldest first, in UTC epoch seconds."""
    if not sa.inspect(connection).has_table(run.name):
        return []
    return list(connection.scalars(sa.select(run.c.at).where(run.c.report == report).order_by(run.c.at)))
