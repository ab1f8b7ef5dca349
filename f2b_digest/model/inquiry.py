"""An inquiry (`find`) and its answer, as plain values. Nothing is looked up or rendered here."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from f2b_digest.model.counts import Counts

Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Inquiry:
    """Which bans an admin asks about."""

    kind: Literal["address", "network", "asn", "jail", "user"]
    text: str
    """As entered: an address, a network, "AS64500", a jail or a user's name. An "address" may be any text that
    fail2ban bans by."""
    network: Network | None = None
    """Of an address or a network."""
    asn: int | None = None
    since: float | None = None
    """In UTC epoch seconds, as `until`, which is excluded. None: no bound."""
    until: float | None = None
    jails: tuple[str, ...] = ("*",)
    """Patterns, as a report's."""


@dataclass(frozen=True)
class Recipient:
    """A recipient of a digest."""

    channel: str
    recipient: str
    status: str
    """sent, pending, deferred or failed."""


@dataclass(frozen=True)
class Told:
    """A digest that some of the bans are in."""

    digest: int
    report: str
    sealed_at: datetime
    bans: int
    """Of those that were asked about."""
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
    """Address and bans, the most bans first."""


@dataclass(frozen=True)
class Members:
    """The campaign of a network number that an address was a part of, as a digest told it."""

    digest: int
    asn: int | None
    name: str | None
    """Of the number's holder."""
    addresses: int
    """With the one that was asked about."""
    bans: int
    worst: tuple[tuple[str, int], ...]
    """The others: address and bans, the most bans first. Empty where the digest's events were pruned."""


@dataclass(frozen=True)
class Registration:
    """What a registry says of an address or a network, each text fit for a terminal and maybe empty."""

    holder: str
    """Never empty."""
    abuse: str
    """An address of mail."""
    name: str
    """As the registry calls the network."""
    network: str
    """In CIDR; the first, where several make up what was registered."""


@dataclass(frozen=True)
class Answer:
    """The answer to an inquiry."""

    inquiry: Inquiry
    counts: Counts
    last: datetime | None
    """The time of the last ban, None where there is none; `counts.start` is that of the first."""
    known_since: datetime | None
    """The time of the store's first ban; None for an empty store."""
    standing: tuple[Standing, ...] = ()
    standing_in_all: int = 0
    asked: Literal["fail2ban", "store"] = "store"
    """The source for which bans are active."""
    country: str | None = None
    """Where an address is registered, as in `Address`: its country, network number, and that one's holder."""
    asn: int | None = None
    name: str | None = None
    neighbours: Neighbours | None = None
    campaign: Members | None = None
    """The newest that was told; an address's /24 or /48 is in `neighbours`."""
    told: tuple[Told, ...] = ()
    """The newest first."""
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
    """None where no registry was asked, or none answered."""
    hosts: tuple[tuple[str, int], ...] = ()
    """Hosts and their bans, the most first; empty where the store has those of one host only."""
