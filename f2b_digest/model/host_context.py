"""Information about this host outside the store, as plain values. Nothing is read or rendered here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, NamedTuple

from f2b_digest.model.fleet import HostState

AnyNetwork = IPv4Network | IPv6Network


class Login(NamedTuple):
    """A login from another host."""

    ip: str
    user: str
    at: float
    """UTC epoch seconds."""


class Belonging(NamedTuple):
    """Why an address counts as own."""

    why: Literal["own", "friend", "login", "ignored"]
    near: str | None
    """The network, or the entry of ignoreip; None for a login."""
    user: str | None
    """Who logged in."""


class Place(NamedTuple):
    """Where an address is registered."""

    country: str | None
    """ISO 3166-1 alpha-2."""
    asn: int | None
    name: str | None
    """Of the AS number's holder."""


class Proxy(NamedTuple):
    """A reverse proxy or CDN: banning it locks out all of its visitors."""

    network: AnyNetwork
    name: str
    """A CDN's; of the web server that trusts it; "proxies" where the configuration says so."""
    header: str
    """The HTTP header with the visitor's address."""
    own: bool = False
    """Whether it was configured on this host, rather than in the list of CDNs."""


class Failed(NamedTuple):
    """Addresses with failures that no jail banned, by fail2ban's log of a period."""

    jails: tuple[tuple[str, int], ...]
    """How many failed in each jail, the most first."""
    addresses: int
    """Distinct ones, of all these jails."""
    since: float
    """Start of the log's coverage in UTC epoch seconds: the period's start, or later."""


@dataclass(frozen=True)
class Geography:
    """A database of addresses on this host."""

    source: str
    made_at: float
    """UTC epoch seconds."""
    licence: str
    """The attribution that its licence requires."""
    find: Callable[[str], Place | None]
    """Looks an address up, offline; None if invalid or unknown."""


@dataclass(frozen=True)
class HostContext:
    """The information; what could not be read is empty or None."""

    own: tuple[AnyNetwork, ...] = ()
    """This host's addresses, and the private networks that it is in."""
    friends: tuple[AnyNetwork, ...] = ()
    """The configuration's."""
    ignored: tuple[AnyNetwork, ...] = ()
    """fail2ban's ignoreip, of all jails; an address is a network of one."""
    proxies: tuple[Proxy, ...] = ()
    """CDNs, and what this host's web servers trust."""
    logins: tuple[Login, ...] = ()
    """Logins of the last weeks, from other hosts."""
    users: frozenset[str] = frozenset()
    """The names of this host's accounts that can log in."""
    running: tuple[str, ...] | None = None
    """The jails that fail2ban runs now; empty if it does not answer; None if it could not be asked."""
    increments: bool | None = None
    """Whether some jail has bantime.increment."""
    stores: tuple[str, ...] | None = None
    """Stores that fail2ban's actions on this host record to, as resolved absolute paths; None if unknown."""
    unseen: tuple[str, ...] = ()
    """What could not be read, of `UNSEEN`."""
    geography: Geography | None = None
    failures: Callable[[float, float, Callable[[str], bool]], Failed | None] | None = None
    """Counts by fail2ban's log who failed and was never banned: in a period (UTC epoch seconds, the end excluded), in
    the jails that are wanted. None where no report asks, or the log cannot be read; its answer is None likewise."""
    judged: Mapping[str, Belonging] = field(default_factory=dict)
    """At a fleet's centre: the ids that a host classified as own when it uploaded their bans, and why."""
    fleet: tuple[HostState, ...] | None = None
    """At a fleet's centre: the report's enrolled hosts; None on a host."""


UNSEEN = ("server", "logins", "database", "addresses", "users", "log")
"""fail2ban's server, sshd's logins, fail2ban's own database, this host's addresses, its users, and fail2ban's log
(where a report has `failures`)."""
UNKNOWN_HOST = HostContext()


def of_another(known: HostContext) -> HostContext:
    """Return the part that applies to a store not fed by this host's fail2ban; logins only if it feeds no other."""
    logins = () if known.stores else known.logins
    return replace(known, ignored=(), running=None, increments=None, unseen=(), logins=logins, failures=None)
