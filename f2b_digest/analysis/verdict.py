"""A digest's verdict, from its facts and counts: needs attention, stands out, or quiet."""

from collections.abc import Sequence

from f2b_digest.model.digest import Compared
from f2b_digest.model.facts import Fact, Verdict

STANDS_OUT = frozenset(("clocks_off", "own_over", "surge", "drop", "campaign", "target", "roaming"))
"""Kinds of news that are unusual for a host. The others (a jail's first bans, a restart, the first digest) are shown
but do not change the verdict."""
FAR_BEYOND, AT_LEAST = 10.0, 100
"""Factor of the usual bans, and number of bans, of a period that is never quiet, even if such days
are no longer news."""


def verdict(facts: Sequence[Fact], bans: int, compared: Compared) -> Verdict:
    """Return the verdict for the facts and the number of bans."""
    if any(fact.needs_you for fact in facts):
        return "needs_attention"
    far = compared.usual is not None and bans >= max(AT_LEAST, FAR_BEYOND * compared.usual)
    return "stands_out" if far or any(fact.kind in STANDS_OUT for fact in facts) else "quiet"
