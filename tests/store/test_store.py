"""The store: what it refuses, what it never touches, sealing and claiming, and correct totals."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from f2b_digest import recorder
from f2b_digest.analysis import campaign_rule
from f2b_digest.model.counts import SHOWN, Counts, Most
from f2b_digest.model.digest import Address, Totals
from f2b_digest.model.event import Event
from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store, summary
from tests.support.damage import fingerprint
from tests.support.program import Command
from tests.support.store_making import NOON, Row, event, fill, query

AS_NOBODY = """
import contextlib, io, os, sys
from f2b_digest.cli import cli, main
with contextlib.redirect_stdout(io.StringIO()):  # every module is loaded: nobody may not be able to read them
    cli.main(["--store", sys.argv.pop(1), "preview"], standalone_mode=False)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
main()
"""
UTC = ZoneInfo("UTC")
ALL = Selection(first_id=1, last_id=sys.maxsize)


def stamp(uuid: str = "one", report: str = "daily") -> Stamp:
    """Return a stamp of a digest made at noon."""
    return Stamp(uuid, report, "out", "web1", NOON, 1)


def seal(store: Store, selection: Selection, uuid: str, *recipients: str) -> bool:
    """Seal a selection with a message for each recipient."""
    messages = [("out", Message(recipient, b"body", uuid)) for recipient in recipients]
    return store.seal(selection, stamp=stamp(uuid), document="{}", start=NOON, end=NOON, messages=messages)


def summarise(store: Store, selection: Selection = ALL, start: float | None = None, most: Most = SHOWN) -> Counts:
    """Return the counts of a selection."""
    with store.report(selection, most) as source:
        return source.counts(zone=UTC, start=start, end=NOON, campaigns=campaign_rule(5))


# ---- the table of events


def test_the_event_table_is_as_events_are_written_and_imported(path: Path) -> None:
    """The columns of the recorder's DDL, those of its INSERT, and the fields of an imported event are the same."""
    fill(path, [])
    made = [name for (name,) in query(path, "SELECT name FROM pragma_table_info('event')")]
    assert made == ["id", *recorder.COLUMNS] == ["id", *Event._fields]


def test_ids_are_never_used_again(path: Path) -> None:
    """An event after a pruned one gets a higher id, or a digest's range would hide it."""
    fill(path, [event(at=1), event(at=2)])
    query(path, "DELETE FROM event")
    fill(path, [event(at=3)])
    assert query(path, "SELECT id FROM event") == [(3,)]


# ---- what is not a store of ours


def make_newer(path: Path) -> None:
    """Make a store of a later version of this program."""
    fill(path, [event()])
    query(path, f"PRAGMA user_version={recorder.SCHEMA_VERSION + 1}")


def make_foreign(path: Path) -> None:
    """Make a database of another program."""
    query(path, "CREATE TABLE bans (ip TEXT)")


def make_garbage(path: Path) -> None:
    """Make a file that is no database."""
    path.write_bytes(b"no database at all " * 1000)


@pytest.mark.parametrize("command", ["preview", "status", "send", "retry"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_newer, "newer f2b-digest"),
        (make_foreign, "not a store of f2b-digest"),
        (make_garbage, "not an SQLite database"),
    ],
)
def test_a_file_that_is_not_our_store_is_refused_and_left_alone(
    f2b_digest: Command, config: Path, path: Path, command: str, make: Any, words: str
) -> None:
    """Every command ends with status 1 and one line that says what the file is, and the file's bytes stay."""
    make(path)
    before = fingerprint(path)
    ended = f2b_digest("--config", config, command)
    assert (ended.status, ended.out) == (1, "")
    assert words in ended.err
    assert str(path) in ended.err
    assert ended.err.count("\n") == 1
    assert fingerprint(path) == before


@pytest.mark.parametrize("command", ["preview", "status", "send"])
def test_a_missing_store_is_named_with_what_makes_one(
    f2b_digest: Command, config: Path, path: Path, command: str
) -> None:
    """The admin reads where the store should be and that fail2ban's action makes it; nothing is made."""
    ended = f2b_digest("--config", config, command)
    assert ended.status == 1
    assert f"no store at {path}" in ended.err
    assert "fail2ban" in ended.err
    assert not path.exists()


