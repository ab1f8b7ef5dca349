"""From a digest's numbers to its facts and advice. No SQL, no text for people, no clock, no look at the machine.

A fact that needs somebody must be worth being woken for: at most one false one in a hundred usual weeks, over ten jails
of a daily and a weekly report (0.4 in the made-up weeks of tests/analysis/test_usual_weeks.py). News of unusual counts
is raised by chance in one of a hundred digests.
"""

from collections.abc import Iterator
from dataclasses import replace

from f2b_digest.analysis.anomalies import concerted, drops, new_jails, only, roaming, surges, targeted
from f2b_digest.analysis.availability import at_work, restarted
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.own_addresses import OwnAddresses, own_banned
from f2b_digest.analysis.recommendations import FREQUENT, advised
from f2b_digest.analysis.statistics import usual
from f2b_digest.analysis.verdict import verdict
from f2b_digest.model.digest import Digest, Jail, moment
from f2b_digest.model.facts import Fact, FirstDigest, Late, NotDelivered, Unrecorded

__all__ = ["FREQUENT", "Inputs", "OwnAddresses", "analyse"]

TOO_LATE, LEEWAY = 1.5, 3600.0
"""Times the report's pace, and seconds beside it, that a ban may wait for a digest."""


def analyse(digest: Digest, inputs: Inputs) -> Digest:
    """Return the digest with its facts and advice, and what is usual beside what was."""
    own = OwnAddresses(inputs.host_context, digest.start.timestamp(), digest.end.timestamp())
    every = inputs.baseline.all
    before = every[0] if every else None
    compared = replace(digest.compared, before=before, usual=usual(every), periods=len(every))
    facts = (*_needing_somebody(digest, inputs, own), *_news(digest, inputs))
    return replace(
        digest,
        jails=tuple(_compared(jail, inputs) for jail in digest.jails),
        compared=compared,
        verdict=verdict(facts, digest.totals.bans, compared),
        facts=facts,
        advice=tuple(advised(digest, inputs, own)),
    )


def _compared(jail: Jail, inputs: Inputs) -> Jail:
    windows = inputs.baseline.windows.get(jail.name, ())
    return replace(jail, before=windows[0] if windows else None, usual=usual(windows))


def _needing_somebody(digest: Digest, inputs: Inputs, own: OwnAddresses) -> Iterator[Fact]:
    """Yield what needs somebody, the most urgent first: who is locked out before who is not kept out."""
    yield from own_banned(digest, own, inputs.own_bans)
    yield from at_work(digest, inputs)
    yield from only(_unrecorded(digest))
    if inputs.complete:
        yield from only(_not_delivered(digest), _late(digest, inputs))


def _news(digest: Digest, inputs: Inputs) -> Iterator[Fact]:
    yield from surges(digest, inputs)
    yield from only(concerted(digest), targeted(digest))
    yield from new_jails(digest, inputs)
    yield from only(roaming(digest))
    yield from drops(digest, inputs)
    yield from only(restarted(digest, inputs))
    if inputs.first and usual(inputs.baseline.all) is None:
        yield FirstDigest()


def _unrecorded(digest: Digest) -> Unrecorded | None:
    """Return what fail2ban's own database knew better."""
    found = digest.reconciliation
    return Unrecorded(found.added, found.jails) if found is not None and (found.added or found.jails) else None


def _not_delivered(digest: Digest) -> NotDelivered | None:
    rows = sorted(digest.undelivered, key=lambda row: row.digest)
    if not rows:
        return None
    failed = sum(row.status == "failed" for row in rows)
    first = rows[0]
    return NotDelivered(len(rows), failed, first.digest, first.channel, first.recipient, first.reason)


def _late(digest: Digest, inputs: Inputs) -> Late | None:
    """Return that a ban waited for one and a half times the report's pace, and an hour: a digest was left out."""
    since, every, zone = inputs.waits_since, inputs.every, digest.end.tzinfo
    assert zone is not None
    if since is None or every is None or digest.end.timestamp() - since <= TOO_LATE * every + LEEWAY:
        return None
    return Late(moment(since, zone), every)
