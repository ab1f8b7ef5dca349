"""Bans lifted manually are found by their unbans and reported; bans that ran out are not."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from f2b_digest.model.selection import Selection
from f2b_digest.store import Store
from tests.support.ntfy_server import NtfyServer
from tests.support.program import Command
from tests.support.store_making import NOON, Row, event, fill

HOUR = 3600.0


def lifted(path: Path, **wanted: object) -> tuple[list[tuple[object, ...]], int]:
    """Return the ids with times of ban and unban, in hours after noon, and the number."""
    with Store(path, read_only=True) as store, store.report(Selection(1, 10**6, **wanted)) as source:  # type: ignore[arg-type]
        found, in_all = source.lifted(ZoneInfo("UTC"))
    hours = [(each.ip, *((at.timestamp() - NOON) / HOUR for at in (each.banned_at, each.lifted_at))) for each in found]
    return hours, in_all


def ban(ip: str, at: float, **more: Any) -> Row:
    """Return a ban, recorded when it was."""
    return event(ip=ip, at=at, recorded_at=at, **more)


def unban(ip: str, at: float, when: float, **more: Any) -> Row:
    """Return an unban: its time is that of its ban, and it was recorded when it was."""
    return event(kind="unban", ip=ip, at=at, recorded_at=when, **more)


def test_what_was_lifted_by_hand_is_found(path: Path) -> None:
    """With the time of ban and unban, the latest first; also of a permanent ban, and of one that was prolonged."""
    fill(
        path,
        [
            ban(ip="192.0.2.1", at=NOON, bantime=7200),
            unban("192.0.2.1", NOON, NOON + HOUR),
            ban(ip="192.0.2.2", at=NOON, bantime=-1),
            unban("192.0.2.2", NOON, NOON + 30 * HOUR),
            ban(ip="192.0.2.3", at=NOON, bantime=600),
            event(kind="prolong", ip="192.0.2.3", at=NOON, bantime=86400),
            unban("192.0.2.3", NOON, NOON + 2 * HOUR),
        ],
    )
    assert lifted(path) == ([("192.0.2.2", 0, 30), ("192.0.2.3", 0, 2), ("192.0.2.1", 0, 1)], 3)


def test_what_ran_out_or_is_unknown_is_not(path: Path) -> None:
    """fail2ban itself unbans at the end, some seconds early; without the ban it is unknown."""
    fill(
        path,
        [
            ban(ip="192.0.2.1", at=NOON, bantime=3600),
            unban("192.0.2.1", NOON, NOON + HOUR),
            ban(ip="192.0.2.2", at=NOON, bantime=3600),
            unban("192.0.2.2", NOON, NOON + HOUR - 20),
            unban("192.0.2.3", NOON, NOON + 60),
            ban(ip="192.0.2.4", at=NOON, bantime=None),
            unban("192.0.2.4", NOON, NOON + 60),
        ],
    )
    assert lifted(path) == ([], 0)


def test_a_report_is_told_of_its_jails_only(path: Path) -> None:
    """And of many, the latest twenty, and how many there were."""
    rows = []
    for number in range(50):
        rows += [ban(ip=f"192.0.2.{number}", at=NOON, bantime=-1)]
        rows += [unban(f"192.0.2.{number}", NOON, NOON + number)]
    fill(path, [*rows, ban(jail="web", ip="::1", at=NOON), unban("::1", NOON, NOON + 9, jail="web")])
    found, in_all = lifted(path, jails=("sshd",))
    assert (len(found), in_all) == (20, 50)
    assert found[0][0] == "192.0.2.49"


# ---- urgency


CONFIGURATION = """
store = "{path}"
host = "web1"
[reports.urgent]
every = "5m"
jails = ["recidive"]
channels = ["out"]
unbans = {unbans}
[channels.out]
kind = "{kind}"
"""


@pytest.mark.parametrize("unbans", [True, False])
def test_an_urgent_report_tells_an_unban_if_it_is_to(
    unbans: bool, path: Path, tmp_path: Path, f2b_digest: Command
) -> None:
    """Though nothing was banned; each once; and of the report's jails only."""
    config = tmp_path / "config.toml"
    text = CONFIGURATION.format(path=path, unbans=str(unbans).lower(), kind="file")
    config.write_text(f'{text}folder = "{tmp_path}/out"\nformat = "json"\n')
    fill(path, [ban(jail="recidive", ip="192.0.2.1", at=NOON, bantime=-1)])
    assert f2b_digest("--config", config, "send").status == 0
    fill(path, [unban("192.0.2.1", NOON, NOON + 60, jail="recidive"), ban(jail="web", ip="::1", at=NOON)])
    for _ in range(2):
        assert f2b_digest("--config", config, "send").status == 0
    digests = [json.loads(file.read_text()) for file in (tmp_path / "out").iterdir()]
    assert sorted((each["totals"]["bans"], each["lifted_in_all"]) for each in digests) == (
        [(0, 1), (1, 0)] if unbans else [(1, 0)]
    )


@pytest.fixture(scope="module")
def ntfy() -> Iterator[NtfyServer]:
    """Provide a real ntfy server."""
    with NtfyServer("new") as server:
        yield server


PACE = 5.0
"""Seconds, instead of the recipe's five minutes."""


@pytest.mark.slow
def test_a_ban_is_on_the_phone_within_the_pace_and_ten_seconds(ntfy: NtfyServer, path: Path, tmp_path: Path) -> None:
    """From the action's append to a subscriber of a real ntfy, with `send urgent` started at a pace as cron does it."""
    config = tmp_path / "config.toml"
    text = CONFIGURATION.format(path=path, unbans="true", kind="ntfy")
    config.write_text(f'{text}url = "{ntfy.url}"\ntopic = "f2b-urgent"\ntoken = "{ntfy.token}"\n')
    config.chmod(0o600)
    command = [sys.executable, "-m", "f2b_digest", "--config", str(config)]
    over = threading.Event()

    def cron() -> None:
        while not over.wait(PACE):
            subprocess.run([*command, "send", "urgent"], check=False)

    scheduler = threading.Thread(target=cron)
    scheduler.start()
    delays: list[float] = []
    try:
        for number, pause in enumerate((0.0, 1.7, 3.4)):
            time.sleep(pause)
            banned = time.monotonic()
            subprocess.run([*command, "record", "--jail", "recidive", "--ip", f"192.0.2.{number}"], check=True)
            while f"192.0.2.{number}" not in str(ntfy.poll("f2b-urgent")):
                assert time.monotonic() - banned < PACE + 10, f"late; before: {delays}; load {os.getloadavg()}"
                time.sleep(1.0)
            delays.append(time.monotonic() - banned)
    finally:
        over.set()
        scheduler.join()
    assert max(delays) <= PACE + 10
