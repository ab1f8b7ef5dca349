"""What a digest says first: plain values, each of a kind. No SQL, no text, no judgement here.

A fact with `needs_you` needs attention; the others are news. Times are in the report's zone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from f2b_digest.model.finding import Finding
from f2b_digest.model.fleet_facts import (
    ClocksOff,
    HostsBehind,
    HostsCopied,
    HostsLacking,
    HostsSilent,
    HostsUnheard,
    LateBans,
)

Verdict = Literal["needs_attention", "stands_out", "quiet"]
"""The digest's state, shown as red, amber and green: some fact needs attention; some news stands out, or
the period had far more bans than usual; neither."""


# ---- needs attention


@dataclass(frozen=True)
class OwnBanned(Finding):
    """An own address (of the admin or a trusted network) was banned."""

    jail: str
    ip: str
    bans: int
    last: datetime
    until: datetime | None
    """When the last ban ends, or was ended by an unban; None if never or unknown."""
    why: Literal["own", "friend", "ignored", "login"]
    """own: this host's address, or a private network that it is in; friend: the configuration says so; ignored: in or
    next to an entry of fail2ban's ignoreip; login: somebody logged in from there in the period."""
    near: str | None
    """The network, or the ignoreip entry, that matches; None for a login."""
    user: str | None
    """Who logged in."""
    unban: str
    """Shell command that unbans it."""
    ignore: str = ""
    """Shell command that keeps the jail from banning it again; lasts until fail2ban restarts."""
    permanent: bool = False
    """Whether the last ban has no end."""
    host: str | None = None
    """Of a fleet, the host; None on a single one, and for all hosts together."""
    kind: Literal["own"] = "own"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class ProxyBanned:
    """A jail bans a reverse proxy or CDN, and with it all of its visitors."""

    jail: str
    name: str
    """Of a CDN; nginx, Apache or Caddy, which trusts it; "proxies" where the configuration names it."""
    addresses: int
    bans: int
    of: int
    """All bans of the jail."""
    header: str
    """Of HTTP, from which the web server is to restore the visitor's address."""
    networks: tuple[str, ...]
    """That were hit."""
    line: str
    """For fail2ban's configuration: what it ignores already, and these."""
    kind: Literal["proxy"] = "proxy"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class JailSilent(Finding):
    """A normally active jail did not ban, and chance does not explain it."""

    jail: str
    usual: float
    """Bans a day: the median of the 28 days before its last ban."""
    last: datetime | None
    """Its last ban."""
    line: str = ""
    """Configuration line to set if the silence is intended."""
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["silent"] = "silent"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class JailStopped(Finding):
    """A jail was stopped, and was not started since, while others run."""

    jail: str
    since: datetime
    usual: float | None
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["stopped"] = "stopped"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Fail2banDown(Finding):
    """fail2ban does not run, or does not record here: every jail is stopped or silent."""

    jails: int
    usual: float | None
    since: datetime | None
    """Its last recorded event."""
    names: tuple[str, ...] = ()
    """The jails."""
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["down"] = "down"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Unrecorded(Finding):
    """fail2ban's own database knew bans that were not recorded."""

    added: int
    """How many, all of them in this digest now."""
    jails: tuple[str, ...]
    """Jails in which the f2b-digest action seems to be missing."""
    kind: Literal["unrecorded"] = "unrecorded"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class NotDelivered(Finding):
    """Earlier digests of the report were not delivered."""

    deliveries: int
    failed: int
    """Of these, how many will not be retried."""
    digest: int
    """The first of these, of the failed ones if there are any: its number, channel, recipient and what went wrong."""
    channel: str
    recipient: str
    reason: str
    kind: Literal["undelivered"] = "undelivered"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Late(Finding):
    """Bans waited for this digest longer than the report's interval."""

    since: datetime
    """When the first of them was recorded."""
    every: float
    """Seconds: the report's interval."""
    kind: Literal["late"] = "late"
    needs_you: Literal[True] = True


# ---- news


@dataclass(frozen=True)
class OwnBanOver(Finding):
    """The ban of an own address has ended."""

    jail: str
    ip: str
    bans: int
    last: datetime
    until: datetime
    """When the last ban ended, or was ended by an unban."""
    why: Literal["own", "friend", "ignored", "login"]
    near: str | None
    user: str | None
    """All three as in `OwnBanned`."""
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["own_over"] = "own_over"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Surge(Finding):
    """Far more bans than usual, in a jail or (None) in total."""

    jail: str | None
    bans: int
    usual: float
    before: int | None
    """Bans of the period before."""
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["surge"] = "surge"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Drop(Finding):
    """Far fewer bans than usual, in a jail or (None) in total; not none at all."""

    jail: str | None
    bans: int
    usual: float
    before: int | None
    host: str | None = None
    """As in `OwnBanned`."""
    kind: Literal["drop"] = "drop"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class NewJail:
    """A jail's first bans in the store."""

    jail: str
    bans: int
    kind: Literal["new_jail"] = "new_jail"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Concerted(Finding):
    """A campaign that is unusual for its network, concentrated in time, or tried accounts of this host."""

    network: str | None
    """A /24 or /48; None for a campaign of an AS number."""
    asn: int | None
    name: str | None
    addresses: int
    bans: int
    users: tuple[str, ...]
    more_users: int
    campaigns: int
    """How many campaigns there were, this one included."""
    first: datetime | None = None
    last: datetime | None = None
    """Its first and last ban."""
    tight: int = 0
    """Addresses first banned within three hours."""
    tight_from: datetime | None = None
    on_accounts: int = 0
    """Addresses that tried an account, other than root, that can log in here."""
    usual: float | None = None
    """Addresses: the network's median in earlier periods; None where too few are known."""
    hosts: int | None = None
    """Of a fleet: on how many hosts; None on a single host."""
    kind: Literal["campaign"] = "campaign"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Targeted(Finding):
    """One user name that many addresses tried."""

    user: str
    addresses: int
    bans: int
    exists: bool
    """Whether this host has such a user."""
    hosts: int | None = None
    """Of a fleet: on how many hosts; None on a single host."""
    kind: Literal["target"] = "target"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Roaming(Finding):
    """Addresses that were banned in several jails."""

    addresses: int
    ip: str
    """The one with the most jails."""
    jails: tuple[str, ...]
    kind: Literal["roaming"] = "roaming"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Restarted:
    """fail2ban was started in the period; restored bans are not counted twice."""

    times: int
    last: datetime
    kind: Literal["restart"] = "restart"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class FirstDigest:
    """There is nothing to compare with yet."""

    kind: Literal["first"] = "first"
    needs_you: Literal[False] = False


Fact = Annotated[
    OwnBanned | ProxyBanned | JailSilent | JailStopped | Fail2banDown | Unrecorded | NotDelivered | Late
    | HostsSilent | HostsUnheard | HostsLacking | HostsCopied | HostsBehind | ClocksOff | LateBans
    | OwnBanOver | Surge | Drop | NewJail | Concerted | Targeted | Roaming | Restarted | FirstDigest,
    Field(discriminator="kind"),
]  # fmt: skip
