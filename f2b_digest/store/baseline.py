"""Earlier periods, and starts and stops of jails, in SQLite's SQL. They are interpreted in `analysis`.

The times of bans are read in `times`, so that the cost depends on the periods requested, not on the history.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from f2b_digest.model.baseline import PLAUSIBLE, Baseline, Quiet, Window
from f2b_digest.store.selected import jails
from f2b_digest.store.sql import Connection
from f2b_digest.store.times import Times, has_packed

DAY, DAYS = 86400.0, 28
GAPS = 31
"""The longest gaps that are fetched of a quiet jail; more than `analysis.statistics.LONG_GAPS`."""
SAME = 1.0
"""Seconds: times in a digest have no fractions."""


def baseline(
    connection: Connection,
    windows: Sequence[Window],
    patterns: Sequence[str],
    before: float,
    *,
    end: float,
    until: float,
    quiet_for: float,
    outages: Mapping[str, Sequence[float]] | None = None,
    most: int | None = None,
    host: str | None = None,
) -> Baseline:
    """Count the bans of each window, which may lie in any order and overlap, in the jails that the patterns take in.

    Of one host with `host`: only in a fleet's scratch store, which has an index for it.

    `last` is bounded by a time; `quiet` are the jails without a ban in so many seconds before the period's
    end, nor from then until a time. `outages` are, by jail, the last bans before reported outages; of the windows
    without one, the newest `most` count. All times are UTC epoch seconds.
    """
    windows = sorted(windows, reverse=True)
    spans, packed = _spans(connection, windows), has_packed(connection)
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    quiet: dict[str, Quiet] = {}
    by_window: dict[str, tuple[int, ...]] = {}
    newest: dict[str, int] = {}
    together, newest_of_all = [0.0] * len(windows), 0
    for jail in jails(connection, patterns):
        one = Times(connection, jail, host, packed=packed)
        oldest, earlier, latest = one.bounds(before, until)
        if oldest is None:
            continue
        first[jail] = oldest
        if earlier is not None:
            last[jail] = earlier
        down = _outages(one, (outages or {}).get(jail, ()))
        if latest is not None and latest <= end - quiet_for:
            quiet[jail] = _quiet(one, oldest, latest, down)
        sums = _sums(spans, one.counts(spans), windows)
        usable = [not _meet(window, down) for window in windows]
        known = [count for window, count, use in zip(windows, sums, usable, strict=True) if use and window[0] >= oldest]
        by_window[jail] = tuple(known[:most])
        typical = median(known[:most]) if known else 0.0
        together = [one + (count if use else typical) for one, count, use in zip(together, sums, usable, strict=True)]
        newest_of_all += sums[0] if sums else 0
        if windows and windows[0][0] >= oldest:
            newest[jail] = sums[0]
    since = min(first.values(), default=math.inf)
    known_of_all = [round(count) for window, count in zip(windows, together, strict=True) if window[0] >= since]
    before_all = newest_of_all if known_of_all else None
    return Baseline(by_window, tuple(known_of_all[:most]), quiet, last, newest, before_all)


def _outages(jail: Times, begun: Sequence[float]) -> list[Window]:
    """Return the reported outages of a jail as (start, end): from the last ban before to the next one, or infinity."""
    found = []
    for since in begun:
        until = jail.following(since + SAME)
        found.append((since, PLAUSIBLE[1] if until is None else until))
    return found


def _meet(window: Window, outages: Sequence[Window]) -> bool:
    return any(since < window[1] and window[0] < until for since, until in outages)


def _quiet(jail: Times, oldest: float, last: float, outages: Sequence[Window]) -> Quiet:
    """Return how a jail banned before its last ban: 28 days without outages, and the longest gaps in them."""
    over = [(since, until) for since, until in outages if until <= last]
    lost = sum((until - since) // DAY + 2 for since, until in over)
    days, reach = int(min(DAYS + lost, (last - oldest) // DAY)), last
    daily: list[int] = []
    for day in range(days):
        window = (last - (day + 1) * DAY, last - day * DAY)
        if not _meet(window, over) and len(daily) < DAYS:
            reach = window[0]
            daily.append(jail.count(*window))
    gaps = [
        gap
        for gap, since in jail.gaps(reach, last, GAPS + len(over))
        if not any(abs(since - begun) <= SAME for begun, _ in over)
    ]
    return Quiet(last, tuple(daily), tuple(gaps[:GAPS]))


def _spans(connection: Connection, windows: Sequence[Window]) -> list[Window]:
    """Split the windows into disjoint spans, in order, and store them in a table: no ban is counted twice."""
    edges = sorted({edge for window in windows for edge in window})
    spans = [
        (since, until)
        for since, until in pairwise(edges)
        if any(window[0] <= since and until <= window[1] for window in windows)
    ]
    connection.execute("DROP TABLE IF EXISTS temp.span")
    connection.execute("CREATE TEMP TABLE span (since REAL, until REAL)")
    if spans:
        connection.executemany("INSERT INTO temp.span VALUES (?, ?)", spans)
    return spans


def _sums(spans: Sequence[Window], counts: Sequence[int], windows: Sequence[Window]) -> tuple[int, ...]:
    return tuple(
        sum(bans for span, bans in zip(spans, counts, strict=True) if since <= span[0] and span[1] <= until)
        for since, until in windows
    )


def starts_and_stops(
    connection: Connection, patterns: Sequence[str], since: float
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Return by jail the kind and time of its starts and stops since a time, and of the last one before, oldest first.

    Times are UTC epoch seconds. A jail that never started here is missing. Hosts are not distinguished.
    """
    found = {}
    for jail in jails(connection, patterns):
        rows = connection.execute(_STARTS_AND_STOPS, {"jail": jail, "since": since}).fetchall()
        if rows:
            found[jail] = tuple((kind, at) for kind, at, _ in rows)
    return found


# The action records both without an id, so that the unique index leads to them.
_STARTS_AND_STOPS = """
SELECT kind, at, id FROM (
    SELECT kind, at, id FROM event
    WHERE jail = :jail AND ip = '' AND kind IN ('start', 'stop') AND at < :since ORDER BY at DESC, id DESC LIMIT 1
)
UNION ALL
SELECT kind, at, id FROM event WHERE jail = :jail AND ip = '' AND kind IN ('start', 'stop') AND at >= :since
ORDER BY at, id
"""
