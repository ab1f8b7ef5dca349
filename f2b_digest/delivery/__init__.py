"""Rendering, sealing, sending and retrying digests. No SQL, no templates, no network, no printing here."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC

from f2b_digest import composition, resources
from f2b_digest.channels.base import Channel
from f2b_digest.config import Configuration, Report
from f2b_digest.delivery import attempts
from f2b_digest.delivery.attempts import Clock, Outcome
from f2b_digest.errors import ConfigurationError, TemplateError
from f2b_digest.model.bans import Banned
from f2b_digest.model.cutting import bare, condensed, cut
from f2b_digest.model.digest import Digest, moment
from f2b_digest.model.document import document, to_json
from f2b_digest.model.fleet_facts import LateBans
from f2b_digest.model.host_context import UNKNOWN_HOST, HostContext
from f2b_digest.model.message import Content, Message, Needs, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.reconcile import Known
from f2b_digest.rendering.i18n import load_language
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import LONGEST_WAIT, OPEN, Delivery, Outbox, Source, Store

SIZES = (
    (40, 50), (40, 30), (40, 20), (40, 12), (30, 8), (20, 5), (15, 3), (10, 2), (8, 1), (8, 0), (3, 0), (0, 0), None,
)  # fmt: skip
"""Numbers of jails, and of addresses per jail, in a message; the last has no sections. The first that fits the
channel's limits is used."""


# ---- rendering


def renderer_of(configuration: Configuration) -> Renderer:
    """Return a renderer with all templates and languages of a configuration loaded."""
    reports = configuration.reports.values()
    for language in filter(None, (report.language for report in reports)):
        load_language(language)
    also = [report.templates for report in reports]
    return Renderer(resources.folder("templates"), configuration.templates, also=also, language=configuration.language)


def renderer_for(renderer: Renderer, configuration: Configuration, report: str) -> Renderer:
    """Return a report's renderer, in its language: its own templates first, then the configuration's."""
    known = configuration.reports.get(report)  # the report of an old digest may be gone
    language = (known.language if known else None) or configuration.language
    return renderer.preferring(known.templates if known else None).speaking(language)


def fit(
    needs: Needs, digest: Digest, renderer: Renderer, fits: Callable[[Content], bool], addresses: Sequence[Banned] = ()
) -> tuple[Content, Digest]:
    """Render a digest with as many rows as `fits` allows; return the content, and the digest with notes.

    If a custom template cannot be rendered, the built-in one is used instead, and the digest says so. If
    there is none, the digest as JSON is, if the channel accepts it. Raises TemplateError otherwise.
    """
    more = _more(needs, digest, addresses)
    try:
        return renderer.apart(lambda: _largest(needs, digest, renderer, fits, more)), digest
    except TemplateError as error:
        plainer = renderer.without(error.template)
        if plainer is None and not needs.document:
            raise
        instead = "the built-in template was used" if plainer else "the digest was sent as JSON"
        note = f"{' '.join(str(error).split())}; {instead}"
        noted = replace(digest, notes=tuple(dict.fromkeys((*digest.notes, note))))
        return fit(needs if plainer else replace(needs, templates=()), noted, plainer or renderer, fits, addresses)


def _largest(
    needs: Needs, digest: Digest, renderer: Renderer, fits: Callable[[Content], bool], more: dict[str, object]
) -> Content:
    """Render the largest of `SIZES` that fits, or the smallest. Raises TemplateError."""
    content = Content()
    for size in SIZES:
        smaller = cut(digest, *size) if size else bare(digest)
        parts = renderer.render(needs.templates, document(condensed(smaller)) | more)
        content = Content(parts, to_json(smaller) if needs.document else "")
        if fits(content):
            break
    return content


def _more(needs: Needs, digest: Digest, addresses: Sequence[Banned]) -> dict[str, object]:
    """Return the variables of this channel's templates beside the digest."""
    more: dict[str, object] = {"link": needs.link}
    if needs.addresses:
        zone = digest.end.tzinfo or UTC
        more["addresses"] = [
            {
                "jail": each.jail, "ip": each.ip, "bans": each.bans, "failures": each.failures,
                "first": moment(each.first, zone), "last": moment(each.last, zone),
            }
            for each in addresses
        ]  # fmt: skip
    return more


def shown_by(channel: Channel, digest: Digest) -> Digest:
    """Return the digest as the channel shows it: log lines only if configured."""
    if channel.samples:
        return digest
    return replace(digest, jails=tuple(replace(jail, samples=()) for jail in digest.jails))


def stamp_of(digest: Digest, key: str, channel: str, now: float) -> Stamp:
    """Return the metadata of a digest for a channel."""
    totals = digest.totals
    return Stamp(
        key, digest.report, channel, digest.host, now, totals.bans, totals.addresses, totals.jails, totals.failures,
        needs_attention=digest.verdict == "needs_attention",
    )  # fmt: skip


