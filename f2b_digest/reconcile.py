"""Compares fail2ban's own database with the store, and adds what is missing.

Nothing is sealed or printed here. The database keeps about a day, and forgets what is unbanned manually, so it
usually has less than the store; that is not an error.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban import database
from f2b_digest.fail2ban.files import Tally
from f2b_digest.fail2ban.history import SourceError
from f2b_digest.model.digest import Reconciliation
from f2b_digest.model.event import EARLIER, Event
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store import Lookup, append_events, spooled_events, take_spool_in

log = logging.getLogger(__name__)
ON_ITS_WAY = 5.0
"""Seconds after which a ban in fail2ban's database must be in the store or spool, or is lost: the action takes one."""
YOUNG = 60.0
"""Seconds: a more recent failure may belong to a ban whose action has not run yet."""
LOOKED_BACK = 40 * 86400.0
"""Seconds: fail2ban's database keeps a day by default, and every send compares."""


@dataclass(frozen=True)
class Known:
    """The bans of fail2ban's database since our action records, as the store has them."""

    events: dict[int, str] = field(default_factory=dict)
    """Jail by event id; without imported history, which is never reported."""
    missing: tuple[Event, ...] = ()
    added: frozenset[int] = frozenset()
    """Events that were missing."""
    silent: tuple[str, ...] = ()
    """Jails that ban, but seem to lack our action."""
    # Missing bans count as added by the next send, so that a preview shows what that send will.

    def of(self, selection: Selection, recorded: int) -> Reconciliation:
        """Return the comparison for a digest with so many bans."""
        inside = {
            key
            for key, jail in self.events.items()
            if selection.first_id <= key <= selection.last_id and matches(jail, selection.jails)
        }
        silent = tuple(jail for jail in self.silent if matches(jail, selection.jails))
        more = sum(matches(ban.jail, selection.jails) for ban in self.missing)
        return Reconciliation(recorded + more, len(inside) + more, len(inside & self.added) + more, silent)


def look(path: Path, theirs: sqlite3.Connection, configuration: Configuration, now: float) -> Known:
    """Compare a store with fail2ban's database without changing it; jails that no report matches do not count.

    Raises SourceError or StoreError.
    """
    with Lookup(path) as store:
        since = store.first_by_fail2ban(now - min(configuration.keep, LOOKED_BACK))
        # A little earlier: the database rounds its times.
        bans = _bans(theirs, configuration, (now if since is None else since) - EARLIER)
        return Known() if since is None else _compare(store, bans, since, now - YOUNG)


def foresee(
    path: Path, theirs: sqlite3.Connection, configuration: Configuration, clock: Callable[[], float]
) -> Known | None:
    """Return what the next `take_in` will find missing, without changing anything; None if unknown.

    A ban in the spool is not missing.
    """
    try:
        known = look(path, theirs, configuration, clock())
        waiting = _spooled(path) if known.missing else {}
        missing = tuple(ban for ban in known.missing if not _is_among(waiting, ban))
        return Known(known.events, missing, silent=_silent_jails(path, missing))
    except (SourceError, StoreError) as error:
        log.info("no comparison with fail2ban's database: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return None


def _spooled(path: Path) -> dict[tuple[str, str], list[float]]:
    """Return by jail and address the times (UTC epoch seconds) of the bans in the spool."""
    found: dict[tuple[str, str], list[float]] = {}
    for event in spooled_events(path):
        if event.kind == "ban":
            found.setdefault((event.jail, event.ip), []).append(event.at)
    return found


def _is_among(waiting: dict[tuple[str, str], list[float]], ban: Event) -> bool:
    first, last = ban.times_elsewhere()
    return any(first <= at <= last for at in waiting.get((ban.jail, ban.ip), ()))


def take_in(
    path: Path,
    theirs: sqlite3.Connection,
    configuration: Configuration,
    clock: Callable[[], float],
    pause: Callable[[float], None] = time.sleep,
) -> Known | None:
    """Add missing bans to the store, pending, and return the comparison; None if there is none.

    `theirs` is a copy of fail2ban's database. The caller holds the sender's lock and has imported the spool. If
    something seems to be missing, a second comparison some seconds later decides, as fail2ban writes to its
    database while our action is running.
    """
    try:
        known = look(path, theirs, configuration, clock())
        if not known.missing:
            log.info("fail2ban's database: nothing is missing in the store")
            return known
        pause(ON_ITS_WAY)
        take_spool_in(path)
        missing = look(path, theirs, configuration, clock()).missing
        log.info("fail2ban's database: %s bans were missing in the store", len(missing))
        append_events(path, [missing])
        known = look(path, theirs, configuration, clock())
        with Lookup(path) as store:
            added = store.ids(missing)
        return Known(known.events, (), added, _silent_jails(path, missing))
    except (SourceError, StoreError) as error:
        # send itself reports an unusable store
        log.info("no comparison with fail2ban's database: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return None


def _bans(theirs: sqlite3.Connection, configuration: Configuration, since: float) -> Sequence[Event]:
    """Return the database's bans since that time."""
    wanted, path = configuration.jails.values(), configuration.fail2ban_database
    bans = database.rows(theirs, path, configuration.host, Tally(), history=False, since=since)
    return [ban for ban in bans if any(matches(ban.jail, patterns) for patterns in wanted)]


def _compare(store: Lookup, bans: Iterable[Event], since: float, until: float) -> Known:
    """Look each ban up, ignoring the host's name: it may differ between configuration and action."""
    events: dict[int, str] = {}
    missing: list[Event] = []
    for ban in bans:
        found = store.ban(ban)
        if found is None:
            missing += [ban] if since <= ban.at <= until else []
        elif not found.history:
            events[found.id] = ban.jail
    return Known(events, tuple(missing))


def _silent_jails(path: Path, missing: Sequence[Event]) -> tuple[str, ...]:
    """Return the jails that never recorded, or not since they missed two bans; a single one can be an accident."""
    times: dict[str, list[float]] = {}
    for ban in missing:
        times.setdefault(ban.jail, []).append(ban.at)
    with Lookup(path) as store:
        last = {jail: store.last_by_fail2ban(jail) for jail in times}
    return tuple(jail for jail, at in sorted(times.items()) if _is_silent(last[jail], at))


def _is_silent(last: float | None, missing: Sequence[float]) -> bool:
    return last is None or (len(missing) > 1 and last < min(missing))
