"""The pending bans of a large fleet, grouped by PostgreSQL. Only queries: what is done with the groups is elsewhere.

A digest needs its bans by jail, address and list of names; by host and jail; and by quarter hour. As rows it needs only
a few: the last bans of the addresses that it names, those of own addresses, and those that were lifted by hand.

All queries are of one snapshot. Those that count leave out what a digest does not count: bans from before its period,
and imported ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.fleet.connection import words
from f2b_digest.fleet.vectors import FIELDS, NAMES, PENDING, VECTOR, End, batches, parts, values_of
from f2b_digest.model.bans import IN_TIME, LATER, ROUNDED
from f2b_digest.model.counts import QUARTER

FEW = 500
"""Rows that are fetched at once of those that may be large."""


class OfJail(NamedTuple):
    """The pending bans of one jail in one store. Times are in UTC epoch seconds."""

    store_id: int
    jail: str
    bans: int
    last: float | None
    recorded: float | None
    """When the first of them was recorded, by the host's clock."""
    late: int
    """Bans from before the period, which are not among the others; and their first and last."""
    first_late: float | None
    last_late: float | None


class Grouping:
    """The pending bans of some stores up to some end, in a transaction that the caller holds."""

    def __init__(self, connection: sa.Connection, ends: Sequence[End], late: float | None) -> None:
        """Bans from before `late` (UTC epoch seconds) are not counted, but for those of own addresses."""
        self.ends = ends
        self._connection = connection
        self._values = {"scratch_jail": recorder.SCRATCH_JAIL, "late": -1.0 if late is None else late}

    def _rows(self, query: str, size: int = FEW, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield a query's rows. Raises CentreError."""
        if self.ends:
            with words():
                for rows in batches(self._connection, query, {**self._values, **values_of(self.ends), **values}, size):
                    yield from rows

    def _groups(self, query: str, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield groups, not made by a sort, which the planner prefers: it expects a tenth of the rows."""
        self._connection.execute(sa.text("SET LOCAL enable_sort = off"))
        yield from self._rows(query, size=5000, **values)
        self._connection.execute(sa.text("SET LOCAL enable_sort = on"))

    # ---- where a period ends

    def cut(self, since: float, until: float) -> tuple[list[End], bool]:
        """Return the ends of what was recorded before a time, and whether something was from then until another one.

        By the centre's clock, in UTC epoch seconds. What a host recorded after an event is not before it.
        """
        found = {store: (cut, counted) for store, cut, counted in self._rows(_CUT, since=since, until=until)}
        ends = [replace(end, upto=found[end.store_id][0] - 1) if end.store_id in found else end for end in self.ends]
        return ends, any(counted for _, counted in found.values())

    # ---- groups

    def of_jails(self) -> list[OfJail]:
        """Return the bans of each jail in each store."""
        return [OfJail(*row) for row in self._groups(_OF_JAILS)]

    def tried(self, jails: list[str] | None) -> Iterator[tuple[Any, ...]]:
        """Yield the columns of `tried` (see `store.summary`) and the stores of each ban, eight bytes for each."""
        return self._groups(_TRIED, jails=jails)

    def quarters(self, jails: list[str] | None) -> list[tuple[int, int]]:
        """Return the number of bans in each quarter hour since the epoch that has some."""
        return list(self._groups(_QUARTERS, quarter=QUARTER, jails=jails))

    def times(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield a store, a jail, and the times of its bans, also of those that are not counted, packed."""
        for part in parts(self.ends):
            yield from self._rows(_TIMES, size=50, **values_of(part))

    def firsts(self, *, counted: bool) -> Iterator[tuple[str, float]]:
        """Yield the ids of bans, or only of those that are not counted, and when the first of each was."""
        return self._groups(_FIRSTS, counted=counted)

    def verdicts(self) -> list[tuple[str, str]]:
        """Return the ids of bans that a host classified as own, each with the reason; the last ban's is the last."""
        return list(self._rows(_VERDICTS))

    # ---- rows: the columns of an event

    def last_bans(self, which: Sequence[tuple[str, str, float]]) -> Iterator[tuple[Any, ...]]:
        """Yield the last bans of some addresses, as (jail, id, time)."""
        jails, ips, times = zip(*which, strict=True) if which else ((), (), ())
        return self._rows(_LAST_BANS, w_jails=list(jails), w_ips=list(ips), w_times=list(times))

    def ends_of(self, which: Sequence[tuple[str, str, float]]) -> Iterator[tuple[Any, ...]]:
        """Yield what says when the same ended."""
        jails, ips, times = zip(*which, strict=True) if which else ((), (), ())
        return self._rows(_ENDS_OF, w_jails=list(jails), w_ips=list(ips), w_times=list(times))

    def with_lines(self, which: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
        """Yield of some addresses, as (jail, id), the last ban that has log lines."""
        jails, ips = zip(*which, strict=True) if which else ((), ())
        return self._rows(_WITH_LINES, w_jails=list(jails), w_ips=list(ips))

    def all_of(self, ips: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield all bans of some ids."""
        return self._rows(_ALL_OF, w_ips=list(ips))

    def ends_of_all(self, ips: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield what says when these ended."""
        return self._rows(_ENDS_OF_ALL, w_ips=list(ips))

    def lifted(self, told: Sequence[int | None]) -> Iterator[tuple[Any, ...]]:
        """Yield the unbans that may have been made by hand, and their bans, also of those up to the events `told`."""
        return self._rows(_LIFTED, told=told)

    # ---- numbers

    def spared(self, which: Sequence[tuple[str, str]]) -> dict[str, int]:
        """Return by id, of some addresses as (jail, id), how many bans longer bans would have spared."""
        jails, ips = zip(*which, strict=True) if which else ((), ())
        return dict(self._rows(_SPARED, w_jails=list(jails), w_ips=list(ips)))

    def was_prolonged(self, jails: list[str] | None) -> bool:
        """Return whether any ban was prolonged."""
        return any(found for (found,) in self._rows(_PROLONGED, jails=jails))


# What is read of a vector is materialized: Citus then sends it to the workers as it is.
_V = f"WITH v AS MATERIALIZED (SELECT * FROM {VECTOR})"
_W = (
    ", w AS MATERIALIZED (SELECT * FROM unnest(CAST(:w_jails AS text[]), CAST(:w_ips AS text[]), "
    "CAST(:w_times AS float8[])) AS w (jail, ip, at))"
)
_W_JAILS = (
    ", w AS MATERIALIZED (SELECT * FROM unnest(CAST(:w_jails AS text[]), CAST(:w_ips AS text[])) AS w (jail, ip))"
)
_W_IPS = ", w AS MATERIALIZED (SELECT * FROM unnest(CAST(:w_ips AS text[])) AS w (ip))"
_OF_STORES = f"e.store_id = v.store_id AND {PENDING}"
_FROM = f"FROM v JOIN f2b.event e ON {_OF_STORES}"
_LATE = "e.at < CAST(:late AS float8) AND e.own IS NULL"
_IN_JAILS = "e.jail <> :scratch_jail AND (CAST(:jails AS text[]) IS NULL OR e.jail = ANY(CAST(:jails AS text[])))"
_COUNTED = f"e.kind = 'ban' AND e.history = 0 AND NOT ({_LATE})"
# No event was recorded after it arrived, whatever a host's clock says.
_MOMENT = "least(e.recorded_at - v.skew, extract(epoch FROM e.arrived))"
_CUT = f"""
WITH v AS MATERIALIZED (
    SELECT v.*, coalesce(s.skew, 0) AS skew FROM {VECTOR} JOIN f2b.store s ON s.store_id = v.store_id
)
SELECT e.store_id, min(e.seq), bool_or(e.history = 0 AND {_MOMENT} <= CAST(:until AS float8)) {_FROM}
WHERE e.kind NOT IN ('start', 'stop') AND {_MOMENT} >= CAST(:since AS float8) GROUP BY e.store_id
"""
_OF_JAILS = f"""
{_V}
SELECT e.store_id, e.jail, count(*) FILTER (WHERE NOT ({_LATE})), max(e.at) FILTER (WHERE NOT ({_LATE})),
       min(e.recorded_at) FILTER (WHERE NOT ({_LATE})), count(*) FILTER (WHERE {_LATE}),
       min(e.at) FILTER (WHERE {_LATE}), max(e.at) FILTER (WHERE {_LATE})
{_FROM} WHERE e.kind = 'ban' AND e.history = 0 AND e.jail <> :scratch_jail GROUP BY e.store_id, e.jail
"""
# The sum is of type numeric: no number of failures is too large for it.
_TRIED = f"""
{_V}
SELECT e.jail, e.ip, e.users, count(*), CAST(sum(e.failures) AS bigint), count(*) - count(e.failures), min(e.at),
       max(e.at), array_send(array_agg(e.store_id))
{_FROM} WHERE {_COUNTED} AND {_IN_JAILS} GROUP BY e.jail, e.ip, e.users
"""
_QUARTERS = f"""
{_V}
SELECT CAST(floor(e.at / :quarter) AS bigint) AS quarter, count(*)
{_FROM} WHERE {_COUNTED} AND {_IN_JAILS} GROUP BY quarter
"""
_TIMES = f"""
{_V}
SELECT e.store_id, e.jail, string_agg(float8send(e.at), CAST('' AS bytea) ORDER BY e.at)
{_FROM} WHERE e.kind = 'ban' GROUP BY e.store_id, e.jail
"""
# Not in the order of the index by addresses, which would read the table in any order.
_FIRSTS = f"""
{_V}
SELECT e.ip COLLATE "C", min(e.at) {_FROM} WHERE e.kind = 'ban' AND (:counted OR NOT ({_COUNTED}))
GROUP BY e.ip COLLATE "C"
"""
_VERDICTS = f"""
{_V}
SELECT e.ip, e.own {_FROM} WHERE e.kind = 'ban' AND e.own IS NOT NULL ORDER BY e.at, e.store_id, e.seq
"""
_LAST_BANS = f"""
{_V}{_W}
SELECT {FIELDS} FROM w JOIN f2b.event e ON e.ip = w.ip AND e.jail = w.jail AND e.at = w.at
JOIN v ON {_OF_STORES} {NAMES} WHERE {_COUNTED}
"""
_ENDS_OF = f"""
{_V}{_W}
SELECT {FIELDS} FROM w
JOIN f2b.event e ON e.ip = w.ip AND e.jail = w.jail AND e.at BETWEEN w.at - {ROUNDED} AND w.at + {LATER}
JOIN v ON {_OF_STORES} {NAMES} WHERE e.kind IN ('prolong', 'unban')
"""
_WITH_LINES = f"""
{_V}{_W_JAILS}
SELECT DISTINCT ON (e.jail, e.ip) {FIELDS} FROM w JOIN f2b.event e ON e.ip = w.ip AND e.jail = w.jail
JOIN v ON {_OF_STORES} {NAMES} WHERE {_COUNTED} AND e.matches IS NOT NULL ORDER BY e.jail, e.ip, e.at DESC
"""
_OF_IPS = f"{_V}{_W_IPS} SELECT {FIELDS} FROM w JOIN f2b.event e ON e.ip = w.ip JOIN v ON {_OF_STORES} {NAMES}"
_ALL_OF = f"{_OF_IPS} WHERE {_COUNTED}"
_ENDS_OF_ALL = f"{_OF_IPS} WHERE e.kind IN ('prolong', 'unban')"
_LIFTED = f"""
{_V}, u AS MATERIALIZED (
    SELECT e.store_id, e.seq, e.jail, e.ip, e.at, e.recorded_at {_FROM} WHERE e.kind = 'unban' AND e.history = 0
), b AS MATERIALIZED (
    SELECT e.*, u.store_id AS unban_store, u.seq AS unban_seq, u.recorded_at AS unbanned FROM u
    JOIN f2b.event e ON e.ip = u.ip AND e.jail = u.jail AND e.at BETWEEN u.at - {LATER} AND u.at + {ROUNDED}
    WHERE e.kind IN ('ban', 'prolong') AND e.seq <= (CAST(:told AS bigint[]))[e.store_id]
), early AS MATERIALIZED (
    SELECT * FROM b WHERE kind = 'prolong' OR bantime < 0 OR unbanned < at + bantime - {IN_TIME}
    OR (ip, jail, at) IN (SELECT ip, jail, at FROM b WHERE kind = 'prolong')
)
SELECT {FIELDS} FROM early AS e {NAMES}
UNION ALL
SELECT {FIELDS} FROM (SELECT DISTINCT unban_store, unban_seq FROM early) AS k
JOIN f2b.event e ON e.store_id = k.unban_store AND e.seq = k.unban_seq {NAMES}
"""
_SPARED = f"""
{_V}{_W_JAILS}
SELECT ip, count(*) FROM (
    SELECT e.jail, e.ip, e.at, e.bantime, lead(e.at) OVER bans AS next, row_number() OVER bans AS place
    FROM w JOIN f2b.event e ON e.ip = w.ip AND e.jail = w.jail JOIN v ON {_OF_STORES} WHERE {_COUNTED}
    WINDOW bans AS (PARTITION BY e.store_id, e.jail, e.ip ORDER BY e.at)
) AS bans WHERE bantime > 0 AND next - at < bantime * (1 << CAST(least(place, 20) - 1 AS integer)) GROUP BY ip
"""
_PROLONGED = f"{_V} SELECT true {_FROM} WHERE e.kind = 'prolong' AND e.history = 0 AND {_IN_JAILS} LIMIT 1"
