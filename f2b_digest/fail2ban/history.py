"""Past bans from fail2ban's files, as events: its logs, its database, its mailing actions' files. Read-only.

The first known line of a file decides which module reads it.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from f2b_digest.fail2ban import database, files, log_lines, mail_buffer
from f2b_digest.fail2ban.files import SourceError, Tally, TornError, beginning, lines_of
from f2b_digest.fail2ban.log import Reader
from f2b_digest.model.event import Event

__all__ = ["KNOWN", "SourceError", "Tally", "hold", "is_database", "read"]

logger = logging.getLogger(__name__)

KNOWN = (
    "fail2ban's database (fail2ban.sqlite3); its log (2026-11-20 04:17:33,839 fail2ban.actions [123]: NOTICE [sshd] "
    "Ban 192.0.2.1), also from syslog, journal, Docker or grep; a mailing action's file (Fri Nov 20 04:17:33 UTC 2026: "
    "192.0.2.1 (3 failures), or the same date and: sshd ban 192.0.2.1 after 3 failure(s))"
)
"""The known formats, for messages."""


def is_database(path: Path) -> bool:
    """Return whether a file is an SQLite database. Raises SourceError."""
    return beginning(path, len(files.SQLITE)) == files.SQLITE


def hold(paths: Iterable[Path], standard_input: Callable[[], BinaryIO]) -> tuple[Path, ...]:
    """Open files, so that this process can read them after dropping root; return absolute paths.

    The path "-" is the standard input. Raises SourceError.
    """
    held = tuple(path if path == files.STANDARD_INPUT else path.absolute() for path in paths)
    for path in held:
        files.hold(path, standard_input)
        with contextlib.suppress(TornError):  # reported when it is read
            if is_database(path):
                database.hold(path)
    return held


def read(paths: Sequence[Path], host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Event]:
    """Return the events of files: databases first, which have more details; then rotated logs by time.

    Files that cannot be read completely are named in `tally`, and the others are read. Raises SourceError, before any
    is read, unless each of them is known.
    """
    kinds: dict[Path, str] = {}
    for path in paths:
        try:
            kinds[path] = _kind(path)
        except TornError as error:
            tally.torn.append(str(error))
    return _events(kinds, host, zone, tally, history=history)


def _events(kinds: dict[Path, str], host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Event]:
    log = Reader(host, zone, tally, history=history)
    readers: dict[str, Callable[[Path], Iterator[Event]]] = {
        "database": partial(database.read, host=host, tally=tally, history=history),
        "buffered": partial(mail_buffer.read, host=host, zone=zone, tally=tally, history=history),
        "log": log.read,
    }
    for path in sorted(kinds, key=lambda path: (kinds[path] != "database", _begins(path, kinds[path], zone))):
        logger.info("%s: reading it as fail2ban's %s", path, kinds[path])
        try:
            yield from readers[kinds[path]](path)
        except SourceError as error:
            tally.torn.append(str(error))
    yield from log.rest()


def _kind(path: Path) -> str:
    """Return which module reads a file; an empty one is a log that was just rotated. Raises SourceError."""
    if is_database(path):
        return "database"
    empty = True
    for line in lines_of(path):
        if log_lines.is_line(line):
            return "log"
        if mail_buffer.is_line(line):
            return "buffered"
        empty = empty and not line.strip()
    if empty:
        return "log"
    raise SourceError(f"{path}: not a file of fail2ban's. Known formats: {KNOWN}")


def _begins(path: Path, kind: str, zone: ZoneInfo) -> float:
    """Return a log's first time, in UTC epoch seconds; the order of other files does not matter."""
    return log_lines.first_time(path, zone) if kind == "log" else 0.0
