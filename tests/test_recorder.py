"""The recorder's file on its own: any value is stored, no event is lost or doubled, no other file is touched."""

import ast
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from f2b_digest import recorder

FILE = Path(recorder.__file__).resolve()

any_text = st.text(st.characters(exclude_categories=()))  # with NUL, controls and lone surrogates
any_value = st.one_of(
    any_text,
    st.binary(),
    st.integers(),
    st.floats(),
    st.none(),
    st.booleans(),
    st.lists(any_text, max_size=2),
    st.sampled_from([10**400, "9" * 400, "1e999", "nan", "-0", "0x10", " 7 ", "x" * 100_000]),
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Provide the path of a store that is not there yet, in a folder that is."""
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store" / "bans.sqlite3")


def ban(ip: str = "192.0.2.1", at: float = 1_800_000_000.0, **fields: Any) -> tuple[Any, ...]:
    """Return a ban's row."""
    given: dict[str, Any] = {"kind": "ban", "jail": "ssh", "host": "web1", "source": "test"}
    row: tuple[Any, ...] = recorder.event(**(given | {"ip": ip, "at": at} | fields))
    return row


def stored(path: str) -> list[tuple[Any, ...]]:
    """Return the store's rows, as `recorder.event` makes them."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT {', '.join(recorder.COLUMNS)} FROM event ORDER BY id").fetchall()


def spool(path: str, *rows: tuple[Any, ...]) -> None:
    """Put events into the spool, as a store does that takes none."""
    for row in rows:
        recorder._spool(path, row)


def empty(path: str) -> None:
    """Take every event out of the store, which is made if need be: an example begins."""
    with closing(recorder.connect(path)) as connection:
        connection.execute("DELETE FROM event")


FIELDS = (
    *("kind", "jail", "ip", "at", "host", "source", "recorded_at", "matches", "history"),
    *("failures", "bantime", "bancount"),
)
one_store = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---- any value


@pytest.mark.slow
@one_store
@given(fields=st.fixed_dictionaries(dict.fromkeys(FIELDS, any_value) | {"users": st.lists(any_value, max_size=3)}))
@example(fields=dict.fromkeys(FIELDS, "\0\udcff") | {"users": ["\0\udcff"]})
@example(fields=dict.fromkeys(FIELDS, 2**63) | {"users": [2**63]})
def test_any_value_is_stored_and_comes_back_from_the_spool_the_same(fields: dict[str, Any], store: str) -> None:
    """Whatever the fields contain, the event is stored, directly and through the spool alike."""
    row = recorder.event(**fields)
    empty(store)
    assert recorder.append(store, row) == ""
    assert stored(store) == [row]
    empty(store)
    spool(store, row)
    assert recorder.take_in(store) == (1, 0)
    assert stored(store) == [row]


@settings(deadline=None)
@given(text=st.text(max_size=50), number=st.integers(-(2**53), 2**53))
def test_text_and_numbers_are_kept_as_they_are(text: str, number: int) -> None:
    """What can be stored is not changed."""
    row = dict(
        zip(
            recorder.COLUMNS,
            recorder.event("unban", text, text, number, text, "test", users=[text], matches=text, bantime=number),
            strict=True,
        )
    )
    assert (row["jail"], row["ip"], row["host"], row["matches"] or "") == (text, text, text, text)
    assert (row["at"], row["bantime"], row["kind"]) == (number, number, "unban")
    assert json.loads(row["users"] or "[]") == ([text] if text else [])


def test_a_time_that_is_none_becomes_now() -> None:
    """An event without a usable time happened now."""
    for nonsense in (None, "", "soon", float("nan"), float("inf"), 10**400, b"\xff"):
        row = dict(zip(recorder.COLUMNS, ban(at=nonsense, recorded_at=nonsense), strict=True))  # type: ignore[arg-type]
        assert abs(row["at"] - time.time()) < 5
        assert abs(row["recorded_at"] - time.time()) < 5


def test_names_are_listed_once_and_in_order() -> None:
    """A name that was tried twice is one name."""
    row = dict(zip(recorder.COLUMNS, ban(users=["bob", "", None, "alice", "bob"]), strict=True))
    assert json.loads(row["users"]) == ["bob", "alice"]


# ---- once, and not lost


def test_the_same_event_twice_is_one_row(store: str) -> None:
    """A second append of an event changes nothing; another time, kind, host, jail or address is another event."""
    first = ban(failures=3)
    others = [ban(at=1.0), ban(kind="unban"), ban(host="web2"), ban(jail="web"), ban(ip="192.0.2.2")]
    for row in (first, ban(failures=5), *others):
        assert recorder.append(store, row) == ""
    assert stored(store) == [first, *others]


@pytest.mark.slow
def test_eight_processes_lose_and_double_nothing(store: str) -> None:
    """Doors that all begin at once, with the store not even made, put every event in."""
    code = """if True:
        import importlib.machinery, sys
        recorder = importlib.machinery.SourceFileLoader("recorder", sys.argv[1]).load_module()
        for number in range(200):
            row = recorder.event("ban", "ssh", "%s-%d" % (sys.argv[3], number), 1.0, "web1", "test")
            recorder.append(sys.argv[2], row)
    """
    command = [sys.executable, "-W", "ignore", "-c", code, str(FILE), store]
    processes = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE) for number in range(8)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, b"")
    recorder.take_in(store)
    assert sorted(row[3] for row in stored(store)) == sorted(f"{p}-{n}" for p in range(8) for n in range(200))


@pytest.mark.slow
def test_many_doors_make_the_store_together(tmp_path: Path) -> None:
    """A recorder that starts while another creates the store waits, and does not spool."""
    for attempt in range(20):
        (tmp_path / f"{attempt}").mkdir()
        path = str(tmp_path / f"{attempt}" / "bans.sqlite3")
        barrier = threading.Barrier(4)
        reasons: list[str] = []

        def append(number: int, path: str = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            reasons.append(recorder.append(path, ban(ip=str(number))))

        threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert reasons == [""] * 4


def test_a_store_is_durable_and_does_not_block_its_readers(store: str) -> None:
    """What is acknowledged survives a power cut (synchronous=FULL), and readers and the writer do not meet (WAL)."""
    recorder.append(store, ban())
    with closing(sqlite3.connect(store)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")  # as a copy made with VACUUM INTO is
    with closing(recorder.connect(store)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# ---- the spool


@pytest.mark.slow
@one_store
@given(ids=st.lists(any_text, max_size=8))
def test_what_goes_into_the_spool_comes_out_once(ids: list[str], store: str) -> None:
    """Every spooled event is in the store after take_in, and a second take_in finds none."""
    empty(store)
    rows = [ban(ip=ip, at=number) for number, ip in enumerate(ids)]
    spool(store, *rows)
    assert recorder.spooled(store) == len(rows)
    assert recorder.take_in(store) == (len(rows), 0)
    assert (recorder.take_in(store), recorder.spooled(store)) == ((0, 0), 0)
    assert stored(store) == rows


class Killed(BaseException):
    """Stands for kill -9: nothing in the recorder may catch it and go on."""


@pytest.mark.parametrize("moment", ["before it is emptied", "after it is emptied"])
def test_a_take_in_that_is_killed_is_mended_by_the_next(
    moment: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the store has all of it, with bans spooled meanwhile, everything is in the store once."""
    recorder.connect(store).close()
    spool(store, ban("192.0.2.1"), ban("192.0.2.2"))
    genuine = os.ftruncate

    def killed(descriptor: int, size: int) -> None:
        if moment == "after it is emptied":
            genuine(descriptor, size)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "ftruncate", killed)
        recorder.take_in(store)
    assert recorder.spooled(store) == (2 if moment == "before it is emptied" else 0)
    spool(store, ban("192.0.2.3"))
    recorder.take_in(store)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert recorder.spooled(store) == 0


