"""What a digest is compared with, as plain values: counts of earlier periods. Nothing is counted or judged here."""

from collections.abc import Mapping
from dataclasses import dataclass

Window = tuple[float, float]
"""From and until (excluded), in UTC epoch seconds."""


@dataclass(frozen=True)
class Baseline:
    """How many bans there were before, reported or only known, by jail.

    A window or day that begins before the jail's first ban is not there: nobody knows what it would have been.
    """

    windows: Mapping[str, tuple[int, ...]]
    """By jail, the newest window first."""
    all: tuple[int, ...]
    """Of these jails together, the newest window first; without windows that begin before the first ban of them all.

    More than the sum of `windows` where a jail is younger than a window.
    """
    daily: Mapping[str, tuple[int, ...]]
    """By jail, of each 24 hours before the end of the newest window, at most 28, the newest first."""
    last: Mapping[str, float]
    """By jail, its newest ban before the period, in UTC epoch seconds, absurd times left out; without jails that never
    banned before."""
