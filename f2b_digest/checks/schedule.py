"""Checks of what starts `send`: cron tables and systemd timers, found in their files and tried as their daemon would.

Their times are not parsed: the store records when each report was sent.
"""

import logging
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from f2b_digest.checks.finding import Finding, error, ok, warning
from f2b_digest.installation import CRON_FILE, crontab
from f2b_digest.installation.crontab import Job

log = logging.getLogger(__name__)

ROOT = Path("/")
SYSTEM_TABLES = ("etc/crontab", "etc/cron.d/*")
USER_TABLES = ("var/spool/cron/crontabs/*", "var/spool/cron/*", "etc/crontabs/*")
FOLDERS = (
    *(f"etc/cron.{often}/*" for often in ("hourly", "daily", "weekly", "monthly")),
    *(f"etc/periodic/{often}/*" for often in ("15min", "hourly", "daily", "weekly", "monthly")),  # busybox's crond
)
UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
DAEMONS = frozenset({"cron", "crond", "fcron", "anacron", "systemd-cron"})
PATIENCE = 60.0
"""Timeout in seconds for the program's status."""


@dataclass(frozen=True)
class Found:
    """A table or a timer, and one of the commands that it starts."""

    table: Path
    job: Job
    timer: str = ""
    """The unit's name; empty for cron."""
    of_system: bool = True
    """Whether only root can have put it there."""

    @property
    def what(self) -> str:
        """Return the `what` of a finding about this."""
        return "timer" if self.timer else "cron"


@dataclass(frozen=True)
class Schedules:
    """Everything that starts our program, and problems with it."""

    found: tuple[Found, ...]
    faults: tuple[Finding, ...]
    hidden: bool
    """Whether some tables are unreadable for this user, so that entries may be missing."""

    def senders(self, report: str) -> list[Found]:
        """Return the entries that send a report."""
        jobs = [found for found in self.found if found.job.verb == "send"]
        return [found for found in jobs if not found.job.reports or report in found.job.reports]


def look() -> Schedules:
    """Read every readable table, and try each command that starts our program as its daemon would."""
    found, faults, hidden = read()
    if any(not each.timer for each in found) and not _cron_runs():
        faults.append(error("cron", "no cron daemon is running", "systemctl enable --now cron"))
    for timer in sorted({each.timer for each in found if each.timer}):
        if not _is_active(timer):
            faults.append(error("timer", f"{timer} is not active", f"systemctl enable --now {timer}"))
    different = {replace(each.job, verb="", reports=()): each for each in reversed(found)}
    tried = (finding for each in different.values() for finding in _tried(each))
    return Schedules(tuple(found), (*faults, *tried), hidden)


# ---- the tables


def read() -> tuple[list[Found], list[Finding], bool]:
    """Return the entries that start our program, why cron skips tables, and whether some could not be read."""
    found: list[Found] = []
    faults: list[Finding] = []
    hidden = False
    for pattern in (*SYSTEM_TABLES, *USER_TABLES, *FOLDERS):
        folder, _, name = pattern.rpartition("/")
        if _is_closed(ROOT / folder):
            hidden = True
            continue
        for table in sorted((ROOT / folder).glob(name)):
            try:
                text = table.read_text(encoding="utf-8", errors="replace") if table.is_file() else ""
            except OSError:
                log.debug("%s cannot be read", table, exc_info=True)
                hidden = True
                continue
            here = list(_table(table, text, pattern))
            found += here
            faults += _ignored(table, text, pattern) if here else ()
    return [*found, *_timers()], faults, hidden


def _is_closed(folder: Path) -> bool:
    """Return whether a folder is there, and this user may not list it, or not even see it."""
    try:
        return folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK, effective_ids=True)
    except OSError:
        log.debug("%s cannot be seen", folder, exc_info=True)
        return True


def _table(table: Path, text: str, pattern: str) -> Iterator[Found]:
    if pattern in FOLDERS:
        commands = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        matches = filter(None, map(crontab.COMMAND.search, commands))
        yield from (Found(table, crontab.job(match, "root", crontab.PATH)) for match in matches)
        return
    of_system = pattern in SYSTEM_TABLES
    for job in crontab.jobs(text, with_user=of_system):
        yield Found(table, job if of_system else replace(job, user=table.name), of_system=of_system)


def _ignored(table: Path, text: str, pattern: str) -> Iterator[Finding]:
    """Report why cron would skip a system table, which it only logs."""
    if pattern in FOLDERS and not os.access(table, os.X_OK):
        yield error("cron", f"{table} is not executable, so cron skips it", f"chmod 755 {table}")
    if pattern not in SYSTEM_TABLES:
        return
    status = table.stat()
    if table.parent.name == "cron.d" and not re.fullmatch(r"[A-Za-z0-9_-]+", table.name):
        yield error("cron", f"{table}: cron ignores files with this name", "rename it to f2b-digest")
    if status.st_uid != table.parent.stat().st_uid or status.st_mode & 0o022:
        yield error(
            "cron",
            f"{table}: cron ignores files that users other than root can write",
            f"chown root {table}; chmod 644 {table}",
        )
    if not text.endswith("\n"):
        yield error("cron", f"{table}: its last line has no newline, so cron ignores it", "add a newline at the end")


def _timers() -> Iterator[Found]:
    """Yield what systemd timers start: the admin's, and enabled ones from templates and packages."""
    names = {table.name for table in (ROOT / UNITS[0]).glob("*.timer") if "@." not in table.name}
    names |= {link.name for folder in UNITS for link in (ROOT / folder).glob("*.wants/*.timer")}
    for name in sorted(names):
        instance = name.partition("@")[2].removesuffix(".timer")
        table = _unit(name)
        started = re.search(r"^Unit\s*=\s*(\S+)", _text(table), re.MULTILINE)
        service = _text(_unit(started[1] if started else name.removesuffix("timer") + "service"))
        service = service.replace("%i", instance).replace("%I", instance)
        command = re.search(rf"^ExecStart\s*=\s*[-@:+!]*{crontab.COMMAND.pattern}", service, re.MULTILINE)
        user = re.search(r"^User\s*=\s*(\S+)", service, re.MULTILINE)
        if command and table:
            yield Found(table, crontab.job(command, user[1] if user else "root", crontab.PATH), name)


