"""`import`: the history that fail2ban left in its logs and its database, and what else the past holds."""

import contextlib
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from f2b_digest import recorder
from f2b_digest.cli import Program, complain
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.sources import AFTER, BEFORE, hold, in_order, read
from f2b_digest.sources.files import Row, Tally

BATCH = 1000
"""Events of one transaction: some 20 ms, so that no ban waits for an import."""


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("--pending", is_flag=True, help="Let the next digests report it. Default: it is history, known and told.")
@click.option("--host", metavar="NAME", help="Whose bans. Default: the configuration's host.")
@click.pass_obj
def command(program: Program, paths: tuple[Path, ...], pending: bool, host: str | None) -> None:
    """Take in the history that fail2ban left.

    PATH is fail2ban's database (fail2ban.sqlite3), one of its logs (also .gz, .xz, .bz2; any number, in any order), or
    sendmail-buffered's file. A ban that both tell, or that the store has, is taken once. Log times are read in the
    configuration's time zone.

    \b
    Example:   f2b-digest import /var/lib/fail2ban/fail2ban.sqlite3 /var/log/fail2ban.log*
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    paths = tuple(path.absolute() for path in paths)
    hold(paths)
    path = program.begin(configuration)
    tally = Tally()
    rows = events(paths, host or configuration.host, configuration.timezone, tally, history=not pending)
    with _progress(rows, sys.stderr.isatty()) as shown:
        added = write(path, shown, tally)
    click.echo(f"{tally.lines:,} lines and rows read, {tally.bans:,} bans found, {added:,} bans added to {path}")
    if tally.damaged:
        complain(f"{tally.damaged:,} damaged lines were left out; the first: {tally.first_damaged}")


def events(paths: Iterable[Path], host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Row]:
    """Yield the events of files, in the order in which they complete each other. Raises SourceError."""
    for path in in_order(list(paths)):
        yield from read(path, host, zone, tally, history=history)


def fill(path: Path, sources: list[Path], configuration: Configuration) -> None:
    """Make a store of nothing but some files' bans, pending. Raises SourceError or StoreError."""
    tally = Tally()
    write(path, events(sources, configuration.host, configuration.timezone, tally, history=False), tally)
    if tally.damaged:
        complain(f"{tally.damaged:,} damaged lines were left out; the first: {tally.first_damaged}")


@contextlib.contextmanager
def _progress(rows: Iterator[Row], terminal: bool) -> Iterator[Iterator[Row]]:
    if not terminal:
        yield rows
        return
    with click.progressbar(rows, label="Importing", file=sys.stderr, show_pos=True, update_min_steps=1000) as bar:
        yield iter(bar)


def write(path: Path, rows: Iterable[Row], tally: Tally) -> int:
    """Append events that the store does not have yet, in short transactions; return how many bans were new.

    Raises StoreError.
    """
    added = 0
    try:
        with contextlib.closing(recorder.connect(str(path), 5.0)) as connection:
            for batch in _batches(rows):
                connection.execute("BEGIN IMMEDIATE")
                for row in batch:
                    is_ban = row[0] == "ban"
                    tally.bans += is_ban
                    if not (is_ban and _is_known(connection, row)):
                        added += connection.execute(recorder.INSERT, row).rowcount * is_ban
                connection.execute("COMMIT")
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(
            f"{path}: {error}; what was read before is imported, and importing again doubles nothing"
        ) from None
    return added


def _batches(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    yield batch


def _is_known(connection: Any, row: Row) -> bool:
    """Say whether the store has this ban from another source, whose time differs by fail2ban's own delay."""
    _, host, jail, ip, at = row[:5]
    before, after = (AFTER, BEFORE) if row[11] == "log" else (BEFORE, AFTER)
    query = (
        "SELECT 1 FROM event WHERE jail = ? AND ip = ? AND kind = 'ban' AND at BETWEEN ? AND ? AND host = ? "
        "AND source <> ? LIMIT 1"
    )
    return connection.execute(query, (jail, ip, at - before, at + after, host, row[11])).fetchone() is not None
