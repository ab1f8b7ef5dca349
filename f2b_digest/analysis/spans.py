"""Networks as integer ranges with text prefixes, for fast lookups in each row of a query."""

from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from f2b_digest.model.host_context import AnyNetwork


class Span(NamedTuple):
    """The addresses of a network, as numbers."""

    version: int
    first: int
    last: int

    def meets(self, other: "Span") -> bool:
        """Return whether two spans overlap."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last


def head_of(ip: str) -> str:
    """Return an id up to its first dot or colon, for the fast path before parsing."""
    head = ip.partition(".")[0]
    return head.partition(":")[0].lower() if ":" in head else head


def span_of_network(network: AnyNetwork) -> Span:
    """Return the addresses of a network."""
    return Span(network.version, int(network[0]), int(network[-1]))


def span_of(text: str) -> Span | None:
    """Return the span of an id; None if it is not an address or network. IPv4-mapped IPv6 counts as IPv4."""
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
    """Return the text prefixes of its addresses, up to the first dot or colon; None if too unspecific."""
    below, form, most = (24, "d", 16) if span.version == 4 else (112, "x", 4096)
    first, last = span.first >> below, span.last >> below
    return {format(head, form) for head in range(first, last + 1)} if last - first < most else None
