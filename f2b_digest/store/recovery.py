"""Recovery of a damaged store: what SQLite can still read is copied to a new one. Nothing is reported or sent here.

The damaged files are kept. A crash at any moment leaves the damaged store, its marker and the copies, so that it
can be run again.
"""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.store import received, uploads
from f2b_digest.store.integrity import fault
from f2b_digest.store.tables import DDL, DELIVERY, DIGEST, EVENT

log = logging.getLogger(__name__)

TABLES = (EVENT, DIGEST, DELIVERY)
"""In the order in which their rows refer to each other."""
MOST_FAULTS = 200_000
"""Failed reads allowed per table, each of microseconds: with a broken root page every id fails."""
LENGTH_OF_FILE = 92, b"\0\0\0\0"
"""Offset of the header's version-valid-for number; with zeros, SQLite takes the length from the file system."""


@dataclass(frozen=True)
class Recovered:
    """What was recovered."""

    rows: dict[str, int]
    """By table."""
    highest: int
    """The highest event id that the damaged store ever gave, as far as it can tell."""
    kept: Path
    """The folder with the damaged files."""


def recover(path: Path) -> Recovered:
    """Replace a damaged store by a new one with all rows that can be read.

    The caller holds the sender's lock and becomes the folder's owner before. No event id is given a second time. The
    spool stays for the next send. Raises StoreError, and then the store is as it was.
    """
    kept = _keep(path)
    copy, new = kept / path.name, path.with_name(path.name + ".recovered")
    try:
        _remove(new)
        with closing(recorder.connect(str(new))) as connection:
            rows, highest = _fill(connection, copy)
        wrong = fault(new)
        if wrong:
            raise StoreError(f"{path} is not recovered: the new store is damaged too ({wrong}); check the disk")
        if not any(rows.values()):
            raise StoreError(
                f"nothing can be read from {path}; it stays as it is, with a copy in {kept}. "
                f"To start over, move it away (with its -wal and -shm) and remove {recorder.damage_mark(str(path))}"
            )
        _replace(path, new)
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(f"{path} is not recovered, and stays as it was: {error}") from None
    finally:
        _remove(new)
    return Recovered(rows, highest, kept)


def _keep(path: Path) -> Path:
    """Copy a store's files into a new folder beside it. Raises StoreError."""
    names = [path.name + end for end in ("", "-wal", "-shm")]
    mark = Path(recorder.damage_mark(str(path)))
    if mark.is_file() and not mark.is_symlink():  # the name was taken by something else
        names.append(mark.name)
    number = 1
    while (folder := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        folder.mkdir(mode=0o750)
        for name in names:
            if os.path.lexists(path.with_name(name)):
                with os.fdopen(recorder.open_regular(str(path.with_name(name)), os.O_RDONLY), "rb") as file:
                    _copy(file, folder / name)
        _sync(folder)
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        words = error.strerror or str(error)
        raise StoreError(f"{path} cannot be copied to {folder}: {words}: nothing was changed") from None
    return folder


def _copy(file: BinaryIO, target: Path) -> None:
    with target.open("xb") as copied:
        shutil.copyfileobj(file, copied)
        copied.flush()
        os.fsync(copied.fileno())


def _fill(connection: sqlite3.Connection, copy: Path) -> tuple[dict[str, int], int]:
    """Insert into an empty store what can be read from a damaged one; return the rows by table, and the highest id."""
    _trust_file_length(copy)
    connection.execute("PRAGMA synchronous=OFF")  # the whole is synced at its end
    try:
        connection.execute("ATTACH ? AS old", (str(copy),))
    except sqlite3.DatabaseError:  # not even the first page is readable
        log.info("%s cannot be opened", copy, exc_info=True)
        return dict.fromkeys(TABLES, 0), 0
    for table in (DIGEST, DELIVERY):
        for statement in DDL[table]:
            connection.execute(statement)
    rows = {table: _copy_table(connection, table) for table in TABLES}
    # The next digest reports the bans of a lost one again: sending its messages too would duplicate them.
    orphans = connection.execute("DELETE FROM delivery WHERE digest_id NOT IN (SELECT id FROM digest)").rowcount
    rows[DELIVERY] -= orphans
    _copy_uploads(connection)
    _copy_received(connection)
    highest = _highest(connection)
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'event'")
    connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?)", (highest,))
    connection.execute("DETACH old")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return rows, highest


