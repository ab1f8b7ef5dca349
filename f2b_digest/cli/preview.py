"""`preview`: show the next digest. Opens the store read-only."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import click

from f2b_digest import composition, delivery, periods, reconcile, recorder
from f2b_digest.channels.base import Channel
from f2b_digest.cli import centre, completion, console, first_look, scratch, times
from f2b_digest.cli.output import FORMATS, layout_of, opened, renderer_for, show, write
from f2b_digest.cli.program import Program, complain, report_named
from f2b_digest.cli.send import compared
from f2b_digest.config import Configuration
from f2b_digest.errors import hint
from f2b_digest.fail2ban.history import hold
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import schema
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.selection import Selection, matches
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import HOW_TO_RECOVER, Outbox, Source, Store, damage

NO_ID = "0" * 32
"""Placeholder of the same length as the id that a digest gets when it is sealed."""


@click.command()
@click.argument("words", nargs=-1, metavar="[REPORT]", shell_complete=completion.completes(completion.reports))
@click.option("--format", "form", type=click.Choice((*FORMATS, "schema")), default="text", show_default=True)
@click.option(
    "--channel",
    metavar="NAME",
    shell_complete=completion.completes(completion.channels),
    help="Show exactly what this channel would send.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write to FILE instead."
)
@click.option(
    "--jail",
    "jails",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.completes(completion.jails),
    help="Only this jail, or jails matching a pattern.",
)
@times.options('Show a past period instead of pending bans: start time, or "all".', "End of that period. Default: now.")
@click.option("--from", "source", type=click.Path(path_type=Path), metavar="PATH...",
              help="Read fail2ban's logs or database instead of the store.")  # fmt: skip
@console.options
@click.pass_obj
def command(
    program: Program, words: tuple[str, ...], form: str, channel: str | None, output: Path | None,
    jails: tuple[str, ...], since: str | None, until: str | None, source: Path | None, colour: console.Colour,
    no_pager: bool,
) -> None:  # fmt: skip
    """Show the next digest without sending it.

    In colour and width of the terminal; to a pipe or FILE as the mail's text.

    REPORT is one of the configuration's reports; without it, the first one. TIME is a date and time in the report's
    zone (2026-11-20, "2026-11-20 14:00"), a day (yesterday, monday) or an age (12h, 7d, 2w); a day is its beginning.
    "schema" is the JSON Schema of "json".

    --from needs no store and no setup: it shows the last day in the files (week or month,
    if that is the report's period), compared with everything before it. "-" is the standard input.

    \b
    Examples:  f2b-digest preview
               f2b-digest preview weekly --format html --output digest.html
               f2b-digest preview --since 7d --jail sshd
               f2b-digest preview --from /var/log/fail2ban.log*
    """  # noqa: D301 - click wants the character, not its name
    if form == "schema":
        write(output, json.dumps(schema(), indent=2) + "\n")
        return
    configuration = program.configuration()
    name, files = _named(configuration, words, source)
    configuration = only(configuration, name, jails)
    asked = _Asked(configuration, name, since, until, program.clock())
    renderer = renderer_for(configuration, name)
    layout = replace(layout_of(form, output, colour), stored=not files)
    files = hold(files, lambda: sys.stdin.buffer)
    with contextlib.ExitStack() as stack:
        target = opened(program, configuration, output)
        bans = _from_files(stack, program, asked, files) if files else _from_store(stack, program, asked)
        with _grouped(bans.store, bans.selection) as grouped:
            with console.working("Counting the bans"):
                digest = composition.compose(configuration, grouped, name, bans.end, bans.host_context, bans.known)
            content: str | bytes
            if channel is None:
                content, noted = show(digest, form, renderer.with_layout(layout))
            else:
                content, noted = _sent_by(channel, configuration, digest, renderer, grouped, bans.now)
        _tell_of_store(bans.path)
        for note in noted.notes:
            complain(note)
        write(target, content, colour=layout.colour, pager=not no_pager)
    if bans.torn:
        raise click.exceptions.Exit(1)


class _Asked(NamedTuple):
    """What of a report is asked for."""

    configuration: Configuration
    report: str
    since: str | None
    until: str | None
    now: float
    """UTC epoch seconds, as all times here."""

    @property
    def is_past(self) -> bool:
        return self.since is not None or self.until is not None

    @property
    def oldest(self) -> float:
        if self.since is None:
            return self.now
        zone = composition.zone_of(self.configuration, self.report)
        return 0.0 if self.since == "all" else times.moment_of(self.since, self.now, zone)


class _Bans(NamedTuple):
    """The bans to show, in a store that is open, and what a digest is composed of beside them."""

    path: Path
    store: Store
    selection: Selection
    end: float
    """Of the digest's period."""
    now: float
    """Of the input: for files, their last line."""
    host_context: HostContext
    known: reconcile.Known | None = None
    torn: bool = False
    """Whether a file could be read only in part."""


def _from_files(stack: contextlib.ExitStack, program: Program, asked: _Asked, files: Sequence[Path]) -> _Bans:
    """Read fail2ban's files into a scratch store, which lives as long as the stack."""
    program.begin(asked.configuration, looks=True)
    path = stack.enter_context(scratch.folder("f2b-digest-")) / "bans.sqlite3"
    tally = first_look.fill_scratch(path, files, asked.configuration)
    now = first_look.end_of(tally, asked.now)
    store = stack.enter_context(Store(path, read_only=True))
    if asked.is_past:
        selection = _past(asked, now, tally.first)
    else:
        selection = first_look.last_period(asked.configuration, store, asked.report, tally, now)
    return _Bans(path, store, selection, now, now, program.host_context(asked.configuration), torn=bool(tally.torn))


def _from_store(stack: contextlib.ExitStack, program: Program, asked: _Asked) -> _Bans:
    """Open the report's store, as long as the stack lives."""
    store, context = _place(stack, program, asked)
    if asked.is_past:
        selection, end = _past(asked, asked.now, None), asked.now
    else:
        selection, end = _open(asked.configuration, store, asked.report, asked.now)
    host_context, known = context(selection.first_id), None
    if selection.since is None and selection.until is None:  # it may be what the next `send` takes
        known, host_context = compared(program, asked.configuration, store, host_context, reconcile.foresee)
        _tell_missing(known, asked.configuration.reports[asked.report].jails)
    return _Bans(store.path, store, selection, end, asked.now, host_context, known)


def _sent_by(
    name: str, configuration: Configuration, digest: Digest, renderer: Renderer, grouped: Source, now: float
) -> tuple[bytes, Digest]:
    """Return what a channel would send, and the digest with notes on errors. Raises click's UsageError."""
    channel = _channel(configuration, name)
    body, noted = delivery.make(channel, digest, renderer, delivery.stamp_of(digest, NO_ID, name, now), grouped)
    return channel.wire(body), noted


@contextlib.contextmanager
def _grouped(store: Store, selection: Selection) -> Iterator[Source]:
    """Open a report's source; shows progress if the first pass over the bans is slow."""
    with contextlib.ExitStack() as stack:
        with console.working("Reading the bans"):
            source = stack.enter_context(store.report(selection))
        yield source


def only(configuration: Configuration, name: str, jails: tuple[str, ...]) -> Configuration:
    """Return the configuration with a report limited to some jails, by name or pattern; unchanged if there are none."""
    if not jails:
        return configuration
    report = configuration.reports[name].model_copy(update={"jails": jails})
    return replace(configuration, reports={**configuration.reports, name: report})


def _named(configuration: Configuration, words: Sequence[str], source: Path | None) -> tuple[str, tuple[Path, ...]]:
    """Return the named report, or the first one, and the files to read instead of the store.

    A shell has expanded "fail2ban.log*": the other words are files too, but for the first one if it names a report.
    """
    name = next(iter(configuration.reports), "")
    if not name:
        raise click.UsageError("this host has no report: its fleet's centre makes the digests")
    is_file = bool(words) and os.path.exists(words[0])  # noqa: PTH110 - never raises
    if words and (source is None or (words[0] in configuration.reports and not is_file)):
        name, words = report_named(configuration, words[0]), words[1:]
    if words and source is None:
        raise click.UsageError(f"only one report at a time; unexpected: {' '.join(words)}")
    return name, () if source is None else (source, *map(Path, words))


def _place(stack: contextlib.ExitStack, program: Program, asked: _Asked) -> tuple[Store, Callable[[int], HostContext]]:
    """Return the store to read, and the host context of the bans from an id on.

    For a fleet, and for a report of some hosts, the store is a scratch copy that lives as long as the stack.
    """
    configuration, name = asked.configuration, asked.report
    outbox: Outbox
    if program.is_centre(configuration.store):
        outbox = stack.enter_context(centre.opened(program, configuration))
        known = centre.host_context
    else:
        path = program.begin(configuration, looks=True)
        outbox, known = stack.enter_context(Store(path, read_only=True)), program.host_context
    report = configuration.reports[name]
    store = stack.enter_context(outbox.about(name, report.hosts, report.every, asked.oldest, past=asked.is_past))
    return store, lambda first_id: store.informed(known(configuration), first_id)


def _tell_of_store(path: Path) -> None:
    if found := damage(path):
        complain(f"{path} was set aside as damaged ({found}), and nothing is sent from it: {HOW_TO_RECOVER}")
    waiting = recorder.spooled(str(path))
    if waiting:
        complain(f"{waiting} more events are in {recorder.spool_path(str(path))} for the next send")


def _tell_missing(known: reconcile.Known | None, jails: tuple[str, ...]) -> None:
    count = sum(matches(ban.jail, jails) for ban in known.missing) if known else 0
    if count:
        complain(f"{count} more bans in fail2ban's database were not recorded; the next send adds them")


def _channel(configuration: Configuration, name: str) -> Channel:
    if name not in configuration.channels:
        there_is = hint("there is", configuration.channels, name) or "none configured"
        raise click.UsageError(f"no channel {name!r} ({there_is})")
    return configuration.channels[name]


def _open(configuration: Configuration, store: Store, name: str, now: float) -> tuple[Selection, float]:
    """Return what send would take, and when that period ends; if nothing, the current period so far."""
    report = configuration.reports[name]
    due = composition.due(configuration, store, name, now)
    if due and (report.period == "pending" or report.quiet == "send" or store.pending(due[0]).bans):
        return due
    if report.every is not None:
        zone = composition.zone_of(configuration, name)
        last = store.last_digest(name)
        end = periods.ending(now, report.every, zone)
        if last and last.period_end == end:  # it was sealed before the clock was set back
            end = periods.ending(end, report.every, zone)
        when = f"{datetime.fromtimestamp(end, zone):%Y-%m-%d %H:%M}"
        complain(f"the period has not ended yet; the digest is sent after {when}")
    return composition.pending(store, name, report), now


def _past(asked: _Asked, now: float, first: float | None) -> Selection:
    """Return the selection of a requested period; `first` is the start of all events, if known."""
    zone = composition.zone_of(asked.configuration, asked.report)
    everything = asked.since == "all"
    start, end = times.bounds(None if everything else asked.since, asked.until, now, zone)
    jails = asked.configuration.reports[asked.report].jails
    return Selection(since=first if everything else start, until=now if end is None else end, jails=jails)
