"""What fail2ban left behind, as events: its logs, its database, its mailing actions' files. Nothing is written here.

Which module one reads a file, the file's first known line tells.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest.fail2ban import database, files, log, mail_buffer
from f2b_digest.fail2ban.files import SourceError, Tally, lines_of, open_binary
from f2b_digest.model.event import Event

__all__ = ["KNOWN", "SourceError", "Tally", "hold", "is_database", "read"]

logger = logging.getLogger(__name__)

KNOWN = (
    "fail2ban's database (fail2ban.sqlite3); its log (2026-11-20 04:17:33,839 fail2ban.actions [123]: NOTICE [sshd] "
    "Ban 192.0.2.1); a mailing action's file (Fri Nov 20 04:17:33 UTC 2026: 192.0.2.1 (3 failures), or the same date "
    "and: sshd ban 192.0.2.1 after 3 failure(s))"
)
"""The forms that are understood, in a line for people."""
_Reader = Callable[..., Iterator[Event]]


def is_database(path: Path) -> bool:
    """Say whether a file is an SQLite database. Raises SourceError."""
    with open_binary(path) as file:
        return file.read(16) == b"SQLite format 3\0"


def hold(paths: Iterable[Path]) -> None:
    """Open files, so that this process can read them when it has become a user who could not. Raises SourceError."""
    for path in paths:
        files.hold(path)
        if is_database(path):
            database.hold(path)


def read(paths: Sequence[Path], host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Event]:
    """Return the events of files, in the order in which they complete each other: databases first, which know more of a
    ban; then rotated logs by time. Raises SourceError, before any is read, unless each of them is known.
    """  # noqa: D205
    kinds = {path: _kind(path) for path in paths}
    return _events(kinds, host, zone, tally, history=history)


def _events(kinds: dict[Path, str], host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Event]:
    past = log.Past()
    readers: dict[str, _Reader] = {
        "database": database.read,
        "buffered": partial(mail_buffer.read, zone=zone),
        "log": partial(log.read, zone=zone, past=past),
    }
    for path in sorted(kinds, key=lambda path: (kinds[path] != "database", _beginning(path))):
        logger.info("%s: reading it as fail2ban's %s", path, kinds[path])
        yield from readers[kinds[path]](path, host=host, tally=tally, history=history)


def _kind(path: Path) -> str:
    """Return which of the modules reads a file; an empty one is a log that was just rotated. Raises SourceError."""
    if is_database(path):
        return "database"
    empty = True
    for line in lines_of(path):
        if log.is_line(line):
            return "log"
        if mail_buffer.is_line(line):
            return "buffered"
        empty = empty and not line.strip()
    if empty:
        return "log"
    raise SourceError(f"{path}: nothing in it is fail2ban's. Known are: {KNOWN}")


def _beginning(path: Path) -> bytes:
    return next(lines_of(path), b"")[:100]
