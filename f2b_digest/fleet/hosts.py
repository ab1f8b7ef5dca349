"""What the centre knows of each host, as plain values. What a host says is untrusted. Nothing is judged here."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from f2b_digest.model.fleet import HostState
from f2b_digest.model.selection import matches

AT_WORK = 3600.0
"""Seconds before a host's last contact in which another of its stores was heard if it is at work."""
BEGUN = 60.0
"""Seconds after the beginning of a later store in which the earlier one may still have been heard."""
_STORES = """
SELECT h.host, s.state, s.skew, s.complete_until, extract(epoch FROM h.enrolled_at)::float8 AS enrolled_at,
       extract(epoch FROM s.began_at)::float8 AS began_at, extract(epoch FROM s.seen_at)::float8 AS seen_at
FROM f2b.host h LEFT JOIN f2b.store s USING (host)
WHERE h.retired_at IS NULL ORDER BY h.host, s.seen_at DESC
"""


def states(connection: sa.Connection, patterns: Sequence[str]) -> tuple[HostState, ...]:
    """Return the enrolled hosts that a report's patterns match, in order."""
    stores: dict[str, list[sa.Row[Any]]] = {}
    for row in connection.execute(sa.text(_STORES)):
        if matches(row.host, patterns):
            stores.setdefault(row.host, []).append(row)
    return tuple(_state(host, rows) for host, rows in stores.items())


def _state(host: str, stores: Sequence[sa.Row[Any]]) -> HostState:
    """Return a host's state; its stores are given, the last heard first."""
    newest = stores[0]
    said: Mapping[str, Any] = newest.state if isinstance(newest.state, dict) else {}
    fail2ban = said.get("fail2ban")
    jails: Mapping[str, Any] = fail2ban if isinstance(fail2ban, dict) else {}
    skew = newest.skew or 0.0
    lacking = jails.get("lacking")
    return HostState(
        host=host,
        enrolled_at=newest.enrolled_at,
        heard_at=newest.seen_at,
        stores=max(1, sum(_is_at_work(store, stores) for store in stores)),
        skew=skew,
        complete_until=None if newest.complete_until is None else newest.complete_until - skew,
        backlog=int(_number(said.get("backlog")) or 0),
        oldest=_by_our_clock(said.get("oldest"), skew),
        version=_text(said.get("version")) or None,
        silence=_text(jails.get("silence")),
        answered=isinstance(jails.get("jails"), int) and not jails.get("silence"),
        lacking=tuple(map(_text, lacking)) if isinstance(lacking, list) else (),
        lacking_more=int(_number(jails.get("lacking_more")) or 0),
        line=_text(jails.get("line")),
    )


def _is_at_work(store: sa.Row[Any], stores: Sequence[sa.Row[Any]]) -> bool:
    """Return whether a store was heard lately, and not only until a later one took its place (a restored backup)."""
    if store.seen_at is None or store.seen_at < stores[0].seen_at - AT_WORK:
        return False
    return all(other.began_at <= store.began_at or store.seen_at > other.began_at + BEGUN for other in stores)


def _by_our_clock(value: Any, skew: float) -> float | None:
    at = _number(value)
    return None if at is None else at - skew


def _number(value: Any) -> float | None:
    """Return what a host says as a number within what a calendar has; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(max(value, 0), 4_102_444_800))


def _text(value: Any) -> str:
    return value[:200] if isinstance(value, str) else ""
