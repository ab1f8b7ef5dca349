"""A burst of bans in fail2ban's action: the store stays open, bans that come together share a sync, none is lost."""

import importlib.util
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import recorder

FILE = Path(recorder.__file__).resolve()
PATIENCE = 10.0  # seconds until a test gives up waiting


def loaded() -> Any:
    """Execute the action's file, as fail2ban does for each jail."""
    specification = importlib.util.spec_from_file_location("f2b-digest", FILE)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Give the path of a store that is not there yet, in a folder that is."""
    (tmp_path / "store").mkdir()
    return str(tmp_path / "store" / "bans.sqlite3")


@pytest.fixture
def action(store: str) -> Iterator[Any]:
    """Give the action of a jail, whose bursts last until it stops."""
    module = loaded()
    module.BURST = PATIENCE
    door = module.Action("ssh", "f2b-digest", dbpath=store)
    yield door
    door.stop()


def ban(door: Any, ip: str) -> None:
    """Ban an address."""
    door.ban({"ip": ip, "time": 1.0})


def stored(path: str) -> list[str]:
    """Return the addresses of a store's bans, and see that it is whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [ip for (ip,) in connection.execute("SELECT ip FROM event WHERE kind = 'ban' ORDER BY id")]


def commits(store: str) -> int:
    """Return how many transactions stand in the store's write-ahead log; each of them was synced."""
    data = Path(store + "-wal").read_bytes()
    size = struct.unpack(">I", data[8:12])[0] + 24
    return sum(1 for at in range(32, len(data) - size + 1, size) if struct.unpack(">I", data[at + 4 : at + 8])[0])


def is_open(store: str) -> bool:
    """Return whether this process has a file of the store's folder open."""
    folder = os.path.dirname(store)
    names = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return any(os.readlink(name).startswith(folder) for name in names if os.path.islink(name))


