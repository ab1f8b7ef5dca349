"""Detecting damage, and setting a damaged store aside. Nothing is reported, sealed or pruned here.

SQLite's own check reads all of a store, in time that grows with it. So a small store is checked before each send, and a
large one once a week (by `retry`, or by a send after its deliveries if no retry does it); before each send of a large
one, its header is compared with the file, and what is pending with the index (`Store.verify_pending`). Nothing is
dropped from a store that was not checked within the week.
"""

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from f2b_digest import recorder
from f2b_digest.errors import DamagedStoreError, StoreError
from f2b_digest.store.connection import connect
from f2b_digest.store.idle import SMALL

HOW_TO_RECOVER = "new bans wait in its spool; run f2b-digest recover"
LONGEST_REASON = 4096
"""Bytes read of a marker file: SQLite's reason is one line."""
OVERDUE = 7 * 86400.0
"""Seconds after its last check as a whole, when a send checks a large store; `retry` does so a day earlier."""


def verify(path: Path) -> None:
    """Check for damage before a store is written to; if damaged, set it aside and raise DamagedStoreError.

    A small store is checked fully, a large one by its header. A file that cannot be opened is left to `Store` to
    explain.
    """
    found = "" if damage(path) else fault(path) if is_small(path) else _fault_of_header(path)
    if found:
        raise set_aside(path, found)


def is_small(path: Path) -> bool:
    """Return whether a store is checked as a whole before each send. Raises OSError."""
    return path.stat().st_size <= SMALL


def verify_all(path: Path, now: float) -> None:
    """Check a store fully, and record that at `now` (UTC epoch seconds).

    Sets the store aside and raises DamagedStoreError if there is damage. The caller must have closed it.
    """
    found = "" if damage(path) else fault(path)
    if found:
        raise set_aside(path, found)
    keep_in_mind(path, now)


def is_due(path: Path, now: float, after: float) -> bool:
    """Return whether a large store has not been fully checked for so many seconds; a small one is never due.

    A check dated in the future does not count.
    """
    try:
        checked = os.lstat(_mark(path)).st_mtime
    except FileNotFoundError:
        checked = 0.0
    return not is_small(path) and not now - after < checked <= now + 86400


def begin_week(path: Path, now: float) -> None:
    """Start the first week of a large store, if not yet started: it was fully checked while it was small."""
    if not is_small(path) and not os.path.lexists(_mark(path)):
        keep_in_mind(path, now)


def keep_in_mind(path: Path, now: float) -> None:
    """Record beside a store that it was checked at `now`. Raises StoreError."""
    try:
        descriptor = recorder.open_regular(str(_mark(path)), os.O_CREAT | os.O_WRONLY)
        try:
            os.utime(descriptor, (now, now))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{_mark(path)} cannot be written: {_words(error)}") from None


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".checked")


def _fault_of_header(path: Path) -> str:
    """Return how a store's length contradicts its header, or "". This process must not have it open otherwise."""
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size:  # the newest data is there
        return ""
    try:
        with os.fdopen(recorder.open_regular(str(path), os.O_RDONLY), "rb") as file:
            content, length = file.read(100), os.fstat(file.fileno()).st_size
    except OSError:  # `Store` gives the details
        return ""
    if len(content) < 100 or not content.startswith(b"SQLite format 3\0"):
        return ""
    size, pages, free, count = struct.unpack(">16xH10xIII60x", content)
    size = 65536 if size == 1 else size  # per SQLite's file format
    if pages * size != length or free > pages or count > pages:
        return f"its header says {pages} pages, {count} of them free, but the file has {length // size}"
    return ""


def fault(path: Path) -> str:
    """Return the first error of SQLite's integrity check, or ""."""
    try:
        with closing(connect(path, "ro")) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        found = str(error) if "malformed" in str(error) else "ok"
    return "" if found == "ok" else found


def set_aside(path: Path, reason: str) -> StoreError:
    """Mark a store as damaged if a second check confirms it, and return the error that says why.

    From then on it is not written to, and bans go to its spool, until an admin acts. The caller must have closed it.
    """
    reason = " ".join(reason.split())
    # SQLite also reports a page as malformed that could not be read (EIO), which may be temporary:
    # only what can be read and is wrong counts as damaged.
    try:
        _read(path)
    except OSError as error:
        return StoreError(f"{path} cannot be read: {error.strerror}: check the disk")
    if not fault(path):
        return StoreError(f"{path} could not be read temporarily ({reason}): check the disk")
    mark = Path(recorder.damage_mark(str(path)))
    try:
        with os.fdopen(recorder.open_regular(str(mark), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), "w") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: `status` may be run by another user than `send`
            file.write(reason + "\n")
    except OSError as error:  # a full disk, or a symlink placed there
        return DamagedStoreError(f"{path} is damaged ({reason}), and {mark} cannot be written: {_words(error)}")
    return DamagedStoreError(f"{path} is damaged ({reason}): {HOW_TO_RECOVER}")


def _read(path: Path) -> None:
    """Read all of a store's files. Raises OSError."""
    for name in (path, path.with_name(path.name + "-wal")):
        if name.exists():
            with os.fdopen(recorder.open_regular(str(name), os.O_RDONLY), "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass


def damage(path: Path) -> str:
    """Return why a store was set aside, or ""."""
    try:
        with os.fdopen(recorder.open_regular(recorder.damage_mark(str(path)), os.O_RDONLY), "rb") as file:
            return file.read(LONGEST_REASON).decode("utf-8", "replace").strip() or "no reason recorded"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"its damage marker cannot be read: {_words(error)}"


def _words(error: OSError) -> str:
    return error.strerror or str(error)
