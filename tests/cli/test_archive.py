"""The archive: history, show, resend and prune; and what earlier digests could not deliver, told in the next ones."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from f2b_digest.store import Received
from tests.support.program import Command, Ended, program
from tests.support.raw_server import WebServer, says
from tests.support.store_making import NOON, event, fill, query

DAY = 86400.0
SENDMAIL = """#!/bin/sh
cd "$(dirname "$0")"
for to; do :; done
if [ -e "refuse.$to" ]; then echo "550 no such user" >&2; exit "$(cat "refuse.$to")"; fi
n=$(ls mails | wc -l)
cat >"mails/$n.$to"
"""


@dataclass(frozen=True)
class House:
    """A store, a configuration with a mail channel and a file channel, and a clock that the test sets."""

    folder: Path
    command: Command
    set_clock: Callable[[float], None]

    @property
    def store(self) -> Path:
        """Return the store's path."""
        return self.folder / "bans.sqlite3"

    def run(self, *arguments: str | Path) -> Ended:
        """Run the program with this configuration."""
        return self.command("--config", self.folder / "config.toml", *arguments)

    def at(self, days: float) -> None:
        """Set the clock to this many days after noon."""
        self.set_clock(NOON + days * DAY)

    def ban(self, *ips: str, days: float = 0.0, **more: Any) -> None:
        """Ban addresses, this many days after noon."""
        at = NOON + days * DAY
        fill(self.store, [event(ip=ip, at=at, recorded_at=at, **more) for ip in ips])

    def refuse(self, recipient: str, status: int) -> None:
        """Let sendmail end with a status for a recipient; 0 takes that back."""
        mark = self.folder / f"refuse.{recipient}"
        mark.write_text(str(status)) if status else mark.unlink()

    @property
    def mails(self) -> list[tuple[str, bytes]]:
        """Return each mail that sendmail took, as (recipient, bytes), in order."""
        files = sorted((self.folder / "mails").iterdir(), key=lambda file: int(file.name.partition(".")[0]))
        return [(file.name.partition(".")[2], file.read_bytes()) for file in files]

    def add(self, toml: str) -> None:
        """Add lines to the end of the configuration."""
        with (self.folder / "config.toml").open("a") as file:
            file.write(toml)


@pytest.fixture
def house(tmp_path: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch) -> House:
    """Provide a house at noon: a report `daily` by mail to one and two, and into files; `weekly` by mail to boss."""
    (tmp_path / "mails").mkdir()
    (tmp_path / "sendmail").write_text(SENDMAIL)
    (tmp_path / "sendmail").chmod(0o755)
    mail = f'kind = "email"\nfrom = "f2b@example.org"\nsendmail = "{tmp_path}/sendmail"'
    (tmp_path / "config.toml").write_text(
        f"""
store = "bans.sqlite3"
host = "web1"
timezone = "UTC"
keep = "30d"
[reports.daily]
channels = ["mail", "box"]
[reports.weekly]
channels = ["boss"]
[channels.mail]
{mail}
to = ["one@example.org", "two@example.org"]
[channels.boss]
{mail}
to = ["boss@example.org"]
[channels.box]
kind = "file"
folder = "box"
"""
    )

    def set_clock(now: float) -> None:
        monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: now))

    set_clock(NOON)
    return House(tmp_path, f2b_digest, set_clock)


@pytest.fixture
def two_digests(house: House) -> House:
    """Provide a house with two daily digests: the first refused for good by two, the second deferred for two."""
    house.ban("192.0.2.1", "192.0.2.2")
    house.refuse("two@example.org", 67)
    house.at(0.5)
    assert house.run("send", "daily").status == 1
    house.refuse("two@example.org", 75)
    house.ban("192.0.2.3", days=1)
    house.at(1.5)
    assert house.run("send", "daily").status == 75
    return house


# ---- history


