"""Which banned addresses belong to the admin's own side. Nothing is looked up here.

A ban of one's own side is told although it may be right: an attacker who guessed a password logs in, and is banned
elsewhere. That needs the admin as well; the fact names who logged in.
"""

import shlex
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal, NamedTuple

from f2b_digest.model.bans import Chosen
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import moment
from f2b_digest.model.facts import OwnBanned
from f2b_digest.model.host_context import AnyNetwork, HostContext

MOST = 20
"""Facts of this kind in one digest."""
LOGINS_BEFORE = 3 * 86400.0
"""Seconds before a period in which a login counts, too: an open period begins with its first ban, and whoever is banned
in the morning logged in the day before."""
NEIGHBOURS = {4: 24, 6: 64}
"""Prefix lengths, by IP version: what a provider hands to one customer or one site, as a rule; an address that changes
stays in it."""


class Belonging(NamedTuple):
    """Why an address is one's own."""

    why: Literal["own", "friend", "login", "ignored"]
    near: str | None
    """The network, or the entry of ignoreip; None for a login."""
    user: str | None
    """Who logged in."""


class _Span(NamedTuple):
    """The addresses of a network, as numbers."""

    version: int
    first: int
    last: int

    def meets(self, other: "_Span") -> bool:
        """Return whether they have an address in common."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last


class OwnAddresses:
    """The admin's own side, ready to be asked about hundreds of thousands of ids."""

    def __init__(self, host_context: HostContext, start: float, end: float) -> None:
        """Take the logins of a period and of `LOGINS_BEFORE` before it; its start and end are UTC epoch seconds."""
        self._networks = [
            *((_span(network), Belonging("own", _text(network), None)) for network in host_context.own),
            *((_span(network), Belonging("friend", _text(network), None)) for network in host_context.friends),
        ]
        self._logins: dict[_Span, Belonging] = {}
        for login in host_context.logins:
            span = _span_of(login.ip) if start - LOGINS_BEFORE <= login.at <= end else None
            if span is not None:
                self._logins[span] = Belonging("login", None, login.user)
        self._ignored = [
            (_span(_with_neighbours(network)), Belonging("ignored", _text(network), None))
            for network in host_context.ignored
        ]
        heads = [_heads(span) for span in (*(span for span, _ in (*self._networks, *self._ignored)), *self._logins)]
        self._any = None in heads
        self._heads = frozenset(head for each in heads if each for head in each) | {""}  # "": ::ffff:192.0.2.1

    def holds(self, ip: str) -> bool:
        """Return whether an id is one's own; fast enough to be asked for each row of a query.

        Most strangers are told by how their text begins, in a fifth of a microsecond; the others take a few.
        """
        head = ip.partition(".")[0]
        if ":" in head:
            head = head.partition(":")[0].lower()
        return (head in self._heads or self._any or "/" in ip) and self.find(ip) is not None

    def find(self, ip: str) -> Belonging | None:
        """Return why an id is one's own; None for a stranger, and for what is no address or network.

        The first of these holds: own, friend, login, ignored. A banned network is one's own if it has an address of
        one's own. An address beside one that fail2ban ignores (in the same /24 or /64) is one's own, too: lines at home
        change their address.
        """
        span = _span_of(ip)
        if span is None:
            return None
        return _first(self._networks, span) or self._logins.get(span) or _first(self._ignored, span)

    def overlaps(self, network: AnyNetwork) -> bool:
        """Return whether a network has an address of one's own."""
        span = _span(network)
        return any(each.meets(span) for each, _ in (*self._networks, *self._ignored)) or any(
            login.meets(span) for login in self._logins
        )


def own_banned(counts: Counts, own: OwnAddresses, bans: Sequence[Chosen]) -> Iterator[OwnBanned]:
    """Yield a fact for each of one's own addresses in each jail, the most recent ban first."""
    found: dict[tuple[str, str], tuple[Chosen, Belonging]] = {}
    for row in sorted(bans, key=lambda row: row.last, reverse=True):
        reason = own.find(row.ip) if (row.jail, row.ip) not in found else None
        if reason is not None:
            found[row.jail, row.ip] = (row, reason)
        if len(found) == MOST:
            break
    zone = counts.end.tzinfo
    assert zone is not None
    for row, (why, near, user) in found.values():
        yield OwnBanned(
            jail=row.jail,
            ip=row.ip,
            bans=row.bans,
            last=moment(row.last, zone),
            until=None if row.until is None else moment(row.until, zone),
            why=why,
            near=near,
            user=user,
            unban="" if row.unbanned else f"fail2ban-client set {shlex.quote(row.jail)} unbanip {shlex.quote(row.ip)}",
            ignore=f"fail2ban-client set {shlex.quote(row.jail)} addignoreip {shlex.quote(row.ip)}",
            permanent=row.permanent,
        )


def _first(spans: Sequence[tuple[_Span, Belonging]], banned: _Span) -> Belonging | None:
    return next((why for span, why in spans if span.meets(banned)), None)


def _span(network: AnyNetwork) -> _Span:
    return _Span(network.version, int(network[0]), int(network[-1]))


def _span_of(text: str) -> _Span | None:
    """Return the addresses of an id; None for what is none. An IPv4 address that is written as IPv6 is IPv4."""
    try:
        if "/" in text:
            return _span(ip_network(text, strict=False))
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return _Span(address.version, int(address), int(address))


def _with_neighbours(network: AnyNetwork) -> AnyNetwork:
    """Return the network of an ignored address and its neighbours; a network, and this host itself, as it is."""
    address = network.network_address
    if network.prefixlen < network.max_prefixlen or address.is_loopback or address.is_unspecified:
        return network
    return network.supernet(new_prefix=NEIGHBOURS[network.version])


def _text(network: AnyNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _heads(span: _Span) -> set[str] | None:
    """Return how its addresses' texts begin, up to the first dot or colon; None where that tells too little."""
    below, form, most = (24, "d", 16) if span.version == 4 else (112, "x", 4096)
    first, last = span.first >> below, span.last >> below
    return {format(head, form) for head in range(first, last + 1)} if last - first < most else None
