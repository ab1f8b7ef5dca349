"""How far a host's store was uploaded to its fleet's centre: two tables of the store. Few imports: cron asks all day.

The protocol that moves them stands in `fleet.forward`; here is only what it remembers, in transactions so short that no
ban waits. A store that never joined a fleet has neither table.
"""

import _sqlite3  # the sqlite3 package would load datetime and its adapters
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from f2b_digest import recorder
from f2b_digest.errors import StoreError

NOTHING = str(uuid.UUID(int=0))
"""Stands for the batch before the first."""
KEPT_BATCHES = 2000
"""Of the chain, to find where a centre that was restored has to go on: a week at the least."""
DAY = 86400.0
WAIT = 30.0
"""Seconds for the store's write lock."""
UPLOAD = "upload"
TABLES = (UPLOAD, "upload_batch")
_DDL = (
    """
CREATE TABLE IF NOT EXISTS upload (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    life TEXT NOT NULL,               -- names this store's chain of batches; a copy of the store takes another
    acked_seq INTEGER NOT NULL,       -- the centre has all events up to this id
    acked_batch TEXT NOT NULL,
    sending_seq INTEGER,              -- a batch of which it is not known whether it arrived
    sending_batch TEXT,
    history_until INTEGER NOT NULL,   -- events up to this id were told before the store joined: they go as history
    complete_until REAL,              -- what was recorded until then is at the centre
    replaced INTEGER NOT NULL DEFAULT 0,  -- events that the centre refused, and got without their texts
    reached_at REAL,                  -- when the centre last answered
    failures INTEGER NOT NULL DEFAULT 0,  -- attempts without an answer since then
    next_at REAL NOT NULL DEFAULT 0,      -- when cron's next attempt is due
    told_at REAL,                     -- when the trouble was last printed
    reason TEXT,                      -- why the last attempt failed
    jails TEXT,                       -- what fail2ban said of its jails, as JSON
    looked_at REAL                    -- and when it did
)
""",
    """
CREATE TABLE IF NOT EXISTS upload_batch (
    id INTEGER PRIMARY KEY, life TEXT NOT NULL, batch TEXT NOT NULL, upto INTEGER NOT NULL
)
""",
)


def make_tables(connection: Any) -> None:
    """Make the two tables where they are missing, within the caller's transaction."""
    for statement in _DDL:
        connection.execute(statement)


def begin_anew(connection: Any) -> None:
    """Let a store be uploaded from its beginning, if nothing is remembered of its upload; no event goes as history."""
    connection.execute(
        "INSERT OR IGNORE INTO upload (id, life, acked_seq, acked_batch, history_until) VALUES (1, ?, 0, ?, 0)",
        (str(uuid.uuid4()), NOTHING),
    )


class End(NamedTuple):
    """Where a chain ends."""

    seq: int
    batch: str


class Upload(NamedTuple):
    """What is remembered; the fields are those of the table."""

    life: str
    acked: End
    sending: End | None
    history_until: int
    complete_until: float | None
    replaced: int
    reached_at: float | None
    failures: int
    next_at: float
    told_at: float | None
    reason: str | None
    jails: str | None
    looked_at: float | None


class Backlog(NamedTuple):
    """What the centre does not have."""

    events: int
    oldest: float | None
    """When the first of them was recorded, in UTC epoch seconds."""


class Progress(NamedTuple):
    """How an upload stands, for people."""

    backlog: Backlog
    reached_at: float | None
    reason: str | None
    replaced: int


_COLUMNS = (
    "life, acked_seq, acked_batch, sending_seq, sending_batch, history_until, complete_until, replaced, reached_at, "
    "failures, next_at, told_at, reason, jails, looked_at"
)


