"""A night in which the clocks change, lived through by the whole program under freezegun."""

import json
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
[channels.box]
kind = "file"
folder = "out"
"""


@pytest.mark.parametrize(
    ("zone", "midnight", "bans", "next_midnight", "hours", "shown"),
    [
        pytest.param(
            "Europe/Paris",
            "2026-10-24T22:00:00Z",
            ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
            "2026-10-25T23:00:00Z",
            ("Sun 25 Oct 2026 00:00 to Mon 26 Oct 2026 00:00", 25),
            "25 Oct 02:30 – 03:30",
            id="the hour that comes twice",
        ),
        pytest.param(
            "Europe/Paris",
            "2026-03-28T23:00:00Z",
            ("2026-03-29T00:59:00Z", "2026-03-29T01:01:00Z"),
            "2026-03-29T22:00:00Z",
            ("Sun 29 Mar 2026 00:00 to Mon 30 Mar 2026 00:00", 23),
            "29 Mar 01:59 – 03:01",
            id="the hour that is left out",
        ),
        pytest.param(
            "Australia/Adelaide",
            "2026-04-04T13:30:00Z",
            ("2026-04-04T16:15:00Z", "2026-04-04T18:15:00Z"),
            "2026-04-05T14:30:00Z",
            ("Sun 5 Apr 2026 00:00 to Mon 6 Apr 2026 00:00", 25),
            "5 Apr 02:45 – 03:45",
            id="a zone of half an hour",
        ),
    ],
)
def test_a_digest_over_the_night_when_the_clocks_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zone: str, midnight: str, bans: tuple[str, str],
    next_midnight: str, hours: tuple[str, int], shown: str,
) -> None:  # fmt: skip
    """The day has its 23 or 25 hours, times are the wall's, and a ban of a week ends after seven times 24 hours."""
    period, length = hours
    config = tmp_path / "config.toml"
    config.write_text(CONFIGURATION.format(zone=zone))

    def run(*words: str, at: str) -> str:
        with freeze_time(at):
            try:
                cli.main(["--config", str(config), *words], standalone_mode=False)
            except SystemExit as end:
                assert end.code == 0
        return capsys.readouterr().out

    run("record", "--jail", "sshd", "--ip", "192.0.2.9", at=midnight)
    run("send", at=midnight)
    for ban in bans:
        run("record", "--jail", "sshd", "--ip", "192.0.2.1", "--bantime", "604800", at=ban)
    text = run("preview", at=next_midnight)
    assert period in text
    assert shown in text
    assert "2 bans" in text
    until = text.partition("until ")[2].split("\n")[0]
    assert until.endswith(shown.split(" – ")[1]), "168 hours later the wall shows the same time: no clock changed since"
    run("send", at=next_midnight)
    history = run("--store", str(tmp_path / "bans.sqlite3"), "history", "--json", at=next_midnight)
    newest = json.loads(history)[0]
    assert (newest["period_end"] - newest["period_start"]) / 3600 == length