def _trust_file_length(copy: Path) -> None:
    """A header with a wrong length hides the pages beyond it."""
    at, zeros = LENGTH_OF_FILE
    with copy.open("r+b") as file:
        if len(file.read(at + len(zeros))) == at + len(zeros):
            file.seek(at)
            file.write(zeros)


def _copy_table(connection: sqlite3.Connection, table: str) -> int:
    """Copy what can be read of a table; return the number of rows."""
    columns = _columns(connection, "old", table)
    if "id" not in columns:
        log.info("table %s of the damaged store cannot be found", table)
        return 0
    names = ", ".join(f'"{name}"' for name in _columns(connection, "main", table) if name in columns)
    insert = f"INSERT OR IGNORE INTO main.{table} ({names}) SELECT {names} FROM old.{table} WHERE id BETWEEN ? AND ?"  # noqa: S608
    lost = 0
    ranges = [(1, _last_id(connection, table))]
    while ranges and lost < MOST_FAULTS:
        first, last = ranges.pop()
        try:
            connection.execute(insert, (first, last))
        except sqlite3.DatabaseError:
            lost += 1
            if first < last:  # the fault is in one half, or in both
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
    count = int(connection.execute(f"SELECT count(*) FROM main.{table}").fetchone()[0])  # noqa: S608
    log.info("table %s: %d rows, %d reads failed", table, count, lost)
    return count


def _copy_uploads(connection: sqlite3.Connection) -> None:
    """Copy the upload's state, if any; if unreadable, everything is uploaded to the centre again."""
    if _columns(connection, "old", uploads.UPLOAD):
        uploads.make_tables(connection)
        for table in uploads.TABLES:
            _copy_table(connection, table)
        uploads.begin_anew(connection)


def _copy_received(connection: sqlite3.Connection) -> None:
    """Copy what a hub has of its hosts; where it cannot be read, they are enrolled again, and upload all again."""
    if _columns(connection, "old", received.HOSTS):
        received.make_tables(connection)
        for table in received.TABLES:
            _copy_table(connection, table)


def _columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    try:
        return [name for _, name, *_ in connection.execute(f"PRAGMA {schema}.table_info({table})")]
    except sqlite3.DatabaseError:  # its schema cannot be read
        log.debug("no columns of %s.%s", schema, table, exc_info=True)
        return []


def _last_id(connection: sqlite3.Connection, table: str) -> int:
    """Return the highest id that a damaged table may have."""
    return max(
        _number(connection, "SELECT seq FROM old.sqlite_sequence WHERE name = ?", table),
        _number(connection, f"SELECT max(id) FROM old.{table}"),  # noqa: S608 - our own names
        _number(connection, "SELECT max(last_id) FROM main.digest") if table == EVENT else 0,
    )


def _highest(connection: sqlite3.Connection) -> int:
    """Return the highest known event id: a new ban must not reuse one that was reported or uploaded."""
    return max(
        _number(connection, "SELECT seq FROM old.sqlite_sequence WHERE name = 'event'"),
        _number(connection, "SELECT max(id) FROM main.event"),
        _number(connection, "SELECT max(last_id) FROM main.digest"),
        _number(connection, "SELECT max(acked_seq, coalesce(sending_seq, 0)) FROM old.upload"),
    )


def _number(connection: sqlite3.Connection, query: str, *values: str) -> int:
    """Return what a query counts; 0 where its pages cannot be read, or hold no sensible number."""
    try:
        row = connection.execute(query, values).fetchone()
    except sqlite3.DatabaseError:
        log.debug("%s", query, exc_info=True)
        return 0
    return row[0] if row and isinstance(row[0], int) and 0 < row[0] < 1 << 62 else 0


def _replace(path: Path, new: Path) -> None:
    """Replace the old store by the new one, and remove the marker. The old files are already copied."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    for end in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    _sync(path.parent)
    new.replace(path)
    _sync(path.parent)
    Path(recorder.damage_mark(str(path))).unlink(missing_ok=True)
    _sync(path.parent)


def _remove(new: Path) -> None:
    for end in ("", "-wal", "-shm"):
        new.with_name(new.name + end).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
