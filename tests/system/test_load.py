"""Many doors, many bans and a store that is sent and pruned meanwhile: none lost, none doubled, none held up."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from f2b_digest import recorder
from tests.support.fail2ban_server import Fail2ban
from tests.support.figures import Keep
from tests.support.store_making import NOON, event, fill, query

LONGEST = 1.0
"""Seconds for which a ban may be held up."""
JAILS = 8
AGED = NOON - 1000 * 86400.0
"""When events were recorded that prune drops."""
Appends = list[tuple[float, str]]
"""How long each append took in seconds, and why the store did not take it."""


@pytest.fixture
def server() -> Iterator[Fail2ban]:
    """Provide a fail2ban, not started."""
    with Fail2ban("1.0") as fail2ban:
        yield fail2ban


def append_many(store: str, door: int, count: int, pause: float = 0.0) -> Appends:
    """Append this many bans as one process does, and return what became of each."""
    appends = []
    for number in range(count):
        row = event(jail=f"door{door}", ip=address(number), at=float(number), recorded_at=time.time(), failures=5,
                    users=["root"], matches="a line of a log " * 10)  # fmt: skip
        start = time.perf_counter()
        reason = recorder.append(store, row)
        appends.append((time.perf_counter() - start, reason))
        time.sleep(pause)
    return appends


def address(number: int) -> str:
    """Return the IPv4 address of that number, from 10.0.0.0 on."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


CONFIGURATIONS = tempfile.TemporaryDirectory()


def configure(server: Fail2ban, keep: str) -> list[str]:
    """Write a configuration, where root alone may write, and return the program with it."""
    file = Path(CONFIGURATIONS.name) / f"{server.folder.name}-{keep}.toml"
    file.write_text(
        f"""
store = "{server.store}"
host = "web1"
timezone = "UTC"
keep = "{keep}"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "{server.folder}/out"
"""
    )
    return [sys.executable, "-W", "error", "-m", "f2b_digest", "--config", str(file)]


def fill_with_history(server: Fail2ban, count: int) -> None:
    """Make a store with this many aged bans, all of them reported."""
    fill(server.store, (
        event(jail=f"old{n % 9}", ip=address(n % 50_000), at=AGED + n, recorded_at=AGED + n, matches="a line " * 10)
        for n in range(count)
    ))  # fmt: skip
    run([*configure(server, "9999d"), "send"])
    # As fail2ban leaves it at a shutdown; without it, the clock would seem to have jumped.
    before_boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - 60
    fill(server.store, [event(kind="stop", jail="jail0", ip="", at=before_boot, recorded_at=before_boot)])


