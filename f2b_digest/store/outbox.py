"""The outbox: digests are sealed with their messages, and deliveries claimed and settled. Read elsewhere: see `reads`.

Portable SQL only: a host's outbox is in SQLite, a centre's in PostgreSQL.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import runs
from f2b_digest.store.archive import OPEN, Archive
from f2b_digest.store.sql import Statements

if TYPE_CHECKING:
    from f2b_digest.store.facade import Store

_SEAL = """
INSERT INTO digest (uuid, report, after_id, first_id, last_id, period_start, period_end, sealed_at, bans, document)
VALUES (:uuid, :report, :after, :first, :last, :start, :end, :at, :bans, :document) RETURNING id
"""
_DELIVER = """
INSERT INTO delivery (digest_id, channel, recipient, message, identity, status, attempts, next_at, made_at)
VALUES (:digest, :channel, :recipient, :message, :identity, 'pending', 0, :at, :at)
"""
_COPY = """
INSERT INTO delivery (digest_id, channel, recipient, message, identity, status, attempts, next_at, made_at)
SELECT digest_id, channel, :recipient, message, identity, 'pending', 0, :at, :at FROM delivery WHERE id = :key
RETURNING id
"""
_MINE = f"id = :key AND attempts = :attempts AND status IN {OPEN}"
_CLAIMABLE = f"SELECT recipient, message, identity, in_doubt FROM delivery WHERE {_MINE}"
_CLAIM = f"""
UPDATE delivery SET attempts = :attempts + 1, status = 'deferred', next_at = :next_at, in_doubt = 1, error = :error
WHERE {_MINE}
"""
_PUT_OFF = f"""
UPDATE delivery SET status = :status, error = :error, next_at = :next_at, settled_at = :now WHERE {_MINE}
"""
_SETTLE = """
UPDATE delivery SET status = :status, error = :error, in_doubt = :in_doubt, settled_at = :now WHERE id = :key
"""


class Outbox(Archive):
    """A store's deliveries; `Store` opens the file and provides the transactions."""

    _conflict: ClassVar[type[Exception]]
    """What the database raises where a row would be a second one."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Statements]:
        """Yield a connection in an exclusive write transaction."""

    def seal(
        self, selection: Selection, *, stamp: Stamp, document: str, start: float, end: float,
        messages: Sequence[tuple[str, Message]],
    ) -> bool:  # fmt: skip
        """Mark a selection's events as taken by this digest, and put its messages (by channel) into the outbox.

        One transaction that touches no event. Returns false, without changes, if another sender was first.
        """
        digest = {
            "uuid": stamp.uuid, "report": stamp.report, "after": selection.after, "first": selection.first_id,
            "last": selection.last_id, "start": start, "end": end, "at": stamp.made_at, "bans": stamp.bans,
            "document": document,
        }  # fmt: skip
        try:
            with self._writing() as connection:
                key = int(connection.execute(_SEAL, digest).fetchone()[0])
                self._mark(connection, key, stamp.report)
                for channel, message in messages:
                    values = {
                        "digest": key, "channel": channel, "recipient": message.recipient, "message": message.body,
                        "identity": message.identity, "at": stamp.made_at,
                    }  # fmt: skip
                    connection.execute(_DELIVER, values)
        except self._conflict:
            if not self._is_followed(stamp.report, selection.after):
                raise
            return False
        return True

    def _mark(self, connection: Statements, key: int, report: str) -> None:
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
        query = "SELECT id FROM digest WHERE report = :report AND after_id = :after"
        with self._reading() as connection:
            return connection.scalar(query, {"report": report, "after": after}) is not None

    def copy(self, key: int, *, recipient: str, now: float) -> int:
        """Add a delivery's bytes to the outbox again, as a new delivery; return its id."""
        with self._writing() as connection:
            return int(connection.execute(_COPY, {"key": key, "recipient": recipient, "at": now}).fetchone()[0])

    def claim(self, key: int, *, attempts: int, next_at: float) -> Message | None:
        """Claim a delivery before its attempt, or return None if another sender has it.

        A sender that dies in the attempt leaves it deferred until `next_at`, and in doubt: a copy may have arrived.
        """
        values = {
            "key": key, "attempts": attempts, "next_at": next_at,
            "error": "an attempt began and its outcome was never stored: a copy may have arrived",
        }  # fmt: skip
        with self._writing() as connection:
            found = connection.execute(_CLAIMABLE, values).fetchone()
            if found is None:
                return None
            # No row with row locks (PostgreSQL): another sender has claimed it since it was listed.
            if not connection.execute(_CLAIM, values).rowcount:
                return None
        recipient, message, identity, in_doubt = found
        return Message(recipient, message, identity, in_doubt == 1)

    def put_off(self, key: int, *, attempts: int, status: str, error: str, next_at: float, now: float) -> bool:
        """Postpone a delivery without an attempt; false if another sender has claimed it."""
        values = {
            "key": key, "attempts": attempts, "status": status, "error": error, "next_at": next_at, "now": now,
        }  # fmt: skip
        with self._writing() as connection:
            return connection.execute(_PUT_OFF, values).rowcount == 1

    def settle(
        self, key: int, *, status: str, error: str | None, in_doubt: bool, now: float, remaining: bytes | None = None
    ) -> None:
        """Store the outcome of an attempt, and what is left to deliver; `claim` has set the time of the next one."""
        values = {"key": key, "status": status, "error": error, "in_doubt": int(in_doubt), "now": now}
        with self._writing() as connection:
            connection.execute(_SETTLE, values)
            if remaining is not None:
                connection.execute(
                    "UPDATE delivery SET message = :rest WHERE id = :key", {"rest": remaining, "key": key}
                )
