"""Which facts earlier digests reported, and when they are due again. Nothing is counted here."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from f2b_digest.analysis.inputs import Inputs
from f2b_digest.model.facts import Fact
from f2b_digest.model.told import Told

DAILY = 3
"""Number of daily digests that repeat a lasting fact; after that it is repeated weekly."""
A_DAY, A_WEEK = 20 * 3600.0, 6.5 * 86400.0
"""Seconds between weekly repetitions; cron may be an hour early, and a week has 167 hours once a year."""
NEWS_AGAIN = 30 * 86400.0
"""Seconds after which the same is news again."""
MORE = 1.6
"""Growth factor since it was reported that makes it news before that."""
A_MONTH = 30 * 86400.0
"""Seconds after which the same advice is given again."""
SAME = 1.5
"""Tolerance in seconds for two times to be the same."""
LASTING: Mapping[str, tuple[str, ...]] = {
    "silent": ("jail", "last", "host"),
    "down": ("since", "host"),
    "proxy": ("jail", "name"),
}
"""By kind, the fields that identify a lasting fact: it is reported until it ends."""
NEWS: Mapping[str, tuple[str, ...]] = {
    "campaign": ("network", "asn"),
    "target": ("user",),
    "roaming": (),
}
"""By kind, the fields that identify news. What is unusual for its history is not news on the next day anyway."""


def fresh(facts: Sequence[Fact], inputs: Inputs, end: float) -> Iterator[Fact]:
    """Yield the facts due in a digest that ends at a time (UTC epoch seconds), without those reported just before."""
    mine = [told for told in inputs.told if told.report == inputs.report and told.at < end]
    for fact in facts:
        lasting = LASTING.get(fact.kind)
        if lasting and not _is_due([told.at for told in mine if _tells(told, fact, lasting)], end):
            continue
        if fact.kind in NEWS and any(
            end - told.at < NEWS_AGAIN and _size(fact) < MORE * size
            for told in mine
            for size in _sizes(told, fact, NEWS[fact.kind])
        ):
            continue
        yield fact


def host_is_due(kind: str, host: Any, keys: Sequence[str], inputs: Inputs, end: float) -> bool:
    """Return whether a host is due in a fact of a kind that names hosts; `host` is its entry there.

    `keys` are the fields that identify what lasts, beside the host's name.
    """
    return _is_due([told.at for told in inputs.told if told.report == inputs.report and told.at < end and any(
        _alike(entry.get("host"), host.host) and all(_alike(entry.get(key), getattr(host, key)) for key in keys)
        for fact in told.facts
        if fact.get("kind") == kind
        for entry in _entries(fact)
    )], end)  # fmt: skip


def _entries(fact: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    hosts = fact.get("hosts")
    return [entry for entry in hosts if isinstance(entry, Mapping)] if isinstance(hosts, list) else []


def _is_due(times: Sequence[float], end: float) -> bool:
    """Return whether what lasts, and was told at some times, is told again."""
    return not times or end - max(times) >= (A_DAY if len(times) < DAILY else A_WEEK)


def outages(told: Sequence[Told], host: str | None = None) -> dict[str, dict[float, float]]:
    """Return by jail when reported outages began, and when they were last reported, in UTC epoch seconds.

    Those of a fleet's host; without one, those of a single host, and of all hosts of a fleet together.
    """
    found: dict[str, dict[float, float]] = {}
    for each in reversed(told):
        for fact in each.facts:
            for jail, begun in _outages(fact) if fact.get("host") == host else ():
                found.setdefault(jail, {})[begun] = each.at
    return found


def came_back(inputs: Inputs) -> frozenset[str]:
    """Return the jails whose reported outage was still going on when the period began."""
    last = inputs.baseline.last
    return frozenset(
        jail
        for jail, times in outages(inputs.told, inputs.host).items()
        if any(jail in last and abs(last[jail] - begun) < SAME for begun in times)
    )


def _outages(fact: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    kind = fact.get("kind")
    begun = _time(fact.get("last" if kind == "silent" else "since"))
    names = [fact.get("jail")] if kind in ("silent", "stopped") else fact.get("names", ()) if kind == "down" else ()
    if begun is not None:
        yield from ((jail, begun) for jail in names if isinstance(jail, str))


def was_advised(inputs: Inputs, kind: str, end: float) -> bool:
    """Return whether the report gave an advice of a kind in the last month."""
    return any(
        advice.get("kind") == kind
        for told in inputs.told
        if told.report == inputs.report and end - A_MONTH < told.at < end
        for advice in told.advice
    )


def _tells(told: Told, fact: Fact, keys: Sequence[str]) -> bool:
    return any(_is_same(earlier, fact, keys) for earlier in told.facts)


def _sizes(told: Told, fact: Fact, keys: Sequence[str]) -> Iterator[float]:
    for earlier in told.facts:
        if _is_same(earlier, fact, keys):
            yield _size(earlier)


def _is_same(earlier: Mapping[str, Any], fact: Fact, keys: Sequence[str]) -> bool:
    return earlier.get("kind") == fact.kind and all(_alike(earlier.get(key), getattr(fact, key)) for key in keys)


def _alike(earlier: object, now: object) -> bool:
    if isinstance(now, datetime):
        at = _time(earlier)
        return at is not None and abs(at - now.timestamp()) < SAME
    return earlier == (list(now) if isinstance(now, tuple) else now)


def _size(fact: Fact | Mapping[str, Any]) -> float:
    size = fact.get("addresses") if isinstance(fact, Mapping) else getattr(fact, "addresses", None)
    return float(size or 0)


def _time(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