def test_a_spool_that_an_earlier_version_had_taken_is_taken_in(store: str) -> None:
    """It renamed the spool before it knew what the store takes, and may have died then."""
    spool(store, ban("192.0.2.1"))
    Path(recorder.spool_path(store)).rename(recorder.spool_path(store) + ".taken")
    spool(store, ban("192.0.2.2"))
    assert recorder.spooled(store) == 2
    assert recorder.take_in(store) == (2, 0)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2"]
    assert not Path(recorder.spool_path(store) + ".taken").exists()


def test_bans_that_are_spooled_while_it_is_taken_in_are_not_lost(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool is truncated only if no line follows those that the store has."""
    recorder.connect(store).close()
    spool(store, ban("192.0.2.1"))
    genuine: Any = recorder._store_lines
    late = [ban("192.0.2.2"), ban("192.0.2.3")]

    def slow(*part: Any) -> Any:
        done: Any = genuine(*part)
        if late:
            spool(store, late.pop(0))
        return done

    monkeypatch.setattr(recorder, "_store_lines", slow)
    assert recorder.take_in(store) == (3, 0)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert recorder.spooled(store) == 0


def test_a_store_that_takes_nothing_costs_the_spool_nothing(store: str) -> None:
    """A full disk refuses the events; the spool and its reserve stay, so that later bans still have a place."""
    recorder.connect(store).close()
    spool(store, ban("192.0.2.1"))
    recorder.reserve_spool(store)
    before = Path(recorder.spool_path(store)).stat()
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'disk is full'); END")
    for _ in range(2):
        with pytest.raises(sqlite3.DatabaseError, match="full"):
            recorder.take_in(store)
    after = Path(recorder.spool_path(store)).stat()
    assert (after.st_ino, after.st_blocks, after.st_size) == (before.st_ino, before.st_blocks, before.st_size)
    assert recorder.spooled(store) == 1


def test_what_stands_behind_a_torn_first_sector_is_taken_in(store: str) -> None:
    """A power cut may leave NULs in place of an unacknowledged line; later lines were acknowledged."""
    recorder.connect(store).close()
    recorder.reserve_spool(store)
    line = json.dumps(dict(zip(recorder.COLUMNS, ban("192.0.2.1", matches="x" * 600), strict=True))).encode() + b"\n"
    with Path(recorder.spool_path(store)).open("r+b") as file:
        file.write(bytes(512) + line[512:])
    spool(store, ban("192.0.2.2"))
    assert recorder.take_in(store) == (1, 1)
    assert [row[3] for row in stored(store)] == ["192.0.2.2"]
    assert recorder.spooled(store) == 0


@pytest.mark.parametrize("open_bracket", ["[", '{"users":'], ids=["list", "users"])
def test_a_line_that_is_nested_without_end_is_a_torn_line(store: str, open_bracket: str) -> None:
    """The folder's owner may write anything into the spool; it costs no other line, and no later send."""
    spool(store, ban("192.0.2.1"))
    with Path(recorder.spool_path(store)).open("ab") as file:
        file.write(open_bracket.encode() * 200_000 + b"\n")
    spool(store, ban("192.0.2.2"))
    assert recorder.take_in(store) == (2, 1)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2"]
    assert recorder.take_in(store) == (0, 0)


HUGE = """if True:
    import importlib.machinery, re, sys
    recorder = importlib.machinery.SourceFileLoader("recorder", sys.argv[1]).load_module()
    count = recorder.take_in(sys.argv[2])
    most = re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
    print(*count, int(most) // 1024)
"""


def test_a_large_spool_is_taken_in_line_by_line(store: str) -> None:
    """Memory does not depend on the spool's size: 100 MB, half of it one line without an end, take less than 50."""
    spool(store, ban("192.0.2.1", matches="x" * 4000))
    line = Path(recorder.spool_path(store)).read_bytes().rstrip(b"\0")
    with Path(recorder.spool_path(store)).open("wb") as file:
        for number in range(12_000):
            address = f"10.0.{number // 250}.{number % 250}".encode()
            file.write(line.replace(b"192.0.2.1", address))
        file.writelines(b"x" * 2**20 for _ in range(50))
    command = [sys.executable, "-W", "ignore", "-c", HUGE, str(FILE), store]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    events, torn, megabytes = map(int, done.stdout.split())
    assert (events, torn) == (12_000, 9)
    assert megabytes <= 50
    assert recorder.spooled(store) == 0


def test_a_torn_line_is_kept_aside_and_costs_no_other(store: str) -> None:
    """Half a line, from a writer that died, is named and kept; the events around it are taken in."""
    recorder.connect(store).close()
    spool(store, ban("192.0.2.1"))
    torn = b'{"kind": "ban", "ho'
    with Path(recorder.spool_path(store)).open("ab") as file:
        file.write(torn)
    spool(store, ban("192.0.2.2"))
    assert recorder.take_in(store) == (2, 1)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2"]
    assert Path(recorder.spool_path(store) + ".torn").read_bytes() == torn + b"\n"


def test_the_reserve_takes_events_and_is_set_aside_again(store: str) -> None:
    """The reserved bytes are really the spool's, events are in them without a trace, and take_in renews them."""
    recorder.connect(store).close()
    for _ in range(2):
        recorder.reserve_spool(store)
        status = Path(recorder.spool_path(store)).stat()
        assert status.st_size >= recorder.SPOOL_RESERVE
        assert status.st_blocks * 512 >= recorder.SPOOL_RESERVE
        assert (recorder.spooled(store), recorder.take_in(store)) == (0, (0, 0))
    spool(store, ban("192.0.2.1"), ban("192.0.2.2"))
    recorder.reserve_spool(store)
    spool(store, ban("192.0.2.3"))
    assert Path(recorder.spool_path(store)).stat().st_size == recorder.SPOOL_RESERVE
    assert recorder.take_in(store) == (3, 0)
    assert [row[3] for row in stored(store)] == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert Path(recorder.spool_path(store)).stat().st_blocks * 512 >= recorder.SPOOL_RESERVE


@pytest.mark.parametrize("name", [".spool", ".spool.taken", ".spool.torn"])
def test_no_link_beside_the_store_is_followed(store: str, name: str, tmp_path: Path) -> None:
    """Who owns the folder cannot make root write to, or take in, a file elsewhere."""
    recorder.connect(store).close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"secret\n")
    link = Path(store + name)
    if name == ".spool":
        link.symlink_to(elsewhere)
        Path(store).write_bytes(b"no database " * 1000)
        with pytest.raises(recorder.NotStored):
            recorder.append(store, ban())
    else:
        spool(store, ban())
        with Path(recorder.spool_path(store)).open("ab") as file:
            file.write(b"torn\n")
        link.symlink_to(elsewhere)
        with pytest.raises(OSError, match="symbolic link"):
            recorder.take_in(store)
    assert elsewhere.read_bytes() == b"secret\n"


