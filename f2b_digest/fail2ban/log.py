"""fail2ban.log, of any version and packed or not: its bans, prolongations, unbans, starts and stops as events.

A log says when fail2ban acted, in local time and without a zone. It has no log lines or user names; failures are
counted by its "Found" lines, and unknown where it has none. Each line kind is told apart by its beginning:
"Restore Ban", "Reban" and "Repeal Ban" are no new bans and no ends of bans.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest import recorder
from f2b_digest.fail2ban.files import Tally, lines_of
from f2b_digest.model.event import Event

_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d):(\d\d)(?:[,.](\d+))?\s+fail2ban\.\w+\s*(?:\[\d+\])?:?\s+\w+:?\s+"
    rb"(?:\[([^\]]*)\] (Ban|Unban|Increase Ban|Restore Ban|Repeal Ban|Reban) (.*)|Jail '(.*)' (started|stopped))\s*$",
    re.DOTALL,
)
_FOUND = re.compile(rb".*?fail2ban\.filter\b[^\]]*\]?[^\[]*\[([^\]]*)\] Found (.*?)(?: - \d{4}-\d\d-\d\d [\d:]+)?\s*$")
"""Not the observer's "Found 192.0.2.1, bad - …", which tells the same failure again."""
_ANY = re.compile(rb".{0,120}?\bfail2ban\.\w+\s*(?:\[\d+\])?\s*:?\s+\w+:?\s")
_LIKE_A_BAN = re.compile(rb"[\]:]\s+(?:Ban|Unban|Increase Ban) \S")
_KINDS = {
    b"Ban": "ban", b"Unban": "unban", b"Increase Ban": "prolong", b"started": "start", b"stopped": "stop",
    b"Restore Ban": "restore",
}  # fmt: skip
_INCREASE = re.compile(r"(.*) \(\d+ # (.*) -> .*\)", re.DOTALL)
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_AGAIN = 60
"""Seconds by which a line may be older than the one before; more, in the hour that comes twice, is its second time."""
_STOPPING = 60.0
"""Seconds before a jail's stop in which it unbans whatever it will restore at its start."""


@dataclass
class Past:
    """What a log's later lines, and the files that follow it, are to be read with."""

    latest: dict[tuple[str, str], float] = field(default_factory=dict)
    """By jail and id, its last ban, in UTC epoch seconds."""
    found: dict[tuple[str, str], int] = field(default_factory=dict)
    """By jail and id, its failures since its last ban."""


def is_line(line: bytes) -> bool:
    """Say whether a line is one of fail2ban's own log, of whichever kind and form."""
    return _ANY.match(line) is not None or _LINE.match(line) is not None


def read(path: Path, host: str, zone: ZoneInfo, tally: Tally, past: Past, *, history: bool) -> Iterator[Event]:
    """Yield the events of one log; lines like a ban that are not understood are counted in `tally`.

    `past` goes from one file of a log to the next. Raises SourceError.
    """
    ends = _Ends()
    for kind, jail, rest, at in _lines(path, zone, tally, past):
        if kind == "restore":
            ends.restored(jail, rest)
            continue
        event = _event(kind, jail, rest, at, past, host, history)
        yield from ends.older(jail, at - _STOPPING)
        if kind == "unban":
            ends.young.setdefault(jail, []).append(event)
            continue
        if kind in ("start", "stop"):
            ends.changed(jail, kind)
        yield event
    yield from ends.rest()


class _Ends:
    """Unbans that wait until it is known whether they end their bans: a start restores what a stop unbanned."""

    def __init__(self) -> None:
        self.young: dict[str, list[Event]] = {}
        self._stopped: dict[str, dict[str, Event]] = {}
        self._started: dict[str, dict[str, Event]] = {}

    def older(self, jail: str, before: float) -> Iterator[Event]:
        """Yield a jail's unbans from before a time (UTC epoch seconds), which no stop made."""
        held = self.young.get(jail, [])
        while held and held[0].recorded_at < before:
            yield held.pop(0)

    def changed(self, jail: str, kind: str) -> None:
        """Take note of a jail's start or stop."""
        if kind == "stop":
            self._stopped.setdefault(jail, {}).update({event.ip: event for event in self.young.pop(jail, ())})
        else:
            self._started.setdefault(jail, {}).update(self._stopped.pop(jail, {}))

    def restored(self, jail: str, ip: str) -> None:
        """Take note that a ban goes on."""
        self._started.get(jail, {}).pop(ip, None)

    def rest(self) -> Iterator[Event]:
        """Yield what no start restored; not what was unbanned at a stop without a start: that one is still to come."""
        for held in self.young.values():
            yield from held
        for started in self._started.values():
            yield from started.values()


