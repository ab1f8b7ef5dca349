"""Usual weeks raise nothing, and what is not usual is found: the judgement's figures, measured. No store here."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

import pytest

from f2b_digest.analysis import Inputs, Judgement, analyse
from f2b_digest.model.baseline import Baseline
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Jail, Totals
from f2b_digest.model.facts import JailSilent
from tests.analysis.usual_weeks import NO_REBANS, WEEKS_BEFORE, History, epoch, history, kill
from tests.support.figures import Keep


def issue(bans: Mapping[str, int], baseline: Baseline, day: int, days: int) -> Judgement:
    """Return the judgement of this many bans in the days from a day on."""
    digest = Counts(
        start=datetime.fromtimestamp(epoch(day), UTC),
        end=datetime.fromtimestamp(epoch(day + days), UTC),
        totals=Totals(bans=sum(bans.values()), addresses=sum(bans.values()), jails=len(bans)),
        jails=tuple(Jail(jail, count, count, count * 5) for jail, count in bans.items() if count),
    )
    return analyse(digest, Inputs(baseline, NO_REBANS))


def digest_of(past: History, day: int, days: int) -> Judgement:
    """Return the judgement of what a history says of the days from a day on."""
    bans = {jail: past.bans(jail, day, days) for jail in past.hours}
    return issue(bans, past.baseline(day, days), day, days)


def kinds(digest: Judgement) -> list[str]:
    """Return the facts' kinds."""
    return [fact.kind for fact in digest.facts]


