"""The events of a selection: the condition, their number, the first. They are summed up in `summary`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from f2b_digest import recorder
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store.received import FROM_A_HOST
from f2b_digest.store.tables import event


@dataclass(frozen=True)
class Pending:
    """What a report has not sealed yet."""

    bans: int
    since: float | None
    """When the first of these events was recorded, in UTC epoch seconds."""


def pending(connection: sa.Connection, selection: Selection) -> Pending:
    """Count the bans of a selection."""
    query = sa.select(sa.func.count(), sa.func.min(event.c.recorded_at)).select_from(event)
    return Pending(*connection.execute(query.where(condition(connection, selection))).one())


def first(connection: sa.Connection, selection: Selection) -> int | None:
    """Return the id of a selection's first ban, or None."""
    found: int | None = connection.scalar(sa.select(sa.func.min(event.c.id)).where(condition(connection, selection)))
    return found


def condition(
    connection: sa.Connection, selection: Selection, kind: Literal["ban", "prolong", "unban"] = "ban"
) -> sa.ColumnElement[bool]:
    """Return the condition for the bans of a selection, or for its events of another kind."""
    conditions = [
        event.c.kind == sa.literal_column(f"'{kind}'"),  # bound, no partial index would be used
        event.c.history == 0,
        event.c.jail != recorder.SCRATCH_JAIL,
    ]
    if selection.since is None and selection.until is None:
        conditions.append(event.c.id.between(selection.first_id, selection.last_id))
    if selection.since is not None:
        conditions.append(event.c.at >= selection.since)
    if selection.until is not None:
        conditions.append(event.c.at < selection.until)
    if selection.jails != ("*",):
        conditions.append(event.c.jail.in_(jails(connection, selection.jails)))
    if selection.hosts != ("*",):
        conditions.append(of_hosts(selection.hosts))
    return sa.and_(*conditions)


def of_hosts(patterns: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition for the events of hosts that match a report's patterns, as `matches` does."""

    def like(pattern: str) -> sa.ColumnElement[bool]:
        return event.c.host.op("GLOB")(pattern.replace("[!", "[^"))

    taken_in = [like(pattern) for pattern in patterns if not pattern.startswith("!")]
    out = [like(pattern[1:]) for pattern in patterns if pattern.startswith("!")]
    return sa.and_(sa.or_(sa.false(), *taken_in), *(~each for each in out))


def own_host(connection: sa.Connection) -> str | None:
    """Return the name under which a hub recorded last; None if all events were uploaded."""
    query = sa.select(event.c.host).where(event.c.source != FROM_A_HOST).order_by(event.c.id.desc()).limit(1)
    name: str | None = connection.scalar(query)
    return name


class Wanted(NamedTuple):
    """A condition for events."""

    where: str
    """A condition in SQLite's SQL."""
    values: dict[str, Any]
    """Bound values, by name."""


_DIALECT = sqlite.dialect(paramstyle="named")


def wanted(connection: sa.Connection, selection: Selection, kind: Literal["ban", "prolong", "unban"] = "ban") -> Wanted:
    """Return the same condition as SQLite's SQL, with its values to bind."""
    made = condition(connection, selection, kind).compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return Wanted(str(made), dict(made.params))


def jails(connection: sa.Connection, patterns: Sequence[str]) -> list[str]:
    """Return the jails in the store that match a report's patterns, in order; not the scratch jail."""
    names = connection.scalars(_all_jails())
    return [name for name in names if name != recorder.SCRATCH_JAIL and matches(name, patterns)]


def _all_jails() -> sa.Select[Any]:
    """Skip scan over the index: SELECT DISTINCT would read all of it."""
    each = sa.select(sa.func.min(event.c.jail).label("jail")).cte("each", recursive=True)
    following = sa.select(sa.func.min(event.c.jail)).where(event.c.jail > each.c.jail).scalar_subquery()
    each = each.union_all(sa.select(following).where(each.c.jail.is_not(None)))
    return sa.select(each.c.jail).where(each.c.jail.is_not(None))
