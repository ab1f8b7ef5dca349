"""A night in which the clocks change, lived through by the whole program under freezegun."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from freezegun import freeze_time

from f2b_digest.cli import cli

CONFIGURATION = """
host = "web1"
timezone = "{zone}"
store = "bans.sqlite3"
[reports.daily]
channels = ["box"]
{more}
[channels.box]
kind = "file"
folder = "out"
"""


Run = Callable[..., str]


def program(tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str, more: str = "") -> Run:
    """Return the program as a function of its arguments and of the time, which returns what it prints."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIGURATION.format(zone=zone, more=more))

    def run(*words: str, at: str) -> str:
        with freeze_time(at):
            try:
                cli.main(["--config", str(config), *words], standalone_mode=False)
            except SystemExit as end:
                assert end.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "midnight", "bans", "next_midnight", "hours", "shown"),
    [
        pytest.param(
            "Europe/Paris",
            "2026-10-24T22:00:00Z",
            ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
            "2026-10-25T23:00:00Z",
            ("web1 · daily · Sun 25 Oct 2026\n", 25),
            ("2026-10-25T02:30:00+02:00", "2026-10-25T03:30:00+01:00"),
            id="the hour that comes twice",
        ),
        pytest.param(
            "Europe/Paris",
            "2026-03-28T23:00:00Z",
            ("2026-03-29T00:59:00Z", "2026-03-29T01:01:00Z"),
            "2026-03-29T22:00:00Z",
            ("web1 · daily · Sun 29 Mar 2026\n", 23),
            ("2026-03-29T01:59:00+01:00", "2026-03-29T03:01:00+02:00"),
            id="the hour that is left out",
        ),
        pytest.param(
            "Australia/Adelaide",
            "2026-04-04T13:30:00Z",
            ("2026-04-04T16:15:00Z", "2026-04-04T18:15:00Z"),
            "2026-04-05T14:30:00Z",
            ("web1 · daily · Sun 5 Apr 2026\n", 25),
            ("2026-04-05T02:45:00+10:30", "2026-04-05T03:45:00+09:30"),
            id="a zone of half an hour",
        ),
    ],
)
def test_a_digest_over_the_night_when_the_clocks_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str, midnight: str, bans: tuple[str, str],
    next_midnight: str, hours: tuple[str, int], shown: tuple[str, str],
) -> None:  # fmt: skip
    """The day has its 23 or 25 hours, times are the wall's, and a ban of a week ends after seven times 24 hours."""
    period, length = hours
    run = program(tmp_path, capsys, zone)
    run("record", "--jail", "sshd", "--ip", "192.0.2.9", at=midnight)
    run("send", at=midnight)
    for ban in bans:
        run("record", "--jail", "sshd", "--ip", "192.0.2.1", "--bantime", "604800", at=ban)
    text = run("preview", at=next_midnight)
    assert text.startswith(period)
    assert re.search(r"^ +2 bans\b", text, re.MULTILINE)
    (jail,) = json.loads(run("preview", "--format", "json", at=next_midnight))["jails"]
    (address,) = jail["worst"]
    assert (address["first"], address["last"]) == shown
    until = text.partition("until ")[2].split("\n")[0]
    assert until.endswith(f" {datetime.fromisoformat(shown[1]):%H:%M}"), (
        "168 hours later the wall shows the same time: no clock changed since"
    )
    run("send", at=next_midnight)
    history = run("--store", str(tmp_path / "bans.sqlite3"), "history", "--json", at=next_midnight)
    newest = json.loads(history)[0]
    assert (newest["period_end"] - newest["period_start"]) / 3600 == length


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zone", "every", "begin", "end", "shown"),
    [
        pytest.param(
            "Europe/Paris", "day", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z",
            "Sun 25 Oct 2026\n", id="25 hours",
        ),
        pytest.param(
            "Europe/Paris", "day", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z",
            "Sun 29 Mar 2026\n", id="23 hours",
        ),
        pytest.param(
            "Europe/Paris", "week", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z",
            "19 Oct 2026 – 25 Oct 2026\n", id="a week of 169 hours",
        ),
        pytest.param(
            "America/Sao_Paulo", "day", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z",
            "Sun 4 Nov 01:00 – Mon 5 Nov 2018 00:00\n", id="a day without a midnight",
        ),
        pytest.param(
            "America/Havana", "day", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z",
            "Sun 1 Nov 2026\n", id="a day with two midnights",
        ),
    ],
)  # fmt: skip
def test_a_calendar_digest_holds_its_period_to_the_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str, every: str, begin: str, end: str, shown: str
) -> None:
    """Bans of the first and the last second are in it, those around are not; it is sent once, though cron tries on."""
    run = program(tmp_path, capsys, zone, f'period = "calendar"\nevery = "{every}"')
    first, last = datetime.fromisoformat(begin), datetime.fromisoformat(end)
    second = timedelta(seconds=1)

    def ban(ip: str, when: datetime) -> None:
        run("record", "--jail", "sshd", "--ip", ip, at=when.isoformat())

    ban("192.0.2.1", first - second)
    assert run("send", at=begin) == ""
    ban("192.0.2.2", first)
    ban("192.0.2.3", last - second)
    assert run("send", at=(last - second).isoformat()) == ""
    ban("192.0.2.4", last)
    seven = (last + timedelta(hours=7)).isoformat()
    text = run("preview", at=seven)
    assert text.startswith(f"web1 · daily · {shown}")
    assert [ip in text for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")] == [False, True, True, False]
    run("send", at=seven)
    run("send", at=(last + timedelta(hours=8)).isoformat())
    history = json.loads(run("--store", str(tmp_path / "bans.sqlite3"), "history", "--json", at=seven))
    assert [row["bans"] for row in history] == [2, 1]
    assert (history[0]["period_start"], history[0]["period_end"]) == (first.timestamp(), last.timestamp())
    assert history[1]["period_end"] == first.timestamp()


@pytest.mark.slow
def test_a_daily_and_a_weekly_calendar_report_tell_the_same_week(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sent by cron each morning over the week in which the clocks change: seven days, and the week that they make."""
    more = """
period = "calendar"
[reports.weekly]
channels = ["box"]
period = "calendar"
"""
    run = program(tmp_path, capsys, "Europe/Paris", more)
    moment = datetime.fromisoformat("2026-10-18T23:30:00+00:00")
    for number in range(24 * 7 + 8):
        at = moment + timedelta(hours=number)
        run("record", "--jail", "sshd", "--ip", f"192.0.2.{number}", at=at.isoformat())
        if at.hour == 5:
            run("send", at=(at + timedelta(minutes=10)).isoformat())
    history = json.loads(run("--store", str(tmp_path / "bans.sqlite3"), "history", "--json", at=at.isoformat()))
    daily = [row["bans"] for row in history if row["report"] == "daily"]
    assert daily[::-1] == [23, 24, 24, 24, 24, 24, 25]
    ((weekly, hours),) = [
        (row["bans"], (row["period_end"] - row["period_start"]) / 3600) for row in history if row["report"] == "weekly"
    ]
    assert (weekly, hours) == (sum(daily), 169)
