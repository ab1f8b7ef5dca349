"""What a digest says: final ban times, sums that add up however much is left out, and right times on every night."""

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f2b_digest import composition, delivery, resources
from f2b_digest.analysis import campaign_rule
from f2b_digest.channels.email import Email
from f2b_digest.config import Configuration, Report
from f2b_digest.model.cutting import cut
from f2b_digest.model.digest import Address, Digest, Jail, LeftOut, Totals
from f2b_digest.model.document import from_json, to_json
from f2b_digest.model.host_context import Geography, Place
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.support.program import Command
from tests.support.store_making import NOON, Row, event, fill

HOUR = 3600.0
RULE = campaign_rule(5)


def compose(path: Path, rows: list[Row], now: float = NOON + HOUR, zone: str = "UTC") -> Digest:
    """Return the digest of some events, as a send at `now` would make it."""
    fill(path, rows)
    configuration = Configuration("web1", ZoneInfo(zone), None, None, {"daily": Report()}, {})
    with Store(path, read_only=True) as store:
        selection = composition.pending(store, "daily", configuration.reports["daily"])
        with store.report(selection) as source:
            return composition.compose(configuration, source, "daily", now)


def only(digest: Digest) -> Address:
    """Return the one address of a digest."""
    ((address,),) = [jail.worst for jail in digest.jails]
    return address


# ---- how long a ban lasts

BAN, AGAIN = event(bantime=600), event(at=NOON + 60, bantime=1200)
PROLONGED, LONGER = event("prolong", bantime=86400), event("prolong", at=NOON + 60, bantime=172800)


@pytest.mark.parametrize("rows", [[BAN, PROLONGED], [PROLONGED, BAN]])
def test_a_prolonged_ban_shows_its_final_time(path: Path, rows: list[Row]) -> None:
    """bantime.increment makes ten minutes a day; in which order the two were recorded does not count."""
    address = only(compose(path, rows))
    assert (address.bans, address.bantime) == (1, 86400)
    assert address.until == datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("rows", "bantime"),
    [
        ([BAN, PROLONGED, AGAIN], 1200),
        ([BAN, PROLONGED, AGAIN, LONGER], 172800),
        ([AGAIN, LONGER, PROLONGED, BAN], 172800),
    ],
)
def test_of_two_bans_the_last_says_how_long(path: Path, rows: list[Row], bantime: int) -> None:
    """The first ban is over, however long it was meant to be."""
    address = only(compose(path, rows))
    assert (address.bans, address.bantime) == (2, bantime)
    assert address.until == datetime.fromtimestamp(NOON + 60 + bantime, UTC)


def test_each_host_has_ban_times_of_its_own(path: Path) -> None:
    """Where two hosts banned an address at once, the longer ban counts, and neither prolongs the other's."""
    elsewhere = event(bantime=3600, host="web2")
    assert only(compose(path, [BAN, event("prolong", bantime=1200), elsewhere])).bantime == 3600
    fill(path, [event("prolong", bantime=86400, host="web3")])
    assert only(compose(path, [])).bantime == 3600


@pytest.mark.parametrize(
    ("bantime", "words"),
    [
        (-1, "banned permanently"),
        (None, "duration unknown"),
        (600, "banned until 19 Nov 12:10"),
        (2**62, "until 30 Dec 9999"),
    ],
)
def test_a_ban_time_reads_as_a_person_would_say_it(
    f2b_digest: Command, config: Path, path: Path, bantime: int | None, words: str
) -> None:
    """Permanent, unknown and absurd ban times are displayed, too."""
    fill(path, [event(bantime=bantime)])
    assert words in f2b_digest("--config", config, "preview").out


@pytest.mark.parametrize("form", ["text", "html", "ntfy", "json"])
@pytest.mark.parametrize("at", [-1e18, 0.0, 9e18])
def test_absurd_numbers_do_not_stop_a_digest(
    f2b_digest: Command, config: Path, path: Path, form: str, at: float
) -> None:
    """A wrong clock, or a script that records nonsense, spoils its own row only."""
    absurd: dict[str, Any] = {"failures": 2**62, "bantime": 2**62, "bancount": 2**62}
    fill(path, [event(ip=f"192.0.2.{n}", at=at, **absurd) for n in range(4)] + [event(ip="198.51.100.1")])
    ended = f2b_digest("--config", config, "preview", "--format", form)
    assert (ended.status, ended.err) == (0, "")
    assert "5" in ended.out


# ---- what is left out