# ---- other files


def make_foreign(path: str, *statements: str) -> bytes:
    """Make a database that is not ours, and return its bytes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return Path(path).read_bytes()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE theirs (x)",),
        ("CREATE TABLE theirs (x)", "CREATE TABLE more (x PRIMARY KEY)"),
        ("CREATE TABLE event (x)",),
        ("CREATE TABLE theirs (x)", "PRAGMA application_id=7"),
        ("PRAGMA application_id=7",),
        ("CREATE TABLE theirs (x)", "PRAGMA user_version=7"),
    ],
    ids=["one-table", "tables", "an-event-table", "application", "empty-application", "version"],
)
def test_a_database_that_is_not_ours_is_left_alone(store: str, statements: tuple[str, ...]) -> None:
    """Not a byte of it changes, and the event waits in the spool."""
    before = make_foreign(store, *statements)
    assert "ForeignStore" in recorder.append(store, ban())
    assert Path(store).read_bytes() == before
    assert recorder.spooled(store) == 1
    with pytest.raises(recorder.ForeignStore):
        recorder.take_in(store)
    assert (Path(store).read_bytes(), recorder.spooled(store)) == (before, 1)
    Path(store).unlink()
    assert recorder.take_in(store) == (1, 0)


def test_an_older_recorder_goes_on_after_an_upgrade_of_the_package(store: str) -> None:
    """fail2ban runs its recorder until it restarts; a newer store with the table that it knows takes its events."""
    make_foreign(
        store,
        recorder.EVENT_DDL,
        "ALTER TABLE event ADD COLUMN later TEXT",
        f"PRAGMA application_id={recorder.APPLICATION_ID}",
        f"PRAGMA user_version={recorder.SCHEMA_VERSION + 1}",
    )
    assert recorder.append(store, ban()) == ""


def test_a_newer_store_that_the_recorder_does_not_know_leaves_its_events_to_the_spool(store: str) -> None:
    """Not lost, and not written where they do not belong: the newer program takes them in."""
    make_foreign(
        store,
        "CREATE TABLE event2 (x)",
        f"PRAGMA application_id={recorder.APPLICATION_ID}",
        f"PRAGMA user_version={recorder.SCHEMA_VERSION + 1}",
    )
    assert "event" in recorder.append(store, ban())
    assert recorder.spooled(store) == 1


def test_a_store_that_was_set_aside_is_left_alone(store: str) -> None:
    """Until the admin has taken the mark away, bans go to the spool."""
    assert recorder.append(store, ban()) == ""
    before = Path(store).read_bytes()
    Path(recorder.damage_mark(store)).write_text("database disk image is malformed")
    assert "damaged" in recorder.append(store, ban(ip="192.0.2.99"))
    assert Path(store).read_bytes() == before
    Path(recorder.damage_mark(store)).unlink()
    assert recorder.take_in(store) == (1, 0)


@pytest.fixture
def fail2bans_umask() -> Iterator[None]:
    """Create files as fail2ban's server does."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("fail2bans_umask")
