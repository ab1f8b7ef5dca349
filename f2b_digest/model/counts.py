"""The counts of a selection's bans, as plain values. No SQL and no analysis here."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from f2b_digest.model.digest import Campaign, Jail, LeftOut, Several, Totals, Users, When, Where
from f2b_digest.model.fleet import Everywhere


class Most(NamedTuple):
    """How many rows are fetched; the rest is counted."""

    jails: int = 40
    addresses: int = 50
    """Of each jail."""


SHOWN = Most()
"""As many as the largest message shows."""
EVERY = Most(1 << 62, 1 << 62)
QUARTER = 900
"""Seconds. No zone's clock is off by less since 1972."""


class CampaignRule(NamedTuple):
    """How many banned addresses form a campaign."""

    of_network: int
    """Of one /24 (IPv4) or /48 (IPv6)."""
    of_number: int
    """Of one AS number, of those that are in no network's campaign."""


@dataclass(frozen=True)
class Counts:
    """The counts of one digest, the worst first. `usual`, `before` and `samples` of its jails are not filled in."""

    start: datetime
    end: datetime
    totals: Totals
    jails: tuple[Jail, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    notes: tuple[str, ...] = ()
    """What could not be counted."""
    new: int = 0
    """Addresses that were never banned before, in any jail."""
    returning: int = 0
    """The others."""
    several: tuple[Several, ...] = ()
    several_in_all: int = 0
    campaigns: tuple[Campaign, ...] = ()
    campaigns_in_all: int = 0
    users: Users | None = None
    when: When | None = None
    where: Where | None = None
    everywhere: tuple[Everywhere, ...] = ()
    """Of a fleet: the ids that were banned on the most hosts."""
    everywhere_in_all: int = 0
