"""From an older schema to this one: one function per step. Nothing is opened or read here.

A step runs in a transaction of its own, which also stores the version that it leads to: whenever a process dies, the
store has a version that the next one goes on from. The recorder makes new stores in the newest version, and an older
recorder goes on appending to an upgraded one: no step may change the columns that it fills.
"""

from collections.abc import Callable

import sqlalchemy as sa

from f2b_digest import recorder

OLDEST = 3
"""The first version that is upgraded; those before it were never released."""


def index_events_by_age(connection: sa.Connection) -> None:
    """Version 4: `prune` looks for what is old without reading all there is."""
    connection.exec_driver_sql(recorder.EVENT_INDEXES[2])


def index_events_by_names(connection: sa.Connection) -> None:
    """Version 5: `find` looks for a user's name without reading all there is."""
    connection.exec_driver_sql(recorder.EVENT_INDEXES[3])


STEPS: tuple[Callable[[sa.Connection], None], ...] = (index_events_by_age, index_events_by_names)
"""In order: the first leads from `OLDEST` to the next version."""


def upgrade(connection: sa.Connection, version: int) -> None:
    """Take the one step from a version to the next, and store that, in the caller's transaction."""
    STEPS[version - OLDEST](connection)
    connection.exec_driver_sql(f"PRAGMA user_version={version + 1}")
