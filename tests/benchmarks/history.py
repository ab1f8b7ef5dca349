"""Benchmark: what a send, a retry and a record cost with little history and with years of it.

Run: python -m tests.benchmarks.history [--large N] [--rounds N]. Stores of 30,000 and of 3,000,000 events over a year,
made by the recorder and all told, get 30 new bans for each `send`. The CPU counts, of the process and its children.
"""

import argparse
import compileall
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import f2b_digest
from f2b_digest import recorder
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store
from tests import ROOT
from tests.benchmarks.ban_cost import compare, line
from tests.support.store_making import fill

YEAR = 365 * 86400.0
SMALL = 30_000
STEP = 20_000
SEND_TARGET, RETRY_TARGET, RECORD_TARGET = 1.5, 5.0, 5.0
CONFIGURATION = """
store = "bans.sqlite3"
host = "web1"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "out"
"""
Row = tuple[object, ...]


def rows(count: int, now: float) -> Iterator[Row]:
    """Yield this many bans of four jails, evenly over a year."""
    for number in range(count):
        at = now - YEAR + number * (YEAR - 2 * 86400) / count
        mixed = number * 2654435761 % 2**32
        ip = f"{1 + mixed % 220}.{mixed >> 8 & 255}.{mixed >> 16 & 255}.{number % 250}"
        yield recorder.event(
            "ban", ("sshd", "nginx", "postfix", "recidive")[number % 4], ip, at, "web1", "action", recorded_at=at,
            failures=5, bantime=600, users=["root"], matches=f"Failed password for root from {ip} port 22 ssh2\n" * 3,
        )  # fmt: skip


def make(folder: Path, count: int) -> Path:
    """Make a store with this many events, all of which a digest of yesterday told; return the configuration."""
    folder.mkdir()
    path, now = folder / "bans.sqlite3", time.time()
    events: list[Row] = []
    for row in rows(count, now):
        events.append(row)
        if len(events) == STEP:
            fill(path, events)
            events = []
    fill(path, events)
    with Store(path, read_only=False) as store:
        stamp = Stamp("0" * 32, "daily", "", "web1", now - 86400, count)
        told = Selection(first_id=1, last_id=store.last_event())
        store.seal(told, stamp=stamp, document="{}", start=now - 2 * 86400, end=now - 86400, messages=[])
    config = folder / "config.toml"
    config.write_text(CONFIGURATION)
    config.chmod(0o600)
    return config


def cpu(*command: str | Path) -> float:
    """Run a command; return the seconds of CPU that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def send(config: Path, number: int) -> float:
    """Record 30 bans, and return what a send of them costs."""
    fill(
        config.parent / "bans.sqlite3",
        [recorder.event("ban", "sshd", f"203.0.{number}.{n}", time.time() - n, "web1", "action") for n in range(30)],
    )
    return cpu(sys.executable, "-m", "f2b_digest", "--config", config, "send")


def main() -> None:
    """Make the stores, run everything in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    compileall.compile_dir(Path(f2b_digest.__file__).parent, quiet=1)  # as an installed program is
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        small, large = make(Path(name, "small"), SMALL), make(Path(name, "large"), options.large)
        sends: dict[Path, list[float]] = {small: [], large: []}
        retries, records, bare = [], [], []
        program = (sys.executable, "-m", "f2b_digest", "--config", large)
        for number in range(options.rounds):
            for config, times in sends.items():
                times.append(send(config, number))
            bare.append(statistics.median(cpu(sys.executable, "-c", "pass") for _ in range(5)))
            retries.append(cpu(*program, "retry"))
            records.append(cpu(*program, "record", "--jail", "sshd", "--ip", f"198.51.100.{number}"))
        line(f"send, {SMALL:,} events of history", sends[small])
        line(f"send, {options.large:,} events of history", sends[large])
        compare("send with much history", sends[large], sends[small], SEND_TARGET)
        line("python -c pass", bare)
        line("retry with nothing due", retries)
        compare("retry", retries, bare, RETRY_TARGET)
        line("record", records)
        compare("record", records, bare, RECORD_TARGET)


if __name__ == "__main__":
    main()
