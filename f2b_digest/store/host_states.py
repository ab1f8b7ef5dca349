"""What a centre or a hub knows of each host, as plain values. What a host says is untrusted. Nothing is judged here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from f2b_digest.model.fleet import HostState
from f2b_digest.model.selection import matches
from f2b_digest.store.uploaders import Life

AT_WORK = 3600.0
"""Seconds before a host's last contact in which another of its stores was heard if it is at work."""
BEGUN = 60.0
"""Seconds after the beginning of a later store in which the earlier one may still have been heard."""


def states(lives: Iterable[Life], patterns: Sequence[str]) -> tuple[HostState, ...]:
    """Return the enrolled hosts that patterns match; of each host, the store that was heard last comes first."""
    stores: dict[str, list[Life]] = {}
    for life in lives:
        if life.retired_at is None and matches(life.host, patterns):
            stores.setdefault(life.host, []).append(life)
    return tuple(map(state_of, stores.values()))


def unfinished(lives: Iterable[Life], patterns: Sequence[str], until: float, since: float) -> list[str]:
    """Return the hosts, heard since a time, that may have more to upload of what they recorded before `until`.

    Times are UTC epoch seconds by this clock.
    """
    found = {
        life.host
        for life in lives
        if life.retired_at is None and matches(life.host, patterns) and life.seen_at is not None
        and life.seen_at >= since and not has_left(life) and (life.complete_until or 0.0) - (life.skew or 0.0) < until
    }  # fmt: skip
    return sorted(found)


def state_of(stores: Sequence[Life]) -> HostState:
    """Return the state of a host with these stores, the last heard first: that of the last one that is used."""
    stores = sorted(stores, key=lambda store: has_left(store) or _is_replaced(store, stores))
    newest = stores[0]
    said: Mapping[str, Any] = newest.state if isinstance(newest.state, dict) else {}
    fail2ban = said.get("fail2ban")
    jails: Mapping[str, Any] = fail2ban if isinstance(fail2ban, dict) else {}
    skew = newest.skew or 0.0
    lacking = jails.get("lacking")
    return HostState(
        host=newest.host,
        enrolled_at=newest.enrolled_at,
        heard_at=newest.seen_at,
        left=has_left(newest),
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


def has_left(store: Life) -> bool:
    """Return whether a store's last contact said that it leaves the fleet."""
    return isinstance(store.state, dict) and store.state.get("left") is True


def _is_replaced(store: Life, stores: Sequence[Life]) -> bool:
    """Return whether a store was heard only until a later one took its place (a restored backup)."""
    begun = [(other.began_at or 0.0) for other in stores]
    return any((store.began_at or 0.0) < at and (store.seen_at or 0.0) <= at + BEGUN for at in begun)


def _is_at_work(store: Life, stores: Sequence[Life]) -> bool:
    """Return whether a store was heard lately, beside the one that was heard last."""
    newest = stores[0].seen_at
    if has_left(store) or store.seen_at is None or newest is None or store.seen_at < newest - AT_WORK:
        return False
    return not _is_replaced(store, stores)


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
