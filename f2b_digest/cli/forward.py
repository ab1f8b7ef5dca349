"""`forward`: upload new events to the fleet's centre. Little is loaded: cron asks every few minutes."""

import os
import re
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from f2b_digest import privileges, recorder, resources
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program, complain, say
from f2b_digest.cli.record import settings
from f2b_digest.errors import CentreError, ConfigurationError, F2bDigestError, StoreError, unreadable
from f2b_digest.store import Uploads, only_upload

if TYPE_CHECKING:
    from f2b_digest.analysis import OwnAddresses
    from f2b_digest.config import Configuration
    from f2b_digest.fleet.credential import Credential
    from f2b_digest.fleet.forward import Result

DAY = 86400.0
SPREAD = 240
"""Seconds over which the uploads of a fleet's hosts are spread."""
FIRST_WAIT, LONGEST_WAIT = 300.0, 3600.0
"""Seconds between scheduled attempts while the centre is unreachable; doubled after each."""
# A restart of the centre must not cause a mail from every host.
PATIENCE = 3600.0
"""Seconds after which a scheduled run reports an unreachable centre."""
AGAIN = 86400.0
"""Seconds after which that is reported again."""
LOOK_AGAIN = 3600.0
"""Seconds after which fail2ban is asked for its jails again."""
QUIET = 9 * 60.0
"""Seconds after an answer in which a scheduled run with nothing to upload asks nothing: every second run."""
NOTHING, LOOK, WAIT, REST, OLD = 0, 1, 2, 4, 8
MISSING = "the fleet extra is not installed: pip install 'f2b-digest[fleet]'"
MISSING_LIBRARY = "PostgreSQL's client library is missing: apt install libpq5"


@click.command()
@click.option("--scheduled", is_flag=True, help="For cron: wait until this host's own second, and tolerate a "
              "centre that is away.")  # fmt: skip
@click.pass_obj
def command(program: Program, scheduled: bool) -> None:
    """Upload new events to the fleet's centre.

    For cron, every few minutes, on a host that joined a fleet. Silent if all went well. What the centre has not
    acknowledged stays in the store, whatever its age; what it has is dropped after `keep` on a host without reports of
    its own. With --scheduled, an unreachable centre is tried less and less often, down to once an hour, and reported
    after an hour, and then once a day; one that answered lately is asked only if there is something to upload.

    \b
    Exit status: 0 the centre has everything; 75 it is unreachable, or has no quota left
    today: the next run continues; 1 it refuses this host.
    Example:   f2b-digest forward
    """  # noqa: D301 - click wants the character, not its name
    file = credential_file(program)
    try:
        file.stat()
    except FileNotFoundError:
        raise ConfigurationError(
            [f"{file} is missing: this host has not joined a fleet (f2b-digest fleet join)"]
        ) from None
    except OSError as error:
        raise ConfigurationError([unreadable(file, error)]) from None
    configured = settings(program.config)
    path = program.store_path(configured.get("store"))
    if scheduled:
        time.sleep(zlib.crc32(os.uname().nodename.encode()) % SPREAD)
    now, keep = program.clock(), _keep(configured)
    what = privileges.as_owner(path, lambda: _what(path, now, scheduled, keep))
    if what == WAIT:
        sys.exit(75)
    if what == REST:  # so far, nothing is loaded that this can do without
        return
    from f2b_digest.fleet import credential

    kept = credential.read(file)
    assert kept is not None
    if not kept.by_ssh:
        need_psycopg()
    prunes = program.quiet_configuration() if what & OLD else None
    result = upload(program, kept, path, looks=bool(what & LOOK), scheduled=scheduled)
    if prunes and result:
        _prune(prunes, path, program.clock())
    for note in result.notes if result else ():
        complain(f"{path}: {note}")
    if program.verbose and result:
        say(f"{result.events} events uploaded")


def need_psycopg() -> None:
    """Raise ConfigurationError where the extra for fleets is not installed."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise ConfigurationError([MISSING_LIBRARY if resources.packaged() else MISSING]) from None


def credential_file(program: Program) -> Path:
    """Return the path of a host's credential for the centre: beside the configuration."""
    name = resources.CREDENTIAL
    if program.config:
        return program.config.absolute().parent / name
    if os.geteuid() == 0:
        return Path("/etc/f2b-digest") / name
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "f2b-digest" / name


def upload(
    program: Program, kept: "Credential", path: Path, *, looks: bool, scheduled: bool = False, told: bool = False
) -> "Result | None":
    """Upload as the store's owner, and return what was done; None if another upload is running.

    With `looks`, this host's own addresses and its jails are read first. `told` says that all that was recorded before
    the first upload is told by this host's own reports. Raises CentreError, with its
    status; in a scheduled run silently, if it need not be reported yet.
    """
    from f2b_digest.fleet import forward, state

    seen = _Look(program, path) if looks else None
    program.become_owner(path)
    with only_upload(path) as alone:
        if not alone:
            import logging

            logging.getLogger(__name__).info("another upload of %s is running", path)
            return None
        now = program.clock()
        spooled = _take_spool_in(path)
        with Uploads(path) as uploads:
            uploads.join(now, told=told)
            own = seen.read(uploads, now) if seen else None
            try:
                result = forward.forward(
                    uploads,
                    kept,
                    lambda until: state.told(uploads, program.clock(), until),
                    lambda event: state.verdict(own, event) if own else None,
                    now,
                    spooled=spooled,
                )
            except CentreError as error:
                _failed(uploads, error, now, scheduled=scheduled)
            uploads.reached(program.clock())
            return result


