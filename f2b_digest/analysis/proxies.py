"""Whether a jail bans the proxies or CDN in front of this host. Nothing is looked up here.

A web server behind a CDN that does not restore its visitors' addresses logs the CDN's, and a jail that reads
it bans the CDN: attackers and visitors alike are locked out.
"""

from collections.abc import Iterator, Sequence

from f2b_digest.analysis.spans import head_of, heads_of, span_of, span_of_network
from f2b_digest.model.bans import Chosen
from f2b_digest.model.counts import Counts
from f2b_digest.model.facts import ProxyBanned
from f2b_digest.model.host_context import AnyNetwork, HostContext, Proxy

# Some addresses of a CDN are also used by its customers' programs, which may well attack.
FEWEST, SHARE = 5, 0.05
"""Minimum addresses of a CDN, or their share of a jail's bans; of a proxy in the configuration, one ban is enough."""
FEWEST_BANS = 2
"""Bans that may be such a part."""
ALWAYS_IGNORED = ("127.0.0.1/8", "::1")


class Proxies:
    """The networks of proxies, prepared for looking up hundreds of thousands of ids."""

    def __init__(self, host_context: HostContext) -> None:
        """Prepare the proxies known to this host."""
        self._proxies = [(span_of_network(proxy.network), proxy) for proxy in host_context.proxies]
        heads = [heads_of(span) for span, _ in self._proxies]
        self._any = None in heads
        self._heads = frozenset(head for each in heads if each for head in each)

    def holds(self, ip: str) -> bool:
        """Return whether an id is a proxy's; with a fast path for other ids."""
        return (self._any or head_of(ip) in self._heads) and self.find(ip) is not None

    def find(self, ip: str) -> Proxy | None:
        """Return the first proxy that contains an address; None for a banned network."""
        span = span_of(ip)
        if span is None or span.first != span.last:
            return None
        return next((proxy for each, proxy in self._proxies if each.meets(span)), None)


def proxy_banned(
    counts: Counts, proxies: Proxies, rows: Sequence[Chosen], ignored: Sequence[AnyNetwork]
) -> Iterator[ProxyBanned]:
    """Yield a fact for each jail and proxy, those with the most bans first."""
    found: dict[tuple[str, str], list[tuple[Chosen, Proxy]]] = {}
    for row in rows:
        if (proxy := proxies.find(row.ip)) is not None:
            found.setdefault((row.jail, proxy.name), []).append((row, proxy))
    every = {jail.name: jail.bans for jail in counts.jails}
    facts = (_fact(jail, every.get(jail, 0), pairs, ignored) for (jail, _), pairs in found.items())
    yield from sorted((fact for fact in facts if fact is not None), key=lambda fact: fact.bans, reverse=True)


def _fact(
    jail: str, of: int, pairs: Sequence[tuple[Chosen, Proxy]], ignored: Sequence[AnyNetwork]
) -> ProxyBanned | None:
    bans, proxy = sum(row.bans for row, _ in pairs), pairs[0][1]
    of = max(of, bans)
    if not proxy.own and len(pairs) < FEWEST and (bans < FEWEST_BANS or bans < SHARE * of):
        return None
    networks = tuple(sorted({str(proxy.network) for _, proxy in pairs}))
    known = (*ALWAYS_IGNORED, *(str(network) for network in ignored if not network.is_loopback), *networks)
    line = f"ignoreip = {' '.join(dict.fromkeys(known))}"
    return ProxyBanned(jail, proxy.name, len(pairs), bans, of, proxy.header, networks, line)
