"""Usual weeks of a fleet of 200 jails raise no more than those of a host; a jail that dies is told with its host."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from f2b_digest.analysis import Inputs, Judgement, analyse, host_jails
from f2b_digest.model.baseline import Baseline, HostActivity
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Jail, Several, Totals
from f2b_digest.model.fleet import HostState
from f2b_digest.model.host_context import HostContext
from tests.analysis.usual_weeks import NO_REBANS, WEEKS_BEFORE, History, epoch, history, kill
from tests.support.figures import Keep

pytestmark = pytest.mark.slow
HOSTS, WEEKS = 20, 8
"""Of ten jails each."""


def hosts(weeks: int, seed: int = 1000) -> dict[str, History]:
    """Return made-up bans of a fleet."""
    return {f"h{number}": history(seed + number, WEEKS_BEFORE + weeks) for number in range(HOSTS)}


@cache
def usual() -> dict[str, History]:
    """Return the same fleet for all tests, which change none of it."""
    return hosts(1)


def digest_of(fleet: Mapping[str, History], day: int, days: int = 1, judged: int | None = None) -> Judgement:
    """Return the judgement of what each host's history says; of so many jails, if not of all."""
    end, bans = epoch(day + days), Counter[str]()
    by_host = {}
    for host, past in fleet.items():
        jails = {jail: count for jail in past.hours if (count := past.bans(jail, day, days))}
        bans.update(jails)
        by_host[host] = HostActivity(jails, baseline=past.baseline(day, days))
    counts = Counts(
        start=datetime.fromtimestamp(epoch(day), UTC),
        end=datetime.fromtimestamp(end, UTC),
        totals=Totals(bans.total(), bans.total(), len(bans), 0),
        jails=tuple(Jail(jail, count, count, count) for jail, count in bans.items()),
    )
    states = tuple(HostState(host, 0.0, heard_at=end, complete_until=end, answered=True) for host in fleet)
    known = Inputs(
        Baseline({}, (), {}, dict.fromkeys(bans, 1.0)), NO_REBANS, host_context=HostContext(fleet=states),
        by_host=by_host, judged=host_jails(by_host) if judged is None else judged,
    )  # fmt: skip
    return analyse(counts, known)


def test_the_usual_weeks_of_a_fleet_raise_no_more_than_those_of_a_host(
    pytestconfig: pytest.Config, figures: Keep
) -> None:
    """Of 200 jails: one needless call in 100 weeks of digests, needless news in one digest of 100."""
    weeks = max(WEEKS, pytestconfig.getoption("--usual-weeks") // 12)
    fleet, counted = hosts(weeks), Counter[str]()
    for day in range(WEEKS_BEFORE * 7, (WEEKS_BEFORE + weeks) * 7):
        for days in (1, 7) if day % 7 == 0 else (1,):
            facts = digest_of(fleet, day, days).facts
            counted["digests"] += 1
            counted["needs you"] += any(fact.needs_you for fact in facts)
            counted["news"] += any(not fact.needs_you for fact in facts)
            counted["news unscaled"] += any(not fact.needs_you for fact in digest_of(fleet, day, days, judged=10).facts)
    figures(
        "usual weeks",
        f"{counted['digests']} digests of a fleet of {HOSTS * 10} jails: {counted['needs you']} that need somebody, "
        f"{counted['news']} with news of unusual counts; with a single host's thresholds {counted['news unscaled']}",
    )
    assert counted["needs you"] <= max(0, weeks // 100)
    assert counted["news"] <= counted["digests"] / 100 + 3 * (counted["digests"] / 100) ** 0.5
    assert counted["news unscaled"] > counted["news"]


@pytest.mark.parametrize(("jail", "within"), [("sshd", 2), ("postfix-sasl", 3), ("dovecot", 5)])
def test_a_jail_that_dies_on_one_host_of_twenty_is_found(jail: str, within: int) -> None:
    """Of 400, 80 and 40 bans a day; the nineteen others ban on."""
    fleet = usual() | {"h3": history(1003, WEEKS_BEFORE + 1)}
    kill(fleet["h3"], jail, WEEKS_BEFORE * 7 * 24)
    found = [
        (day + 1, fact.host, fact.jail)
        for day in range(within)
        for fact in digest_of(fleet, WEEKS_BEFORE * 7 + day).facts
        if fact.kind == "silent"
    ]
    assert found
    assert {each[1:] for each in found} == {("h3", jail)}


def test_a_surge_on_one_host_of_twenty_is_news_with_its_host() -> None:
    """Ten times a day's bans of one jail on one host, which the sum of twenty hides."""
    fleet = usual() | {"h3": history(1003, WEEKS_BEFORE + 1)}
    hours = fleet["h3"].hours["sshd"]
    hours[WEEKS_BEFORE * 7 * 24 :] = [10 * count for count in hours[WEEKS_BEFORE * 7 * 24 :]]
    facts = digest_of(fleet, WEEKS_BEFORE * 7).facts
    assert [(fact.host, fact.jail) for fact in facts if fact.kind == "surge"] == [("h3", "sshd")]


def test_addresses_in_several_jails_are_no_news_of_a_fleet() -> None:
    """Its hosts have different jails: what is news of one host is told by the section on many hosts."""
    several = tuple(Several(f"192.0.2.{number}", ("nginx", "sshd", "postfix"), 3) for number in range(1, 8))
    start, end = (datetime.fromtimestamp(epoch(day), UTC) for day in (0, 1))
    counts = Counts(start, end, Totals(40, 40, 1, 40), several=several, several_in_all=7)
    known = Inputs(Baseline({}, (), {}, {"sshd": 1.0}), NO_REBANS)
    of_fleet = replace(known, host_context=HostContext(fleet=()))
    assert [fact.kind for fact in analyse(counts, known).facts] == ["roaming"]
    assert [fact.kind for fact in analyse(counts, of_fleet).facts] == []
