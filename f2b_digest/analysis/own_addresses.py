"""Which banned addresses are own addresses: the admin's, or of trusted networks. Nothing is looked up here.

A ban of an own address is reported although it may be right: an attacker who guessed a password logs in, and is banned
elsewhere. That needs attention as well; the fact names who logged in.
"""

import shlex
from collections.abc import Iterator, Sequence

from f2b_digest.analysis.spans import Span, head_of, heads_of, span_of, span_of_network
from f2b_digest.model.bans import Chosen
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import moment
from f2b_digest.model.facts import OwnBanned, OwnBanOver
from f2b_digest.model.host_context import AnyNetwork, Belonging, HostContext

MOST = 20
"""Facts of this kind in one digest."""
# An open period begins with its first ban, and somebody banned in the morning had logged in the day before.
LOGINS_BEFORE = 3 * 86400.0
"""Seconds before a period in which a login counts, too."""
NEIGHBOURS = {4: 24, 6: 64}
"""Prefix lengths, by IP version: what a provider usually assigns to one customer or site; an address that changes
stays in it."""


class OwnAddresses:
    """The own addresses, prepared for looking up hundreds of thousands of ids."""

    def __init__(self, host_context: HostContext, start: float, end: float) -> None:
        """Take the logins of a period and of `LOGINS_BEFORE` before it; its start and end are UTC epoch seconds."""
        self._judged = host_context.judged
        self._networks: list[tuple[Span, Belonging]] = [
            *((span_of_network(network), Belonging("own", _text(network), None)) for network in host_context.own),
            *(
                (span_of_network(network), Belonging("friend", _text(network), None))
                for network in host_context.friends
            ),
        ]
        self._logins: dict[Span, Belonging] = {}
        for login in host_context.logins:
            span = span_of(login.ip) if start - LOGINS_BEFORE <= login.at <= end else None
            if span is not None:
                self._logins[span] = Belonging("login", None, login.user)
        self._ignored = [
            (span_of_network(_with_neighbours(network)), Belonging("ignored", _text(network), None))
            for network in host_context.ignored
        ]
        heads = [heads_of(span) for span in (*(span for span, _ in (*self._networks, *self._ignored)), *self._logins)]
        self._any = None in heads
        self._heads = frozenset(head for each in heads if each for head in each) | {""}  # "": ::ffff:192.0.2.1

    def holds(self, ip: str) -> bool:
        """Return whether an id is an own address; fast enough for each row of a query.

        Fast path: most addresses are rejected by their first octet, before parsing (0.2 microseconds).
        """
        if ip in self._judged:
            return True
        return (head_of(ip) in self._heads or self._any or "/" in ip) and self.find(ip) is not None

    def find(self, ip: str) -> Belonging | None:
        """Return why an id is an own address; None if it is not, or is not an address or network.

        The classification by a fleet's host wins. Else the first of these: own, friend, login, ignored. A banned
        network counts as own if it contains an own address. So does an address next to one that fail2ban ignores (in
        the same /24 or /64): home connections change their address.
        """
        span = span_of(ip)
        if span is None or ip in self._judged:
            return self._judged.get(ip)
        return _first(self._networks, span) or self._logins.get(span) or _first(self._ignored, span)

    def overlaps(self, network: AnyNetwork) -> bool:
        """Return whether a network contains an own address."""
        span = span_of_network(network)
        return any(each.meets(span) for each, _ in (*self._networks, *self._ignored)) or any(
            login.meets(span) for login in self._logins
        )


def own_banned(counts: Counts, own: OwnAddresses, bans: Sequence[Chosen]) -> Iterator[OwnBanned | OwnBanOver]:
    """Yield a fact for each own address in each jail (of a fleet, of each host), the most recent ban first.

    A ban that has ended by the end of the period is only news.
    """
    found: dict[tuple[str | None, str, str], tuple[Chosen, Belonging]] = {}
    for row in sorted(bans, key=lambda row: row.last, reverse=True):
        key = row.host, row.jail, row.ip
        reason = own.find(row.ip) if key not in found else None
        if reason is not None:
            found[key] = (row, reason)
        if len(found) == MOST:
            break
    for row, reason in found.values():
        yield _fact(counts, row, reason)


def _fact(counts: Counts, row: Chosen, reason: Belonging) -> OwnBanned | OwnBanOver:
    zone = counts.end.tzinfo
    assert zone is not None
    last, until = moment(row.last, zone), None if row.until is None else moment(row.until, zone)
    if until is not None and (row.unbanned or until <= counts.end):
        return OwnBanOver(row.jail, row.ip, row.bans, last, until, *reason, host=row.host)
    jail, ip = shlex.quote(row.jail), shlex.quote(row.ip)
    return OwnBanned(
        row.jail, row.ip, row.bans, last, until, *reason,
        unban=f"fail2ban-client set {jail} unbanip {ip}",
        ignore=f"fail2ban-client set {jail} addignoreip {ip}",
        permanent=row.permanent,
        host=row.host,
    )  # fmt: skip


def _first(spans: Sequence[tuple[Span, Belonging]], banned: Span) -> Belonging | None:
    return next((why for span, why in spans if span.meets(banned)), None)


def _with_neighbours(network: AnyNetwork) -> AnyNetwork:
    """Return the network of an ignored address and its neighbours; a network, and this host itself, as it is."""
    address = network.network_address
    if network.prefixlen < network.max_prefixlen or address.is_loopback or address.is_unspecified:
        return network
    return network.supernet(new_prefix=NEIGHBOURS[network.version])


def _text(network: AnyNetwork) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
