"""A scratch copy of a store for one report: the events of its hosts, and of a hub what only a fleet has.

As at a centre (`fleet.scratch`), pending events are put in the order in which they were recorded, not that in which
they arrived: a host that uploads some minutes after midnight has its bans of the day before in the digest of that day.
They share the ids that they have in the whole store, in that order; `taken` leads back, and `moment` is when each was
recorded by the hub's clock, by which a calendar report is cut.

Of what the digest is compared with, most is there as packed times only (see `times`): copying rows would take most of
the digest's time. The newest are rows, among which the networks of campaigns are searched, and those that it names.
"""

import sqlite3
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.model.bans import LATER, ROUNDED
from f2b_digest.model.baseline import COMPARED, COPY, LATE, REMEMBERED, packed
from f2b_digest.store.received import FROM_A_HOST, HOSTS, make_tables
from f2b_digest.store.selected import Wanted
from f2b_digest.store.sql import Connection
from f2b_digest.store.tables import DDL, DELIVERY, DIGEST
from f2b_digest.store.times import pack

SENT_LATELY = 3600.0
"""Seconds for which sent bodies are copied: some channels do not report an address twice in a while."""
DAY = 86400.0
CACHE = 64 * 1024
"""KiB of the copy that are kept in memory while it is filled."""
_TABLES = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY, whole INTEGER NOT NULL, late INTEGER NOT NULL, moment REAL NOT NULL)",
    "CREATE TABLE late (id INTEGER PRIMARY KEY)",
    "CREATE TABLE known (ip TEXT PRIMARY KEY, at REAL) WITHOUT ROWID",
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
# What was recorded by a clock that was ahead, and no longer is, has the moment of what was recorded before it: it then
# waits for no period to come.
_ORIGIN = f"""
INSERT INTO origin
WITH skew AS (SELECT host, coalesce(skew, 0) AS ahead, max(seen_at) FROM whole.fleet_store GROUP BY host),
moved AS (
    SELECT id, coalesce(max(iif(recorded_at - coalesce(ahead, 0) <= :now, recorded_at - coalesce(ahead, 0), NULL))
            OVER (PARTITION BY host ORDER BY id), 0) AS moment,
        kind = 'ban' AND history = 0 AND source = '{FROM_A_HOST}' AND at < :late
        AND id NOT IN (SELECT id FROM whole.fleet_own) AS late
    FROM (SELECT * {_PENDING}) LEFT JOIN skew USING (host)
),
ordered AS (SELECT id AS whole, late, moment, row_number() OVER (ORDER BY moment, id) AS place FROM moved),
numbered AS (SELECT id, row_number() OVER (ORDER BY id) AS place FROM moved)
SELECT id, whole, late, moment FROM numbered JOIN ordered USING (place)
"""
_KNOWN_COLUMNS = (
    _COLUMNS.replace("users, matches", "NULL, NULL").replace(
        "history",
        f"CASE WHEN kind = 'ban' AND recorded_at >= :since AND id <= :packed THEN {COPY} ELSE history END",
    )
)  # fmt: skip
"""Of events before the digest's: no name and no log line of them is read."""
_BEFORE = f"""
INSERT INTO main.event (id, {_COLUMNS}) SELECT id, {_KNOWN_COLUMNS} FROM whole.event AS event
WHERE id > :packed AND id <= :after AND recorded_at >= :since AND {{hosts}}
"""
_OLDER = """
SELECT id, kind = 'ban', host, jail, at FROM whole.event AS event
WHERE id BETWEEN (SELECT min(id) FROM whole.event INDEXED BY event_age WHERE recorded_at >= :since) AND :packed
AND +recorded_at >= :since AND kind IN ('ban', 'start', 'stop') AND {hosts}
"""
"""In the order of ids, and without the columns behind the log lines: twice as fast as by the index alone."""
_ENROLLED = "SELECT CAST(host AS BLOB) FROM whole.fleet_host"
_ONE = f"INSERT OR IGNORE INTO main.event (id, {_COLUMNS}) SELECT id, {_KNOWN_COLUMNS} FROM whole.event WHERE id = :id"
_KNOWN = f"""
INSERT OR IGNORE INTO main.event (id, {_COLUMNS}) SELECT id, {_KNOWN_COLUMNS} FROM whole.event WHERE id IN (
    SELECT (
        SELECT id FROM whole.event AS event WHERE jail = fresh.jail AND ip = fresh.ip AND kind = 'ban' AND id <= :after
        AND {{hosts}} ORDER BY at LIMIT 1
    ) FROM (SELECT DISTINCT jail, ip {_PENDING} AND kind = 'ban') AS fresh
)
"""
"""The first ban of an address in a jail, so that neither is new."""
_KNOWN_SINCE = f"""
INSERT INTO known SELECT ip, min(at) FROM whole.event AS event
WHERE kind = 'ban' AND ip IN (SELECT ip {_PENDING} AND kind = 'ban') AND +id <= :after AND {{hosts}} GROUP BY ip
"""
"""And in any jail."""
_UNBANNED = f"""
INSERT OR IGNORE INTO main.event (id, {_COLUMNS}) SELECT id, {_KNOWN_COLUMNS} FROM whole.event WHERE id IN (
    SELECT event.id FROM (SELECT jail, ip, at {_PENDING} AND kind = 'unban') AS unban CROSS JOIN whole.event AS event
    ON event.jail = unban.jail AND event.ip = unban.ip AND event.kind IN ('ban', 'prolong')
        AND event.at BETWEEN unban.at - {LATER} AND unban.at + {ROUNDED}
    WHERE event.id <= :after AND {{hosts}}
)
"""
"""What was lifted by hand, perhaps."""
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
            for pragma in ("synchronous=OFF", "journal_mode=OFF", f"cache_size=-{CACHE}"):  # nobody needs half a copy
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("ATTACH ? AS whole", (recorder.uri(str(whole), "ro"),))
            connection.execute("BEGIN")
            for table in (DIGEST, DELIVERY):
                for statement in DDL[table]:
                    connection.execute(statement)
            _copy_events(connection, report, hosts, now - COMPARED[every] * DAY, now, past=past)
            if _has(connection, DELIVERY):
                values = {"report": report, "since": now - SENT_LATELY}
                _copy(connection, DIGEST, Wanted("report = :report", values))
                _copy(connection, DELIVERY, Wanted(_NEEDED, values))
            connection.execute("COMMIT")
            connection.execute("DETACH whole")
            connection.execute("PRAGMA journal_mode=WAL")
        yield path


