"""`prune`: deletes old events that were reported."""

import click

from f2b_digest.cli import centre
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program, say
from f2b_digest.cli.send import PATIENCE, only_sender, open_store, tidy


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Delete old events that were reported.

    Events older than the configured `keep` that every report has delivered, and the messages of digests of that
    age. Never anything that is pending or undelivered. `send` does the same at its end.
    """
    configuration = program.configuration()
    if program.is_centre(configuration.store):
        with centre.opened(program, configuration) as fleet:
            hosts = {name: report.hosts for name, report in configuration.reports.items()}
            done = fleet.prune(configuration.keep, hosts)
        if program.verbose:
            for line in done or ["nothing to do"]:
                say(line)
        return
    path = program.begin(configuration)
    with only_sender(path, PATIENCE), open_store(path) as store:
        dropped = tidy(store, configuration, program.clock())
    if program.verbose:
        say(f"{plural(dropped, 'event', 'events')} dropped")