def test_bans_of_several_jails_that_come_together_share_a_sync(store: str) -> None:
    """Each returns when its row is stored; while the first waits for the store, the others come, and go in as one."""
    jails = [loaded().Action(f"jail{number}", "f2b-digest", dbpath=store) for number in range(8)]
    ban(jails[0], "192.0.2.100")
    seen: list[bool] = []

    def ban_and_look(number: int) -> None:
        ban(jails[number], f"192.0.2.{number}")
        seen.append(f"192.0.2.{number}" in stored(store))

    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint=0")
        before = commits(store)
        other.execute("BEGIN IMMEDIATE")
        threads = [threading.Thread(target=ban_and_look, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        other.execute("ROLLBACK")
        for thread in threads:
            thread.join()
        assert commits(store) - before <= 2
    assert seen == [True] * 8
    assert recorder.spooled(store) == 0


@pytest.mark.slow
def test_the_store_is_opened_once_in_a_burst_and_closed_after_it(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At rest nobody has it open, and it is one file again."""
    opened: list[str] = []
    genuine: Any = recorder._connect

    def connect(path: str, wait: float) -> Any:
        opened.append(path)
        return genuine(path, wait)

    monkeypatch.setattr(recorder, "_connect", connect)
    monkeypatch.setattr(recorder, "BURST", 1.0)
    door: Any = recorder.Action("ssh", "f2b-digest", dbpath=store)  # type: ignore[arg-type]
    for number in range(20):
        ban(door, f"192.0.2.{number}")
    assert opened == [store]
    until = time.monotonic() + PATIENCE
    while is_open(store):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert os.listdir(os.path.dirname(store)) == [os.path.basename(store)]
    assert len(stored(store)) == 20


def test_a_jails_stop_leaves_nothing_open(action: Any, store: str) -> None:
    """fail2ban's server may end right after it."""
    ban(action, "192.0.2.1")
    assert is_open(store)
    action.stop()
    assert not is_open(store)
    assert os.listdir(os.path.dirname(store)) == [os.path.basename(store)]


def test_a_store_that_is_replaced_during_a_burst(action: Any, store: str) -> None:
    """The next ban is in the new file, which is whole; the old one has all that came before."""
    new = store + ".new"
    row = recorder.event("ban", "ssh", "192.0.2.50", 1.0, "web1", "test")
    assert recorder.append(new, row) == ""
    ban(action, "192.0.2.1")
    os.link(store, store + ".old")
    os.rename(new, store)
    ban(action, "192.0.2.2")
    action.stop()
    assert stored(store) == ["192.0.2.50", "192.0.2.2"]
    assert stored(store + ".old") == ["192.0.2.1"]


@pytest.mark.parametrize("beside", [True, False], ids=["with its log", "without its log"])
def test_a_store_that_is_moved_away_during_a_burst(action: Any, store: str, *, beside: bool) -> None:
    """A new one is made, and holds none of the old one's bans; the old one has them, wherever it is."""
    ban(action, "192.0.2.1")
    aside = Path(store).parent.parent / "bans.sqlite3"
    for end in ("", "-wal", "-shm") if beside else ("",):
        os.rename(store + end, str(aside) + end)
    ban(action, "192.0.2.2")
    action.stop()
    assert stored(store) == ["192.0.2.2"]
    assert stored(str(aside)) == ["192.0.2.1"]


def test_a_store_that_is_removed_at_the_end_of_a_burst(action: Any, store: str) -> None:
    """What SQLite had written ahead for it does not come up in the next one."""
    ban(action, "192.0.2.1")
    os.unlink(store)
    action.stop()
    ban(action, "192.0.2.2")
    assert stored(store) == ["192.0.2.2"]


def test_a_store_that_is_set_aside_during_a_burst_is_left_alone(action: Any, store: str) -> None:
    """A mark of damage holds from the next ban on."""
    ban(action, "192.0.2.1")
    Path(recorder.damage_mark(store)).touch()
    ban(action, "192.0.2.2")
    assert stored(store) == ["192.0.2.1"]
    assert recorder.spooled(store) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses another user's links")
def test_anothers_link_is_not_followed_during_a_burst(action: Any, store: str, tmp_path: Path) -> None:
    """Whoever owns the folder cannot lead root to another file, open or not."""
    os.chown(os.path.dirname(store), 65534, 65534)
    ban(action, "192.0.2.1")
    victim = tmp_path / "victim"
    os.rename(store, victim)  # even to the very file that is open
    os.symlink(victim, store)
    os.chown(store, 65534, 65534, follow_symlinks=False)
    ban(action, "192.0.2.2")
    assert stored(str(victim)) == ["192.0.2.1"]
    assert recorder.spooled(store) == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # exactly
def test_a_child_that_is_forked_during_a_burst_spools(action: Any, store: str) -> None:
    """SQLite's locks are its parent's; the parent goes on."""
    ban(action, "192.0.2.1")
    child = os.fork()
    if not child:
        ban(action, "192.0.2.2")
        os._exit(0)
    os.waitpid(child, 0)
    ban(action, "192.0.2.3")
    assert stored(store) == ["192.0.2.1", "192.0.2.3"]
    assert recorder.take_in(store) == (1, 0)


def test_a_process_that_gets_no_thread_appends_all_the_same(
    action: Any, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of threads costs no ban."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        ban(action, "192.0.2.1")
    assert stored(store) == ["192.0.2.1"]
    assert not is_open(store)
    ban(action, "192.0.2.2")
    assert stored(store) == ["192.0.2.1", "192.0.2.2"]


def test_an_error_in_a_burst_costs_one_connection_and_no_ban(action: Any, store: str) -> None:
    """What the open store does not take, a new connection does."""
    ban(action, "192.0.2.1")
    with closing(sqlite3.connect(store, isolation_level=None)) as other:
        when = "WHEN new.ip = '192.0.2.2' BEGIN SELECT raise(ABORT, 'no'); END"
        other.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON event {when}")
    ban(action, "192.0.2.2")
    ban(action, "192.0.2.3")
    assert stored(store) == ["192.0.2.1", "192.0.2.3"]
    assert recorder.spooled(store) == 1
