"""The life of a digest: rendered, sealed, sent, tried again. No SQL, no templates, no network, no printing here."""

import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from f2b_digest import composition
from f2b_digest import digest as digests
from f2b_digest.channels.base import Channel, deadline
from f2b_digest.config import Configuration
from f2b_digest.crosscheck import Known
from f2b_digest.digest import Digest
from f2b_digest.errors import ConfigurationError, DeliveryError, TemplateError, bug
from f2b_digest.message import ADDRESSES, DOCUMENT, EARLIER, Message, Stamp
from f2b_digest.render import Renderer
from f2b_digest.store import OPEN, Delivery, Selection, Store
from f2b_digest.surroundings import NOTHING_KNOWN, Surroundings

Clock = Callable[[], float]
"""Returns UTC epoch seconds."""

FIRST_WAIT, LONGEST_WAIT, GIVE_UP = 300.0, 4 * 3600.0, 5 * 86400.0
"""Seconds: a mail queue's schedule. The first wait is longer than an attempt's deadline, so that an attempt that is
under way is never begun a second time."""
FEWEST_ATTEMPTS = 5
"""Before a delivery is given up."""
AGAIN = 900.0
"""Seconds for which a service that knows addresses does not want to hear of one again."""
RENDERING = 30.0
"""Seconds that one rendering may take; the largest digest needs a tenth of one."""
SIZES = (
    (40, 50), (40, 30), (40, 20), (40, 12), (30, 8), (20, 5), (15, 3), (10, 2), (8, 1), (8, 0), (3, 0), (0, 0), None,
)  # fmt: skip
"""Jails, and addresses of each, that a message may show, the last without sections: the first that fits the channel's
limits is taken."""


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery, or of a channel's own templates."""

    report: str
    channel: str
    recipient: str
    status: str
    """One of a delivery's; or "noted": something went wrong in the making of the digest, which went out."""
    reason: str = ""


# ---- rendering


def fit(
    templates: Iterable[str], digest: Digest, renderer: Renderer, fits: Callable[[dict[str, str]], bool]
) -> tuple[dict[str, str], Digest]:
    """Render a digest with as many rows as `fits` allows; return the parts, and the digest with notes on the way.

    Where a template of the admin's cannot be rendered, the built-in one takes its place, and the digest says so. Where
    there is none, the digest as JSON does, if it is among the templates.
    """
    names = tuple(templates)
    try:
        for size in SIZES:
            smaller = digests.cut(digest, *size) if size else digests.bare(digest)
            with deadline(RENDERING):  # a template of the admin's may never end
                parts = renderer.render((name for name in names if name != DOCUMENT), digests.document(smaller))
            if DOCUMENT in names:
                parts[DOCUMENT] = digests.to_json(smaller)
            if fits(parts):
                break
    except TemplateError as error:
        plainer = renderer.without(error.template)
        if plainer is None and DOCUMENT not in names:
            raise
        instead = "the built-in template was used" if plainer else "the digest was sent as JSON"
        noted = replace(digest, notes=(*digest.notes, f"{' '.join(str(error).split())}; {instead}"))
        return fit(names if plainer else (DOCUMENT,), noted, plainer or renderer, fits)
    return parts, digest


def shown_by(channel: Channel, digest: Digest) -> Digest:
    """Return what of a digest a channel shows: log lines only if it is to."""
    if channel.samples:
        return digest
    return replace(digest, jails=tuple(replace(jail, samples=()) for jail in digest.jails))


def stamp_of(digest: Digest, key: str, channel: str, now: float) -> Stamp:
    """Return what a channel may say of a digest beside its text."""
    totals = digest.totals
    return Stamp(
        key, digest.report, channel, digest.host, now, totals.bans, totals.addresses, totals.jails, totals.failures
    )


def make(
    channel: Channel, digest: Digest, renderer: Renderer, stamp: Stamp, store: Store, selection: Selection
) -> tuple[bytes, Digest]:
    """Return the bytes that a channel sends of a digest, and the digest with notes on what went wrong on the way."""
    from_store = {}
    if ADDRESSES in channel.templates:
        from_store[ADDRESSES] = json.dumps(store.addresses(selection))
    if EARLIER in channel.templates:
        bodies = store.delivered(stamp.channel, since=stamp.made_at - AGAIN)
        from_store[EARLIER] = json.dumps([body.decode() for body in bodies])
    rest = [name for name in channel.templates if name not in from_store]
    parts, noted = fit(rest, shown_by(channel, digest), renderer, lambda parts: channel.fits(parts | from_store, stamp))
    return channel.pack(parts | from_store, stamp), noted


# ---- sealing and sending


def send(
    configuration: Configuration,
    store: Store,
    renderer: Renderer,
    reports: Iterable[str],
    clock: Clock,
    known: Known | None = None,
    surroundings: Surroundings = NOTHING_KNOWN,
) -> list[Outcome]:
    """Seal what the reports have pending, then try every delivery that is due; return what became of it.

    `known` is what fail2ban's own database says, if it could be asked; `surroundings` what this host does.

    The caller holds the sender's lock. Raises ConfigurationError, before anything is sealed, if a report has no channel
    that would tell anybody.
    """
    names = list(reports)
    mute = [name for name in names if not configuration.reports[name].channels]
    if mute:
        raise ConfigurationError(
            [f'reports.{name}.channels: there is none, so nobody would see it; add channels = ["…"]' for name in mute]
        )
    notes = [
        note for name in names for note in _seal(configuration, store, renderer, name, clock(), known, surroundings)
    ]
    store.ran(names, clock())
    return notes + retry(configuration, store, clock)


