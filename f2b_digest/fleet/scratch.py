"""Copies a report's events from the centre into a scratch SQLite store, for the code of a host. Nothing is sealed here.

The store's ids are those of one digest only: first what it is compared with, then what is pending. That is in the order
in which it was recorded, and each host's own order is kept, so that whatever a calendar report cuts off at some id is
the end of each host's chain.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.store import Store

BATCH = 5000
"""Events of one statement."""
COMPARED = {None: 31.0, "day": 31.0, "week": 37.0, "month": 160.0}
"""Days before today that a digest is compared with, by how often it is due, and those of the period itself."""
_TABLES = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY, store_id INTEGER, seq INTEGER, own TEXT)",
    "CREATE TABLE late (id INTEGER PRIMARY KEY)",
)
_INDEX = "CREATE INDEX event_host ON event (host, jail, at) WHERE kind = 'ban'"
"""For the baseline of one host."""
_KIND, _AT, _HISTORY = (recorder.COLUMNS.index(name) for name in ("kind", "at", "history"))
_FIELDS = ", ".join("h.host" if name == "host" else f"e.{name}" for name in recorder.COLUMNS)
_NEEDED = {
    "kind": "'ban'", "host": "o.host", "jail": "f.jail", "ip": "f.ip", "at": "o.at", "recorded_at": "o.at",
    "source": "'fleet'", "history": "1",
}  # fmt: skip
"""Columns copied of a ban of which only the time matters."""
_FROM = (
    "FROM unnest(CAST(:stores AS integer[]), CAST(:seqs AS bigint[]), CAST(:ends AS bigint[])) "
    "AS v (store_id, seq, upto) JOIN f2b.event e ON e.store_id = v.store_id "
)
_NAMES = "JOIN f2b.store s ON s.store_id = e.store_id JOIN f2b.host h ON h.host = s.host "
# Starts and stops of jails are left out: they concern one host only.
# A host's clock may jump: what it recorded counts as no earlier than what it recorded before.
_PENDING = (
    f"SELECT {_FIELDS}, e.store_id, e.seq, e.own {_FROM} "
    f"AND e.seq > v.seq AND e.seq <= v.upto {_NAMES} WHERE e.kind NOT IN ('start', 'stop') "
    "ORDER BY max(e.recorded_at - coalesce(s.skew, 0)) OVER (PARTITION BY e.store_id ORDER BY e.seq), e.store_id, e.seq"
)
_BEFORE = (
    f"SELECT {_FIELDS} {_FROM} AND e.seq <= v.seq {_NAMES}"
    "WHERE e.arrived >= to_timestamp(:since) AND e.kind IN ('ban', 'prolong') "
    "ORDER BY e.arrived, e.store_id, e.seq"
)
_KNOWN = (
    f"WITH fresh AS (SELECT DISTINCT e.ip, e.jail {_FROM} AND e.seq > v.seq AND e.seq <= v.upto WHERE e.kind = 'ban') "
    f"SELECT {', '.join(_NEEDED.get(name, 'NULL') for name in recorder.COLUMNS)} FROM fresh f "
    "CROSS JOIN LATERAL (SELECT s.host, e.at FROM f2b.event e JOIN f2b.store s USING (store_id) "
    "WHERE e.ip = f.ip AND e.jail = f.jail AND e.kind = 'ban' AND e.store_id = ANY(CAST(:stores AS integer[])) "
    "AND e.at < :since ORDER BY e.at DESC LIMIT 1) o"
)


COUNTED = (
    f"SELECT e.jail, count(*) AS bans, min(e.recorded_at) AS since {_FROM} AND e.seq > v.seq AND e.seq <= v.upto "
    "WHERE e.kind = 'ban' AND e.history = 0 GROUP BY e.jail"
)
"""The pending bans of each jail."""


@dataclass(frozen=True)
class End:
    """One host's store: what of it is reported, and what is at the centre."""

    store_id: int
    seq: int
    upto: int