def test_history_tells_periods_counts_and_each_recipients_outcome(two_digests: House) -> None:
    """The newest first, with the words of whoever refused."""
    ended = two_digests.run("history")
    assert (ended.status, ended.err) == (0, "")
    box = two_digests.folder / "box"
    why = f"{two_digests.folder}/sendmail: exit status"
    assert ended.out.splitlines() == [
        "daily",
        "!    2  Fri 20 Nov 2026 00:00 to Sat 21 Nov 2026 00:00: 1 ban",
        "        sent Sat 21 Nov 2026 00:00: mail to one@example.org",
        f"!       deferred Sat 21 Nov 2026 00:00: mail to two@example.org: {why} 75: 550 no such user",
        f"        sent Sat 21 Nov 2026 00:00: box to {box}",
        "!    1  Thu 19 Nov 2026 12:00 to Fri 20 Nov 2026 00:00: 2 bans",
        "        sent Fri 20 Nov 2026 00:00: mail to one@example.org",
        f"!       failed Fri 20 Nov 2026 00:00: mail to two@example.org: {why} 67: 550 no such user",
        f"        sent Fri 20 Nov 2026 00:00: box to {box}",
        "! not delivered (yet); see f2b-digest status",
    ]


def test_a_reports_times_are_those_of_its_own_zone(house: House) -> None:
    """In `history` and `status`, as in its digests; those of a report that is gone are in the configuration's."""
    house.ban("192.0.2.1")
    house.refuse("two@example.org", 75)
    assert house.run("send").status == 75
    file = house.folder / "config.toml"
    text = file.read_text()
    assert "[reports.daily]\n" in text
    assert "12:00" in house.run("history").out
    file.write_text(text.replace("[reports.daily]\n", '[reports.daily]\ntimezone = "Asia/Tokyo"\n'))
    for words in (["history", "daily"], ["status"]):
        told = [line for line in house.run(*words).out.splitlines() if not line.startswith("weekly")]
        assert any("21:00" in line for line in told)
        assert not any("12:00" in line for line in told)
    file.write_text(text.replace("[reports.daily]", "[reports.other]"))
    assert "12:00" in house.run("history").out


def test_history_counts_the_attempts(two_digests: House) -> None:
    """More than one is worth a word."""
    two_digests.at(2)
    two_digests.run("retry")
    assert "deferred Sat 21 Nov 2026 12:00: mail to two@example.org, 2 attempts: " in two_digests.run("history").out


def test_history_for_programs(two_digests: House) -> None:
    """--json has the same in numbers."""
    newest, oldest = json.loads(two_digests.run("history", "--json").out)
    assert (newest["id"], newest["bans"], newest["report"]) == (2, 1, "daily")
    assert (oldest["period_start"], oldest["period_end"], oldest["sealed_at"]) == (
        NOON, NOON + DAY / 2, NOON + DAY / 2,
    )  # fmt: skip
    assert oldest["deliveries"][1] == {
        "channel": "mail", "recipient": "two@example.org", "status": "failed", "attempts": 1,
        "settled_at": NOON + DAY / 2, "error": f"{two_digests.folder}/sendmail: exit status 67: 550 no such user",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--limit", "1"], [3]),
        (["-n", "2", "daily"], [2, 1]),
        (["weekly"], [3]),
        (["daily"], [2, 1]),
        ([], [3, 2, 1]),
    ],
)
def test_history_of_one_report_or_the_newest(two_digests: House, arguments: list[str], ids: list[int]) -> None:
    """A report's name and --limit choose."""
    two_digests.run("send", "weekly")
    assert [row["id"] for row in json.loads(two_digests.run("history", "--json", *arguments).out)] == ids


def test_history_before_the_first_digest(house: House) -> None:
    """A store that only fail2ban has touched has none, and says so."""
    house.ban("192.0.2.1")
    assert house.run("history") == Ended(0, "no digest yet\n", "")
    assert json.loads(house.run("history", "--json").out) == []


@pytest.mark.parametrize("arguments", [["dayly"], ["--limit", "0"], ["--limit", "x"]])
def test_history_refuses_what_is_not_there(two_digests: House, arguments: list[str]) -> None:
    """A mistake is status 2."""
    ended = two_digests.run("history", *arguments)
    assert (ended.status, ended.out) == (2, "")


# ---- show


