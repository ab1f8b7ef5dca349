"""What starts `send`: the tables of cron, or systemd's timers, read from their files; and whether their daemon runs."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from f2b_digest.composition import pending
from f2b_digest.config import Configuration
from f2b_digest.doctor.finding import Finding, ago, error, ok, span, warning
from f2b_digest.doctor.storage import user
from f2b_digest.errors import StoreError
from f2b_digest.store import Store

ROOT = Path("/")
SYSTEM_TABLES = ("etc/crontab", "etc/cron.d/*")
USER_TABLES = ("var/spool/cron/crontabs/*", "var/spool/cron/*")
FOLDERS = {"etc/cron.hourly/*": "@hourly", "etc/cron.daily/*": "@daily", "etc/cron.weekly/*": "@weekly"}
TIMERS = ("etc/systemd/system/*.timer", "usr/lib/systemd/system/*.timer", "lib/systemd/system/*.timer")
DAEMONS = frozenset({"cron", "crond", "fcron", "anacron", "systemd-cron"})
CRON_PATH = "/usr/bin:/bin"
"""Where cron looks for programs if its table says nothing."""
COMMAND = re.compile(r"(\S*f2b-digest)\s(?:[^|;&>]*?\s)??(send|retry)\b([^|;&>]*)")
HOUR, DAY = 3600.0, 86400.0
PERIODS = {
    "hourly": HOUR, "daily": DAY, "midnight": DAY, "weekly": 7 * DAY, "monthly": 31 * DAY, "yearly": 366 * DAY,
    "annually": 366 * DAY,
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One line that starts our program."""

    table: Path
    when: str
    user: str
    program: str
    verb: str
    reports: tuple[str, ...]
    """None at all means each of them."""
    path: str
    """Where its daemon looks for the program."""
    by_cron: bool = True

    @property
    def period(self) -> float:
        """Return the longest time between two runs, in seconds, as far as one can tell without a calendar."""
        if self.when.startswith("@"):
            return PERIODS.get(self.when[1:].lower(), DAY)
        fields = self.when.split()
        if len(fields) != 5:
            return PERIODS.get(self.when.lower(), DAY)
        _, hours, days, _, weekdays = fields
        if weekdays != "*":
            return 7 * DAY if weekdays.isalnum() else 3 * DAY
        if days != "*":
            return 31 * DAY if days.isdigit() else 7 * DAY
        return DAY if hours.isdigit() else HOUR if hours == "*" else DAY / 2


@dataclass(frozen=True)
class Tables:
    """All that starts our program, and what keeps its tables from being read."""

    jobs: tuple[Job, ...]
    faults: tuple[Finding, ...]
    hidden: bool
    """Some tables are not for this user to read: what is not found may be there."""

    def senders(self, report: str) -> list[Job]:
        """Return what sends a report."""
        return [job for job in self.jobs if job.verb == "send" and (not job.reports or report in job.reports)]

    def period(self, report: str) -> float:
        """Return how many seconds lie between a report's digests; where nothing sends it, what its name promises."""
        return min((job.period for job in self.senders(report)), default=PERIODS.get(report, DAY))


def read() -> Tables:
    """Read every table that this user may read."""
    jobs: list[Job] = []
    faults: list[Finding] = []
    hidden = False
    for pattern in (*SYSTEM_TABLES, *USER_TABLES, *FOLDERS, *TIMERS):
        folder, _, name = pattern.rpartition("/")
        if (ROOT / folder).is_dir() and not os.access(ROOT / folder, os.R_OK | os.X_OK, effective_ids=True):
            hidden = True
            continue
        for table in sorted((ROOT / folder).glob(name)):
            try:
                text = table.read_text(encoding="utf-8", errors="replace") if table.is_file() else ""
            except OSError:
                hidden = True
                continue
            found = _timer(table, text) if pattern in TIMERS else list(_jobs(table, text, pattern))
            jobs += found
            if found and pattern in SYSTEM_TABLES:
                faults += _ignored(table, text)
            if found and pattern in FOLDERS and not os.access(table, os.X_OK):
                faults.append(error("cron", f"{table} is no program, and is not run", f"chmod 755 {table}"))
    return Tables(tuple(jobs), tuple(faults), hidden)


def _jobs(table: Path, text: str, pattern: str) -> Iterator[Job]:
    path = CRON_PATH
    for raw in text.splitlines():
        line = raw.strip()
        setting = re.fullmatch(r"PATH\s*=\s*[\"']?([^\"']*)[\"']?", line)
        if setting:
            path = setting[1]
        if not line or line.startswith("#"):
            continue
        found = COMMAND.search(line)
        if not found:
            continue
        reports = tuple(word for word in found[3].split() if re.fullmatch(r"[\w.][\w.-]*", word))
        count = 1 if line.startswith("@") else 5
        words = line.split(None, count)
        when = FOLDERS.get(pattern) or " ".join(words[:count])
        owner = words[count].split()[0] if pattern in SYSTEM_TABLES else "root" if pattern in FOLDERS else table.name
        yield Job(table, when, owner, found[1], found[2], reports, path)


