"""Read-only queries of a store, in the caller's transaction. The counts of a digest are in `report`."""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from f2b_digest.model.selection import Selection
from f2b_digest.model.told import Told
from f2b_digest.store import baseline, runs, selected
from f2b_digest.store.selected import Pending
from f2b_digest.store.tables import delivery, digest, event

OPEN = ("pending", "deferred")
"""States of a delivery that will be tried again."""
OURS = ("action", "shell")
"""Sources of events that fail2ban recorded itself while it banned."""
MOST_TOLD = 500
"""Number of digests whose facts are considered: more than a daily and a weekly report have in a year."""
LATELY = 1000
"""Number of newest events among which one is from fail2ban if it feeds the store."""


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


class Reads(ABC):
    """Queries that need only a transaction. All of them raise StoreError if SQLite cannot read."""

    path: Path

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """Yield a connection in a transaction."""

    # ---- events

    def last_event(self) -> int:
        """Return the id of the newest event, or 0."""
        with self._reading() as connection:
            return connection.scalar(sa.select(sa.func.max(event.c.id))) or 0

    def bans_by_jail(self) -> dict[str, int]:
        """Count the bans in the store by jail; it reads an index of all events."""
        query = sa.select(event.c.jail, sa.func.count()).where(event.c.kind == "ban").group_by(event.c.jail)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of a selection."""
        with self._reading() as connection:
            return selected.pending(connection, selection)

    def jails(self) -> list[str]:
        """Return the jails of any event."""
        with self._reading() as connection:
            return selected.jails(connection, ("*",))

    def is_fed(self) -> bool:
        """Return whether fail2ban's action records here.

        That is: one of the newest thousand events is from it, and a start or stop of a jail, which is never manual.
        """
        newest = sa.select(event.c.source).order_by(event.c.id.desc()).limit(LATELY)
        with self._reading() as connection:
            recorded = not set(OURS).isdisjoint(connection.scalars(newest))
        return recorded and bool(self.starts_and_stops(("*",), 0.0))

    def first_recorded(self, first_id: int, since: float, until: float) -> int | None:
        """Return the id of the first event, from an id on, that was recorded in a time; both ends are included.

        Imported history is excluded: no digest reports it. The times are in UTC epoch seconds.
        """
        query = (
            sa.select(event.c.id)
            .where((event.c.id >= first_id) & (event.c.history == 0) & event.c.recorded_at.between(since, until))
            .order_by(event.c.id)
            .limit(1)
        )
        with self._reading() as connection:
            return connection.scalar(query)

    def starts_and_stops(self, patterns: Sequence[str], since: float) -> Mapping[str, tuple[tuple[str, float], ...]]:
        """Return by jail the kind and time of its starts and stops since a time, and of the last one before.

        Oldest first, in UTC epoch seconds. Hosts are not distinguished.
        """
        with self._reading() as connection:
            return baseline.starts_and_stops(connection, patterns, since)

    # ---- digests and deliveries

    def runs(self, report: str) -> list[float]:
        """Return when a report was last sent, with or without a digest: the oldest first, in UTC epoch seconds."""
        with self._reading() as connection:
            return runs.read(connection, report)

    def digests(self, report: str | None = None, most: int | None = None) -> list[Sealed]:
        """Return the digests of a report, or of all, the newest first; of these at most so many."""
        columns = [digest.c[field.name] for field in fields(Sealed)]
        query = sa.select(*columns).order_by(digest.c.id.desc()).limit(most)
        if report is not None:
            query = query.where(digest.c.report == report)
        with self._reading() as connection:
            return [Sealed(*row) for row in connection.execute(query)]

    def last_digest(self, report: str) -> Sealed | None:
        """Return a report's newest digest."""
        return next(iter(self.digests(report, most=1)), None)

    def document(self, key: int) -> str | None:
        """Return a digest's document as JSON, or None if there is no such digest, or it was pruned."""
        with self._reading() as connection:
            return connection.scalar(sa.select(digest.c.document).where(digest.c.id == key))

    def told(self, report: str, since: float, shortest: float) -> list[Told]:
        """Return the facts of digests whose periods ended since a time (UTC epoch seconds), the newest first.

        Those of a report, and those of others whose periods are not shorter than so many seconds; at most `MOST_TOLD`.
        """
        mine = (digest.c.report == report) | (digest.c.period_end - digest.c.period_start >= shortest)
        parts = [sa.func.json_extract(digest.c.document, f"$.{key}") for key in ("facts", "advice")]
        query = (
            sa.select(digest.c.report, digest.c.period_end, *parts)
            .where(mine & (digest.c.period_end >= since) & (sa.func.json_valid(digest.c.document) == 1))
            .order_by(digest.c.id.desc())
            .limit(MOST_TOLD)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            Told(name, at, json.loads(facts or "[]"), json.loads(advice or "[]")) for name, at, facts, advice in rows
        ]

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
        conditions: list[sa.ColumnElement[bool]] = []
        if statuses:
            conditions.append(delivery.c.status.in_(statuses))
        if digests:
            conditions.append(delivery.c.digest_id.in_(digests))
        if due is not None:
            conditions.append((delivery.c.next_at <= due) | (delivery.c.next_at > due + longest))
        return self._deliveries(*conditions)

    def undelivered(self) -> list[Delivery]:
        """Return the deliveries that are still open, or failed and were not resent to the same recipient."""
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
        with self._reading() as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        return [Delivery(*row) for row in rows]

    def message(self, key: int) -> bytes:
        """Return a delivery's bytes; none if they were pruned."""
        with self._reading() as connection:
            return bytes(connection.scalar(sa.select(delivery.c.message).where(delivery.c.id == key)) or b"")

    def delivered(self, channel: str, since: float) -> list[bytes]:
        """Return the bodies that a channel delivered since a time, in UTC epoch seconds."""
        query = sa.select(delivery.c.message).where(
            (delivery.c.channel == channel) & (delivery.c.status == "sent") & (delivery.c.settled_at >= since)
        )
        with self._reading() as connection:
            return [bytes(body) for body in connection.scalars(query)]
