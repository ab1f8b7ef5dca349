"""Who uploads into a hub's store, and what each host says of itself, read. Few imports: `receive` runs for each upload.

A centre in PostgreSQL has the same of its hosts (`fleet.hosts`). What a host says is untrusted: its JSON may hold
numbers that no calendar has, infinities, and nesting that no recursion gets through. None of that leaves this module.
"""

import _sqlite3  # the sqlite3 package would load datetime and its adapters
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.store.received import HOSTS, WAIT, explained

LARGEST = 4_102_444_800.0
"""Of what a host says: the year 2100 in UTC epoch seconds, and more events than any host has."""
DEPTH, MOST = 4, 1000
"""Levels of what a host says, and entries of each; `fleet.state` has three."""


@dataclass(frozen=True)
class Life:
    """A host and one of its stores; a host that was never in contact has one without `life`."""

    host: str
    enrolled_at: float
    retired_at: float | None
    life: str | None
    began_at: float | None
    seen_at: float | None
    """UTC epoch seconds by the centre's clock, as the two before."""
    skew: float | None
    """Seconds by which the host's clock is ahead."""
    state: dict[str, Any] | None
    complete_until: float | None = None
    """By the host's clock: what it recorded until then is here."""


def life_of(row: Sequence[Any]) -> Life:
    """Return a host and one of its stores from a row with the fields' values, what it says of itself made plain."""
    life = Life(*row)
    state = _loaded(life.state) if isinstance(life.state, str) else life.state
    said = _plain(state, DEPTH)
    return replace(
        life, state=said if isinstance(said, dict) else None, skew=_plain(life.skew, 0),
        complete_until=_plain(life.complete_until, 0),
    )  # fmt: skip


def _plain(value: Any, levels: int) -> Any:
    """Return a value of JSON: without what is nested too deeply, numbers within `LARGEST`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None if value != value else min(max(value, -LARGEST), LARGEST)  # noqa: PLR0124 - NaN, and no float yet
    if isinstance(value, dict):
        return {key: _plain(each, levels - 1) for key, each in list(value.items())[:MOST]} if levels else None
    if isinstance(value, list):
        return [_plain(each, levels - 1) for each in value[:MOST]] if levels else None
    return value


def is_hub(path: Path) -> bool:
    """Return whether hosts were enrolled in a store. False if there is none. Raises StoreError."""
    with explained(path):
        if recorder.look(str(path)) is None:
            return False
        connection = _sqlite3.connect(recorder.uri(str(path), "ro"), timeout=WAIT, uri=True)
        try:
            query = "SELECT count(*) FROM sqlite_master WHERE name = ?"
            return bool(connection.execute(query, (HOSTS,)).fetchone()[0])
        finally:
            connection.close()


def lives(path: Path) -> list[Life]:
    """Return all hosts of a hub in order, each with its stores, the most recent contact first. Raises StoreError."""
    query = (
        "SELECT h.host, h.enrolled_at, h.retired_at, s.life, s.began_at, s.seen_at, s.skew, s.state, s.complete_until "
        "FROM fleet_host h LEFT JOIN fleet_store s USING (host) ORDER BY h.host, s.seen_at DESC"
    )
    with explained(path):
        connection = _sqlite3.connect(recorder.uri(str(path), "ro"), timeout=WAIT, uri=True)
        try:
            rows: Sequence[Any] = connection.execute(query).fetchall()
        finally:
            connection.close()
    return [life_of(row) for row in rows]


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
