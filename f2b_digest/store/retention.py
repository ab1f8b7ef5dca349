"""Pruning of old data that is no longer needed, in steps short enough not to delay a ban.

An event is deleted when it is older than any ban that a configured report has not reported, or reported in a digest
with a delivery left to try; so a report whose jails never ban keeps nothing. History, which is never reported, goes
by age alone. Nothing goes that a fleet's centre has not acknowledged. A digest's row is kept forever: it is the mark.
Its messages and its document go with age, once none of its deliveries is open.

Finding old rows takes no write lock, however large the store; only deleting does.
"""

import sqlite3
from collections.abc import Sequence

import sqlalchemy as sa

from f2b_digest.store.reads import OPEN
from f2b_digest.store.received import OWN
from f2b_digest.store.tables import delivery, digest, event
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


def last_sign(connection: sa.Connection, boot: float, before: float) -> float | None:
    """Return the last time before `boot` at which anything was recorded or sealed, if anything was before `before`."""
    is_old = sa.exists().where(event.c.recorded_at < before)
    recorded = sa.select(sa.func.max(event.c.recorded_at)).where(event.c.recorded_at < boot, is_old)
    sealed = sa.select(sa.func.max(digest.c.sealed_at)).where(digest.c.sealed_at < boot, is_old)
    signs: list[float | None] = [connection.scalar(recorded), connection.scalar(sealed)]
    return max((sign for sign in signs if sign is not None), default=None)


def first_undelivered(connection: sa.Connection, report: str) -> int | None:
    """Return the id of the first event of a report's digests that are not delivered, or None."""
    query = sa.select(sa.func.min(digest.c.first_id)).join(delivery)
    found: int | None = connection.scalar(query.where(digest.c.report == report, delivery.c.status.in_(OPEN)))
    return found


def old_events(connection: sa.Connection, before: float, needed: int) -> list[int]:
    """Return the ids of some events that can be deleted; from `needed` on, reports need them."""
    values = {"before": before, "needed": needed, "uploaded": _uploaded(connection)}
    return list(connection.scalars(sa.text(_OLD_EVENTS), values))


def _uploaded(connection: sa.Connection) -> int:
    """Return the last event id that a fleet's centre has; the highest possible one without a fleet."""
    if not sa.inspect(connection).has_table(UPLOAD):
        return HIGHEST
    found = connection.exec_driver_sql(f"SELECT acked_seq FROM {UPLOAD}").scalar()
    return int(found or 0)


def drop_events(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Drop events."""
    connection.execute(sa.delete(event).where(event.c.id.in_(ids)))
    if sa.inspect(connection).has_table(OWN):
        connection.execute(sa.delete(sa.table(OWN, sa.column("id"))).where(sa.column("id").in_(ids)))


def old_digests(connection: sa.Connection, before: float) -> list[int]:
    """Return the ids of some digests whose messages can be deleted."""
    of_it = delivery.c.digest_id == digest.c.id
    holds = digest.c.document.is_not(None) | sa.exists().where(of_it, sa.func.length(delivery.c.message) > 0)
    is_open = sa.exists().where(of_it, delivery.c.status.in_(OPEN))
    query = sa.select(digest.c.id).where(digest.c.sealed_at < before, holds, ~is_open)
    return list(connection.scalars(query.order_by(digest.c.id).limit(DIGESTS)))


def drop_messages(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Empty the messages of digests, and delete their documents."""
    connection.execute(sa.update(delivery).where(delivery.c.digest_id.in_(ids)).values(message=b""))
    connection.execute(sa.update(digest).where(digest.c.id.in_(ids)).values(document=None))


def free_pages(connection: sa.Connection) -> int:
    """Return the number of free pages that can be returned to the file system."""
    if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() != 2:  # a store from before that was set
        return 0
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def give_pages_back(connection: sqlite3.Connection) -> None:
    """Return some free pages to the file system, in its own transaction."""
    # Not execute(): the pragma frees a page at each step, and execute() takes one step.
    connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")
