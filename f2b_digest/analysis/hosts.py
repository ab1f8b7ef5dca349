"""Which hosts of a fleet need somebody, and what a digest says of each. Their bans are judged elsewhere.

What lasts is told of each host by itself: daily for three days, then weekly, until it is mended or the host retired.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from f2b_digest.analysis.availability import known_quiet
from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.own_addresses import OwnAddresses
from f2b_digest.analysis.repeats import host_is_due
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import moment
from f2b_digest.model.facts import Fact, Fail2banDown, JailSilent, OwnBanned
from f2b_digest.model.fleet import Everywhere, Fleet, FleetHost, HostBans, HostState, Late, Version
from f2b_digest.model.fleet_facts import (
    ClocksOff,
    HostClock,
    HostJails,
    HostLate,
    HostsBehind,
    HostsCopied,
    HostSince,
    HostsLacking,
    HostsSilent,
    HostStores,
    HostsUnheard,
    HostWaiting,
    LateBans,
)

SILENT = 2 * 3600.0
"""Seconds without a contact: two dozen of cron's runs. A reboot or an upgrade is over by then."""
LATELY = 15 * 60.0
"""Seconds without a contact, three of cron's runs, after which `fleet list` and monitoring call a host silent: who
looks there wants to know of the reboot, too. A digest waits for `SILENT`."""
UNHEARD = 86400.0
"""Seconds after which an enrolled host should have joined."""
BEHIND = 2 * 3600.0
"""Seconds for which an event may wait on a host that is heard: a new host uploads its history for a while."""
SKEWED = 60.0
"""Seconds by which a clock may be off."""
FAR_OFF = 3600.0
"""Likewise, beyond which a host's jails are not judged."""
MANY_HOSTS, SHOWN_EVERYWHERE = 3, 3
"""Hosts on which an id is worth a line; such ids in a digest."""
LISTED, BUSIEST = 40, 3
"""Hosts in a digest's list: those with something to tell, and of the others those with the most bans."""


def is_silent(state: HostState, end: float, after: float = SILENT) -> bool:
    """Return whether a host that was heard once has been silent for so many seconds."""
    return state.heard_at is not None and end - state.heard_at > after


def is_unheard(state: HostState, end: float) -> bool:
    """Return whether a host was enrolled and never heard."""
    return state.heard_at is None and end - state.enrolled_at > UNHEARD


def is_behind(state: HostState) -> bool:
    """Return whether a host's events had waited for long at its last contact."""
    return (
        state.backlog > 0
        and state.oldest is not None
        and state.heard_at is not None
        and state.heard_at - state.oldest > BEHIND
    )


def needing_somebody(counts: Counts, inputs: Inputs) -> Iterator[Fact]:
    """Yield what hosts need attention for, and are due: what hides most first."""
    end = counts.end.timestamp()
    states = inputs.host_context.fleet or ()

    def due(kind: str, hosts: Iterable[Any], *keys: str) -> tuple[Any, ...]:
        return tuple(each for each in hosts if host_is_due(kind, each, keys, inputs, end))

    silent = sorted((state.heard_at, state.host) for state in states if state.heard_at and is_silent(state, end))
    unheard = sorted((state.enrolled_at, state.host) for state in states if is_unheard(state, end))
    if found := due("hosts_silent", (HostSince(host, _moment(at, counts)) for at, host in silent), "since"):
        yield HostsSilent(found, _retire(found[0].host))
    if found := due("hosts_unheard", (HostSince(host, _moment(at, counts)) for at, host in unheard), "since"):
        yield HostsUnheard(found, _retire(found[0].host))
    lacking = (
        HostJails(state.host, jails, state.lacking_more) for state in states if (jails := _lacking(state, inputs))
    )
    if found := due("hosts_lacking", lacking, "jails"):
        line = next(state.line for state in states if state.host == found[0].host)
        yield HostsLacking(found, line, known_quiet(inputs, *(jail for each in found for jail in each.jails)))
    if found := due("hosts_copied", (HostStores(each.host, each.stores) for each in states if each.stores > 1)):
        yield HostsCopied(found)
    behind = sorted(
        (state.oldest, state.host, state.backlog)
        for state in states
        if state.oldest is not None and is_behind(state) and not is_silent(state, end)
    )
    if found := due("hosts_behind", (HostWaiting(host, events, _moment(at, counts)) for at, host, events in behind)):
        yield HostsBehind(found)


def news(counts: Counts, inputs: Inputs) -> Iterator[Fact]:
    """Yield which clocks are off, if that is due, and which bans came late."""
    end = counts.end.timestamp()
    clocks = [HostClock(each.host, round(each.skew)) for each in inputs.host_context.fleet or () if is_off(each)]
    clocks.sort(key=lambda clock: (-abs(clock.seconds), clock.host))
    if found := tuple(each for each in clocks if host_is_due("clocks_off", each, (), inputs, end)):
        yield ClocksOff(found)
    late = [
        HostLate(host, each.late.bans, _moment(each.late.first, counts), _moment(each.late.last, counts))
        for host, each in inputs.by_host.items()
        if each.late
    ]
    late.sort(key=lambda each: (-each.bans, each.host))
    if late:
        yield LateBans(sum(each.bans for each in late), tuple(late))


