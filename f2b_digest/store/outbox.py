"""The outbox: digests are sealed with their messages, and deliveries claimed and settled. Read elsewhere: see `reads`.

Portable SQL only: a host's outbox is in SQLite, a centre's in PostgreSQL.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import runs
from f2b_digest.store.reads import OPEN, Reads
from f2b_digest.store.tables import delivery, digest

if TYPE_CHECKING:
    from f2b_digest.store.facade import Store


class Outbox(Reads):
    """A store's deliveries; `Store` opens the file and provides the transactions."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[sa.Connection]:
        """Yield a connection in an exclusive write transaction."""

    def seal(
        self, selection: Selection, *, stamp: Stamp, document: str, start: float, end: float,
        messages: Sequence[tuple[str, Message]],
    ) -> bool:  # fmt: skip
        """Mark a selection's events as taken by this digest, and put its messages (by channel) into the outbox.

        One transaction that touches no event. Returns false, without changes, if another sender was first.
        """
        try:
            with self._writing() as connection:
                key = connection.scalar(
                    sa.insert(digest).returning(digest.c.id).values(
                        uuid=stamp.uuid, report=stamp.report, after_id=selection.after,
                        first_id=selection.first_id, last_id=selection.last_id, period_start=start,
                        period_end=end, sealed_at=stamp.made_at, bans=stamp.bans, document=document,
                    )
                )  # fmt: skip
                self._mark(connection, int(key or 0), stamp.report)
                for channel, message in messages:
                    connection.execute(
                        sa.insert(delivery).values(
                            digest_id=key, channel=channel, recipient=message.recipient, message=message.body,
                            identity=message.identity, status="pending", attempts=0, next_at=stamp.made_at,
                            made_at=stamp.made_at,
                        )
                    )  # fmt: skip
        except sa.exc.IntegrityError:
            if not self._is_followed(stamp.report, selection.after):
                raise
            return False
        return True

    def _mark(self, connection: sa.Connection, key: int, report: str) -> None:
        """Hook to record what a digest takes, in its transaction: a host's store has it all in the digest's row."""

    def ran(self, reports: Sequence[str], now: float) -> None:
        """Record that reports were sent now (UTC epoch seconds), with or without a digest."""
        with self._writing() as connection:
            for report in reports:
                runs.note(connection, report, now)

    @abstractmethod
    def about(
        self, report: str, hosts: Sequence[str], every: str | None, now: float, *, past: bool = False
    ) -> AbstractContextManager["Store"]:
        """Yield the store that a report's next digest is read from and sealed in.

        `hosts` are the report's patterns, `every` says how often it is due, `now` is in UTC epoch seconds; `past`:
        another period than the next digest's is wanted.
        """

    def _is_followed(self, report: str, after: int) -> bool:
        """Return whether a report has a digest that follows another one."""
        query = sa.select(digest.c.id).where((digest.c.report == report) & (digest.c.after_id == after))
        with self._reading() as connection:
            return connection.scalar(query) is not None

    def copy(self, key: int, *, recipient: str, now: float) -> int:
        """Add a delivery's bytes to the outbox again, as a new delivery; return its id."""
        columns = (
            "digest_id",
            "channel",
            "recipient",
            "message",
            "identity",
            "status",
            "attempts",
            "next_at",
            "made_at",
        )
        stored = (delivery.c.digest_id, delivery.c.channel, sa.literal(recipient), delivery.c.message)
        fresh = (delivery.c.identity, sa.literal("pending"), sa.literal(0), sa.literal(now), sa.literal(now))
        with self._writing() as connection:
            query = sa.select(*stored, *fresh).where(delivery.c.id == key)
            return int(connection.scalar(sa.insert(delivery).from_select(columns, query).returning(delivery.c.id)) or 0)

    def claim(self, key: int, *, attempts: int, next_at: float) -> Message | None:
        """Claim a delivery before its attempt, or return None if another sender has it.

        A sender that dies in the attempt leaves it deferred until `next_at`, and in doubt: a copy may have arrived.
        """
        mine = (delivery.c.id == key) & (delivery.c.attempts == attempts) & delivery.c.status.in_(OPEN)
        query = sa.select(
            delivery.c.recipient, delivery.c.message, delivery.c.identity, delivery.c.in_doubt == 1
        ).where(mine)
        with self._writing() as connection:
            found = connection.execute(query).one_or_none()
            if found is None:
                return None
            claimed = connection.execute(
                sa.update(delivery).where(mine).values(
                    attempts=attempts + 1, status="deferred", next_at=next_at, in_doubt=1,
                    error="an attempt began and its outcome was never stored: a copy may have arrived",
                )
            )  # fmt: skip
            # None with row locks (PostgreSQL): another sender has claimed it since it was listed.
            return Message(*found) if claimed.rowcount else None

    def put_off(self, key: int, *, attempts: int, status: str, error: str, next_at: float, now: float) -> bool:
        """Postpone a delivery without an attempt; false if another sender has claimed it."""
        mine = (delivery.c.id == key) & (delivery.c.attempts == attempts) & delivery.c.status.in_(OPEN)
        outcome = {"status": status, "error": error, "next_at": next_at, "settled_at": now}
        with self._writing() as connection:
            return connection.execute(sa.update(delivery).where(mine).values(outcome)).rowcount == 1

    def settle(
        self, key: int, *, status: str, error: str | None, in_doubt: bool, now: float, remaining: bytes | None = None
    ) -> None:
        """Store the outcome of an attempt, and what is left to deliver; `claim` has set the time of the next one."""
        outcome: dict[str, Any] = {"status": status, "error": error, "in_doubt": int(in_doubt), "settled_at": now}
        if remaining is not None:
            outcome["message"] = remaining
        with self._writing() as connection:
            connection.execute(sa.update(delivery).where(delivery.c.id == key).values(outcome))
