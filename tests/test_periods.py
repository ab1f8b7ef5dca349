"""Days, weeks and months: that they tile the line of time in every zone, and what a period is compared with."""

import bisect
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f2b_digest import periods
from f2b_digest.periods import DAY, HOUR, boundary, ending, pace, previous
from tests.support.figures import Keep

EVERY = ("day", "week", "month")
FIRST, LAST = datetime(1970, 1, 8, tzinfo=UTC).timestamp(), datetime(2037, 12, 1, tzinfo=UTC).timestamp()
STEP = 4 * DAY
"""Between two looks for a change of clocks: Morocco changes back within a month."""
SAMPLE = 11
"""One change of this many without --all-zones: no divisor of the two of each year, so that both seasons are met."""
EPOCH = date(1970, 1, 1).toordinal()


def at(text: str, zone: str = "UTC") -> float:
    """Return a local time as UTC epoch seconds; the first one, where it comes twice."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def offset(moment: float, zone: ZoneInfo) -> int:
    """Return the seconds that a zone's clocks are ahead of UTC."""
    shift = datetime.fromtimestamp(moment, zone).utcoffset()
    assert shift is not None
    return int(shift.total_seconds())


def changes(zone: ZoneInfo) -> list[tuple[float, int]]:
    """Return every change of a zone's clocks as (instant, seconds ahead of UTC from then on), the first at `FIRST`."""
    found = [(FIRST, offset(FIRST, zone))]
    moment = FIRST
    while moment < LAST:
        moment += STEP
        if offset(moment, zone) != found[-1][1]:
            before, after = int(moment - STEP), int(moment)
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset(middle, zone) == found[-1][1] else (before, middle)
            found.append((float(after), offset(after, zone)))
            moment = float(after)
    return found


