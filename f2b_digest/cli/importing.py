"""`import`: the history that fail2ban left in its logs and its database, and what else the past holds."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from f2b_digest import recorder
from f2b_digest.cli import Program, complain, console
from f2b_digest.cli.console import plural
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban.files import Tally, share_read
from f2b_digest.fail2ban.history import KNOWN, SourceError, hold, read
from f2b_digest.model.event import Event
from f2b_digest.store import append_events

BATCH = 1000
"""Events of one transaction: some 20 ms, so that no ban waits for an import."""


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--pending", is_flag=True, help="Let the next digests report it. Default: it is history, known and told.")
@click.option("--host", metavar="NAME", help="Whose bans. Default: the configuration's host.")
@click.pass_obj
def command(program: Program, paths: tuple[Path, ...], pending: bool, host: str | None) -> None:
    """Take in the history that fail2ban left.

    PATH is fail2ban's database (fail2ban.sqlite3), one of its logs (also .gz, .xz, .bz2; any number, in any order; from
    syslog, journal, Docker or grep too), or sendmail-buffered's file, also in the form of a home-made action ("DATE:
    sshd ban 192.0.2.7 after 3 failure(s)"). "-" is the standard input. A ban that both tell, or that the store has, is
    taken once. Log times are read in the configuration's time zone. A file in which nothing is fail2ban's is refused,
    before anything is imported; of a damaged one, what stands before is imported, and the exit status is 1.

    \b
    Example:   f2b-digest import /var/lib/fail2ban/fail2ban.sqlite3 /var/log/fail2ban.log*
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    paths = hold(paths, lambda: sys.stdin.buffer)
    path = program.begin(configuration)
    if not (program.store or configuration.store):  # the default: it need not be there yet
        recorder.make_folder(str(path.parent))
    tally = Tally()
    with console.working("Importing", lambda: share_read(paths)):
        rows = read(paths, host or configuration.host, configuration.timezone, tally, history=not pending)
        added = write(path, rows, tally)
    tell(tally)
    click.echo(f"{tally.lines:,} lines and rows read, {tally.bans:,} bans found, {added:,} bans added to {path}")
    if tally.failures:
        failures = plural(tally.failures, "failure", "failures")
        click.echo(f"{failures} in the logs, {tally.counted:,} of them before one of these bans")
    if tally.restored:
        click.echo(
            f"{plural(tally.restored, 'ban', 'bans')} restored at a start of fail2ban began earlier: not counted"
        )
    if tally.torn:
        raise click.exceptions.Exit(1)


def fill(path: Path, sources: Sequence[Path], configuration: Configuration) -> Tally:
    """Make a store of nothing but some files' bans, pending, and say what was lost.

    Raises SourceError or StoreError.
    """
    tally = Tally()
    write(path, read(sources, configuration.host, configuration.timezone, tally, history=False), tally)
    tell(tally)
    return tally


def tell(tally: Tally) -> None:
    """Name what was not understood, not read or not counted. Raises SourceError if nothing else was there."""
    if tally.damaged:
        words = f"{tally.damaged:,} lines that look like a ban were not understood; the first: {tally.first_damaged}"
        if not tally.bans:
            raise SourceError(f"{words}. Known are: {KNOWN}")
        complain(f"{words}. They were left out")
    for line in (*tally.notes, *tally.torn):
        complain(line)


def write(path: Path, events: Iterable[Event], tally: Tally) -> int:
    """Append events that the store does not have yet, in short transactions; return how many bans were new.

    Raises StoreError.
    """
    try:
        return append_events(path, _batches(_counted(events, tally)))
    except StoreError as error:
        raise StoreError(f"{error}; what was read before is imported, and importing again doubles nothing") from None


def _counted(events: Iterable[Event], tally: Tally) -> Iterator[Event]:
    for event in events:
        tally.bans += event.kind == "ban"
        tally.saw(event.recorded_at)
        yield event


def _batches(events: Iterable[Event]) -> Iterator[Sequence[Event]]:
    batch = []
    for event in events:
        batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch
