"""Benchmark: what `find` costs over years of bans, beside `sqlite3` doing the same look-up by the same index.

Run: python -m tests.benchmarks.find [--events N] [--rounds N]. A store of 5,000,000 bans, made by the recorder, of
which a tenth of the addresses come back. Wall time and peak memory of the whole process, medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from f2b_digest import recorder
from tests.support.store_making import Row, fill

STEP = 50_000
SECONDS, MEGABYTES = 1.0, 100.0
YEAR = 365 * 86400.0
CONFIGURATION = 'store = "bans.sqlite3"\nhost = "web1"\ntimezone = "UTC"\n'
NAMES = (["root"], ["root", "admin"], ["oracle"], ["test", "guest"], None)
ADDRESS, NETWORK, NAME = "203.0.113.59", "203.0.113.0/24", "anna"
_SUMS = "count(*), sum(failures), min(at), max(at) FROM event WHERE kind = 'ban'"
BY_ADDRESS = f"SELECT jail, {_SUMS} AND ip = '{ADDRESS}' GROUP BY jail"
BY_NETWORK = f"SELECT jail, ip, {_SUMS} AND ip >= '203.0.113.' AND ip < '203.0.113/' GROUP BY jail, ip"
BY_JAIL = f"SELECT ip, {_SUMS} AND jail = 'sshd' AND at >= {time.time() - 7 * 86400} GROUP BY ip"
BY_NAME = """SELECT jail, ip, count(*), min(at), max(at) FROM event WHERE kind = 'ban' AND users IN (
    SELECT DISTINCT users FROM event WHERE kind = 'ban' AND users IS NOT NULL AND users LIKE '%"anna"%'
) GROUP BY jail, ip"""


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    megabytes: float


def rows(count: int, now: float) -> Iterator[Row]:
    """Yield this many bans of four jails over a year, some of them those that are looked for."""
    for number in range(count):
        mixed = number * 2654435761 % 2**32 % max(count * 9 // 10, 1)
        ip = f"{1 + mixed % 198}.{mixed >> 8 & 255}.{mixed >> 16 & 255}.{mixed % 251}"
        names = NAMES[number % 5] if number % 50 else [f"user{mixed % 5000}"]
        if number % 10_000 == 0:
            ip, names = f"203.0.113.{59 if number % 50_000 == 0 else number // 10_000 % 256}", ["anna", "root"]
        at = now - YEAR + number * (YEAR - 60) / count
        yield recorder.event(
            "ban", ("sshd", "nginx", "postfix", "recidive")[number % 4], ip, at, "web1", "action", recorded_at=at,
            failures=5, bantime=600, users=names or (), matches=f"Failed password for root from {ip} port 22\n" * 3,
        )  # fmt: skip


def make(folder: Path, count: int) -> Path:
    """Make a store with this many bans; return the configuration."""
    events: list[Row] = []
    for row in rows(count, time.time()):
        events.append(row)
        if len(events) == STEP:
            fill(folder / "bans.sqlite3", events)
            events = []
    fill(folder / "bans.sqlite3", events)
    config = folder / "config.toml"
    config.write_text(CONFIGURATION)
    config.chmod(0o600)
    return config


def cost(*command: str | Path) -> Cost:
    """Run a command; return what it took."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Cost(time.monotonic() - start, used.ru_maxrss / 1024)


def told(what: str, costs: list[Cost]) -> Cost:
    """Print the medians of some runs, and return them."""
    seconds, megabytes = (statistics.median(each) for each in zip(*costs, strict=True))
    most = max(each.seconds for each in costs)
    print(f"{what:40} {seconds:6.2f} s (to {most:.2f})  {megabytes:6.1f} MB")
    return Cost(seconds, megabytes)


def main() -> None:
    """Make the store, ask in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        config = make(Path(name), options.events)
        program = (sys.executable, "-m", "f2b_digest", "--config", config, "find")
        questions = {
            ADDRESS: ((ADDRESS,), BY_ADDRESS), NETWORK: ((NETWORK,), BY_NETWORK), NAME: ((NAME,), BY_NAME),
            "jail, a week": (("sshd", "--since", "7d"), BY_JAIL),
        }  # fmt: skip
        for what, (words, sql) in questions.items():
            plain, found = [], []
            for _ in range(options.rounds):
                plain.append(cost("sqlite3", config.parent / "bans.sqlite3", sql))
                found.append(cost(*program, *words))
            told(f"sqlite3: {what}", plain)
            seconds, megabytes = told(f"find {what}", found)
            reached = seconds <= SECONDS and megabytes <= MEGABYTES
            print(f"  target {SECONDS:g} s and {MEGABYTES:g} MB: {'reached' if reached else 'MISSED'}")


if __name__ == "__main__":
    main()
