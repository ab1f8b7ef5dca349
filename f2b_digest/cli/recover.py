"""`recover`: recovers a damaged store."""

import click

from f2b_digest import recorder
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program, say
from f2b_digest.cli.send import PATIENCE, only_sender
from f2b_digest.store import Store, damage, fault, is_there, keep_in_mind, no_store, recover


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Recover a damaged store.

    Copies the store into a folder beside it, copies every readable row into a new store, and puts that in its
    place. Bans that were recorded meanwhile are in the spool, and imported by the next send. A store without damage
    stays as it is.

    \b
    Example:   f2b-digest recover
    """  # noqa: D301 - click wants the character, not its name
    path = program.begin(program.configuration())
    if not is_there(path):
        raise no_store(path)
    with only_sender(path, PATIENCE):
        if not damage(path) and not fault(path):
            Store(path, read_only=True).close()  # a file that is not a store is an error
            say(f"{path} is not damaged; nothing to recover")
            return
        recovered = recover(path)
        keep_in_mind(path, program.clock())
    rows = recovered.rows
    lost = recovered.highest - rows["event"]
    say(
        f"recovered {plural(rows['event'], 'event', 'events')}, {plural(rows['digest'], 'digest', 'digests')}, "
        f"{plural(rows['delivery'], 'delivery', 'deliveries')}"
    )
    if lost > 0:
        say(f"{plural(lost, 'event id has', 'event ids have')} no row now: lost, or pruned long ago")
    if waiting := recorder.spooled(str(path)):
        say(f"{plural(waiting, 'event waits', 'events wait')} in the spool for the next send")
    say(f"the damaged files are in {recovered.kept}; delete them when you no longer need them")
