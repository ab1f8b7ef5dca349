"""An inquiry (`find`) and its answer, as plain values. Nothing is looked up or rendered here."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from f2b_digest.model.counts import Counts

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Inquiry:
    """The bans to look up."""

    kind: Literal["address", "network", "asn", "jail", "user"]
    text: str
    """As entered: an address, a network, "AS64500", a jail or a user name. An "address" may be any fail2ban id."""
    network: Network | None = None
    """The parsed address or network; None for other kinds."""
    asn: int | None = None
    since: float | None = None
    """UTC epoch seconds, like `until`, which is exclusive; None for no bound."""
    until: float | None = None
    jails: tuple[str, ...] = ("*",)
    """Shell patterns, as in a report."""


@dataclass(frozen=True)
class Recipient:
    """A recipient of a digest."""

    channel: str
    recipient: str
    status: str
    """sent, pending, deferred or failed."""


@dataclass(frozen=True)
class Told:
    """A digest that reported some of the bans."""

    digest: int
    report: str
    sealed_at: datetime
    bans: int
    """How many of the bans are in it."""
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True)
class Standing:
    """A ban that is active now."""

    jail: str
    ip: str
    until: datetime | None
    """None if permanent or unknown."""


@dataclass(frozen=True)
class Neighbours:
    """Other banned addresses of the same /24 (IPv4) or /48 (IPv6)."""

    network: str
    addresses: int
    bans: int
    worst: tuple[tuple[str, int], ...]
    """(address, bans), most bans first."""


@dataclass(frozen=True)
class Members:
    """A campaign of an AS number that the address belonged to, as a digest reported it."""

    digest: int
    asn: int | None
    name: str | None
    """The AS number's holder."""
    addresses: int
    """Including the one that was looked up."""
    bans: int
    worst: tuple[tuple[str, int], ...]
    """The others as (address, bans), most bans first. Empty if the digest's events were pruned."""


@dataclass(frozen=True)
class Registration:
    """A registry's answer on an address or a network. Texts are sanitized for a terminal, and may be empty."""

    holder: str
    """Never empty."""
    abuse: str
    """Mail address for abuse reports."""
    name: str
    """The registry's name for the network."""
    network: str
    """In CIDR notation; the first one, if the registered range needs several."""


@dataclass(frozen=True)
class Answer:
    """The answer to an inquiry."""

    inquiry: Inquiry
    counts: Counts
    last: datetime | None
    """The time of the last ban, or None; `counts.start` is that of the first."""
    known_since: datetime | None
    """The time of the store's first ban; None for an empty store."""
    standing: tuple[Standing, ...] = ()
    standing_in_all: int = 0
    asked: Literal["fail2ban", "store"] = "store"
    """The source for which bans are active."""
    country: str | None = None
    """Where the address is registered, as in `Address`; `name` is the AS number's holder."""
    asn: int | None = None
    name: str | None = None
    neighbours: Neighbours | None = None
    campaign: Members | None = None
    """The newest one in a digest; an address's /24 or /48 is in `neighbours`."""
    told: tuple[Told, ...] = ()
    """The digests that reported these bans, newest first."""
    told_in_all: int = 0
    waiting: tuple[str, ...] = ()
    """Reports for which some of these bans are pending."""
    history: int = 0
    """Bans imported as history, which are never reported."""
    unban: tuple[str, ...] = ()
    """Shell commands."""
    ignore: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    registered: Registration | None = None
    """None if no registry was asked, or none answered."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Hosts and their bans, the most first; empty where the store has those of one host only."""
