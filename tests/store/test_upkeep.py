"""Costs and risks of a store over the years: the weekly check, a clock that jumps, a retry without work."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from f2b_digest import recorder
from f2b_digest.store import Store, idle, integrity
from tests.support.damage import break_events, break_header, break_index, truncate
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill, query

DAY = 86400.0


@pytest.fixture
def large(path: Path, config: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a store that counts as large, whose bans are all reported, in the week after its last check."""
    line = "Failed password for root from 192.0.2.1 port 22 ssh2"
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n, matches=line) for n in range(1500)])
    for module in (integrity, idle):
        monkeypatch.setattr(module, "SMALL", 4096)
    assert f2b_digest("--config", config, "send").status == 0
    assert not Path(f"{path}-wal").exists()
    return path


def checked(path: Path, days: float) -> None:
    """Let the last check of a store be this many days ago."""
    at = NOON + 3600 - days * DAY
    os.utime(f"{path}.checked", (at, at))


# ---- damage


@pytest.mark.parametrize("damage", [break_events, break_index])
@pytest.mark.parametrize(("command", "days"), [("retry", 6.1), ("send", 7.1), ("prune", 7.1)])
def test_damage_of_a_large_store_is_found_within_a_week(
    f2b_digest: Command, config: Path, large: Path, damage: object, command: str, days: float
) -> None:
    """`retry` reads all of it after six days, and a send or prune after seven if no retry did; it is set aside then."""
    assert callable(damage)
    damage(large)
    checked(large, days)
    ended = f2b_digest("--config", config, command)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "is damaged" in ended.err
    assert Path(f"{large}.damaged").read_text().strip()


@pytest.mark.parametrize("damage", [break_header, truncate])
def test_a_large_store_with_a_wrong_length_is_found_at_once(
    f2b_digest: Command, config: Path, large: Path, damage: object
) -> None:
    """Its header says how long it is."""
    assert callable(damage)
    damage(large)
    assert "is damaged" in f2b_digest("--config", config, "send").err
    assert Path(f"{large}.damaged").exists()


def test_a_pending_ban_that_the_index_lacks_is_found_before_it_is_sealed(
    f2b_digest: Command, config: Path, large: Path
) -> None:
    """Each send compares the pending events with the index, however recent the weekly check."""
    fill(large, [event(ip="203.0.113.1"), event(ip="203.0.113.2")])
    with Store(large, read_only=False) as store:
        store.verify_pending()
    # The index entry of one ban is made to name another address: as a flipped bit does.
    content = large.read_bytes()
    places = [found.start() for found in re.finditer(b"203\\.0\\.113\\.2", content)]
    unique = [at for at in places if content[at - 4 : at] == b"sshd" and content[at + 11 : at + 14] == b"ban"]
    assert len(unique) == 1, "the entry of the unique index: jail, ip, kind"
    with large.open("r+b") as file:
        file.seek(unique[0] + 10)
        file.write(b"3")
    ended = f2b_digest("--config", config, "send")
    assert ended.status == 1
    assert "is damaged" in ended.err
    assert query(large, "SELECT count(*) FROM digest") == [(1,)]


def test_a_check_in_time_begins_a_new_week(f2b_digest: Command, config: Path, large: Path) -> None:
    """What was found whole is not read again for six days."""
    checked(large, 6.1)
    assert f2b_digest("--config", config, "retry").status == 0
    assert not integrity.is_due(large, NOON + 3600 + 5 * DAY, idle.CHECK_EVERY)
    assert integrity.is_due(large, NOON + 3600 + 6.1 * DAY, idle.CHECK_EVERY)


# ---- the price of a digest


def bytes_read() -> int:
    """Return how many bytes this process has read so far, from wherever."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]


def test_a_digest_reads_what_it_tells_and_not_all_history(
    tmp_path: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bans cost the same with thirty times as much history: counted in bytes, as times vary too much.

    tests/benchmarks/history.py measures it in seconds, with 30,000 and 3,000,000 events.
    """
    monkeypatch.setattr(integrity, "SMALL", 0)
    read = {}
    for count in (2_000, 60_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        store, config = folder / "bans.sqlite3", folder / "config.toml"
        config.write_text(
            f'store = "{store}"\nhost = "web1"\ntimezone = "UTC"\n[reports.daily]\nchannels = ["out"]\n'
            '[channels.out]\nkind = "file"\nfolder = "out"\n'
        )
        step = 300 * DAY / count
        times = [NOON - 301 * DAY + number * step for number in range(count)]
        fill(
            store,
            [
                recorder.event(
                    "ban", "sshd", f"10.{n >> 8}.{n & 255}.1", at, "web1", "log" if n < count / 2 else "action", at
                )
                for n, at in enumerate(times)
            ],
        )
        with monkeypatch.context() as yesterday:
            yesterday.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 3600 - DAY))
            assert f2b_digest("--config", config, "send").status == 0
        fill(store, [event(ip=f"203.0.113.{n}", at=NOON + n) for n in range(30)])
        before = bytes_read()
        assert f2b_digest("--config", config, "send").err == ""
        read[count] = bytes_read() - before
    # The 28 days that it compares with hold thirty times as many bans, too: their index entries are counted.
    assert read[60_000] < 1.5 * read[2_000] + 28 / 300 * 60_000 * 40


