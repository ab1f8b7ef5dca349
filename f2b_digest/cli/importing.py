"""`import`: past bans from fail2ban's logs and database, and from other files."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from f2b_digest import recorder
from f2b_digest.cli import console
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program, complain, say
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban.files import Tally, share_read
from f2b_digest.fail2ban.history import KNOWN, SourceError, hold, read
from f2b_digest.model.event import Event
from f2b_digest.store import append_events

BATCH = 1000
"""Events per transaction: some 20 ms, so that an import does not delay a ban."""


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option(
    "--pending", is_flag=True, help="Report these bans in the next digest. Default: import as history, never reported."
)
@click.option("--host", metavar="NAME", help="Host name of the bans. Default: the configured host.")
@click.pass_obj
def command(program: Program, paths: tuple[Path, ...], pending: bool, host: str | None) -> None:
    """Import past bans from fail2ban's database or logs.

    PATH is fail2ban's database (fail2ban.sqlite3), one of its logs (also .gz, .xz, .bz2; any number, in any order; from
    syslog, journal, Docker or grep too), or sendmail-buffered's file, also from a custom action ("DATE: sshd ban
    192.0.2.7 after 3 failure(s)"). "-" is the standard input. A ban in several files, or already in the store, is
    imported once. Log times are read in the configured time zone. A file that is not fail2ban's is refused before
    anything is imported; of a damaged file, the readable part is imported, and the exit status is 1.

    \b
    Example:   f2b-digest import /var/lib/fail2ban/fail2ban.sqlite3 /var/log/fail2ban.log*
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    paths = hold(paths, lambda: sys.stdin.buffer)
    path = program.begin(configuration)
    if not (program.store or configuration.store):  # the default: it may not exist yet
        recorder.make_folder(str(path.parent))
    tally = Tally()
    with console.working("Importing", lambda: share_read(paths)):
        rows = read(paths, host or configuration.host, configuration.timezone, tally, history=not pending)
        added = write(path, rows, tally)
    tell(tally)
    say(f"{tally.lines:,} lines and rows read, {tally.bans:,} bans found, {added:,} bans added to {path}")
    if tally.failures:
        failures = plural(tally.failures, "failure", "failures")
        say(f"{failures} in the logs, {tally.counted:,} of them belong to one of these bans")
    if tally.restored:
        say(f"{plural(tally.restored, 'ban', 'bans')} restored at a start of fail2ban not counted again")
    if tally.torn:
        raise click.exceptions.Exit(1)


def fill(path: Path, sources: Sequence[Path], configuration: Configuration) -> Tally:
    """Make a store with some files' bans, pending, and report what was skipped.

    Raises SourceError or StoreError.
    """
    tally = Tally()
    write(path, read(sources, configuration.host, configuration.timezone, tally, history=False), tally)
    tell(tally)
    return tally


def tell(tally: Tally) -> None:
    """Report what was not parsed, read or counted. Raises SourceError if nothing could be parsed."""
    if tally.damaged:
        words = f"{tally.damaged:,} lines that look like a ban could not be parsed; the first: {tally.first_damaged}"
        if not tally.bans:
            raise SourceError(f"{words}. Known formats: {KNOWN}")
        complain(f"{words}. They were skipped")
    for line in (*tally.notes, *tally.torn):
        complain(line)


def write(path: Path, events: Iterable[Event], tally: Tally) -> int:
    """Append events that the store does not have yet, in short transactions; return how many bans were new.

    Raises StoreError.
    """
    try:
        return append_events(path, _batches(_counted(events, tally)))
    except StoreError as error:
        raise StoreError(f"{error}; everything before it is imported; it is safe to import again") from None


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
