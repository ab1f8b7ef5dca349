"""Pruning of old data that is no longer needed, in steps short enough not to delay a ban.

An event is deleted when it is older than any ban that a configured report has not reported, or reported in a digest
with a delivery left to try; so a report whose jails never ban keeps nothing. History, which is never reported, goes
by age alone. Nothing goes that a fleet's centre has not acknowledged. A digest's row is kept forever: it is the mark.
Its messages and its document go with age, once none of its deliveries is open.

Finding old rows takes no write lock, however large the store; only deleting does.
"""

import sqlite3
from collections.abc import Sequence

from f2b_digest.store import received
from f2b_digest.store.archive import OPEN
from f2b_digest.store.sql import Connection
from f2b_digest.store.uploads import UPLOAD

STEP = 2000
"""Events of one transaction: some 20 ms."""
HIGHEST = 2**63 - 1
"""The highest id that SQLite assigns."""
DIGESTS = 20
"""Digests of one transaction."""
PAGES = 200
"""Pages of one transaction that are given back to the file system."""

_OLD_EVENTS = f"""
SELECT id FROM event INDEXED BY event_age
WHERE recorded_at < :before AND (history = 1 OR id < :needed) AND id <= :uploaded ORDER BY recorded_at LIMIT {STEP}
"""
"""SQLite's SQL: its planner would otherwise scan by id."""


def last_sign(connection: Connection, boot: float, before: float) -> float | None:
    """Return the last time before `boot` at which anything was recorded or sealed, if anything was before `before`."""
    values = {"boot": boot, "before": before}
    signs: list[float | None] = [connection.scalar(query, values) for query in (_LAST_RECORDED, _LAST_SEALED)]
    return max((sign for sign in signs if sign is not None), default=None)


_IS_OLD = "EXISTS (SELECT 1 FROM event AS old WHERE old.recorded_at < :before)"
_LAST_RECORDED = f"SELECT max(recorded_at) FROM event WHERE recorded_at < :boot AND {_IS_OLD}"
_LAST_SEALED = f"SELECT max(sealed_at) FROM digest WHERE sealed_at < :boot AND {_IS_OLD}"


def first_undelivered(connection: Connection, report: str) -> int | None:
    """Return the id of the first event of a report's digests that are not delivered, or None."""
    query = (
        "SELECT min(digest.first_id) FROM digest JOIN delivery ON delivery.digest_id = digest.id "
        f"WHERE digest.report = :report AND delivery.status IN {OPEN}"
    )
    found: int | None = connection.scalar(query, {"report": report})
    return found


def old_events(connection: Connection, before: float, needed: int) -> list[int]:
    """Return the ids of some events that can be deleted; from `needed` on, reports need them."""
    values = {"before": before, "needed": needed, "uploaded": _uploaded(connection)}
    return connection.scalars(_OLD_EVENTS, values)


def _uploaded(connection: Connection) -> int:
    """Return the last event id that a fleet's centre has; the highest possible one without a fleet."""
    if not connection.has_table(UPLOAD):
        return HIGHEST
    found = connection.scalar(f"SELECT acked_seq FROM {UPLOAD}")
    return int(found or 0)


def drop_events(connection: Connection, ids: Sequence[int]) -> None:
    """Drop events."""
    if connection.has_table(received.HOSTS):
        received.drop(connection, ids)
    connection.executemany("DELETE FROM event WHERE id = ?", [(key,) for key in ids])


def old_digests(connection: Connection, before: float) -> list[int]:
    """Return the ids of some digests whose messages can be deleted."""
    return connection.scalars(_OLD_DIGESTS, {"before": before})


_OLD_DIGESTS = f"""
SELECT id FROM digest
WHERE sealed_at < :before
  AND (document IS NOT NULL OR EXISTS (SELECT 1 FROM delivery WHERE digest_id = digest.id AND length(message) > 0))
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE digest_id = digest.id AND status IN {OPEN})
ORDER BY id LIMIT {DIGESTS}
"""


def drop_messages(connection: Connection, ids: Sequence[int]) -> None:
    """Empty the messages of digests, and delete their documents."""
    keys = [(key,) for key in ids]
    connection.executemany("UPDATE delivery SET message = x'' WHERE digest_id = ?", keys)
    connection.executemany("UPDATE digest SET document = NULL WHERE id = ?", keys)


def free_pages(connection: Connection) -> int:
    """Return the number of free pages that can be returned to the file system."""
    if connection.scalar("PRAGMA auto_vacuum") != 2:  # a store from before that was set
        return 0
    return int(connection.scalar("PRAGMA freelist_count"))


def give_pages_back(connection: sqlite3.Connection) -> None:
    """Return some free pages to the file system, in its own transaction."""
    # Not execute(): the pragma frees a page at each step, and execute() takes one step.
    connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")
