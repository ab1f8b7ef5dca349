"""The life of a digest: sealed once, sent once to each recipient, tried again as a mail queue would, nothing lost."""

import hashlib
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from email import message_from_bytes
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from f2b_digest import composition, periods, recorder
from f2b_digest.channels.base import Channel
from f2b_digest.config import Report
from f2b_digest.errors import DeliveryError
from f2b_digest.store import Store
from tests.support.office import DAY, Office, Recording, later, office
from tests.support.program import Command, Ended
from tests.support.store_making import NOON, event, fill, query

QUIET: tuple[Literal["skip"], Literal["send"]] = ("skip", "send")


# ---- once


def test_a_second_send_sends_nothing(path: Path) -> None:
    """What was reported is not reported again."""
    channel = Recording()
    here = office(path, channel)
    here.ban("192.0.2.1")
    assert [outcome.status for outcome in here.send()] == ["sent"]
    assert here.send() == []
    assert channel.arrived == [("admin", "sshd 192.0.2.1 1\n")]


def test_a_ban_that_arrives_while_sending_is_in_the_next_digest(path: Path) -> None:
    """The range is fixed when the digest is made: what comes later is neither lost nor sent twice."""
    meanwhile = f"from tests.support.store_making import *; fill(Path({str(path)!r}), [event(ip='192.0.2.2')])"
    channel = Recording(meanwhile=lambda: subprocess.run([sys.executable, "-c", meanwhile], check=True))
    here = office(path, channel)
    here.ban("192.0.2.1")
    here.send()
    here.send()
    assert [text for _, text in channel.arrived] == ["sshd 192.0.2.1 1\n", "sshd 192.0.2.2 1\n"]


def test_a_ban_between_reading_and_sealing_is_in_the_next_digest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not rendered is not marked."""
    channel = Recording()
    here = office(path, channel)
    here.ban("192.0.2.1")
    compose = composition.compose

    def slowly(*arguments: Any) -> Any:
        fill(path, [event(ip="192.0.2.2")])
        return compose(*arguments)

    monkeypatch.setattr(composition, "compose", slowly)
    here.send()
    monkeypatch.undo()
    here.send()
    assert [text for _, text in channel.arrived] == ["sshd 192.0.2.1 1\n", "sshd 192.0.2.2 1\n"]


@pytest.mark.slow
def test_of_two_programs_that_send_at_once_one_does(tmp_path: Path, path: Path) -> None:
    """Each recipient gets one copy of one digest, however many sends run at once, without complaints."""
    mailbox = tmp_path / "mailbox"
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(
        f'#!/bin/sh\nsleep 0.3\nfor last; do :; done\ngrep ^Message-ID: | sed "s/^/$last /" >>{mailbox}\n'
    )
    sendmail.chmod(0o755)
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
store = "{path}"
[reports.daily]
channels = ["mail"]
[channels.mail]
kind = "email"
from = "f2b@example.org"
to = ["one@example.org", "two@example.org"]
sendmail = "{sendmail}"
"""
    )
    fill(path, [event(ip=f"192.0.2.{n}") for n in range(200)])
    command = [sys.executable, "-W", "error", "-m", "f2b_digest", "--config", str(config), "send"]
    senders = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    for sender in senders:
        with sender:
            assert sender.communicate(timeout=30)[1] == b""
            assert sender.returncode == 0
    assert [line.split()[0] for line in sorted(mailbox.read_text().splitlines())] == [
        "one@example.org", "two@example.org",
    ]  # fmt: skip
    assert query(path, "SELECT count(*), sum(bans) FROM digest") == [(1, 200)]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(("ban sshd", "ban web", "unban", "send daily", "send web")), max_size=30),
    st.integers(1, 3), st.sampled_from(QUIET),
)  # fmt: skip
def test_every_ban_is_in_exactly_one_digest_of_each_report(
    steps: list[str], min_bans: int, quiet: Literal["skip", "send"]
) -> None:
    """In any order of bans and sends, each report reports each of its bans once, or has it pending."""
    with tempfile.TemporaryDirectory() as folder:
        daily, web = Recording(), Recording()
        here = Office(
            Path(folder, "bans.sqlite3"),
            {"a": daily, "b": web},
            {
                "daily": Report(channels=("a",), quiet=quiet, addresses=50),
                "web": Report(channels=("b",), jails=("*", "!sshd"), min_bans=min_bans, addresses=50),
            },
        )
        fill(here.path, [])
        expected: dict[str, list[str]] = {"sshd": [], "web": []}
        for number, step in enumerate(steps):
            here.now += 1
            verb, _, name = step.partition(" ")
            if verb == "send":
                here.send(name)
            else:
                here.ban(f"2001:db8::{number}", jail=name or "web", kind=verb)
                if verb == "ban":
                    expected[name].append(f"{name} 2001:db8::{number} 1")
        here.send("daily")
        assert told(daily) == sorted(expected["sshd"] + expected["web"])
        with Store(here.path, read_only=True) as store:
            pending = store.pending(composition.pending(store, "web", here.reports["web"])).bans
        assert told(web) == sorted(expected["web"][: len(expected["web"]) - pending])


