"""Parsing single lines of fail2ban's log, and their times. Sequences of lines are interpreted in `log`.

Written by fail2ban 0.6 and later: to a file, by syslog, journal or Docker, and printed by journalctl, `docker compose
logs` or grep. The text of a line can be chosen by an attacker, who may place what looks like a line of fail2ban's in
the log of another program. So a line is accepted only if everything before "fail2ban." has a known form.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from f2b_digest.fail2ban.files import Tally, TornError, lines_of, modified

_ZONE = rb"(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)(?= |$))?"
_STAMP = (
    rb"(?:\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?" + _ZONE + rb"(?: [A-Z]{3,5}(?= ))?"
    rb"|[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d(?:\.\d+)?|\d{10}\.\d+)"
)
_HEAD = re.compile(
    rb"\s*(?P<prefix>"
    rb"(?:[^\s|]{1,200}:(?=\d{4}-|[A-Z][a-z]{2} )|[\w./-]{1,100} *\| *|\[[\w./-]{1,200}\] )?"  # grep, Docker, kubectl
    rb"(?:[A-Z][a-z]{2} )?" + _STAMP + rb"(?: " + _STAMP + rb")?"
    rb"(?: +[\w.:-]{1,255})?"  # the host, or a thread
    rb"(?: (?:[\w./-]*(?:fail2ban|python|docker)[\w./-]*|[0-9a-f]{12})(?:\[\d+\])?:)?"
    rb"(?: " + _STAMP + rb")?)\s+"
    rb"fail2ban\.(?P<component>[a-z]+)[a-z.]*\s*(?:\[\d*\])?\s*:?\s+(?:[^\s\[\]:'.]+\s*:?\s+|(?=\[))"
)
_MESSAGE = re.compile(
    rb"\[(?P<jail>[^\]]*)\] (?P<verb>Ban|Unban|Increase Ban|Restore Ban|Found) (?P<text>.*)"
    rb"|Jail '(?P<its_jail>.*)' (?P<change>started|stopped)\s*$"
    rb"|Creating new jail '(?P<new>.*)'\s*$"
    rb"|\s*(?:Set )?banTime(?:: | = )(?P<bantime>-?\d+)\s*$"
    rb"|.*\bFail2ban v(?P<version>\d+\.\d+)",
    re.DOTALL,
)
_PLAIN_FOUND = re.compile(
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ fail2ban\.filter +\[\d+\]: INFO +"
    rb"\[([!-\\^-~]+)\] Found ([!-~]+)(?: - \d{4}-\d\d-\d\d [\d:.,]+)?$"
)
_PLAIN = re.compile(
    rb"(\d{4}-\d\d-\d\d) (\d\d:\d\d):(\d\d),(\d+) fail2ban\.[a-z]+ *\[\d+\]: [A-Z]+ +"
    rb"\[([^\]]*)\] (Ban|Unban) ([^\r\n]*)\s*$"
)
"""Fast path: nearly all relevant lines have one of these forms; the other expressions take five times as long."""
_OLDEST = re.compile(
    rb"(?P<prefix>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+) [A-Z]+: (?P<jail>[\w-]+): (?P<verb>Ban|Unban) (?P<text>\S+)\s*$"
)
_KINDS = {
    b"Ban": "ban", b"Unban": "unban", b"Increase Ban": "prolong", b"Restore Ban": "restore", b"Found": "found",
    b"started": "start", b"stopped": "stop",
}  # fmt: skip
_HINTS = (b"an ", b"Found ", b"Jail '", b"jail '", b"anTime", b"2ban v")
"""Fast path: each relevant line contains one of these; searching them costs a tenth of an expression."""
_LIKE_A_BAN = re.compile(rb"(?<!Restore )(?<!Repeal )\b(?:Ban|Unban) +(?:[0-9A-Fa-f]*[.:][0-9A-Fa-f.:]+|\S+\s*$)")
_ALREADY = re.compile(rb"\[([^\]]*)\] (.*) already banned\s*$", re.DOTALL)
_OF_AN_ADDRESS = ("found", "ban", "unban", "prolong", "restore")
_DATE_FOUND = re.compile(rb" - \d{4}-\d\d-\d\d [\d:.,]+$")
_ISO = re.compile(
    rb"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d):(\d\d)(?:[.,](\d+))?(?: ?(Z|UTC|GMT|[+-]\d\d:?\d\d)(?= |$))?(?!\S)"
)
_SYSLOG = re.compile(rb"([A-Z][a-z]{2}) ([ \d]?\d) (\d\d:\d\d):(\d\d)(?:\.(\d+))?")
_EPOCH = re.compile(rb"(?<![\d.])(\d{10}\.\d+)")
_YEAR = re.compile(rb"(?: - |-> )(\d{4}-\d\d-\d\d)")
_MONTHS = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
_AGAIN = 60
"""Seconds by which a line may be older than the previous one; if more, in the repeated hour, it is the second pass."""


class Line(NamedTuple):
    """A relevant line."""

    kind: str
    """"ban", "unban", "prolong", "restore", "start", "stop", "new" (jail), "bantime" or "version"."""
    jail: str
    """"" for "bantime" and "version", which follow the line of their jail or server."""
    text: str
    """What was banned; a number of seconds; a version like "0.9"."""
    at: float
    """UTC epoch seconds."""

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Jail and id, the key for counting failures."""
        return self.jail.encode(), self.text.encode()