def test_show_gives_the_text_that_went_out(two_digests: House) -> None:
    """By default as in the mail; nothing of later digests is in it."""
    shown = two_digests.run("show", "1").out
    assert shown == body(two_digests.mails[0][1], "plain")
    assert "192.0.2.2" in shown
    assert "192.0.2.3" not in shown


def test_show_gives_every_format(two_digests: House) -> None:
    """HTML as in the mail, a notification's text, JSON for programs."""
    assert two_digests.run("show", "1", "--format", "html").out == body(two_digests.mails[0][1], "html")
    shown = two_digests.run("show", "1", "--format", "ntfy").out
    assert shown.startswith("All quiet: 2 bans – web1\n\n2 bans, 2 addresses, 1 jail, ")
    assert "\nsshd 2 (192.0.2.1, 192.0.2.2)\n" in shown
    document = json.loads(two_digests.run("show", "1", "--format", "json").out)
    assert (document["report"], document["totals"]["bans"]) == ("daily", 2)
    assert document["start"].startswith("2026-11-19T12:00:00")


@pytest.mark.slow
def test_show_raw_is_the_message_byte_for_byte(two_digests: House) -> None:
    """What went out, by the channel that is named; on the terminal and in a file."""
    house = two_digests
    (box,) = [file for file in (house.folder / "box").iterdir() if b"2 bans" in file.read_bytes()]
    for options, expected in (([], house.mails[0][1]), (["--channel", "box"], box.read_bytes())):
        ended = house.run("show", "1", "--format", "raw", "--output", house.folder / "out.eml", *options)
        assert (ended, (house.folder / "out.eml").read_bytes()) == (Ended(0, "", ""), expected)
    shown = program("--config", house.folder / "config.toml", "show", "1", "--format", "raw")
    assert shown.out.encode() == house.mails[0][1]


def test_show_into_a_file(two_digests: House) -> None:
    """--output writes what would be shown, and shows nothing; a folder that is not there is one line."""
    shown = two_digests.run("show", "1").out
    assert two_digests.run("show", "1", "--output", two_digests.folder / "x.txt") == Ended(0, "", "")
    assert (two_digests.folder / "x.txt").read_text() == shown
    ended = two_digests.run("show", "1", "--output", two_digests.folder / "no/x.txt")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "7"],
        ["show", "0"],
        ["show", "99999999999999999999"],
        ["show", "7", "--format", "raw"],
        ["show", "1", "--format", "raw", "--channel", "boss"],
        ["resend", "7"],
        ["resend", "99999999999999999999"],
        ["resend", "1", "--channel", "boss"],
        ["resend", "1", "--channel", "nothing"],
        ["history", "--limit", "99999999999999999999"],
    ],
    ids=" ".join,
)
def test_what_is_not_in_the_archive_is_one_line(two_digests: House, arguments: list[str]) -> None:
    """Status 1, a line, and nothing was delivered."""
    before = (two_digests.mails, deliveries(two_digests))
    ended = two_digests.run(*arguments)
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert (two_digests.mails, deliveries(two_digests)) == before


def test_a_channel_goes_with_raw_alone(two_digests: House) -> None:
    """The other formats are no channel's."""
    assert two_digests.run("show", "1", "--channel", "mail").status == 2


# ---- resend


def test_resend_delivers_the_stored_bytes_to_everybody_again(two_digests: House) -> None:
    """The same mail under the same Message-ID, also after templates changed; each copy has its own outcome."""
    house = two_digests
    house.refuse("two@example.org", 0)
    (house.folder / "email").mkdir()
    (house.folder / "email/body.txt").write_text("another")
    text = (house.folder / "config.toml").read_text()
    (house.folder / "config.toml").write_text('templates = "."\n' + text)
    first, before = house.mails[0], len(house.mails)
    assert house.run("resend", "1") == Ended(0, "", "")
    assert house.mails[before:] == [("one@example.org", first[1]), ("two@example.org", first[1])]
    assert deliveries(house)[6:] == [
        (1, "mail", "one@example.org", "sent", 1),
        (1, "mail", "two@example.org", "sent", 1),
        (1, "box", str(house.folder / "box"), "sent", 1),
    ]
    assert deliveries(house)[:3] == [
        (1, "mail", "one@example.org", "sent", 1),
        (1, "mail", "two@example.org", "failed", 1),
        (1, "box", str(house.folder / "box"), "sent", 1),
    ]
    assert len(query(house.store, "SELECT DISTINCT identity FROM delivery WHERE digest_id = 1")) == 2  # mail and file
    assert house.run("history", "-n", "1", "daily").out.count("\n") == 6  # no digest of its own
    assert house.run("history").out.count("two@example.org") == 3