def _seal(
    configuration: Configuration,
    store: Store,
    renderer: Renderer,
    name: str,
    now: float,
    known: Known | None,
    surroundings: Surroundings,
) -> list[Outcome]:
    """Make a report's next digest, with its messages, unless too little is pending for one; return what went ill."""
    report = configuration.reports[name]
    taken = composition.due(configuration, store, name, now)
    if taken is None:
        return []
    selection, end = taken
    digest = composition.compose(configuration, store, name, selection, end, surroundings, known)
    bans = digest.totals.bans
    alarming = composition.is_alarming(digest)  # what needs somebody does not wait for more bans
    channels = [name for name in report.channels if alarming or bans >= configuration.channels[name].min_bans]
    enough = alarming or bans >= report.min_bans or (bans == 0 and report.quiet == "send")
    if not enough or not channels:  # what no channel would tell stays pending until there is more of it
        return []
    key = uuid.uuid4().hex
    renderer = renderer.preferring(report.templates).speaking(report.language or configuration.language)
    messages: list[tuple[str, Message]] = []
    notes: dict[str, Outcome] = {}
    for channel_name in channels:
        channel = configuration.channels[channel_name]
        stamp = stamp_of(digest, key, channel_name, now)
        body, noted = make(channel, digest, renderer, stamp, store, selection)
        messages += [(channel_name, Message(to, body, channel.identity(stamp))) for to in channel.recipients]
        notes |= {note: Outcome(name, channel_name, "", "noted", note) for note in noted.notes}
    store.seal(
        selection,
        stamp=stamp_of(digest, key, "", now),
        document=digests.to_json(replace(digest, notes=tuple(notes))),
        start=digest.start.timestamp(),
        end=digest.end.timestamp(),
        messages=messages,
    )  # False: another sender has sealed these events meanwhile
    return list(notes.values())


def retry(configuration: Configuration, store: Store, clock: Clock) -> list[Outcome]:
    """Try every delivery that is due; return the outcomes of the attempts. The caller holds the sender's lock."""
    due = store.deliveries(OPEN, due=clock(), longest=LONGEST_WAIT)
    return _attempt_all(configuration, store, due, clock)


def resend(
    configuration: Configuration, store: Store, originals: Iterable[Delivery], to: str | None, clock: Clock
) -> list[Outcome]:
    """Deliver the stored bytes of some deliveries once more, to the same recipients or to another one.

    Each is a delivery of its own, tried again like any other. The caller holds the sender's lock.
    """
    now = clock()
    keys = {store.copy(row.id, recipient=to or row.recipient, now=now) for row in originals}
    copies = [row for row in store.deliveries(OPEN, due=now) if row.id in keys]  # not those that another sender tries
    return _attempt_all(configuration, store, copies, clock)


def _attempt_all(
    configuration: Configuration, store: Store, deliveries: Iterable[Delivery], clock: Clock
) -> list[Outcome]:
    outcomes = (_attempt(configuration.channels.get(row.channel), store, row, clock) for row in deliveries)
    return [outcome for outcome in outcomes if outcome]


def _attempt(channel: Channel | None, store: Store, delivery: Delivery, clock: Clock) -> Outcome | None:
    """Claim one delivery, try it, and store the outcome; None if another sender has it."""
    now = clock()
    wait = min(FIRST_WAIT * 2 ** min(delivery.attempts, 20), LONGEST_WAIT)
    message = store.claim(delivery.id, attempts=delivery.attempts, next_at=now + wait)
    if message is None:
        return None
    result = _try(channel, delivery.channel, replace(message, at=now))
    status, reason = result.status, result.reason
    # Not by age alone: a clock that jumps ahead would end a delivery that had hardly begun.
    if status == "deferred" and now + wait > delivery.made_at + GIVE_UP and delivery.attempts + 1 >= FEWEST_ATTEMPTS:
        status, reason = "failed", f"given up after {GIVE_UP / 86400:.0f} days: {reason}"
    store.settle(
        delivery.id,
        status=status,
        error=reason or None,
        in_doubt=message.in_doubt or result.in_doubt,
        now=clock(),
        remaining=result.remaining,
    )
    return Outcome(delivery.report, delivery.channel, delivery.recipient, status, reason)


@dataclass(frozen=True)
class _Result:
    """What one attempt led to."""

    status: str
    reason: str = ""
    in_doubt: bool = False
    remaining: bytes | None = None


def _try(channel: Channel | None, name: str, message: Message) -> _Result:
    if channel is None:
        return _Result("deferred", f"there is no channel {name!r} in the configuration any more")
    try:
        with deadline():
            return _Result("sent", channel.deliver(message) or "")
    except DeliveryError as error:
        status = "failed" if error.permanent else "deferred"
        return _Result(status, error.reason, error.in_doubt, error.remaining)
    except TimeoutError as error:
        return _Result("deferred", str(error), in_doubt=True)
    except Exception as error:  # a bug of one channel must not keep the others waiting; its text may hold a secret
        return _Result("deferred", bug(error), in_doubt=True)