def is_line(line: bytes) -> bool:
    """Return whether a line is from fail2ban's own log, in any form."""
    return _HEAD.match(line) is not None or _OLDEST.match(line) is not None


def read(path: Path, zone: ZoneInfo, tally: Tally, failures: dict[tuple[bytes, bytes], int]) -> Iterator[Line]:
    """Yield the relevant lines; those that look like a ban but cannot be parsed are counted in `tally`.

    Failures are summed in `failures`, by jail and id in UTF-8. Times without a zone are in `zone`.
    Raises SourceError.
    """
    clock = _Clock(path, zone, tally)
    newest = b""
    for line in lines_of(path):
        tally.lines += 1
        if b"] Found " in line and (found := _PLAIN_FOUND.match(line)):
            key = found[1], found[2]
            failures[key] = failures.get(key, 0) + 1
            tally.failures += 1
            if not newest:
                clock.saw(line)
            newest = line
        elif any(hint in line for hint in _HINTS):
            each = _understood(path, line, clock, tally)
            if each is not None and each.kind != "found":
                yield each
            elif each is not None:
                failures[each.key] = failures.get(each.key, 0) + 1
                tally.failures += 1
    if newest:
        clock.saw(newest)


def _understood(path: Path, line: bytes, clock: "_Clock", tally: Tally) -> Line | None:
    """Return a relevant line, or None."""
    if plain := _PLAIN.match(line):
        *stamp, jail, verb, text = plain.groups()
        at = clock.at(*stamp)
        if at is not None:
            tally.saw(at)
            return Line(_KINDS[verb], _text(jail), _text(text), at)
    head = _HEAD.match(line)
    message = _MESSAGE.match(line, head.end()) if head else _OLDEST.match(line)
    if message is None:
        if _LIKE_A_BAN.search(line):
            tally.lost(path, line)
        return None
    at = clock.seconds(head["prefix"] if head else message["prefix"])
    found = _line(message, head["component"] if head else b"actions", at or 0.0)
    if at is None:
        if found and found.kind in ("ban", "unban", "prolong"):
            tally.lost(path, line)
        return None
    tally.saw(at)
    return found


def failures_and_bans(path: Path, start: int = 0) -> Iterator[Line]:
    """Yield the failures that were found, and all that tells that somebody is banned, also the kind "already".

    From a place in the file on (bytes); times without a zone are this system's. Raises SourceError.
    """
    clock, tally = _Clock(path, None, Tally()), Tally()
    for line in lines_of(path, start):
        if b"] Found " in line and (found := _PLAIN_FOUND.match(line)):
            at = clock.at(line[:10], line[11:16], line[17:19], line[20:23])
            if at is not None:
                yield Line("found", _text(found[1]), _text(found[2]), at)
        elif any(hint in line for hint in _HINTS):
            each = _understood(path, line, clock, tally)
            if each is not None and each.kind in _OF_AN_ADDRESS:
                yield each
        elif b" already banned" in line and (head := _HEAD.match(line)) and (told := _ALREADY.match(line, head.end())):
            yield Line("already", _text(told[1]), _text(told[2]), clock.seconds(head["prefix"]) or 0.0)


def first_time(path: Path, zone: ZoneInfo | None, start: int = 0) -> float:
    """Return the time of a log's first line, in UTC epoch seconds; 0 where it has none, or cannot be read.

    With `start`, in bytes, of the first line after that.
    """
    clock = _Clock(path, zone, Tally())
    with contextlib.suppress(TornError):
        for line in lines_of(path, start):
            head = _HEAD.match(line) or _OLDEST.match(line)
            if head:
                return clock.seconds(head["prefix"]) or 0.0
    return 0.0


