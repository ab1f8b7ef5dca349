"""Which digest `show` means, all of its addresses or one jail's, and the first lines of `history` and `status`."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from f2b_digest.cli import times
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill, query

DAY = 86400.0


@pytest.fixture
def week(f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Provide the program with a digest of `daily` at noon of each of four days, the last one on Thursday, now.

    The second, of Tuesday, is one of `weekly` as well.
    """
    config.write_text(config.read_text() + '[reports.weekly]\nchannels = ["out"]\n')
    for day in range(3, -1, -1):
        monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda day=day: NOON - day * DAY))
        fill(path, [event(ip=f"192.0.2.{day}", at=NOON - day * DAY - 60, recorded_at=NOON - day * DAY - 60)])
        reports = ("daily", "weekly") if day == 2 else ("daily",)
        assert f2b_digest("--config", config, "send", *reports).status == 0
    return lambda *words: f2b_digest("--config", config, *words)


@pytest.mark.parametrize(
    ("words", "number", "told"),
    [
        ((), 5, ""), (("last",), 5, ""), (("daily",), 5, ""), (("weekly",), 3, ""), (("4",), 4, ""), (("0002",), 2, ""),
        (("yesterday",), 4, ""), (("2026-11-18",), 4, ""), (("Wed",), 4, ""), (("today",), 5, ""),
        (("tuesday",), 3, "digest 3 (weekly); of the same day: 2 (daily)"), (("daily", "tuesday"), 2, ""),
        (("tuesday", "weekly"), 3, ""), (("weekly", "last"), 3, ""), (("monday",), 1, ""),
    ],
)  # fmt: skip
def test_a_digest_is_named_by_number_report_or_day(
    week: Command, words: tuple[str, ...], number: int, told: str
) -> None:
    """Where several are meant, it is the newest, and that is said."""
    ended = week("show", *words, "--format", "json")
    assert ended.status == 0
    assert told in ended.err if told else ended.err == ""
    document = json.loads(ended.out)
    day = {1: 3, 2: 2, 3: 2, 4: 1, 5: 0}[number]
    assert document["report"] == ("weekly" if number == 3 else "daily")
    assert f"192.0.2.{day}" in [address["ip"] for address in document["jails"][0]["worst"]]


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("99",), 1, "no digest 99 is stored"),
        (("2026-11-01",), 1, "no digest 2026-11-01 is stored"),
        (("weekly", "yesterday"), 1, "no digest weekly yesterday is stored"),
        (("dayly",), 2, "did you mean daily?"),
        (("--all", "--format", "raw"), 2, "cannot be combined with --all"),
        (("--all", "--format", "ntfy"), 2, "cannot be combined with --all"),
        (("--jail", "web"), 1, "has no ban of jail web (there is: sshd)"),
    ],
)
def test_what_is_no_digest_is_told(week: Command, words: tuple[str, ...], status: int, error: str) -> None:
    """In a line, with the names that there are."""
    ended = week("show", *words)
    assert (ended.status, ended.out) == (status, "")
    assert error in ended.err


@pytest.fixture
def crowd(f2b_digest: Command, config: Path, path: Path) -> Command:
    """Provide the program with a digest of 45 jails, and of a jail with 60 addresses more than a digest has."""
    fill(path, [event(jail=f"jail{n:02}", ip=f"198.51.100.{n}") for n in range(45)])
    fill(path, [event(ip=f"203.0.113.{n}", at=NOON + m, users=["anna"]) for n in range(110) for m in range(2)])
    assert f2b_digest("--config", config, "send").status == 0
    return lambda *words: f2b_digest("--config", config, *words)


def ips(document: dict[str, Any]) -> list[str]:
    """Return the addresses of a digest."""
    return [address["ip"] for jail in document["jails"] for address in jail["worst"]]


def test_all_of_a_digest_is_counted_from_its_events(crowd: Command) -> None:
    """The archive has the worst; with --all, each jail and address is there, and nothing is left out."""
    archived = json.loads(crowd("show", "--format", "json").out)
    whole = json.loads(crowd("show", "--all", "--format", "json").out)
    assert (len(archived["jails"]), len(ips(archived))) == (40, 50 + 39)
    assert (len(whole["jails"]), len(ips(whole))) == (46, 110 + 45)
    assert [whole["left_out"][what] for what in ("jails", "addresses", "bans")] == [0, 0, 0]
    assert whole["totals"] == archived["totals"]
    assert {key: whole[key] for key in ("facts", "start", "end", "users")} == {
        key: archived[key] for key in ("facts", "start", "end", "users")
    }
    text = crowd("show", "--all").out
    assert all(f"203.0.113.{n}" in text for n in range(110))
    assert "jail44" in text
    html = crowd("show", "--all", "--format", "html").out
    assert "203.0.113.109" in html


