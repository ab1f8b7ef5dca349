"""When bans happened, in the report's zone: counted per quarter hour in SQLite's SQL, summed in Python."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from f2b_digest.model.counts import QUARTER
from f2b_digest.model.digest import Bar, When, moment
from f2b_digest.store.selected import Wanted
from f2b_digest.store.sql import Connection

HOURS, DAYS, WHOLE_WEEK = 36 * 3600.0, 15 * 86400.0, 6.5 * 86400.0
"""Seconds: the longest periods shown by hour and by day, and the shortest that counts as a week."""
MOST_BARS = 60
DAY = 86400.0


def quarters(connection: Connection, wanted: Wanted) -> Iterator[tuple[int, int]]:
    """Yield the number of bans in each quarter hour since the epoch that has some."""
    yield from connection.execute(_QUARTERS.format(where=wanted.where), wanted.values | {"quarter": QUARTER})


_QUARTERS = "SELECT CAST(at / :quarter AS INTEGER), count(*) FROM event WHERE {where} GROUP BY 1"


def when(quarters: Iterable[tuple[int, int]], *, zone: ZoneInfo, start: float, end: float) -> When:
    """Return the bans of each hour, day or week (from Monday) of a period, including those without any.

    A ban before the period counts at its beginning, one after it at its end. Beyond `MOST_BARS`, only the newest are
    there. Times are UTC epoch seconds.
    """
    start, end = moment(start, zone).timestamp(), moment(end, zone).timestamp()
    last = max(start, end)
    unit = "hour" if last - start <= HOURS else "day" if last - start <= DAYS else "week"
    step = 7 if unit == "week" else 1
    shown = max(start, last - (MOST_BARS + 1) * step * DAY)  # walk only the end of an absurdly long period
    starts = list(_hours(start, last, zone) if unit == "hour" else _days(shown, last, zone, step))[-MOST_BARS:]
    bars, heat = [0] * len(starts), [[0] * 24 for _ in range(7)]
    for quarter, bans in quarters:
        at = max(min(quarter, math.ceil(last / QUARTER) - 1) * QUARTER, start)  # the end itself is not in the period
        local = datetime.fromtimestamp(at, zone)
        heat[local.weekday()][local.hour] += bans
        place = bisect_right(starts, at) - 1
        if place >= 0:
            bars[place] += bans
    return When(
        unit=unit,
        bars=tuple(Bar(datetime.fromtimestamp(at, zone), bans) for at, bans in zip(starts, bars, strict=True)),
        heat=tuple(map(tuple, heat)) if unit != "hour" and last - start >= WHOLE_WEEK else (),
    )


def _hours(start: float, end: float, zone: ZoneInfo) -> Iterator[float]:
    """Yield when each hour of the zone's clock begins, from the one that `start` is in.

    Where the clock is set forward or back by half an hour, the hour before it lasts for an hour and a half.
    """
    at = start // QUARTER * QUARTER
    while datetime.fromtimestamp(at, zone).minute >= QUARTER // 60:
        at -= QUARTER
    yield at
    while (at := at + QUARTER) < end:
        if datetime.fromtimestamp(at, zone).minute < QUARTER // 60:
            yield at


def _days(start: float, end: float, zone: ZoneInfo, step: int) -> Iterator[float]:
    """Yield when each day or week of the zone's calendar begins, from the one that `start` is in."""
    day = datetime.fromtimestamp(start, zone).date()
    day -= timedelta(days=day.weekday() if step == 7 else 0)
    before = None
    while (at := _midnight(day, zone)) < end:
        if before is None or at > before:  # a zone that crosses the date line skips a day
            yield at
        if (date.max - day).days < step:
            return
        before, day = at, day + timedelta(days=step)


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time(), zone).timestamp()