def test_the_files_belong_to_the_folders_owner(tmp_path: Path) -> None:
    """Store and spool are group-readable and belong to the folder's owner, whoever created them."""
    folder = tmp_path / "store"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 12345, 23456)
    path = str(folder / "bans.sqlite3")
    recorder.append(path, ban())
    spool(path, ban("192.0.2.2"))
    with Path(path + ".spool").open("ab") as file:
        file.write(b"torn\n")
    owner = folder.stat()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM event").fetchall()
        names = {path, path + "-wal", path + "-shm", path + ".spool"}
        assert {str(entry) for entry in folder.iterdir()} == names
        for name in names:
            status = os.stat(name)
            assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, owner.st_uid, owner.st_gid)
    recorder.take_in(path)
    status = os.stat(path + ".spool.torn")
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o640, owner.st_uid, owner.st_gid)


@pytest.mark.usefixtures("fail2bans_umask")
def test_the_defaults_folder_is_made_and_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default store's folder is made with the store, and holds addresses and log lines: not for other users."""
    path = str(tmp_path / "lib" / "fail2ban" / "bans.sqlite3")
    monkeypatch.setattr(recorder, "DEFAULT_STORE", path)
    assert recorder.append(path, ban()) == ""
    assert Path(path).parent.stat().st_mode & 0o007 == 0


