"""`retry`: try the deliveries that are due. Where none is, this loads no library but click: cron runs it all day."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from f2b_digest import privileges
from f2b_digest.cli.program import Program
from f2b_digest.cli.record import settings
from f2b_digest.store import is_check_due, is_idle

if TYPE_CHECKING:
    from f2b_digest.config import Configuration
    from f2b_digest.store import Outbox

YES = 1


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Retry deferred deliveries that are due.

    For cron, every few minutes: it seals nothing, and ends at once if nothing is due, or another send is at work. A
    delivery is tried after 5 minutes, then after twice as long up to 4 hours, for 5 days. Once a week it also checks a
    large store for damage.
    """
    store = settings(program.config).get("store")
    if program.is_centre(store):
        _retry(program)
        return
    path = program.store_path(store)
    now = program.clock()
    if privileges.as_owner(path, lambda: is_idle(path, now)) != YES:  # root may still have to read the configuration
        _retry(program)
    if privileges.as_owner(path, lambda: is_check_due(path, now)) == YES:
        program.become_owner(path)
        _check(path, now)


def _retry(program: Program) -> None:
    from f2b_digest import delivery
    from f2b_digest.cli.send import tell, waiting
    from f2b_digest.delivery.ping import ping_all

    configuration = program.configuration()
    with _outbox(program, configuration) as outbox:
        if outbox is None:
            return
        outcomes = delivery.retry(configuration, outbox, program.clock)
        waits = waiting(outbox)
    tried = [name for name in configuration.reports if any(outcome.report == name for outcome in outcomes)]
    ping_all(configuration, tried, outcomes, waits)
    tell(outcomes, program.verbose)


@contextmanager
def _outbox(program: Program, configuration: "Configuration") -> "Iterator[Outbox | None]":
    """Open where deliveries are; None where there are none yet, or another send is at work."""
    from f2b_digest.cli import centre
    from f2b_digest.store import Store, is_there, sender_lock

    if program.is_centre(configuration.store):
        with centre.opened(program, configuration) as fleet:
            yield fleet
        return
    path = program.begin(configuration)
    if not is_there(path):
        yield None
        return
    with sender_lock(path, 0) as alone:
        if not alone:
            yield None
            return
        with Store(path, read_only=False) as store:
            yield store


def _check(path: Path, now: float) -> None:
    from f2b_digest.store import verify_all

    verify_all(path, now)
