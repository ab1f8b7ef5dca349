"""The inputs of the analysis beside a digest's counts, as plain values. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from f2b_digest.analysis.statistics import JUDGED
from f2b_digest.model.bans import Chosen, Rebans
from f2b_digest.model.baseline import Baseline, HostActivity, NetworkKey
from f2b_digest.model.digest import Reconciliation, Undelivered
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.told import Told


@dataclass(frozen=True)
class Inputs:
    """Everything known beside the counts."""

    baseline: Baseline
    rebans: Rebans
    networks: Mapping[NetworkKey, tuple[int, ...]] = field(default_factory=dict)
    """Of each campaign's network or AS number, its banned addresses in earlier periods, the newest first."""
    host_context: HostContext = field(default_factory=HostContext)
    starts_and_stops: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)
    """By jail, `start` or `stop`, and when (UTC epoch seconds), oldest first: those up to the digest's end, from the
    last one before its period on."""
    own_bans: Sequence[Chosen] = ()
    """Those of the ids that `OwnAddresses.holds`; others among them are ignored."""
    proxy_bans: Sequence[Chosen] = ()
    """Those of the ids that `Proxies.holds`; others among them are ignored."""
    waits_since: float | None = None
    """When the oldest ban of the digest was recorded, UTC epoch seconds; None where it may wait
    (the report sends from so many bans on)."""
    every: float | None = None
    """Seconds: the report's interval (see `periods.pace`); None if unknown."""
    first: bool = False
    """Whether this is the report's first digest."""
    complete: bool = True
    """Whether the digest is about everything up to now; False for a preview of a past period, of which only the
    counts can be analysed."""
    report: str = ""
    told: Sequence[Told] = ()
    """Facts of earlier digests of this report and others, the newest first."""
    known_quiet: frozenset[str] = frozenset()
    """Jails that may be silent or stopped."""
    campaign_from: int = 5
    """Number of addresses that form a campaign."""
    undelivered: Sequence[Undelivered] = ()
    """Of earlier digests of the report."""
    by_host: Mapping[str, HostActivity] = field(default_factory=dict)
    """At a fleet's centre: the bans of each host that has some."""
    host: str | None = None
    """Of a fleet, the host whose bans alone are judged; None for all."""
    judged: int = JUDGED
    """How many jails are judged, which thresholds grow with: of a fleet, those of each host."""
    reconciliation: Reconciliation | None = None
    """What fail2ban's own database says; None where it could not be read."""
