"""What fail2ban's own database knows, against what was recorded: what is missing is found here, and taken in.

Nothing is sealed or printed here. The database keeps about a day, and forgets what is unbanned by hand, so that it
may well know less than the store; that is no fault of anybody's.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban import database
from f2b_digest.fail2ban.files import Row, Tally
from f2b_digest.fail2ban.history import AFTER, BEFORE, SourceError
from f2b_digest.model.digest import Reconciliation
from f2b_digest.model.selection import Selection, matches

log = logging.getLogger(__name__)
ON_ITS_WAY = 5.0
"""Seconds after which a ban that fail2ban knows is in the store, in its spool, or lost: the action takes one."""
YOUNG = 60.0
"""Seconds: a younger failure may belong to a ban whose action has not run yet."""
LOOKED_BACK = 40 * 86400.0
"""Seconds: fail2ban's database keeps a day, unless told otherwise, and every send looks."""
OURS = "source IN ('action', 'shell')"
"""What fail2ban told while it banned; not what was imported, or added here."""


@dataclass(frozen=True)
class Known:
    """The bans of fail2ban's database since our action records, as the store has them."""

    events: dict[int, str] = field(default_factory=dict)
    """By the event's id, the jail; without what was imported as history, which no digest tells."""
    missing: tuple[Row, ...] = ()
    """As rows to insert."""
    added: frozenset[int] = frozenset()
    """Events that were missing."""
    silent: tuple[str, ...] = ()
    """Jails that ban, and in which our action seems to be missing."""
    # What is missing still counts as what the next send adds: a preview tells of it as that send will.

    def of(self, selection: Selection, recorded: int) -> Reconciliation:
        """Return what this says of a digest that has so many bans."""
        inside = {
            key
            for key, jail in self.events.items()
            if selection.first_id <= key <= selection.last_id and matches(jail, selection.jails)
        }
        silent = tuple(jail for jail in self.silent if matches(jail, selection.jails))
        more = sum(matches(row[2], selection.jails) for row in self.missing)
        return Reconciliation(recorded + more, len(inside) + more, len(inside & self.added) + more, silent)


def look(path: Path, theirs: sqlite3.Connection, configuration: Configuration, now: float) -> Known:
    """Compare a store with fail2ban's database, and change nothing; jails that no report takes in do not count.

    Raises SourceError or StoreError.
    """
    try:
        with closing(_reading(path)) as connection:
            since = _since(connection, now - min(configuration.keep, LOOKED_BACK))
            # A little earlier: the database rounds its times.
            bans = _bans(theirs, configuration, (now if since is None else since) - BEFORE)
            return Known() if since is None else _compare(connection, bans, since, now - YOUNG)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"{path}: {error}") from None