def _ignored(table: Path, text: str) -> Iterator[Finding]:
    """Say why cron would pass over a table of the system, without a word but in its log."""
    status = table.stat()
    if table.parent.name == "cron.d" and not re.fullmatch(r"[A-Za-z0-9_-]+", table.name):
        yield error("cron", f"{table}: cron ignores a file with such a name", "rename it to f2b-digest")
    if status.st_uid != table.parent.stat().st_uid or status.st_mode & 0o022:
        yield error(
            "cron", f"{table}: cron ignores what others than root can write", f"chown root {table}; chmod 644 {table}"
        )
    if not text.endswith("\n"):
        yield error("cron", f"{table}: its last line has no end, and cron ignores it", "end it with a line break")


def _timer(table: Path, text: str) -> list[Job]:
    """Return what a timer of systemd starts."""
    unit = re.search(r"^Unit\s*=\s*(\S+)", text, re.MULTILINE)
    service = table.with_name(unit[1] if unit else f"{table.stem}.service")
    try:
        lines = service.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = re.search(rf"^ExecStart\s*=\s*[-@:+!]*{COMMAND.pattern}", lines, re.MULTILINE)
    if not found:
        return []
    calendar = re.search(r"^OnCalendar\s*=\s*(\S+)", text, re.MULTILINE)
    owner = re.search(r"^User\s*=\s*(\S+)", lines, re.MULTILINE)
    when = calendar[1] if calendar else "daily"
    reports = tuple(word for word in found[3].split() if not word.startswith("-"))
    account = owner[1] if owner else "root"
    return [Job(table, when, account, found[1], found[2], reports, CRON_PATH, by_cron=False)]


# ---- what they amount to


def examine(
    configuration: Configuration, store: Store | None, path: Path, tables: Tables, now: float
) -> Iterator[Finding]:
    """Examine what sends each report: whether it is there, can be run, and was."""
    yield from tables.faults
    if any(job.by_cron for job in tables.jobs) and not _cron_runs():
        yield error("cron", "no cron daemon runs", "systemctl enable --now cron")
    for timer in sorted({job.table.name for job in tables.jobs if not job.by_cron}):
        if not _is_active(timer):
            yield error("timer", f"{timer} is not active", f"systemctl enable --now {timer}")
    yield from {finding: None for job in tables.jobs for finding in _job(job, path)}
    for name in configuration.reports:
        jobs = tables.senders(name)
        if jobs:
            when = f"{jobs[0].table}: {jobs[0].when}, as {jobs[0].user}"
            yield ok(f"report {name}", f"sent by {when}")
            if store:
                yield from _overdue(configuration, store, name, tables.period(name), now)
        elif tables.hidden:
            yield warning(f"report {name}", "nothing that this user may read sends it", "run this as root")
        else:
            text = "neither cron nor a timer sends it"
            todo = f"copy cron/f2b-digest to /etc/cron.d, with a line of: f2b-digest send {name}"
            yield error(f"report {name}", text, todo)
    if tables.jobs and not any(job.verb == "retry" for job in tables.jobs):
        todo = "add the line of cron/f2b-digest that does"
        yield warning("cron", "nothing runs f2b-digest retry: what is deferred waits for the next send", todo)


def _job(job: Job, store: Path) -> Iterator[Finding]:
    if shutil.which(job.program, path=job.path) is None:
        text = f"{job.table}: {job.program} is not found in {job.path}"
        yield error(
            "cron" if job.by_cron else "timer", text, "give the program's whole path, or set PATH= in the table"
        )
    try:
        owner = user(store.parent.stat().st_uid)
    except OSError:  # the store's own examination says so
        return
    if job.user not in ("root", owner):
        text = f"{job.table}: {job.user} cannot write to the store in {store.parent}"
        yield error("cron" if job.by_cron else "timer", text, f"let root run it, or {owner}")


def _overdue(configuration: Configuration, store: Store, name: str, period: float, now: float) -> Iterator[Finding]:
    report = configuration.reports[name]
    try:
        waiting = store.pending(pending(store, name, report))
    except StoreError as refused:
        yield error(f"report {name}", str(refused))
        return
    if waiting.since is not None and waiting.bans >= report.min_bans and now - waiting.since > 2 * period:
        text = f"{waiting.bans} bans are pending, the first since {ago(now - waiting.since)}, though it is sent every "
        yield error(f"report {name}", text + span(period), "run f2b-digest send by hand, and look into cron's log")


def _cron_runs() -> bool:
    return any(_name(comm) in DAEMONS for comm in (ROOT / "proc").glob("[0-9]*/comm"))


def _name(comm: Path) -> str:
    try:
        return comm.read_text().strip()
    except OSError:  # it ended meanwhile
        return ""


def _is_active(unit: str) -> bool:
    try:
        return subprocess.run(["systemctl", "is-active", "--quiet", unit], timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