def test_any_other_folder_must_be_there(tmp_path: Path) -> None:
    """A mistyped path of a store is reported, and creates nothing."""
    with pytest.raises(recorder.NotStored, match=r"no folder .*/mistyped: create it, or correct"):
        recorder.append(str(tmp_path / "mistyped" / "bans.sqlite3"), ban())
    assert list(tmp_path.iterdir()) == []


# ---- what somebody else laid there


WAITING = 10.0  # seconds after which a door counts as hanging


@pytest.mark.parametrize("name", ["", "-wal", "-shm", "-journal", ".spool", ".spool.taken", ".spool.torn", ".damaged"])
def test_no_fifo_in_the_folder_makes_a_door_wait(store: str, name: str) -> None:
    """The folder's owner cannot delay a ban or a send: anything but a regular file is refused at once."""
    code = """if True:
        import importlib.machinery, sys
        recorder = importlib.machinery.SourceFileLoader("recorder", sys.argv[1]).load_module()
        row = recorder.event("ban", "ssh", "192.0.2.9", 1.0, "web1", "test")
        for attempt in (recorder.append, recorder.take_in, recorder.spooled, recorder.reserve_spool):
            try:
                attempt(sys.argv[2], *([row] if attempt is recorder.append else []))
            except Exception as refusal:
                print(refusal)
    """
    if name not in ("", ".spool"):
        recorder.append(store, ban())
        spool(store, ban("192.0.2.2"))
        with Path(recorder.spool_path(store)).open("ab") as file:
            file.write(b"torn\n")
    os.mkfifo(store + name)
    command = [sys.executable, "-W", "ignore", "-c", code, str(FILE), store]
    subprocess.run(command, capture_output=True, check=True, timeout=WAITING)


