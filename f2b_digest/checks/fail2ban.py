"""Checks of the running fail2ban-server: its jails, and whether each records its bans here."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from f2b_digest import resources
from f2b_digest.checks.finding import Finding, ago, error, ok, warning
from f2b_digest.config import Configuration
from f2b_digest.errors import SetupError
from f2b_digest.fail2ban import jails as fail2ban_jails
from f2b_digest.fail2ban.client import CRON, Client, NoAnswerError
from f2b_digest.model.selection import matches
from f2b_digest.store import Last, Store

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Timeout in seconds for each answer; fail2ban-client takes 0.2 s to start."""
RECENT = 30 * 86400.0
"""Seconds for which a vanished jail is reported."""
RESTART = "then systemctl restart fail2ban (a reload drops a new action)"
FOLDER = Path("/etc/fail2ban/action.d")
NAME = "f2b-digest.py"


@dataclass(frozen=True)
class Answers:
    """The server's answers, and the state of the action's file."""

    jails: dict[str, str | None] = field(default_factory=dict)
    """The running jails with the store that each records to; None: it has no action of ours."""
    silence: str = ""
    """Why it did not answer."""
    file: Path | None = None
    """Our action's, if it is there."""
    written: float = 0.0
    """The file's mtime in UTC epoch seconds; a backup may change the ctime each night."""
    outdated: bool = False
    """Whether it differs from this program's."""


def look(socket: Path | None) -> Answers:
    """Query the server, in three sessions for all jails, only for what exists."""
    client = Client(*(("-s", socket) if socket else ()), patience=PATIENCE, environment=CRON)
    file, written, outdated = _file()
    try:
        return Answers(fail2ban_jails.stores(client, client.jails()), "", file, written, outdated)
    except (NoAnswerError, SetupError) as silence:
        log.info("fail2ban does not answer: %s", silence)
        reason = silence.reason if isinstance(silence, NoAnswerError) else str(silence)
        return Answers({}, reason, file, written, outdated)


def _file() -> tuple[Path | None, float, bool]:
    file = FOLDER / NAME
    try:
        outdated = file.read_bytes() != (resources.folder("action.d") / NAME).read_bytes()
        return file, file.stat().st_mtime, outdated
    except OSError:
        log.debug("%s cannot be read", file, exc_info=True)
        return None, 0.0, False


def examine(
    configuration: Configuration, store: Store | None, path: Path, answers: Answers, now: float
) -> Iterator[Finding]:
    """Check each running jail, and report those that recorded recently but no longer run."""
    if answers.file and answers.outdated:
        todo = f"f2b-digest setup, {RESTART}"
        yield warning("action", f"{answers.file} is from another version of f2b-digest", todo)
    if answers.silence:
        todo = "run this as root" if "ermission" in answers.silence else "start it: systemctl start fail2ban"
        yield error("fail2ban", answers.silence, todo)
        return
    if answers.jails:
        yield ok("fail2ban", f"running, jails: {len(answers.jails)}")
    else:
        yield error("fail2ban", "running, but no jail is enabled", "enable one in jail.local")
    last = store.last_events() if store else None
    for jail, records_to in answers.jails.items():
        yield _jail(jail, records_to, path, last, now)
    yield from _gone(configuration, answers, last or {}, now)
    if store:
        yield from _loaded(answers, store, now)


def _gone(configuration: Configuration, answers: Answers, last: dict[str, Last], now: float) -> Iterator[Finding]:
    for jail, event in last.items():
        if jail not in answers.jails and now - event.at < RECENT:
            text = f"is not running any more; last event ({event.kind}) was {ago(now - event.at)}"
            yield warning(f"jail {jail}", text, "if that is not intended, enable it in jail.local")
    for name, report in configuration.reports.items():
        if answers.jails and not any(matches(jail, report.jails) for jail in (*answers.jails, *last)):
            yield warning(
                "configuration", f"report {name} matches none of the running jails", f"see reports.{name}.jails"
            )


def _jail(jail: str, records_to: str | None, path: Path, last: dict[str, Last] | None, now: float) -> Finding:
    what = f"jail {jail}"
    event = last.get(jail) if last is not None else None
    told = "" if last is None else f"; last event {ago(now - event.at)}" if event else "; nothing recorded yet"
    if records_to is None:
        return error(
            what, f"bans without the f2b-digest action{told}", f"add f2b-digest.py[…] to its action, {RESTART}"
        )
    if Path(records_to).resolve() != path.resolve():
        text = f"records to {records_to}, but this configuration reads {path}"
        return error(what, text, f"set both to the same path, {RESTART}")
    return ok(what, f"records{told}")


def _loaded(answers: Answers, store: Store, now: float) -> Iterator[Finding]:
    """Report jails started before the action's file was updated: fail2ban reads it when a jail starts."""
    if not answers.file or answers.outdated:
        return
    older = []
    for jail, changes in store.starts_and_stops(["*"], now).items():
        started = max((at for kind, at in changes if kind == "start"), default=None)
        if answers.jails.get(jail) and started is not None and started < answers.written:
            older.append(jail)
    if older:
        text = f"{', '.join(sorted(older))} started before {answers.file} was updated and may run the old version"
        yield warning("action", text, "systemctl restart fail2ban (bans stay)")