def days_around(found: list[tuple[float, int]], edge: float) -> Iterator[tuple[float, int]]:
    """Yield each day that begins within three days of a change, as (first instant, ordinal of its date).

    By the clocks alone: between two changes a local time is a straight line, and a day begins where the latest date
    seen so far grows.
    """
    low, high = edge - 3 * DAY, edge + 3 * DAY
    number = max(bisect.bisect_right(found, (low, 10**9)) - 1, 0)
    latest = int((low + found[number][1]) // DAY)
    for (change, ahead), (next_change, _) in pairwise([*found[number:], (high, 0)]):
        begin, end = max(change, low), min(next_change, high)
        if begin >= high:
            return
        if int((begin + ahead) // DAY) > latest:  # the clocks jumped into another date, or over one
            latest = int((begin + ahead) // DAY)
            yield begin, latest + EPOCH
        while (midnight := (latest + 1) * DAY - ahead) < end:
            latest += 1
            if midnight >= begin:
                yield midnight, latest + EPOCH


def first_day(ordinal: int, every: str) -> int:
    """Return the ordinal of the first date of a period."""
    day = date.fromordinal(ordinal)
    return {"day": day, "week": day - timedelta(day.weekday()), "month": day.replace(day=1)}[every].toordinal()


def check(zone: ZoneInfo, found: list[tuple[float, int]], edge: float) -> tuple[int, int, int]:
    """Compare `boundary` with the clocks around one change; return days, gaps and overlaps."""
    days, gaps, overlaps = list(days_around(found, edge)), 0, 0
    assert len(days) >= 4
    for (begin, _), (following, _) in pairwise(days):
        turned = abs(offset(following - 1, zone) - offset(begin - 1, zone))
        assert 22 * HOUR <= following - begin <= 26 * HOUR or turned > 2 * HOUR, (zone, edge)
        last = boundary(following - 1, "day", zone)
        gaps += last > begin or ending(begin, "day", zone) < following
        overlaps += last < begin or ending(begin, "day", zone) > following
    before = days[0][1]
    for begin, ordinal in days[1:]:
        for every in EVERY:
            starts = first_day(ordinal, every) > first_day(before, every)
            held = boundary(begin - 1, every, zone)
            now = boundary(begin, every, zone)
            assert now == (begin if starts else held), (zone, every, datetime.fromtimestamp(begin, zone))
            assert held < begin
            assert boundary(now, every, zone) == now
            assert boundary(begin + 0.5, every, zone) == now
        before = ordinal
    starts_of_days = [begin for begin, _ in days]
    for moment in (edge - 1, edge, edge + 1, edge + HOUR / 2, edge + 2 * HOUR):
        place = bisect.bisect_right(starts_of_days, moment)
        begin, end = starts_of_days[place - 1 : place + 1]
        gaps += boundary(moment, "day", zone) > begin or ending(moment, "day", zone) < end
        overlaps += boundary(moment, "day", zone) < begin or ending(moment, "day", zone) > end
    return len(days), gaps, overlaps


@pytest.mark.slow
def test_periods_tile_the_line_in_every_zone(pytestconfig: pytest.Config, figures: Keep) -> None:
    """At each change of clocks no instant is in two days, weeks or months, none is in none, and each begins right."""
    step = 1 if pytestconfig.getoption("--all-zones") else SAMPLE
    names = sorted(available_timezones())
    known: set[tuple[tuple[float, int], ...]] = set()
    edges = days = gaps = overlaps = number = 0
    for name in names:
        zone = ZoneInfo(name)
        found = changes(zone)
        edges += len(found) - 1
        if tuple(found) in known:  # another name of the same clocks
            continue
        known.add(tuple(found))
        for edge, _ in found[1:]:
            number += 1
            if number % step == 0:
                counted = check(zone, found, edge)
                days, gaps, overlaps = days + counted[0], gaps + counted[1], overlaps + counted[2]
    seen = f"{days:,} days around {'each' if step == 1 else f'one in {step}'}"
    figures(
        "periods",
        f"{len(names)} zones, {edges:,} edges ({len(known)} different zones; {seen}), {gaps} gaps, {overlaps} overlaps",
    )
    assert (gaps, overlaps) == (0, 0)
    assert edges > 25_000


@given(st.sampled_from(sorted(available_timezones())), st.floats(FIRST, LAST), st.sampled_from(EVERY))
def test_a_period_holds_the_time_that_asked_for_it(name: str, now: float, every: str) -> None:
    """At any time of any zone: it began before, ends after, and the next one begins there."""
    zone = ZoneInfo(name)
    begin, end = boundary(now, every, zone), ending(now, every, zone)
    assert begin <= now < end
    assert boundary(begin, every, zone) == begin
    assert boundary(end, every, zone) == end
    assert boundary(end - 0.001, every, zone) == begin


@pytest.mark.parametrize(
    ("zone", "every", "now", "begin", "hours"),
    [
        ("Europe/Paris", "day", "2026-10-25T12:00+01:00", "2026-10-24T22:00Z", 25),
        ("Europe/Paris", "day", "2026-10-25T02:30+02:00", "2026-10-24T22:00Z", 25),
        ("Europe/Paris", "day", "2026-03-29T12:00+02:00", "2026-03-28T23:00Z", 23),
        ("Europe/Paris", "day", "2026-11-20T00:00+01:00", "2026-11-19T23:00Z", 24),
        ("Europe/Paris", "week", "2026-10-25T23:59+01:00", "2026-10-18T22:00Z", 7 * 24 + 1),
        ("Europe/Paris", "month", "2026-03-31T23:59+02:00", "2026-02-28T23:00Z", 31 * 24 - 1),
        ("UTC", "week", "2027-01-01T12:00Z", "2026-12-28T00:00Z", 7 * 24),
        ("America/Sao_Paulo", "day", "2018-11-04T12:00-02:00", "2018-11-04T03:00Z", 23),
        ("Asia/Beirut", "day", "2022-03-27T12:00+03:00", "2022-03-26T22:00Z", 23),
        ("Africa/Cairo", "day", "2024-04-26T12:00+03:00", "2024-04-25T22:00Z", 23),
        ("America/Havana", "day", "2026-11-01T00:30-05:00", "2026-11-01T04:00Z", 25),
        ("Atlantic/Azores", "day", "2026-10-25T12:00-01:00", "2026-10-25T00:00Z", 25),
        # Clocks that were set back from 00:01 to 23:01: the hour that comes again stays in the new day.
        ("America/St_Johns", "day", "2010-11-06T23:30-03:30", "2010-11-07T02:30Z", 25),
        # Friday the 30th was skipped: Thursday's day ends where Saturday's begins.
        ("Pacific/Apia", "day", "2011-12-29T12:00-10:00", "2011-12-29T10:00Z", 24),
        ("Pacific/Apia", "day", "2011-12-31T12:00+14:00", "2011-12-30T10:00Z", 24),
        ("Pacific/Apia", "week", "2011-12-31T12:00+14:00", "2011-12-26T10:00Z", 6 * 24),
    ],
)  # fmt: skip
def test_a_period_has_the_hours_of_its_zone(zone: str, every: str, now: str, begin: str, hours: int) -> None:
    """Midnights that do not exist, come twice or fall on a date that was skipped; weeks that hold a change."""
    moment = datetime.fromisoformat(now).timestamp()
    expected = datetime.fromisoformat(begin).timestamp()
    assert boundary(moment, every, ZoneInfo(zone)) == expected
    assert ending(moment, every, ZoneInfo(zone)) == expected + hours * HOUR


def test_clocks_that_jump_from_before_midnight_to_after_it_begin_the_day_there() -> None:
    """Toronto went from 23:30 to 00:30, once; since 1970 no zone did, but a law can say so any year."""
    begin = periods._begin(date(1919, 3, 31), ZoneInfo("America/Toronto"))
    assert begin == at("1919-03-31T04:30")


@pytest.mark.parametrize("now", [-1e9, 0.0, 253_402_300_800.0, 1e18])
def test_an_absurd_clock_has_a_day_too(now: float) -> None:
    """A clock that shows a year beyond Python's must not stop a digest."""
    for every in EVERY:
        assert boundary(now, every, ZoneInfo("Pacific/Kiritimati")) < ending(now, every, ZoneInfo("America/Adak"))


# ---- what a period is compared with


def test_a_calendar_day_is_compared_with_the_28_days_before() -> None:
    """Each from midnight to midnight, also the one of 25 hours, without a gap."""
    paris = ZoneInfo("Europe/Paris")
    start, end = at("2026-11-01", "Europe/Paris"), at("2026-11-02", "Europe/Paris")
    windows = previous(start, end, "day", paris, calendar=True)
    assert len(windows) == 28
    assert windows[0] == (at("2026-10-31", "Europe/Paris"), start)
    assert windows[6] == (at("2026-10-25", "Europe/Paris"), at("2026-10-25", "Europe/Paris") + 25 * HOUR)
    assert windows[-1][0] == at("2026-10-04", "Europe/Paris")
    assert all(later[0] == earlier[1] for later, earlier in pairwise(windows))


@pytest.mark.parametrize(
    ("every", "start", "end", "number", "oldest"),
    [
        ("week", "2026-11-09", "2026-11-16", 4, "2026-10-12"),
        ("month", "2026-10-01", "2026-11-01", 4, "2026-06-01"),
        ("month", "2026-09-01", "2026-11-01", 4, "2026-01-01"),
        ("week", "2026-11-02", "2026-11-16", 4, "2026-09-07"),
        ("day", "2026-11-13", "2026-11-16", 9, "2026-10-17"),
        ("day", "2026-11-06", "2026-11-16", 4, "2026-09-27"),
    ],
)
def test_calendar_periods_are_compared_with_as_many_together(
    every: str, start: str, end: str, number: int, oldest: str
) -> None:
    """A digest of three days is compared with three days each time, not with one."""
    zone = ZoneInfo("Europe/Paris")
    since, until = at(start, "Europe/Paris"), at(end, "Europe/Paris")
    windows = previous(since, until, every, zone, calendar=True)
    assert len(windows) == number
    assert (windows[0][1], windows[-1][0]) == (since, at(oldest, "Europe/Paris"))
    assert all(later[0] == earlier[1] for later, earlier in pairwise(windows))


@pytest.mark.parametrize(
    ("length", "number"),
    [(DAY, 28), (23 * HOUR, 28), (25 * HOUR, 26), (2 * DAY, 14), (7 * DAY, 4), (31 * DAY, 4), (20 * HOUR, 28)],
)
def test_another_period_is_compared_with_those_of_its_length(length: float, number: int) -> None:
    """Directly before it, at least four, so that a month has something to be compared with."""
    end = at("2026-11-20T07:00")
    windows = previous(end - length, end, "day", ZoneInfo("UTC"), calendar=False)
    assert len(windows) == number
    assert windows[0] == (end - 2 * length, end - length)
    assert all(later[0] == earlier[1] for later, earlier in pairwise(windows))
    assert all(until - since == length for since, until in windows)


def test_some_hours_are_compared_with_the_same_hours_of_other_days() -> None:
    """A night with nights."""
    windows = previous(at("2026-11-20T01:00"), at("2026-11-20T07:00"), None, ZoneInfo("UTC"), calendar=False)
    assert len(windows) == 28
    assert windows[1] == (at("2026-11-18T01:00"), at("2026-11-18T07:00"))


def test_a_calendar_report_that_was_none_before_is_compared_by_length() -> None:
    """Its first digest begins where the last one ended, at some hour of a day."""
    start, end = at("2026-11-18T07:00"), at("2026-11-20")
    windows = previous(start, end, "day", ZoneInfo("UTC"), calendar=True)
    assert windows[0] == (start - 41 * HOUR, start)


@pytest.mark.parametrize("length", [59.0, 0.0, -DAY])
def test_no_time_at_all_is_compared_with_nothing(length: float) -> None:
    """Two sends by hand, or a clock that was set back."""
    assert previous(DAY * 10_000, DAY * 10_000 + length, "day", ZoneInfo("UTC"), calendar=False) == []


# ---- the pace


def test_the_pace_is_what_the_report_says_or_what_it_did() -> None:
    """A report of the working days pauses at the weekend; one long pause of a daily one is forgotten soon."""
    assert [pace(every, ()) for every in EVERY] == [DAY, 7 * DAY, 31 * DAY]
    assert pace("day", [number * DAY for number in range(9)]) == DAY
    working_days = [day * DAY for day in range(15) if day % 7 < 5]
    assert pace("day", working_days[-7:]) == 3 * DAY
    assert pace("day", working_days) == 3 * DAY
    assert pace("day", [*(number * DAY for number in range(9)), 20 * DAY, 21 * DAY]) == DAY


def test_a_report_without_a_pace_is_measured() -> None:
    """Three gaps between digests are the minimum."""
    assert pace(None, [5 * DAY, 6 * DAY, 7 * DAY]) is None
    assert pace(None, [8 * DAY, 5 * DAY, 6 * DAY, 7 * DAY]) == DAY
    assert pace(None, []) is None