def test_a_retry_before_the_first_ban_is_silent(f2b_digest: Command, config: Path) -> None:
    """Cron runs `retry` from the installation on; without a store there is nothing to do."""
    ended = f2b_digest("--config", config, "retry")
    assert (ended.status, ended.out, ended.err) == (0, "", "")


@pytest.mark.parametrize("command", ["preview", "status"])
def test_a_store_that_only_fail2ban_has_touched_can_be_read(f2b_digest: Command, path: Path, command: str) -> None:
    """Before the first send there are no digest tables, and reading makes none."""
    fill(path, [event()])
    assert f2b_digest("--store", path, command).status == 0
    assert query(path, "SELECT name FROM sqlite_master WHERE name IN ('digest', 'delivery')") == []


# ---- sealing


def test_sealing_writes_one_row_and_touches_no_event(path: Path) -> None:
    """Marking thousands of bans is one row: no event is rewritten or deleted."""
    fill(path, [event(at=at) for at in range(5000)])
    for verb in ("UPDATE", "DELETE"):
        query(path, f"CREATE TRIGGER no_{verb} BEFORE {verb} ON event BEGIN SELECT raise(ABORT, 'an event'); END")
    before = query(path, "SELECT * FROM event")
    with Store(path, read_only=False) as store:
        assert seal(store, Selection(first_id=1, last_id=5000), "one", "admin@example.org")
    assert query(path, "SELECT count(*) FROM digest") == [(1,)]
    assert query(path, "SELECT * FROM event") == before


@pytest.mark.parametrize("last_id", [3, 4])
def test_of_two_senders_one_seals(path: Path, last_id: int) -> None:
    """The slower sender changes nothing, also where it has seen one ban more."""
    fill(path, [event(at=at) for at in range(4)])
    with Store(path, read_only=False) as fast, Store(path, read_only=False) as slow:
        assert seal(fast, Selection(first_id=1, last_id=3), "fast", "admin@example.org")
        assert not seal(slow, Selection(first_id=1, last_id=last_id), "slow", "admin@example.org")
    assert query(path, "SELECT uuid, last_id FROM digest") == [("fast", 3)]
    assert query(path, "SELECT identity FROM delivery") == [("fast",)]


def test_there_is_no_digest_without_all_its_messages(path: Path) -> None:
    """Where one message cannot be stored, neither are the others, nor the digest."""
    fill(path, [event()])
    with Store(path, read_only=False) as store:
        query(path, "CREATE TRIGGER full BEFORE INSERT ON delivery WHEN NEW.recipient = 'second' "
                    "BEGIN SELECT raise(FAIL, 'disk full'); END")  # fmt: skip
        with pytest.raises(sqlite3.IntegrityError, match="disk full"):
            seal(store, Selection(first_id=1, last_id=1), "one", "first", "second")
    assert query(path, "SELECT * FROM digest") == []
    assert query(path, "SELECT * FROM delivery") == []


# ---- claiming


def test_one_sender_has_a_delivery_until_its_next_attempt(path: Path) -> None:
    """A second sender gets nothing while the first one tries; when that died, the delivery comes back, with a word."""
    fill(path, [event()])
    with Store(path, read_only=False) as store, Store(path, read_only=False) as other:
        seal(store, Selection(first_id=1, last_id=1), "one", "admin@example.org")
        (due,) = other.deliveries(("pending", "deferred"), due=NOON)
        assert store.claim(due.id, attempts=0, next_at=NOON + 300) is not None
        assert other.claim(due.id, attempts=0, next_at=NOON + 300) is None
        assert other.deliveries(("pending", "deferred"), due=NOON + 299) == []
        (left,) = other.deliveries(("pending", "deferred"), due=NOON + 300)
        assert (left.attempts, left.status) == (1, "deferred")
        assert "a copy may have arrived" in (left.error or "")
        message = other.claim(left.id, attempts=1, next_at=NOON + 900)
        assert message == Message("admin@example.org", b"body", "one", in_doubt=True)


