"""The bans of a fleet, judged by host and jail: silent jails, fail2ban down, surges and drops. Rules are elsewhere.

Thresholds are those of a single host, further away by the number of jails of all hosts (`Inputs.judged`), so that a
digest of a fleet raises no more false alarms than one of a host.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from f2b_digest.analysis.anomalies import MOST, SHARE_OF_A_JAIL, drops, surges
from f2b_digest.analysis.availability import at_work
from f2b_digest.analysis.hosts import is_behind, is_far_off, is_silent
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.model.baseline import Baseline, HostActivity
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Address, Jail, Totals, moment
from f2b_digest.model.facts import Drop, Fact, Fail2banDown, JailSilent, JailStopped, Surge
from f2b_digest.model.fleet import HostState
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.told import Told

ALONE = 1
"""Hosts of a fleet of which nothing is said together."""


def known_until(state: HostState, end: float) -> float:
    """Return until when (UTC epoch seconds) a host's bans are known, at the latest a digest's end.

    With a clock that is far behind, its bans have earlier times, and none of the hours before the end.
    """
    known = state.heard_at if state.complete_until is None else state.complete_until
    return end if known is None else min(known + (state.skew if is_far_off(state) else 0.0), end)


def at_work_by_host(counts: Counts, inputs: Inputs) -> Iterator[Fact]:
    """Yield which jails are silent on all hosts together; then by host where fail2ban is down, or jails are silent.

    Of a host that is silent itself, nothing is known; that is told already.
    """
    states, end = inputs.host_context.fleet or (), counts.end.timestamp()
    heard = {state.host: state for state in states if not is_silent(state, end)}
    together: set[str] = set()
    if len(heard) > ALONE:
        until = max(known_until(state, end) for state in heard.values())
        known_jails = {jail for _, _, known in _hosts(counts, inputs, heard) for jail in known.baseline.windows}
        for fact in at_work(_until(counts, until), _of_nobody(inputs)):
            if isinstance(fact, JailSilent) and fact.jail in known_jails:  # not one of a host that was retired
                together.add(fact.jail)
                yield fact
    for state, of_host, known in _hosts(counts, inputs, heard):
        for fact in at_work(of_host, known):
            if isinstance(fact, Fail2banDown | JailStopped) or (
                isinstance(fact, JailSilent) and fact.jail not in together
            ):
                yield replace(fact, host=state.host)


def surges_of_fleet(counts: Counts, inputs: Inputs) -> Iterator[Surge]:
    """Yield the largest surges: of a jail on one host, or on all hosts together if no host explains it."""
    found = _together_or_apart(counts, inputs, surges, lambda fact: fact.bans - fact.usual)
    yield from (fact for fact in found if isinstance(fact, Surge))


def drops_of_fleet(counts: Counts, inputs: Inputs) -> Iterator[Drop]:
    """Yield the largest drops, likewise."""
    found = _together_or_apart(counts, inputs, drops, lambda fact: fact.usual - fact.bans)
    yield from (fact for fact in found if isinstance(fact, Drop))


def _together_or_apart(
    counts: Counts,
    inputs: Inputs,
    rule: Callable[[Counts, Inputs], Iterator[Surge] | Iterator[Drop]],
    size: Callable[[Surge | Drop], float],
) -> list[Surge | Drop]:
    states, end = inputs.host_context.fleet or (), counts.end.timestamp()
    complete = {
        state.host: state for state in states if not (is_silent(state, end) or is_behind(state) or is_far_off(state))
    }
    apart = [
        replace(fact, host=state.host)
        for state, of_host, known in _hosts(counts, inputs, complete)
        for fact in rule(of_host, known)
        if fact.jail is not None
    ]
    together: list[Surge | Drop] = []
    for fact in rule(*_together(counts, inputs, complete)):
        explained = sum(size(each) for each in apart if fact.jail in (None, each.jail))
        if explained < SHARE_OF_A_JAIL * size(fact):
            together.append(fact)
            apart = [each for each in apart if fact.jail != each.jail]
    return sorted([*together, *apart], key=size, reverse=True)[:MOST]


def _hosts(
    counts: Counts, inputs: Inputs, states: Mapping[str, HostState]
) -> Iterator[tuple[HostState, Counts, Inputs]]:
    """Yield each host with its own counts and inputs."""
    told = _told_by_host(inputs.told)
    for host, activity in inputs.by_host.items():
        if host not in states or activity.baseline is None:
            continue
        state = states[host]
        until = known_until(state, counts.end.timestamp())
        of_host = inputs if state.here else _of_nobody(inputs, _running(state, activity.baseline))
        known = replace(of_host, host=host, baseline=activity.baseline, told=told.get(host, ()))
        yield state, _until(_counts(counts, activity.jails, activity.last), until), known


def _of_nobody(inputs: Inputs, running: tuple[str, ...] | None = None) -> Inputs:
    """Return inputs without what is known of a hub's own host; `running` are the jails that run on another."""
    return replace(inputs, starts_and_stops={}, host_context=HostContext(running=running))


