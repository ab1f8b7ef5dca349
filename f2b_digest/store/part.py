"""A scratch copy of a store for one report: the events of its hosts, and of a hub what only a fleet has.

As at a centre (`fleet.scratch`), pending events are put in the order in which they were recorded, not that in which
they arrived: a host that uploads some minutes after midnight has its bans of the day before in the digest of that day.
They share the ids that they have in the whole store, in that order; `taken` leads back, and `moment` is when each was
recorded by the hub's clock, by which a calendar report is cut.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from f2b_digest import recorder
from f2b_digest.model.baseline import COMPARED, LATE
from f2b_digest.store.received import FROM_A_HOST, make_tables
from f2b_digest.store.selected import Wanted
from f2b_digest.store.tables import DDL, DELIVERY, DIGEST

SENT_LATELY = 3600.0
"""Seconds for which sent bodies are copied: some channels do not report an address twice in a while."""
DAY = 86400.0
_TABLES = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY, whole INTEGER NOT NULL, late INTEGER NOT NULL, moment REAL NOT NULL)",
    "CREATE TABLE late (id INTEGER PRIMARY KEY)",
    "CREATE TABLE snapshot (last INTEGER NOT NULL)",
)
_INDEX = "CREATE INDEX event_host ON event (host, jail, at, history) WHERE kind = 'ban'"
"""For the baseline of one host."""
_COLUMNS = ", ".join(recorder.COLUMNS)
_LAST = "SELECT last_id, period_end FROM whole.digest WHERE report = :report ORDER BY id DESC LIMIT 1"
_PENDING = """
FROM whole.event AS event WHERE id > :after AND {hosts}
AND id NOT IN (SELECT id FROM whole.fleet_ahead WHERE report = :report)
"""
_ORIGIN = f"""
INSERT INTO origin
WITH skew AS (SELECT host, coalesce(skew, 0) AS ahead, max(seen_at) FROM whole.fleet_store GROUP BY host),
moved AS (
    SELECT id, max(recorded_at - coalesce(ahead, 0)) OVER (PARTITION BY host ORDER BY id) AS moment,
        kind = 'ban' AND history = 0 AND source = '{FROM_A_HOST}' AND at < :late
        AND id NOT IN (SELECT id FROM whole.fleet_own) AS late
    FROM (SELECT * {_PENDING}) LEFT JOIN skew USING (host)
),
ordered AS (SELECT id AS whole, late, moment, row_number() OVER (ORDER BY moment, id) AS place FROM moved),
numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS place FROM moved)
SELECT id, whole, late, moment FROM numbered JOIN ordered USING (place)
"""
_BEFORE = f"""
INSERT INTO main.event (id, {_COLUMNS}) SELECT id, {_COLUMNS} FROM whole.event AS event
WHERE recorded_at >= :since AND id <= :after AND {{hosts}}
"""
_KNOWN = f"""
INSERT OR IGNORE INTO main.event (id, {_COLUMNS}) SELECT id, {_COLUMNS} FROM whole.event WHERE id IN (
    SELECT (
        SELECT id FROM whole.event AS event WHERE jail = fresh.jail AND ip = fresh.ip AND kind = 'ban' AND id <= :after
        AND {{hosts}} ORDER BY at LIMIT 1
    ) FROM (SELECT DISTINCT jail, ip {_PENDING} AND kind = 'ban') AS fresh
)
"""
"""Since when an address is known: its first ban in the jail."""
_FRESH = f"""
INSERT INTO main.event (id, {_COLUMNS}) SELECT origin.id, {_COLUMNS.replace("history", "max(history, late)")}
FROM origin JOIN whole.event AS event ON event.id = origin.whole
"""
_LATE = "INSERT INTO late SELECT id FROM origin WHERE late"


@contextmanager
def scratch(whole: Path, report: str, hosts: Wanted, every: str | None, now: float, *, past: bool) -> Iterator[Path]:
    """Yield the path of a scratch store with the events of a condition, and a report's archive.

    `every` says how often the report is due, `now` is in UTC epoch seconds. Bans that hosts uploaded long after they
    were recorded become history, and are noted in the table `late`, unless a past period is wanted.
    """
    with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder:
        path = Path(folder) / whole.name
        with closing(recorder.connect(str(path))) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("ATTACH ? AS whole", (recorder.uri(str(whole), "ro"),))
            connection.execute("BEGIN")
            for table in (DIGEST, DELIVERY):
                for statement in DDL[table]:
                    connection.execute(statement)
            _copy_events(connection, report, hosts, now - COMPARED[every] * DAY, past=past)
            if _has(connection, DELIVERY):
                values = {"report": report, "since": now - SENT_LATELY}
                _copy(connection, DIGEST, Wanted("report = :report", values))
                _copy(connection, DELIVERY, Wanted(_NEEDED, values))
            connection.execute("COMMIT")
            connection.execute("DETACH whole")
        yield path


def taken(path: Path, last_id: int, after: int) -> tuple[int, list[int]]:
    """Return what a digest that ends with an id of a scratch store takes of the whole one, whose mark was `after`.

    That is all up to an id, and what is beyond it, one by one.
    """
    with closing(recorder.connect(str(path))) as connection:
        query = "SELECT min(whole) - 1 FROM origin WHERE id > ?"
        (last,) = connection.execute(query, (last_id,)).fetchone()
        if last is None:
            (last,) = connection.execute("SELECT max(?, last) FROM snapshot", (after,)).fetchone()
        query = "SELECT whole FROM origin WHERE id <= ? AND whole > ?"
        return last, [key for (key,) in connection.execute(query, (last_id, last))]


def _copy_events(connection: sqlite3.Connection, report: str, hosts: Wanted, since: float, *, past: bool) -> None:
    for table in _TABLES:
        connection.execute(table)
    make_tables(connection)  # empty ones, where the whole store is no hub: queries find the others first
    found = connection.execute(_LAST, {"report": report}).fetchone() if _has(connection, DIGEST) else None
    after, ended = found or (0, None)
    late = -1.0 if past or ended is None else ended - LATE
    values = {"report": report, "after": after, "since": since, "late": late} | hosts.values
    hub = _has(connection, "fleet_ahead")
    for query in (_ORIGIN, _BEFORE, _KNOWN, _FRESH, _LATE):
        words = query.format(hosts=hosts.where)
        for name in () if hub else ("fleet_ahead", "fleet_store", "fleet_own"):
            words = words.replace(f"whole.{name}", f"main.{name}")
        connection.execute(words, values)
    connection.execute("INSERT INTO snapshot SELECT coalesce(max(id), 0) FROM whole.event")
    connection.execute(_INDEX)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT count(*) FROM whole.sqlite_master WHERE name = ?"
    return bool(connection.execute(query, (table,)).fetchone()[0])


_NEEDED = """
status = 'sent' AND settled_at >= :since OR digest_id IN (SELECT id FROM whole.digest WHERE report = :report)
"""


def _copy(connection: sqlite3.Connection, table: str, wanted: Wanted) -> None:
    """Copy the rows of a condition from the attached store."""
    names = ", ".join(name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})"))
    source = f"SELECT {names} FROM whole.{table} WHERE {wanted.where}"
    connection.execute(f"INSERT INTO main.{table} ({names}) {source}", wanted.values)
