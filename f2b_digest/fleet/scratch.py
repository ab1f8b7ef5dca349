"""Copies a report's events from the centre into a scratch SQLite store, for the code of a host. Nothing is sealed here.

The store's ids are those of one digest only: first what it is compared with, then what is pending. That is in the order
in which it was recorded, and each host's own order is kept, so that whatever a calendar report cuts off at some id is
the end of each host's chain.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.fleet import history
from f2b_digest.fleet.grouping import Grouping
from f2b_digest.fleet.vectors import FIELDS, NAMES, PENDING, VECTOR, End, batches, values_of
from f2b_digest.store import Store, pack

CACHE = 64 * 1024
"""KiB of the scratch store that are kept in memory while it is filled."""
_TABLES = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY, store_id INTEGER, seq INTEGER, own TEXT, moment REAL)",
    "CREATE TABLE late (id INTEGER PRIMARY KEY)",
)
_INDEX = "CREATE INDEX event_host ON event (host, jail, at, history) WHERE kind = 'ban'"
"""For the baseline of one host."""
# Starts and stops of jails are left out: they concern one host only.
# A host's clock may be off, and may jump: what it recorded counts as no earlier than what it recorded before, and as no
# later than it arrived here.
_PENDING = (
    f"SELECT {FIELDS}, e.store_id, e.seq, e.own, "
    "max(least(e.recorded_at - coalesce(s.skew, 0), extract(epoch FROM e.arrived))) "
    "OVER (PARTITION BY e.store_id ORDER BY e.seq) AS moment "
    f"FROM {VECTOR} JOIN f2b.event e ON e.store_id = v.store_id AND {PENDING} {NAMES} "
    "WHERE e.kind NOT IN ('start', 'stop') "
    "ORDER BY moment, e.store_id, e.seq"
)
_LATE = (
    "INSERT INTO late SELECT id FROM event JOIN origin USING (id) "
    "WHERE kind = 'ban' AND history = 0 AND own IS NULL AND at < ? AND id > ?"
)


def fill(
    connection: sa.Connection, path: Path, ends: Sequence[End], since: float, late_before: float | None, *,
    rows: bool = False,
) -> int:  # fmt: skip
    """Fill a scratch store with pending events and their baseline since a time; return the baseline's last id.

    Pending bans from before `late_before` become history, and are noted in the table `late`; not those of own
    addresses, which are told one by one. With `rows`, the baseline is there ban by ban, for a digest of a past
    period. Times are in UTC epoch seconds.
    """
    with _filling(path) as scratch:
        history.fill(connection, scratch, ends, since, rows=rows)
        before = _newest(scratch)
        copy_pending(connection, scratch, ends, before, late_before)
        return before


def fill_past(
    connection: sa.Connection, path: Path, ends: Sequence[End], since: float, grouping: Grouping,
    hosts: Mapping[int, str],
) -> int:  # fmt: skip
    """Fill a scratch store with the baseline only, and the times of grouped bans; return the baseline's last id.

    `hosts` are by store. See `fill`.
    """
    with _filling(path) as scratch:
        history.fill(connection, scratch, ends, since, rows=False)
        before = _newest(scratch)
        pack(scratch, ((hosts[store], jail, times) for store, jail, times in grouping.times()))
        return before


@contextmanager
def _filling(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a new store, which nobody needs if it cannot be filled. Indexes made at the end cost less."""
    with closing(recorder.connect(str(path))) as scratch:
        for pragma in ("synchronous=OFF", "journal_mode=OFF", f"cache_size=-{CACHE}"):
            scratch.execute(f"PRAGMA {pragma}")
        scratch.execute("BEGIN")
        for table in _TABLES:
            scratch.execute(table)
        indexes = scratch.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        made = indexes.fetchall()
        for name, _ in made:
            scratch.execute(f"DROP INDEX {name}")
        yield scratch
        for index in (*(sql for _, sql in made), _INDEX):
            scratch.execute(index)
        scratch.execute("COMMIT")
        scratch.execute("PRAGMA journal_mode=WAL")


def _newest(scratch: sqlite3.Connection) -> int:
    (newest,) = scratch.execute("SELECT coalesce(max(id), 0) FROM event").fetchone()
    return int(newest)


def copy_pending(
    connection: sa.Connection, scratch: sqlite3.Connection, ends: Sequence[End], before: int, late_before: float | None
) -> None:
    """Append the pending events. Those that another store of the same host told are skipped here, but sealed."""
    place, last = len(recorder.COLUMNS), before
    numbered = recorder.INSERT.replace("(", "(id, ", 1).replace("VALUES (", "VALUES (?, ")
    for rows in batches(connection, _PENDING, values_of(ends)):
        ids = range(last + 1, last + 1 + len(rows))
        scratch.executemany(numbered, ((key, *row[:place]) for key, row in zip(ids, rows, strict=True)))
        origins = ((key, *row[place:]) for key, row in zip(ids, rows, strict=True))
        scratch.executemany("INSERT INTO origin VALUES (?, ?, ?, ?, ?)", origins)
        last += len(rows)
    if scratch.execute("SELECT count(*) FROM event WHERE id > ?", (before,)).fetchone() != (last - before,):
        scratch.execute("DELETE FROM origin WHERE id NOT IN (SELECT id FROM event)")
    if late_before is not None:
        scratch.execute(_LATE, (late_before, before))
        scratch.execute("UPDATE event SET history = 1 WHERE id IN (SELECT id FROM late)")


def vector(path: Path, ends: Iterable[End], last_id: int) -> list[End]:
    """Return the vector of a digest that ends with an id of a scratch store: the last event of each host's store."""
    with closing(recorder.connect(str(path))) as scratch:
        query = "SELECT store_id, min(seq) FROM origin WHERE id > ? GROUP BY store_id"
        beyond = dict(scratch.execute(query, (last_id,)).fetchall())
    taken = (End(end.store_id, end.seq, beyond.get(end.store_id, end.upto + 1) - 1) for end in ends)
    return [end for end in taken if end.upto > end.seq]


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