def values_of(ends: Sequence[End]) -> dict[str, Any]:
    """Return the values that the queries here bind, by name."""
    return {
        "stores": [end.store_id for end in ends],
        "seqs": [end.seq for end in ends],
        "ends": [end.upto for end in ends],
    }


def fill(connection: sa.Connection, path: Path, ends: Sequence[End], since: float, late_before: float | None) -> int:
    """Fill a scratch store with pending events and their baseline since a time; return the baseline's last id.

    Pending bans from before `late_before` become history, and are noted in the table `late`; not those of own
    addresses, which are told one by one. Times are in UTC epoch seconds.
    """
    values = values_of(ends) | {"since": since}
    with closing(recorder.connect(str(path))) as scratch:
        scratch.execute("PRAGMA synchronous=OFF")
        scratch.execute("BEGIN")
        for table in _TABLES:
            scratch.execute(table)
        for query in (_KNOWN, _BEFORE):
            for rows in _batches(connection, query, values):
                scratch.executemany(recorder.INSERT, rows)
        (before,) = scratch.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
        for rows in _batches(connection, _PENDING, values):
            for *event, store_id, seq, own in rows:
                late = late_before is not None and _is_late(event, own, late_before)
                if late:
                    event[_HISTORY] = 1
                # Bans already reported from another store of the same host are skipped here, but sealed.
                if scratch.execute(recorder.INSERT, event).rowcount:
                    origin = (store_id, seq, own)
                    scratch.execute("INSERT INTO origin VALUES (last_insert_rowid(), ?, ?, ?)", origin)
                    if late:
                        scratch.execute("INSERT INTO late SELECT max(id) FROM origin")
        scratch.execute(_INDEX)
        scratch.execute("COMMIT")
        return int(before)


def _is_late(event: Sequence[Any], own: str | None, before: float) -> bool:
    return event[_KIND] == "ban" and event[_HISTORY] == 0 and own is None and event[_AT] < before


def _batches(connection: sa.Connection, query: str, values: dict[str, Any]) -> Iterator[list[Any]]:
    result = connection.execution_options(stream_results=True, yield_per=BATCH).execute(sa.text(query), values)
    for rows in result.partitions(BATCH):  # without a size, all rows come at once
        yield [tuple(row) for row in rows]


def vector(path: Path, ends: Iterable[End], last_id: int) -> list[End]:
    """Return the vector of a digest that ends with an id of a scratch store: the last event of each host's store."""
    with closing(recorder.connect(str(path))) as scratch:
        query = "SELECT store_id, min(seq) FROM origin WHERE id > ? GROUP BY store_id"
        beyond = dict(scratch.execute(query, (last_id,)).fetchall())
    taken = (End(end.store_id, end.seq, beyond.get(end.store_id, end.upto + 1) - 1) for end in ends)
    return [end for end in taken if end.upto > end.seq]


def verdicts(path: Path) -> list[tuple[str, str]]:
    """Return the ids of a scratch store that a host classified as own, each with the reason."""
    query = "SELECT ip, own FROM origin JOIN event USING (id) WHERE own IS NOT NULL AND kind = 'ban'"
    with closing(recorder.connect(str(path))) as scratch:
        return list(scratch.execute(query))


def copy_archive(path: Path, digests: Sequence[dict[str, Any]], deliveries: Sequence[dict[str, Any]]) -> None:
    """Copy rows of digests and deliveries into a scratch store, for facts about earlier digests."""
    Store(path, read_only=False).close()  # makes the tables
    with closing(recorder.connect(str(path))) as scratch:
        scratch.execute("PRAGMA synchronous=OFF")
        scratch.execute("BEGIN")
        for table, rows in (("digest", digests), ("delivery", deliveries)):
            for row in rows:
                names, marks = ", ".join(row), ", ".join("?" * len(row))
                scratch.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
        scratch.execute("COMMIT")
