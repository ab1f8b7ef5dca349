"""`retry`: try the deliveries that are due. Where none is, this loads no library but click: cron runs it all day."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from f2b_digest import privileges
from f2b_digest.cli import Program
from f2b_digest.cli.record import settings
from f2b_digest.store import is_check_due, is_idle


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Try the deliveries that are due again.

    For cron, every few minutes: it seals nothing, and ends at once if nothing is due, or another send is at work. A
    delivery is tried after 5 minutes, then after twice as long up to 4 hours, for 5 days. Once a week it also checks a
    large store for damage.
    """
    path = program.store_path(settings(program.config).get("store"))
    now = program.clock()
    if not _as_owner(path, lambda: is_idle(path, now)):
        _retry(program)
    if _as_owner(path, lambda: is_check_due(path, now)):
        program.become_owner(path)
        _check(path, now)


def _as_owner(path: Path, question: Callable[[], bool]) -> bool:
    """Answer a question as the store's owner, in a child where that is another user than this root.

    Root may still have to read the configuration: it stays root until it knows that there is work.
    """
    if os.geteuid() or privileges.owner_of(path) is None:
        return question()
    child = os.fork()
    if not child:
        answer = 2
        try:
            privileges.become_owner(path)
            answer = 0 if question() else 1
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _retry(program: Program) -> None:
    from f2b_digest import delivery
    from f2b_digest.cli.send import tell
    from f2b_digest.store import Store, is_there, sender_lock

    configuration = program.configuration()
    path = program.begin(configuration)
    if not is_there(path):
        return
    with sender_lock(path, 0) as alone:
        if not alone:
            return
        with Store(path, read_only=False) as store:
            outcomes = delivery.retry(configuration, store, program.clock)
    tell(outcomes, program.verbose)


def _check(path: Path, now: float) -> None:
    from f2b_digest.store import verify_all

    verify_all(path, now)
