"""From a digest's counts to its facts and advice. No SQL, no user-facing text, no clock, no host access.

A fact that needs attention must justify an alarm: at most one false one in a hundred usual weeks, over ten jails of a
daily and a weekly report (0.4 in the simulated weeks of tests/analysis/test_usual_weeks.py). News of unusual counts is
raised by chance in one of a hundred digests.
"""

from collections.abc import Iterator

from f2b_digest import __version__
from f2b_digest.analysis import hosts
from f2b_digest.analysis.anomalies import concerted, drops, new_jails, only, roaming, surges, targeted
from f2b_digest.analysis.availability import at_work, restarted
from f2b_digest.analysis.host_bans import at_work_by_host, drops_of_fleet, host_jails, known_until, surges_of_fleet
from f2b_digest.analysis.hosts import LATELY, MANY_HOSTS, is_off, is_silent
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.judgement import Judgement, Usual
from f2b_digest.analysis.next_steps import with_commands
from f2b_digest.analysis.own_addresses import OwnAddresses, own_banned
from f2b_digest.analysis.proxies import Proxies, proxy_banned
from f2b_digest.analysis.recommendations import FREQUENT, advised
from f2b_digest.analysis.repeats import fresh, outages
from f2b_digest.analysis.statistics import SHORTEST_SILENCE, usual
from f2b_digest.analysis.verdict import verdict
from f2b_digest.model.counts import CampaignRule, Counts
from f2b_digest.model.digest import Compared, moment
from f2b_digest.model.facts import Fact, FirstDigest, Late, NotDelivered, Unrecorded

__all__ = [
    "FREQUENT", "LATELY", "MANY_HOSTS", "SHORTEST_SILENCE", "Inputs", "Judgement", "OwnAddresses", "Proxies", "Usual",
    "analyse", "campaign_rule", "host_jails", "is_off", "is_silent", "known_until", "outages",
]  # fmt: skip

TOO_LATE, LEEWAY = 1.5, 3600.0
"""A ban may wait for a digest this multiple of the report's interval, plus these seconds."""


def analyse(counts: Counts, inputs: Inputs) -> Judgement:
    """Analyse a digest's counts with everything else that is known."""
    own = OwnAddresses(inputs.host_context, counts.start.timestamp(), counts.end.timestamp())
    every = inputs.baseline.all
    compared = Compared(inputs.baseline.before_all, usual(every), len(every), counts.new, counts.returning)
    found = (*_needing_somebody(counts, inputs, own), *_news(counts, inputs, own))
    facts = tuple(
        with_commands(fact, start=counts.start, report=inputs.report, fleet=inputs.host_context.fleet is not None)
        for fact in fresh(found, inputs, counts.end.timestamp())
    )
    return Judgement(
        compared=compared,
        by_jail={
            jail: Usual(inputs.baseline.before.get(jail), usual(windows))
            for jail, windows in inputs.baseline.windows.items()
        },
        facts=facts,
        verdict=verdict(facts, counts.totals.bans, compared),
        advice=tuple(advised(counts, inputs, own)),
        fleet=hosts.fleet(counts, inputs, own, facts, __version__) if inputs.complete else None,
    )


def campaign_rule(least: int) -> CampaignRule:
    """Return the rule for campaigns: at least so many addresses of a network, or twice as many of an AS number.

    Twice as many addresses without such a network come from three networks at least.
    """
    return CampaignRule(least, 2 * least)


def _needing_somebody(counts: Counts, inputs: Inputs, own: OwnAddresses) -> Iterator[Fact]:
    """Yield the facts that need attention, the most urgent first: lock-outs before missing protection."""
    yield from (fact for fact in own_banned(counts, own, inputs.own_bans) if fact.needs_you)
    context = inputs.host_context
    yield from proxy_banned(counts, Proxies(context), inputs.proxy_bans, context.ignored)
    if inputs.complete:
        yield from hosts.needing_somebody(counts, inputs)
    yield from (at_work if context.fleet is None else at_work_by_host)(counts, inputs)
    yield from only(_unrecorded(inputs))
    if inputs.complete:
        yield from only(_not_delivered(inputs), _late(counts, inputs))


def _news(counts: Counts, inputs: Inputs, own: OwnAddresses) -> Iterator[Fact]:
    yield from (fact for fact in own_banned(counts, own, inputs.own_bans) if not fact.needs_you)
    if inputs.complete:
        yield from hosts.news(counts, inputs)
    alone = inputs.host_context.fleet is None
    yield from (surges if alone else surges_of_fleet)(counts, inputs)
    yield from concerted(counts, inputs)
    yield from only(targeted(counts, inputs))
    yield from new_jails(counts, inputs)
    if alone:  # that different hosts have different jails is no news; "on many hosts" has such addresses
        yield from only(roaming(counts))
    yield from (drops if alone else drops_of_fleet)(counts, inputs)
    yield from only(restarted(counts, inputs))
    if inputs.first and inputs.complete and not inputs.baseline.all:
        yield FirstDigest()


def _unrecorded(inputs: Inputs) -> Unrecorded | None:
    """Return the bans that only fail2ban's own database had."""
    found = inputs.reconciliation
    return Unrecorded(found.added, found.jails) if found is not None and (found.added or found.jails) else None


def _not_delivered(inputs: Inputs) -> NotDelivered | None:
    rows = sorted(inputs.undelivered, key=lambda row: (row.status != "failed", row.digest))
    if not rows:
        return None
    failed = sum(row.status == "failed" for row in rows)
    first = rows[0]
    return NotDelivered(len(rows), failed, first.digest, first.channel, first.recipient, first.reason)


def _late(counts: Counts, inputs: Inputs) -> Late | None:
    """Return a fact if a ban waited for 1.5 times the report's interval plus an hour: a digest was missed."""
    since, every, zone = inputs.waits_since, inputs.every, counts.end.tzinfo
    assert zone is not None
    if since is None or every is None or counts.end.timestamp() - since <= TOO_LATE * every + LEEWAY:
        return None
    return Late(moment(since, zone), every)
