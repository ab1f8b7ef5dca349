"""Which banned addresses belong to the admin's own side. Nothing is looked up here.

A ban of one's own side is told although it may be right: an attacker who guessed a password logs in, and is banned
elsewhere. That needs the admin as well; the fact names who logged in.
"""

import shlex
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Literal, NamedTuple

from f2b_digest.digest import Digest, moment
from f2b_digest.facts import OwnBanned
from f2b_digest.judgement.evidence import Banned
from f2b_digest.surroundings import AnyNetwork, Surroundings

MOST = 20
"""Facts of this kind in one digest."""
NEIGHBOURS = {4: 24, 6: 64}
"""Prefix lengths, by IP version: what a provider hands to one customer or one site, as a rule; an address that changes
stays in it."""
_WIDE = 4
"""Bits that a network may lack to a whole leading part of its text before the text is no help."""


class Belonging(NamedTuple):
    """Why an address is one's own."""

    why: Literal["own", "friend", "login", "ignored"]
    near: str | None
    """The network, or the entry of ignoreip; None for a login."""
    user: str | None
    """Who logged in."""


class OwnSide:
    """The admin's own side, ready to be asked about hundreds of thousands of ids."""

    def __init__(self, surroundings: Surroundings, start: float, end: float) -> None:
        """Take the logins between two times, UTC epoch seconds: before a ban as well as after it."""
        self._networks: list[tuple[AnyNetwork, Belonging]] = [
            *((network, Belonging("own", _text(network), None)) for network in surroundings.own),
            *((network, Belonging("friend", _text(network), None)) for network in surroundings.friends),
        ]
        self._logins: dict[AnyNetwork, Belonging] = {}
        for login in surroundings.logins:
            network = _network(login.ip) if start <= login.at <= end else None
            if network is not None:
                self._logins[network] = Belonging("login", None, login.user)
        self._ignored: list[tuple[AnyNetwork, Belonging]] = [
            (_with_neighbours(network), Belonging("ignored", _text(network), None)) for network in surroundings.ignored
        ]
        networks = [network for network, _ in (*self._networks, *self._ignored)]
        heads = [_heads(network) for network in (*networks, *self._logins)]
        self._any = None in heads
        self._heads = frozenset(head for each in heads if each for head in each) | {""}  # "": ::ffff:192.0.2.1

    def holds(self, ip: str) -> bool:
        """Return whether an id is one's own; fast enough to be asked for each row of a query.

        Most strangers are told by how their text begins, in a fifth of a microsecond; the others take some microseconds.
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
        network = _network(ip)
        if network is None:
            return None
        found = self._logins.get(network)
        return _first(self._networks, network) or found or _first(self._ignored, network)

    def overlaps(self, network: AnyNetwork) -> bool:
        """Return whether a network has an address of one's own."""
        return (
            _first(self._networks, network) is not None
            or _first(self._ignored, network) is not None
            or any(_overlap(network, login) for login in self._logins)
        )


def own_banned(digest: Digest, own: OwnSide, bans: Sequence[Banned]) -> Iterator[OwnBanned]:
    """Yield a fact for each of one's own addresses in each jail, the most recent ban first."""
    found: dict[tuple[str, str], tuple[Banned, Belonging]] = {}
    for row in sorted(bans, key=lambda row: row.last, reverse=True):
        reason = own.find(row.ip) if (row.jail, row.ip) not in found else None
        if reason is not None:
            found[row.jail, row.ip] = (row, reason)
        if len(found) == MOST:
            break
    zone = digest.end.tzinfo
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
            unban=f"fail2ban-client set {shlex.quote(row.jail)} unbanip {shlex.quote(row.ip)}",
        )


def _first(networks: Sequence[tuple[AnyNetwork, Belonging]], banned: AnyNetwork) -> Belonging | None:
    return next((why for network, why in networks if _overlap(network, banned)), None)


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _network(text: str) -> AnyNetwork | None:
    """Return an id as a network, an address as one of one; an IPv4 address that is written as IPv6 is IPv4."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen == 128:
        mapped = network.network_address.ipv4_mapped
        return network if mapped is None else ip_network(mapped)
    return network


def _with_neighbours(network: AnyNetwork) -> AnyNetwork:
    """Return the network of an ignored address and its neighbours; a network, and this host itself, as it is."""
    address: IPv4Address | IPv6Address = network.network_address
    if network.prefixlen < network.max_prefixlen or address.is_loopback or address.is_unspecified:
        return network
    return network.supernet(new_prefix=NEIGHBOURS[network.version])


def _text(network: AnyNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _heads(network: AnyNetwork) -> set[str] | None:
    """Return how its addresses' texts begin, up to the first dot or colon; None where that tells too little."""
    bits, form = (8, "d") if network.version == 4 else (16, "x")
    if network.prefixlen < bits - _WIDE:
        return None
    first, last = (int(address) >> (network.max_prefixlen - bits) for address in (network[0], network[-1]))
    heads = {format(head, form) for head in range(first, last + 1)}
    return heads | {""} if first == 0 and network.version == 6 else heads
