"""The events of a selection: the condition, their number, the first. They are summed up in `summary`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from f2b_digest import recorder
from f2b_digest.model.baseline import COPY
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store.received import FROM_A_HOST
from f2b_digest.store.sql import Connection


@dataclass(frozen=True)
class Pending:
    """What a report has not sealed yet."""

    bans: int
    since: float | None
    """When the first of these events was recorded, in UTC epoch seconds."""


class Wanted(NamedTuple):
    """A condition for events."""

    where: str
    """A condition in SQLite's SQL."""
    values: dict[str, Any]
    """Bound values, by name."""


def pending(connection: Connection, selection: Selection) -> Pending:
    """Count the bans of a selection."""
    where, values = wanted(connection, selection)
    query = f"SELECT count(*), min(event.recorded_at) FROM event WHERE {where}"
    return Pending(*connection.execute(query, values).fetchone())


def first(connection: Connection, wanted: Wanted) -> int | None:
    """Return the id of the first of some bans, or None."""
    found: int | None = connection.scalar(f"SELECT min(event.id) FROM event WHERE {wanted.where}", wanted.values)
    return found


def wanted(
    connection: Connection, selection: Selection, kind: Literal["ban", "prolong", "unban"] = "ban", *,
    packed: bool = False,
) -> Wanted:  # fmt: skip
    """Return the condition for the bans of a selection, or for its events of another kind.

    With `packed`, also for rows whose times are among the packed ones.
    """
    # The kind is not bound: no partial index would be used.
    new = f"event.history IN (0, {COPY})" if packed else "event.history = 0"
    conditions = [f"event.kind = '{kind}'", new, "event.jail <> :scratch_jail"]
    values: dict[str, Any] = {"scratch_jail": recorder.SCRATCH_JAIL}
    if selection.since is None and selection.until is None:
        conditions.append("event.id BETWEEN :first_id AND :last_id")
        values |= {"first_id": selection.first_id, "last_id": selection.last_id}
    if selection.since is not None:
        conditions.append("event.at >= :selected_since")
        values["selected_since"] = selection.since
    if selection.until is not None:
        conditions.append("event.at < :selected_until")
        values["selected_until"] = selection.until
    if selection.jails != ("*",):
        names = {f"jail_{place}": name for place, name in enumerate(jails(connection, selection.jails))}
        conditions.append(f"event.jail IN ({', '.join(f':{key}' for key in names)})")
        values |= names
    if selection.hosts != ("*",):
        where, patterns = of_hosts(selection.hosts)
        conditions.append(where)
        values |= patterns
    return Wanted(" AND ".join(conditions), values)


def of_hosts(patterns: Sequence[str]) -> Wanted:
    """Return the condition for the events of hosts that match a report's patterns, as `matches` does."""
    values = {f"host_{place}": each.removeprefix("!").replace("[!", "[^") for place, each in enumerate(patterns)}
    like = [f"event.host GLOB :{key}" for key in values]
    out = [each for each, pattern in zip(like, patterns, strict=True) if pattern.startswith("!")]
    taken_in = [each for each in like if each not in out] or ["false"]
    return Wanted(" AND ".join([f"({' OR '.join(taken_in)})", *(f"NOT {each}" for each in out)]), values)


def own_host(connection: Connection) -> str | None:
    """Return the name under which a hub recorded last; None if all events were uploaded."""
    query = "SELECT host FROM event WHERE source <> :uploaded ORDER BY id DESC LIMIT 1"
    name: str | None = connection.scalar(query, {"uploaded": FROM_A_HOST})
    return name


def jails(connection: Connection, patterns: Sequence[str]) -> list[str]:
    """Return the jails in the store that match a report's patterns, in order; not the scratch jail."""
    names = connection.scalars(_ALL_JAILS)
    return [name for name in names if name != recorder.SCRATCH_JAIL and matches(name, patterns)]


# Skip scan over the index: SELECT DISTINCT would read all of it.
_ALL_JAILS = """
WITH RECURSIVE each (jail) AS (
    SELECT min(jail) FROM event
    UNION ALL
    SELECT (SELECT min(jail) FROM event WHERE event.jail > each.jail) FROM each WHERE each.jail IS NOT NULL
)
SELECT jail FROM each WHERE jail IS NOT NULL
"""