# ---- who may read


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Provide a folder that everybody may enter; pytest's own are closed."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o644), (0o755, 0o640), (0o750, 0o640), (0o770, 0o660)])
def test_somebody_who_may_not_write_beside_the_store_reads_who_may(
    shared_folder: Path, folder_mode: int, file_mode: int
) -> None:
    """A reader without rights gets the digest, or one line that names the user (or the group) to be."""
    folder = shared_folder / "f2b-digest"
    path = folder / "bans.sqlite3"
    fill(path, [event()])
    path.chmod(file_mode)
    folder.chmod(folder_mode)
    warm = shared_folder / "warm.sqlite3"
    fill(warm, [event()])
    ended = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, warm, "--store", path, "preview"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode == 0:
        assert "1 ban" in ended.stdout
        return
    assert ended.returncode == 1
    assert re.fullmatch(r"f2b-digest: .*(run this as root)\n", ended.stderr)
    assert ("join group" in ended.stderr) == bool(folder_mode & 0o020)


# ---- the sums


def test_the_worst_stand_first(path: Path) -> None:
    """Jails and addresses are ordered by bans, then failures, then the latest."""
    many, failing, late = "192.0.2.9", "192.0.2.8", "192.0.2.7"
    fill(path, [event(jail="few", at=at) for at in range(2)])
    fill(path, [event(ip=many, at=at, failures=1) for at in range(2)])
    fill(path, [event(ip=failing, failures=9), event(ip=late, at=NOON + 1), event(ip="192.0.2.1")])
    with Store(path, read_only=True) as store:
        digest = summarise(store)
    assert [jail.name for jail in digest.jails] == ["sshd", "few"]
    assert [address.ip for address in digest.jails[0].worst] == [many, failing, late, "192.0.2.1"]


JAILS = ("sshd", "ssh-ddos", "web", "a\0b", "'; DROP TABLE event", "ж*")
PATTERNS: dict[str, Callable[[str], bool]] = {
    "*": lambda jail: True,
    "ssh*": lambda jail: jail.startswith("ssh"),
    "web": lambda jail: jail == "web",
    "?[!s]*": lambda jail: jail[1:2] not in ("", "s"),
}
ROWS = st.builds(
    event,
    kind=st.sampled_from(("ban", "ban", "ban", "ban", "prolong", "unban", "start")),
    jail=st.just("sshd") | st.sampled_from(JAILS),
    ip=st.sampled_from(("192.0.2.1", "192.0.2.2", "2001:db8::1", "not an address")),
    at=st.integers(0, 9).map(float),
    host=st.sampled_from(("web1", "web2")),
    failures=st.none() | st.integers(0, 9),
    bantime=st.none() | st.sampled_from((0, 600, 86400)),
    users=st.lists(st.sampled_from(("root", "admin", '"], ["', "ж")), max_size=3),
    history=st.sampled_from((False, False, False, True)),
)
FIRST, LAST = st.just(1) | st.integers(1, 20), st.just(99) | st.integers(0, 60)
CHOSEN = st.lists(st.tuples(st.sampled_from(("", "", "!")), st.sampled_from(sorted(PATTERNS))), min_size=1, max_size=3)
Stored = dict[str, Any]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(ROWS, max_size=40) | st.lists(ROWS, min_size=30, max_size=60), CHOSEN, FIRST, LAST,
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
def test_every_number_of_a_digest_is_what_a_naive_count_finds(
    rows: list[Row], chosen: list[tuple[str, str]], first_id: int, last_id: int, jails: int, addresses: int, users: int
) -> None:
    """Bans, addresses, failures, times, users and the rest equal a count in Python, for any selection."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "MOST_USERS", users)
        path = Path(folder, "bans.sqlite3")
        fill(path, rows)
        stored = [
            {"id": key, **dict(zip(recorder.COLUMNS, row, strict=True))}
            for key, *row in query(path, f"SELECT id, {', '.join(recorder.COLUMNS)} FROM event")
        ]
        selection = Selection(first_id=first_id, last_id=last_id, jails=tuple(sign + name for sign, name in chosen))
        with Store(path, read_only=True) as store:
            digest = summarise(store, selection, most=Most(jails, addresses))
            pending = store.pending(selection).bans
    bans = [e for e in stored if first_id <= e["id"] <= last_id and is_wanted(e, chosen)]
    known = failures(bans) if bans else 0
    assert counts(digest.totals) == (len(bans), distinct(bans, "ip"), distinct(bans, "jail"), known)
    assert digest.totals.uncounted == sum(ban["failures"] is None for ban in bans)
    assert pending == len(bans)
    by_jail = sorted(groups(bans, "jail"), key=lambda group: (-len(group), group[0]["jail"]))
    assert (digest.left_out.jails, digest.left_out.bans) == (len(by_jail[jails:]), sum(map(len, by_jail[jails:])))
    assert [jail.name for jail in digest.jails] == [group[0]["jail"] for group in by_jail[:jails]]
    for jail, group in zip(digest.jails, by_jail, strict=False):
        assert (jail.bans, jail.addresses, jail.failures) == (len(group), distinct(group, "ip"), failures(group))
        by_ip = sorted(groups(group, "ip"), key=badness)
        assert [shown(address) for address in jail.worst] == [naive(each, stored, users) for each in by_ip[:addresses]]
        assert jail.left_out.addresses == len(by_ip[addresses:])
        assert jail.left_out.bans == sum(map(len, by_ip[addresses:]))


def is_wanted(e: Stored, chosen: list[tuple[str, str]]) -> bool:
    """Return whether an event is a ban to report in a jail that some pattern takes in and none takes out."""
    taken_in = any(PATTERNS[name](e["jail"]) for sign, name in chosen if not sign)
    taken_out = any(PATTERNS[name](e["jail"]) for sign, name in chosen if sign)
    return e["kind"] == "ban" and not e["history"] and taken_in and not taken_out


def counts(totals: Totals) -> tuple[int, int, int, int | None]:
    """Return a digest's totals as a tuple."""
    return totals.bans, totals.addresses, totals.jails, totals.failures