def _lines(path: Path, zone: ZoneInfo, tally: Tally, past: Past) -> Iterator[tuple[str, str, str, float]]:
    """Yield kind, jail, what is behind it, and the time (UTC epoch seconds) of the lines that are events."""
    clock = _Clock(zone)
    for line in lines_of(path):
        tally.lines += 1
        if b"] Found " in line:
            _count(line, past)
            continue
        # Nearly all lines of a log are others: a search for two letters costs a tenth of the expression.
        if b"an " not in line and b"Jail '" not in line:
            continue
        found = _LINE.match(line)
        if not found:
            if _LIKE_A_BAN.search(line):
                tally.lost(path, line)
            continue
        minute, second, fraction, jail, action, rest, its_jail, change = found.groups()
        kind = _KINDS.get(action or change)
        if kind is None:
            continue
        at = clock.seconds(minute, second, fraction)
        name = _text(jail if jail is not None else its_jail)
        if at is None:
            tally.lost(path, line)
        elif name != recorder.SCRATCH_JAIL:
            yield kind, name, _text(rest or b""), at


def _count(line: bytes, past: Past) -> None:
    found = _FOUND.match(line)
    if found:
        key = _text(found[1]), _text(found[2])
        past.found[key] = past.found.get(key, 0) + 1


def _event(kind: str, jail: str, rest: str, at: float, past: Past, host: str, history: bool) -> Event:
    """Return one event; a prolongation and an unban bear the time of their ban, as fail2ban's own do."""
    ip, bantime, recorded_at, failures = rest, None, at, None
    increase = _INCREASE.fullmatch(rest) if kind == "prolong" else None
    if increase:
        ip, bantime = increase[1], seconds_of(increase[2])
    if kind == "ban":
        past.latest[jail, ip] = at
        failures = past.found.pop((jail, ip), None)
    elif ip:
        at = past.latest.get((jail, ip), at)
    return Event.of(
        kind, jail, ip, at, host, "log", recorded_at=recorded_at, failures=failures, bantime=bantime, history=history
    )


def seconds_of(duration: str) -> int | None:
    """Return the seconds of fail2ban's "5m", "1y 3w", "0:05:00" or "2 days, 0:05:00"; -1 of "permanent"."""
    if duration == "permanent":
        return -1
    clock = re.fullmatch(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)", duration)
    if clock:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return days * 86400 + hours * 3600 + minutes * 60 + seconds
    parts = re.fullmatch(r"(\d+[ywdhms](?: \d+[ywdhms])*)", duration)
    return sum(int(part[:-1]) * _UNITS[part[-1]] for part in duration.split()) if parts else None


class _Clock:
    """Local times of a log to UTC; a minute is worked out once, for the lines of one are many."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._minutes: dict[bytes, tuple[float, float]] = {}
        self._before = 0.0

    def seconds(self, minute: bytes, second: bytes, fraction: bytes | None) -> float | None:
        """Return the epoch seconds, or None for what is no time. In the hour that comes twice, time goes on."""
        if minute not in self._minutes:
            try:
                local = datetime.strptime(minute.decode(), "%Y-%m-%d %H:%M").replace(tzinfo=self._zone)
            except ValueError:
                return None
            self._minutes[minute] = (local.timestamp(), local.replace(fold=1).timestamp())
        first, again = self._minutes[minute]
        at = first if first >= self._before - _AGAIN or again <= first else again
        self._before = at
        return at + int(second) + float(b"0." + fraction if fraction else 0)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace").strip()