def test_root_in_anothers_folder_is_never_led_to_another_file(tmp_path: Path) -> None:
    """While the folder's owner swaps the store for a link as fast as can be, no file of root's becomes a store."""
    if os.geteuid():
        pytest.skip("only root can be misled")
    folder, victim = tmp_path / "theirs", tmp_path / "roots"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    victim.touch()
    path = str(folder / "bans.sqlite3")
    reading, writing = os.pipe()
    swapper = os.fork()
    if not swapper:
        swap(path, str(victim), writing)
    os.close(writing)
    until, attempts, refused = time.monotonic() + RACING, 0, 0
    while time.monotonic() < until:
        attempts += 1
        try:
            recorder.connect(path, 0.0).close()
        except (recorder.ForeignStore, OSError, sqlite3.Error):
            refused += 1
        assert victim.stat().st_size == 0
    os.kill(swapper, signal.SIGTERM)
    swaps = int(os.read(reading, 100))
    os.close(reading)
    os.waitpid(swapper, 0)
    assert {entry.name for entry in tmp_path.iterdir()} == {"theirs", "roots"}
    assert refused
    assert swaps > 2000


@pytest.mark.parametrize("looks", range(1, 9))
def test_a_file_that_becomes_a_link_between_two_looks_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """The swap of above, after each time that the path is looked at."""
    if os.geteuid():
        pytest.skip("only root can be misled")
    folder, victim = tmp_path / "theirs", tmp_path / "roots"
    folder.mkdir()
    store = folder / "bans.sqlite3"
    store.touch()
    victim.touch()
    for path in (folder, store):
        os.chown(path, NOBODY, NOBODY)
    seen: list[None] = []

    def swapping(look: Callable[..., os.stat_result], path: Any, **options: Any) -> os.stat_result:
        found = look(path, **options)
        if str(path) == str(store):
            seen.append(None)
            if len(seen) == looks:
                store.unlink()
                store.symlink_to(victim)
                os.chown(store, NOBODY, NOBODY, follow_symlinks=False)
        return found

    for name in ("lstat", "stat"):
        monkeypatch.setattr(os, name, partial(swapping, getattr(os, name)))
    with suppress(recorder.ForeignStore, sqlite3.Error):
        recorder.connect(str(store), 0.0).close()
    monkeypatch.undo()
    assert victim.stat().st_size == 0


NOBODY = 65534
RACING = 4.0  # seconds


