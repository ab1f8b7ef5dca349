"""What a digest advises, each with the line that does it."""

import shlex
from collections.abc import Iterator
from ipaddress import ip_network

from f2b_digest.analysis.anomalies import RECIDIVE
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.own_addresses import OwnAddresses
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Campaign
from f2b_digest.model.facts import Advice, Block, Increment, Recidive

FEWEST_SPARED, SHARE_SPARED = 20, 0.1
"""Bans, and their share of all bans, that longer ban times must spare before they are advised."""
FREQUENT = 5
"""Bans of one id in one digest, from which on it is one that comes back."""
FEWEST_FREQUENT = 3
"""Ids that come back often."""
FEWEST_TO_BLOCK, BANS_TO_BLOCK = 16, 48
"""Addresses of one network, and their bans: of a /24, every sixteenth address, thrice."""


def advised(counts: Counts, inputs: Inputs, own: OwnAddresses) -> Iterator[Advice]:
    """Yield at most three, one of each kind."""
    rebans, bans = inputs.rebans, counts.totals.bans
    grows = inputs.host_context.increments is True or rebans.prolonged
    if not grows and rebans.spared >= max(FEWEST_SPARED, SHARE_SPARED * bans):
        yield Increment(rebans.spared, rebans.spared_addresses, bans, ("[DEFAULT]", "bantime.increment = true"))
    if rebans.frequent >= FEWEST_FREQUENT and not _has_recidive(counts, inputs):
        yield Recidive(rebans.frequent, FREQUENT, rebans.frequent_bans, ("[recidive]", "enabled = true"))
    lines = ((campaign, _block(campaign, own)) for campaign in counts.campaigns)
    found = next(((campaign, line) for campaign, line in lines if line is not None), None)
    if found is not None:
        campaign, line = found
        yield Block(campaign.network or "", campaign.addresses, campaign.bans, (line,))


def _has_recidive(counts: Counts, inputs: Inputs) -> bool:
    names = (
        *(jail.name for jail in counts.jails),
        *inputs.baseline.last,
        *inputs.baseline.windows,
        *inputs.starts_and_stops,
        *(inputs.host_context.running or ()),
    )
    return any(name.startswith(RECIDIVE) for name in names)


def _block(campaign: Campaign, own: OwnAddresses) -> str | None:
    """Return the line that bans a campaign's network; None if it is too small, or holds an address of one's own."""
    if campaign.network is None or not campaign.jails:
        return None
    try:
        network = ip_network(campaign.network)
    except ValueError:
        return None
    if campaign.addresses < FEWEST_TO_BLOCK or campaign.bans < BANS_TO_BLOCK or own.overlaps(network):
        return None
    return f"fail2ban-client set {shlex.quote(campaign.jails[0])} banip {shlex.quote(str(network))}"
