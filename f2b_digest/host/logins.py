"""Logins from other hosts, from wtmp, and from sshd's lines in the journal and in syslog's files.

The end of a log line is chosen by the client: a user name can contain "Accepted password for root from 192.0.2.1". Only
a line that matches sshd's form completely, from its tag on, is accepted. btmp (failed logins) is not read.
"""

import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from f2b_digest.host import programs
from f2b_digest.model.host_context import Login

log = logging.getLogger(__name__)
WTMP = Path("/var/log/wtmp")
SYSLOG_FILES = tuple(map(Path, ("/var/log/auth.log.1", "/var/log/auth.log", "/var/log/secure.1", "/var/log/secure")))
"""Debian's and Red Hat's names."""
DEADLINE = 10.0
"""Deadline in seconds for each program; partial output is used, the newest first."""
MOST = 32_000_000
"""Maximum bytes of each program's output: twice what `LINES` need."""
TAIL = 20_000_000
"""Bytes read from the end of each file."""
AT_MOST = 10_000
"""Maximum number of logins; older ones are dropped."""
LINES = 50_000
"""Lines requested from a program: the same users log in repeatedly."""
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


@dataclass(frozen=True)
class Raw:
    """Raw login records, unparsed."""

    wtmp: bytes = b""
    journal: bytes = b""
    files: tuple[int, ...] = ()
    """Descriptors of log files, which `parse` closes."""
    unseen: bool = False
    """Whether sshd's lines are only where this user may not read, or were not read completely in time."""


def gather(
    since: float,
    wtmp: Path = WTMP,
    files: Sequence[Path] = SYSLOG_FILES,
    journal: Sequence[str | Path] = (),
) -> Raw:
    """Run `last` and journalctl, side by side, and open the log files that were written to since a time (UTC epoch s).

    `journal` are options for journalctl. Takes up to the deadline.
    """
    with ThreadPoolExecutor(2) as pool:
        told = pool.submit(_from_wtmp, wtmp)
        said = pool.submit(programs.output, journal_command(since, journal), DEADLINE, MOST)
        opened, closed = _open(files, since)
    there, readable = _journal(journal)
    seen = bool(opened) or (there and readable and said.result().complete)
    if closed or (there and not seen):
        log.info("logins: may not read %s", ", ".join([*closed, *(["the journal"] if there and not seen else [])]))
    unseen = not seen and (bool(closed) or there)
    return Raw(told.result(), said.result().text, tuple(opened), unseen)


def find(
    since: float,
    now: float,
    wtmp: Path = WTMP,
    files: Sequence[Path] = SYSLOG_FILES,
    journal: Sequence[str | Path] = (),
) -> tuple[Login, ...]:
    """Gather, and parse."""
    return parse(gather(since, wtmp, files, journal), since, now)[0]


def parse(raw: Raw, since: float, now: float) -> tuple[tuple[Login, ...], bool]:
    """Return the newest login of each address and user since a time, newest first; times are UTC epoch seconds.

    Logins from this host itself (loopback) do not count. Second, whether every log could be read to its end.
    """
    whole = True
    newest: dict[tuple[str, str], float] = {}
    for source in (from_wtmp(raw.wtmp), from_journal(raw.journal), *(from_file(file, now) for file in raw.files)):
        try:
            for login in source:
                ip = _other_host(login.ip)
                if ip and since <= login.at <= now and login.at > newest.get((ip, login.user), 0.0):
                    newest[ip, login.user] = login.at
        except OSError as error:
            whole = False
            log.warning("a log of logins could not be read to its end: %s", error.strerror)
    latest = sorted(newest.items(), key=lambda item: item[1], reverse=True)[:AT_MOST]
    return tuple(Login(ip, user, at) for (ip, user), at in latest), whole


def _from_wtmp(path: Path) -> bytes:
    """Return the output of util-linux's `last`, the newest first."""
    if not os.path.isfile(path):  # noqa: PTH113 - never raises
        return b""
    command = ["last", "-i", "-w", "--time-format", "iso", "-n", str(LINES), "-f", str(path)]
    return programs.output(command, DEADLINE, MOST).text