def swap(path: str, victim: str, writing: int) -> NoReturn:
    """Be the folder's owner: put a file and a link in the store's place in turn until told to end; write how often."""
    swaps, running = 0, [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    os.chdir(os.path.dirname(path))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    name = os.path.basename(path)
    while running:
        os.symlink(victim, "link")
        os.rename("link", name)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
        os.rename("file", name)
        swaps += 2
        time.sleep(os.urandom(1)[0] / 255 * 0.0005)
    os.write(writing, b"%d" % swaps)
    os._exit(0)


# ---- fail2ban's Python action


ACTION: Any = recorder.Action


def action(path: str, **options: str) -> Any:
    """Return fail2ban's action, as fail2ban makes it."""
    return ACTION("ssh", "f2b-digest", dbpath=path, **options)


def has_table(path: str) -> bool:
    """Return whether a store that another thread makes just now is there already."""
    if not os.path.exists(path):  # SQLite would make it
        return False
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'event'").fetchone())


@pytest.mark.alone
@pytest.mark.slow
def test_a_disk_that_hangs_holds_no_jail_up(
    store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first ban continues after a second, the next ones at once; all are stored when the disk is back."""
    back = threading.Event()
    genuine: Any = recorder._connect

    def hanging(*arguments: Any) -> Any:
        back.wait(30)
        return genuine(*arguments)

    monkeypatch.setattr(recorder, "_connect", hanging)
    door = action(store)
    took = []
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        start = time.monotonic()
        door.ban({"ip": address, "time": 1.0})
        took.append(time.monotonic() - start)
    assert 0.5 < took[0] < 1.4
    assert max(took[1:]) < 0.2
    assert "192.0.2.1" in caplog.text
    back.set()
    until = time.monotonic() + 10
    while not has_table(store) or len(stored(store)) + recorder.spooled(store) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)
    start = time.monotonic()
    door.ban({"ip": "192.0.2.4", "time": 1.0})
    assert "192.0.2.4" in {row[3] for row in stored(store)}
    assert time.monotonic() - start < 1


@pytest.mark.alone
@pytest.mark.slow
def test_a_hanging_reserve_holds_no_jail_up(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jail starts although the disk hangs."""
    back = threading.Event()
    monkeypatch.setattr(recorder, "reserve_spool", lambda path: back.wait(30))
    start = time.monotonic()
    action(store).start()
    assert time.monotonic() - start < 1.5
    back.set()


@pytest.mark.slow
def test_events_of_two_threads_at_once_are_no_hanging_disk(store: str, caplog: pytest.LogCaptureFixture) -> None:
    """The jail's thread and the observer's record at the same moment; both wait until their event is stored."""
    caplog.set_level(logging.WARNING)
    door = action(store)
    door.start()
    for at in range(30):
        info = {"ip": "192.0.2.1", "time": at}
        observer = threading.Thread(target=door.prolong, args=(info,))
        observer.start()
        door.ban(info)
        assert (at, "ban") in {(row[4], row[0]) for row in stored(store)}
        observer.join()
    assert len(stored(store)) == 61
    assert caplog.text == ""


class Broken(dict[str, Any]):
    """Action info whose every value fails, as one of fail2ban's computed ones may."""

    def get(self, key: str, default: Any = None) -> Any:
        """Fail."""
        raise ValueError(key)


def test_broken_action_info_still_leaves_a_ban(store: str) -> None:
    """Values that cannot be computed cost themselves, not the event."""
    action(store).ban(Broken(ip="192.0.2.1"))
    [row] = stored(store)
    assert (row[0], row[2]) == ("ban", "ssh")


def test_an_event_that_nothing_takes_is_in_the_log_as_a_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where neither store nor spool can be written, fail2ban's log has all of the event."""
    (tmp_path / "file").touch()
    action(str(tmp_path / "file" / "bans.sqlite3")).ban({"ip": "192.0.2.1", "time": 1.0, "failures": 3})
    assert "NOT RECORDED" in caplog.text
    assert "'ip': '192.0.2.1'" in caplog.text
    assert "'failures': 3" in caplog.text


@pytest.mark.parametrize(
    "options", [{}, {"dbpath": None}, {"dbpath": 7}, {"host": None}, {"x": 1}, {"self": 1}, {"jail": 1}, {"name": 1}]
)
def test_no_option_keeps_fail2ban_from_loading_us(options: dict[str, Any]) -> None:
    """An exception from our __init__ or reload would keep fail2ban from starting any jail."""
    door = ACTION("ssh", "f2b-digest", **options)
    door.clearAllParams()
    door.reload(**options)
    assert os.path.isabs(door.dbpath)


# ---- any Python that fail2ban runs on


def test_it_imports_the_standard_library_only() -> None:
    """fail2ban's own Python loads the file, with no package of ours beside it; that it is 3.7 is the linters' part."""
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else ["." * node.level + (node.module or "")]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_a_python_without_sqlite_spools(store: str) -> None:
    """Even then fail2ban must load us, and the ban waits for a Python that has it."""
    code = f"""if True:
        import sys
        sys.modules["_sqlite3"] = sys.modules["sqlite3"] = None
        import importlib.machinery
        recorder = importlib.machinery.SourceFileLoader("recorder", {str(FILE)!r}).load_module()
        action = recorder.Action("ssh", "f2b-digest", dbpath={store!r})
        action.start()
        action.ban({{"ip": "192.0.2.1", "time": 1.0}})
    """
    subprocess.run([sys.executable, "-W", "ignore", "-I", "-S", "-c", code], check=True)
    assert recorder.take_in(store) == (2, 0)
    assert [row[3] for row in stored(store)] == ["", "192.0.2.1"]


# ---- the shell action


def door(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the recorder's file as a program."""
    command = [sys.executable, "-I", "-S", str(FILE), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_program_records_what_its_arguments_say(store: str) -> None:
    """Each argument is one field, silently."""
    result = door(
        f"--store={store}", "--kind=unban", "--jail=ssh", "--ip=2001:db8::7", "--at=1.5", "--failures=3",
        "--bantime=-1",
        "--bancount=2", "--host=web1", "--user=al=ice", "--user=bob", "--user=", F2B_DIGEST_MATCHES="line 1\nline 2",
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    [row] = stored(store)
    assert row[:5] == ("unban", "web1", "ssh", "2001:db8::7", 1.5)
    assert row[6:] == (3, -1, 2, '["al=ice", "bob"]', "line 1\nline 2", "shell", 0)


def test_the_program_names_what_it_does_not_understand_and_records_the_rest(store: str) -> None:
    """A ban weighs more than a mistaken argument."""
    result = door(f"--store={store}", "--colour=red", "-v", "--jail", "--ip=192.0.2.1", "--failures=many")
    assert result.returncode == 0
    assert [word in result.stderr for word in ("--colour=red", "'-v'", "'--jail'")] == [True] * 3
    assert [row[3] for row in stored(store)] == ["192.0.2.1"]


def test_the_program_takes_bytes_that_are_no_text(store: str) -> None:
    """Undecodable bytes in an argument or a line show as escapes."""
    arguments: list[bytes] = [b"--store=" + store.encode(), b"--ip=\xff", b"--user=caf\xc3\xa9\xff"]
    command = [sys.executable.encode(), b"-I", b"-S", str(FILE).encode(), *arguments]
    subprocess.run(command, env={b"F2B_DIGEST_MATCHES": b"\xfe"}, check=True)
    [row] = stored(store)
    assert (row[3], json.loads(row[9]), row[10]) == ("\\udcff", ["caf\xe9\\udcff"], "\\udcfe")


def test_the_program_fails_loudly_when_nothing_takes_the_event(tmp_path: Path) -> None:
    """What is neither in the store nor in the spool is on standard error, with exit status 1."""
    (tmp_path / "file").touch()
    result = door(f"--store={tmp_path}/file/bans.sqlite3", "--ip=192.0.2.1")
    assert result.returncode == 1
    assert "NOT RECORDED" in result.stderr
    assert "192.0.2.1" in result.stderr
