"""`preview`: show the next digest. Opens the store read-only."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from f2b_digest import composition, delivery, periods, reconcile, recorder
from f2b_digest.channels.base import Channel
from f2b_digest.channels.email import Email
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.cli import Program, centre, complain, completion, console, first_look, report_named, scratch, times
from f2b_digest.cli.send import compared
from f2b_digest.config import Configuration
from f2b_digest.errors import hint
from f2b_digest.fail2ban.history import hold
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import document, schema, to_json
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.message import Content
from f2b_digest.model.selection import Selection, matches
from f2b_digest.rendering.layout import MAIL, Layout, plain
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import HOW_TO_RECOVER, Outbox, Source, Store, damage

FORMATS = ("text", "html", "ntfy", "json")
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
    name, sources = _named(configuration, words, source)
    configuration = only(configuration, name, jails)
    now = program.clock()
    renderer = renderer_for(configuration, name)
    layout = replace(layout_of(form, output, colour), stored=not sources)
    sources = hold(sources, lambda: sys.stdin.buffer)
    with contextlib.ExitStack() as stack:
        target = opened(program, configuration, output)
        path, context = _place(stack, program, configuration, name, since, now, of_store=not sources)
        tally = None
        if sources:
            path = stack.enter_context(scratch.folder("f2b-digest-")) / "bans.sqlite3"
            tally = first_look.fill_scratch(path, sources, configuration)
            now = first_look.end_of(tally, now)
        store = stack.enter_context(Store(path, read_only=True))
        if since is not None or until is not None:
            selection, end = _past(configuration, name, since, until, now, tally.first if tally else None), now
        elif tally:
            selection, end = first_look.last_period(configuration, store, name, tally, now), now
        else:
            selection, end = _open(configuration, store, name, now)
        host_context = context(selection.first_id)
        known = None
        if not sources and selection.since is None and selection.until is None:
            known, host_context = compared(program, configuration, store, host_context, reconcile.foresee)
            _tell_missing(known, configuration.reports[name].jails)
        content: str | bytes
        with _grouped(store, selection) as bans:
            with console.working("Counting the bans"):
                digest = composition.compose(configuration, bans, name, end, host_context, known)
            if channel is None:
                content, noted = show(digest, form, renderer.with_layout(layout))
            else:
                way = _channel(configuration, channel)
                stamp = delivery.stamp_of(digest, NO_ID, channel, now)
                body, noted = delivery.make(way, digest, renderer, stamp, bans)
                content = way.wire(body)
        _tell_of_store(path)
        for note in noted.notes:
            complain(note)
        write(target, content, colour=layout.colour, pager=not no_pager)
    if tally and tally.torn:
        raise click.exceptions.Exit(1)


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
    if words and (source is None or (words[0] in configuration.reports and not Path(words[0]).exists())):
        name, words = report_named(configuration, words[0]), words[1:]
    if words and source is None:
        raise click.UsageError(f"only one report at a time; unexpected: {' '.join(words)}")
    return name, () if source is None else (source, *map(Path, words))


def _place(
    stack: contextlib.ExitStack, program: Program, configuration: Configuration, name: str, since: str | None,
    now: float, *, of_store: bool,
) -> tuple[Path, Callable[[int], HostContext]]:  # fmt: skip
    """Return the store to read, and the host context of the bans from an id on.

    For a fleet, and for a report of some hosts, the store is a scratch copy that lives as long as the stack.
    """
    if not of_store:
        return program.begin(configuration, looks=True), lambda _: program.host_context(configuration)
    outbox: Outbox
    if program.is_centre(configuration.store):
        outbox = stack.enter_context(centre.opened(program, configuration))
        known = centre.host_context
    else:
        path = program.begin(configuration, looks=True)
        outbox, known = stack.enter_context(Store(path, read_only=True)), program.host_context
    report = configuration.reports[name]
    oldest = now
    if since is not None:
        zone = composition.zone_of(configuration, name)
        oldest = 0.0 if since == "all" else times.moment_of(since, now, zone)
    store = stack.enter_context(outbox.about(name, report.hosts, report.every, oldest))
    return store.path, lambda first_id: replace(known(configuration), judged=store.judged(first_id))


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


def renderer_for(configuration: Configuration, report: str) -> Renderer:
    """Return a report's renderer, as `send` uses it."""
    return delivery.renderer_for(delivery.renderer_of(configuration), configuration, report)


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


def _past(
    configuration: Configuration, name: str, since: str | None, until: str | None, now: float, first: float | None
) -> Selection:
    """Return the selection of a requested period; `first` is the start of all events, if known."""
    zone = composition.zone_of(configuration, name)
    start, end = times.bounds(None if since == "all" else since, until, now, zone)
    selection = Selection(since=start, until=now if end is None else end, jails=configuration.reports[name].jails)
    return replace(selection, since=first) if since == "all" else selection


def layout_of(form: str, output: Path | None, colour: console.Colour) -> Layout:
    """Return the layout for text on a terminal; files and other formats get what is sent."""
    return MAIL if output or form != "text" else console.layout_of(sys.stdout, os.environ, colour)


def opened(program: Program, configuration: Configuration, path: Path | None) -> Path | int | None:
    """Return an output file for `write`: opened now, if root is about to switch to the store's owner.

    Its content is kept until it is written. Raises click's FileError.
    """
    if path is None or not program.becomes_another(configuration):
        return path
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None


def write(path: Path | int | None, content: str | bytes, *, colour: bool = False, pager: bool = False) -> None:
    """Write to an output file (a path, or open), or to the terminal. Raises click's FileError."""
    if path is None:
        if isinstance(content, str):
            console.put(content, colour=colour, pager=pager)
        else:
            click.echo(content, nl=False)
        return
    try:
        with open(path, "wb") as file:  # noqa: PTH123 - it may be a descriptor
            with contextlib.suppress(OSError):
                file.truncate()  # a pipe cannot be truncated
            file.write(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None


def show(digest: Digest, form: str, renderer: Renderer, *, everything: bool = False) -> tuple[str, Digest]:
    """Return a digest in one of `FORMATS`, cut to the size that a channel with default settings would send.

    With `everything`, nothing is cut.

    The digest is returned too, with notes on errors.
    """
    if form == "json":
        return to_json(digest, indent=2) + "\n", digest
    stamp = delivery.stamp_of(digest, "preview", "preview", digest.end.timestamp())
    channel: Any
    if form == "ntfy":
        channel = Ntfy(kind="ntfy", url="https://ntfy.example.org", topic="preview")
    else:
        channel = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})

    if everything:
        name = "email/body.html" if form == "html" else "email/body.txt"
        return renderer.render([name], document(digest))[name], digest

    def fits(content: Content) -> bool:  # terminal layout does not count against a message's size
        return bool(channel.fits(Content({name: plain(text) for name, text in content.parts.items()}), stamp))

    content, digest = delivery.fit(channel.needs, delivery.shown_by(channel, digest), renderer, fits)
    if form == "ntfy":
        return f"{content.parts['ntfy/title.txt'].strip()}\n\n{content.parts['ntfy/message.txt'].strip()}\n", digest
    return content.parts["email/body.html" if form == "html" else "email/body.txt"], digest