def _line(message: re.Match[bytes], component: bytes, at: float) -> Line | None:
    groups = message.groupdict()
    if groups["verb"]:
        kind, text = _KINDS[groups["verb"]], groups["text"]
        if kind == "found":
            if not component.startswith(b"filter"):  # the observer logs the same failure again
                return None
            text = _DATE_FOUND.sub(b"", text.rstrip())
        return Line(kind, _text(groups["jail"]), _text(text), at)
    if groups["change"]:
        return Line(_KINDS[groups["change"]], _text(groups["its_jail"]), "", at)
    for kind in ("new", "bantime", "version"):
        if groups[kind] is not None:
            jail, text = (groups[kind], b"") if kind == "new" else (b"", groups[kind])
            return Line(kind, _text(jail), _text(text), at)
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace").strip()


class _Clock:
    """Converts the times of one file to UTC; each minute is converted once."""

    def __init__(self, path: Path, zone: ZoneInfo | None, tally: Tally) -> None:
        """Take times without a zone for those of `zone`; None is this system's."""
        self._path, self._zone, self._tally = path, zone, tally
        self._minutes: dict[tuple[bytes, bytes, bytes], tuple[float, float]] = {}
        self._before = 0.0
        self._year = 0
        self._month = 0

    def saw(self, line: bytes) -> None:
        """Record the time of a line that begins with one."""
        at = self.seconds(line[:24])
        if at is not None:
            self._tally.saw(at)

    def seconds(self, prefix: bytes) -> float | None:
        """Return the epoch seconds of a line, or None if invalid. In the repeated hour, time goes on.

        Of several times, one with a zone is used; else the last one, which is fail2ban's own.
        """
        stamps = _ISO.findall(prefix)
        if stamps:
            day, minute, second, fraction, offset = next((each for each in stamps if each[4]), stamps[-1])
        elif epoch := _EPOCH.search(prefix):
            return float(epoch[1])
        else:
            found = _SYSLOG.search(prefix)
            if not found or found[1] not in _MONTHS:
                return None
            day, (minute, second, fraction), offset = self._day(found[1], found[2]), found.groups()[2:], b""
        return self.at(day, minute, second, fraction, offset)

    def at(self, day: bytes, minute: bytes, second: bytes, fraction: bytes, offset: bytes = b"") -> float | None:
        """Return the epoch seconds of a time's parts."""
        key = day, minute, offset
        if key not in self._minutes:
            try:
                local = datetime.fromisoformat(f"{day.decode()} {minute.decode()}")
                self._minutes[key] = _both(local, _zone(offset) or self._zone)
            except ValueError:
                return None
        first, again = self._minutes[key]
        at = first if first >= self._before - _AGAIN or again <= first else again
        self._before = at
        return at + int(second) + (float(b"0." + fraction) if fraction else 0.0)

    def _day(self, month: bytes, day: bytes) -> bytes:
        """Return a date with its year, which syslog omits: it increases where the months wrap."""
        number = _MONTHS.index(month) + 1
        if not self._year:
            self._year = _first_year(self._path, self._tally)
        elif number < self._month - 6:
            self._year += 1
        self._month = number
        return f"{self._year}-{number:02}-{int(day):02}".encode()


def _both(local: datetime, zone: tzinfo | None) -> tuple[float, float]:
    return local.replace(tzinfo=zone).timestamp(), local.replace(tzinfo=zone, fold=1).timestamp()


def _zone(offset: bytes) -> tzinfo | None:
    if not offset:
        return None
    if not offset.startswith((b"+", b"-")):
        return UTC
    digits = offset[1:].replace(b":", b"")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(span if offset.startswith(b"+") else -span)


def _first_year(path: Path, tally: Tally) -> int:
    """Return the year of a file's first line of syslog's.

    "Found" lines and increased ban times have a full date. Without any, the last line is assumed to be
    not younger than the file, and a note says so.
    """
    month, day, turns = 0, 0, 0
    for line in lines_of(path):
        head = _HEAD.match(line)
        stamp = _SYSLOG.search(head["prefix"]) if head else None
        if head is None or stamp is None or stamp[1] not in _MONTHS:
            continue
        number = _MONTHS.index(stamp[1]) + 1
        turns += bool(month) and number < month - 6
        month, day = number, int(stamp[2])
        if hint := _YEAR.search(line, head.end()):
            year = int(hint[1][:4])
            apart = int(hint[1][5:7]) - month  # an increased ban ends in a later month
            return year - turns - (apart < -6) + (apart > 6)
    last = modified(path) + timedelta(days=1)
    year = last.year - ((month, day) > (last.month, last.day))
    tally.notes.append(f"{path}: its dates have no year; assuming the last one is from {year}")
    return year - turns
