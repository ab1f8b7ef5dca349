"""The checks of `check`: each module here examines one part and yields findings with what to do.

Nothing is changed, sent or printed here, except requested test messages (`channels.send_tests`).
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from f2b_digest import composition
from f2b_digest.checks import channels, fail2ban, geoip, schedule, templates, uploads
from f2b_digest.checks import runs as checks_runs
from f2b_digest.checks import store as checks_store
from f2b_digest.checks.finding import Finding, error, ok, warning
from f2b_digest.config import Configuration
from f2b_digest.delivery.attempts import Clock
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban.failures import Log
from f2b_digest.host import Snapshot
from f2b_digest.model.host_context import UNKNOWN_HOST, HostContext
from f2b_digest.periods import DAY
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store

__all__ = ["Finding", "Host", "Subject", "error", "examine", "look", "ok", "warning"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """The installation to check."""

    configuration: Configuration
    source: Path | None
    """The configuration's file; None for built-in defaults."""
    store: Path
    clock: Clock
    renderer: Renderer
    """The configuration, with all files that it names."""
    host_context: HostContext = UNKNOWN_HOST
    database: Snapshot | None = None
    """fail2ban's."""
    log: Log | None = None
    """fail2ban's; None where no report has `failures`."""


@dataclass(frozen=True)
class Host:
    """What only root may see of the host: read before switching to the store's owner."""

    server: fail2ban.Answers
    schedules: schedule.Schedules


def look(socket: Path | None) -> Host:
    """Ask fail2ban's server (by its socket; None is its own default), and find what starts `send`. Takes seconds."""
    return Host(fail2ban.look(socket), schedule.look())


def examine(subject: Subject, host: Host) -> Iterator[Finding]:
    """Yield the findings, part by part; a failed part does not stop the others."""
    yield from _configuration(subject)
    usable = True
    for finding in checks_store.file(subject.store):
        usable = usable and finding.state != "error"
        yield finding
    store: Store | None = None
    try:
        store = Store(subject.store, read_only=True)
    except StoreError as refused:
        log.debug("%s cannot be opened", subject.store, exc_info=True)
        if usable:
            yield error("store", str(refused))
    try:
        yield from _rest(subject, store, host)
    finally:
        if store:
            store.close()


def _rest(subject: Subject, store: Store | None, host: Host) -> Iterator[Finding]:
    configuration, now = subject.configuration, subject.clock()
    if store:
        yield from checks_store.content(store, now)
        yield from uploads.examine(subject.store, now)
        if subject.database and composition.is_fed(store, subject.host_context):
            yield from checks_store.compared(configuration, subject.store, subject.database, now)
            yield from _unseen(subject.host_context)
            yield from _log(subject.log)
    yield from fail2ban.examine(configuration, store, subject.store, host.server, now)
    runs = {name: checks_runs.known(store, name, report) for name, report in configuration.reports.items()}
    told = {name: run.told(now) if store else "" for name, run in runs.items()}
    yield from schedule.examine(host.schedules, told, checks_store.owner(subject.store))
    if store:
        for name, run in runs.items():
            yield from checks_runs.examine(configuration, store, name, run, now)
    yield from geoip.examine(configuration, now)
    yield from templates.examine(configuration, subject.renderer)
    yield from channels.examine(configuration, {name: run.every or DAY for name, run in runs.items()}, subject.clock)


def _unseen(host_context: HostContext) -> Iterator[Finding]:
    """Report what the sender cannot read; fail2ban's server and database have their own findings."""
    if "logins" in host_context.unseen:
        text = "cannot read sshd's log (journal or syslog file): logins from banned addresses go unnoticed"
        yield warning("logins", text, "run send as root (f2b-digest setup); details: f2b-digest -v check")
    for what in ("addresses", "users"):
        if what in host_context.unseen:
            text = f"cannot read this host's {what}: bans of your own addresses may go unnoticed"
            yield warning(what, text, "details: f2b-digest -vv check")


def _log(log: Log | None) -> Iterator[Finding]:
    """Return whether fail2ban's log can be read, where a report has `failures`."""
    if log and log.files:
        yield ok("log", f"{log.files[0]} can be read, for reports with failures = true")
    elif log:
        text = f"reports with failures = true cannot count them: {log.reason}"
        yield warning("log", text, "let fail2ban log to a file at loglevel INFO, and root run send")


def _configuration(subject: Subject) -> Iterator[Finding]:
    configuration = subject.configuration
    reports = len(configuration.reports)
    found = f"{subject.source or 'built-in defaults'}: {reports} report{'s' * (reports != 1)}"
    yield ok("configuration", f"{found}, channels: {', '.join(configuration.channels) or 'none'}")
    for line in configuration.warnings:
        yield warning("configuration", line)
    for name, report in configuration.reports.items():
        if not report.channels:
            todo = f'add channels = ["…"] to reports.{name}'
            yield error("configuration", f"report {name} has no channel, so nobody would receive it", todo)
    used = {channel for report in configuration.reports.values() for channel in report.channels}
    for name in configuration.channels:
        if name not in used:
            yield warning("configuration", f"channel {name} is not used by any report", "add it to a report's channels")
