"""When each report was last sent, with or without a digest. No digest is read here."""

import sqlalchemy as sa

from f2b_digest.store.tables import run

KEPT = 11
"""Runs kept per report: as many as `periods.pace` needs."""
_HOUR = 3600


def note(connection: sa.Connection, report: str, now: float) -> None:
    """Record that a report was sent now (UTC epoch seconds); only the last run of an hour is kept."""
    hour = int(now // _HOUR)
    run.create(connection, checkfirst=True)
    mine = run.c.report == report
    kept = sa.select(run.c.hour).where(mine, run.c.hour < hour).order_by(run.c.hour.desc()).limit(KEPT - 1)
    # Also this hour's, and those from when the clock was fast.
    connection.execute(sa.delete(run).where(mine, run.c.hour.not_in(kept)))
    connection.execute(sa.insert(run).values(report=report, hour=hour, at=now))


def read(connection: sa.Connection, report: str) -> list[float]:
    """Return when a report was sent, the oldest first, in UTC epoch seconds."""
    if not sa.inspect(connection).has_table(run.name):
        return []
    return list(connection.scalars(sa.select(run.c.at).where(run.c.report == report).order_by(run.c.at)))
