"""What fail2ban left behind, as events: its logs, its database, sendmail-buffered's file. Nothing is written here.

Each module yields rows for `recorder.INSERT`; which one reads a file, the file's first bytes tell.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest.sources import buffered, database, files, log
from f2b_digest.sources.files import Row, SourceError, Tally, open_binary

__all__ = ["AFTER", "BEFORE", "Row", "SourceError", "Tally", "hold", "in_order", "is_database", "read"]

BEFORE, AFTER = 2.0, 30.0
"""Seconds: fail2ban's log tells a ban so much later than its database, whose time is that of the last failure."""


def is_database(path: Path) -> bool:
    """Say whether a file is an SQLite database. Raises SourceError."""
    with open_binary(path) as file:
        return file.read(16) == b"SQLite format 3\0"


def read(path: Path, host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Row]:
    """Yield the events of one file. Raises SourceError."""
    if is_database(path):
        return database.read(path, host, tally, history=history)
    if buffered.is_one(path):
        return buffered.read(path, host, zone, tally, history=history)
    return log.read(path, host, zone, tally, history=history)


def hold(paths: Iterable[Path]) -> None:
    """Open files, so that this process can read them when it has become a user who could not. Raises SourceError."""
    for path in paths:
        files.hold(path)
        if is_database(path):
            database.hold(path)


def in_order(paths: list[Path]) -> list[Path]:
    """Return files in the order to read them: databases first, which know more of a ban; then rotated logs by time."""
    return sorted(paths, key=lambda path: (not is_database(path), _beginning(path)))


def _beginning(path: Path) -> bytes:
    with open_binary(path) as file:
        return file.readline(100)