def test_a_delivery_that_was_made_good_is_no_longer_missing(house: House) -> None:
    """Once its copy arrived, neither `status` nor the next digest asks for anybody; while it failed, both did."""
    house.refuse("two@example.org", 67)
    house.ban("192.0.2.1")
    assert house.run("send", "daily").status == 1
    assert "two@example.org" in house.run("status").out
    assert "1 delivery failed – " in house.run("preview", "daily", "--format", "ntfy").out
    house.refuse("two@example.org", 0)
    assert house.run("resend", "1", "--channel", "mail", "--to", "one@example.org").status == 0
    assert "two@example.org" in house.run("status").out  # another's copy does not help him
    assert house.run("resend", "1").status == 0
    assert "all digests delivered" in house.run("status").out
    assert "1 delivery failed – " not in house.run("preview", "daily", "--format", "ntfy").out


def test_resend_by_one_channel_to_another_address(two_digests: House) -> None:
    """One copy, however many recipients the digest had."""
    house = two_digests
    original, before = house.mails[0][1], len(house.mails)
    ended = house.run("-v", "resend", "1", "--channel", "mail", "--to", "Boss <boss@bücher.example>")
    assert (ended.status, ended.out) == (0, "daily: mail to boss@xn--bcher-kva.example: sent\n")
    assert house.mails[before:] == [("boss@xn--bcher-kva.example", original)]


def test_resend_without_a_channel_gives_another_address_the_mail(two_digests: House) -> None:
    """A file cannot have another recipient, and is left out."""
    assert two_digests.run("resend", "1", "--to", "boss@example.org").status == 0
    assert [row[1:4] for row in deliveries(two_digests)[6:]] == [("mail", "boss@example.org", "sent")]


def test_a_copy_that_fails_is_tried_again(two_digests: House) -> None:
    """As any delivery: status 75, a line, and the next retry sends it."""
    house = two_digests
    house.refuse("boss@example.org", 75)
    ended = house.run("resend", "1", "--channel", "mail", "--to", "boss@example.org")
    assert (ended.status, ended.out, ended.err.count("\n")) == (75, "", 1)
    assert "boss@example.org" in house.run("status").out
    house.refuse("boss@example.org", 0)
    house.refuse("two@example.org", 0)
    house.at(1.6)
    assert house.run("retry") == Ended(0, "", "")
    assert house.mails[-1] == ("boss@example.org", house.mails[0][1])


@pytest.mark.parametrize("channel", [[], ["--channel", "box"]])
def test_only_mail_can_go_to_another_address(house: House, channel: list[str]) -> None:
    """A file's folder and a notification's topic are in the message itself: a usage error, and nothing goes out."""
    (house.folder / "config.toml").write_text(
        (house.folder / "config.toml").read_text().replace('["mail", "box"]', '["box"]')
    )
    house.ban("192.0.2.1")
    house.run("send", "daily")
    ended = house.run("resend", "1", "--to", "boss@example.org", *channel)
    assert (ended.status, ended.out) == (2, "")
    assert "--to works for email channels only" in ended.err
    assert len(deliveries(house)) == 1


@pytest.mark.parametrize(
    "to", ["", "boss", "boss@", "a@example.org\nRCPT TO:<b@example.org>", "ж@example.org", "a b@c"]
)
def test_another_address_must_be_one(two_digests: House, to: str) -> None:
    """What no server would take is a usage error now, and not a delivery that fails for five days."""
    before = deliveries(two_digests)
    ended = two_digests.run("resend", "1", "--to", to)
    assert (ended.status, ended.out) == (2, "")
    assert deliveries(two_digests) == before


