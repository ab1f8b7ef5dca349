"""`send`, and what it shares with `retry` and `resend`: the sender's lock, the lines of trouble, the exit status."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from f2b_digest import composition, delivery, reconcile
from f2b_digest.cli import Program, centre, complain, completion, console, report_named
from f2b_digest.config import Configuration
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.delivery.ping import ping, ping_all
from f2b_digest.errors import F2bDigestError, StoreError
from f2b_digest.model.host_context import HostContext
from f2b_digest.reconcile import Known
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import (
    OVERDUE,
    Outbox,
    Store,
    begin_week,
    is_due,
    is_there,
    sender_lock,
    take_spool_in,
    verify,
    verify_all,
)

TRY_AGAIN = 75
FAILED = 1
PATIENCE = 15 * 60
"""Seconds that a send waits for another: `send weekly` must not be skipped because cron began it with `send daily`."""


LONGEST_SILENCE = 30 * 86400.0
"""Seconds before the boot without any event or digest, from which on it is rather the clock than the host."""


@click.command()
@click.argument("reports", nargs=-1, metavar="[REPORT]...", shell_complete=completion.completes(completion.reports))
@click.pass_obj
def command(program: Program, reports: tuple[str, ...]) -> None:
    """Seal what is pending, deliver it, mark it as reported.

    Without REPORT: all reports of the configuration. A calendar report is sealed once its period is over. Silent if
    all went well, as cron wants it. At the end, what is older than the configuration's `keep` and reported is dropped
    from the store.

    \b
    Example:   f2b-digest send daily
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    names = [report_named(configuration, name) for name in reports] or list(configuration.reports)
    renderer = delivery.renderer_of(configuration)
    if program.is_centre(configuration.store):
        outcomes, waits = _send_of_fleet(program, configuration, renderer, names)
    else:
        outcomes, waits = _send(program, configuration, renderer, names)
    ping_all(configuration, names, outcomes, waits)
    tell(outcomes, program.verbose)


def _send(
    program: Program, configuration: Configuration, renderer: Renderer, names: list[str]
) -> tuple[list[Outcome], set[str]]:
    path = program.begin(configuration, looks=True)
    with failure_pinged(configuration, names), only_sender(path, PATIENCE), open_store(path) as store:
        host_context = program.host_context(configuration)
        known, host_context = compared(program, configuration, store, host_context)
        with console.working("Sending"):
            outcomes = delivery.send(configuration, store, renderer, names, program.clock, known, host_context)
            tidy(store, configuration, program.clock())
        return outcomes, waiting(store)


def _send_of_fleet(
    program: Program, configuration: Configuration, renderer: Renderer, names: list[str]
) -> tuple[list[Outcome], set[str]]:
    with failure_pinged(configuration, names), centre.opened(program, configuration) as fleet:
        context = centre.host_context(configuration)
        for line in fleet.silences(program.clock()):
            complain(line)
        with console.working("Sending"):
            outcomes = delivery.send(configuration, fleet, renderer, names, program.clock, None, context)
        fleet.prune(configuration.keep, {name: report.hosts for name, report in configuration.reports.items()})
        return outcomes, waiting(fleet)


@contextmanager
def sending(program: Program, configuration: Configuration) -> Iterator[Outbox]:
    """Open where digests and deliveries are, as the only sender of a host's store."""
    if program.is_centre(configuration.store):
        with centre.opened(program, configuration) as fleet:
            yield fleet
        return
    path = program.begin(configuration)
    with only_sender(path, PATIENCE), Store(path, read_only=False) as store:
        yield store


@contextmanager
def failure_pinged(configuration: Configuration, names: Iterable[str]) -> Iterator[None]:
    """Ping the reports' monitors for a failure where the block ends early."""
    try:
        yield
    except (F2bDigestError, SystemExit):
        for name in names:
            ping(configuration, name, "send failed", well=False)
        raise


def waiting(store: Outbox) -> set[str]:
    """Return the reports that have deliveries which will be tried again."""
    return {row.report for row in store.undelivered() if row.status == "deferred"}


def tidy(store: Store, configuration: Configuration, now: float) -> int:
    """Drop what is old and reported, where that is sure; return the number of events.

    Nothing is dropped by a clock that seems to have jumped: fail2ban records when it stops and starts, so that no long
    time passes between a store's last row before the boot and the boot. A large store that nobody has checked for a
    week is checked first: no digest waits for that any more.
    """
    begin_week(store.path, now)
    if is_due(store.path, now, OVERDUE):
        store.close()  # it opens itself again; the check may set the store aside
        verify_all(store.path, now)
    before = now - configuration.keep
    silence = store.silence_before(now - uptime(), before)
    if silence > LONGEST_SILENCE:
        complain(
            f"nothing is dropped from {store.path}: nothing was recorded for {silence / 86400:,.0f} days before this "
            f"system's boot, so that its clock may have jumped; look at date(1); if it is right, the next boot mends it"
        )
        return 0
    return store.prune(before, configuration.jails, time.sleep)


def uptime() -> float:
    """Return the seconds since the system's boot, those it slept for included; no clock that is set changes them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def compared(
    program: Program,
    configuration: Configuration,
    store: Store,
    host_context: HostContext,
    compare: Callable[..., Known | None] = reconcile.take_in,
) -> tuple[Known | None, HostContext]:
    """Take in what fail2ban's own database has and this store lacks, if this host's fail2ban feeds it.

    Where the database is there and cannot be used, the host context says so, as `unseen`.
    """
    theirs = program.gathered.database.connection if program.gathered else None
    if theirs is None or not composition.is_fed(store, host_context):
        return None, host_context
    known = compare(store.path, theirs, configuration, program.clock)
    if known is None:
        host_context = replace(host_context, unseen=(*host_context.unseen, "database"))
    return known, host_context


@contextmanager
def only_sender(path: Path, patience: float) -> Iterator[None]:
    """Hold the sender's lock, or end with a line and the status for "later" if another sender keeps it."""
    with sender_lock(path, patience) as alone:
        if not alone:
            complain(f"another send has been at work on {path} for more than {patience:g} s: nothing was done")
            sys.exit(TRY_AGAIN)
        yield


def open_store(path: Path) -> Store:
    """Open the store for sending, all of it read and its spool taken in. Raises StoreError.

    The caller holds the sender's lock.
    """
    if is_there(path):
        verify(path)  # first of all: nothing more goes into a damaged store
    trouble = ""
    try:
        torn = take_spool_in(path)
        if torn:
            complain(f"{path}.spool.torn holds {torn} more lines that are no whole event; look, and delete it")
    except StoreError as error:
        trouble = str(error)
    store = Store(path, read_only=False)  # if it cannot be opened, its own line says more
    if trouble:
        complain(trouble)
    store.verify_pending()
    return store


def tell(outcomes: Iterable[Outcome], verbose: bool) -> None:
    """Print a line for each delivery that had trouble (all of them if `verbose`), and end with the exit status."""
    statuses = set()
    for outcome in outcomes:
        statuses.add(outcome.status)
        where = f"{outcome.report}: {outcome.channel} to {outcome.recipient}"
        if outcome.status == "sent":
            if verbose:
                click.echo(f"{where}: sent")
        elif outcome.status == "noted":
            complain(f"{outcome.report}: {outcome.channel}: {outcome.reason}")
        elif outcome.status == "deferred":
            complain(f"{where}: deferred, will be tried again: {outcome.reason}")
        else:
            complain(f"{where}: FAILED, will not be tried again: {outcome.reason}")
    sys.exit(FAILED if "failed" in statuses else TRY_AGAIN if "deferred" in statuses else 0)
