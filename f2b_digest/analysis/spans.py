"""Networks as spans of numbers, and the heads of their addresses' texts: quick to ask for each row of a query."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from f2b_digest.model.host_context import AnyNetwork


class Span(NamedTuple):
    """The addresses of a network, as numbers."""

    version: int
    first: int
    last: int

    def meets(self, other: "Span") -> bool:
        """Return whether they have an address in common."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last


def head_of(ip: str) -> str:
    """Return an id up to its first dot or colon, for the fast path before parsing."""
    head = ip.partition(".")[0]
    return head.partition(":")[0].lower() if ":" in head else head


def span_of_network(network: AnyNetwork) -> Span:
    """Return the addresses of a network."""
    return Span(network.version, int(network[0]), int(network[-1]))


def span_of(text: str) -> Span | None:
    """Return the addresses of an id; None for what is none. An IPv4 address that is written as IPv6 is IPv4."""
    try:
        if "/" in text:
            return span_of_network(ip_network(text, strict=False))
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return Span(address.version, int(address), int(address))


def heads_of(span: Span) -> set[str] | None:
    """Return how its addresses' texts begin, up to the first dot or colon; None where that tells too little."""
    below, form, most = (24, "d", 16) if span.version == 4 else (112, "x", 4096)
    first, last = span.first >> below, span.last >> below
    return {format(head, form) for head in range(first, last + 1)} if last - first < most else None
