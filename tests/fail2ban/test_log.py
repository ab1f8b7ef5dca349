"""fail2ban's logs as events: every form of a line, what lines mean together, and real logs against a naive count."""

import bz2
import gzip
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from f2b_digest.fail2ban import ban_times, history
from f2b_digest.fail2ban.history import Tally
from f2b_digest.model.event import Event
from tests.support.figures import Keep
from tests.support.histories import FOLDER

LOGS = sorted((FOLDER / "logs").glob("*")) if (FOLDER / "logs").is_dir() else []
AT = "2026-11-19 04:00:00,635"
TAIL = "fail2ban.actions        [20514]: NOTICE  [sshd]"
FOUND = "fail2ban.filter         [20514]: INFO    [sshd] Found"
STARTS = "fail2ban.jail           [20514]: INFO    Jail 'sshd'"


def read(path: Path, zone: str = "UTC") -> tuple[list[Event], Tally]:
    """Return the events of a log, and what was counted on the way."""
    tally = Tally()
    return list(history.read([path], "web1", ZoneInfo(zone), tally, history=True)), tally


def events(tmp_path: Path, *lines: str, zone: str = "UTC") -> list[Event]:
    """Return the events of lines, each of which is understood."""
    (tmp_path / "fail2ban.log").write_text("".join(f"{line}\n" for line in lines))
    found, tally = read(tmp_path / "fail2ban.log", zone)
    assert (tally.damaged, tally.torn) == (0, [])
    return found


def bans(found: list[Event]) -> list[Event]:
    """Return the bans only, by time."""
    return sorted((event for event in found if event.kind == "ban"), key=lambda event: event.at)


# ---- one line