def _unit(name: str) -> Path | None:
    """Return a unit's file, or that of its template."""
    template = re.sub(r"@[^.]+\.", "@.", name)
    places = (ROOT / folder / each for each in (name, template) for folder in UNITS)
    return next((place for place in places if os.path.exists(place)), None)  # noqa: PTH110 - never raises


def _text(unit: Path | None) -> str:
    try:
        return unit.read_text(encoding="utf-8", errors="replace") if unit else ""
    except OSError:
        log.debug("%s cannot be read", unit, exc_info=True)
        return ""


# ---- tried as their daemon would


def _tried(found: Found) -> Iterator[Finding]:
    """Report why a daemon could not run a command."""
    job = found.job
    if shutil.which(job.program.split()[0], path=job.path) is None:
        todo = "use the program's full path, or set PATH= in the table"
        yield error(found.what, f"{found.table}: {job.program} is not found in {job.path}", todo)
        return
    if os.geteuid() not in (0, _number(job.user)) or not _is_own(found.table):
        return
    trouble = trial(f"{job.program} {job.options} status", job.user, job.path)
    if trouble:
        text = f"{found.table}: {job.user} cannot run {job.program}: {trouble}"
        yield error(found.what, text, "fix this: until then nothing is sent")


def trial(command: str, user: str, path: str = crontab.PATH) -> str:
    """Run a command as cron would for a user (root or this one), and return the error, or ""."""
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        return f"no user {user}"
    environment = {
        "PATH": path, "SHELL": "/bin/sh", "HOME": account.pw_dir, "LOGNAME": user, "USER": user, "LANG": "C.UTF-8",
    }  # fmt: skip
    groups = os.getgrouplist(user, account.pw_gid) if os.geteuid() == 0 else None
    number, group = (account.pw_uid, account.pw_gid) if os.geteuid() == 0 else (None, None)
    try:
        done = subprocess.run(  # noqa: S603 - a command of cron's, as cron runs it
            ["/bin/sh", "-c", command], user=number, group=group, extra_groups=groups, cwd="/", env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            check=False, timeout=PATIENCE, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as refused:
        log.debug("%s", command, exc_info=True)
        return str(refused)
    log.info("as %s: %s: exit status %d", user, command, done.returncode)
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    return "" if done.returncode == 0 else " ".join(lines[-1].split())


def _is_own(table: Path) -> bool:
    """Return whether only this user can write to a table; others' commands are not run."""
    try:
        status = table.stat()
    except OSError:
        log.debug("%s is gone", table, exc_info=True)
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _number(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _cron_runs() -> bool:
    return any(_name(comm) in DAEMONS for comm in (ROOT / "proc").glob("[0-9]*/comm"))


def _name(comm: Path) -> str:
    try:
        return comm.read_text().strip()
    except OSError:  # it has ended meanwhile
        return ""


def _is_active(unit: str) -> bool:
    try:
        return subprocess.run(["systemctl", "is-active", "--quiet", unit], timeout=10, check=False).returncode == 0  # noqa: S603, S607 - fixed words
    except (OSError, subprocess.TimeoutExpired):
        log.debug("systemctl is-active %s", unit, exc_info=True)
        return False


# ---- findings


def examine(schedules: Schedules, reports: Mapping[str, str], owner: str) -> Iterator[Finding]:
    """Check what starts each report; `reports` has the last runs of each one, in words.

    `owner` owns the store's folder: root switches to that user before sending. At a fleet's centre it is "".
    """
    yield from schedules.faults
    yield from {finding: None for found in schedules.found for finding in _user(found, owner)} if owner else ()
    for name, told in reports.items():
        last = told and f"; {told}"
        senders = schedules.senders(name)
        if senders:
            yield ok(f"report {name}", f"started by {senders[0].table}, {_as(senders[0].job.user, owner)}{last}")
        elif schedules.hidden:
            yield warning(f"report {name}", f"no schedule readable by this user sends it{last}", "run this as root")
        else:
            todo = f"copy cron/f2b-digest to {CRON_FILE.rpartition('/')[0]}, with a line of: f2b-digest send {name}"
            yield error(f"report {name}", f"not scheduled by cron or a timer{last}", todo)
    if schedules.found and not any(found.job.verb == "retry" for found in schedules.found):
        todo = "add the retry line of cron/f2b-digest"
        yield warning("cron", "f2b-digest retry is not scheduled: deferred deliveries wait for the next send", todo)


def _as(user: str, owner: str) -> str:
    return f"as {user}, switching to {owner}" if user == "root" and owner not in ("", "root") else f"as {user}"


def _user(found: Found, owner: str) -> Iterator[Finding]:
    """Report a user who cannot send properly."""
    user = found.job.user
    if user == "root" or (user == owner and not found.of_system):
        return
    if user == owner:
        text = f"{found.table}: {user} runs send, but can read neither fail2ban's server and database nor the logins"
        todo = "f2b-digest setup (starts as root, then switches to that user)"
        yield warning(found.what, text, todo if "f2b-digest" in found.table.name else f"run it as root: {todo}")
    else:
        text = f"{found.table}: {user} cannot write to the store, which belongs to {owner}"
        yield error(
            found.what, text, f"run it as root, which switches to {owner}" if owner != "root" else "run it as root"
        )
