"""Opening, locking and upgrading the store's file. No events, no digests; damage is in `integrity`."""

import fcntl
import grp
import os
import pwd
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.store.migrations import OLDEST
from f2b_digest.store.sql import Connection
from f2b_digest.store.tables import DDL

WAIT = 30
"""Seconds to wait for the store's write lock; it is never held for long."""


@contextmanager
def sender_lock(path: Path, wait: float) -> Iterator[bool]:
    """Hold the store's exclusive sender lock; yields whether it was acquired within `wait` seconds.

    It is flock(2) on the store's folder: it is released when the process dies or at a reboot, and any user who
    may read the folder can take it. (A lock file would need an owner, and the process id in one may be another's.)
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
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
    """Move the spool's events into the store, which is created if missing; return the number of incomplete lines.

    The caller holds the sender's lock. Raises StoreError; the spool is kept then.
    """
    try:
        return int(recorder.take_in(str(path))[1])
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(f"{recorder.spool_path(str(path))} is kept, because the store rejects it: {error}") from None


def is_there(path: Path) -> bool:
    """Return whether there is a store. Raises StoreError where that cannot be seen, or must not be followed."""
    try:
        seen = recorder.look(str(path))
    except recorder.ForeignStore as error:
        raise StoreError(str(error)) from None
    except PermissionError as error:
        raise StoreError(explain(path, f"unable to open: {error.strerror}")) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    return seen is not None and seen.st_size > 0  # an empty file is left by a crash before the first event


def no_store(path: Path) -> StoreError:
    """Return the error for a store that does not exist yet."""
    return StoreError(
        f"no store at {path}: fail2ban's action creates it when its jail starts, "
        f'and "f2b-digest record" at its first event'
    )


# ---- opening


ROOM = 65_536
"""Bytes that SQLite needs in the store's folder to read it."""


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


def connect(path: Path, mode: str) -> Connection:
    """Open SQLite's file in mode "ro" or "rw"; invalid UTF-8 is decoded as escapes."""
    uri = path.absolute().as_uri() + f"?mode={mode}"
    try:
        seen = recorder.look(str(path))
    except recorder.ForeignStore as error:
        raise StoreError(str(error)) from None
    if seen is None:
        raise no_store(path)
    connection = sqlite3.connect(
        uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False, factory=Connection
    )
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    try:
        recorder.refuse_another(connection, str(path), seen)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: Connection, begin: str) -> Iterator[None]:
    """Begin a transaction, and commit it at the end, or roll it back after an error."""
    connection.execute(begin)
    try:
        yield
        connection.commit()  # does nothing where it was rolled back already
    except BaseException:
        connection.rollback()
        raise


def check(path: Path, connection: Connection) -> int:
    """Return the store's schema version. Raises StoreError for a file that this program must not touch."""
    application = connection.scalar("PRAGMA application_id")
    version = connection.scalar("PRAGMA user_version")
    if application == 0 and version == 0 and not connection.scalar("SELECT count(*) FROM sqlite_master"):
        raise no_store(path)  # an empty database: left by a power cut before the first event
    if application != recorder.APPLICATION_ID:
        raise StoreError(f"{path} is not a store of f2b-digest: nothing was changed; choose another path")
    if version > recorder.SCHEMA_VERSION:
        raise StoreError(
            f"{path} was made by a newer f2b-digest (schema {version}, this one knows {recorder.SCHEMA_VERSION}): "
            f"nothing was changed; upgrade this one"
        )
    if version < OLDEST:
        raise StoreError(
            f"{path} was made by an unreleased f2b-digest (schema {version}, this one reads {OLDEST} and "
            f"later): nothing was changed; move it away; the next ban creates a new one"
        )
    return int(version)


def make_tables(connection: Connection) -> None:
    """Make the tables that the first send needs, where they are missing."""
    for statements in DDL.values():
        for statement in statements:
            connection.execute(statement)


def stand_in(connection: Connection) -> None:
    """Make empty temporary tables instead of those that no send made yet, so that they can be read."""
    for table, statements in DDL.items():
        if not connection.has_table(table):
            connection.execute(statements[0].replace("CREATE TABLE", "CREATE TEMP TABLE"))


def explain(path: Path, words: str) -> str:
    """Return a one-line explanation of an SQLite error, with what to do."""
    if "unable to open" in words or "readonly" in words:
        for file in (path, *(path.with_name(path.name + ending) for ending in ("-wal", "-shm"))):
            if os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK):  # noqa: PTH110 - False where closed
                return f"{file} cannot be opened by this user: {_ask(file)}"
        return f"{path} cannot be opened: SQLite needs to write to {path.parent}: {_ask(path.parent)}"
    if ("I/O" in words or "full" in words) and _is_full(path.parent):
        return f"{path}: {words}: the disk is full, and SQLite needs space even to read: free disk space"
    return f"{path}: {words}"


def _is_full(folder: Path) -> bool:
    """Return whether there is no space for the WAL index."""
    try:
        return shutil.disk_usage(folder).free < ROOM
    except OSError:
        return False


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