def fleet(counts: Counts, inputs: Inputs, own: OwnAddresses, facts: Sequence[Fact], version: str) -> Fleet | None:
    """Return the hosts of a digest with these facts, the worst first; None on a host. `version` is the centre's."""
    states = inputs.host_context.fleet
    if states is None:
        return None
    hosts = sorted((_host(state, counts, inputs, facts) for state in states), key=_rank)
    told = [host for host in hosts if _rank(host)[0]]
    others = [host for host in hosts if not _rank(host)[0]]
    busy = sorted((host for host in others if host.bans), key=lambda host: (-host.bans, host.name))
    strangers = tuple(each for each in counts.everywhere if not own.holds(each.ip))
    everywhere = strangers[:SHOWN_EVERYWHERE]
    versions = Counter(state.version for state in states if state.version not in (None, version))
    return Fleet(
        in_all=len(states),
        hosts=tuple(told[:LISTED]),
        left_out=len(told[LISTED:]),
        busiest=tuple(HostBans(host.name, host.bans) for host in busy[:BUSIEST]),
        busy=len(busy),
        quiet=len(others) - len(busy),
        behind=tuple(Version(str(name), hosts) for name, hosts in versions.most_common(BUSIEST)),
        version=version,
        everywhere=everywhere,
        everywhere_in_all=counts.everywhere_in_all - (len(counts.everywhere) - len(strangers)),
        lines=_banned_everywhere(everywhere),
    )


def _banned_everywhere(everywhere: Sequence[Everywhere]) -> tuple[str, ...]:
    """Return the line that bans ids on a host, in the jail that banned the first of them."""
    words = (
        ("fail2ban-client", "set", everywhere[0].jails[0], "banip", *(each.ip for each in everywhere))
        if everywhere
        else ()
    )
    return (shlex.join(words),) if words else ()


def _host(state: HostState, counts: Counts, inputs: Inputs, facts: Sequence[Fact]) -> FleetHost:
    activity, end = inputs.by_host.get(state.host), counts.end.timestamp()
    late = activity.late if activity else None
    behind = is_behind(state) and not is_silent(state, end)
    mine = [fact for fact in facts if getattr(fact, "host", None) == state.host]
    return FleetHost(
        name=state.host,
        bans=sum(activity.jails.values()) if activity else 0,
        own=tuple(dict.fromkeys(fact.ip for fact in mine if isinstance(fact, OwnBanned))),
        enrolled=_moment(state.enrolled_at, counts) if is_unheard(state, end) else None,
        silent_since=_moment(state.heard_at, counts) if state.heard_at and is_silent(state, end) else None,
        down=any(isinstance(fact, Fail2banDown) for fact in mine),
        silent_jails=tuple(fact.jail for fact in mine if isinstance(fact, JailSilent)),
        lacking=_lacking(state, inputs),
        lacking_more=state.lacking_more,
        stores=state.stores,
        waiting=state.backlog if behind else 0,
        waiting_since=_moment(state.oldest, counts) if behind and state.oldest is not None else None,
        clock_off=round(state.skew) if is_off(state) else 0,
        late=Late(late.bans, _moment(late.first, counts), _moment(late.last, counts)) if late else None,
    )


def _rank(host: FleetHost) -> tuple[int, int, str]:
    """Return a key that puts the worst first; the first number is 0 for a host with nothing to tell."""
    grades = (
        bool(host.own), bool(host.silent_since or host.enrolled), host.down, bool(host.silent_jails),
        bool(host.lacking), host.stores > 1, bool(host.waiting), bool(host.clock_off), host.late is not None,
    )  # fmt: skip
    weight = sum(1 << (len(grades) - place) for place, grade in enumerate(grades) if grade)
    return -weight, -host.bans, host.name


def _lacking(state: HostState, inputs: Inputs) -> tuple[str, ...]:
    """Return a host's jails without the action, but for those that may be silent."""
    return tuple(jail for jail in state.lacking if jail not in inputs.known_quiet)


def _retire(host: str) -> str:
    return shlex.join(("f2b-digest", "fleet", "retire", host))


def is_off(state: HostState) -> bool:
    """Return whether a host's clock is off."""
    return abs(state.skew) > SKEWED


def is_far_off(state: HostState) -> bool:
    """Return whether a host's clock is so far off that the times of its bans are of no use."""
    return abs(state.skew) > FAR_OFF


def _moment(at: float, counts: Counts) -> datetime:
    zone = counts.end.tzinfo
    assert zone is not None
    return moment(at, zone)
