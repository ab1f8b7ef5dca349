"""When a jail banned, over all hosts or on one: from the rows of `event`, and from packed times. Read-only.

A fleet's scratch store has most of what its digest is compared with as packed times only: big-endian doubles in order,
in the table `past`, which `fleet.history` or `pack` makes. Of these, the few that are rows as well have a `history` of
`COPY`.

Of the rows, reads the index `event_when` only, or in a fleet `event_host`.
"""

import heapq
import sqlite3
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from f2b_digest import recorder
from f2b_digest.model.baseline import COPY, PLAUSIBLE, Window, unpacked
from f2b_digest.store.sql import Connection


def has_packed(connection: Connection) -> bool:
    """Return whether a store has packed times."""
    return connection.has_table("past")


def pack(scratch: sqlite3.Connection, packed: Iterable[tuple[str, str, bytes]]) -> None:
    """Store packed times, as (host, jail, times), and of each host's jail one row, by which it is found.

    The rows' ids are negative. More of a host's jail can follow.
    """
    for statement in _PAST:
        scratch.execute(statement)
    oldest: dict[tuple[str, str], float] = {}
    for host, jail, times in packed:
        run = unpacked(times)
        scratch.execute("INSERT INTO past VALUES (?, ?, ?, ?)", (host, jail, run[0], times))
        first = run[min(bisect_left(run, PLAUSIBLE[0]), len(run) - 1)]
        oldest[host, jail] = min(first, oldest.get((host, jail), first))
    (least,) = scratch.execute("SELECT min(id) FROM event").fetchone()
    insert = recorder.INSERT.replace("(", "(id, ", 1).replace("VALUES (", "VALUES (?, ")
    scratch.executemany(insert, (
        (min(least or 0, 0) - place, *recorder.event("ban", jail, "", at, host, "fleet", at)[:-1], COPY)
        for place, ((host, jail), at) in enumerate(oldest.items(), 1)
    ))  # fmt: skip


_PAST = (
    "CREATE TABLE IF NOT EXISTS past (host TEXT, jail TEXT, first REAL, times BLOB)",
    "CREATE INDEX IF NOT EXISTS past_jail ON past (jail, host, first)",
)


def first_ban(connection: Connection) -> str:
    """Return the SQL of when the id of a row of `who` was first banned; a fleet's scratch store has a table for it."""
    here = "(SELECT min(at) FROM event WHERE event.ip = who.ip AND event.kind = 'ban')"
    if not connection.has_table("known"):
        return here
    return f"min({here}, coalesce((SELECT at FROM known WHERE known.ip = who.ip), {PLAUSIBLE[1]}))"


class Times:
    """The times of a jail's bans, of one host with `host`, in UTC epoch seconds; `packed`: see `has_packed`."""

    def __init__(self, connection: Connection, jail: str, host: str | None, *, packed: bool) -> None:
        self._connection = connection
        self._values = {"jail": jail, "host": host}
        self._of = "jail = :jail" if host is None else "jail = :jail AND host = :host"
        self._once = f"{self._of} AND history < {COPY}" if packed else self._of
        self._packed = packed

    def _rows(self, query: str, **values: float) -> Sequence[Any]:
        text = query.format(of=self._of, once=self._once)
        return self._connection.execute(text, self._values | values).fetchall()

    def _runs(self) -> Iterator["array[float]"]:
        """Yield the packed times in runs that are sorted, most of them a host's."""
        if not self._packed:
            return
        run = array("d")
        query = f"SELECT times FROM past WHERE {self._of} ORDER BY host, first"
        for (packed,) in self._connection.execute(query, self._values):
            times = unpacked(packed)
            if run and times[0] < run[-1]:
                yield run
                run = times
            else:
                run += times
        if run:
            yield run

    def bounds(self, before: float, until: float) -> tuple[float | None, float | None, float | None]:
        """Return the first plausible ban, the last before one time, and the last up to another one."""
        since, end = PLAUSIBLE
        ((oldest, earlier, latest),) = self._rows(_BOUNDS, since=since, until=end, before=before, end=until)
        firsts, lasts, latests = [oldest], [earlier], [latest]
        for run in self._runs():
            low = bisect_left(run, since)
            for found, place in (
                (lasts, bisect_left(run, min(end, before))), (latests, bisect_right(run, min(end, until))),
            ):  # fmt: skip
                if place > low:
                    found.append(run[place - 1])
            if bisect_right(run, end) > low:
                firsts.append(run[low])
        return _least(firsts), _most(lasts), _most(latests)

    def counts(self, spans: Sequence[Window]) -> list[int]:
        """Count the bans of each of some spans, their ends excluded, which are in the table `span` too."""
        bans = [count for (count,) in self._rows(_COUNTS)]
        for run in self._runs():
            for place, (since, until) in enumerate(spans):
                bans[place] += bisect_left(run, until) - bisect_left(run, since)
        return bans

    def following(self, since: float) -> float | None:
        """Return the first ban after a time."""
        found = [self._rows(_NEXT, since=since)[0][0]]
        for run in self._runs():
            found += run[(place := bisect_right(run, since)) : place + 1]
        return _least(found)

    def count(self, since: float, until: float) -> int:
        """Count the bans after a time, up to another one."""
        packed = sum(bisect_right(run, until) - bisect_right(run, since) for run in self._runs())
        return int(self._rows(_DAY, since=since, until=until)[0][0]) + packed

    def gaps(self, since: float, until: float, most: int) -> list[tuple[float, float]]:
        """Return the longest times between two bans after a time, up to another one, and when each began."""
        if not self._packed:
            return [(gap, begun) for gap, begun in self._rows(_GAPS, since=since, until=until, most=most)]
        runs = [run[bisect_right(run, since) : bisect_right(run, until)] for run in self._runs()]
        rows = [at for (at,) in self._rows(_BETWEEN, since=since, until=until)]
        gaps = ((later - at, at) for at, later in pairwise(heapq.merge(rows, *runs)))
        return heapq.nlargest(most, gaps, key=lambda gap: gap[0])


def _least(found: Sequence[float | None]) -> float | None:
    return min((at for at in found if at is not None), default=None)


def _most(found: Sequence[float | None]) -> float | None:
    return max((at for at in found if at is not None), default=None)


# Of bounds, copies are as good as any row.
_BOUNDS = """
SELECT (SELECT min(at) FROM event WHERE kind = 'ban' AND {of} AND at BETWEEN :since AND :until),
       (SELECT max(at) FROM event WHERE kind = 'ban' AND {of} AND at >= :since AND at < min(:until, :before)),
       (SELECT max(at) FROM event WHERE kind = 'ban' AND {of} AND at >= :since AND at <= min(:until, :end))
"""
_NEXT = "SELECT min(at) FROM event WHERE kind = 'ban' AND {of} AND at > :since"
_DAY = "SELECT count(*) FROM event WHERE kind = 'ban' AND {once} AND at > :since AND at <= :until"
_BETWEEN = "SELECT at FROM event WHERE kind = 'ban' AND {once} AND at > :since AND at <= :until ORDER BY at"
_GAPS = """
SELECT at - before, before FROM (
    SELECT at, lag(at) OVER (ORDER BY at) AS before FROM event
    WHERE kind = 'ban' AND {of} AND at > :since AND at <= :until
) AS gap WHERE before IS NOT NULL ORDER BY at - before DESC LIMIT :most
"""
_COUNTS = """
SELECT (SELECT count(*) FROM event WHERE kind = 'ban' AND {once} AND at >= span.since AND at < span.until)
FROM temp.span ORDER BY span.rowid
"""
