"""Benchmark: what the commands cost beside a bare interpreter, and a digest of a million bans beside `sqlite3`.

The million waits on top of five million older bans, which are reported already, as after some weeks under attack.
Run: python -m tests.benchmarks.programs [--rounds N] [--bans N] [--older N]. Ratios are of pairs run in turn; medians
are quoted.
"""

import argparse
import random
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store

PROGRAM = str(Path(sys.executable).parent / "f2b-digest")
GROUPING = """SELECT jail, ip, count(*), sum(failures), min(at), max(at)
FROM event WHERE kind = 'ban' AND history = 0 AND id > {older} GROUP BY jail, ip;"""
NAMES = (("root", "admin"), ("root",), ("oracle", "test"), ("postgres",), ())
DAY = 86400.0


def seconds(command: list[str]) -> float:
    """Run a command to its end, its output thrown away."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def compare(what: str, ours: Callable[[int], list[str]], other: list[str], target: float, rounds: int) -> None:
    """Print the ratio of two commands that ran in turn."""
    seconds(ours(-1))
    seconds(other)
    pairs = [(seconds(ours(number)), seconds(other)) for number in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    median = statistics.median(ratios)
    milliseconds = [1000 * statistics.median(column) for column in zip(*pairs, strict=True)]
    print(
        f"{what:48} {median:6.2f} (target <= {target:g}: {'reached' if median <= target else 'MISSED'}; "
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}; {milliseconds[0]:.1f} ms beside {milliseconds[1]:.1f} ms)"
    )


def bans(number: int, addresses: int, start: float, end: float) -> Iterator[tuple[Any, ...]]:
    """Yield bans of this many addresses in four jails, evenly from start to end (UTC epoch seconds)."""
    chance = random.Random(number)
    for place in range(number):
        n = chance.randrange(addresses)
        at = start + place * (end - start) / number
        yield recorder.event(
            "ban", ("sshd", "nginx", "postfix", "dovecot")[n % 4], f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", at, "web1",
            "benchmark", recorded_at=at, failures=5, bantime=600, bancount=1,
            users=NAMES[n % 5] if n % 3 else (f"user{n % 500}",),
        )  # fmt: skip


def fill(path: Path, older: int, pending: int) -> None:
    """Make a store with older bans that a digest took, and with pending ones of the last day."""
    now = time.time()
    connection = recorder.connect(str(path))
    connection.execute("PRAGMA synchronous=OFF")
    for rows in (bans(older, 1_000_000, now - 36 * DAY, now - DAY), bans(pending, 200_000, now - DAY, now)):
        connection.execute("BEGIN")
        connection.executemany(recorder.INSERT, rows)
        connection.execute("COMMIT")
    connection.close()
    if older:
        with Store(path, read_only=False) as store:
            stamp = Stamp("0" * 32, "daily", "box", "web1", now - DAY, older)
            selection = Selection(first_id=1, last_id=older)
            store.seal(selection, stamp=stamp, document="{}", start=now - 36 * DAY, end=now - DAY, messages=[])


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bans", type=int, default=1_000_000)
    parser.add_argument("--older", type=int, default=5_000_000)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-benchmark-"))
    bare = [sys.executable, "-I", "-c", "pass"]
    store = str(folder / "small.sqlite3")
    compare("f2b-digest --help / bare interpreter", lambda _: [PROGRAM, "--help"], bare, 6, arguments.rounds)
    compare(
        "f2b-digest record / bare interpreter",
        lambda n: [PROGRAM, "--store", store, "record", "--jail=sshd", f"--ip=192.0.2.{n % 250}", f"--at={1000 + n}"],
        bare,
        5,
        arguments.rounds,
    )
    path = folder / "million.sqlite3"
    fill(path, arguments.older, arguments.bans)
    program = shutil.which("sqlite3") or sys.exit("apt-get install sqlite3")
    compare(
        f"preview of {arguments.bans:,} of {arguments.older + arguments.bans:,} bans / sqlite3",
        lambda _: [PROGRAM, "--store", str(path), "preview"],
        [program, str(path), GROUPING.format(older=arguments.older)],
        3,
        max(3, arguments.rounds // 5),
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    verdict = "reached" if peak <= 150 else "MISSED"
    print(f"{'peak memory of the largest program above':48} {peak:6.0f} MB (target <= 150: {verdict})")
    marking(folder, path)
    shutil.rmtree(folder)


def marking(folder: Path, path: Path) -> None:
    """Send the million to a folder, with a trigger in the store that fails on any change of an event."""
    with sqlite3.connect(path) as connection:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER no_{verb} BEFORE {verb} ON event BEGIN SELECT raise(ABORT, '{verb}'); END"
            )
    config = folder / "config.toml"
    config.write_text(f'[reports.daily]\nchannels = ["box"]\n[channels.box]\nkind = "file"\nfolder = "{folder}/box"\n')
    took = seconds([PROGRAM, "--config", str(config), "--store", str(path), "send"])
    files = len(list((folder / "box").iterdir()))
    print(
        f"{'send of the same to a folder':48} {took:6.1f} s; {files} file; events rewritten: 0 (a trigger forbids it)"
    )


if __name__ == "__main__":
    main()
