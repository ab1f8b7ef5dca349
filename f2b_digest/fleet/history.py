"""What a fleet's digest is compared with: kept packed at each seal, and brought into the scratch store.

Of what earlier digests told, a digest needs the times of each jail's bans; and as rows those that it names: the newest
(for networks), the first of an address, and those that were lifted by hand. The times are kept by ranges of a store's
events (`f2b.times`), so that each report can take those before its own seal. What is beyond the last range, or not
wholly of the time to compare with, is read from the events: so the numbers are those of the events.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.fleet.vectors import FIELDS, NAMES, PENDING, VECTOR, End, batches, by_store, parts, values_of
from f2b_digest.model.baseline import COPY, REMEMBERED
from f2b_digest.store import pack

KEPT = 200 * 86400.0
"""Seconds for which times are kept: longer than a monthly report looks back."""
_KNOWN = "CREATE TABLE known (ip TEXT PRIMARY KEY, at REAL) WITHOUT ROWID"
FEW = 50
"""Rows of packed times that are fetched at once: each may have a million."""
_LAST_ID = recorder.INSERT.replace("INSERT INTO", "INSERT OR REPLACE INTO").partition(" ON CONFLICT")[0]
_COPIED = FIELDS.replace("e.history", str(COPY))
_COPIED_BUT = FIELDS.replace(
    "e.history", f"CASE WHEN e.store_id = ANY(CAST(:several AS integer[])) THEN e.history ELSE {COPY} END"
)
_IN_ORDER = "string_agg(float8send(e.at), CAST('' AS bytea) ORDER BY e.at) FILTER (WHERE e.kind = 'ban')"
_TOLD = "e.seq <= (CAST(:told AS bigint[]))[e.store_id]"
"""A condition by the array of `by_store`, which needs no join."""
_SINCE = "to_timestamp(:since)"

_KEEP = f"""
WITH r AS MATERIALIZED (
    SELECT v.store_id, v.upto, coalesce(max(t.upto_seq), 0) AS after
    FROM {VECTOR} LEFT JOIN f2b.times t ON t.store_id = v.store_id GROUP BY v.store_id, v.upto
)
INSERT INTO f2b.times (store_id, after_seq, upto_seq, jail, first_arrived, last_arrived, events, times)
SELECT e.store_id, r.after, r.upto, e.jail, min(e.arrived), max(e.arrived), count(*), coalesce({_IN_ORDER}, '')
FROM r JOIN f2b.event e ON e.store_id = r.store_id AND e.seq > r.after AND e.seq <= r.upto
WHERE e.kind IN ('ban', 'prolong') AND e.arrived >= {_SINCE} GROUP BY e.store_id, r.after, r.upto, e.jail
"""
# What is read of the vector and of kept times is materialized: Citus then sends it to the workers as it is.
# Kept times of which all, or some, arrived in the time to compare with; and what is beyond them.
_WITH = f"""
WITH v AS MATERIALIZED (SELECT * FROM {VECTOR}),
kept AS MATERIALIZED (
    SELECT t.* FROM f2b.times t JOIN v ON v.store_id = t.store_id AND t.upto_seq <= v.seq
    WHERE t.last_arrived >= {_SINCE}
),
beyond AS MATERIALIZED (
    SELECT v.store_id, coalesce(max(t.upto_seq), 0) AS after, v.seq AS upto, NULL AS jail
    FROM v LEFT JOIN f2b.times t ON t.store_id = v.store_id AND t.upto_seq <= v.seq GROUP BY v.store_id, v.seq
    UNION ALL SELECT store_id, after_seq, upto_seq, jail FROM kept WHERE first_arrived < {_SINCE}
)
"""
_TIMES = f"""
{_WITH}
SELECT h.host, e.jail, e.times FROM (
    SELECT store_id, jail, times FROM kept WHERE first_arrived >= {_SINCE}
    UNION ALL
    SELECT e.store_id, e.jail, {_IN_ORDER}
    FROM beyond JOIN f2b.event e ON e.store_id = beyond.store_id AND e.seq > beyond.after AND e.seq <= beyond.upto
        AND (beyond.jail IS NULL OR beyond.jail = e.jail)
    WHERE e.kind = 'ban' AND e.arrived >= {_SINCE} GROUP BY e.store_id, e.jail
) AS e {NAMES} WHERE length(e.times) > 0
"""
# From so long ago, enough arrived: the newest are among those.
_ENOUGH = f"""
{_WITH}
SELECT CASE WHEN sum(events) >= :most THEN extract(epoch FROM min(first_arrived) FILTER (WHERE newer < :most)) END
FROM (
    SELECT events, first_arrived,
           sum(events) OVER (ORDER BY first_arrived DESC, store_id, after_seq, jail) - events AS newer
    FROM kept WHERE first_arrived >= {_SINCE}
) AS kept
"""
# A store's ranges follow each other without a gap, so that those beyond the vector change nothing here.
_NEWEST = f"""
WITH v AS MATERIALIZED (
    SELECT v.store_id, v.seq, coalesce(min(t.after_seq) FILTER (WHERE t.last_arrived >= {_SINCE}), max(t.upto_seq), 0)
        AS after
    FROM {VECTOR} LEFT JOIN f2b.times t ON t.store_id = v.store_id GROUP BY v.store_id, v.seq
), n AS MATERIALIZED (
    SELECT e.* FROM v JOIN f2b.event e ON e.store_id = v.store_id AND e.seq > v.after AND e.seq <= v.seq
    WHERE e.arrived >= {_SINCE} AND e.kind IN ('ban', 'prolong')
    ORDER BY e.arrived DESC, e.store_id DESC, e.seq DESC LIMIT :most
)
SELECT {_COPIED_BUT} FROM n AS e {NAMES} ORDER BY e.arrived DESC, e.store_id DESC, e.seq DESC
"""
_ALL = f"""
SELECT {FIELDS} FROM {VECTOR} JOIN f2b.event e ON e.store_id = v.store_id AND e.seq <= v.seq {NAMES}
WHERE e.arrived >= {_SINCE} AND e.kind IN ('ban', 'prolong') ORDER BY e.arrived, e.store_id, e.seq
"""
# When each pending id was first banned, ever: one look into the index for each, but not on Citus, which does not
# distribute a LATERAL with a LIMIT. There, and without that, all earlier bans of the ids are read.
_WITH_PENDING = f"""
WITH f AS MATERIALIZED (
    SELECT DISTINCT e.ip FROM {VECTOR} JOIN f2b.event e ON e.store_id = v.store_id AND {PENDING} WHERE e.kind = 'ban'
)
"""
_FIRST = f"""
{_WITH_PENDING}
SELECT f.ip, first.at FROM f CROSS JOIN LATERAL (
    SELECT e.at FROM f2b.event e WHERE e.ip = f.ip AND e.kind = 'ban' AND {_TOLD} ORDER BY e.at LIMIT 1
) AS first
"""
_FIRST_OF_SHARDS = f"""
{_WITH_PENDING}
SELECT e.ip, min(e.at) FROM f JOIN f2b.event e ON e.ip = f.ip WHERE e.kind = 'ban' AND {_TOLD} GROUP BY e.ip
"""
_IS_CITUS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')"
# Not those that ended in time, as nearly all do. The last condition is of a ban whose final duration came later.
_LIFTED = f"""
WITH u AS MATERIALIZED (
    SELECT e.jail, e.ip, e.at, e.recorded_at FROM {VECTOR} JOIN f2b.event e ON e.store_id = v.store_id AND {PENDING}
    WHERE e.kind = 'unban'
), b AS MATERIALIZED (
    SELECT e.*, u.recorded_at AS unbanned FROM u
    JOIN f2b.event e ON e.ip = u.ip AND e.jail = u.jail AND e.at BETWEEN u.at - 30 AND u.at + 1
    WHERE e.kind IN ('ban', 'prolong') AND {_TOLD} AND NOT e.store_id = ANY(CAST(:several AS integer[]))
    AND e.arrived >= {_SINCE}
)
SELECT {_COPIED} FROM b AS e {NAMES}
WHERE e.kind = 'prolong' OR e.bantime < 0 OR e.unbanned < e.at + e.bantime - 30
OR (e.ip, e.jail, e.at) IN (SELECT ip, jail, at FROM b WHERE kind = 'prolong')
"""
_SEVERAL = """
SELECT store_id FROM (
    SELECT store_id, count(*) OVER (PARTITION BY host) AS stores FROM f2b.store
    WHERE store_id = ANY(CAST(:stores AS integer[])) AND seen_at >= to_timestamp(:since)
) AS s WHERE stores > 1
"""


def keep(connection: sa.Connection, ends: Sequence[End], now: float) -> None:
    """Keep the times of what is sealed by a vector; of other reports' seals before, too. `now`: UTC epoch seconds.

    Raises IntegrityError if another sender keeps the same.
    """
    for part in parts(ends):
        connection.execute(sa.text(_KEEP), values_of(part) | {"since": now - KEPT})


def forget(connection: sa.Connection) -> None:
    """Drop times that no digest is compared with any more, and those of events that were dropped."""
    since = "greatest(events_since, now() - make_interval(secs => :kept))"
    query = f"DELETE FROM f2b.times WHERE last_arrived < (SELECT {since} FROM f2b.centre)"
    connection.execute(sa.text(query), {"kept": KEPT})


def fill(
    connection: sa.Connection, scratch: sqlite3.Connection, ends: Sequence[End], since: float, *, rows: bool
) -> None:
    """Fill an empty scratch store with what is before a vector and arrived since a time, in UTC epoch seconds.

    With `rows`, all of it as rows; else `REMEMBERED` of the newest, and all of stores whose bans another store of the
    same host may have told too.
    """
    kept_since = connection.scalar(sa.text("SELECT extract(epoch FROM events_since) FROM f2b.centre"))
    values = values_of(ends) | {
        "since": max(since, float(kept_since)),
        "told": by_store((end.store_id, end.seq) for end in ends),
    }
    scratch.execute(_KNOWN)
    told = [end for end in ends if end.seq]
    if not told:
        return
    _note_known(connection, scratch, values)
    ends, values = told, values | values_of(told)
    several = [] if rows else several_of(connection, ends, since)
    values["several"] = several
    newest = [] if rows else _newest(connection, values)
    if len(newest) < REMEMBERED:  # nothing is older
        _insert(connection, scratch, _ALL, values)
        return
    of_others = [end for end in ends if end.store_id not in several]
    _insert(connection, scratch, _ALL, values | values_of([end for end in ends if end.store_id in several]))
    _insert(connection, scratch, _LIFTED, values)
    times = batches(connection, _TIMES, values | values_of(of_others), size=FEW)
    pack(scratch, chain.from_iterable(times))
    # In the order of their arrival, their ids are the last, also of those that are there already.
    scratch.executemany(_LAST_ID, reversed(newest))


def several_of(connection: sa.Connection, ends: Sequence[End], since: float) -> list[int]:
    """Return the stores whose bans another store of the same host, heard since a time, may have told too."""
    return list(connection.scalars(sa.text(_SEVERAL), values_of(ends) | {"since": since}))


def _note_known(connection: sa.Connection, scratch: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Store when pending ids were first banned, if they were told before."""
    query = _FIRST_OF_SHARDS if connection.scalar(sa.text(_IS_CITUS)) else _FIRST
    for rows in batches(connection, query, values):
        scratch.executemany("INSERT INTO known VALUES (?, ?)", rows)


def _newest(connection: sa.Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the newest events, the last one first."""
    wanted = {**values, "most": REMEMBERED}
    enough = connection.scalar(sa.text(_ENOUGH), wanted)
    if enough is not None:
        wanted["since"] = float(enough)
    return list(chain.from_iterable(batches(connection, _NEWEST, wanted)))


def _insert(connection: sa.Connection, scratch: sqlite3.Connection, query: str, values: Mapping[str, Any]) -> None:
    if values["stores"]:
        for rows in batches(connection, query, values):
            scratch.executemany(recorder.INSERT, rows)