def digest_of(counts: list[list[int]]) -> Digest:
    """Return a digest of jails whose addresses have this many bans each."""
    moment = datetime(2026, 11, 19, tzinfo=UTC)
    jails = [
        Jail(
            f"jail{number}", sum(bans), len(bans), 0,
            tuple(Address(f"192.0.2.{n}", each, 0, moment, moment, None, None) for n, each in enumerate(bans)),
        )
        for number, bans in enumerate(counts)
    ]  # fmt: skip
    totals = Totals(sum(map(sum, counts)), sum(map(len, counts)), len(counts), 0)
    return Digest("daily", "web1", "UTC", moment, moment, totals, tuple(jails))


COUNTS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=8), max_size=8)
CUTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3)


@given(COUNTS, CUTS)
def test_what_is_shown_and_what_is_left_out_is_all_there_is(
    counts: list[list[int]], cuts: list[tuple[int, int]]
) -> None:
    """A cut, or one after the other, changes no total: each row that goes is counted where it went."""
    digest = digest_of(counts)
    for jails, addresses in cuts:
        digest = cut(digest, jails, addresses)
        assert len(digest.jails) <= jails
        assert all(len(jail.worst) <= addresses for jail in digest.jails)
    assert digest.totals.bans == sum(jail.bans for jail in digest.jails) + digest.left_out.bans == sum(map(sum, counts))
    assert digest.totals.jails == len(digest.jails) + digest.left_out.jails
    for jail in digest.jails:
        assert jail.bans == sum(address.bans for address in jail.worst) + jail.left_out.bans
        assert jail.addresses == len(jail.worst) + jail.left_out.addresses


def number(text: str) -> int:
    """Return a number as it reads in a digest."""
    return int(text.replace(",", ""))


