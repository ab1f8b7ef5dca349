"""Days, weeks and months of a time zone in UTC epoch seconds, and the interval of a report. No clock is read here.

A day begins at the first instant whose local date is that day's or later. If the clocks skip midnight, it begins right
after the skip; if midnight occurs twice, at the first; a date that the zone skipped has no day; an hour repeated
after midnight belongs to the new day. So periods follow each other without gaps or overlaps.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

DAY = 86400.0
HOUR = 3600.0
PACES = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY}
"""Maximum seconds between two digests."""
UNITS = {"m": 60.0, "h": HOUR}
FEWEST, MOST, REACH = 4, 28, 28 * DAY
"""Minimum number of windows to compare with, and how many seconds they span at least."""
SHORTEST = 60.0
"""Seconds: shorter periods are not compared."""
SHORT = 20 * HOUR
"""Seconds: shorter periods are compared with the same hours of other days."""
_LAST = datetime(9998, 1, 1, tzinfo=UTC).timestamp()


def boundary(now: float, every: str, zone: ZoneInfo) -> float:
    """Return the start of the day, week (from Monday) or month that contains `now`, in UTC epoch seconds.

    Times before 1970 or after 9997 are clamped.
    """
    at = math.floor(min(max(now, 0.0), _LAST))
    begun = _first_day(datetime.fromtimestamp(at, zone).date(), every)
    following = _next(begun, every)
    while _begin(following, zone) <= at:  # the clocks were set back across midnight: the new day had already begun
        begun, following = following, _next(following, every)
    return _begin(begun, zone)


def ending(now: float, every: str, zone: ZoneInfo) -> float:
    """Return the end of the day, week or month that contains `now`, where the next one begins, in UTC epoch seconds."""
    begun = boundary(now, every, zone)
    day = _first_day(datetime.fromtimestamp(begun, zone).date(), every)
    while (end := _begin(day, zone)) <= begun:
        day = _next(day, every)
    return end


def previous(
    start: float, end: float, every: str | None, zone: ZoneInfo, calendar: bool, more: float = 0.0
) -> list[tuple[float, float]]:
    """Return the windows to compare a period with, as (start, end), the newest first; all times in epoch seconds.

    A calendar report's day is compared with the 28 days before it, a week or month with the 4 before. If a digest
    covers several of them (the host was down, or nothing was banned), so does each window; there are as many windows as
    fit into 28 days, at least 4.

    Other periods are compared with the windows of the same length directly before: as many as fit into 28 days, at
    least 4, at most 28. Periods shorter than 20 hours are compared with the same hours of the 28 days before.

    Periods of less than a minute have no windows. `more` is additional seconds to cover with windows.
    """
    length = end - start
    if length < SHORTEST:
        return []
    if calendar and every is not None and boundary(start, every, zone) == start and boundary(end, every, zone) == end:
        return _calendar(start, end, every, zone, more)
    if length < SHORT:
        return [(start - number * DAY, end - number * DAY) for number in range(1, MOST + math.ceil(more / DAY) + 1)]
    count = min(max(int(REACH / length), FEWEST), MOST) + math.ceil(more / length)
    return [(start - number * length, start - (number - 1) * length) for number in range(1, count + 1)]


def _calendar(start: float, end: float, every: str, zone: ZoneInfo, more: float) -> list[tuple[float, float]]:
    together, at = 0, end
    while at > start:
        at, together = boundary(at - 1, every, zone), together + 1
    windows = []
    count = (max(MOST // together, FEWEST) if every == "day" else FEWEST) + math.ceil(more / (end - start))
    for _ in range(count):
        since = start
        for _ in range(together):
            since = boundary(since - 1, every, zone)
        if since >= start:  # before 1970
            break
        windows.append((since, start))
        start = since
    return windows


def seconds(every: str) -> float:
    """Return the seconds of an interval: "day", "week", "month", or minutes or hours like "5m"."""
    return PACES[every] if every in PACES else int(every[:-1]) * UNITS[every[-1]]


def pace(every: str | None, ends: Sequence[float]) -> float | None:
    """Return a report's interval between two digests in seconds, or None if unknown.

    It is the longer of `every` and the usual gap between digests: the second longest of the last ten gaps, because a
    report that runs on working days has one or two weekends among them. With three to nine gaps it is the longest; with
    fewer, unknown. `ends` are the ends of the digests' periods, in any order, in UTC epoch seconds.
    """
    last = sorted(ends)[-11:]
    gaps = sorted(later - earlier for earlier, later in pairwise(last))
    usual = gaps[-2] if len(gaps) == 10 else gaps[-1] if len(gaps) >= 3 else None
    known = [each for each in (seconds(every) if every else None, usual) if each is not None]
    return max(known, default=None)


def _first_day(day: date, every: str) -> date:
    """Return the first date of the period that contains a date."""
    if every == "day":
        return day
    return day - timedelta(day.weekday()) if every == "week" else day.replace(day=1)


def _next(first: date, every: str) -> date:
    """Return the first date of the next period."""
    if every == "month":
        return (first + timedelta(31)).replace(day=1)
    return first + timedelta(1 if every == "day" else 7)


def _begin(day: date, zone: ZoneInfo) -> float:
    """Return the first instant whose local date is that day or a later one."""
    midnight = datetime.combine(day, time(), zone)
    begin = midnight.timestamp()
    if datetime.fromtimestamp(begin, zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return begin
    # The clocks skipped midnight, at some second between midnight by the old offset and by the new one.
    before, after = math.floor(midnight.replace(fold=1).timestamp()) - 1, math.ceil(begin)
    while after - before > 1:
        middle = (before + after) // 2
        if datetime.fromtimestamp(middle, zone).date() >= day:
            after = middle
        else:
            before = middle
    return float(after)
