"""`retry`: try the deliveries that are due."""

import click

from f2b_digest import delivery
from f2b_digest.cli import Program
from f2b_digest.cli.send import tell
from f2b_digest.store import Store, is_there
from f2b_digest.store.opening import sender_lock


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Try the deliveries that are due again.

    For cron, every few minutes: it seals nothing, and ends at once if nothing is due, or another send is at work. A
    delivery is tried after 5 minutes, then after twice as long up to 4 hours, for 5 days.
    """
    configuration = program.configuration()
    path = program.begin(configuration)
    if not is_there(path):  # nothing was recorded yet: nothing to try
        return
    with sender_lock(path, 0) as alone:
        if not alone:
            return
        with Store(path, read_only=False) as store:
            outcomes = delivery.retry(configuration, store, program.clock)
    tell(outcomes, program.verbose)
