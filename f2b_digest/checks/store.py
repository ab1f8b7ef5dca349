"""Checks of the store's file as the sending user: integrity, owner, WAL, space, and clock."""

import logging
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from f2b_digest import reconcile, recorder
from f2b_digest.checks.finding import Finding, error, ok, warning
from f2b_digest.config import Configuration
from f2b_digest.errors import F2bDigestError, StoreError
from f2b_digest.fail2ban.history import SourceError
from f2b_digest.host import Snapshot
from f2b_digest.store import HOW_TO_RECOVER, Store, damage, fault, is_there, no_store, refusal

log = logging.getLogger(__name__)

LITTLE, TOO_LITTLE = 100 * 2**20, 2**20
"""Thresholds of free bytes on the store's disk: below the second, new bans go to the spool's reserve of 256 KiB."""
CLOCK_TOLERANCE = 60.0
"""Tolerance in seconds for times in the future."""


def file(path: Path) -> Iterator[Finding]:
    """Check the file and its folder, with SQLite's own check only."""
    try:
        if not is_there(path):
            yield error("store", str(no_store(path)))
            return
        yield from _space(path.parent)
        yield from _owner(path)
        marked = damage(path)
        if marked:
            yield error("store", f"{path} was set aside as damaged ({marked})", HOW_TO_RECOVER)
            return
        found = fault(path)
        if found:
            yield error("store", f"{path} is damaged ({' '.join(found.split())})", HOW_TO_RECOVER)
            return
        refused = refusal(path)
        if refused:
            if _free(path.parent) < TOO_LITTLE:
                yield error("store", refused, "free disk space")
            else:
                yield error("store", f"not writable by this user: {refused}", "run this as the store's owner")
    except StoreError as refused_to_read:
        yield error("store", str(refused_to_read))
    except OSError as unreadable:
        yield error("store", f"{unreadable.filename}: {unreadable.strerror}", "run this as root")


def _space(folder: Path) -> Iterator[Finding]:
    free = _free(folder)
    text = f"{folder}: {free / 2**20:,.1f} MiB free"
    if free < TOO_LITTLE:
        yield error("disk", text, "free space: new bans go to the spool's reserve, which holds about 800")
    elif free < LITTLE:
        yield warning("disk", text, "free space before it is full")
    else:
        yield ok("disk", text)


def _free(folder: Path) -> int:
    """Return the free bytes on a folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _owner(path: Path) -> Iterator[Finding]:
    mine, folder = path.stat(), path.parent.stat()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(recorder.spool_path(str(path)))):
        if name.exists() and name.stat().st_uid != folder.st_uid:
            owner, wanted = user(name.stat().st_uid), user(folder.st_uid)
            yield error("store", f"{name} belongs to {owner}, its folder to {wanted}", f"chown {wanted} {name}")
    if mine.st_mode & 0o007:
        yield warning("store", f"{path} is world-readable, with log lines and user names", f"chmod o= {path}")


def owner(path: Path) -> str:
    """Return the owner of the store's folder, to whom root switches before opening the store; "" if there is none."""
    try:
        return user(path.parent.stat().st_uid)
    except OSError:  # reported by the check of the store
        log.debug("%s cannot be seen", path.parent, exc_info=True)
        return ""


def user(number: int) -> str:
    """Return a user's name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def compared(configuration: Configuration, path: Path, theirs: Snapshot, now: float) -> Iterator[Finding]:
    """Compare the store with fail2ban's own database, if there is one."""
    what, place = "fail2ban's database", configuration.fail2ban_database
    try:
        if theirs.connection is None:
            raise SourceError(f"{place}: {theirs.reason}")
        known = reconcile.look(path, theirs.connection, configuration, now)
    except F2bDigestError as refused:
        todo = "run this as root, or set fail2ban_database; until then send skips the comparison"
        yield warning(what, str(refused), todo)
        return
    if known.missing:
        jails = ", ".join(sorted({ban.jail for ban in known.missing}))
        count = len(known.missing)
        text = f"{place}: {count} {'ban' if count == 1 else 'bans'} of {jails} missing from the store"
        yield warning(what, text, "the next send adds them; check that each jail has the f2b-digest action")
    else:
        count = len(known.events)
        text = f"all {count} bans recorded" if count else "no bans to compare yet"
        yield ok(what, f"{place}: {text}")


def content(store: Store, now: float) -> Iterator[Finding]:
    """Check the store's content and its spool."""
    journal = store.journal()
    if journal == "wal":
        yield ok("store", f"{store.path}: intact, {store.path.stat().st_size / 1e6:.1f} MB, WAL")
    else:
        yield warning("store", f"{store.path} is in mode {journal}, not WAL", "the next ban switches it")
    ahead = store.newest() - now
    if ahead > CLOCK_TOLERANCE:
        text = f"the store has events {ahead:,.0f} s in the future: the clock is slow, or was fast"
        yield error("clock", text, "set it by NTP (timedatectl set-ntp true)")
    waiting = recorder.spooled(str(store.path))
    if waiting:
        yield warning(
            "spool", f"{waiting} events wait in {recorder.spool_path(str(store.path))}", "run f2b-digest send"
        )
    torn = Path(recorder.spool_path(str(store.path)) + ".torn")
    if os.path.exists(torn):  # noqa: PTH110 - never raises
        yield warning("spool", f"{torn} holds incomplete lines", "check and delete it")
    for status, finding in (("deferred", warning), ("failed", error)):
        rows = [row for row in store.undelivered() if row.attempts and row.status == status]
        if rows:
            text = f"{len(rows)} {status}, the last by {rows[-1].channel} to {rows[-1].recipient}: {rows[-1].error}"
            yield finding("deliveries", text, "see f2b-digest status")