def _open(files: Sequence[Path], since: float) -> tuple[list[int], list[str]]:
    """Open regular files without following symlinks; return descriptors, and the names of unreadable ones."""
    opened, closed = [], []
    for file in files:
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            closed.append(str(file))
        else:
            status = os.fstat(descriptor)
            regular = stat.S_ISREG(status.st_mode)
            if regular and status.st_mtime >= since:
                opened.append(descriptor)
                continue
            os.close(descriptor)
            if not regular:
                closed.append(str(file))
    return opened, closed


def _journal(where: Sequence[str | Path] = ()) -> tuple[bool, bool]:
    """Return whether there is a journal, and whether this user may read all of it; journalctl does not say."""
    folders = [Path(where[-1])] if where else [Path("/var/log/journal"), Path("/run/log/journal")]
    files = [file for folder in folders for file in folder.glob("**/system.journal")]
    return bool(files), all(os.access(file, os.R_OK) for file in files)


def from_wtmp(said: bytes) -> Iterator[Login]:
    """Yield the logins in `last`'s output, the newest first."""
    for line in _lines(said):
        if found := _LAST.fullmatch(line):
            with suppress(ValueError, OverflowError):
                yield Login(found["ip"], found["user"], datetime.fromisoformat(found["time"]).timestamp())


def journal_command(since: float, where: Sequence[str | Path] = ()) -> list[str]:
    """Return the journalctl command for sshd's lines, the newest first.

    Only from root's processes, by the journal's trusted fields: no other user can impersonate sshd.
    """
    return [
        "journalctl", *map(str, where), "--quiet", "--no-pager", "--output=json", "--reverse", f"--lines={LINES}",
        "--output-fields=MESSAGE", f"--since=@{max(0, int(since))}", "--grep=^Accepted ",
        "SYSLOG_IDENTIFIER=sshd", "SYSLOG_IDENTIFIER=sshd-session", "_UID=0",
    ]  # fmt: skip


def from_journal(said: bytes) -> Iterator[Login]:
    """Yield the logins in journalctl's output, the newest first."""
    for line in _lines(said):
        with suppress(
            ValueError, KeyError, TypeError, OverflowError, RecursionError
        ):  # a message can be a list of bytes
            entry = json.loads(line)
            if found := _ACCEPTED.fullmatch(entry["MESSAGE"]):
                yield Login(found["ip"], found["user"], int(entry["__REALTIME_TIMESTAMP"]) / 1e6)


def from_file(descriptor: int, now: float) -> Iterator[Login]:
    """Yield sshd's logins in an open syslog file, which is closed at the end, the oldest first. Raises OSError."""
    with os.fdopen(descriptor, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL))
        lines = file.read(TAIL).split(b"\n")
    for line in lines[size > TAIL :]:  # the first line may be incomplete
        if b": Accepted " in line:
            tagged = _TAGGED.fullmatch(line.decode("utf-8", "replace").rstrip())
            found = tagged and _ACCEPTED.fullmatch(tagged["message"])
            at = tagged and _time(tagged["time"], now)
            if found and at:
                yield Login(found["ip"], found["user"], at)


def _time(text: str, now: float) -> float | None:
    """Return a syslog time as UTC epoch seconds: ISO 8601, or local time without a year, within the last year."""
    try:
        if text[0].isdigit():
            return datetime.fromisoformat(text).timestamp()
        month = _MONTHS.index(text[:3]) + 1
        day, (hour, minute, second) = int(text[4:6]), map(int, text[7:].split(":"))
        for year in (time.localtime(now).tm_year, time.localtime(now).tm_year - 1):
            at = time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
            if at <= now + 3600:  # the clock may have been set back
                return min(at, now)
    except (ValueError, OverflowError):
        pass
    return None


def _other_host(text: str) -> str | None:
    """Return an address as fail2ban writes it; None if invalid or loopback."""
    try:
        ip = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or ip
    return None if ip.is_loopback or ip.is_unspecified else str(ip)


def _lines(said: bytes) -> list[str]:
    return said.decode("utf-8", "replace").split("\n")
