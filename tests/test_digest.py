"""What a digest says: final ban times, sums that add up however much is left out, and right times on every night."""

import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from f2b_digest import delivery, places
from f2b_digest.channels.email import Email
from f2b_digest.config import Configuration, Report
from f2b_digest.digest import Address, Digest, Jail, LeftOut, Totals, cut
from f2b_digest.message import Stamp
from f2b_digest.render import Renderer
from f2b_digest.store import Store
from tests.conftest import Command
from tests.store_making import NOON, Row, event, fill

HOUR = 3600.0


def compose(path: Path, rows: list[Row], now: float = NOON + HOUR, zone: str = "UTC") -> Digest:
    """Return the digest of some events, as a send at `now` would make it."""
    fill(path, rows)
    configuration = Configuration("web1", ZoneInfo(zone), None, None, {"daily": Report()}, {})
    with Store(path, read_only=True) as store:
        selection = delivery.pending(store, "daily", configuration.reports["daily"])
        return delivery.compose(configuration, store, "daily", selection, now)


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
        (-1, "banned for good"),
        (None, "banned for an unknown time"),
        (600, "banned for 10 min, until 12:10"),
        (2**62, "until 30 Dec 9999"),
    ],
)
def test_a_ban_time_reads_as_a_person_would_say_it(
    f2b_digest: Command, config: Path, path: Path, bantime: int | None, words: str
) -> None:
    """Permanent, unknown and absurd ban times have words, too."""
    fill(path, [event(bantime=bantime)])
    assert words in f2b_digest("--config", config, "preview").out


@pytest.mark.parametrize("form", ["text", "html", "ntfy", "json"])
@pytest.mark.parametrize("at", [-1e18, 0.0, 9e18])
def test_absurd_numbers_do_not_stop_a_digest(
    f2b_digest: Command, config: Path, path: Path, form: str, at: float
) -> None:
    """A clock that was wrong, or a script that records nonsense, costs the sense of its own row only."""
    absurd: dict[str, Any] = {"failures": 2**62, "bantime": 2**62, "bancount": 2**62}
    fill(path, [event(ip=f"192.0.2.{n}", at=at, **absurd) for n in range(4)] + [event(ip="198.51.100.1")])
    ended = f2b_digest("--config", config, "preview", "--format", form)
    assert (ended.status, ended.err) == (0, "")
    assert "5" in ended.out


# ---- what is left out


def digest_of(counts: list[list[int]]) -> Digest:
    """Return a digest of jails whose addresses have so many bans each."""
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


def test_a_flood_is_counted_to_the_last_address(f2b_digest: Command, config: Path, path: Path) -> None:
    """Of 20,000 addresses in 3 jails a few are named, and "and N more addresses, M bans" accounts for the others."""
    jails = {"sshd": 12000, "web": 7000, "ftp": 1000}
    fill(path, [
        event(jail=jail, ip=f"2001:db8::{n:x}", at=NOON + again, failures=3)
        for jail, addresses in jails.items() for n in range(addresses) for again in range(1 + (n % 5 == 0))
    ])  # fmt: skip
    text = f2b_digest("--config", config, "preview").out
    assert "24,000 bans, 12,000 addresses, 3 jails, 72,000 failures" in text
    for jail, addresses in jails.items():
        section = text.partition(f"\n{jail}: ")[2].partition("\n\n")[0]
        rows = [number(bans) for bans in re.findall(r"^  2001\S+ +([\d,]+) bans? ", section, re.MULTILINE)]
        more = re.search(r"and ([\d,]+) more addresses, ([\d,]+) bans", section)
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
    """First, last and the end of a ban stand in local time, and an hour's ban is 3,600 seconds long."""
    start, end = datetime.fromisoformat(first).timestamp(), datetime.fromisoformat(last).timestamp()
    digest = compose(path, [event(at=start, bantime=3600), event(at=end, bantime=3600)], end + HOUR, zone)
    address = only(digest)
    assert address.until
    assert (address.first.isoformat(), address.last.isoformat(), address.until.isoformat()) == local
    assert address.until.timestamp() - address.last.timestamp() == HOUR
    assert (digest.start.timestamp(), digest.end.timestamp()) == (start, end + HOUR)
    assert f"until {local[2][11:16]}" in text_of(digest)


def text_of(digest: Digest) -> str:
    """Return the text of the mail."""
    channel = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})
    stamp = Stamp("uuid", "daily", "mail", "web1", NOON, 1)
    renderer = Renderer(places.folder("templates"))
    return delivery.fit(channel.templates, digest, renderer, lambda parts: channel.fits(parts, stamp))[0][
        "email/body.txt"
    ]
