"""What a digest says first of a fleet's hosts: facts as in `model.facts`, each with the hosts to be reported now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from f2b_digest.model.finding import Finding


@dataclass(frozen=True)
class HostSince:
    """A host, and a time of it."""

    host: str
    since: datetime


@dataclass(frozen=True)
class HostsSilent(Finding):
    """Hosts of a fleet that have stopped uploading."""

    hosts: tuple[HostSince, ...]
    """Time of the last contact, the oldest first."""
    retire: str = ""
    """Shell command, for the centre, that retires the first of them."""
    kind: Literal["hosts_silent"] = "hosts_silent"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class HostsUnheard(Finding):
    """Hosts that were enrolled and never uploaded."""

    hosts: tuple[HostSince, ...]
    """When they were enrolled, the oldest first."""
    retire: str = ""
    """Shell command, for the centre, that retires the first of them."""
    kind: Literal["hosts_unheard"] = "hosts_unheard"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class HostJails:
    """Jails of a host."""

    host: str
    jails: tuple[str, ...]
    more: int
    """Jails beyond these."""


@dataclass(frozen=True)
class HostsLacking(Finding):
    """Hosts with jails that ban without the f2b-digest action."""

    hosts: tuple[HostJails, ...]
    line: str
    """For fail2ban's configuration, for each of these jails; as the first host gives it."""
    intended: str = ""
    """Line of f2b-digest's configuration that leaves these jails out, of all hosts."""
    kind: Literal["hosts_lacking"] = "hosts_lacking"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class HostStores:
    """How many stores report as one host."""

    host: str
    stores: int


@dataclass(frozen=True)
class HostsCopied(Finding):
    """Several stores report as one host: a clone with its credential."""

    hosts: tuple[HostStores, ...]
    kind: Literal["hosts_copied"] = "hosts_copied"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class HostWaiting:
    """Events of a host that the centre does not have."""

    host: str
    events: int
    since: datetime
    """When the first of them was recorded."""


@dataclass(frozen=True)
class HostsBehind(Finding):
    """Hosts that are heard, but whose uploads lag: their bans are missing in the digest."""

    hosts: tuple[HostWaiting, ...]
    """The one that lags most first."""
    kind: Literal["hosts_behind"] = "hosts_behind"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class HostClock:
    """A host's clock."""

    host: str
    seconds: int
    """By which it is ahead of the centre's; negative: behind."""


@dataclass(frozen=True)
class ClocksOff(Finding):
    """Hosts whose clock is off by more than a minute."""

    hosts: tuple[HostClock, ...]
    """The one that is off most first."""
    kind: Literal["clocks_off"] = "clocks_off"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class HostLate:
    """Bans of a host from before the digest's period."""

    host: str
    bans: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class LateBans:
    """Bans from before the period that hosts uploaded only now; no number of the digest has them."""

    bans: int
    hosts: tuple[HostLate, ...]
    """The one with the most first."""
    kind: Literal["late_bans"] = "late_bans"
    needs_you: Literal[False] = False