def foresee(
    path: Path, theirs: sqlite3.Connection, configuration: Configuration, clock: Callable[[], float]
) -> Known | None:
    """Return what the next `take_in` will find missing, and change nothing; None where that cannot be found out.

    A ban in the spool is not missing.
    """
    try:
        known = look(path, theirs, configuration, clock())
        waiting = _spooled(path, {row[2:4] for row in known.missing})
        missing = tuple(row for row in known.missing if not _is_among(waiting, row))
        return Known(known.events, missing, silent=_silent_jails(path, missing))
    except (SourceError, StoreError, sqlite3.Error, OSError) as error:
        log.info("no comparison with fail2ban's database: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return None


def _spooled(path: Path, wanted: set[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[float]]:
    """Return by jail and address the times of their bans that wait in the spool."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for line in recorder.spool_lines(recorder.spool_path(str(path))) if wanted and recorder.spooled(str(path)) else ():
        row = recorder.event_of(line)
        if row and row[0] == "ban" and row[2:4] in wanted:
            found.setdefault(row[2:4], []).append(row[4])
    return found


def _is_among(waiting: dict[tuple[Any, ...], list[float]], row: Row) -> bool:
    return any(row[4] - BEFORE <= at <= row[4] + AFTER for at in waiting.get(row[2:4], ()))


def _reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    return connection


def take_in(
    path: Path,
    theirs: sqlite3.Connection,
    configuration: Configuration,
    clock: Callable[[], float],
    pause: Callable[[float], None] = time.sleep,
) -> Known | None:
    """Add what is missing to the store, pending, and return what is known; None where that cannot be found out.

    `theirs` is a copy of fail2ban's database. The caller holds the sender's lock and has taken the spool in. Where
    something seems to be missing, a second look into the store some seconds later decides, for fail2ban writes to its
    database while our action is at work.
    """
    try:
        known = look(path, theirs, configuration, clock())
        if not known.missing:
            log.info("fail2ban's database: nothing is missing in the store")
            return known
        pause(ON_ITS_WAY)
        recorder.take_in(str(path))
        missing = look(path, theirs, configuration, clock()).missing
        log.info("fail2ban's database: %s bans were missing in the store", len(missing))
        with closing(recorder.connect(str(path), 5.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(recorder.INSERT, missing)
            connection.execute("COMMIT")
        wanted = {row[1:5] for row in missing}
        known = look(path, theirs, configuration, clock())
        return Known(known.events, (), _ids(path, wanted), _silent_jails(path, missing))
    except (SourceError, StoreError, sqlite3.Error, OSError, recorder.ForeignStore) as error:
        # Of a store that cannot be used, send itself says more.
        log.info("no comparison with fail2ban's database: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return None


def _since(connection: sqlite3.Connection, oldest: float) -> float | None:
    """Return from when on our action recorded; None if it never did. What is older may be imported, or was pruned."""
    recently = f"SELECT recorded_at FROM event WHERE recorded_at >= ? AND {OURS} ORDER BY recorded_at LIMIT 1"  # noqa: S608
    ever = f"SELECT recorded_at FROM event WHERE recorded_at < ? AND {OURS} ORDER BY id LIMIT 1"  # noqa: S608
    # Years of imported history are not read for it, unless the action has been silent for long.
    row = connection.execute(recently, (oldest,)).fetchone() or connection.execute(ever, (oldest,)).fetchone()
    return None if row is None else max(row[0], oldest)


def _bans(theirs: sqlite3.Connection, configuration: Configuration, since: float) -> Sequence[Row]:
    """Return the database's bans since that time."""
    wanted, path = configuration.jails.values(), configuration.fail2ban_database
    rows = database.rows(theirs, path, configuration.host, Tally(), history=False, since=since)
    return [row for row in rows if any(matches(row[2], patterns) for patterns in wanted)]


def _compare(connection: sqlite3.Connection, rows: Iterable[Row], since: float, until: float) -> Known:
    """Look each ban up, whatever the host's name: the configuration may call it otherwise than the action does."""
    query = (
        "SELECT id, history FROM event WHERE jail = ? AND ip = ? AND kind = 'ban' AND at BETWEEN ? AND ? "
        "ORDER BY abs(at - ?) LIMIT 1"
    )
    events: dict[int, str] = {}
    missing: list[Row] = []
    for row in rows:
        jail, ip, at = row[2:5]
        found = connection.execute(query, (jail, ip, at - BEFORE, at + AFTER, at)).fetchone()
        if found is None:
            missing += [row] if since <= at <= until else []
        elif not found[1]:
            events[found[0]] = jail
    return Known(events, tuple(missing))


def _ids(path: Path, wanted: set[tuple[Any, ...]]) -> frozenset[int]:
    query = "SELECT id FROM event WHERE host = ? AND jail = ? AND ip = ? AND at = ? AND kind = 'ban'"
    with closing(recorder.connect(str(path), 5.0)) as connection:
        return frozenset(key for each in wanted for (key,) in connection.execute(query, each))


def _silent_jails(path: Path, missing: Sequence[Row]) -> tuple[str, ...]:
    """Return the jails that never recorded, or have not since they missed two bans; one alone can be an accident."""
    times: dict[str, list[float]] = {}
    for row in missing:
        times.setdefault(row[2], []).append(row[4])
    query = f"SELECT max(recorded_at) FROM event WHERE {OURS} AND jail = ?"  # noqa: S608 - our words
    with closing(_reading(path)) as connection:
        last = {jail: connection.execute(query, (jail,)).fetchone()[0] for jail in times}
    return tuple(
        jail for jail, at in sorted(times.items()) if last[jail] is None or (len(at) > 1 and last[jail] < min(at))
    )
