"""What is old and no longer needed, and dropping it, in steps so short that a ban never waits for one.

An event goes when it is older than any ban that a report of the configuration has not told, or told in a digest with a
delivery left to try; so a report whose jails never ban keeps nothing. History, which no report tells, goes by age
alone. A digest's row stays for ever: it is the mark. Its messages and its document
go with age, once none of its deliveries is left to try.

Looking for what is old is a read, which holds nobody up, however large the store; only the dropping takes its lock.
"""

import json
import sqlite3
from collections.abc import Sequence

import sqlalchemy as sa

STEP = 2000
"""Events of one transaction: some 20 ms."""
PAGES = 200
"""Pages of one transaction that are given back to the file system."""

_FIRST_UNDELIVERED = """
SELECT min(first_id) FROM digest JOIN delivery ON delivery.digest_id = digest.id
WHERE digest.report = :report AND delivery.status IN ('pending', 'deferred')
"""
_LAST_SIGN = """
SELECT max(at) FROM (
    SELECT max(recorded_at) AS at FROM event WHERE recorded_at < :boot
    UNION ALL
    SELECT max(sealed_at) FROM digest WHERE sealed_at < :boot
) WHERE EXISTS (SELECT 1 FROM event WHERE recorded_at < :before)
"""
_OLD_EVENTS = f"""
SELECT id FROM event INDEXED BY event_age
WHERE recorded_at < :before AND (history = 1 OR id < :needed) ORDER BY recorded_at LIMIT {STEP}
"""
_OLD_DIGESTS = """
SELECT id FROM digest
WHERE sealed_at < :before
AND (document IS NOT NULL OR EXISTS (SELECT 1 FROM delivery WHERE digest_id = digest.id AND length(message)))
AND NOT EXISTS (
    SELECT 1 FROM delivery WHERE digest_id = digest.id AND status IN ('pending', 'deferred')
)
ORDER BY id LIMIT 20
"""


def last_sign(connection: sa.Connection, boot: float, before: float) -> float | None:
    """Return the last time before `boot` at which anything was recorded or sealed, if anything was before `before`."""
    last: float | None = connection.scalar(sa.text(_LAST_SIGN), {"boot": boot, "before": before})
    return last


def first_undelivered(connection: sa.Connection, report: str) -> int | None:
    """Return the id of the first event of a report's digests that are not delivered, or None."""
    first: int | None = connection.scalar(sa.text(_FIRST_UNDELIVERED), {"report": report})
    return first


def old_events(connection: sa.Connection, before: float, needed: int) -> list[int]:
    """Return the ids of some events that can go; from `needed` on, reports need them."""
    return list(connection.scalars(sa.text(_OLD_EVENTS), {"before": before, "needed": needed}))


def drop_events(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Drop events."""
    connection.execute(
        sa.text("DELETE FROM event WHERE id IN (SELECT value FROM json_each(:ids))"), {"ids": json.dumps(ids)}
    )


def old_digests(connection: sa.Connection, before: float) -> list[int]:
    """Return the ids of some digests whose messages can go."""
    return list(connection.scalars(sa.text(_OLD_DIGESTS), {"before": before}))


def drop_messages(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Empty the messages of digests, and forget their documents."""
    values = {"ids": json.dumps(ids)}
    where = "(SELECT value FROM json_each(:ids))"
    connection.execute(sa.text(f"UPDATE delivery SET message = x'' WHERE digest_id IN {where}"), values)
    connection.execute(sa.text(f"UPDATE digest SET document = NULL WHERE id IN {where}"), values)


def free_pages(connection: sa.Connection) -> int:
    """Return the number of pages that hold nothing and can be given back."""
    if connection.exec_driver_sql("PRAGMA auto_vacuum").scalar_one() != 2:  # a store of before that was set
        return 0
    return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def give_pages_back(connection: sqlite3.Connection) -> None:
    """Give some free pages back to the file system, in a transaction of its own."""
    # Not execute(): the pragma frees a page at each step, and execute() takes one step.
    connection.executescript(f"PRAGMA incremental_vacuum({PAGES})")