def told(channel: Recording) -> list[str]:
    """Return every line that a channel delivered."""
    return sorted(line for _, text in channel.arrived for line in text.splitlines())


# ---- preview


def test_a_preview_changes_nothing(f2b_digest: Command, config: Path, path: Path) -> None:
    """The store's bytes are the same after it, and what is pending still is."""
    fill(path, [event()])
    before = (hashlib.sha256(path.read_bytes()).digest(), f2b_digest("--config", config, "status").out)
    for form in ("text", "html", "ntfy", "json"):
        assert f2b_digest("--config", config, "preview", "--format", form).status == 0
    assert (hashlib.sha256(path.read_bytes()).digest(), f2b_digest("--config", config, "status").out) == before
    left = {file.name: file.stat().st_size for file in path.parent.glob("bans.sqlite3*")}
    assert set(left) <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}  # SQLite's own, for the next reader
    assert left.get(f"{path.name}-wal", 0) == 0


def test_a_preview_is_what_is_sent(f2b_digest: Command, config: Path, path: Path) -> None:
    """The text on the terminal is the text of the mail."""
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n, failures=5, bantime=600, users=["root"]) for n in range(99)])
    preview = f2b_digest("--config", config, "preview").out
    assert f2b_digest("--config", config, "send").status == 0
    (file,) = (config.parent / "out").iterdir()
    text = next(
        part for part in message_from_bytes(file.read_bytes()).walk() if part.get_content_type() == "text/plain"
    )
    sent = text.get_payload(decode=True)
    assert isinstance(sent, bytes)
    assert sent.decode() == preview


# ---- trouble


def test_a_refused_recipient_or_a_dead_channel_does_not_stop_the_others(path: Path) -> None:
    """Each delivery has its own outcome."""
    dead = Recording(trouble={"admin": later("connection refused")})
    mixed = Recording(
        to=("gone", "busy", "fine"), trouble={"gone": DeliveryError("550", permanent=True), "busy": later()}
    )
    last = Recording(trouble={"admin": TimeoutError("timed out after 120 s")})
    here = Office(path, {"a": dead, "b": mixed, "c": last}, {"daily": Report(channels=("a", "b", "c"))})
    here.ban("192.0.2.1")
    here.send()
    assert here.statuses() == [
        ("admin", "deferred"), ("gone", "failed"), ("busy", "deferred"), ("fine", "sent"), ("admin", "deferred"),
    ]  # fmt: skip
    assert mixed.arrived == [("fine", "sshd 192.0.2.1 1\n")]


def test_a_retry_sends_the_same_bytes_under_the_same_name(path: Path) -> None:
    """A receiver that drops duplicates by Message-ID always shows one."""
    channel = Recording(trouble={"admin": later()})
    here = office(path, channel)
    here.ban("192.0.2.1")
    here.send()
    here.ban("192.0.2.2")
    (here.templates / "list.txt").write_text("another")
    channel.trouble.clear()
    here.now += 300
    here.retry()
    first, second = (replace(message, at=0) for message in channel.tried)
    assert first == second
    assert first.identity


