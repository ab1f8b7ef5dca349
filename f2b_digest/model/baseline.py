"""The baseline of a digest: counts of earlier periods, as plain values, and packed times. Nothing is judged here."""

import sys
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from f2b_digest.model.digest import Campaign
from f2b_digest.model.fleet import LateOfHost

PLAUSIBLE = (1_072_915_200.0, 4_102_444_800.0)
"""2004 (fail2ban's first release) to 2100, in UTC epoch seconds: other times are clock errors."""
COMPARED = {None: 31.0, "day": 31.0, "week": 37.0, "month": 160.0}
"""Days before today that a fleet's digest is compared with, by how often it is due, and those of the period itself."""
LATE = 3600.0
"""Seconds before a digest's period from which on a host's ban is late: hosts upload every five minutes."""
REMEMBERED = 30_000
"""Number of events before a digest's that are searched for the networks of its campaigns."""
COPY = 2
"""`history` of an event's row, in a fleet's scratch store, whose time is among the packed ones too."""
NetworkKey = tuple[str | None, int | None]
"""A /24 or /48, or an AS number: one of the two."""
Window = tuple[float, float]
"""From and until (excluded), in UTC epoch seconds."""


def key_of(campaign: Campaign) -> NetworkKey:
    """Return a campaign's key: its network or AS number."""
    return (campaign.network, None) if campaign.network is not None else (None, campaign.asn)


@dataclass(frozen=True)
class Quiet:
    """A jail that has not banned for a while, and its activity before its last ban."""

    last: float
    """Its last ban, in UTC epoch seconds."""
    daily: tuple[int, ...]
    """Bans of each 24 hours up to the last ban, at most 28, the newest first."""
    gaps: tuple[float, ...]
    """The longest times from one ban to the next in these days, in seconds, the longest first."""


@dataclass(frozen=True)
class Baseline:
    """How many bans there were before, reported or only known, by jail.

    A window or day that begins before the jail's first ban is missing, as its count is unknown. So is
    one with a reported outage.
    """

    windows: Mapping[str, tuple[int, ...]]
    """By jail, the newest window first."""
    all: tuple[int, ...]
    """Of these jails together, the newest window first; without windows that begin before the first ban of them all.

    More than the sum of `windows` where a jail is younger than a window. A jail with an outage counts with its median.
    """
    quiet: Mapping[str, Quiet]
    """By jail, those that banned nobody for some time before the end of the period."""
    last: Mapping[str, float]
    """By jail, its newest ban before the period, in UTC epoch seconds, absurd times left out; without jails that never
    banned before."""
    before: Mapping[str, int] = field(default_factory=dict)
    """By jail, the bans of the newest window, whatever happened in it; without unknown windows."""
    before_all: int | None = None
    """Of these jails together."""


@dataclass(frozen=True)
class HostActivity:
    """The bans of one host of a fleet."""

    jails: Mapping[str, int] = field(default_factory=dict)
    """Bans of the digest, by jail."""
    last: Mapping[str, float] = field(default_factory=dict)
    """The last of these, in UTC epoch seconds."""
    baseline: Baseline | None = None
    """Of its own jails; None if it was not asked for."""
    late: LateOfHost | None = None


def unpacked(packed: bytes) -> "array[float]":
    """Return times (UTC epoch seconds) that are packed as big-endian doubles, as PostgreSQL's float8send does."""
    times = array("d", packed)
    if sys.byteorder == "little":
        times.byteswap()
    return times


def packed(times: Iterable[float]) -> bytes:
    """Return times in order and packed, for `unpacked`."""
    run = array("d", sorted(times))
    if sys.byteorder == "little":
        run.byteswap()
    return run.tobytes()
