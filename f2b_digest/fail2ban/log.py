"""fail2ban's log as events: bans, prolongations, unbans, starts and stops. Lines are parsed in `log_lines`.

A log has no matched lines and no user names. Failures are counted by its "Found" lines, and unknown without them. The
ban time is taken from the prolongation, or the unban, or else from the jail's other bans. A start restores
bans: these are not new ones.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest import recorder
from f2b_digest.fail2ban import log_lines
from f2b_digest.fail2ban.ban_times import BanTimes
from f2b_digest.fail2ban.files import Tally
from f2b_digest.fail2ban.log_lines import Line
from f2b_digest.model.event import Event

_INCREASE = re.compile(r"(.*) \(\d+ # (.*) -> .*\)", re.DOTALL)
_UNITS = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_STOPPING = 60.0
"""Seconds before a jail's stop in which it unbans what it restores at its start."""
_RESTORING = 300.0
"""Seconds after a jail's start in which fail2ban 0.9 restores bans; it logs them as bans too."""
MOST_OPEN = 100_000
"""Maximum number of bans held back for their unban, which gives their time; beyond, the oldest is released without."""

_Key = tuple[str, str]
"""Jail and id."""


class Reader:
    """Reads the files of one log, the oldest first: open bans may end in the next file."""

    def __init__(self, host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> None:
        """Start with the first file; `history` and `host` are the events'."""
        self._host, self._zone, self._tally, self._history = host, zone, tally, history
        self._open: dict[_Key, Event] = {}
        self._last: dict[_Key, float] = {}
        self._found: dict[tuple[bytes, bytes], int] = {}
        self._early: dict[_Key, tuple[int | None, float]] = {}
        self._times = BanTimes()
        self._started: dict[str, float] = {}
        self._unbans = _Unbans()
        self._version = ""
        self._new_jail = ""

    def read(self, path: Path) -> Iterator[Event]:
        """Yield events of one file; a ban whose time is still unknown is held back. Raises SourceError."""
        for line in log_lines.read(path, self._zone, self._tally, self._found):
            if line.jail != recorder.SCRATCH_JAIL:
                yield from self._events(line)

    def rest(self) -> Iterator[Event]:
        """Yield the bans held back, after the last file."""
        for event in self._unbans.rest():
            yield from self._ended(event)
        for key in list(self._open):
            yield self._decided(key, None)
        for key in list(self._early):
            yield self._late(key)

    def _events(self, line: Line) -> Iterator[Event]:
        kind, jail, ip, at = line
        for event in self._unbans.older(jail, at - _STOPPING):
            yield from self._ended(event)
        if kind == "ban":
            yield from self._ban(jail, ip, at)
        elif kind == "unban":
            self._unbans.wait(self._event("unban", jail, ip, self._last.get((jail, ip), at), at))
        elif kind == "prolong":
            yield from self._prolong(jail, ip, at)
        elif kind == "restore":
            self._restore(jail, ip)
        elif kind in ("start", "stop"):
            yield self._changed(kind, jail, at)
        else:
            self._configured(line)

    def _ban(self, jail: str, ip: str, at: float) -> Iterator[Event]:
        key = jail, ip
        if self._is_restored(key, at):
            self._restore(jail, ip)
            return
        for unban in self._unbans.of(jail, ip):
            yield from self._ended(unban)
        if key in self._open:  # its end is not in the log
            yield self._decided(key, None)
        failures = self._found.pop((jail.encode(), ip.encode()), None)
        self._tally.counted += failures or 0
        self._last[key] = at
        self._open[key] = self._event("ban", jail, ip, at, at, failures=failures)
        if key in self._early and at - self._early[key][1] < _STOPPING:
            yield from self._lasts(key, self._early.pop(key)[0], at)
        if len(self._open) > MOST_OPEN:
            yield self._decided(next(iter(self._open)), None)

    def _is_restored(self, key: _Key, at: float) -> bool:
        """Return whether a "Ban" is one restored by fail2ban 0.9: it has no failures since the start."""
        recently = at - self._started.get(key[0], 0.0) < _RESTORING
        return self._version == "0.9" and recently and (key[0].encode(), key[1].encode()) not in self._found

    def _restore(self, jail: str, ip: str) -> None:
        self._unbans.restored(jail, ip)
        self._tally.restored += (jail, ip) not in self._last

    def _prolong(self, jail: str, text: str, at: float) -> Iterator[Event]:
        increase = _INCREASE.fullmatch(text)
        ip, bantime = (increase[1], seconds_of(increase[2])) if increase else (text, None)
        if (jail, ip) in self._open:
            yield from self._lasts((jail, ip), bantime, at)
        else:  # the observer's thread was faster than the jail's
            if (jail, ip) in self._early:
                yield self._late((jail, ip))
            self._early[jail, ip] = bantime, at

    def _lasts(self, key: _Key, bantime: int | None, at: float) -> Iterator[Event]:
        """Yield a ban held back, and its prolongation."""
        yield self._decided(key, bantime)
        yield self._event("prolong", *key, self._last[key], at, bantime=bantime)

    def _late(self, key: _Key) -> Event:
        """Return a prolongation without a following ban line: it belongs to the previous ban, if any."""
        bantime, at = self._early.pop(key)
        return self._event("prolong", *key, self._last.get(key, at), at, bantime=bantime)

    def _ended(self, unban: Event) -> Iterator[Event]:
        """Yield an unban, after its ban, whose time it determines."""
        key = unban.jail, unban.ip
        ban = self._open.get(key)
        if ban is not None and ban.at <= unban.recorded_at:
            by_a_stop = self._unbans.is_by_a_stop(unban)
            bantime = None if by_a_stop else self._times.of_ended(unban.jail, unban.recorded_at - ban.at)
            yield self._decided(key, bantime)
        yield unban

    def _decided(self, key: _Key, bantime: int | None) -> Event:
        """Return a ban held back, with its time, by default the usual one of its jail."""
        return self._open.pop(key)._replace(bantime=self._times.usual(key[0]) if bantime is None else bantime)

    def _changed(self, kind: str, jail: str, at: float) -> Event:
        self._unbans.changed(jail, kind)
        if kind == "start":
            self._started[jail] = at
        return self._event(kind, jail, "", at, at)

    def _configured(self, line: Line) -> None:
        """Process a line about the start of fail2ban."""
        if line.kind == "version":
            self._version = line.text
        elif line.kind == "new":
            self._new_jail = line.jail
        elif self._new_jail:
            self._times.configure(self._new_jail, int(line.text))

    def _event(
        self, kind: str, jail: str, ip: str, at: float, recorded_at: float, *, failures: int | None = None,
        bantime: int | None = None,
    ) -> Event:  # fmt: skip
        return Event.of(
            kind, jail, ip, at, self._host, "log", recorded_at=recorded_at, failures=failures, bantime=bantime,
            history=self._history,
        )  # fmt: skip


class _Unbans:
    """Unbans held back until it is known whether they ended their bans: a start restores what a stop unbanned."""

    def __init__(self) -> None:
        self._young: dict[str, list[Event]] = {}
        self._stopped: dict[str, dict[str, Event]] = {}
        self._started: dict[str, dict[str, Event]] = {}

    def wait(self, unban: Event) -> None:
        """Hold an unban back."""
        self._young.setdefault(unban.jail, []).append(unban)

    def older(self, jail: str, before: float) -> Iterator[Event]:
        """Yield a jail's unbans from before a time (UTC epoch seconds) that no stop caused."""
        held = self._young.get(jail, [])
        while held and held[0].recorded_at < before:
            yield held.pop(0)

    def of(self, jail: str, ip: str) -> list[Event]:
        """Return the unbans of an id that is banned again: no stop caused them."""
        held = self._young.get(jail, [])
        found = [event for event in held if event.ip == ip]
        if found:
            self._young[jail] = [event for event in held if event.ip != ip]
        return found

    def changed(self, jail: str, kind: str) -> None:
        """Process a jail's start or stop."""
        if kind == "stop":
            self._stopped.setdefault(jail, {}).update({event.ip: event for event in self._young.pop(jail, ())})
        else:
            self._started.setdefault(jail, {}).update(self._stopped.pop(jail, {}))

    def restored(self, jail: str, ip: str) -> None:
        """Process a restored ban."""
        self._started.get(jail, {}).pop(ip, None)

    def is_by_a_stop(self, unban: Event) -> bool:
        """Return whether a stop caused an unban, which then does not give the ban's time."""
        return unban.ip in self._started.get(unban.jail, {})

    def rest(self) -> Iterator[Event]:
        """Yield unbans that no start undid, except those at a stop whose start is still to come."""
        for held in self._young.values():
            yield from held
        for started in self._started.values():
            yield from started.values()


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
