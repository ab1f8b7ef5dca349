"""Who logged in from other hosts, by wtmp, by sshd's lines in the journal, and by those in syslog's files.

A log line's tail is chosen by whoever knocks: a user name can hold "Accepted password for root from 192.0.2.1". Only a
line counts that is sshd's from its tag on, and that says nothing else. wtmp's failed twin, btmp, is not read.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from f2b_digest.fail2ban_client import CRON
from f2b_digest.surroundings import Login

WTMP = Path("/var/log/wtmp")
SYSLOG_FILES = tuple(map(Path, ("/var/log/auth.log.1", "/var/log/auth.log", "/var/log/secure.1", "/var/log/secure")))
"""Debian's and Red Hat's names."""
DEADLINE = 5.0
"""Seconds for each program; what it said until then counts, the newest first."""
TAIL = 20_000_000
"""Bytes of each file that are read: its end."""
AT_MOST = 10_000
"""Logins; those that are further back are forgotten."""
LINES = 50_000
"""That a program is asked for: the same people log in again and again."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TAGGED = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))"
    r" \S+ sshd(?:-session)?\[\d+\]: (?P<message>Accepted .*)"
)
_ACCEPTED = re.compile(
    r"Accepted [\w/-]+ for (?P<user>\S{1,256}) from (?P<ip>[0-9A-Fa-f.:]+(?:%\S+)?) port \d+(?: ssh2)?(?:: \S.*)?"
)
_LAST = re.compile(
    r"(?P<user>\S+) +\S+ +(?P<ip>[0-9A-Fa-f.:]+) +(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d) .*"
)


def find(
    since: float,
    now: float,
    wtmp: Path = WTMP,
    files: Sequence[Path] = SYSLOG_FILES,
    journal: Sequence[str | Path] = (),
) -> tuple[Login, ...]:
    """Return the newest login of each address and user since a time, newest first; times are UTC epoch seconds.

    Logins from this host itself (loopback) do not count. `journal` are options that tell journalctl where to look.
    Places that are missing, or closed to this user, have none.
    """
    newest: dict[tuple[str, str], float] = {}
    for source in (from_wtmp(wtmp), from_journal(since, journal), *(from_file(file, since, now) for file in files)):
        with suppress(OSError):
            for login in source:
                ip = _other_host(login.ip)
                if ip and since <= login.at <= now and login.at > newest.get((ip, login.user), 0.0):
                    newest[ip, login.user] = login.at
    latest = sorted(newest.items(), key=lambda item: item[1], reverse=True)[:AT_MOST]
    return tuple(Login(ip, user, at) for (ip, user), at in latest)


def from_wtmp(path: Path) -> Iterator[Login]:
    """Yield what `last` of util-linux reads, the newest first."""
    if not path.is_file():
        return
    command = ["last", "-i", "-w", "--time-format", "iso", "-n", str(LINES), "-f", str(path)]
    for line in _lines(command):
        if found := _LAST.fullmatch(line):
            with suppress(ValueError):
                yield Login(found["ip"], found["user"], datetime.fromisoformat(found["time"]).timestamp())


def from_journal(since: float, where: Sequence[str | Path] = ()) -> Iterator[Login]:
    """Yield what sshd told the journal, the newest first.

    Only from processes of root, as the journal itself knows: no other user can speak as sshd.
    """
    command = [
        "journalctl", *map(str, where), "--quiet", "--no-pager", "--output=json", "--reverse", f"--lines={LINES}",
        "--output-fields=MESSAGE", f"--since=@{max(0, int(since))}", "--grep=^Accepted ",
        "SYSLOG_IDENTIFIER=sshd", "SYSLOG_IDENTIFIER=sshd-session", "_UID=0",
    ]  # fmt: skip
    for line in _lines(command):
        with suppress(ValueError, KeyError, TypeError):  # a message that is no text is a list of bytes
            entry = json.loads(line)
            if found := _ACCEPTED.fullmatch(entry["MESSAGE"]):
                yield Login(found["ip"], found["user"], int(entry["__REALTIME_TIMESTAMP"]) / 1e6)


def from_file(path: Path, since: float, now: float) -> Iterator[Login]:
    """Yield what sshd told syslog in a file that was written to since, the oldest first. Raises OSError."""
    if not path.is_file() or path.stat().st_mtime < since:
        return
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).split(b"\n")
    for line in lines[size > TAIL :]:  # the first of a tail is half a line
        if b": Accepted " in line:
            tagged = _TAGGED.fullmatch(line.decode("utf-8", "replace").rstrip())
            found = tagged and _ACCEPTED.fullmatch(tagged["message"])
            at = tagged and _time(tagged["time"], now)
            if found and at:
                yield Login(found["ip"], found["user"], at)


def _time(text: str, now: float) -> float | None:
    """Return a syslog time as UTC epoch seconds: ISO 8601, or this system's time without a year, of the last year."""
    try:
        if text[0].isdigit():
            return datetime.fromisoformat(text).timestamp()
        month = _MONTHS.index(text[:3]) + 1
        day, (hour, minute, second) = int(text[4:6]), map(int, text[7:].split(":"))
        for year in (time.localtime(now).tm_year, time.localtime(now).tm_year - 1):
            at = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
            if at <= now + 3600:  # a clock may have been set back
                return min(at, now)
    except (ValueError, OverflowError):
        pass
    return None


def _other_host(text: str) -> str | None:
    """Return an address as fail2ban would write it; None for none, and for this host's own loopback."""
    try:
        ip = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    return None if ip.is_loopback or ip.is_unspecified else str(ip)


def _lines(command: Sequence[str]) -> Iterable[str]:
    """Return what a program says until its end or the deadline; nothing if it cannot be run."""
    try:
        output = subprocess.run(
            command, env=dict(CRON), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=DEADLINE, check=False,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        output = output[: output.rfind(b"\n") + 1]
    except OSError:
        return []
    return output.decode("utf-8", "replace").split("\n")
