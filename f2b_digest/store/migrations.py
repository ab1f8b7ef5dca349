"""Schema migrations: one function per step. Nothing is opened or read here.

A step runs in its own transaction, which also stores the new version: whenever a process dies, the
next one can continue from the stored version. The recorder makes new stores in the newest version, and an older
recorder goes on appending to an upgraded one: no step may change the columns that it fills.
"""

from collections.abc import Callable

from f2b_digest import recorder
from f2b_digest.store.sql import Connection

OLDEST = 3
"""The first version that is upgraded; those before it were never released."""


def index_events_by_age(connection: Connection) -> None:
    """Version 4: index for `prune` to find old events."""
    connection.execute(recorder.EVENT_INDEXES[2])


def index_events_by_names(connection: Connection) -> None:
    """Version 5: index for `find` to look up user names."""
    connection.execute(recorder.EVENT_INDEXES[3])


STEPS: tuple[Callable[[Connection], None], ...] = (index_events_by_age, index_events_by_names)
"""In order; the first one migrates from `OLDEST`."""


def upgrade(connection: Connection, version: int) -> None:
    """Migrate from a version to the next and store that, in the caller's transaction."""
    STEPS[version - OLDEST](connection)
    connection.execute(f"PRAGMA user_version={version + 1}")