def test_a_retry_before_its_time_does_nothing(path: Path) -> None:
    """Cron may run it every minute; a delivery waits for its next attempt."""
    channel = Recording(trouble={"admin": later()})
    here = office(path, channel)
    here.ban("192.0.2.1")
    here.send()
    here.now += 299
    assert here.retry() == []
    here.now += 1
    assert [outcome.status for outcome in here.retry()] == ["deferred"]


def test_attempts_wait_twice_as_long_up_to_four_hours_for_five_days(path: Path) -> None:
    """As a mail queue does: 5 minutes, 10, 20 … 4 hours; after 5 days it has failed and is not tried again."""
    here = office(path, Recording(trouble={"admin": later()}))
    here.ban("192.0.2.1")
    (outcome,) = here.send()
    waits = []
    while outcome.status == "deferred":
        ((next_at,),) = query(path, "SELECT next_at FROM delivery")
        waits.append(next_at - here.now)
        here.now = next_at
        (outcome,) = here.retry()
    assert waits[:6] == [300, 600, 1200, 2400, 4800, 9600]
    assert set(waits[6:]) == {4 * 3600}
    assert 5 * DAY - 4 * 3600 < here.now - NOON <= 5 * DAY
    assert (outcome.status, "5 days" in outcome.reason, "450 busy" in outcome.reason) == ("failed", True, True)
    here.now += 30 * DAY
    assert here.retry() == []


def test_what_retrying_cannot_mend_failed_at_once(path: Path) -> None:
    """The admin is told now, and no server is retried in vain for five days."""
    here = office(path, Recording(trouble={"admin": DeliveryError("550 no such user", permanent=True)}))
    here.ban("192.0.2.1")
    assert [(outcome.status, outcome.reason) for outcome in here.send()] == [("failed", "550 no such user")]
    here.now += DAY
    assert here.retry() == []


def test_a_channel_that_left_the_configuration_keeps_its_deliveries(path: Path) -> None:
    """They wait with a reason for a channel of that name, and go out when there is one again."""
    channel = Recording(trouble={"admin": later()})
    here = office(path, channel)
    here.ban("192.0.2.1")
    here.send()
    here.channels = {}
    here.now += 300
    (outcome,) = here.retry()
    assert outcome.status == "deferred"
    assert "channel 'out' is no longer in the configuration" in outcome.reason
    channel.trouble.clear()
    here.channels = {"out": channel}
    here.now += 600
    assert [outcome.status for outcome in here.retry()] == ["sent"]


def test_a_broken_template_of_the_admin_costs_its_looks_not_the_digest(
    f2b_digest: Command, config: Path, path: Path
) -> None:
    """The digest goes out with the built-in templates, and one line names the broken one."""
    own = config.parent / "own/email"
    own.mkdir(parents=True)
    (own / "body.txt").write_text("{{ no_such_name }}")
    config.write_text('templates = "own"\n' + config.read_text())
    fill(path, [event(ip="192.0.2.1")])
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert "email/body.txt" in ended.err
    assert "no_such_name" in ended.err
    (file,) = (config.parent / "out").iterdir()
    assert "192.0.2.1" in file.read_text()


# ---- what is reported, and when


def test_a_report_that_nobody_would_see_is_refused(f2b_digest: Command, path: Path) -> None:
    """Without channels nothing is sealed, or bans would be marked as reported without a reader."""
    fill(path, [event()])
    ended = f2b_digest("--store", path, "send")
    assert ended.status == 78
    assert "reports.daily.channels" in ended.err
    assert "1 ban pending" in f2b_digest("--store", path, "status").out


def test_a_quiet_day_is_skipped(path: Path) -> None:
    """Nothing pending, nothing sent, nothing sealed."""
    here = office(path, Recording())
    here.ban("192.0.2.1", kind="unban")
    assert here.send() == []
    assert query(path, "SELECT * FROM digest") == []


def test_quiet_days_are_told_on_request_and_hide_no_later_ban(path: Path) -> None:
    """With quiet = "send" each empty day has its digest, and the ban after them is in the next."""
    channel = Recording()
    here = office(path, channel, quiet="send")
    fill(path, [])
    for _ in range(3):
        here.now += DAY
        here.send()
    here.ban("192.0.2.1")
    here.send()
    assert channel.arrived == [("admin", "")] * 3 + [("admin", "sshd 192.0.2.1 1\n")]


