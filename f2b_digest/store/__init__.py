"""The store, opened, read and marked: the only SQLAlchemy. Events are appended by `recorder`, and never changed."""

import grp
import pwd
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.digest import Digest
from f2b_digest.errors import StoreError
from f2b_digest.message import Message, Stamp
from f2b_digest.store import summary
from f2b_digest.store.summary import Selection
from f2b_digest.store.tables import delivery, digest, event, metadata

__all__ = ["OPEN", "Delivery", "Pending", "Sealed", "Selection", "Store"]

WAIT = 30
"""Seconds for the store's write lock; nobody holds it for long."""
OPEN = ("pending", "deferred")
"""The states of a delivery that will be tried."""


@dataclass(frozen=True)
class Delivery:
    """A row of the outbox and archive."""

    id: int
    report: str
    sealed_at: float
    channel: str
    recipient: str
    status: str
    attempts: int
    next_at: float
    error: str | None


@dataclass(frozen=True)
class Sealed:
    """A digest's row."""

    id: int
    last_id: int
    period_end: float
    sealed_at: float
    bans: int


@dataclass(frozen=True)
class Pending:
    """What a report has not sealed yet."""

    bans: int
    since: float | None
    """When the first of these events was recorded, in UTC epoch seconds."""


def take_spool_in(path: Path) -> int:
    """Move the spool's events into the store, which is made if there is none; return the number of torn lines.

    Raises StoreError; the spool is kept then.
    """
    try:
        return int(recorder.take_in(str(path))[1])
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(
            f"{recorder.spool_path(str(path))} is kept, because the store does not take it: {error}"
        ) from None


def is_there(path: Path) -> bool:
    """Say whether there is a store. Raises StoreError where that cannot be seen."""
    try:
        return path.exists()
    except PermissionError as error:
        raise StoreError(_explain(path, f"unable to open: {error.strerror}")) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None


