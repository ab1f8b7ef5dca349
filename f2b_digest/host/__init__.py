"""What this host is asked about itself and its fail2ban, best effort; nothing is written, and no text made, here."""

import pwd
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from f2b_digest import geography
from f2b_digest.config import Configuration
from f2b_digest.fail2ban_client import CRON, Client
from f2b_digest.host import logins, server
from f2b_digest.surroundings import AnyNetwork, Login, Surroundings

PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
"""RFC 1918, RFC 4193, link-local and loopback: who has such an address is a neighbour of one's own."""
Answer = TypeVar("Answer")


def look(
    configuration: Configuration, since: float, now: float, socket: Path | None = None
) -> tuple[Surroundings, list[str]]:
    """Return all that this host tells, and notes on databases of addresses that cannot be read.

    What it does not tell is empty, or None.

    `since`, in UTC epoch seconds, is how old a login may be; `socket` is fail2ban's, None is its own default. Programs
    are run, each with its deadline: 5 s for fail2ban, 5 s for `last` and 5 s for the journal.
    """
    client = Client(*(("-s", socket) if socket else ()), environment=CRON)
    fail2ban = _best_effort(lambda: server.ask(client), server.UNKNOWN)
    own: tuple[AnyNetwork, ...] = _best_effort(lambda: tuple(own_networks()), ())
    hosts = {network.network_address for network in own if network.num_addresses == 1}
    found: tuple[Login, ...] = _best_effort(lambda: logins.find(since, now), ())
    places, notes = geography.find(configuration.geography)
    known = Surroundings(
        own=own,
        friends=configuration.friends,
        ignored=fail2ban.ignored,
        logins=tuple(login for login in found if ip_address(login.ip) not in hosts),
        users=_best_effort(lambda: frozenset(entry.pw_name for entry in pwd.getpwall() if entry.pw_name), frozenset()),
        running=fail2ban.running,
        increments=fail2ban.increments,
        geography=places,
    )
    return known, notes


def _best_effort(part: Callable[[], Answer], nothing: Answer) -> Answer:
    """Return what a part finds, or nothing: whatever is odd on a host, a digest goes out without it."""
    try:
        return part()
    except Exception:
        return nothing


def own_networks() -> Iterator[AnyNetwork]:
    """Yield each address of this host's interfaces, and the networks of the private ones.

    The network of a public interface is not one's own: a cloud's /20 is full of strangers. Raises OSError, ImportError.
    """
    import ifaddr  # noqa: PLC0415 - it takes ctypes, which a Python may lack

    found: dict[AnyNetwork, None] = {}
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            ip = _address(each.ip if isinstance(each.ip, str) else each.ip[0])
            found[ip_network(ip)] = None
            if any(ip in network for network in PRIVATE):
                found[ip_network(f"{ip}/{each.network_prefix}", strict=False)] = None
    yield from found


def _address(text: str) -> IPv4Address | IPv6Address:
    """Return an interface's address without its zone ("fe80::1%eth0")."""
    return ip_address(text.partition("%")[0])
