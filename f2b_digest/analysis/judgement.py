"""The result of an analysis, as plain values. Nothing is computed here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from f2b_digest.model.advice import Advice
from f2b_digest.model.digest import Compared
from f2b_digest.model.facts import Fact, Verdict
from f2b_digest.model.fleet import Fleet


class Usual(NamedTuple):
    """The comparison of a jail."""

    before: int | None = None
    """Bans of the period before; None where the store does not reach so far back."""
    usual: float | None = None
    """Bans: the median of the periods before; None where there are too few."""


@dataclass(frozen=True)
class Judgement:
    """The result of a digest's analysis."""

    compared: Compared
    by_jail: Mapping[str, Usual] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    """Those that need attention, then the news, each the most urgent first."""
    verdict: Verdict = "stands_out"
    advice: tuple[Advice, ...] = ()
    fleet: Fleet | None = None
    notes: tuple[str, ...] = ()
    """What went wrong."""
