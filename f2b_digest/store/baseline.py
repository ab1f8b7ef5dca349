"""What a digest is compared with: earlier periods, and jails that start and stop. What that means is judged elsewhere.

Of the index `event_when` only, so that years of history cost what the periods asked for hold.
"""

from collections.abc import Sequence
from itertools import pairwise

import sqlalchemy as sa

from f2b_digest.model.baseline import Baseline, Window
from f2b_digest.store.selected import jails

DAY, DAYS = 86400.0, 28
PLAUSIBLE = (1_072_915_200.0, 4_102_444_800.0)
"""2004, when fail2ban began, to 2100, in UTC epoch seconds: a clock that was wrong is no history."""


def baseline(connection: sa.Connection, windows: Sequence[Window], patterns: Sequence[str], before: float) -> Baseline:
    """Count the bans of each window, which may lie in any order and overlap, in the jails that the patterns take in.

    What came before a time, in UTC epoch seconds, bounds `last`.
    """
    windows = sorted(windows, reverse=True)
    end = max((until for _, until in windows), default=0.0)
    days = [(end - (day + 1) * DAY, end - day * DAY) for day in range(DAYS)] if windows else []
    spans = _spans(connection, [*windows, *days])
    first, last, together = {}, {}, [0] * len(spans)
    by_window: dict[str, tuple[int, ...]] = {}
    by_day: dict[str, tuple[int, ...]] = {}
    for jail in jails(connection, patterns):
        values = {"jail": jail, "since": PLAUSIBLE[0], "until": PLAUSIBLE[1], "before": before}
        oldest, newest = connection.execute(sa.text(_BOUNDS), values).one()
        if oldest is None:
            continue
        first[jail] = oldest
        if newest is not None:
            last[jail] = newest
        bans = connection.scalars(sa.text(_COUNTS), {"jail": jail}).all()
        together = [one + more for one, more in zip(together, bans, strict=True)]
        by_window[jail] = _sums(spans, bans, [window for window in windows if window[0] >= oldest])
        by_day[jail] = _sums(spans, bans, [day for day in days if day[0] >= oldest])
    known = [window for window in windows if first and window[0] >= min(first.values())]
    return Baseline(by_window, _sums(spans, together, known), by_day, last)


_BOUNDS = """
SELECT (SELECT min(at) FROM event WHERE kind = 'ban' AND jail = :jail AND at BETWEEN :since AND :until),
       (SELECT max(at) FROM event WHERE kind = 'ban' AND jail = :jail AND at >= :since AND at < min(:until, :before))
"""
_COUNTS = """
SELECT (SELECT count(*) FROM event WHERE kind = 'ban' AND jail = :jail AND at >= span.since AND at < span.until)
FROM temp.span ORDER BY span.rowid
"""


def _spans(connection: sa.Connection, windows: Sequence[Window]) -> list[Window]:
    """Return the parts that no window begins or ends in, in order, and put them into a table: none is counted twice."""
    edges = sorted({edge for window in windows for edge in window})
    spans = [
        (since, until)
        for since, until in pairwise(edges)
        if any(window[0] <= since and until <= window[1] for window in windows)
    ]
    connection.execute(sa.text("DROP TABLE IF EXISTS temp.span"))
    connection.execute(sa.text("CREATE TEMP TABLE span (since REAL, until REAL)"))
    if spans:
        connection.exec_driver_sql("INSERT INTO temp.span VALUES (?, ?)", spans)
    return spans


def _sums(spans: Sequence[Window], counts: Sequence[int], windows: Sequence[Window]) -> tuple[int, ...]:
    return tuple(
        sum(bans for span, bans in zip(spans, counts, strict=True) if since <= span[0] and span[1] <= until)
        for since, until in windows
    )


def starts_and_stops(
    connection: sa.Connection, patterns: Sequence[str], since: float
) -> dict[str, tuple[tuple[str, float], ...]]:
    """Return by jail the kind and time of its starts and stops since a time, and of the last one before, oldest first.

    Times are UTC epoch seconds. A jail that never started here is not there. Hosts are not told apart.
    """
    found = {}
    for jail in jails(connection, patterns):
        rows = connection.execute(sa.text(_STARTS_AND_STOPS), {"jail": jail, "since": since}).all()
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
