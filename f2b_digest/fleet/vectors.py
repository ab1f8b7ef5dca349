"""The vector of a fleet's digest: up to where each store is reported, and to be reported now; and queries by it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa

from f2b_digest import recorder

BATCH = 5000
"""Rows that are fetched at once."""
TOGETHER = 500_000
"""Events whose times are sorted at once: more would need a file on the server's disk."""
FIELDS = ", ".join("h.host" if name == "host" else f"e.{name}" for name in recorder.COLUMNS)
"""An event's columns, as the recorder inserts them."""
VECTOR = (
    "unnest(CAST(:stores AS integer[]), CAST(:seqs AS bigint[]), CAST(:ends AS bigint[])) AS v (store_id, seq, upto)"
)
PENDING = "e.seq > v.seq AND e.seq <= v.upto"
NAMES = "JOIN f2b.store s ON s.store_id = e.store_id JOIN f2b.host h ON h.host = s.host"
COUNTED = (
    "SELECT e.jail, count(*) AS bans, min(e.recorded_at) AS since "
    f"FROM {VECTOR} JOIN f2b.event e ON e.store_id = v.store_id AND {PENDING} "
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


def parts(ends: Iterable[End], most: int = TOGETHER) -> Iterator[list[End]]:
    """Yield a vector in parts of not many more than so many events."""
    part: list[End] = []
    events = 0
    for end in ends:
        if part and events + end.upto - end.seq > most:
            yield part
            part, events = [], 0
        part.append(end)
        events += end.upto - end.seq
    if part:
        yield part


def by_store(numbers: Iterable[tuple[int, int]]) -> list[int | None]:
    """Return the numbers of stores as an array by their ids, from 1."""
    found = dict(numbers)
    return [found.get(store) for store in range(1, max(found, default=0) + 1)]


def batches(
    connection: sa.Connection, query: str, values: Mapping[str, Any], size: int = BATCH
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield a query's rows, some at once, by a cursor of the server; values are bound as `:name`.

    By the driver itself and in binary form: SQLAlchemy's rows cost twice as much.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    text = str(sa.text(query).compile(dialect=connection.dialect))
    with driver.cursor(name="f2b_digest", binary=True) as cursor:
        cursor.execute(text.encode(), values)
        while rows := cursor.fetchmany(size):
            yield rows