def own(hosts: Wanted) -> Wanted:
    """Return the condition for those events of some hosts that no host uploaded."""
    return Wanted(f"{hosts.where} AND event.source <> '{FROM_A_HOST}'", hosts.values)


def has_uploaded(connection: Connection, report: str, hosts: Wanted) -> bool:
    """Return whether a report of some hosts has still to tell bans that were uploaded into this store, a hub's."""
    return bool(connection.scalar(_UPLOADED.format(hosts=hosts.where), {"report": report} | hosts.values))


_UPLOADED = f"""
SELECT EXISTS (
    SELECT 1 FROM event WHERE source = '{FROM_A_HOST}' AND kind = 'ban' AND history = 0 AND {{hosts}}
    AND id > (SELECT coalesce(max(last_id), 0) FROM digest WHERE report = :report)
    AND id NOT IN (SELECT id FROM fleet_ahead WHERE report = :report)
)
"""


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


def _copy_events(
    connection: sqlite3.Connection, report: str, hosts: Wanted, since: float, now: float, *, past: bool
) -> None:
    for table in _TABLES:
        connection.execute(table)
    make_tables(connection)  # empty ones, where the whole store is no hub: queries find the others first
    found = connection.execute(_LAST, {"report": report}).fetchone() if _has(connection, DIGEST) else None
    after, ended = found or (0, None)
    late = -1.0 if past or ended is None else ended - LATE
    values = {"report": report, "after": after, "since": since, "late": late, "now": now} | hosts.values
    values["packed"] = 0 if past else max(after - REMEMBERED, 0)
    indexes = connection.execute("SELECT name, sql FROM main.sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    later = [*indexes.fetchall(), ("", _INDEX)]
    for name, _ in later[:-1]:
        connection.execute(f"DROP INDEX main.{name}")
    hub = _has(connection, "fleet_ahead")
    for query in (_ORIGIN, _BEFORE, _KNOWN, _KNOWN_SINCE, _UNBANNED, _FRESH, _LATE):
        words = query.format(hosts=hosts.where)
        for name in () if hub else ("fleet_ahead", "fleet_store", "fleet_own"):
            words = words.replace(f"whole.{name}", f"main.{name}")
        connection.execute(words, values)
    _pack(connection, hosts, values)
    connection.execute("INSERT INTO snapshot SELECT coalesce(max(id), 0) FROM whole.event")
    for _, index in later:
        connection.execute(index)


def _pack(connection: sqlite3.Connection, hosts: Wanted, values: dict[str, Any]) -> None:
    """Store the times of older bans; and as rows what concerns the hub itself: its name, and starts and stops."""
    times: defaultdict[tuple[bytes, bytes], array[float]] = defaultdict(lambda: array("d"))
    starts_and_stops, last = [], {}
    connection.text_factory = bytes  # decoded once, below
    for key, is_ban, host, jail, at in connection.execute(_OLDER.format(hosts=hosts.where), values):
        if is_ban:
            times[host, jail].append(at)
        else:
            starts_and_stops.append(key)
        last[host] = key
    connection.text_factory = str
    if times:
        pack(connection, ((_text(host), _text(jail), packed(each)) for (host, jail), each in times.items()))
    enrolled = {host for (host,) in connection.execute(_ENROLLED)} if _has(connection, HOSTS) else set()
    own = [key for host, key in last.items() if host not in enrolled]
    connection.executemany(_ONE, [values | {"id": key} for key in (*starts_and_stops, *own)])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


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
