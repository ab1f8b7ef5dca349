"""Digests and deliveries, read in the caller's transaction. Portable SQL only: a centre's are in PostgreSQL."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from f2b_digest.store import runs
from f2b_digest.store.sql import Statements

OPEN = ("pending", "deferred")
"""States of a delivery that will be tried again. Python writes it as SQL does."""


@dataclass(frozen=True)
class Sealed:
    """A digest's row, without its document. Times are UTC epoch seconds."""

    id: int
    uuid: str
    report: str
    first_id: int
    last_id: int
    period_start: float
    period_end: float
    sealed_at: float
    bans: int


@dataclass(frozen=True)
class Delivery:
    """A row of the outbox and archive, without its message. Times are UTC epoch seconds."""

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


_DELIVERIES = """
SELECT delivery.id, digest.id, digest.report, digest.sealed_at, delivery.channel, delivery.recipient, delivery.status,
       delivery.attempts, delivery.made_at, delivery.next_at, delivery.error, delivery.settled_at
FROM delivery JOIN digest ON digest.id = delivery.digest_id
WHERE {where} ORDER BY delivery.id
"""
_UNDELIVERED = f"""
delivery.status IN {OPEN} OR delivery.status = 'failed' AND NOT EXISTS (
    SELECT 1 FROM delivery AS later
    WHERE later.digest_id = delivery.digest_id AND later.channel = delivery.channel
      AND later.recipient = delivery.recipient AND later.id > delivery.id
)
"""


class Archive(ABC):
    """Queries that need only a transaction. All of them raise StoreError if the database cannot read."""

    path: Path

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Statements]:
        """Yield a connection in a transaction."""

    def runs(self, report: str) -> list[float]:
        """Return when a report was last sent, with or without a digest: the oldest first, in UTC epoch seconds."""
        with self._reading() as connection:
            return runs.read(connection, report)

    def digests(self, report: str | None = None, most: int | None = None) -> list[Sealed]:
        """Return the digests of a report, or of all, the newest first; of these at most so many."""
        names = ", ".join(field.name for field in fields(Sealed))
        where = "" if report is None else "WHERE report = :report"
        limit = "" if most is None else "LIMIT :most"
        query = f"SELECT {names} FROM digest {where} ORDER BY id DESC {limit}"
        with self._reading() as connection:
            return [Sealed(*row) for row in connection.execute(query, {"report": report, "most": most})]

    def last_digest(self, report: str) -> Sealed | None:
        """Return a report's newest digest."""
        return next(iter(self.digests(report, most=1)), None)

    def document(self, key: int) -> str | None:
        """Return a digest's document as JSON, or None if there is no such digest, or it was pruned."""
        with self._reading() as connection:
            found: str | None = connection.scalar("SELECT document FROM digest WHERE id = :key", {"key": key})
        return found

    def deliveries(
        self,
        statuses: Sequence[str] = (),
        *,
        digests: Sequence[int] = (),
        due: float | None = None,
        longest: float = math.inf,
    ) -> list[Delivery]:
        """Return the deliveries in some states, or of some digests, the oldest first.

        With `due` (UTC epoch seconds), only those to try at that time; also those postponed for more than
        `longest` seconds, which happens when the clock was set back.
        """
        conditions, values = ["1 = 1"], dict[str, Any]()
        for name, wanted in (("status", statuses), ("digest_id", digests)):
            if wanted:
                bound = {f"{name}_{place}": value for place, value in enumerate(wanted)}
                conditions.append(f"delivery.{name} IN ({', '.join(f':{key}' for key in bound)})")
                values |= bound
        if due is not None:
            conditions.append("(delivery.next_at <= :due OR delivery.next_at > :too_late)")
            values |= {"due": due, "too_late": due + longest}
        return self._deliveries(" AND ".join(conditions), values)

    def undelivered(self) -> list[Delivery]:
        """Return the deliveries that are still open, or failed and were not resent to the same recipient."""
        return self._deliveries(_UNDELIVERED, {})

    def _deliveries(self, where: str, values: dict[str, Any]) -> list[Delivery]:
        with self._reading() as connection:
            rows: Iterable[Any] = connection.execute(_DELIVERIES.format(where=where), values)
            return [Delivery(*row) for row in rows]

    def message(self, key: int) -> bytes:
        """Return a delivery's bytes; none if they were pruned."""
        with self._reading() as connection:
            return bytes(connection.scalar("SELECT message FROM delivery WHERE id = :key", {"key": key}) or b"")

    def delivered(self, channel: str, since: float) -> list[bytes]:
        """Return the bodies that a channel delivered since a time, in UTC epoch seconds."""
        query = "SELECT message FROM delivery WHERE channel = :channel AND status = 'sent' AND settled_at >= :since"
        with self._reading() as connection:
            return [bytes(body) for body in connection.scalars(query, {"channel": channel, "since": since})]