def test_a_jail_of_a_digest_is_shown_by_itself(crowd: Command) -> None:
    """Its sums are its own, also of one that the archive left out; a pattern takes several."""
    one = json.loads(crowd("show", "--jail", "jail44", "--format", "json").out)
    assert ([jail["name"] for jail in one["jails"]], one["totals"]["bans"]) == (["jail44"], 1)
    assert one["users"] is None
    many = json.loads(crowd("show", "1", "--jail", "jail*", "--all", "--format", "json").out)
    assert (many["totals"]["bans"], len(many["jails"])) == (45, 45)
    assert "203.0.113" not in crowd("show", "--jail", "jail44").out


def test_of_pruned_events_the_archive_tells(crowd: Command, path: Path) -> None:
    """What is shown then is said to be that."""
    archived = json.loads(crowd("show", "--format", "json").out)
    query(path, "DELETE FROM event WHERE id > 50")
    ended = crowd("show", "--all", "--format", "json")
    assert "pruned" in ended.err
    assert ips(json.loads(ended.out)) == ips(archived)
    ended = crowd("show", "--jail", "sshd", "--format", "json")
    assert "pruned" in ended.err
    assert json.loads(ended.out)["totals"]["bans"] == 220


def test_a_preview_of_one_jail(f2b_digest: Command, config: Path, path: Path) -> None:
    """Pending or past, by name or pattern; what is compared is that jail as well."""
    fill(path, [event(), event(jail="web"), event(jail="webdav"), event(at=NOON - 9 * DAY, jail="web")])
    for words, bans in (
        (("--jail", "web"), {"web": 2}),
        (("--jail", "web*"), {"web": 2, "webdav": 1}),
        (("--jail", "web", "--since", "yesterday"), {"web": 1}),
        (("--jail", "nothing"), {}),
    ):
        told = json.loads(f2b_digest("--config", config, "preview", *words, "--format", "json").out)
        assert {jail["name"]: jail["bans"] for jail in told["jails"]} == bans
        assert told["totals"]["bans"] == sum(bans.values())


def test_status_begins_with_whether_all_is_well(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or with what is not, for people and for programs."""
    fill(path, [event(recorded_at=NOON)])
    assert f2b_digest("--config", config, "send").status == 0
    first: Callable[[], str] = lambda: f2b_digest("--config", config, "status").out.splitlines()[0]  # noqa: E731
    assert first() == "OK."
    assert json.loads(f2b_digest("--config", config, "status", "--json").out)["trouble"] == []
    query(path, "UPDATE delivery SET status = 'failed', error = 'no'")
    assert first() == "PROBLEMS: 1 delivery failed"
    query(path, "UPDATE delivery SET status = 'sent'")
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 4 * DAY))
    assert first().startswith("PROBLEMS: daily was last sent 3 days ago")
    config.write_text(config.read_text().replace('channels = ["out"]', ""))
    assert "no channel for daily" in first()


def test_history_marks_what_did_not_arrive_in_any_copy(f2b_digest: Command, config: Path, path: Path) -> None:
    """By report; a failure that a later copy made good is none."""
    fill(path, [event(recorded_at=NOON)])
    assert f2b_digest("--config", config, "send").status == 0
    assert "!" not in f2b_digest("--config", config, "history").out
    query(path, "UPDATE delivery SET status = 'failed', error = 'no'")
    lines = f2b_digest("--config", config, "history").out.splitlines()
    assert [line[0] for line in lines] == ["d", "!", "!", "!"]
    assert f2b_digest("--config", config, "resend", "1").status == 0
    assert "!" not in f2b_digest("--config", config, "history").out


@pytest.mark.parametrize(
    ("text", "day"),
    [("today", 19), ("Yesterday", 18), ("monday", 16), ("thu", 19), ("fri", 13), ("2026-02-29", None), ("1d", None)],
)
def test_a_day_is_that_of_the_zone(text: str, day: int | None) -> None:
    """A weekday is the last one that has begun, today included."""
    found = times.day_of(text, NOON, ZoneInfo("Asia/Tokyo"))
    if day is None:
        assert found is None
    else:
        start = NOON - 12 * 3600 - 9 * 3600 - (19 - day) * DAY
        assert found == (start, start + DAY)