@pytest.mark.parametrize(
    ("line", "jail", "time"),
    [
        (f"{AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        ("2026-11-19 04:00:00,635 fail2ban.actions[1]: NOTICE [sshd] Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        ("2010-01-31 16:59:21,315 fail2ban.actions: WARNING [ssh] Ban 192.0.2.7", "ssh", "2010-01-31 16:59:21.315"),
        ("2005-12-24 15:00:00,000 WARNING: SSH: Ban 192.0.2.7", "SSH", "2005-12-24 15:00:00"),
        ("2024-06-01 12:00:00 fail2ban.actions [99]: NOTICE [sshd] Ban 192.0.2.7", "sshd", "2024-06-01 12:00:00"),
        ("2019-01-07 16:24:57 fail2ban.filter  [1]: NOTICE  [recidive] Ban 192.0.2.7", "recidive",
         "2019-01-07 16:24:57"),
        (f"{AT} fail2ban.actions        [1]: HINWEIS  [sshd] Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"{AT} fail2ban.actions        [1]: УВЕДОМЛЕНИЕ  [sshd] Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"{AT} 7F1234 fail2ban.actions [1]: NOTICE [sshd] Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        # printed by grep, Docker and kubectl
        (f"/var/log/fail2ban.log.2.gz:{AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"fail2ban.log:123:{AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"fail2ban  | {AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"fail2ban-1  | 2026-11-19T04:00:00.635330157Z {AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"[pod/fail2ban-x2/fail2ban] {AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        # syslog and journal
        ("2026-09-06T01:07:00.000000+02:00 vmi3 fail2ban.actions[9]: NOTICE [sshd] Ban 192.0.2.7", "sshd",
         "2026-09-05 23:07:00"),
        ("2026-09-06T01:07:00+0200 web1 fail2ban[9]: fail2ban.actions [9]: NOTICE [sshd] Ban 192.0.2.7", "sshd",
         "2026-09-05 23:07:00"),
        (f"Nov 19 05:00:00 web1 fail2ban-server[9]: {AT} {TAIL} Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
        (f"Nov 19 04:00:00 fail2ban.example.org python3[9]: {AT} {TAIL} Ban 192.0.2.7", "sshd",
         "2026-11-19 04:00:00.635"),
        ("Thu 2026-11-19 04:00:00 UTC web1 fail2ban.actions[9]: NOTICE [sshd] Ban 192.0.2.7", "sshd",
         "2026-11-19 04:00:00"),
        ("1795060800.635000 web1 fail2ban.actions[9]: NOTICE [sshd] Ban 192.0.2.7", "sshd", "2026-11-19 04:00:00.635"),
    ],
)  # fmt: skip
def test_each_form_of_a_line_is_understood(tmp_path: Path, line: str, jail: str, time: str) -> None:
    """Of any version, target and printer. Times without a zone are local, here UTC."""
    [ban] = events(tmp_path, line)
    at = datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
    assert (ban.kind, ban.jail, ban.ip, round(ban.at, 3)) == ("ban", jail, "192.0.2.7", at)


@pytest.mark.parametrize(
    "line",
    [
        f"{AT} {FOUND} x fail2ban.actions [1]: NOTICE [sshd] Ban 8.8.8.8",
        f"{AT} {FOUND} [sshd] Ban 8.8.8.8",
        f"Nov 19 04:00:00 web1 sshd[7]: Invalid user {TAIL} Ban 8.8.8.8 from 192.0.2.1",
        "Nov 19 04:00:00 web1 sshd[7]: fail2ban.actions[1]: NOTICE [sshd] Ban 8.8.8.8 from 192.0.2.1",
        f"nginx | GET /{AT} {TAIL} Ban 8.8.8.8",
    ],
)
def test_a_line_that_an_attacker_wrote_is_no_ban(tmp_path: Path, line: str) -> None:
    """What is found can hold anything, and so can the log of another program that shares a file with fail2ban's."""
    (tmp_path / "log").write_text(f"{AT} {TAIL} Ban 192.0.2.7\n{line}\n")
    found, _ = read(tmp_path / "log")
    assert [event.ip for event in found] == ["192.0.2.7"]


@pytest.mark.parametrize(
    "line",
    [
        f"{AT} {FOUND} x{' ' * 300_000}y", f"{AT} {TAIL}{' ' * 300_000}Ban 192.0.2.8", f"x Ban {' ' * 300_000}y",
        "Ban " * 75_000, f"{'a' * 300_000}:{AT} {TAIL} Ban 192.0.2.8",
    ],
    ids=["found", "spaces", "like a ban", "bans", "file name"],
)  # fmt: skip
def test_a_long_line_that_an_attacker_chose_takes_no_time(tmp_path: Path, line: str) -> None:
    """No expression tries all ways to divide it: one would take hours."""
    (tmp_path / "log").write_text(f"{AT} {TAIL} Ban 192.0.2.7\n{line}\n")
    start = time.process_time()
    found, _ = read(tmp_path / "log")
    assert "192.0.2.7" in {ban.ip for ban in bans(found)}
    assert time.process_time() - start < 2


def test_what_looks_like_a_ban_and_is_not_understood_is_counted_and_shown(tmp_path: Path) -> None:
    """Not what is known to be no new ban."""
    lines = ("{'msg': 'Ban 192.0.2.8'}", f"2026-11-19 {TAIL} Ban name", f"{AT} {TAIL} Restore Ban 192.0.2.7")
    (tmp_path / "log").write_text("\n".join((*lines, f"{AT} {TAIL} Repeal Ban 192.0.2.7", f"{AT} {TAIL} Ban a b")))
    found, tally = read(tmp_path / "log")
    assert (len(bans(found)), tally.damaged, tally.restored) == (1, 2, 1)
    assert "192.0.2.8" in tally.first_damaged


def test_dates_without_a_year_have_that_of_the_file_or_of_a_failure(tmp_path: Path) -> None:
    """The year changes at New Year. Failures found there carry a full date, so no note is needed."""
    lines = [
        f"{day} 14:23:01 web1 fail2ban.actions[1]: NOTICE [sshd] Ban 192.0.2.7"
        for day in ("Nov  3", "Dec 31", "Jan  1")
    ]
    path = tmp_path / "syslog"
    path.write_text("\n".join(lines))
    os.utime(path, (1_700_000_000, 1_700_000_000))  # 14 November 2023
    found, tally = read(path)
    years = [datetime.fromtimestamp(ban.at, UTC).year for ban in bans(found)]
    assert (years, len(tally.notes)) == ([2022, 2022, 2023], 1)
    hint = "Jan  1 14:24:00 web1 fail2ban.filter[1]: INFO [sshd] Found 192.0.2.7 - 2020-01-01 14:24:00"
    path.write_text("\n".join((*lines, hint)))
    found, tally = read(path)
    years = [datetime.fromtimestamp(ban.at, UTC).year for ban in bans(found)]
    assert (years, tally.notes) == ([2019, 2019, 2020], [])


def test_what_the_observer_finds_again_is_no_other_failure(tmp_path: Path) -> None:
    """It repeats each failure of an address that was banned before."""
    again = "fail2ban.observer [1]: INFO [sshd] Found 192.0.2.7, bad - 2026-11-19 04:00:00, 1 # -> 2, Ban"
    (tmp_path / "log").write_text(
        f"{AT} {FOUND} 192.0.2.7 - 2026-11-19 04:00:00\n{AT} {again}\n{AT} {TAIL} Ban 192.0.2.7\n"
    )
    found, tally = read(tmp_path / "log")
    assert ([ban.failures for ban in bans(found)], tally.failures, tally.counted) == ([1], 1, 1)


# ---- lines together


def lasting(seconds: float, number: int = 7) -> list[str]:
    """Return a ban and its unban after this many seconds, from a time that the number tells."""
    start = 1_795_000_000.0 + number * 100_000
    stamps = [datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3] for at in (start, start + seconds)]
    return [f"{stamps[0]} {TAIL} Ban 192.0.2.{number}", f"{stamps[1]} {TAIL} Unban 192.0.2.{number}"]


def test_an_unban_tells_the_ban_time(tmp_path: Path) -> None:
    """fail2ban unbans some seconds late, or early by the time between the failure and the ban."""
    lines = [
        line for number, seconds in enumerate((600.77, 599.2, 86_391.5, 3_655)) for line in lasting(seconds, number)
    ]
    assert [ban.bantime for ban in bans(events(tmp_path, *lines))] == [600, 600, 86_400, 3_655]


def test_a_ban_that_goes_on_lasts_as_its_jails_do(tmp_path: Path) -> None:
    """By what the jail is configured to, or by what its bans lasted."""
    usual = [line for number in range(3) for line in lasting(600, number)]
    assert bans(events(tmp_path, *usual, f"{AT} {TAIL} Ban 192.0.2.9"))[-1].bantime == 600
    configured = (
        f"{AT} fail2ban.jail [1]: INFO Creating new jail 'sshd'", f"{AT} fail2ban.actions [1]: INFO   banTime: 1800",
    )  # fmt: skip
    assert bans(events(tmp_path, *configured, f"{AT} {TAIL} Ban 192.0.2.9"))[-1].bantime == 1800
    assert bans(events(tmp_path, f"{AT} {TAIL} Ban 192.0.2.9"))[-1].bantime is None


def test_a_ban_that_was_lifted_had_its_jails_time(tmp_path: Path) -> None:
    """The unban says when it ended; the jail bans anew for as long as before."""
    lines = [line for number, seconds in enumerate((600, 600, 600, 45, 600)) for line in lasting(seconds, number)]
    found = events(tmp_path, *lines)
    assert [ban.bantime for ban in bans(found)] == [600] * 5
    assert sum(event.kind == "unban" for event in found) == 5


def test_a_jail_that_is_configured_anew_is_believed() -> None:
    """The most recent bans decide, not those of last year."""
    times = ban_times.BanTimes()
    for seconds in (*[600.0] * 20, *[3600.0] * 20):
        times.of_ended("sshd", seconds)
    assert times.usual("sshd") == 3600


def test_a_ban_again_right_after_an_unban_has_its_own_time(tmp_path: Path) -> None:
    """Within the minute in which an unban may still be one of a stop."""
    lines = (
        f"2026-11-19 04:00:00,000 {TAIL} Ban 192.0.2.7", f"2026-11-19 04:10:00,500 {TAIL} Unban 192.0.2.7",
        f"2026-11-19 04:10:05,000 {TAIL} Ban 192.0.2.7", f"2026-11-19 04:20:05,500 {TAIL} Unban 192.0.2.7",
    )  # fmt: skip
    assert [ban.bantime for ban in bans(events(tmp_path, *lines))] == [600, 600]


def test_an_increase_that_precedes_its_ban_is_of_that_ban(tmp_path: Path) -> None:
    """The observer is another thread than the jail."""
    increase = "fail2ban.observer [20514]: NOTICE [sshd] Increase Ban 192.0.2.7"
    found = events(
        tmp_path,
        f"2026-11-18 04:00:00,000 {TAIL} Ban 192.0.2.7", f"2026-11-18 04:10:00,500 {TAIL} Unban 192.0.2.7",
        f"2026-11-19 04:00:00,000 {increase} (2 # 20m -> 2026-11-19 04:20:00)",
        f"2026-11-19 04:00:00,100 {TAIL} Ban 192.0.2.7",
    )  # fmt: skip
    [prolonged] = [event for event in found if event.kind == "prolong"]
    assert [ban.bantime for ban in bans(found)] == [600, 1200]
    assert (prolonged.at, prolonged.bantime) == (bans(found)[1].at, 1200)


@pytest.mark.parametrize(("version", "expected"), [("0.8.6", 2), ("0.9.6", 1)])
def test_what_fail2ban_09_restores_is_no_new_ban(tmp_path: Path, version: str, expected: int) -> None:
    """It calls that a ban as well; 0.8 has nothing to restore from. What failed since its start is banned anew."""
    lines = (
        f"2026-11-18 04:00:00,000 {TAIL} Ban 192.0.2.7",
        f"2026-11-18 04:05:00,000 {TAIL} Unban 192.0.2.7", f"2026-11-18 04:05:00,500 {STARTS} stopped",
        f"2026-11-18 04:05:10,000 fail2ban.server [1]: INFO Changed logging target to /log for Fail2ban v{version}",
        f"2026-11-18 04:05:11,000 {STARTS} started",
        f"2026-11-18 04:05:12,000 {TAIL} Ban 192.0.2.7",
        f"2026-11-18 04:05:13,000 {FOUND} 192.0.2.8", f"2026-11-18 04:05:14,000 {TAIL} Ban 192.0.2.8",
    )  # fmt: skip
    counted = Counter(ban.ip for ban in bans(events(tmp_path, *lines)))
    assert counted == {"192.0.2.7": expected, "192.0.2.8": 1}


# ---- files


@pytest.mark.parametrize("cut", [5, 20, 200])
def test_a_torn_file_is_named_and_the_others_are_read(tmp_path: Path, cut: int) -> None:
    """Wherever the file breaks off, nothing before that is lost."""
    lines = "".join(f"2026-11-18 04:{n:02}:00,000 {TAIL} Ban 192.0.2.{n}\n" for n in range(60))
    whole, torn, damaged = tmp_path / "log", tmp_path / "log.2.gz", tmp_path / "log.3.bz2"
    whole.write_text(f"{AT} {TAIL} Ban 198.51.100.1\n")
    torn.write_bytes(gzip.compress(lines.encode())[:cut])
    damaged.write_bytes(bz2.compress(lines.encode())[:cut])
    tally = Tally()
    found = list(history.read([torn, damaged, whole], "web1", ZoneInfo("UTC"), tally, history=True))
    assert "198.51.100.1" in {event.ip for event in found}
    assert sorted(line.partition(" ")[0] for line in tally.torn) == [f"{torn}:", f"{damaged}:"]


def seconds_of_day(line: str) -> float:
    """Return the time of day of a line that has no whole date."""
    found = re.search(r"(\d+):(\d+):(\d+)", line)
    assert found
    hours, minutes, seconds = map(int, found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def naive(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """Yield verb, jail, address and time of a log's lines, read as a beginner would."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in text.decode().splitlines():
        said = re.search(r"(?:\[([\w-]+)\]|(SSH):) (Ban|Unban|Found|Increase Ban) ([\d.:a-f]+)", line)
        if said:
            whole = re.search(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", line)
            at = datetime.fromisoformat(whole[0]).replace(tzinfo=UTC).timestamp() if whole else seconds_of_day(line)
            yield said[3], said[1] or said[2], said[4], at


@pytest.mark.slow
@pytest.mark.skipif(not LOGS, reason="needs the real histories, of which F2B_DIGEST_HISTORIES is the folder")
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_nothing_of_a_real_log_is_lost(path: Path, figures: Keep) -> None:
    """Every ban, every failure before one, and the time of each ban that ended, as a naive count has them."""
    counted, failures, pending, begun = 0, 0, Counter[tuple[str, str]](), dict[tuple[str, str], float]()
    lasted: dict[tuple[str, str], list[float]] = {}
    for verb, jail, ip, at in naive(path):
        key = jail, ip
        if verb == "Found":
            pending[key] += 1
        elif verb == "Ban":
            counted, failures = counted + 1, failures + pending.pop(key, 0)
            begun[key] = at
        elif verb == "Unban" and key in begun:
            lasted.setdefault(key, []).append(at - begun.pop(key))
    found, tally = read(path)
    imported = bans(found)
    assert (len(imported), sum(ban.failures or 0 for ban in imported)) == (counted, failures)
    assert (tally.damaged, tally.torn) == (0, [])
    times: dict[tuple[str, str], list[int]] = {}
    for ban in imported:
        if ban.bantime is not None:
            times.setdefault((ban.jail, ban.ip), []).append(ban.bantime)
    for key, seconds in lasted.items():
        # A stop of fail2ban ended the shorter ones: their ban time is the jail's, and the unban is there.
        assert all(any(abs(known - each) <= 60 or known > each for known in times[key]) for each in seconds)
        assert len(times[key]) >= len(seconds)
    figures(
        "imported of real logs",
        counts={
            "bans": counted, "bans imported": len(imported), "failures before them": failures,
            "failures imported": sum(ban.failures or 0 for ban in imported),
            "ban times that the log tells": sum(map(len, lasted.values())),
            "ban times imported": sum(ban.bantime is not None for ban in imported),
        },
    )  # fmt: skip
