"""Checks of the channels, without sending; and the test messages."""

import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from f2b_digest import isolation
from f2b_digest.channels.base import DEADLINE, Channel, Health
from f2b_digest.checks.finding import Finding, due, error, ok, span, warning
from f2b_digest.config import Configuration
from f2b_digest.delivery import fit, stamp_of
from f2b_digest.delivery.attempts import Clock
from f2b_digest.errors import DeliveryError, F2bDigestError
from f2b_digest.isolation import Stopped
from f2b_digest.model.digest import Digest, Totals, moment
from f2b_digest.model.message import Message
from f2b_digest.rendering.renderer import Renderer

PATIENCE = 45.0
"""Timeout in seconds for one channel."""
CLOCK_TOLERANCE = 60.0
"""Seconds of clock difference beyond which certificates and signatures fail."""
MARK = "This is a test message of `f2b-digest check --send`: it reports no bans and marks nothing as reported."


def examine(configuration: Configuration, periods: Mapping[str, float], clock: Clock) -> Iterator[Finding]:
    """Check each channel; `periods` has the seconds between two digests of each report."""
    for name, channel in configuration.channels.items():
        what = f"channel {name}"
        try:
            health: Health = isolation.run(channel.check, seconds=PATIENCE)
        except (DeliveryError, Stopped) as refused:
            yield error(what, f"{channel.kind}: {refused}", "fix this, or digests will not arrive")
            continue
        yield ok(what, f"{channel.kind}: {health.line}")
        yield from _clock(what, health, clock())
        for report, wanted in configuration.reports.items():
            if name in wanted.channels and health.keeps is not None and health.keeps < periods[report]:
                text = f"keeps a message for {span(health.keeps)}, and {report} is sent {due(periods[report])}"
                todo = "receivers offline for longer miss a digest: set cache-duration on the server (72h)"
                yield warning(what, text, todo)


def _clock(what: str, health: Health, now: float) -> Iterator[Finding]:
    ahead = 0.0 if health.clock is None else now - health.clock
    if abs(ahead) > CLOCK_TOLERANCE:
        text = f"{what} says that this host's clock is {abs(ahead):,.0f} s {'fast' if ahead > 0 else 'slow'}"
        yield error("clock", text, "set it by NTP (timedatectl set-ntp true)")


def send_tests(configuration: Configuration, renderer: Renderer, clock: Clock) -> Iterator[Finding]:
    """Send a test message through each channel to each recipient, bypassing the store: no retries."""
    at = moment(clock(), configuration.timezone)
    test = Digest(
        "test", f"TEST from {configuration.host}", str(configuration.timezone), at, at, Totals(), notes=(MARK,)
    )
    for name, channel in configuration.channels.items():
        if not channel.testable:
            yield ok(f"test by {name}", "skipped: a test would be a false abuse report")
            continue
        for recipient, result in _send(channel, name, test, renderer, clock):
            if result is None:
                yield ok(f"test by {name}", f"sent to {recipient}")
            else:
                yield error(f"test by {name}", f"to {recipient}: {result}", "fix this, then run check --send again")


def _send(channel: Channel, name: str, test: Digest, renderer: Renderer, clock: Clock) -> Iterator[Any]:
    """Yield each recipient and the error, or None."""
    stamp = stamp_of(test, uuid.uuid4().hex, name, clock())
    for recipient in channel.recipients:
        try:
            content, _ = fit(channel.needs, test, renderer, lambda content: channel.fits(content, stamp))
            message = Message(recipient, channel.pack(content, stamp), channel.identity(stamp), at=clock())
            isolation.run(partial(channel.deliver, message), seconds=DEADLINE)
        except (F2bDigestError, Stopped) as refused:
            yield recipient, refused
        else:
            yield recipient, None
