"""Best-effort queries of this host and its fail2ban. Nothing is written or rendered here."""

import logging
import pwd
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TypeVar

from f2b_digest import geoip
from f2b_digest.config import Configuration
from f2b_digest.fail2ban import failures, server
from f2b_digest.fail2ban.client import CRON, Client
from f2b_digest.fail2ban.snapshot import Snapshot
from f2b_digest.host import logins, proxies
from f2b_digest.model.host_context import UNSEEN, AnyNetwork, HostContext, Login, Proxy

PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
"""RFC 1918, RFC 4193, link-local and loopback: such addresses are local neighbours."""
NO_SHELLS = ("/nologin", "/false", "/sync", "/shutdown", "/halt")
"""Suffixes of the programs that accounts without a login have as shell."""
log = logging.getLogger(__name__)
__all__ = ["Gathered", "Snapshot", "gather", "own_networks", "read"]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Gathered:
    """Raw answers of this host: nothing that an attacker may have written is parsed."""

    server: server.Answers
    logins: logins.Raw
    database: Snapshot
    own: tuple[AnyNetwork, ...] | None
    users: frozenset[str] | None
    """None if it could not be asked."""
    web_servers: tuple[bytes, ...] = ()
    """Their configurations."""
    log: failures.Log | None = None
    """fail2ban's; None where no report asks for failures."""


def gather(configuration: Configuration, since: float, socket: Path | None = None) -> Gathered:
    """Gather what may need root; what is unavailable is empty.

    `since`, in UTC epoch seconds, is how old a login may be; `socket` is fail2ban's, None is its own default. Programs
    are run side by side, each with its deadline, and have ended when this returns: 15 s for fail2ban, 10 s for `last`
    and the journal. fail2ban cannot write to its database until `Snapshot.copy` is called.
    """
    client = Client(*(("-s", socket) if socket else ()), environment=CRON)
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(_best_effort, "fail2ban", lambda: server.ask(client), server.Answers(None, asked=False))
        seen = pool.submit(_best_effort, "logins", lambda: logins.gather(since), logins.Raw(unseen=True))
        own: tuple[AnyNetwork, ...] | None = _best_effort("interfaces", lambda: tuple(own_networks()), None)
        users: frozenset[str] | None = _best_effort("users", _users, None)
        servers: tuple[bytes, ...] = _best_effort("web servers", proxies.gather, ())
        answers = told.result()
    log_of = None
    if any(report.failures for report in configuration.reports.values()):
        unread = failures.Log(reason="it could not be looked at")
        log_of = _best_effort("fail2ban's log", lambda: failures.hold(answers.log), unread)
    database = Snapshot(configuration.fail2ban_database)
    return Gathered(answers, seen.result(), database, own, users, servers, log_of)


def read(gathered: Gathered, configuration: Configuration, since: float, now: float) -> tuple[HostContext, list[str]]:
    """Parse what was gathered; also return notes on address databases that cannot be read.

    What is unavailable is empty, or None.
    """
    own = gathered.own or ()
    hosts = {network.network_address for network in own if network.num_addresses == 1}
    no_logins: tuple[tuple[Login, ...], bool] = ((), False)
    found, whole = _best_effort("logins", lambda: logins.parse(gathered.logins, since, now), no_logins)
    unseen = {
        "server": not gathered.server.asked,
        "logins": gathered.logins.unseen or not whole,
        "database": gathered.database.unseen,
        "addresses": gathered.own is None,
        "users": gathered.users is None,
        "log": gathered.log is not None and not gathered.log.files,
    }
    places, notes = geoip.find(configuration.geography)
    known = HostContext(
        own=own,
        friends=configuration.friends,
        ignored=gathered.server.ignored,
        proxies=_best_effort("proxies", lambda: _proxies(gathered, configuration), ()),
        logins=tuple(login for login in found if ip_address(login.ip) not in hosts),
        users=gathered.users or frozenset(),
        running=gathered.server.running,
        increments=gathered.server.increments,
        stores=gathered.server.stores,
        unseen=tuple(what for what in UNSEEN if unseen[what]),
        geography=places,
        failures=partial(failures.count, gathered.log) if gathered.log and gathered.log.files else None,
    )
    return known, notes


def _proxies(gathered: Gathered, configuration: Configuration) -> tuple[Proxy, ...]:
    """Return the networks of proxies, those of the configuration first."""
    own = (*proxies.configured(configuration.proxies), *proxies.parse(gathered.web_servers))
    return (*own, *proxies.cdn())


def _best_effort(what: str, part: Callable[[], Answer], nothing: Answer) -> Answer:
    """Call a part, or return a default if it fails: a digest must go out on any host."""
    try:
        return part()
    except Exception:
        log.warning("this host's %s could not be looked at", what, exc_info=log.isEnabledFor(logging.DEBUG))
        return nothing


def _users() -> frozenset[str]:
    """Return the accounts with a login shell; an empty one means sh."""
    return frozenset(
        entry.pw_name for entry in pwd.getpwall() if entry.pw_name and not entry.pw_shell.endswith(NO_SHELLS)
    )


def own_networks() -> Iterator[AnyNetwork]:
    """Yield each address of this host's interfaces, and the networks of the private ones.

    The network of a public interface does not count as own: a cloud's /20 is shared. Raises OSError, ImportError.
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