@pytest.mark.slow
def test_usual_weeks_ask_nobody_and_tell_little(pytestconfig: pytest.Config, figures: Keep) -> None:
    """Ten jails, a daily and a weekly report: one needless call in 100 weeks, needless news in one digest of 100."""
    weeks = pytestconfig.getoption("--usual-weeks")
    counted: Counter[str] = Counter()
    for begin in range(0, weeks, 100):  # each hundred weeks are another host's
        length = min(100, weeks - begin)
        past = history(seed=begin, weeks=WEEKS_BEFORE + length)
        for day in range(WEEKS_BEFORE * 7, (WEEKS_BEFORE + length) * 7):
            for days in (1, 7) if day % 7 == 0 else (1,):
                facts = digest_of(past, day, days).facts
                counted["weekly" if days == 7 else "daily"] += 1
                counted["needs you"] += any(fact.needs_you for fact in facts)
                counted["news"] += any(not fact.needs_you for fact in facts)
    digests = counted["weekly"] + counted["daily"]
    figures(  # the README names them
        "usual weeks",
        f"{counted['weekly']} weekly and {counted['daily']} daily digests, "
        f"{counted['needs you']} that need somebody, {counted['news']} with news of unusual counts",
    )
    assert counted["needs you"] <= max(1, weeks // 100)
    assert counted["news"] <= digests / 100 + 3 * (digests / 100) ** 0.5  # three standard deviations of luck


@pytest.mark.parametrize(("rate", "days"), [(120 / 7, 7), (20.0, 1), (40.0, 1), (400.0, 1)])
def test_a_dead_jail_is_found_in_the_first_digest(rate: float, days: int) -> None:
    """A jail of 120 bans a week in the weekly one, of 20 a day in the daily one, others being alive."""
    found = 0
    for seed in range(40):
        past = history(seed, 5, {"sshd": rate, "postfix": 50.0}, steady=True)
        kill(past, "sshd", 28 * 24)
        needed = [fact for fact in digest_of(past, 28, days).facts if fact.needs_you]
        assert all(fact.kind == "silent" and fact.jail == "sshd" for fact in needed)
        found += len(needed)
    assert found >= 36


@pytest.mark.parametrize(("rate", "within"), [(400.0, 2.0), (80.0, 2.0), (46.0, 2.0), (15.0, 3.5)])
def test_a_dead_jail_of_a_restless_host_is_found_in_days_whatever_the_hour(
    rate: float, within: float, figures: Keep
) -> None:
    """Where days differ by half, nine deaths in ten are reported in 2 days; of 15 bans a day, in 3.5."""
    told = []
    for seed in range(60):
        past, death = history(seed, 6, {"sshd": rate, "postfix": 50.0}), 28 * 24 + seed * 7 % 24
        kill(past, "sshd", death)
        found = (28 + day for day in range(14) if "silent" in kinds(digest_of(past, 28 + day, 1)))
        told.append(next(found, math.inf) + 1 - death / 24)
    told.sort()
    figures(
        "usual weeks", f"a jail of {rate:g} bans a day is dead: told after {median(told):.1f} days, 90 % {told[53]:.1f}"
    )
    assert told[53] <= within


def test_a_weekly_report_tells_a_jail_that_died_within_the_week() -> None:
    """It banned on Monday to Thursday, and nobody since."""
    past = history(1, 5, {"sshd": 40.0, "postfix": 50.0})
    kill(past, "sshd", 31 * 24 + 10)
    (fact,) = digest_of(past, 28, 7).facts
    assert isinstance(fact, JailSilent)
    assert fact.jail == "sshd"


def test_a_jail_of_three_bans_a_week_is_not_cried_about() -> None:
    """Neither in a weekly nor in a daily digest, though it dies."""
    for seed in range(40):
        past = history(seed, 6, {"sshd": 400.0, "webmin": 3 / 7})
        kill(past, "webmin", 28 * 24)
        for day in range(28, 35):
            assert not any(fact.needs_you for fact in digest_of(past, day, 1).facts)
        assert not any(fact.needs_you for fact in digest_of(past, 28, 7).facts)


def test_a_jail_that_rests_at_weekends_is_not_cried_about_on_a_sunday() -> None:
    """Of 40 bans a working day, none on Saturdays and Sundays, in four weeks."""
    past = history(1, 8, {"sshd": 400.0, "intranet": 40.0}, steady=True)
    for day in range(56):
        if day % 7 >= 5:
            past.hours["intranet"][day * 24 : (day + 1) * 24] = [0] * 24
    for day in range(28, 56):
        assert "silent" not in kinds(digest_of(past, day, 1))


@pytest.mark.parametrize(("days", "times"), [(7, 2.5), (1, 3.5)])
def test_a_jail_with_far_more_bans_is_news(days: int, times: float) -> None:
    """Two and a half times a week's, three and a half times a day's."""
    found = 0
    for seed in range(40):
        past = history(seed, 5, {"sshd": 100.0, "postfix": 50.0, "dovecot": 30.0}, steady=True)
        bans = {jail: past.bans(jail, 28, days) for jail in past.hours}
        bans["sshd"] = round(times * bans["sshd"])
        facts = issue(bans, past.baseline(28, days), 28, days).facts
        found += [(fact.kind, getattr(fact, "jail", "")) for fact in facts] == [("surge", "sshd")]
    assert found >= 36


def test_a_jail_with_a_third_of_its_bans_is_news() -> None:
    """Of a week; what needs attention is that there are none."""
    past = history(3, 5, {"sshd": 100.0, "postfix": 50.0}, steady=True)
    bans = {"sshd": past.bans("sshd", 28, 7) // 3, "postfix": past.bans("postfix", 28, 7)}
    assert kinds(issue(bans, past.baseline(28, 7), 28, 7)) == ["drop"]


def test_three_known_weeks_say_nothing_of_what_is_usual() -> None:
    """Neither a median nor a surge."""
    past = history(3, 5, {"sshd": 100.0}, steady=True)
    baseline = past.baseline(28, 7)
    young = replace(baseline, windows={"sshd": baseline.windows["sshd"][:3]}, all=baseline.all[:3])
    digest = issue({"sshd": 9000}, young, 28, 7)
    assert digest.compared.usual is None
    assert digest.by_jail["sshd"].usual is None
    assert digest.compared.before == baseline.all[0]
    assert kinds(digest) == []