# ---- a clock that jumps

TEN_YEARS = 10 * 365 * DAY


@pytest.mark.parametrize("bans_go_on", [False, True])
def test_a_clock_that_is_ten_years_ahead_drops_nothing(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch, bans_go_on: bool
) -> None:
    """What was reported stays, and a line says why; when the clock is right again, all is as before."""
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n, recorded_at=NOON + n) for n in range(9)])
    assert f2b_digest("--config", config, "send").err == ""
    now = NOON + 3600 + TEN_YEARS
    if bans_go_on:
        fill(path, [event(ip="192.0.2.99", at=now - 60, recorded_at=now - 60)])
    with monkeypatch.context() as patch:
        patch.setattr("f2b_digest.cli.time.time", lambda: now)
        patch.setattr("f2b_digest.cli.send.uptime", lambda: 3 * DAY)
        for command in ("send", "prune"):
            ended = f2b_digest("--config", config, command)
            assert ended.status == 0
            assert re.search("not pruning .* the clock may be wrong", ended.err)
    assert query(path, "SELECT count(*) FROM event") == [(10 if bans_go_on else 9,)]
    assert f2b_digest("--config", config, "prune").err == ""


def test_a_host_that_was_off_for_a_week_prunes_as_ever(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days without power are no jump of the clock, and neither is a host that bans seldom."""
    old, off = NOON - 500 * DAY, NOON - 8 * DAY
    fill(path, [event(at=old, recorded_at=old), event(kind="stop", ip="", at=off, recorded_at=off)])
    monkeypatch.setattr("f2b_digest.cli.send.uptime", lambda: DAY)
    assert f2b_digest("--config", config, "send").err == ""
    assert query(path, "SELECT kind FROM event") == [("stop",)]


# ---- nothing to do


def test_a_retry_with_nothing_due_loads_nothing(path: Path, config: Path, f2b_digest: Command) -> None:
    """Cron runs it every ten minutes: no SQLAlchemy, no Jinja2, no pydantic, no channel."""
    fill(path, [event()])
    assert f2b_digest("--config", config, "send").status == 0
    code = "import sys; from f2b_digest.cli import cli; cli(sys.argv[1:], standalone_mode=False); print(*sys.modules)"
    command = [sys.executable, "-c", code, "--config", str(config), "retry"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"sqlalchemy", "jinja2", "pydantic", "sqlite3", "f2b_digest.delivery", "f2b_digest.store.uploads"}
    assert heavy.isdisjoint(loaded)


def test_what_is_due_is_no_idle_store(path: Path, config: Path, f2b_digest: Command) -> None:
    """Anything pending, deferred, older or unexpected is left to the full program."""
    assert idle.is_idle(path, NOON)
    fill(path, [event()])
    assert not idle.is_idle(path, NOON), "no archive yet"
    assert f2b_digest("--config", config, "send").status == 0
    assert idle.is_idle(path, NOON)
    query(path, "UPDATE delivery SET status = 'deferred', next_at = ?", NOON + 60)
    assert idle.is_idle(path, NOON)
    assert not idle.is_idle(path, NOON + 60)
    assert not idle.is_idle(path, NOON - 5 * 3600), "the clock was set back"
    query(path, "UPDATE delivery SET status = 'sent'")
    Path(recorder.damage_mark(str(path))).touch()
    assert not idle.is_idle(path, NOON)


# ---- what somebody else laid there


@pytest.mark.parametrize("name", ["", "-wal", ".spool", ".spool.taken", ".damaged", ".checked"])
@pytest.mark.parametrize("command", ["send", "status", "preview", "retry", "prune", "history"])
def test_no_fifo_beside_the_store_makes_a_command_wait(
    f2b_digest: Command, config: Path, path: Path, command: str, name: str
) -> None:
    """A FIFO in place of any of the store's files causes an error, or nothing; never a wait."""
    fill(path, [event()])
    Path(f"{path}{name}").unlink(missing_ok=True)
    os.mkfifo(f"{path}{name}")
    start = time.monotonic()
    ended = f2b_digest("--config", config, command)
    assert time.monotonic() - start < 10
    assert ended.status in (0, 1)
    assert ended.err.count("\n") <= 2


def test_a_mark_that_is_a_link_tells_nothing_of_what_it_leads_to(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """A link at the mark's place once printed all of /etc/shadow."""
    fill(path, [event()])
    (tmp_path / "secret").write_text("a secret")
    Path(f"{path}.damaged").symlink_to(tmp_path / "secret")
    for command in ("status", "send", "retry"):
        ended = f2b_digest("--config", config, command)
        assert "secret" not in ended.out + ended.err.replace(str(tmp_path), "")
