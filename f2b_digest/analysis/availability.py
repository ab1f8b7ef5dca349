"""Availability of fail2ban and its jails: silent, stopped, down, restarted. Counts are compared in `statistics`."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.statistics import silence_is_no_chance, silence_together_is_no_chance, together, usual
from f2b_digest.model.baseline import Quiet
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import moment
from f2b_digest.model.facts import Fact, Fail2banDown, JailSilent, JailStopped, Restarted

RESTARTING = 600.0
"""Seconds: a more recent stop may be a restart in progress."""
REMEMBERED = 7 * 86400.0
"""Seconds: a jail that vanished without a stop is reported for a week after its last event; then it counts as
removed."""
KNOWN = 28 * 86400.0
"""Seconds: a jail without an event for so long counts as removed."""
JUST_NOW = 3600.0
"""Seconds: a jail that banned within them is running, whatever fail2ban-client says."""
DOWNTIME = 3600.0
"""Seconds of downtime that explain a silence; a nightly restart does not."""
AT_ONCE = 60.0
"""Seconds: a start this soon after a stop is a deliberate restart, manual or by setup."""
TOGETHER = 120.0
"""Seconds: jails that start within them are one start of fail2ban."""


@dataclass(frozen=True)
class _Life:
    """What is known of one jail up to the digest's end; times are UTC epoch seconds."""

    last_ban: float | None
    events: tuple[tuple[str, float], ...]
    """Its starts and stops, oldest first."""
    end: float
    banned: bool
    """Whether it banned in the period."""
    quiet: Quiet | None
    """Its activity before its last ban, if that is a while ago."""

    @property
    def last(self) -> tuple[str, float] | None:
        """Its last start or stop."""
        return self.events[-1] if self.events else None

    @property
    def stopped(self) -> float | None:
        """When it was stopped; None if it banned or started since, or if unknown."""
        if self.last is None or self.last[0] != "stop" or (self.last_ban or 0.0) > self.last[1]:
            return None
        return self.last[1]

    @property
    def sign(self) -> float | None:
        """Its last recorded event."""
        return max((at for at in (self.last_ban, self.last and self.last[1]) if at is not None), default=None)

    @property
    def known(self) -> bool:
        """Whether it still counts as one of this host's jails."""
        return self.sign is not None and self.sign > self.end - KNOWN

    @property
    def quiet_since(self) -> float | None:
        """Start of its silence; None if it never banned. Downtime is excluded."""
        if self.last_ban is None:
            return None
        pairs = zip((("stop", -math.inf), *self.events), self.events, strict=False)
        back = [at for (_, before), (kind, at) in pairs if kind == "start" and at - before > DOWNTIME]
        return max((self.last_ban, *back))


def at_work(counts: Counts, inputs: Inputs) -> Iterator[Fact]:
    """Yield that fail2ban is down, or else which jails are stopped or silent.

    For a past period only silence is reported: what runs is known for the present only.
    """
    lives = _lives(counts, inputs)
    if inputs.complete and _down(counts, inputs, lives):
        since = max((life.sign for life in lives.values() if life.sign is not None), default=None)
        known = tuple(jail for jail, life in lives.items() if life.known)
        at = None if since is None else _moment(since, counts)
        yield Fail2banDown(len(known), usual(inputs.baseline.all), at, known)
        return
    stopped = dict(_stopped(counts, inputs, lives)) if inputs.complete else {}
    windows = inputs.baseline.windows
    for jail, since in sorted(stopped.items(), key=lambda item: item[1]):
        yield JailStopped(jail, _moment(since, counts), usual(windows.get(jail, ())))
    silent = [
        JailSilent(jail, median(life.quiet.daily), _moment(life.quiet.last, counts), known_quiet(inputs, jail))
        for jail, life in lives.items()
        if life.quiet is not None and jail not in stopped and life.stopped is None and _silent(life, inputs.judged)
    ]
    yield from sorted(silent, key=lambda fact: fact.usual, reverse=True)


def restarted(counts: Counts, inputs: Inputs) -> Restarted | None:
    """Return how often fail2ban was started after a crash or a downtime: most of its jails within two minutes.

    Deliberate restarts are not counted, nor is the first start of all.
    """
    start, end = counts.start.timestamp(), counts.end.timestamp()
    starts = sorted(
        (at, jail)
        for jail, rows in inputs.starts_and_stops.items()
        for at in _starts(rows, known=jail in inputs.baseline.last)
        if start <= at <= end
    )
    groups: list[list[tuple[float, str]]] = []
    for each in starts:
        if groups and each[0] <= groups[-1][0][0] + TOGETHER:
            groups[-1].append(each)
        else:
            groups.append([each])
    most = [group for group in groups if 2 * len({jail for _, jail in group}) >= len(inputs.starts_and_stops)]
    return Restarted(len(most), _moment(most[-1][-1][0], counts)) if most else None