def make(channel: Channel, digest: Digest, renderer: Renderer, stamp: Stamp, source: Source) -> tuple[bytes, Digest]:
    """Return the bytes that a channel sends, and the digest with notes on errors."""
    needs = channel.needs
    addresses = source.addresses() if needs.addresses else ()
    delivered = source.delivered(stamp.channel, since=stamp.made_at - needs.delivered) if needs.delivered else ()

    def whole(content: Content) -> Content:
        return replace(content, addresses=addresses, delivered=delivered)

    shown = shown_by(channel, digest)
    content, noted = fit(needs, shown, renderer, lambda content: channel.fits(whole(content), stamp), addresses)
    return channel.pack(whole(content), stamp), noted


# ---- sealing and sending


def send(
    configuration: Configuration,
    store: Outbox,
    renderer: Renderer,
    reports: Iterable[str],
    clock: Clock,
    known: Known | None = None,
    host_context: HostContext = UNKNOWN_HOST,
) -> list[Outcome]:
    """Seal the reports' pending digests, then attempt every delivery that is due; return the outcomes.

    `known` is the state of fail2ban's own database, if readable; `host_context` that of this host.

    The caller holds the sender's lock. Raises ConfigurationError, before sealing anything, if a report has no channel.
    that would tell anybody.
    """
    names = list(reports)
    mute = [name for name in names if not configuration.reports[name].channels]
    if mute:
        raise ConfigurationError(
            [f'reports.{name}.channels: none, so nobody would receive it; add channels = ["…"]' for name in mute]
        )
    notes = [
        note for name in names for note in _seal(configuration, store, renderer, name, clock(), known, host_context)
    ]
    store.ran(names, clock())
    return notes + retry(configuration, store, clock)


def _seal(
    configuration: Configuration,
    outbox: Outbox,
    renderer: Renderer,
    name: str,
    now: float,
    known: Known | None,
    host_context: HostContext,
) -> list[Outcome]:
    """Make a report's next digest, with its messages, unless too little is pending; return failures."""
    report = configuration.reports[name]
    with outbox.about(name, report.hosts, report.every, now) as store:
        taken = composition.due(configuration, store, name, now)
        if taken is None:
            return []
        host_context = store.informed(host_context, taken[0].first_id)
        return _seal_taken(configuration, store, renderer, name, now, taken, known, host_context)


def _seal_taken(
    configuration: Configuration,
    store: Store,
    renderer: Renderer,
    name: str,
    now: float,
    taken: tuple[Selection, float],
    known: Known | None,
    host_context: HostContext,
) -> list[Outcome]:
    report = configuration.reports[name]
    selection, end = taken
    key = uuid.uuid4().hex
    messages: list[tuple[str, Message]] = []
    notes: dict[str, Outcome] = {}
    with store.report(selection) as source:
        digest = composition.compose(configuration, source, name, end, host_context, known)
        channels = _told_by(configuration, report, digest)
        renderer = renderer_for(renderer, configuration, name) if channels else renderer
        for channel_name in channels:
            channel = configuration.channels[channel_name]
            stamp = stamp_of(digest, key, channel_name, now)
            body, noted = make(channel, digest, renderer, stamp, source)
            messages += [(channel_name, Message(to, body, channel.identity(stamp))) for to in channel.recipients]
            notes |= {note: Outcome(name, channel_name, "", "noted", note) for note in noted.notes}
    if not channels:  # below every channel's min_bans: stays pending
        return []
    store.seal(
        selection,
        stamp=stamp_of(digest, key, "", now),
        document=to_json(replace(digest, notes=tuple(notes))),
        start=digest.start.timestamp(),
        end=digest.end.timestamp(),
        messages=messages,
    )  # False: another sender has sealed these events
    return list(notes.values())


def _told_by(configuration: Configuration, report: Report, digest: Digest) -> list[str]:
    """Return the channels that deliver a digest; min_bans does not apply if it needs attention."""
    bans, alarming = digest.totals.bans, composition.is_alarming(digest)
    bans += sum(fact.bans for fact in digest.facts if isinstance(fact, LateBans))
    lifted = report.unbans and digest.lifted_in_all > 0
    if not (alarming or lifted or bans >= report.min_bans or (bans == 0 and report.quiet == "send")):
        return []
    return [name for name in report.channels if alarming or lifted or bans >= configuration.channels[name].min_bans]


def retry(configuration: Configuration, store: Outbox, clock: Clock) -> list[Outcome]:
    """Attempt every delivery that is due; return the outcomes. The caller holds the sender's lock."""
    due = store.deliveries(OPEN, due=clock(), longest=LONGEST_WAIT)
    return attempts.try_all(configuration, store, due, clock)


def resend(
    configuration: Configuration, store: Outbox, originals: Iterable[Delivery], to: str | None, clock: Clock
) -> list[Outcome]:
    """Deliver the stored bytes of some deliveries again, to the same recipients or to another one.

    Each is a new delivery, retried like any other. The caller holds the sender's lock.
    """
    now = clock()
    keys = {store.copy(row.id, recipient=to or _recipient(configuration, row), now=now) for row in originals}
    copies = [row for row in store.deliveries(OPEN, due=now) if row.id in keys]  # not those claimed by another sender
    return attempts.try_all(configuration, store, copies, clock)


def _recipient(configuration: Configuration, row: Delivery) -> str:
    """Return the recipient of a resent delivery: the channel's current one, if it has only one."""
    channel = configuration.channels.get(row.channel)
    return row.recipient if channel is None or channel.any_recipient else channel.recipients[0]
