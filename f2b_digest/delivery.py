"""The life of a digest: composed, sealed, sent, tried again. No SQL, no templates, no network, no printing here."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from f2b_digest import digest as digests
from f2b_digest.channels.base import Channel, deadline
from f2b_digest.config import Configuration, Report
from f2b_digest.digest import Digest
from f2b_digest.errors import ConfigurationError, DeliveryError, TemplateError
from f2b_digest.message import Message, Stamp
from f2b_digest.render import Renderer
from f2b_digest.store import OPEN, Delivery, Selection, Store

Clock = Callable[[], float]
"""Returns UTC epoch seconds."""

FIRST_WAIT, LONGEST_WAIT, GIVE_UP = 300.0, 4 * 3600.0, 5 * 86400.0
"""Seconds: a mail queue's schedule. The first wait is longer than an attempt's deadline, so that an attempt that is
under way is never begun a second time."""
SIZES = ((40, 50), (40, 30), (40, 20), (40, 12), (30, 8), (20, 5), (15, 3), (10, 2), (8, 1), (8, 0), (3, 0), (0, 0))
"""Jails, and addresses of each, that a message may show: the first that fits the channel's limits is taken."""


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery, or of a channel's own templates."""

    report: str
    channel: str
    recipient: str
    status: str
    """One of a delivery's; or "plain": own templates could not be used, the built-in ones were."""
    reason: str = ""


# ---- composing


def pending(store: Store, name: str, report: Report) -> Selection:
    """Return what a report has not sealed, up to the newest event there is now."""
    last = store.last_digest(name)
    first, after = (last.last_id + 1, last.id) if last else (1, 0)
    return Selection(first_id=first, last_id=store.last_event(), after=after, jails=report.jails)


def compose(configuration: Configuration, store: Store, name: str, selection: Selection, now: float) -> Digest:
    """Return a report's digest of a selection; `preview` and `send` both show this. `now` ends an open period."""
    last = store.last_digest(name)
    start = last.period_end if last else None
    if selection.since is not None or selection.until is not None:
        start = selection.since
    return store.summarise(
        selection,
        report=name,
        host=configuration.host,
        zone=configuration.timezone,
        start=start,
        end=now if selection.until is None else selection.until,
    )


def fit(
    templates: Iterable[str], digest: Digest, renderer: Renderer, fits: Callable[[Mapping[str, str]], bool]
) -> dict[str, str]:
    """Render a digest with as many rows as `fits` allows. Raises TemplateError."""
    names = tuple(templates)
    for jails, addresses in SIZES:
        parts = renderer.render(names, digests.document(digests.cut(digest, jails, addresses)))
        if fits(parts):
            break
    return parts


# ---- sealing and sending


def send(
    configuration: Configuration, store: Store, renderer: Renderer, reports: Iterable[str], clock: Clock
) -> list[Outcome]:
    """Seal what the reports have pending, then try every delivery that is due; return what became of it.

    Raises ConfigurationError, before anything is sealed, if a report has no channel that would tell anybody.
    """
    names = list(reports)
    mute = [name for name in names if not configuration.reports[name].channels]
    if mute:
        raise ConfigurationError(
            [f'reports.{name}.channels: there is none, so nobody would see it; add channels = ["…"]' for name in mute]
        )
    troubles = [trouble for name in names for trouble in _seal(configuration, store, renderer, name, clock())]
    return troubles + retry(configuration, store, clock)


def _seal(configuration: Configuration, store: Store, renderer: Renderer, name: str, now: float) -> list[Outcome]:
    """Make a report's next digest, with its messages, unless too little is pending for one; return what went ill."""
    report = configuration.reports[name]
    selection = pending(store, name, report)
    digest = compose(configuration, store, name, selection, now)
    bans = digest.totals.bans
    if bans < report.min_bans and not (bans == 0 and report.quiet == "send"):
        return []
    key = uuid.uuid4().hex
    messages, troubles = [], []
    for channel_name in report.channels:
        stamp = Stamp(key, name, channel_name, configuration.host, now, bans)
        channel = configuration.channels[channel_name]
        try:
            made = _messages(channel, digest, renderer, stamp)
        except TemplateError as error:  # an admin's mistake must not keep the digest from the admin
            made = _messages(channel, digest, renderer.built_in, stamp)
            troubles.append(Outcome(name, channel_name, "", "plain", " ".join(str(error).split())))
        messages += [(channel_name, message) for message in made]
    store.seal(
        selection, stamp=stamp, start=digest.start.timestamp(), end=digest.end.timestamp(), messages=messages
    )  # False: another sender has sealed these events meanwhile
    return troubles


def _messages(channel: Channel, digest: Digest, renderer: Renderer, stamp: Stamp) -> list[Message]:
    parts = fit(channel.templates, digest, renderer, lambda parts: channel.fits(parts, stamp))
    body = channel.pack(parts, stamp)
    return [Message(recipient, body, channel.identity(stamp)) for recipient in channel.recipients]


def retry(configuration: Configuration, store: Store, clock: Clock) -> list[Outcome]:
    """Try every delivery that is due; return the outcomes of the attempts."""
    outcomes = []
    for delivery in store.deliveries(OPEN, due=clock()):
        outcome = _attempt(configuration.channels.get(delivery.channel), store, delivery, clock)
        if outcome:
            outcomes.append(outcome)
    return outcomes


def _attempt(channel: Channel | None, store: Store, delivery: Delivery, clock: Clock) -> Outcome | None:
    """Claim one delivery, try it, and store the outcome; None if another sender has it."""
    now = clock()
    wait = min(FIRST_WAIT * 2 ** min(delivery.attempts, 20), LONGEST_WAIT)
    message = store.claim(delivery.id, attempts=delivery.attempts, next_at=now + wait)
    if message is None:
        return None
    status, reason = _try(channel, delivery.channel, message)
    if status == "deferred" and now + wait > delivery.sealed_at + GIVE_UP:
        status, reason = "failed", f"given up after {GIVE_UP / 86400:.0f} days: {reason}"
    store.settle(delivery.id, status=status, error=reason or None, sent_at=clock() if status == "sent" else None)
    return Outcome(delivery.report, delivery.channel, delivery.recipient, status, reason)


def _try(channel: Channel | None, name: str, message: Message) -> tuple[str, str]:
    """Return the state that one attempt leads to, and why."""
    if channel is None:
        return "deferred", f"there is no channel {name!r} in the configuration any more"
    try:
        with deadline():
            channel.deliver(message)
    except DeliveryError as error:
        return ("failed" if error.permanent else "deferred"), error.reason
    except TimeoutError as error:
        return "deferred", str(error)
    return "sent", ""
