"""The events of a selection: the condition in SQL, their number, the first. What they amount to is in `summary`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.model.selection import Selection, matches


@dataclass(frozen=True)
class Pending:
    """What a report has not sealed yet."""

    bans: int
    since: float | None
    """When the first of these events was recorded, in UTC epoch seconds."""


def pending(connection: sa.Connection, selection: Selection) -> Pending:
    """Count the bans of a selection."""
    where, values = wanted(connection, selection)
    row = connection.execute(sa.text(f"SELECT count(*), min(recorded_at) FROM event WHERE {where}"), values).one()
    return Pending(*row)


def first(connection: sa.Connection, selection: Selection) -> int | None:
    """Return the id of a selection's first ban, or None."""
    where, values = wanted(connection, selection)
    found: int | None = connection.execute(sa.text(f"SELECT min(id) FROM event WHERE {where}"), values).scalar()
    return found


def wanted(
    connection: sa.Connection, selection: Selection, kind: Literal["ban", "prolong"] = "ban"
) -> tuple[str, dict[str, Any]]:
    """Return the condition for the bans of a selection, or for its events of another kind, and the values in it."""
    conditions = [f"event.kind = '{kind}'", "event.history = 0", f"event.jail <> '{recorder.SCRATCH_JAIL}'"]
    values: dict[str, Any] = {}
    if selection.since is None and selection.until is None:
        conditions.append("event.id BETWEEN :first_id AND :last_id")
        values |= {"first_id": selection.first_id, "last_id": selection.last_id}
    if selection.since is not None:
        conditions.append("event.at >= :since")
        values["since"] = selection.since
    if selection.until is not None:
        conditions.append("event.at < :until")
        values["until"] = selection.until
    if selection.jails != ("*",):
        names = {f"jail{i}": name for i, name in enumerate(jails(connection, selection.jails))}
        conditions.append(f"event.jail IN ({', '.join(f':{key}' for key in names)})")
        values |= names
    return " AND ".join(conditions), values


def jails(connection: sa.Connection, patterns: Sequence[str]) -> list[str]:
    """Return the jails of any event that a report's patterns take in, in order; not our scratch jail."""
    names = connection.scalars(sa.text(_ALL_JAILS))
    return [name for name in names if name != recorder.SCRATCH_JAIL and matches(name, patterns)]


# From each jail to the next in the index: SELECT DISTINCT would read the whole of it.
_ALL_JAILS = """
WITH RECURSIVE each(jail) AS (
    SELECT min(jail) FROM event
    UNION ALL
    SELECT (SELECT min(event.jail) FROM event WHERE event.jail > each.jail) FROM each WHERE each.jail IS NOT NULL
)
SELECT jail FROM each WHERE jail IS NOT NULL
"""