def test_a_channel_that_left_the_configuration_sends_no_copy(two_digests: House) -> None:
    """The copy waits as any delivery of that channel would, and the reason names it."""
    file = two_digests.folder / "config.toml"
    file.write_text(file.read_text().replace('["mail", "box"]', '["mail"]').partition("[channels.box]")[0])
    ended = two_digests.run("resend", "1", "--channel", "box")
    assert (ended.status, ended.err.count("\n")) == (75, 1)
    assert "channel 'box' is no longer in the configuration" in ended.err


# ---- prune


def reported_bans(house: House) -> None:
    """Tell two bans at day 0 by both reports, and let them grow 31 days old."""
    house.ban("192.0.2.1", "192.0.2.2")
    assert house.run("send").status == 0
    house.at(31.1)


def test_prune_drops_what_is_old_and_reported_by_every_report(house: House) -> None:
    """Events and messages go, the digest's row stays, and -v tells the number; without it, silence."""
    reported_bans(house)
    house.ban("192.0.2.3", days=31)
    assert house.run("-v", "prune") == Ended(0, "2 events dropped\n", "")
    assert ips(house) == ["192.0.2.3"]
    assert query(house.store, "SELECT sum(length(message)) FROM delivery") == [(0,)]
    assert house.run("prune") == Ended(0, "", "")


def test_a_pruned_digest_is_in_history_but_cannot_be_shown_or_sent(house: House) -> None:
    """What it was and what became of it is known for ever; its text is not."""
    reported_bans(house)
    assert "2 bans" in house.run("history").out
    house.run("prune")
    assert "2 bans" in house.run("history").out
    for arguments in (["show", "1"], ["show", "1", "--format", "raw"], ["resend", "1"]):
        ended = house.run(*arguments)
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "pruned" in house.run("show", "1").err
    assert "pruned" in house.run("resend", "1").err


def test_reports_do_not_start_over_after_a_prune(house: House) -> None:
    """The rows that stay are the marks: only new bans are reported, also where all events are gone."""
    reported_bans(house)
    house.run("prune")
    assert ips(house) == []
    house.ban("192.0.2.3", days=31)
    before = len(house.mails)
    assert house.run("send", "daily").status == 0
    assert [b"1 ban: 192.0.2.3 in " in mail for _, mail in house.mails[before:]] == [True, True]


def test_prune_keeps_what_is_younger(house: House) -> None:
    """`keep` counts from when an event was recorded, and a digest sealed."""
    reported_bans(house)
    house.at(29.9)
    assert house.run("-v", "prune").out == "0 events dropped\n"
    assert house.run("show", "1").status == 0


def test_a_hub_keeps_events_for_thirty_days(house: House) -> None:
    """By them it knows what a host's restored store uploads again."""
    reported_bans(house)
    config = house.folder / "config.toml"
    config.write_text(config.read_text().replace('keep = "30d"', 'keep = "1d"'))
    with Received(house.store) as hub:
        hub.enrol("web1", 0.0)
    house.at(29.9)
    assert house.run("-v", "prune").out == "0 events dropped\n"
    house.at(30.1)
    assert house.run("-v", "prune").out == "2 events dropped\n"


def test_prune_keeps_what_a_report_has_not_told(house: House) -> None:
    """Pending events stay, however old, for a report that waits, and for one that has never sealed anything."""
    house.ban("192.0.2.1")
    house.run("send", "daily")
    house.at(400)
    assert house.run("-v", "prune").out == "0 events dropped\n"
    house.run("send", "weekly")
    assert ips(house) == []  # a send prunes too
    house.add('[reports.new]\nchannels = ["box"]\n')
    house.ban("192.0.2.2", days=400)
    house.run("send", "daily", "weekly")
    house.at(800)
    assert house.run("-v", "prune").out == "0 events dropped\n"


