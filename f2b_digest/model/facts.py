"""What a digest says first: plain values, each of a kind. No SQL, no text, no judgement here.

A fact with `needs_you` asks somebody to act; the others are news. Times are in the report's zone.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

Verdict = Literal["needs_attention", "stands_out", "quiet"]
"""The whole digest in a word, shown as red, amber and green: some fact asks somebody to act; some news stands out, or
the period had far more bans than usual; neither."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fact that leads to something: all but what is told in passing."""

    commands: tuple[str, ...] = ()
    """What to type next in a shell, quoted for it; none in digests that were sealed before there were any."""


# ---- what needs somebody


@dataclass(frozen=True)
class OwnBanned:
    """An address of the admin's own side was banned."""

    jail: str
    ip: str
    bans: int
    last: datetime
    until: datetime | None
    """When the last ban ends, or was ended by an unban; None if never or unknown."""
    why: Literal["own", "friend", "ignored", "login"]
    """own: this host's address, or a private network that it is in; friend: the configuration says so; ignored: in or
    beside what fail2ban's ignoreip takes out; login: somebody logged in from there in the period."""
    near: str | None
    """The network, or the entry of ignoreip, that makes it one's own; None for a login."""
    user: str | None
    """Who logged in."""
    unban: str
    """What to type in a shell."""
    ignore: str = ""
    """What to type, so that the jail does not ban it again; lasts until fail2ban restarts."""
    permanent: bool = False
    """Whether the last ban has no end."""
    kind: Literal["own"] = "own"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class ProxyBanned:
    """A jail bans a reverse proxy or a CDN, and with it whoever comes through it."""

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
    """A jail that always bans did not ban, and chance does not explain it."""

    jail: str
    usual: float
    """Bans a day: the median of the 28 days before its last ban."""
    last: datetime | None
    """Its last ban."""
    line: str = ""
    """For the configuration, if it is meant to be quiet."""
    kind: Literal["silent"] = "silent"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class JailStopped(Finding):
    """A jail was stopped, and was not started since, while others run."""

    jail: str
    since: datetime
    usual: float | None
    kind: Literal["stopped"] = "stopped"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Fail2banDown(Finding):
    """fail2ban does not run, or nothing of it arrives here: every jail is stopped or silent."""

    jails: int
    usual: float | None
    since: datetime | None
    """The last thing that it recorded."""
    names: tuple[str, ...] = ()
    """The jails."""
    kind: Literal["down"] = "down"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Unrecorded(Finding):
    """fail2ban's own database knew bans that were not recorded."""

    added: int
    """How many, all of them in this digest now."""
    jails: tuple[str, ...]
    """Where our action seems to be missing."""
    kind: Literal["unrecorded"] = "unrecorded"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class NotDelivered(Finding):
    """Earlier digests of the report did not reach somebody."""

    deliveries: int
    failed: int
    """Of these, how many will not be tried again."""
    digest: int
    """The first of these, of the failed ones if there are any: its number, channel, recipient and what went wrong."""
    channel: str
    recipient: str
    reason: str
    kind: Literal["undelivered"] = "undelivered"
    needs_you: Literal[True] = True


@dataclass(frozen=True)
class Late(Finding):
    """Bans waited for this digest for longer than the report's pace explains."""

    since: datetime
    """When the first of them was recorded."""
    every: float
    """Seconds: the report's pace."""
    kind: Literal["late"] = "late"
    needs_you: Literal[True] = True


# ---- news


@dataclass(frozen=True)
class OwnBanOver(Finding):
    """An address of the admin's own side was banned, and is not any more."""

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
    kind: Literal["own_over"] = "own_over"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Surge(Finding):
    """Far more bans than usual, in a jail or (None) altogether."""

    jail: str | None
    bans: int
    usual: float
    before: int | None
    """Bans of the period before."""
    kind: Literal["surge"] = "surge"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Drop(Finding):
    """Far fewer bans than usual, in a jail or (None) altogether; not none at all."""

    jail: str | None
    bans: int
    usual: float
    before: int | None
    kind: Literal["drop"] = "drop"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class NewJail:
    """A jail banned for the first time that the store knows of."""

    jail: str
    bans: int
    kind: Literal["new_jail"] = "new_jail"
    needs_you: Literal[False] = False


@dataclass(frozen=True)
class Concerted(Finding):
    """A campaign that is unusual for its network, or tight in time, or tried accounts of this host."""

    network: str | None
    """A /24 or /48; None where the network number holds them together."""
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
    """Addresses whose first bans came within three hours."""
    tight_from: datetime | None = None
    on_accounts: int = 0
    """Addresses that tried an account, other than root, that can log in here."""
    usual: float | None = None
    """Addresses: the network's median in earlier periods; None where too few are known."""
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
    """fail2ban was started in the period; what it restores is not counted a second time."""

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
    | OwnBanOver | Surge | Drop | NewJail | Concerted | Targeted | Roaming | Restarted | FirstDigest,
    Field(discriminator="kind"),
]  # fmt: skip