def run(command: list[str]) -> None:
    """Run a command that has nothing to say."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def tell(figures: Keep, what: str, appends: Appends) -> float:
    """Keep how long appends took; return the longest."""
    times = sorted(seconds for seconds, _ in appends)
    cuts = statistics.quantiles(times, n=1000)
    shares = (("p50", cuts[499]), ("p99", cuts[989]), ("p99.9", cuts[998]), ("max", times[-1]))
    milliseconds = ", ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in shares)
    spooled = Counter(reason for _, reason in appends if reason)
    figures("load", f"{what}: {len(times):,} appends, ms: {milliseconds}; spooled {dict(spooled)}")
    return times[-1]


@pytest.mark.alone
@pytest.mark.slow
def test_no_ban_is_lost_doubled_or_held_up_under_load(
    server: Fail2ban, request: pytest.FixtureRequest, figures: Keep
) -> None:
    """Processes and jails append as fast as they can, while send and prune run one after the other."""
    full = request.config.getoption("--full-load")
    doors, bans = (16, 2500) if full else (8, 500)
    banned = 1250 if full else 125
    fill_with_history(server, 20 * bans)
    for number in range(JAILS):
        server.jail(f"jail{number}")
    server.start()
    program = configure(server, "1d")
    with multiprocessing.get_context("fork").Pool(doors) as pool:
        work = pool.starmap_async(append_many, [(str(server.store), door, bans) for door in range(doors)])
        rounds = 0
        for number in range(JAILS):
            server.log(f"jail{number}", *(f'FAIL user="root" from {address(n)}' for n in range(banned)))
        while not work.ready() or rounds < 3 or not all_banned(server, banned):
            run([*program, "send"])
            run([*program, "prune"])
            rounds += 1
            assert rounds < 1000, server.report()
        appends = [one for door in work.get() for one in door]
    server.stop()
    for _ in range(2):
        run([*program, "send"])

    expected = {(f"door{door}", address(n)) for door in range(doors) for n in range(bans)}
    expected |= {(f"jail{number}", address(n)) for number in range(JAILS) for n in range(banned)}
    stored = query(server.store, "SELECT jail, ip FROM event WHERE kind = 'ban'")
    assert recorder.spooled(str(server.store)) == 0
    assert len(stored) == len(set(stored)) == len(expected)
    assert set(stored) == expected  # so that the aged ones are gone
    assert_each_in_one_digest(server, len(expected) + 20 * bans)
    log = server.messages()
    assert "NOT RECORDED" not in log
    longest = tell(figures, f"{doors} processes, {JAILS} jails, {rounds} rounds of send and prune", appends)
    figures("load", f"fail2ban: {log.count('.spool: ')} in the spool, {log.count('keeps the')} held up for 1 s")
    assert longest <= LONGEST
    assert "keeps the" not in log


@pytest.mark.alone
@pytest.mark.slow
def test_a_ban_that_finds_store_and_spool_locked_is_kept_all_the_same(tmp_path: Path) -> None:
    """Its jail goes on after a second; the ban waits until somebody lets go."""
    store = str(tmp_path / "bans.sqlite3")
    recorder.append(store, event())
    recorder.reserve_spool(store)
    action: Any = recorder.Action
    door = action(SimpleNamespace(name="ssh"), "f2b-digest", dbpath=store)
    with closing(recorder.connect(store)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        spool = recorder._locked_spool(store)
        start = time.monotonic()
        door.ban({"ip": "192.0.2.1", "time": 1.0})
        assert time.monotonic() - start < LONGEST + 0.4
        time.sleep(0.5)
        os.close(spool)
        while recorder.spooled(store) == 0:
            assert time.monotonic() - start < 20
            time.sleep(0.01)
    assert recorder.take_in(store) == (1, 0)


def all_banned(server: Fail2ban, count: int) -> bool:
    """Return whether the jails have recorded all."""
    rows = query(server.store, "SELECT count(*) FROM event WHERE jail LIKE 'jail%' AND kind = 'ban'")
    return bool(rows == [(JAILS * count,)])


def assert_each_in_one_digest(server: Fail2ban, total: int) -> None:
    """Hold the digests to the events: every ban in one of them, and every one of them in a file."""
    ranges = "FROM digest WHERE event.id BETWEEN first_id AND last_id"
    assert query(server.store, f"SELECT id FROM event WHERE kind = 'ban' AND (SELECT count(*) {ranges}) != 1") == []
    digests = query(server.store, "SELECT uuid, bans, document FROM digest")
    assert sum(bans for _, bans, _ in digests) == total
    assert all(json.loads(document)["totals"]["bans"] == bans for _, bans, document in digests)
    mails = [message_from_bytes(file.read_bytes()) for file in (server.folder / "out").iterdir()]
    assert sorted(mail["Message-ID"][1:].partition(".")[0] for mail in mails) == sorted(uuid for uuid, _, _ in digests)


@pytest.mark.alone
@pytest.mark.slow
def test_a_large_prune_holds_no_ban_up(server: Fail2ban, request: pytest.FixtureRequest, figures: Keep) -> None:
    """While old events go, a jail and a process append as if nothing happened, and the file gets shorter."""
    count = 1_000_000 if request.config.getoption("--full-load") else 50_000
    fill_with_history(server, count)
    size = server.store.stat().st_size
    server.jail("jail0")
    server.start()
    context = multiprocessing.get_context("fork")
    appends: Appends = []
    with context.Pool(1) as pool, subprocess.Popen([*configure(server, "1d"), "prune"]) as prune:
        start = time.monotonic()
        for number in range(100_000):
            appends += pool.apply(append_many, (str(server.store), number, 50, 0.002))
            server.client("set", "jail0", "banip", address(number))
            if prune.poll() is not None:
                break
        took = time.monotonic() - start
    assert prune.returncode == 0
    rounds = number + 1
    server.wait_until(
        lambda: len(server.events(jail="jail0")) + recorder.spooled(str(server.store)) >= rounds, "the last ban"
    )
    server.stop()
    with closing(recorder.connect(str(server.store))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    longest = tell(figures, f"beside a prune of {count:,} events in {took:.0f} s", appends)
    assert "keeps the" not in server.messages()
    run([*configure(server, "1d"), "send"])
    assert query(server.store, "SELECT count(*) FROM event WHERE jail LIKE 'old%'") == [(0,)]
    assert query(server.store, "SELECT count(*) FROM event WHERE jail LIKE 'door%'") == [(len(appends),)]
    assert query(server.store, "SELECT count(*) FROM event WHERE jail = 'jail0' AND kind = 'ban'") == [(rounds,)]
    assert server.store.stat().st_size < size / 3
    assert longest <= LONGEST