def test_prune_keeps_what_is_not_delivered(house: House) -> None:
    """A digest that somebody still has to get keeps its events and its messages, and so do all after it."""
    house.ban("192.0.2.1")
    house.run("send", "weekly")
    house.refuse("two@example.org", 75)
    house.run("send", "daily")
    query(house.store, "UPDATE delivery SET made_at = made_at + 8640000")  # not given up yet
    house.ban("192.0.2.2", days=1)
    house.at(40)
    house.run("send", "weekly")
    assert house.run("-v", "prune").out == "0 events dropped\n"
    assert ips(house) == ["192.0.2.1", "192.0.2.2"]
    assert house.run("show", "2", "--format", "raw", "--output", house.folder / "kept.eml").status == 0
    house.refuse("two@example.org", 0)
    house.at(41)
    house.run("send")
    assert ips(house) == []


def test_prune_drops_history_by_its_age(house: House) -> None:
    """No report tells it, so that none holds it back."""
    house.ban("192.0.2.1")
    house.ban("192.0.2.2", history=True)
    house.ban("192.0.2.3", days=20, history=True)
    house.at(31)
    assert house.run("-v", "prune").out == "1 event dropped\n"
    assert ips(house) == ["192.0.2.1", "192.0.2.3"]


@pytest.mark.slow
def test_prune_shortens_the_file(house: House) -> None:
    """What a flood took from the disk comes back."""
    rows = [event(ip=f"2001:db8::{n:x}", recorded_at=NOON, matches="x" * 900) for n in range(5000)]
    fill(house.store, rows)
    house.run("send")
    large = house.store.stat().st_size
    house.at(31)
    assert house.run("-v", "prune").out == "5,000 events dropped\n"
    assert house.store.stat().st_size < large / 20