@pytest.mark.slow
def test_a_flood_is_counted_to_the_last_address(f2b_digest: Command, config: Path, path: Path) -> None:
    """Of 20,000 addresses in 3 jails a few are named, and "and N more, M bans" accounts for the others."""
    jails = {"sshd": 12000, "web": 7000, "ftp": 1000}
    fill(path, [
        event(jail=jail, ip=f"2001:db8::{n:x}", at=NOON + again, failures=3)
        for jail, addresses in jails.items() for n in range(addresses) for again in range(1 + (n % 5 == 0))
    ])  # fmt: skip
    text = f2b_digest("--config", config, "preview").out
    assert re.search(r"^ +24,000 bans\n +12,000 addresses\n +72,000 failed attempts$", text, re.MULTILINE)
    table = text.partition("\nJails ")[2].partition("\n\n")[0]
    counts = {jail: number(bans) for jail, bans in re.findall(r"^  (\S+) +([\d,]+)\b", table, re.MULTILINE)}
    assert counts == {jail: addresses * 6 // 5 for jail, addresses in jails.items()}
    sections = text.partition("\nWorst addresses ")[2].partition("\n\n")[0]
    for jail, addresses in jails.items():
        section = re.split(r"\n  (?! )", sections.partition(f"\n  {jail}\n")[2])[0]
        rows = [number(bans) for bans in re.findall(r"^    2001\S+ +([\d,]+)\b", section, re.MULTILINE)]
        more = re.search(r"^    and ([\d,]+) more, ([\d,]+) bans", section, re.MULTILINE)
        assert more, f"the section of {jail} does not say what it leaves out"
        assert rows
        assert len(rows) + number(more[1]) == addresses
        assert sum(rows) + number(more[2]) == addresses * 6 // 5


def test_a_flood_of_jails_is_counted_to_the_last_one(f2b_digest: Command, config: Path, path: Path) -> None:
    """Of 500 jails some are named, and the others counted with their bans."""
    fill(path, [event(jail=f"jail{n}", ip=f"192.0.2.{again}") for n in range(500) for again in range(2)])
    text = f2b_digest("--config", config, "preview").out
    named = len(re.findall(r"^  jail\d+ +2 ", text, re.MULTILINE))
    more = re.search(r"and ([\d,]+) more jails, ([\d,]+) bans", text)
    assert more
    assert named + number(more[1]) == 500
    assert 2 * named + number(more[2]) == 1000


# ---- when it happened


@pytest.mark.parametrize(
    ("zone", "start", "hours", "count", "first", "unusual"),
    [
        ("UTC", "2026-10-25T00:00", 24, 24, "00:00", {}),
        ("Europe/Paris", "2026-10-25T00:00+02:00", 25, 25, "00:00", {}),
        ("Europe/Paris", "2026-03-29T00:00+01:00", 23, 23, "00:00", {}),
        ("Europe/Paris", "2026-11-19T07:20+01:00", 24, 25, "07:00", {}),
        ("Asia/Kolkata", "2026-11-19T00:00+05:30", 24, 24, "00:00", {}),
        ("Australia/Lord_Howe", "2026-04-05T00:00+11:00", 24.5, 24, "00:00", {"01:00": 6}),
        ("Australia/Lord_Howe", "2026-10-04T00:00+10:30", 23.5, 23, "00:00", {"01:00": 6}),
    ],
)
def test_a_bar_is_an_hour_of_the_clock_on_the_wall(
    path: Path, zone: str, start: str, hours: float, count: int, first: str, unusual: dict[str, int]
) -> None:
    """A day has as many bars as the clock has full hours, be they 23, 24 or 25; a ban in each quarter counts in its."""
    begin = datetime.fromisoformat(start if "+" in start else f"{start}+00:00").timestamp()
    fill(path, [event(at=begin + quarter * 900) for quarter in range(int(hours * 4))])
    with Store(path, read_only=True) as store:
        selection, end = Selection(first_id=1, last_id=999), begin + hours * HOUR
        with store.report(selection) as source:
            digest = source.counts(zone=ZoneInfo(zone), start=begin, end=end, campaigns=RULE)
    when = digest.when
    assert when
    assert (when.unit, len(when.bars), f"{when.bars[0].start:%H:%M}") == ("hour", count, first)
    for bar in when.bars[1 if "20" in start[-11:] else 0 : count - 1]:
        assert bar.start.minute == 0
        assert bar.bans == unusual.get(f"{bar.start:%H:%M}", 4)
    assert sum(bar.bans for bar in when.bars) == digest.totals.bans


@pytest.mark.parametrize(
    ("zone", "start", "end", "unit", "starts"),
    [
        ("UTC", "2026-11-18T00:00+00:00", "2026-11-20T00:00+00:00", "day", ["2026-11-18", "2026-11-19"]),
        ("UTC", "2026-11-18T06:00+00:00", "2026-11-20T06:00+00:00", "day", ["2026-11-18", "2026-11-19", "2026-11-20"]),
        ("Pacific/Apia", "2011-12-28T00:00-10:00", "2011-12-31T10:00+14:00", "day",
         ["2011-12-28", "2011-12-29", "2011-12-31"]),
        ("America/Havana", "2026-10-31T00:00-04:00", "2026-11-03T00:00-05:00", "day",
         ["2026-10-31", "2026-11-01", "2026-11-02"]),
        ("UTC", "2026-11-01T00:00+00:00", "2026-11-23T00:00+00:00", "week",
         ["2026-10-26", "2026-11-02", "2026-11-09", "2026-11-16"]),
    ],
)  # fmt: skip
def test_days_and_weeks_are_those_of_the_calendar(
    path: Path, zone: str, start: str, end: str, unit: str, starts: list[str]
) -> None:
    """A day begins at its midnight, a week on its Monday; a day that a zone left out is none; all bans are counted."""
    begin, until = (datetime.fromisoformat(text).timestamp() for text in (start, end))
    fill(path, [event(at=at) for at in (begin - 86400, begin, until - 1, until + 1, until + 86400)])
    with Store(path, read_only=True) as store:
        selection = Selection(first_id=1, last_id=999)
        with store.report(selection) as source:
            digest = source.counts(zone=ZoneInfo(zone), start=begin, end=until, campaigns=RULE)
    assert digest.when
    assert [f"{bar.start:%Y-%m-%d}" for bar in digest.when.bars] == starts
    assert [bar.bans for bar in digest.when.bars] == [2, *[0] * (len(starts) - 2), 3]


def test_of_years_the_newest_weeks_are_shown(path: Path) -> None:
    """A first digest may hold the bans of years: sixty weeks have a bar, and the hours of the week count all bans."""
    digest = compose(path, [event(at=NOON - week * 7 * 86400) for week in range(200)])
    assert digest.when
    assert [bar.bans for bar in digest.when.bars] == [1] * 60
    assert digest.when.heat[3][12] == digest.totals.bans == 200


# ---- who came, and from where


@pytest.mark.parametrize(
    "ips",
    [
        [f"203.0.113.{n}x" for n in range(9)],
        [f"203.0.113.0{n}" for n in range(9)],
        [f"203.0.113.{n}" for n in range(256, 265)],
        [f"203.0.113.{n}/32" for n in range(9)],
        [f"203.0.{n}.0/24" for n in range(9)],
        [f"203.0.113.{n}\0" for n in range(9)],
        [f" 203.0.113.{n}" for n in range(9)],
        [f"203.0.113.{n}\n" for n in range(9)],
        [f"203.0.113.\u0661{n}" for n in range(9)],
        [f"fe80::{n}%eth0" for n in range(9)],
        [f"::ffff:203.0.113.{n}" for n in range(9)],
        [f"64:ff9b::cb00:71{n:02x}" for n in range(9)],
        [f"2001:db8:{n}::1" for n in range(9)],
        [f"203.{n}.113.1" for n in range(9)],
        [f"203.0.113.{n}" for n in range(4)],
    ],
)
def test_what_does_not_belong_together_is_no_campaign(path: Path, ips: list[str]) -> None:
    """Text that only looks like an address has no network, nor has an IPv6 address that embeds an IPv4 one."""
    assert compose(path, [event(ip=ip) for ip in ips]).campaigns_in_all == 0


def test_a_campaign_says_what_to_block(path: Path) -> None:
    """Five addresses of a /24 or a /48 are one, whatever their jails, with the network as a firewall writes it."""
    fill(path, [event(ip=f"2001:db8:7:{n}::1", users=["root", f"user{n}"]) for n in range(6)])
    digest = compose(path, [event(ip=f"203.0.113.{n}", jail="web" if n else "sshd", failures=2) for n in range(5)])
    six, four = digest.campaigns
    assert (six.network, six.cidrs, six.addresses, six.jails) == ("2001:db8:7::/48", ("2001:db8:7::/48",), 6, ("sshd",))
    assert (six.users, six.more_users) == (("root", "user0", "user1", "user2", "user3"), 2)
    assert (four.network, four.bans, four.failures, four.jails) == ("203.0.113.0/24", 5, 10, ("web", "sshd"))


def test_a_broken_database_of_addresses_costs_no_digest(path: Path) -> None:
    """The digest does without it, and says so."""

    def find(ip: str) -> Place | None:
        raise OSError(f"{ip}: I/O error")

    fill(path, [event()])
    with Store(path, read_only=True) as store, store.report(Selection(first_id=1, last_id=9)) as source:
        digest = source.counts(
            zone=ZoneInfo("UTC"), start=None, end=NOON, campaigns=RULE,
            geography=Geography("atlas 2026-11", NOON, "free", find),
        )  # fmt: skip
    assert (digest.totals.bans, digest.where) == (1, None)
    assert digest.notes == ("atlas 2026-11 lookup failed: OSError",)


def test_text_that_no_recorder_writes_does_not_stop_a_digest(f2b_digest: Command, config: Path, path: Path) -> None:
    """Bytes that are not UTF-8, and names that are not lists, in a store that somebody else wrote to."""
    fill(path, [event(ip=f"192.0.2.{n}", users=["root"]) for n in range(4)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE event SET ip = CAST(x'ff2e31' AS TEXT), jail = CAST(x'fe' AS TEXT) WHERE id = 1")
        connection.execute("UPDATE event SET users = CAST(x'5b22ff225d' AS TEXT) WHERE id = 2")
        connection.execute("""UPDATE event SET users = '{"a": [1, "b"]}' WHERE id = 3""")
        connection.execute("""UPDATE event SET users = '["\\ud800", "a\\u0000b"]', failures = 'many' WHERE id = 4""")
        connection.commit()
    for form in ("text", "json"):
        ended = f2b_digest("--config", config, "preview", "--format", form)
        assert (ended.status, ended.err) == (0, "")


def test_the_samples_are_the_last_lines_of_each_address(path: Path) -> None:
    """Of its last ban in the selection that has any."""
    fill(path, [
        event(matches="old", at=NOON), event(matches="new", at=NOON + 2, users=["root"]), event(at=NOON + 3),
        event(jail="web", matches="other"), event(ip="192.0.2.8", at=NOON), event(matches="later", at=NOON + 9),
    ])  # fmt: skip
    with Store(path, read_only=True) as store, store.report(Selection(first_id=1, last_id=5)) as source:
        found = source.samples({"sshd": ["192.0.2.7", "192.0.2.8"], "none": ["x"]})
    assert found == {"sshd": [("192.0.2.7", "new", ("root",))]}


# ---- for programs


def test_the_json_is_complete_and_its_times_carry_their_offset(f2b_digest: Command, config: Path, path: Path) -> None:
    """Programs get every field, hostile text as it is, and times that need no zone beside them."""
    hostile = "\x1b]0;\"'</script>\n\u202e😀"
    fill(path, [event(jail=hostile, ip=hostile, users=[hostile], failures=5, bantime=600)])
    document = json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)
    assert set(document) == {"version"} | names(Digest)
    assert set(document["totals"]) == names(Totals)
    (jail,) = document["jails"]
    assert set(jail) == names(Jail)
    assert set(jail["left_out"]) == names(LeftOut)
    (address,) = jail["worst"]
    assert set(address) == names(Address)
    assert (jail["name"], address["ip"], address["users"]) == (hostile, hostile, [hostile])
    assert address["until"] == "2026-11-19T12:10:00+00:00"


def names(kind: Any) -> set[str]:
    """Return the names of a dataclass's fields."""
    return {each.name for each in fields(kind)}


# ---- nights on which the clocks change


@pytest.mark.parametrize(
    ("zone", "first", "last", "local"),
    [
        (
            "Europe/Paris", "2026-10-25T00:30Z", "2026-10-25T01:30Z",
            ("2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"),
        ),
        (
            "Europe/Paris", "2026-03-29T00:30Z", "2026-03-29T01:30Z",
            ("2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00"),
        ),
        (
            "Asia/Kolkata", "2026-11-19T18:15Z", "2026-11-19T18:45Z",
            ("2026-11-19T23:45:00+05:30", "2026-11-20T00:15:00+05:30", "2026-11-20T01:15:00+05:30"),
        ),
        (
            "Australia/Lord_Howe", "2026-04-04T14:45Z", "2026-04-04T15:15Z",
            ("2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30", "2026-04-05T02:45:00+10:30"),
        ),
        (
            "Australia/Lord_Howe", "2026-10-03T15:15Z", "2026-10-03T15:45Z",
            ("2026-10-04T01:45:00+10:30", "2026-10-04T02:45:00+11:00", "2026-10-04T03:45:00+11:00"),
        ),
    ],
)  # fmt: skip
def test_times_are_right_in_the_night_when_the_clocks_change(
    path: Path, zone: str, first: str, last: str, local: tuple[str, str, str]
) -> None:
    """First, last and end of a ban are in local time, and an hour's ban has 3,600 seconds."""
    start, end = datetime.fromisoformat(first).timestamp(), datetime.fromisoformat(last).timestamp()
    digest = compose(path, [event(at=start, bantime=3600), event(at=end, bantime=3600)], end + HOUR, zone)
    address = only(digest)
    assert address.until
    assert (address.first.isoformat(), address.last.isoformat(), address.until.isoformat()) == local
    assert address.until.timestamp() - address.last.timestamp() == HOUR
    assert (digest.start.timestamp(), digest.end.timestamp()) == (start, end + HOUR)
    assert re.search(rf"until \d+ \w+ {local[2][11:16]}", text_of(digest))


def text_of(digest: Digest) -> str:
    """Return the text of the mail."""
    channel = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})
    stamp = Stamp("uuid", "daily", "mail", "web1", NOON, 1)
    renderer = Renderer(resources.folder("templates"))
    return delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, stamp))[0].parts[
        "email/body.txt"
    ]


# ---- digests of an earlier version

EARLIER = {
    "": (
        "report",
        "host",
        "timezone",
        "start",
        "end",
        "totals",
        "jails",
        "left_out",
        "undelivered",
        "notes",
        "reconciliation",
    ),
    "jails": ("name", "bans", "addresses", "failures", "worst", "left_out"),
    "worst": ("ip", "bans", "failures", "first", "last", "bantime", "until", "users", "more_users"),
}
"""The keys that a document had before digests were judged."""


def test_a_digest_from_before_digests_were_judged_can_still_be_shown(path: Path) -> None:
    """The archive of an older version is not lost by an upgrade."""
    told = json.loads(to_json(compose(path, [event(users=["root"]), event(ip="198.51.100.1")])))
    older = {key: told[key] for key in EARLIER[""]}
    older["jails"] = [{key: jail[key] for key in EARLIER["jails"]} for jail in told["jails"]]
    for jail in older["jails"]:
        jail["worst"] = [{key: address[key] for key in EARLIER["worst"]} for address in jail["worst"]]
    text = text_of(from_json(json.dumps(older)))
    assert "Nothing is broken. 2 bans." in text  # nobody judged it
    assert "198.51.100.1" in text
