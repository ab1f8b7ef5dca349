"""`send`, and what it shares with `retry`: telling what became of each delivery, and the exit status of it all."""

import sys
from collections.abc import Iterable

import click

from f2b_digest import delivery, places
from f2b_digest.cli import Program, complain, report_named
from f2b_digest.config import Configuration
from f2b_digest.delivery import Outcome
from f2b_digest.errors import StoreError
from f2b_digest.render import Renderer
from f2b_digest.store import Store, take_spool_in

TRY_AGAIN = 75
FAILED = 1


@click.command()
@click.argument("reports", nargs=-1, metavar="[REPORT]...")
@click.pass_obj
def command(program: Program, reports: tuple[str, ...]) -> None:
    """Seal what is pending, deliver it, mark it as reported.

    Without REPORT: all reports of the configuration. Silent if all went well, as cron wants it.

    \b
    Example:   f2b-digest send daily
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    names = [report_named(configuration, name) for name in reports] or list(configuration.reports)
    with open_store(program, configuration) as store:
        renderer = Renderer(places.folder("templates"), configuration.templates)
        outcomes = delivery.send(configuration, store, renderer, names, program.clock)
    tell(outcomes, program.verbose)


def open_store(program: Program, configuration: Configuration) -> Store:
    """Open the store for sending, with its spool taken in. Raises StoreError."""
    path = program.store_path(configuration.store)
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
        elif outcome.status == "plain":
            complain(f"{outcome.report}: {outcome.channel}: the built-in templates were used: {outcome.reason}")
        elif outcome.status == "deferred":
            complain(f"{where}: deferred, will be tried again: {outcome.reason}")
        else:
            complain(f"{where}: FAILED, will not be tried again: {outcome.reason}")
    sys.exit(FAILED if "failed" in statuses else TRY_AGAIN if "deferred" in statuses else 0)
