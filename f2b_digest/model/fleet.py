"""The hosts of a fleet, as plain values: what the centre knows of each, what a digest says of it. No judgement."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class HostState:
    """What a centre knows of an enrolled host. Times are UTC epoch seconds by the centre's clock.

    All but the first three fields come from the host itself; their types have been checked.
    """

    host: str
    enrolled_at: float
    heard_at: float | None = None
    """Its last contact; None if there was none."""
    left: bool = False
    """Whether it said at its last contact that it leaves the fleet."""
    stores: int = 1
    """How many stores report as this host."""
    skew: float = 0.0
    """Seconds by which its clock is ahead."""
    complete_until: float | None = None
    """What it recorded until then is at the centre."""
    backlog: int = 0
    """Events that were not at the centre at its last contact."""
    oldest: float | None = None
    """When the first of these was recorded."""
    version: str | None = None
    silence: str = ""
    """Why fail2ban did not answer there; empty if it did, or was not asked."""
    answered: bool = False
    """Whether it answered."""
    lacking: tuple[str, ...] = ()
    """Jails without the f2b-digest action."""
    lacking_more: int = 0
    line: str = ""
    """What to add to these jails."""
    here: bool = False
    """Whether it is the hub itself, which uploads nothing: the digest's host context is of it."""


@dataclass(frozen=True)
class LateOfHost:
    """Bans of a host from before a digest's period, in UTC epoch seconds."""

    bans: int
    first: float
    last: float


@dataclass(frozen=True)
class Late:
    """Bans from before the digest's period."""

    bans: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class FleetHost:
    """A host with something to report: at least one field after `bans` is set."""

    name: str
    bans: int
    """In the digest."""
    own: tuple[str, ...] = ()
    """Own addresses that are banned there."""
    enrolled: datetime | None = None
    """Set for a host that was never heard."""
    silent_since: datetime | None = None
    """Its last contact; set for a host that is silent."""
    down: bool = False
    """Whether fail2ban seems to be down there."""
    silent_jails: tuple[str, ...] = ()
    """Jails that this digest reports as silent."""
    lacking: tuple[str, ...] = ()
    """Jails without the f2b-digest action."""
    lacking_more: int = 0
    stores: int = 1
    """How many report as this host."""
    waiting: int = 0
    """Events that the centre does not have; set for a host that lags."""
    waiting_since: datetime | None = None
    """When the first of these was recorded."""
    clock_off: int = 0
    """Seconds by which its clock is ahead (negative: behind); set beyond a minute."""
    late: Late | None = None


@dataclass(frozen=True)
class HostBans:
    """The bans of a host."""

    name: str
    bans: int


@dataclass(frozen=True)
class Version:
    """A version of f2b-digest that hosts run."""

    version: str
    hosts: int


@dataclass(frozen=True)
class Everywhere:
    """An id that was banned on many hosts."""

    ip: str
    hosts: int
    bans: int
    jails: tuple[str, ...]
    """The one with the most bans first."""


@dataclass(frozen=True)
class Fleet:
    """The hosts of a centre's report."""

    in_all: int
    """Enrolled and not retired."""
    hosts: tuple[FleetHost, ...] = ()
    """Those with something to report, the worst first."""
    left_out: int = 0
    """Further ones of these."""
    busiest: tuple[HostBans, ...] = ()
    """Those with bans and nothing else to report, the most bans first."""
    busy: int = 0
    """Their number, including those that are not listed."""
    quiet: int = 0
    """Hosts without bans and with nothing to report."""
    behind: tuple[Version, ...] = ()
    """Other versions than the centre's, the one of the most hosts first."""
    version: str = ""
    """The centre's."""
    everywhere: tuple[Everywhere, ...] = ()
    """Ids that were banned on the most hosts, of those on three or more."""
    everywhere_in_all: int = 0
    lines: tuple[str, ...] = ()
    """Shell commands that ban these, to be run on each host."""
