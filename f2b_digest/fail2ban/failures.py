"""Addresses that failed and were never banned, counted from fail2ban's own log. Nothing is kept here.

The log is opened as root and parsed as another user. However many addresses there are, memory is bounded: they are
sorted out in a temporary database, which spills to a file.
"""

import logging
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from f2b_digest.fail2ban import log_lines
from f2b_digest.fail2ban.files import SourceError, hold_file, modified, size_of
from f2b_digest.fail2ban.server import LogTarget
from f2b_digest.model.host_context import Failed

log = logging.getLogger(__name__)
LEVELS = ("INFO", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG")
"""At which fail2ban logs failures."""
MOST_FILES = 60
"""The newest: a log of two months that is rotated each day."""
MOST = 500_000_000
"""Bytes of a file that are read: its end."""
MOST_PACKED = 50_000_000
"""Bytes of a packed file: a larger one is not read."""
BATCH = 10_000
CACHE = 8_000
"""KiB of the temporary database in memory."""
CLOSE_ENOUGH = 64 * 1024
"""Bytes that are read in vain at most, to find where a period begins."""
AN_HOUR = 3600.0
"""By which a line's time may be wrong, where clocks are set back."""


@dataclass(frozen=True)
class Log:
    """fail2ban's log, held open."""

    files: tuple[Path, ...] = ()
    """The newest first."""
    reason: str = ""
    """Why there are none, as a message."""


def hold(told: LogTarget) -> Log:
    """Open the log that fail2ban says it writes, and what was rotated of it. No link is followed."""
    if not told.target:
        return Log(reason="fail2ban does not say where it logs to")
    if not told.target.startswith("/"):
        return Log(reason=f"fail2ban logs to {told.target}, which is no file")
    if told.level not in LEVELS:
        return Log(reason=f'fail2ban logs no failures at loglevel {told.level or "?"}: they need "INFO"')
    path = Path(told.target)
    try:
        hold_file(path, follow=False)
    except SourceError as error:
        return Log(reason=str(error))
    return Log((path, *_held(_rotated(path))))


def _rotated(path: Path) -> list[Path]:
    """Return what logrotate made of a log (".1", "-20261120", ".2.gz"), the newest first."""
    form = re.compile(re.escape(path.name) + r"[.-]\d[\d.-]*(?:\.(?:gz|bz2|xz))?")
    try:
        found = [(each.lstat().st_mtime, each) for each in path.parent.iterdir() if form.fullmatch(each.name)]
    except OSError as error:
        log.info("%s: rotated logs cannot be found: %s", path.parent, error.strerror)
        return []
    return [each for _, each in sorted(found, reverse=True)[: MOST_FILES - 1]]


def _held(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield files that were opened, up to the first that cannot be: no period has a hole."""
    for path in paths:
        try:
            hold_file(path, follow=False)
        except SourceError as error:
            log.info("%s", error)
            return
        yield path


def count(held: Log, since: float, until: float, wanted: Callable[[str], bool]) -> Failed | None:
    """Count the addresses that failed in the jails that are wanted, and that no jail banned, in a period.

    Times are UTC epoch seconds, the end excluded. None where the log cannot be read.
    """
    with closing(sqlite3.connect("")) as database:
        database.executescript(
            f"PRAGMA cache_size = -{CACHE}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE failed (jail TEXT, ip TEXT, PRIMARY KEY (jail, ip)) WITHOUT ROWID;"
            "CREATE TABLE banned (ip TEXT PRIMARY KEY) WITHOUT ROWID;"
        )
        try:
            begins = _fill(database, held, since, until, wanted)
            jails = database.execute(
                "SELECT jail, count(*) AS addresses FROM failed WHERE ip NOT IN banned GROUP BY jail"
                " ORDER BY addresses DESC, jail"
            ).fetchall()
            [addresses] = database.execute("SELECT count(DISTINCT ip) FROM failed WHERE ip NOT IN banned").fetchone()
        except (SourceError, OSError, sqlite3.Error) as error:
            log.warning("fail2ban's log could not be read: %s", error)
            return None
    return Failed(tuple(jails), addresses, begins)


def _fill(database: sqlite3.Connection, held: Log, since: float, until: float, wanted: Callable[[str], bool]) -> float:
    """Read the log's files, the newest first, as far back as a period needs; return from when on it tells."""
    begins = until
    for path in held.files:
        if modified(path).timestamp() < since:
            return since  # and what is older ends before the period, too
        size, packed = size_of(path)
        if packed and size > MOST_PACKED:
            log.info("%s is too large to be unpacked", path)
            break
        start = 0 if packed else max(_place(path, size, since), size - MOST)
        begins = min(begins, log_lines.first_time(path, None, start) or begins)
        _read(database, path, start, since, until, wanted)
        if start:  # what is older is of before the period, or more than is read
            break
    return max(begins, since)


def _place(path: Path, size: int, since: float) -> int:
    """Return a place (bytes) in a file before which all lines are older than a time, by halves."""
    low, high = 0, size
    while high - low > CLOSE_ENOUGH:
        middle = (low + high) // 2
        at = log_lines.first_time(path, None, middle)
        if at and at < since - AN_HOUR:
            low = middle
        else:
            high = middle
    return low


def _read(
    database: sqlite3.Connection, path: Path, start: int, since: float, until: float, wanted: Callable[[str], bool]
) -> None:
    """Take in who failed and who was banned."""
    lines = (line for line in log_lines.failures_and_bans(path, start) if since <= line.at < until)
    while batch := list(islice(lines, BATCH)):
        failed = {(line.jail, line.text) for line in batch if line.kind == "found" and wanted(line.jail)}
        banned = {(_address(line),) for line in batch if line.kind != "found"}
        database.executemany("INSERT OR IGNORE INTO failed VALUES (?, ?)", sorted(failed))
        database.executemany("INSERT OR IGNORE INTO banned VALUES (?)", sorted(banned))


def _address(line: log_lines.Line) -> str:
    """Return who is banned, without what an increased ban says of its time."""
    return line.text.rpartition(" (")[0] or line.text if line.kind == "prolong" else line.text