def test_a_store_that_is_pruned_takes_bans_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its short steps the lock is free."""
    fill(house.store, [event(ip=f"2001:db8::{n:x}", recorded_at=NOON) for n in range(5000)])
    house.run("send")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        house.ban(f"192.0.2.{len(pauses)}", days=31)

    monkeypatch.setattr("f2b_digest.cli.send.time", SimpleNamespace(sleep=pause))
    house.at(31)
    assert house.run("prune").status == 0
    assert len(pauses) >= 3
    assert len(ips(house)) == len(pauses)
    assert not Path(f"{house.store}.spool").exists()


# ---- status


def test_status_tells_what_was_deferred_failed_and_damaged(two_digests: House) -> None:
    """Each with its words, in text and for programs."""
    Path(f"{two_digests.store}.damaged").write_text("row 5 missing\n\x1b[2Jfrom index\n")
    ended = two_digests.run("status")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("PROBLEMS: the store is damaged; 1 delivery failed; 1 delivery deferred")
    assert lines[2].startswith("DAMAGED  set aside: row 5 missing")
    assert re.search(r"(?m)^failed +daily of Fri 20 Nov 2026 00:00: mail to two@example.org, 1 attempt$", ended.out)
    assert re.search(r"(?m)^deferred +daily of Sat 21 Nov .*two@.*, 1 attempt, next attempt .* 00:05$", ended.out)
    assert ended.out.count("550 no such user") == 2
    assert "\x1b" not in ended.out
    state = json.loads(two_digests.run("status", "--json").out)
    assert [row["status"] for row in state["undelivered"]] == ["failed", "deferred"]
    assert "row 5 missing" in state["damage"]


def test_no_control_character_of_the_store_reaches_the_terminal(two_digests: House) -> None:
    """Nor one that somebody else wrote into it."""
    query(two_digests.store, "UPDATE delivery SET error = char(27, 91, 50, 74, 13), recipient = char(8238, 155)")
    for command in ("history", "status"):
        out = two_digests.run(command).out
        assert "\\x1b[2J\\x0d" in out
        assert all(character.isprintable() or character == "\n" for character in out)


# ---- what was not delivered, in the next digest


def test_what_is_deferred_stands_in_each_digest_until_it_is_delivered(house: House) -> None:
    """In the text, the HTML and the notification."""
    house.refuse("two@example.org", 75)
    for day in range(3):
        house.ban(f"192.0.2.{day}", days=day)
        house.at(day + 0.5)
        house.run("send", "daily")
    third = shown(house, 3)
    for text in third:
        assert "igest 1" in text
        assert "550 no such user" in text
    for text, words in zip(third, ("RETRYING: digest 2", "Still being retried:", "2 earlier deliveries"), strict=True):
        assert words in text
    house.refuse("two@example.org", 0)
    house.at(3)
    assert house.run("retry").status == 0
    house.ban("192.0.2.9", days=3)
    house.at(3.5)
    house.run("send", "daily")
    assert not any("retr" in text.lower() or "igest 1" in text for text in shown(house, 4))


def test_what_failed_stands_in_one_digest(house: House) -> None:
    """Once is enough: nothing more will become of it; `status` and `history` keep it."""
    house.refuse("two@example.org", 67)
    house.ban("192.0.2.1")
    house.run("send", "daily")
    house.refuse("two@example.org", 0)
    for day in (1, 2):
        house.ban(f"192.0.2.{day}", days=day)
        house.at(day + 0.5)
        house.run("send", "daily")
    for text, words in zip(shown(house, 2), ("GIVEN UP:", "Given up:", "given up"), strict=True):
        assert words in text
        assert "igest 1" in text
    assert not any("igest 1" in text for text in shown(house, 3))
    assert "two@example.org" in house.run("status").out


def test_what_is_given_up_stands_in_the_next_digest(house: House) -> None:
    """Deferred in the digest before, failed in this one, and then no more."""
    house.refuse("two@example.org", 75)
    house.ban("192.0.2.1")
    house.run("send", "daily")
    for day in range(1, 7):
        house.at(day)
        house.run("retry")
    assert house.run("status", "--json").out.count('"failed"') == 1
    house.refuse("two@example.org", 0)
    for day in (7, 8):
        house.ban(f"192.0.2.{day}", days=day)
        house.at(day + 0.5)
        house.run("send", "daily")
    assert "given up after 5 days" in " ".join(shown(house, 2)[0].split())
    assert "digest 1" not in shown(house, 3)[0]


def test_a_failure_is_told_by_its_own_report(house: House) -> None:
    """The readers of another report have nothing to do with it."""
    house.refuse("two@example.org", 67)
    house.ban("192.0.2.1")
    house.run("send", "daily")
    house.at(1)
    house.run("send", "weekly")
    assert "NOT DELIVERED" not in shown(house, 2)[0]


def test_a_preview_tells_what_was_not_delivered(two_digests: House) -> None:
    """As the next digest will."""
    two_digests.ban("192.0.2.4", days=2)
    two_digests.at(2.5)
    assert "RETRYING: digest 2 of" in two_digests.run("preview").out


def test_a_refused_notification_stands_in_the_next_mail(house: House) -> None:
    """With the server's own message, whatever the channel."""
    with WebServer(says(401, '{"code":40101,"error":"unauthorized"}', "application/json")) as server:
        house.add(
            f'[reports.urgent]\nchannels = ["phone", "box"]\n'
            f'[channels.phone]\nkind = "ntfy"\nurl = "{server.url}"\ntopic = "alerts"\n'
        )
        house.ban("192.0.2.1")
        assert house.run("send", "urgent").status == 1
    house.ban("192.0.2.2", days=1)
    house.at(1)
    assert "phone to alerts" in " ".join(house.run("preview", "urgent").out.split())
    assert "unauthorized" in house.run("preview", "urgent", "--format", "ntfy").out


# ---- what the tests look at


def body(mail: bytes, subtype: str) -> str:
    """Return a part of a mail."""
    part = next(part for part in message_from_bytes(mail).walk() if part.get_content_subtype() == subtype)
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content.decode()


def shown(house: House, key: int) -> list[str]:
    """Return a digest as text, HTML and notification."""
    return [house.run("show", str(key), "--format", form).out for form in ("text", "html", "ntfy")]


def deliveries(house: House) -> list[tuple[Any, ...]]:
    """Return (digest, channel, recipient, status, attempts) of each delivery."""
    return query(house.store, "SELECT digest_id, channel, recipient, status, attempts FROM delivery ORDER BY id")


def ips(house: House) -> list[str]:
    """Return the ids of the events there are."""
    return [ip for (ip,) in query(house.store, "SELECT ip FROM event ORDER BY id")]
