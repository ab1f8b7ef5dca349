"""A digest's recommendations, each with its configuration or shell line."""

import shlex
from collections.abc import Iterator
from ipaddress import ip_network

from f2b_digest.analysis.anomalies import RECIDIVE
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.own_addresses import OwnAddresses
from f2b_digest.analysis.repeats import was_advised
from f2b_digest.model.advice import Advice, Block, Increment, Recidive
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Campaign

FEWEST_SPARED, SHARE_SPARED = 20, 0.1
"""Bans, and their share of all bans, that longer ban times must prevent before they are advised."""
FREQUENT = 5
"""Bans of one id in one digest from which on it counts as a repeat offender."""
FEWEST_FREQUENT, SHARE_FREQUENT = 3, 0.1
"""Repeat offenders, and their share of all bans."""
FEWEST_TO_BLOCK, BANS_TO_BLOCK = 16, 48
"""Addresses of one network, and their bans: of a /24, every sixteenth address, thrice."""


def advised(counts: Counts, inputs: Inputs, own: OwnAddresses) -> Iterator[Advice]:
    """Yield at most three, one of each kind, and no kind that the report gave in the last month."""
    end = counts.end.timestamp()
    for advice in _advised(counts, inputs, own):
        if not was_advised(inputs, advice.kind, end):
            yield advice


def _advised(counts: Counts, inputs: Inputs, own: OwnAddresses) -> Iterator[Advice]:
    rebans, bans = inputs.rebans, counts.totals.bans
    grows = inputs.host_context.increments is True or rebans.prolonged
    if not grows and rebans.spared >= max(FEWEST_SPARED, SHARE_SPARED * bans):
        yield Increment(rebans.spared, rebans.spared_addresses, bans, ("[DEFAULT]", "bantime.increment = true"))
    often = rebans.frequent >= FEWEST_FREQUENT and rebans.frequent_bans >= SHARE_FREQUENT * bans
    if often and not _has_recidive(counts, inputs):
        yield Recidive(rebans.frequent, FREQUENT, rebans.frequent_bans, ("[recidive]", "enabled = true"))
    lines = ((campaign, _block(campaign, own)) for campaign in counts.campaigns)
    found = next(((campaign, lines) for campaign, lines in lines if lines), None)
    if found is not None:
        campaign, block = found
        times = {jail.name: jail.worst[0].bantime for jail in counts.jails if jail.worst}
        yield Block(campaign.network or "", campaign.addresses, campaign.bans, block, times.get(campaign.jails[0]))


def _has_recidive(counts: Counts, inputs: Inputs) -> bool:
    names = (
        *(jail.name for jail in counts.jails),
        *inputs.baseline.last,
        *inputs.baseline.windows,
        *inputs.starts_and_stops,
        *(inputs.host_context.running or ()),
    )
    return any(name.startswith(RECIDIVE) for name in names)


def _block(campaign: Campaign, own: OwnAddresses) -> tuple[str, ...]:
    """Return the lines that ban a campaign's network, for the jail's ban time and until the next boot.

    None if it is too small, or contains an own address.
    """
    if campaign.network is None or not campaign.jails:
        return ()
    try:
        network = ip_network(campaign.network)
    except ValueError:
        return ()
    if campaign.addresses < FEWEST_TO_BLOCK or campaign.bans < BANS_TO_BLOCK or own.overlaps(network):
        return ()
    return (
        f"fail2ban-client set {shlex.quote(campaign.jails[0])} banip {shlex.quote(str(network))}",
        f"ip route add blackhole {shlex.quote(str(network))}",
    )