class Store:
    """An open store, to be closed or used as a context manager.

    Every method but `seal`, `claim` and `settle` only reads. SQLite's errors become StoreError.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Open a store. Raises StoreError with what to do where there is none, or none that can be used."""
        self.path = path
        if not is_there(path):
            raise StoreError(
                f"no store at {path}: fail2ban's action makes it when its jail starts, "
                f'and "f2b-digest record" at its first event'
            )
        mode = "ro" if read_only else "rw"
        self._engine = sa.create_engine("sqlite://", creator=lambda: _connect(path, mode), poolclass=sa.StaticPool)
        sa.event.listen(self._engine, "begin", _begin)
        try:
            with self._transaction() as connection:
                _check(path, connection)
                self._has_archive = sa.inspect(connection).has_table(delivery.name)
            if not self._has_archive and not read_only:
                with self._transaction("BEGIN IMMEDIATE") as connection:
                    metadata.create_all(connection, tables=[digest, delivery])
                self._has_archive = True
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(begin=begin) as connection, connection.begin():
                yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DatabaseError as error:
            raise StoreError(_explain(self.path, str(error.orig))) from None

    # ---- what is there

    def last_event(self) -> int:
        """Return the id of the newest event, or 0."""
        with self._transaction() as connection:
            return connection.scalar(sa.select(sa.func.max(event.c.id))) or 0

    def last_digest(self, report: str) -> Sealed | None:
        """Return a report's newest digest."""
        if not self._has_archive:
            return None
        query = (
            sa.select(digest.c.id, digest.c.last_id, digest.c.period_end, digest.c.sealed_at, digest.c.bans)
            .where(digest.c.report == report)
            .order_by(digest.c.id.desc())
            .limit(1)
        )
        with self._transaction() as connection:
            row = connection.execute(query).first()
        return Sealed(*row) if row else None

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of a selection."""
        with self._transaction() as connection:
            return Pending(*summary.count(connection, selection))

    def deliveries(self, statuses: Sequence[str], due: float | None = None) -> list[Delivery]:
        """Return the deliveries in some states, oldest first; with `due`, those to try at that time."""
        if not self._has_archive:
            return []
        query = (
            sa.select(
                delivery.c.id, digest.c.report, digest.c.sealed_at, delivery.c.channel, delivery.c.recipient,
                delivery.c.status, delivery.c.attempts, delivery.c.next_at, delivery.c.error,
            )
            .join(digest)
            .where(delivery.c.status.in_(statuses))
            .order_by(delivery.c.id)
        )  # fmt: skip
        if due is not None:
            query = query.where(delivery.c.next_at <= due)
        with self._transaction() as connection:
            return [Delivery(*row) for row in connection.execute(query)]

    # ---- the digest

    def summarise(
        self, selection: Selection, *, report: str, host: str, zone: ZoneInfo, start: float | None, end: float
    ) -> Digest:
        """Return what a selection's bans amount to, worst first, summed in SQL.

        Without `start` (UTC epoch seconds, as `end`), the period begins with the first ban.
        """
        with self._transaction() as connection:
            return summary.summarise(connection, selection, report=report, host=host, zone=zone, start=start, end=end)

    # ---- marking

    def seal(
        self, selection: Selection, *, stamp: Stamp, start: float, end: float, messages: Sequence[tuple[str, Message]]
    ) -> bool:
        """Mark a selection's events as taken by this digest, and put its messages (by channel) into the outbox.

        One transaction that touches no event. Returns false, and changes nothing, if another sender was faster.
        """
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                key = connection.scalar(
                    sa.insert(digest).returning(digest.c.id).values(
                        uuid=stamp.uuid, report=stamp.report, after_id=selection.after,
                        first_id=selection.first_id, last_id=selection.last_id, period_start=start,
                        period_end=end, sealed_at=stamp.made_at, bans=stamp.bans,
                    )
                )  # fmt: skip
                for channel, message in messages:
                    connection.execute(
                        sa.insert(delivery).values(
                            digest_id=key, channel=channel, recipient=message.recipient, message=message.body,
                            identity=message.identity, status="pending", attempts=0, next_at=stamp.made_at,
                        )
                    )  # fmt: skip
        except sa.exc.IntegrityError:
            return False
        return True

    def claim(self, key: int, *, attempts: int, next_at: float) -> Message | None:
        """Take a delivery before its attempt, or return None if another sender has it.

        A sender that dies in the attempt leaves it deferred until `next_at`, with the evidence.
        """
        mine = (delivery.c.id == key) & (delivery.c.attempts == attempts) & delivery.c.status.in_(OPEN)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            changed = connection.execute(
                sa.update(delivery)
                .where(mine)
                .values(
                    attempts=attempts + 1, status="deferred", next_at=next_at,
                    error="an attempt began and its outcome was never stored: a copy may have arrived",
                )
            )  # fmt: skip
            if not changed.rowcount:
                return None
            query = sa.select(delivery.c.recipient, delivery.c.message, delivery.c.identity).where(delivery.c.id == key)
            return Message(*connection.execute(query).one())

    def settle(self, key: int, *, status: str, error: str | None = None, sent_at: float | None = None) -> None:
        """Store the outcome of an attempt; the time of the next one was set by `claim`."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            connection.execute(
                sa.update(delivery).where(delivery.c.id == key).values(status=status, error=error, sent_at=sent_at)
            )


# ---- opening


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + f"?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _check(path: Path, connection: sa.Connection) -> None:
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if application != recorder.APPLICATION_ID:
        raise StoreError(f"{path} is not a store of f2b-digest: nothing was changed; choose another path")
    if version > recorder.SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer f2b-digest (schema {version}, this one knows {recorder.SCHEMA_VERSION}): "
            f"nothing was changed; upgrade this one"
        )


def _explain(path: Path, words: str) -> str:
    """Return a line on what SQLite said, with what to do."""
    if "not a database" in words or "malformed" in words:
        return f"{path} is damaged or no SQLite database ({words}): nothing was changed; new bans go to its spool"
    if "unable to open" in words or "readonly" in words:
        return f"{path} cannot be opened: SQLite has to write beside it, in {path.parent}: {_ask(path.parent)}"
    return f"{path}: {words}"


def _ask(folder: Path) -> str:
    """Return who may write in a folder, as something to do."""
    try:
        status = folder.stat()
    except OSError:
        return "run this as root"
    by_user = f"run this as {_user(status.st_uid)}"
    return f"join group {_group(status.st_gid)}, or {by_user}" if status.st_mode & 0o020 else by_user


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
