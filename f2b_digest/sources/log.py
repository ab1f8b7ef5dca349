"""fail2ban.log, of any version and packed or not: its bans, prolongations, unbans, starts and stops as events.

A log says when fail2ban acted, in local time and without a zone; it has no failures, log lines or user names. Each line
kind is told apart by its beginning: "Restore Ban", "Reban" and "Repeal Ban" are no new bans and no ends of bans.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest import recorder
from f2b_digest.sources.files import Row, Tally, open_binary

_LINE = re.compile(
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d):(\d\d)(?:[,.](\d+))?\s+fail2ban\.\w+\s*(?:\[\d+\])?:?\s+\w+:?\s+"
    rb"(?:\[([^\]]*)\] (Ban|Unban|Increase Ban|Restore Ban|Repeal Ban|Reban) (.*)|Jail '(.*)' (started|stopped))\s*$",
    re.DOTALL,
)
_KINDS = {b"Ban": "ban", b"Unban": "unban", b"Increase Ban": "prolong", b"started": "start", b"stopped": "stop"}
_INCREASE = re.compile(r"(.*) \(\d+ # (.*) -> .*\)", re.DOTALL)
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_AGAIN = 60
"""Seconds by which a line may be older than the one before; more, in the hour that comes twice, is its second time."""


def read(path: Path, host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Row]:
    """Yield the events of one log; damaged lines are counted in `tally`. Raises SourceError."""
    clock = _Clock(zone)
    latest: dict[tuple[str, str], float] = {}
    with open_binary(path) as file:
        for line in file:
            tally.lines += 1
            # Nearly all lines of a log are others: a search for two letters costs a tenth of the expression.
            if b"an " not in line and b"Jail '" not in line:
                continue
            found = _LINE.match(line)
            if not found:
                if b"] Ban " in line or b"] Unban " in line or b"] Increase Ban " in line:
                    _damaged(tally, line)
                continue
            minute, second, fraction, jail, action, rest, its_jail, change = found.groups()
            kind = _KINDS.get(action or change)
            if kind is None:
                continue
            at = clock.seconds(minute, second, fraction)
            if at is None:
                _damaged(tally, line)
                continue
            name = _text(jail if jail is not None else its_jail)
            yield _row(kind, name, _text(rest or b""), at, latest, host, history)


def _row(
    kind: str, jail: str, rest: str, at: float, latest: dict[tuple[str, str], float], host: str, history: bool
) -> Row:
    """Return one event; a prolongation and an unban bear the time of their ban, as fail2ban's own do."""
    ip, bantime = rest, None
    increase = _INCREASE.fullmatch(rest) if kind == "prolong" else None
    if increase:
        ip, bantime = increase[1], seconds_of(increase[2])
    if kind == "ban":
        latest[jail, ip] = at
    elif ip:
        at = latest.get((jail, ip), at)
    row: Row = recorder.event(kind, jail, ip, at, host, "log", recorded_at=at, bantime=bantime, history=history)
    return row


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


def _damaged(tally: Tally, line: bytes) -> None:
    tally.damaged += 1
    if not tally.first_damaged:
        tally.first_damaged = repr(line[:200].decode("utf-8", "backslashreplace"))
