"""What a judgement is made of beside the digest, as plain values. Nothing is judged here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from f2b_digest.store.bans import Chosen
from f2b_digest.surroundings import Surroundings


class Baseline(Protocol):
    """The bans of the report's jails before the digest's period."""

    @property
    def windows(self) -> Mapping[str, tuple[int, ...]]:
        """By jail, the bans of each earlier period of the same length, newest first, since the jail's first ban."""

    @property
    def all(self) -> tuple[int, ...]:
        """Over all jails, the bans of each earlier period, newest first."""

    @property
    def daily(self) -> Mapping[str, tuple[int, ...]]:
        """By jail, the bans of each of up to 28 spans of 24 hours before the period, newest first, since its first."""

    @property
    def last(self) -> Mapping[str, float]:
        """By jail, the newest ban before the period: UTC epoch seconds. Of jails that banned at any time before."""


class Rebans(Protocol):
    """What longer bans would have changed in the period."""

    @property
    def spared(self) -> int:
        """Bans that came while a ban time that doubles would still have held."""

    @property
    def spared_addresses(self) -> int:
        """Whose bans these were."""

    @property
    def frequent(self) -> int:
        """Ids with at least FREQUENT bans."""

    @property
    def frequent_bans(self) -> int:
        """Bans of these."""

    @property
    def prolonged(self) -> bool:
        """Whether ban times grow already."""


FREQUENT = 5
"""Bans in the period that make an id one that comes back."""


@dataclass(frozen=True)
class Evidence:
    """All that is known beside the digest."""

    baseline: Baseline
    rebans: Rebans
    surroundings: Surroundings = field(default_factory=Surroundings)
    starts_and_stops: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    """By jail, `start` or `stop`, and when (UTC epoch seconds), oldest first: those up to the digest's end, from the
    last one before its period on."""
    own_bans: Sequence[Chosen] = ()
    """Those of the ids that `OwnSide.holds`; strangers among them do no harm."""
    waits_since: float | None = None
    """When the oldest ban of the digest was recorded, UTC epoch seconds; None where it may wait as long as it likes
    (the report sends from so many bans on)."""
    every: float | None = None
    """Seconds: the longest of the last distances of the report's digests, so that a report of the working days may wait
    over a weekend; None where there are too few."""
    first: bool = False
    """Whether this is the report's first digest."""
    complete: bool = True
    """Whether the digest is about everything up to now; False for a preview of a past period, of which only the
    counts can be judged."""
