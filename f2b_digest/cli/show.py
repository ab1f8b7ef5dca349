"""`show`: a digest of the archive. Opens the store read-only."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from f2b_digest import geoip
from f2b_digest.analysis import campaign_rule
from f2b_digest.cli import archive, centre, completion, console
from f2b_digest.cli.output import FORMATS, layout_of, opened, renderer_for, show, write
from f2b_digest.cli.program import Program, complain, zone_of
from f2b_digest.config import Configuration
from f2b_digest.errors import F2bDigestError, hint
from f2b_digest.model.counts import EVERY, SHOWN, Counts
from f2b_digest.model.digest import Compared, Digest, Jail, Totals
from f2b_digest.model.document import from_json
from f2b_digest.model.facts import Fact, Verdict
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store import Outbox, Sealed, Store


@click.command()
@click.argument(
    "which",
    nargs=-1,
    metavar="[WHICH]...",
    shell_complete=completion.completes(completion.reports, completion.digests, completion.DAYS),
)
@click.option("--all", "everything", is_flag=True, help="Show every jail and address.")
@click.option(
    "--jail",
    "jails",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.completes(completion.jails),
    help="Only this jail, or jails matching a pattern.",
)
@click.option("--format", "form", type=click.Choice((*FORMATS, "raw")), default="text", show_default=True)
@click.option(
    "--channel",
    metavar="NAME",
    shell_complete=completion.completes(completion.channels),
    help="With --format raw: the channel. Default: the first one.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write to FILE instead."
)
@console.options
@click.pass_obj
def command(
    program: Program, which: tuple[str, ...], everything: bool, jails: tuple[str, ...], form: str,
    channel: str | None, output: Path | None, colour: console.Colour, no_pager: bool,
) -> None:  # fmt: skip
    """Show a past digest.

    WHICH is the number that `history` shows, a report (its newest digest), the day on which it was sent (2026-11-17,
    yesterday, monday), or "last", the default; several narrow it down. The formats are rendered anew from what was
    sealed, with today's templates, in the report's language; "raw" is a message byte for byte as it went out. Text on
    a terminal has its colours and width.

    \b
    Examples:  f2b-digest show
               f2b-digest show daily yesterday --all
               f2b-digest show 12 --jail sshd
               f2b-digest show 12 --format raw --channel mail
    """  # noqa: D301 - click wants the character, not its name
    _refuse_contradictions(form, channel, everything=everything, jails=jails)
    configuration = program.configuration()
    target = opened(program, configuration, output)
    renderers = {name: renderer_for(configuration, name) for name in (*configuration.reports, "")}
    with centre.archive(program, configuration, read_only=True) as store:
        sealed = archive.meant(configuration, store, which, program.clock())
        if form == "raw":
            write(target, _raw(store, sealed, channel))
            return
        document = store.document(sealed.id)
        if document is None:
            raise F2bDigestError(f"digest {sealed.id} was pruned; see `f2b-digest history`")
        digest = from_json(document)
        if everything or jails:
            if not isinstance(store, Store):
                raise click.UsageError("--all and --jail need a host's store, not a fleet's centre")
            digest = _recounted(configuration, store, sealed, digest, jails, everything=everything)
    layout = layout_of(form, output, colour)
    renderer = (renderers.get(digest.report) or renderers[""]).with_layout(layout)
    with console.working("Rendering the digest"):
        text, _ = show(digest, form, renderer, everything=everything)
    write(target, text, colour=layout.colour, pager=not no_pager)


def _refuse_contradictions(form: str, channel: str | None, *, everything: bool, jails: tuple[str, ...]) -> None:
    if channel is not None and form != "raw":
        raise click.UsageError("--channel needs --format raw")
    if form == "raw" and (everything or jails):
        raise click.UsageError("--format raw cannot be combined with --all or --jail")
    if form == "ntfy" and everything:
        raise click.UsageError("--format ntfy cannot be combined with --all")


def _raw(store: Outbox, sealed: Sealed, channel: str | None) -> bytes:
    """Return a message as it went out. Raises F2bDigestError where there is none."""
    stored = store.deliveries(digests=[sealed.id])
    rows = [row for row in stored if channel in (None, row.channel)]
    raw = store.message(rows[0].id) if rows else b""
    if not raw:
        by = f" by channel {channel!r}" if channel else ""
        there_is = hint("there is", {row.channel: 0 for row in stored}, channel)
        raise F2bDigestError(f"no message of digest {sealed.id}{by} is stored{f' ({there_is})' if there_is else ''}")
    return raw


def _recounted(
    configuration: Configuration, store: Store, sealed: Sealed, digest: Digest, jails: tuple[str, ...], *,
    everything: bool,
) -> Digest:  # fmt: skip
    """Return a digest of all its addresses, or of some jails, counted anew from its events.

    Where some of these were pruned, what the archive has of it, with a complaint. Raises F2bDigestError if that is
    nothing.
    """
    selection = Selection(
        sealed.first_id, sealed.last_id, jails=jails or configuration.jails.get(digest.report, ("*",)),
        hosts=configuration.hosts.get(digest.report, ("*",)),
    )  # fmt: skip
    with console.working("Counting the bans"), store.report(selection, EVERY if everything else SHOWN) as source:
        counts = source.counts(
            zone=zone_of(configuration, digest.report), start=digest.start.timestamp(), end=digest.end.timestamp(),
            campaigns=campaign_rule(digest.campaign_from), geography=geoip.find(configuration.geography)[0],
        )  # fmt: skip
    archived = tuple(jail for jail in digest.jails if matches(jail.name, jails or ("*",)))
    expected = sum(jail.bans for jail in archived) if jails else digest.totals.bans
    if counts.totals.bans < expected:
        complain("some of its events were pruned; showing the archived digest")
        counts = replace(counts, totals=_totals(archived, digest, jails), jails=archived, left_out=digest.left_out)
    if jails and not counts.totals.bans:
        there_is = hint("there is", [jail.name for jail in digest.jails], jails[0])
        raise F2bDigestError(f"digest {sealed.id} has no ban of jail {', '.join(jails)} ({there_is})")
    return _narrowed(digest, counts) if jails else _with_jails(digest, counts)


def _totals(archived: tuple[Jail, ...], digest: Digest, jails: tuple[str, ...]) -> Totals:
    """Return the totals of a digest, or of some of its jails as far as the archive knows."""
    if not jails:
        return digest.totals
    known = [jail.failures for jail in archived if jail.failures is not None]
    return Totals(
        bans=sum(jail.bans for jail in archived), addresses=sum(jail.addresses for jail in archived),
        jails=len(archived), failures=sum(known) if known else None, uncounted=sum(jail.uncounted for jail in archived),
    )  # fmt: skip


def _with_jails(digest: Digest, counts: Counts) -> Digest:
    """Return a digest with all jails and addresses that were counted."""
    archived = {jail.name: jail for jail in digest.jails}
    jails = (
        replace(jail, before=old.before, usual=old.usual, samples=old.samples) if old else jail
        for jail, old in ((jail, archived.get(jail.name)) for jail in counts.jails)
    )
    return replace(digest, totals=counts.totals, jails=tuple(jails), left_out=counts.left_out)


def _narrowed(digest: Digest, counts: Counts) -> Digest:
    """Return a digest of some jails: what was said of the others, and of all together, is left out."""
    names = {jail.name for jail in counts.jails}
    facts = tuple(fact for fact in digest.facts if getattr(fact, "jail", None) in names)
    return replace(
        _with_jails(digest, counts), facts=facts, advice=(), verdict=_verdict(facts),
        compared=Compared(new=counts.new, returning=counts.returning),
        several=counts.several, several_in_all=counts.several_in_all, campaigns=counts.campaigns,
        campaigns_in_all=counts.campaigns_in_all, users=counts.users, when=counts.when, where=counts.where,
        reconciliation=None, undelivered=(), notes=counts.notes,
    )  # fmt: skip


def _verdict(facts: Sequence[Fact]) -> Verdict:
    if any(fact.needs_you for fact in facts):
        return "needs_attention"
    return "stands_out" if facts else "quiet"