def _together(counts: Counts, inputs: Inputs, states: Mapping[str, HostState]) -> tuple[Counts, Inputs]:
    """Return the bans of those jails of hosts that are known for all earlier periods.

    A host that joined lately would be a surge.
    """
    known = [
        (jail, windows, activity)
        for host, activity in inputs.by_host.items()
        if host in states and activity.baseline is not None
        for jail, windows in activity.baseline.windows.items()
    ]
    most = max((len(windows) for _, windows, _ in known), default=0)
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * most)
    bans: defaultdict[str, int] = defaultdict(int)
    for jail, windows, activity in known:
        if len(windows) == most:
            sums[jail] = [one + other for one, other in zip(sums[jail], windows, strict=True)]
            bans[jail] += activity.jails.get(jail, 0)
    windows_of = {jail: tuple(counted) for jail, counted in sums.items()}
    every = tuple(sum(row) for row in zip(*windows_of.values(), strict=True))
    before = {jail: counted[0] for jail, counted in windows_of.items() if counted}
    baseline = Baseline(windows_of, every, {}, {}, before, sum(before.values()) if before else None)
    return _counts(counts, bans, {}), replace(inputs, baseline=baseline, told=(), host=None)


def _running(state: HostState, baseline: Baseline) -> tuple[str, ...] | None:
    """Return the jails that run: a fail2ban that answered runs its jails, as far as is known here."""
    if state.silence:
        return ()
    return tuple(baseline.windows) if state.answered else None


def _counts(counts: Counts, bans: Mapping[str, int], newest: Mapping[str, float]) -> Counts:
    zone = counts.end.tzinfo
    assert zone is not None
    times = {jail: moment(at, zone) for jail, at in newest.items()}
    jails = tuple(
        Jail(jail, count, count, None, (Address("", count, None, last, last, None, None),) if last else ())
        for jail, count in bans.items()
        for last in (times.get(jail),)
        if count
    )
    total = sum(jail.bans for jail in jails)
    return Counts(counts.start, counts.end, Totals(total, total, len(jails), None), jails)


def _until(counts: Counts, until: float) -> Counts:
    zone = counts.end.tzinfo
    assert zone is not None
    return replace(counts, end=moment(until, zone))


def _told_by_host(told: Sequence[Told]) -> dict[str, tuple[Told, ...]]:
    """Return by host the facts of it alone, as far as it has some."""
    found: defaultdict[str, list[Told]] = defaultdict(list)
    for each in told:
        facts = defaultdict(list)
        for fact in each.facts:
            if isinstance(fact.get("host"), str):
                facts[fact["host"]].append(fact)
        for host, of_host in facts.items():
            found[host].append(replace(each, facts=of_host, advice=()))
    return {host: tuple(of_host) for host, of_host in found.items()}


def host_jails(by_host: Mapping[str, HostActivity]) -> int:
    """Return how many jails of hosts are judged."""
    return sum(len(activity.baseline.windows) for activity in by_host.values() if activity.baseline)