def distinct(bans: list[Stored], key: str) -> int:
    """Count the values of a column."""
    return len({ban[key] for ban in bans})


def failures(bans: list[Stored]) -> int | None:
    """Add up the failures that are known; None if none are."""
    known = [ban["failures"] for ban in bans if ban["failures"] is not None]
    return sum(known) if known else None


def groups(bans: list[Stored], key: str) -> list[list[Stored]]:
    """Return the bans in a list for each value of a column."""
    return [[ban for ban in bans if ban[key] == value] for value in {ban[key] for ban in bans}]


def badness(bans: list[Stored]) -> tuple[int, int, float, str]:
    """Return a key that sorts the worst address first: most bans, then failures, then the latest."""
    return -len(bans), -(failures(bans) or 0), -max(ban["at"] for ban in bans), bans[0]["ip"]


def shown(address: Address) -> tuple[object, ...]:
    """Return what a digest says of an address, with times as epoch seconds."""
    first, last = address.first.timestamp(), address.last.timestamp()
    told = address.bantime is not None  # else `until` can only be when an unban came: tests/fail2ban/test_unban.py
    until = address.until.timestamp() if address.until and told else None
    return (
        address.ip, address.bans, address.failures, first, last, address.bantime, until, address.users,
        address.more_users,
    )  # fmt: skip


def naive(bans: list[Stored], stored: list[Stored], users: int) -> tuple[object, ...]:
    """Return the same, found in Python."""
    first, last = min(ban["at"] for ban in bans), max(ban["at"] for ban in bans)
    finals = [final(ban, stored) for ban in bans if ban["at"] == last]
    bantime = max((each for each in finals if each is not None), default=None)
    names = Counter(name for ban in bans for name in json.loads(ban["users"] or "[]"))
    ordered = sorted(names, key=lambda name: (-names[name], name))
    until = None if bantime is None else last + bantime
    return (
        bans[0]["ip"], len(bans), failures(bans), first, last, bantime, until, tuple(ordered[:users]),
        len(ordered[users:]),
    )  # fmt: skip


def final(ban: Stored, stored: list[Stored]) -> int | None:
    """Return a ban's time as it was prolonged at last."""
    same = [e for e in stored if e["kind"] == "prolong" and all(e[k] == ban[k] for k in ("jail", "ip", "at", "host"))]
    bantime: int | None = same[0]["bantime"] if same and same[0]["bantime"] is not None else ban["bantime"]
    return bantime
