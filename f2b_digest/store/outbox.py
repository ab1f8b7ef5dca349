"""The outbox and archive: digests with their messages, and what becomes of each delivery. No event is read here."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store.tables import delivery, digest

OPEN = ("pending", "deferred")
"""The states of a delivery that will be tried."""


@dataclass(frozen=True)
class Sealed:
    """A digest's row, without its document."""

    id: int
    uuid: str
    report: str
    last_id: int
    period_start: float
    period_end: float
    sealed_at: float
    bans: int


@dataclass(frozen=True)
class Delivery:
    """A row of the outbox and archive, without its message."""

    id: int
    digest: int
    report: str
    sealed_at: float
    channel: str
    recipient: str
    status: str
    attempts: int
    made_at: float
    """When it was put into the outbox."""
    next_at: float
    error: str | None
    settled_at: float | None
    """When the last outcome was stored."""


class Outbox(ABC):
    """What a store does with deliveries; `Store` opens the file and gives the transactions."""

    _has_archive: bool

    @abstractmethod
    def _transaction(self, begin: str = "BEGIN") -> AbstractContextManager[sa.Connection]:
        """Give a connection within a transaction of SQLite's kind `begin`."""

    def digests(self, report: str | None = None, most: int = -1) -> list[Sealed]:
        """Return the digests of a report, or of all, the newest first; of these at most so many."""
        if not self._has_archive:
            return []
        columns = [digest.c[field.name] for field in fields(Sealed)]
        query = sa.select(*columns).order_by(digest.c.id.desc()).limit(most)
        if report is not None:
            query = query.where(digest.c.report == report)
        with self._transaction() as connection:
            return [Sealed(*row) for row in connection.execute(query)]

    def last_digest(self, report: str) -> Sealed | None:
        """Return a report's newest digest."""
        return next(iter(self.digests(report, most=1)), None)

    def document(self, key: int) -> str | None:
        """Return a digest's document as JSON, or None if there is no such digest, or it was pruned."""
        if not self._has_archive:
            return None
        with self._transaction() as connection:
            return connection.scalar(sa.select(digest.c.document).where(digest.c.id == key))

    def deliveries(
        self,
        statuses: Sequence[str] = (),
        *,
        digests: Sequence[int] = (),
        due: float | None = None,
        longest: float = math.inf,
    ) -> list[Delivery]:
        """Return the deliveries in some states, or of some digests, the oldest first.

        With `due` (UTC epoch seconds), only those to try at that time; also those that were put off for more than
        `longest` seconds, which is what a clock that was set back makes of them.
        """
        conditions: list[sa.ColumnElement[bool]] = []
        if statuses:
            conditions.append(delivery.c.status.in_(statuses))
        if digests:
            conditions.append(delivery.c.digest_id.in_(digests))
        if due is not None:
            conditions.append((delivery.c.next_at <= due) | (delivery.c.next_at > due + longest))
        return self._deliveries(*conditions)

    def undelivered(self) -> list[Delivery]:
        """Return the deliveries that are still tried, or failed and were not sent to the same recipient again."""
        later = delivery.alias()
        again = sa.exists().where(
            later.c.digest_id == delivery.c.digest_id,
            later.c.channel == delivery.c.channel,
            later.c.recipient == delivery.c.recipient,
            later.c.id > delivery.c.id,
        )
        failed = (delivery.c.status == "failed") & ~again
        return self._deliveries(delivery.c.status.in_(OPEN) | failed)

    def _deliveries(self, *conditions: sa.ColumnElement[bool]) -> list[Delivery]:
        if not self._has_archive:
            return []
        query = (
            sa.select(
                delivery.c.id, digest.c.id, digest.c.report, digest.c.sealed_at, delivery.c.channel,
                delivery.c.recipient, delivery.c.status, delivery.c.attempts, delivery.c.made_at, delivery.c.next_at,
                delivery.c.error, delivery.c.settled_at,
            )
            .join(digest)
            .where(*conditions)
            .order_by(delivery.c.id)
        )  # fmt: skip
        with self._transaction() as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        return [Delivery(*row) for row in rows]

    def message(self, key: int) -> bytes:
        """Return a delivery's bytes; none if they were pruned."""
        with self._transaction() as connection:
            return bytes(connection.scalar(sa.select(delivery.c.message).where(delivery.c.id == key)) or b"")

    def delivered(self, channel: str, since: float) -> list[bytes]:
        """Return the bodies that a channel delivered since a time, in UTC epoch seconds."""
        if not self._has_archive:
            return []
        query = sa.select(delivery.c.message).where(
            (delivery.c.channel == channel) & (delivery.c.status == "sent") & (delivery.c.settled_at >= since)
        )
        with self._transaction() as connection:
            return [bytes(body) for body in connection.scalars(query)]

    # ---- marking

    def seal(
        self, selection: Selection, *, stamp: Stamp, document: str, start: float, end: float,
        messages: Sequence[tuple[str, Message]],
    ) -> bool:  # fmt: skip
        """Mark a selection's events as taken by this digest, and put its messages (by channel) into the outbox.

        One transaction that touches no event. Returns false, and changes nothing, if another sender was faster.
        """
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                key = connection.scalar(
                    sa.insert(digest).returning(digest.c.id).values(
                        uuid=stamp.uuid, report=stamp.report, after_id=selection.after,
                        first_id=selection.first_id, last_id=selection.last_id, period_start=start,
                        period_end=end, sealed_at=stamp.made_at, bans=stamp.bans, document=document,
                    )
                )  # fmt: skip
                for channel, message in messages:
                    connection.execute(
                        sa.insert(delivery).values(
                            digest_id=key, channel=channel, recipient=message.recipient, message=message.body,
                            identity=message.identity, status="pending", attempts=0, next_at=stamp.made_at,
                            made_at=stamp.made_at,
                        )
                    )  # fmt: skip
        except sa.exc.IntegrityError as error:
            if "digest.report, digest.after_id" not in str(error.orig):
                raise
            return False
        return True

    def copy(self, key: int, *, recipient: str, now: float) -> int:
        """Put a delivery's bytes into the outbox once more, as a delivery of its own; return its id."""
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
        with self._transaction("BEGIN IMMEDIATE") as connection:
            query = sa.select(*stored, *fresh).where(delivery.c.id == key)
            return int(connection.scalar(sa.insert(delivery).from_select(columns, query).returning(delivery.c.id)) or 0)

    def claim(self, key: int, *, attempts: int, next_at: float) -> Message | None:
        """Take a delivery before its attempt, or return None if another sender has it.

        A sender that dies in the attempt leaves it deferred until `next_at`, and in doubt: a copy may have arrived.
        """
        mine = (delivery.c.id == key) & (delivery.c.attempts == attempts) & delivery.c.status.in_(OPEN)
        query = sa.select(
            delivery.c.recipient, delivery.c.message, delivery.c.identity, delivery.c.in_doubt == 1
        ).where(mine)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            found = connection.execute(query).one_or_none()
            if found is None:
                return None
            connection.execute(
                sa.update(delivery).where(mine).values(
                    attempts=attempts + 1, status="deferred", next_at=next_at, in_doubt=1,
                    error="an attempt began and its outcome was never stored: a copy may have arrived",
                )
            )  # fmt: skip
            return Message(*found)

    def put_off(self, key: int, *, attempts: int, status: str, error: str, next_at: float, now: float) -> bool:
        """Let a delivery wait without an attempt; false if another sender has it meanwhile."""
        mine = (delivery.c.id == key) & (delivery.c.attempts == attempts) & delivery.c.status.in_(OPEN)
        outcome = {"status": status, "error": error, "next_at": next_at, "settled_at": now}
        with self._transaction("BEGIN IMMEDIATE") as connection:
            return connection.execute(sa.update(delivery).where(mine).values(outcome)).rowcount == 1

    def settle(
        self, key: int, *, status: str, error: str | None, in_doubt: bool, now: float, remaining: bytes | None = None
    ) -> None:
        """Store the outcome of an attempt, and what is left to deliver; `claim` has set the time of the next one."""
        outcome: dict[str, Any] = {"status": status, "error": error, "in_doubt": int(in_doubt), "settled_at": now}
        if remaining is not None:
            outcome["message"] = remaining
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.execute(sa.update(delivery).where(delivery.c.id == key).values(outcome))
