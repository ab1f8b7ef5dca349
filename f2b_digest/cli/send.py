"""`send`, and what it shares with `retry` and `resend`: the sender's lock, error messages, the exit status."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from f2b_digest import composition, delivery, reconcile
from f2b_digest.analysis import LATELY
from f2b_digest.cli import centre, completion, console
from f2b_digest.cli.language import gettext as _
from f2b_digest.cli.language import status, told
from f2b_digest.cli.program import Program, complain, complain_as_is, report_named
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
    is_hub,
    is_there,
    lives,
    sender_lock,
    take_spool_in,
    unfinished,
    verify,
    verify_all,
)

TRY_AGAIN = 75
FAILED = 1
# `send weekly` must not be skipped because cron starts it together with `send daily`.
PATIENCE = 15 * 60
"""Seconds that a send waits for another to end."""


HOSTS_WAIT, POLL = 11 * 60.0, 10.0
"""Seconds that a calendar report waits for its hosts, which upload every five to ten minutes; and between two looks."""
LONGEST_SILENCE = 30 * 86400.0
"""Seconds without any event or digest before the boot that suggest a wrong clock."""
HUB_KEEPS = 30 * 86400.0
"""Seconds for which a hub keeps events, as a centre does (`f2b.tend`), whatever is configured."""


@click.command()
@click.argument("reports", nargs=-1, metavar="[REPORT]...", shell_complete=completion.completes(completion.reports))
@click.pass_obj
def command(program: Program, reports: tuple[str, ...]) -> None:
    """Send pending digests.

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
    with console.working("Waiting for hosts to upload what the period has"):
        wait_for_hosts(lambda *asked: _unfinished(path, *asked), configuration, names, program.clock)
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
        with console.working("Waiting for hosts to upload what the period has"):
            wait_for_hosts(fleet.unfinished, configuration, names, program.clock)
        with console.working("Sending"):
            outcomes = delivery.send(configuration, fleet, renderer, names, program.clock, None, context)
        fleet.prune(configuration.keep, {name: report.hosts for name, report in configuration.reports.items()})
        return outcomes, waiting(fleet)


def _unfinished(path: Path, hosts: Sequence[str], until: float, since: float) -> list[str]:
    """Return a hub's hosts that may have more to upload; none of a store that is no hub."""
    return unfinished(lives(path), hosts, until, since) if is_hub(path) else []


def wait_for_hosts(
    unfinished: Callable[[Sequence[str], float, float], list[str]], configuration: Configuration,
    names: Iterable[str], clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep,
) -> None:  # fmt: skip
    """Wait until the hosts of calendar reports have uploaded all of the period that has ended; some minutes at most.

    What comes later is in the next digest. A host that is silent or behind for long is not waited for.
    """
    now = clock()
    ends = {name: end for name in names if (end := composition.ended(configuration, name, now)) is not None}
    since, begun = now - LATELY, time.monotonic()
    while time.monotonic() - begun < HOSTS_WAIT and any(
        unfinished(configuration.reports[name].hosts, end, since) for name, end in ends.items()
    ):
        sleep(POLL)


@contextmanager
def sending(program: Program, configuration: Configuration) -> Iterator[Outbox]:
    """Open the outbox, as the only sender of a host's store."""
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
    """Return the reports that have deliveries that will be retried."""
    return {row.report for row in store.undelivered() if row.status == "deferred"}


def tidy(store: Store, configuration: Configuration, now: float) -> int:
    """Prune old reported events, if that is safe; return the number of events.

    Nothing is pruned if the clock seems to have jumped: fail2ban records when it stops and starts, so no long
    time passes between a store's last row before the boot and the boot. A large store that was not checked for a
    week is checked first: no digest waits for that any more. A hub keeps events for `HUB_KEEPS` at the least, by
    which it knows what a host's restored or copied store uploads again.
    """
    begin_week(store.path, now)
    if is_due(store.path, now, OVERDUE):
        store.close()  # it opens itself again; the check may set the store aside
        verify_all(store.path, now)
    before = now - max(configuration.keep, HUB_KEEPS if is_hub(store.path) else 0.0)
    silence = store.silence_before(now - uptime(), before)
    if silence > LONGEST_SILENCE:
        complain(
            f"not pruning {store.path}: nothing was recorded for {silence / 86400:,.0f} days before this "
            f"system's boot, so the clock may be wrong; check date(1); if it is right, pruning resumes after a reboot"
        )
        return 0
    return store.prune(before, configuration.jails, time.sleep, configuration.hosts)


def uptime() -> float:
    """Return the seconds since the system's boot, including sleep; setting the clock does not change them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def compared(
    program: Program,
    configuration: Configuration,
    store: Store,
    host_context: HostContext,
    compare: Callable[..., Known | None] = reconcile.take_in,
) -> tuple[Known | None, HostContext]:
    """Add bans from fail2ban's own database that are missing in this store, if this host's fail2ban feeds it.

    If the database exists but is unusable, the host context has it in `unseen`.
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
    """Hold the sender's lock, or exit with a message and the status "deferred" if another sender keeps it."""
    with sender_lock(path, patience) as alone:
        if not alone:
            complain(f"another send has held {path} for more than {patience:g} s; nothing was done")
            sys.exit(TRY_AGAIN)
        yield


def open_store(path: Path) -> Store:
    """Open the store for sending, checked and with its spool imported. Raises StoreError.

    The caller holds the sender's lock.
    """
    if is_there(path):
        verify(path)  # first of all: nothing more goes into a damaged store
    trouble = ""
    try:
        torn = take_spool_in(path)
        if torn:
            complain(f"{path}.spool.torn holds {torn} more incomplete lines; check and delete the file")
    except StoreError as error:
        trouble = str(error)
    store = Store(path, read_only=False)  # if it cannot be opened, that error says more
    if trouble:
        complain(trouble)
    store.verify_pending()
    return store


def _line(outcome: Outcome) -> str:
    """Return an outcome in the language; the report's name is that of the configuration."""
    reason = told(outcome.reason)
    if outcome.status == "noted":
        return f"{outcome.report}{_(':')} {outcome.channel}{_(':')} {reason}"
    to = _("%(channel)s to %(recipient)s", channel=outcome.channel, recipient=outcome.recipient)
    if outcome.status == "sent":
        ended = status("sent")
    elif outcome.status == "deferred":
        ended = _("deferred, will be retried: %(reason)s", reason=reason)
    else:
        ended = _("FAILED, will not be retried: %(reason)s", reason=reason)
    return f"{outcome.report}{_(':')} {to}{_(':')} {ended}"


def tell(outcomes: Iterable[Outcome], verbose: bool) -> None:
    """Print a line for each failed delivery (for all if `verbose`), and exit with the status."""
    statuses = set()
    for outcome in outcomes:
        statuses.add(outcome.status)
        line = _line(outcome)
        if outcome.status != "sent":
            complain_as_is(line)
        elif verbose:
            click.echo(line)
    sys.exit(FAILED if "failed" in statuses else TRY_AGAIN if "deferred" in statuses else 0)