def test_bans_wait_until_there_are_enough(path: Path) -> None:
    """With min_bans = 3 two bans stay pending until the third."""
    channel = Recording()
    here = office(path, channel, min_bans=3)
    here.ban("192.0.2.1", "192.0.2.2")
    assert here.send() == []
    here.ban("192.0.2.3")
    here.send()
    assert told(channel) == [f"sshd 192.0.2.{n} 1" for n in (1, 2, 3)]


def test_each_report_reads_its_jails_at_its_own_pace(path: Path) -> None:
    """A ban is in both a daily and a weekly report; an excluded jail is not."""
    daily, weekly = Recording(), Recording()
    here = Office(
        path,
        {"a": daily, "b": weekly},
        {"daily": Report(channels=("a",)), "weekly": Report(channels=("b",), jails=("*", "!ssh*"))},
    )
    for number in (1, 2):
        here.now += DAY
        here.ban(f"192.0.2.{number}", jail="sshd")
        here.ban(f"192.0.2.{number}", jail="web")
        here.send("daily")
    here.send("weekly")
    assert [text for _, text in daily.arrived] == [f"sshd 192.0.2.{n} 1\nweb 192.0.2.{n} 1\n" for n in (1, 2)]
    assert told(weekly) == ["web 192.0.2.1 1", "web 192.0.2.2 1"]


def test_history_is_never_reported(path: Path) -> None:
    """Imported bans are known, and were reported by the previous tool."""
    channel = Recording()
    here = office(path, channel)
    here.ban("192.0.2.1", history=True)
    assert here.send() == []
    here.ban("192.0.2.2")
    here.send()
    assert told(channel) == ["sshd 192.0.2.2 1"]


def test_a_digest_begins_where_the_last_one_ended(path: Path) -> None:
    """The periods of a report follow each other without a gap."""
    here = office(path, Recording())
    here.ban("192.0.2.1")
    here.now += 3600
    here.send()
    here.now += 1800
    here.ban("192.0.2.2")
    here.now += 1800
    here.send()
    periods = query(path, "SELECT period_start, period_end FROM digest ORDER BY id")
    assert periods == [(NOON, NOON + 3600), (NOON + 3600, NOON + 7200)]


def test_send_takes_the_spool_in_first(f2b_digest: Command, config: Path, path: Path) -> None:
    """A ban spooled during a lock is in the next digest all the same."""
    fill(path, [event(ip="192.0.2.1")])
    with closing(recorder.connect(str(path))) as somebody:
        somebody.execute("BEGIN EXCLUSIVE")
        assert recorder.append(str(path), event(ip="192.0.2.2"), 0)
    assert f2b_digest("--config", config, "send").status == 0
    (file,) = (config.parent / "out").iterdir()
    assert "192.0.2.2" in file.read_text()
    assert recorder.spooled(str(path)) == 0


# ---- whole days, weeks and months


def periods_of(here: Office, report: str = "daily") -> list[tuple[float, float]]:
    """Return the periods of a report's digests, the oldest first."""
    rows = query(here.path, "SELECT period_start, period_end FROM digest WHERE report = ? ORDER BY id", report)
    return [(row[0], row[1]) for row in rows]


def calendar(path: Path, channel: Channel, **report: Any) -> Office:
    """Return an office with one report of whole days in UTC, at noon."""
    return office(path, channel, **{"period": "calendar", "every": "day"} | report)


MIDNIGHT = NOON + DAY / 2


def test_a_calendar_digest_takes_the_day_that_has_ended(path: Path) -> None:
    """Nothing on the first day; next morning the whole day is sent, once, without bans since midnight."""
    channel = Recording()
    here = calendar(path, channel)
    here.ban("192.0.2.1")
    assert here.send() == []
    here.now = MIDNIGHT
    here.ban("192.0.2.2")
    here.now = MIDNIGHT + 7 * 3600
    here.send()
    assert channel.arrived == [("admin", "sshd 192.0.2.1 1\n")]
    assert here.send() == []
    here.now += DAY
    here.send()
    assert channel.arrived[1:] == [("admin", "sshd 192.0.2.2 1\n")]
    assert periods_of(here) == [(MIDNIGHT - DAY, MIDNIGHT), (MIDNIGHT, MIDNIGHT + DAY)]