def _starts(rows: Sequence[tuple[str, float]], *, known: bool) -> Iterator[float]:
    """Yield a jail's starts, except those right after a stop, or after a start that may be the same one.

    The first of all counts where the jail is known to have banned before.
    """
    for (before, then), (kind, at) in pairwise([("", -math.inf), *rows]):
        if kind == "start" and at - then > AT_ONCE and (before or known):
            yield at


def _lives(counts: Counts, inputs: Inputs) -> dict[str, _Life]:
    """Return the state of each jail of the report that ever banned, or was started or stopped."""
    bans, quiet, end = dict(inputs.baseline.last), inputs.baseline.quiet, counts.end.timestamp()
    for jail in counts.jails:
        times = [address.last.timestamp() for address in jail.worst]
        if jail.name in quiet:
            times.append(quiet[jail.name].last)
        # Without an address, the end is taken as the last ban: a jail that banned is not reported as stopped.
        bans[jail.name] = max(times) if times else end
    events = inputs.starts_and_stops
    banned = {jail.name for jail in counts.jails if jail.bans}
    return {
        name: _Life(bans.get(name), tuple(events.get(name, ())), end, name in banned, quiet.get(name))
        for name in sorted({*bans, *quiet, *events} - inputs.known_quiet)
    }


def _down(counts: Counts, inputs: Inputs, lives: Mapping[str, _Life]) -> bool:
    """Return whether fail2ban is down, unless something was started or stopped just now.

    That is, it does not answer. Where it could not be asked: each jail was stopped; or those that were not are
    silent together, which chance does not explain, and none of them was started in the period.
    """
    end = counts.end.timestamp()
    if any(life.last is not None and life.last[1] > end - RESTARTING for life in lives.values()):
        return False
    running = inputs.host_context.running
    if running is not None:  # it may run out of sight, in a container: if it bans, it is not down
        return not running and all((life.last_ban or 0.0) <= end - JUST_NOW for life in lives.values())
    known = {jail: life for jail, life in lives.items() if life.known}
    rest = {jail: life for jail, life in known.items() if life.stopped is None}
    if not rest:
        return bool(known)
    since = counts.start.timestamp()
    at_rest = all(not life.banned and (life.sign or 0.0) < since for life in rest.values())
    return (
        len(known) > 1
        and at_rest
        and (
            any(_silent(life, inputs.judged) for life in rest.values())
            or _silent_together(rest.values(), end, inputs.judged)
        )
    )


def _stopped(counts: Counts, inputs: Inputs, lives: Mapping[str, _Life]) -> Iterator[tuple[str, float]]:
    """Yield the jails that were stopped, and when; once only, as it may be intended.

    Where fail2ban says what runs, a jail that runs is not stopped, and one that was started and does not run now is,
    if it did not ban in the period: an end by a crash leaves no stop.
    """
    running = inputs.host_context.running
    start, end = counts.start.timestamp(), counts.end.timestamp()
    for jail, life in lives.items():
        if running is not None and jail in running:
            continue
        stop = life.stopped
        if stop is not None and start - RESTARTING < stop <= end - RESTARTING:
            yield jail, stop
        elif running is not None and life.last is not None and life.last[0] == "start":
            sign = life.sign or 0.0
            if end - REMEMBERED < sign <= end - RESTARTING and not life.banned:
                yield jail, sign


def _silent(life: _Life, judged: int) -> bool:
    """Return whether a jail's silence since its last ban (or the end of a long downtime) is beyond chance."""
    since = life.quiet_since
    return (
        since is not None
        and life.quiet is not None
        and silence_is_no_chance(life.quiet.daily, life.quiet.gaps, life.end - since, judged)
    )


def _silent_together(lives: Iterable[_Life], end: float, judged: int) -> bool:
    """Return whether the common silence of several jails since their last ban is beyond chance."""
    known = [(life.quiet, life.quiet_since) for life in lives]
    since = max((since for _, since in known if since is not None), default=None)
    daily = together(quiet.daily for quiet, _ in known if quiet is not None)
    return since is not None and silence_together_is_no_chance(daily, end - since, judged)


def known_quiet(inputs: Inputs, *jails: str) -> str:
    """Return the configuration line that excludes jails; TOML strings are written as in JSON."""
    return f"known_quiet = {json.dumps(sorted({*inputs.known_quiet, *jails}), ensure_ascii=False)}"


def _moment(at: float, counts: Counts) -> datetime:
    zone = counts.end.tzinfo
    assert zone is not None
    return moment(at, zone)
