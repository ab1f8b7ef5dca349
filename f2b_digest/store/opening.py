"""A store's file: opened, checked, locked, upgraded, set aside when it is damaged. No events and no digests here."""

import fcntl
import grp
import os
import pwd
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.errors import DamagedStoreError, StoreError
from f2b_digest.store.tables import UPGRADES, delivery, digest, metadata

WAIT = 30
"""Seconds for the store's write lock; nobody holds it for long."""
HOW_TO_RECOVER = 'new bans wait in its spool; see "When the store is damaged" in the README'


@contextmanager
def sender_lock(path: Path, wait: float) -> Iterator[bool]:
    """Hold the lock that only one sender of a store can hold; the value says whether it was had within `wait` seconds.

    It is the kernel's lock on the store's folder: a process that dies loses it, a reboot forgets it, and any user who
    may read the folder can take it. (A lock file would need an owner, and the process id in one may be another's.)
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise no_store(path) from None
    except OSError as error:
        raise StoreError(explain(path, f"unable to open its folder: {error.strerror}")) from None
    try:
        yield _flock(folder, time.monotonic() + wait)
    finally:
        os.close(folder)


def _flock(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        except OSError as error:  # a file system without locks
            raise StoreError(f"the store's folder cannot be locked: {error.strerror}") from None
        else:
            return True


def take_spool_in(path: Path) -> int:
    """Move the spool's events into the store, which is made if there is none; return the number of torn lines.

    The caller holds the sender's lock. Raises StoreError; the spool is kept then.
    """
    try:
        return int(recorder.take_in(str(path))[1])
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(
            f"{recorder.spool_path(str(path))} is kept, because the store does not take it: {error}"
        ) from None


def is_there(path: Path) -> bool:
    """Say whether there is a store. Raises StoreError where that cannot be seen, or must not be followed."""
    try:
        recorder.refuse_foreign_link(str(path))
        return path.exists() and path.stat().st_size > 0  # an empty one is what a crash left before the first event
    except recorder.ForeignStore as error:
        raise StoreError(str(error)) from None
    except PermissionError as error:
        raise StoreError(explain(path, f"unable to open: {error.strerror}")) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None


def no_store(path: Path) -> StoreError:
    """Return the error for a store that nobody has made yet."""
    return StoreError(
        f"no store at {path}: fail2ban's action makes it when its jail starts, "
        f'and "f2b-digest record" at its first event'
    )


# ---- damage


def verify(path: Path) -> None:
    """Read all of a store; set it aside and raise DamagedStoreError if SQLite finds a fault in it.

    To be called before anything is written to it. What cannot be opened at all is left to `Store` to explain.
    """
    found = "" if damage(path) else fault(path)
    if found:
        raise set_aside(path, found)


def fault(path: Path) -> str:
    """Return what SQLite finds wrong with a store that it can open, or ""."""
    try:
        with closing(connect(path, "ro")) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error) if "malformed" in str(error) else "ok"
    return "" if found == "ok" else found


def set_aside(path: Path, reason: str) -> StoreError:
    """Mark a store as damaged if it is so at a second look, and return the error that says what is wrong.

    From then on nobody writes to it, and bans go to its spool, until an admin acts. The caller has it open no longer.
    """
    reason = " ".join(reason.split())
    # SQLite also calls a page malformed that the disk did not give it (EIO), and the disk may give it the next time:
    # damaged is what can be read, and is wrong.
    try:
        _read(path)
    except OSError as error:
        return StoreError(f"{path} cannot be read: {error.strerror}: look after the disk")
    if not fault(path):
        return StoreError(f"{path} could not be read for a moment ({reason}): look after the disk")
    mark = Path(recorder.damage_mark(str(path)))
    try:
        with os.fdopen(os.open(mark, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o644), "w") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: `status` may be run by another user than `send`
            file.write(reason + "\n")
    except OSError as error:  # a full disk, or a link that somebody laid there
        return DamagedStoreError(f"{path} is damaged ({reason}), and {mark} cannot be written: {error.strerror}")
    return DamagedStoreError(f"{path} is damaged ({reason}): {HOW_TO_RECOVER}")


def _read(path: Path) -> None:
    """Read all of a store's files. Raises OSError."""
    for name in (path, path.with_name(path.name + "-wal")):
        if name.exists():
            with name.open("rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass


def damage(path: Path) -> str:
    """Return why a store was set aside, or ""."""
    try:
        return Path(recorder.damage_mark(str(path))).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"its mark cannot be read: {error.strerror}"


def refusal(path: Path) -> str:
    """Return why this user cannot write to a store, or ""; nothing is changed. Raises StoreError."""
    try:
        with closing(connect(path, "rw")) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return explain(path, str(error))
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path}: {error}") from None
    return ""


# ---- opening


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open SQLite's file in mode "ro" or "rw"; text that is no UTF-8 shows as escapes."""
    uri = path.absolute().as_uri() + f"?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def begin(connection: sa.Connection) -> None:
    """Begin a transaction as the connection's option `begin` says."""
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def check(path: Path, connection: sa.Connection) -> int:
    """Return the store's schema version. Raises StoreError for a file that this program must not touch."""
    application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if application != recorder.APPLICATION_ID:
        raise StoreError(f"{path} is not a store of f2b-digest: nothing was changed; choose another path")
    if version > recorder.SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer f2b-digest (schema {version}, this one knows {recorder.SCHEMA_VERSION}): "
            f"nothing was changed; upgrade this one"
        )
    return int(version)


def upgrade(connection: sa.Connection, version: int) -> None:
    """Bring the tables of digests and deliveries to this program's version, within the caller's transaction."""
    if sa.inspect(connection).has_table(delivery.name):
        for step in range(version, recorder.SCHEMA_VERSION):
            for statement in UPGRADES[step]:
                connection.exec_driver_sql(statement)
    else:
        metadata.create_all(connection, tables=[digest, delivery])
        for index in recorder.EVENT_INDEXES:
            connection.exec_driver_sql(index)
    connection.exec_driver_sql(f"PRAGMA user_version={recorder.SCHEMA_VERSION}")


def explain(path: Path, words: str) -> str:
    """Return a line on what SQLite said, with what to do."""
    if "unable to open" in words or "readonly" in words:
        for file in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))):
            if os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK):  # noqa: PTH110 - False where closed
                return f"{file} cannot be opened by this user: {_ask(file)}"
        return f"{path} cannot be opened: SQLite has to write beside it, in {path.parent}: {_ask(path.parent)}"
    return f"{path}: {words}"


def _ask(place: Path) -> str:
    """Return who may write to a file or in a folder, as something to do."""
    try:
        status = place.stat()
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