def test_a_calendar_digest_after_three_days_tells_three_days(path: Path) -> None:
    """What the downtime kept back comes as one digest of whole days."""
    channel = Recording()
    here = calendar(path, channel)
    here.ban("192.0.2.1")
    here.now += DAY
    here.send()
    for number in (2, 3, 4, 5):
        here.ban(f"192.0.2.{number}")
        here.now += DAY
    here.now -= DAY
    here.send()
    assert told(channel) == [f"sshd 192.0.2.{number} 1" for number in (1, 2, 3, 4)]
    assert periods_of(here)[1:] == [(MIDNIGHT, MIDNIGHT + 3 * DAY)]


def test_a_quiet_calendar_day_is_told_once(path: Path) -> None:
    """With quiet = "send" each day that has ended has one digest, however often send runs."""
    channel = Recording()
    here = calendar(path, channel, quiet="send")
    here.ban("192.0.2.1")
    for _ in range(3 * 24):
        here.now += 3600
        here.send()
    assert channel.arrived == [("admin", "sshd 192.0.2.1 1\n")] + [("admin", "")] * 2
    assert periods_of(here) == [(MIDNIGHT + (day - 1) * DAY, MIDNIGHT + day * DAY) for day in range(3)]


def test_the_first_day_is_not_told_as_a_quiet_yesterday(path: Path) -> None:
    """What was imported is not a sign of an earlier day of ours."""
    channel = Recording()
    here = calendar(path, channel, quiet="send")
    fill(path, [event(at=NOON - 3 * DAY, recorded_at=NOON - 3 * DAY, history=True)])
    here.ban("192.0.2.1")
    assert here.send() == []
    here.now += DAY
    here.send()
    assert periods_of(here) == [(MIDNIGHT - DAY, MIDNIGHT)]


def test_a_digest_is_sealed_at_most_once_when_the_clock_was_set_back_over_midnight(path: Path) -> None:
    """Nothing goes out until the clock has passed that midnight and the next one; nothing is lost."""
    channel = Recording()
    here = calendar(path, channel, quiet="send")
    here.ban("192.0.2.1")
    here.now = MIDNIGHT + 1
    here.send()
    here.now = MIDNIGHT - 3600
    here.ban("192.0.2.2")
    assert here.send() == []
    here.now = MIDNIGHT + 7 * 3600
    assert here.send() == []
    here.ban("192.0.2.3")
    here.now += DAY
    here.send()
    assert told(channel) == [f"sshd 192.0.2.{number} 1" for number in (1, 2, 3)]
    assert periods_of(here) == [(MIDNIGHT - DAY, MIDNIGHT), (MIDNIGHT, MIDNIGHT + DAY)]


def test_a_clock_that_was_years_ahead_does_not_silence_a_calendar_report(path: Path) -> None:
    """Neither a ban nor a digest from the future holds back the days that follow."""
    channel = Recording()
    here = calendar(path, channel)
    here.now += 3000 * DAY
    here.ban("192.0.2.1")
    here.now += DAY
    here.send()
    here.ban("192.0.2.2")
    here.now = NOON
    here.ban("192.0.2.3")
    here.now += DAY
    here.send()
    assert told(channel) == [f"sshd 192.0.2.{number} 1" for number in (1, 2, 3)]
    assert periods_of(here)[1] == (MIDNIGHT - DAY, MIDNIGHT)


def test_a_report_that_becomes_a_calendar_report_goes_on_where_it_was(path: Path) -> None:
    """From the last digest's end to the next midnight, then by days."""
    channel = Recording()
    here = office(path, channel)
    here.ban("192.0.2.1")
    here.send()
    here.reports = {"daily": Report(channels=("out",), period="calendar", every="day")}
    here.ban("192.0.2.2")
    assert here.send() == []
    for _ in range(2):
        here.now += DAY
        here.send()
        here.ban("192.0.2.3")
    assert told(channel) == ["sshd 192.0.2.1 1", "sshd 192.0.2.2 1", "sshd 192.0.2.3 1"]
    assert periods_of(here)[1:] == [(NOON, MIDNIGHT), (MIDNIGHT, MIDNIGHT + DAY)]


