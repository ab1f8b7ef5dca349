"""Queries of `check`, in SQLite's SQL: they read whole tables on purpose. Read-only."""

from typing import NamedTuple

from f2b_digest import recorder
from f2b_digest.store.sql import Connection


class Last(NamedTuple):
    """The last event of a jail."""

    kind: str
    at: float
    """When it was recorded, in UTC epoch seconds."""


def last_events(connection: Connection) -> dict[str, Last]:
    """Return by jail the last event that fail2ban recorded; not what was imported, or recorded by hand."""
    rows = connection.execute(_LAST_EVENTS, {"scratch": recorder.SCRATCH_JAIL})
    return {jail: Last(kind, at) for jail, kind, at in rows}


_LAST_EVENTS = """
SELECT jail, kind, max(recorded_at) FROM event NOT INDEXED
WHERE source IN ('action', 'shell') AND jail NOT IN ('', :scratch) GROUP BY jail ORDER BY jail
"""


def missing_in_index(connection: Connection) -> int:
    """Return how many pending events are missing from the unique index."""
    return int(connection.scalar(_MISSING_IN_INDEX) or 0)


_MISSING_IN_INDEX = """
SELECT count(*) FROM event AS pending NOT INDEXED
WHERE pending.id > (SELECT coalesce(max(last_id), 0) FROM digest) AND NOT EXISTS (
    SELECT 1 FROM event AS same INDEXED BY sqlite_autoindex_event_1
    WHERE same.jail = pending.jail AND same.ip = pending.ip AND same.kind = pending.kind AND same.at = pending.at
      AND same.host = pending.host AND same.id = pending.id
)
"""


def journal(connection: Connection) -> str:
    """Return SQLite's journal mode: "wal", unless a copy of the file lost it."""
    return str(connection.scalar("PRAGMA journal_mode"))