class Uploads:
    """The two tables of an open store, which is made if there is none. SQLite's errors become StoreError."""

    def __init__(self, path: Path) -> None:
        """Open the store, as the recorder does. Raises StoreError."""
        self.path = path
        with _words(path):
            self._connection = recorder.connect(str(path), WAIT)
        self._connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def join(self, now: float, *, told: bool = False) -> Upload:
        """Begin to be uploaded, if that has not begun. What was recorded more than a day ago goes as history.

        Nobody wants that as news. With `told`, the host's own digests have told or will tell all that was recorded by
        now, and all of it goes as history.
        """
        with self._transaction():
            make_tables(self._connection)
            self._connection.execute(
                "INSERT OR IGNORE INTO upload (id, life, acked_seq, acked_batch, history_until) "
                "SELECT 1, ?, 0, ?, coalesce(max(id), 0) FROM event WHERE recorded_at < ? OR ?",
                (str(uuid.uuid4()), NOTHING, now - DAY, told),
            )
        return self.now()

    def leave(self) -> None:
        """Forget the fleet: nothing is kept for it any more."""
        with self._transaction():
            for table in TABLES:
                self._connection.execute(f"DROP TABLE IF EXISTS {table}")

    def now(self) -> Upload:
        """Return what is remembered. Raises StoreError where the store never joined."""
        with _words(self.path):
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM upload").fetchone()  # noqa: S608 - our own names
        if row is None:
            raise StoreError(f"{self.path} has not joined a fleet: run f2b-digest fleet join")
        life, acked_seq, acked_batch, sending_seq, sending_batch, *rest = row
        sending = End(sending_seq, sending_batch) if sending_batch else None
        return Upload(life, End(acked_seq, acked_batch), sending, *rest)

    def backlog(self) -> Backlog:
        """Return what the centre does not have."""
        with _words(self.path):
            return _backlog(self._connection)

    def oldest(self) -> float | None:
        """Return when the first event of the store was recorded, in UTC epoch seconds."""
        query = "SELECT min(recorded_at) FROM event"
        with _words(self.path):
            found: float | None = self._connection.execute(query).fetchone()[0]
        return found

    def last_ban(self) -> float | None:
        """Return the time of the last of the newest ten thousand events that is a ban, in UTC epoch seconds."""
        query = "SELECT kind, at FROM event ORDER BY id DESC LIMIT 10000"
        with _words(self.path):
            return next((at for kind, at in self._connection.execute(query) if kind == "ban"), None)

    def events(self, after: int, most: int) -> list[dict[str, Any]]:
        """Return the events after an id, in order, as columns and `id`."""
        names = ("id", *recorder.COLUMNS)
        query = f"SELECT {', '.join(names)} FROM event WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 - our own names
        with _words(self.path):
            return [dict(zip(names, row, strict=True)) for row in self._connection.execute(query, (after, most))]

    def worse(self, event: dict[str, Any], within: float, most: int) -> int:
        """Count the bans of an event's jail that came in the seconds before it and were as bad; `most` is enough."""
        query = (
            "SELECT count(*) FROM (SELECT 1 FROM event WHERE kind = 'ban' AND jail = ? AND at BETWEEN ? AND ? "
            "AND id < ? AND (coalesce(bancount, 0), coalesce(failures, 0)) >= (?, ?) LIMIT ?)"
        )
        at = event["at"]
        values = (
            event["jail"], at - within, at, event["id"], event["bancount"] or 0, event["failures"] or 0, most,
        )  # fmt: skip
        with _words(self.path):
            return int(self._connection.execute(query, values).fetchone()[0])

    def chain(self) -> list[tuple[str, str, int]]:
        """Return the batches that the centre has acknowledged, the newest first, as (life, batch, upto)."""
        with _words(self.path):
            return list(self._connection.execute("SELECT life, batch, upto FROM upload_batch ORDER BY id DESC"))

    # ---- what the protocol notes

    def intend(self, batch: End) -> None:
        """Note that a batch is about to be sent."""
        self._set(sending_seq=batch.seq, sending_batch=batch.batch)

    def acknowledge(self, life: str, batch: End) -> None:
        """Note that the centre has a batch."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO upload_batch (life, batch, upto) VALUES (?, ?, ?)", (life, batch.batch, batch.seq)
            )
            self._connection.execute(
                "DELETE FROM upload_batch WHERE id <= (SELECT max(id) FROM upload_batch) - ?", (KEPT_BATCHES,)
            )
            self._update(acked_seq=batch.seq, acked_batch=batch.batch, sending_seq=None, sending_batch=None)

    def go_back(self, end: End) -> None:
        """Note that the centre has less than it once acknowledged: what is behind is sent again."""
        self._set(acked_seq=end.seq, acked_batch=end.batch, sending_seq=None, sending_batch=None)

    def new_life(self) -> str:
        """Draw another life, for a store that was found to be a copy; return it."""
        life = str(uuid.uuid4())
        self._set(life=life, acked_batch=NOTHING, sending_seq=None, sending_batch=None)
        return life

    def complete(self, until: float) -> None:
        """Note until when (UTC epoch seconds) all that was recorded is at the centre."""
        self._set(complete_until=until)

    def replace(self) -> None:
        """Note that an event went without its texts."""
        self._set(replaced=self.now().replaced + 1)

    def reached(self, now: float) -> None:
        """Note that the centre answered."""
        self._set(reached_at=now, failures=0, next_at=0.0, told_at=None, reason=None)

    def failed(self, reason: str, next_at: float, told_at: float | None) -> None:
        """Note that it did not, when cron's next attempt is due, and when that was last printed."""
        self._set(failures=self.now().failures + 1, next_at=next_at, told_at=told_at, reason=reason)

    def looked(self, jails: str, now: float) -> None:
        """Note what fail2ban said of its jails."""
        self._set(jails=jails, looked_at=now)

    def _set(self, **values: object) -> None:
        with self._transaction():
            self._update(**values)

    def _update(self, **values: object) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._connection.execute(f"UPDATE upload SET {columns}", tuple(values.values()))  # noqa: S608 - our own names

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _words(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def progress(path: Path) -> Progress | None:
    """Return how a store's upload stands, or None where there is no store, or it joined no fleet. Raises StoreError."""
    with _words(path):
        if recorder.look(str(path)) is None:
            return None
        connection = _sqlite3.connect(recorder.uri(str(path), "ro"), timeout=WAIT, uri=True)
        try:
            if not has_joined(connection):
                return None
            row = connection.execute("SELECT reached_at, reason, replaced FROM upload").fetchone()
            return Progress(_backlog(connection), *row)
        finally:
            connection.close()


def has_joined(connection: Any) -> bool:
    """Return whether a store has joined a fleet."""
    query = "SELECT count(*) FROM sqlite_master WHERE name = 'upload'"
    return bool(connection.execute(query).fetchone()[0])


def _backlog(connection: Any) -> Backlog:
    query = "SELECT count(*), min(recorded_at) FROM event WHERE id > (SELECT acked_seq FROM upload)"
    return Backlog(*connection.execute(query).fetchone())


@contextmanager
def only_upload(path: Path) -> Iterator[bool]:
    """Hold the lock that only one upload of a store can hold; the value says whether it was had. Raises OSError.

    It is the kernel's, on a file beside the store: a process that dies loses it. The sender has the folder's, and an
    upload does not wait for a mail server.
    """
    descriptor = recorder.open_regular(f"{path}.upload", os.O_RDWR | os.O_CREAT)
    try:
        yield _flock(descriptor)
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _words(path: Path) -> Iterator[None]:
    try:
        yield
    except (_sqlite3.Error, recorder.ForeignStore) as error:
        text = str(error)
        if "no such table: upload" in text:
            raise StoreError(f"{path} has not joined a fleet: run f2b-digest fleet join") from None
        from f2b_digest.store.connection import explain  # noqa: PLC0415 - cron asks all day, without an error

        raise StoreError(text if str(path) in text else explain(path, text)) from None