def test_a_report_has_days_of_its_own_zone(path: Path) -> None:
    """Its midnight is not the configuration's, and its digest says which zone's times it shows."""
    here = calendar(path, Recording(), timezone="Asia/Tokyo")
    here.ban("192.0.2.1")
    here.now = MIDNIGHT - 9 * 3600
    here.send()
    assert periods_of(here) == [(MIDNIGHT - 9 * 3600 - DAY, MIDNIGHT - 9 * 3600)]
    with Store(path, read_only=True) as store:
        document = store.document(1) or ""
    assert '"timezone": "Asia/Tokyo"' in document
    assert '"end": "2026-11-20T00:00:00+09:00"' in document


def test_what_was_not_delivered_is_told_with_times_of_the_reports_zone(path: Path) -> None:
    """All times of a digest are of one zone."""
    here = office(path, Recording(trouble={"admin": later()}), timezone="Asia/Tokyo")
    here.ban("192.0.2.1")
    here.send()
    here.ban("192.0.2.2")
    here.send()
    with Store(path, read_only=True) as store:
        assert '"sealed_at": "2026-11-19T21:00:00+09:00"' in (store.document(2) or "")


STEPS = st.one_of(
    st.tuples(st.just("ban"), st.sampled_from(("sshd", "web"))),
    st.tuples(st.just("wait"), st.floats(0, 40 * 3600.0)),
    st.tuples(st.just("send"), st.sampled_from(("daily", "weekly", "pending"))),
    st.tuples(st.just("back"), st.floats(0, 30 * 3600.0)),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40), st.sampled_from(QUIET), st.sampled_from(("Europe/Paris", "America/Sao_Paulo")))
def test_calendar_periods_tile_and_tell_every_ban_once(
    steps: list[tuple[str, Any]], quiet: Literal["skip", "send"], zone: str
) -> None:
    """In any order of bans, sends and clocks set back, across a change of daylight saving time."""
    with tempfile.TemporaryDirectory() as folder:
        channels = {name: Recording() for name in ("daily", "weekly", "pending")}
        here = Office(
            Path(folder, "bans.sqlite3"),
            dict(channels),
            {
                "daily": Report(
                    channels=("daily",), period="calendar", every="day", quiet=quiet, timezone=zone, addresses=50
                ),
                "weekly": Report(
                    channels=("weekly",), period="calendar", every="week", jails=("*", "!sshd"), addresses=50
                ),
                "pending": Report(channels=("pending",), timezone=zone, addresses=50),
            },
            now=1_540_000_000.0 if zone == "Europe/Paris" else 1_541_000_000.0,  # both a few days before a change
        )
        fill(here.path, [])
        expected: dict[str, list[str]] = {"sshd": [], "web": []}
        latest, jumped = here.now, False
        for number, (verb, value) in enumerate(steps):
            if verb == "ban":
                here.ban(f"2001:db8::{number}", jail=value)
                expected[value].append(f"{value} 2001:db8::{number} 1")
            elif verb == "send":
                here.send(value)
            else:
                here.now += value if verb == "wait" else -value
                jumped = jumped or verb == "back"
            latest = max(latest, here.now)
        here.now = latest + 15 * DAY
        here.send()
        everything = sorted(expected["sshd"] + expected["web"])
        assert told(channels["daily"]) == everything
        assert told(channels["pending"]) == everything
        assert told(channels["weekly"]) == sorted(expected["web"])
        for report, every, of in (("daily", "day", zone), ("weekly", "week", "UTC")):
            found = periods_of(here, report)
            for start, end in found:
                assert periods.boundary(start, every, ZoneInfo(of)) == start < end
                assert periods.boundary(end, every, ZoneInfo(of)) == end
            if not jumped:
                assert all(earlier[1] == later[0] for earlier, later in pairwise(found))