def _keep(configured: dict[str, Any]) -> float | None:
    """Return for how many seconds a host without reports keeps events; None for any other host.

    By the configuration as it stands: it is loaded only if something is to be dropped.
    """
    found = re.fullmatch(r"(\d{1,5})([dw])", str(configured.get("keep", "400d")))
    if configured.get("reports") != {} or found is None:
        return None
    return int(found[1]) * DAY * (7 if found[2] == "w" else 1)


def _prune(configuration: "Configuration", path: Path, now: float) -> None:
    """Drop what the centre has and is older than `keep`, unless a sender is at work."""
    from f2b_digest.cli.send import tidy
    from f2b_digest.store import Store, sender_lock

    with sender_lock(path, 0) as alone:
        if alone:
            with Store(path, read_only=False) as store:
                tidy(store, configuration, now)


def _what(path: Path, now: float, scheduled: bool, keep: float | None) -> int:
    """Return WAIT if it is too early for another attempt, and REST if there is nothing to say; or what is to be done.

    That is LOOK if this host must be examined first, and OLD if something is a day older than `keep`.
    """
    try:
        if recorder.look(str(path)) is None:
            return LOOK
        with Uploads(path) as uploads:
            known = uploads.join(now)
            if scheduled and now < known.next_at <= now + 2 * LONGEST_WAIT:
                return WAIT
            oldest = uploads.oldest()
            old = OLD if keep is not None and oldest is not None and oldest < now - keep - DAY else NOTHING
            waiting = uploads.events(known.acked.seq, 500)
            looked = known.looked_at is not None and now - LOOK_AGAIN < known.looked_at <= now
            if not looked or any(event["kind"] == "ban" for event in waiting):
                return LOOK | old
            lately = known.reached_at is not None and now - QUIET < known.reached_at <= now
            if scheduled and lately and not (waiting or old or known.failures or recorder.spooled(str(path))):
                return REST
            return old
    except (StoreError, recorder.ForeignStore):  # reported by the upload
        return NOTHING


def _take_spool_in(path: Path) -> bool:
    """Import the spool, unless a running send does; return whether it still has events."""
    if not recorder.spooled(str(path)):
        return False
    from f2b_digest.store import sender_lock, take_spool_in

    try:
        with sender_lock(path, 0) as alone:
            if alone and (torn := take_spool_in(path)):
                complain(f"{path}.spool.torn holds {torn} more incomplete lines; check and delete the file")
    except StoreError as error:
        complain(str(error))
    return bool(recorder.spooled(str(path)))


def _failed(uploads: Uploads, error: CentreError, now: float, *, scheduled: bool) -> None:
    """Record that the centre was not reached, and exit, with a message if it is due."""
    known = uploads.now()
    wait = min(FIRST_WAIT * 2 ** min(known.failures, 10), LONGEST_WAIT)
    news = known.told_at is None or not now - AGAIN < known.told_at <= now
    patient = error.away and known.reached_at is not None and now - PATIENCE < known.reached_at <= now
    tells = not scheduled or (news and not patient)
    # Cron's next run may be some seconds early, and must not be skipped.
    uploads.failed(str(error), now + wait - 60.0, now if tells else known.told_at)
    if tells:
        events = uploads.backlog().events
        complain(f"{error}; {plural(events, 'event is', 'events are')} kept here until the centre has them")
    sys.exit(error.exit_status)


class _Look:
    """The state of this host: gathered as root, parsed as the store's owner."""

    def __init__(self, program: Program, path: Path) -> None:
        """Query the host; configuration errors do not prevent the upload."""
        from f2b_digest import host
        from f2b_digest.checks import fail2ban

        self._path = path
        self._program = program
        self._gathered: Any = None
        try:
            self._configuration = program.quiet_configuration()
            self._since = program.clock() - 4 * 86400.0
            self._gathered = host.gather(self._configuration, self._since)
            answers = fail2ban.look(None)
            self._jails = answers.jails, answers.silence
        except F2bDigestError:
            import logging

            log = logging.getLogger(__name__)
            log.warning("this host was not looked at", exc_info=log.isEnabledFor(logging.DEBUG))

    def read(self, uploads: Uploads, now: float) -> "OwnAddresses | None":
        """Store fail2ban's answers about its jails, and return the own addresses."""
        if self._gathered is None:
            return None
        from f2b_digest import host
        from f2b_digest.analysis import OwnAddresses
        from f2b_digest.fleet import state

        uploads.looked(state.jails(*self._jails, self._path), now)
        known, _ = host.read(self._gathered, self._configuration, self._since, now)
        oldest = uploads.backlog().oldest
        return OwnAddresses(known, now if oldest is None else oldest, now)