def test_a_preview_of_a_calendar_report_is_what_is_sent_or_what_there_is_so_far(
    f2b_digest: Command, config: Path, path: Path
) -> None:
    """While nothing whole is pending, one line says so and the running day is shown; else it is what send sends."""
    config.write_text(config.read_text().replace('["out"]', '["out"]\nperiod = "calendar"'))
    fill(path, [event(ip="192.0.2.1", recorded_at=NOON)])
    ended = f2b_digest("--config", config, "preview")
    assert "192.0.2.1" in ended.out
    assert "the period has not ended" in ended.err
    assert ended.err.endswith("sent after 2026-11-20 00:00\n")
    assert f2b_digest("--config", config, "send") == Ended(0, "", "")
    assert query(path, "SELECT * FROM digest") == []
    fill(path, [event(ip="192.0.2.2", at=NOON - DAY, recorded_at=NOON - DAY)])  # taken in late: the next day's
    assert "192.0.2.2" in f2b_digest("--config", config, "preview").out


def test_a_preview_of_a_calendar_report_leaves_the_running_day_out(
    f2b_digest: Command, config: Path, path: Path
) -> None:
    """It and the digest that is sent hold yesterday, and nothing is said on stderr."""
    config.write_text(config.read_text().replace('["out"]', '["out"]\nperiod = "calendar"'))
    fill(path, [event(ip="192.0.2.1", at=NOON - DAY, recorded_at=NOON - DAY)])
    fill(path, [event(ip="192.0.2.2", recorded_at=NOON)])
    preview = f2b_digest("--config", config, "preview")
    assert ("192.0.2.1" in preview.out, "192.0.2.2" in preview.out, preview.err) == (True, False, "")
    assert " · Wed 18 Nov 2026\n" in preview.out
    assert f2b_digest("--config", config, "send").status == 0
    (file,) = (config.parent / "out").iterdir()
    assert "192.0.2.1" in file.read_text()
    assert "192.0.2.2" not in file.read_text()


def test_a_preview_says_when_a_digest_is_sent_though_the_clock_was_set_back(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day that is running was sealed already: the next digest comes a midnight later."""
    config.write_text(config.read_text().replace('["out"]', '["out"]\nperiod = "calendar"'))
    fill(path, [event(recorded_at=NOON)])
    with monkeypatch.context() as patched:
        patched.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: MIDNIGHT + 60))
        assert f2b_digest("--config", config, "send").status == 0
    assert periods_of(Office(path, {}, {})) == [(MIDNIGHT - DAY, MIDNIGHT)]
    assert f2b_digest("--config", config, "preview").err.endswith("sent after 2026-11-21 00:00\n")


def test_a_preview_of_a_past_period_takes_times_of_the_reports_zone(
    f2b_digest: Command, config: Path, path: Path
) -> None:
    """A date is a day of the admin's, not of the server's."""
    config.write_text(config.read_text().replace('["out"]', '["out"]\ntimezone = "Asia/Tokyo"'))
    fill(path, [event(ip="192.0.2.1", at=NOON), event(ip="192.0.2.2", at=NOON + 4 * 3600)])
    text = f2b_digest("--config", config, "preview", "--since", "2026-11-19", "--until", "2026-11-20").out
    assert "192.0.2.1" in text
    assert "192.0.2.2" not in text
    assert " · Thu 19 Nov 2026\n" in text


def test_a_preview_of_a_log_shows_all_of_it_for_a_calendar_report_too(
    f2b_digest: Command, config: Path, tmp_path: Path
) -> None:
    """A file has no current day."""
    config.write_text(config.read_text().replace('["out"]', '["out"]\nperiod = "calendar"'))
    log = tmp_path / "fail2ban.log"
    lines = [f"2026-11-{day} 10:00:00,000 fail2ban.actions [1]: NOTICE [sshd] Ban 192.0.2.{day}" for day in (18, 19)]
    log.write_text("\n".join(lines) + "\n")
    ended = f2b_digest("--config", config, "preview", "--from", log)
    assert ["192.0.2.18" in ended.out, "192.0.2.19" in ended.out, ended.err] == [True, True, ""]
