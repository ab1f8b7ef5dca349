"""Benchmark: a centre with 1,000 hosts, each of which uploads every five minutes over TLS, and its digest.

Run: python -m tests.benchmarks.fleet_uploads [--hosts N] [--seconds S]. All hosts upload once in S seconds by the real
client, each with three bans, so that time is compressed by 300/S. CPU is that of PostgreSQL's processes alone, less
that of the idle server; fsync is on.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

from f2b_digest.fleet.credential import Credential, taken_apart
from tests.fleet.hosts import Host
from tests.support.postgres_server import Centre, PostgreSQL

FORK = get_context("fork")
CLIENTS = 4
EVERY = 300.0
"""Seconds between two uploads of a host."""
IDLE = 20.0
"""Seconds in which the idle server's CPU is measured."""
TICKS = os.sysconf("SC_CLK_TCK")
BANS = 3
Taken = tuple[str, float]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=120.0)
    arguments = parser.parse_args()
    with PostgreSQL() as server, tempfile.TemporaryDirectory(prefix="f2b-digest-") as name, server.centre() as centre:
        centre.do("ALTER SYSTEM SET log_statement = 'none'", "ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")
        hosts = enrol(centre, arguments.hosts, Path(name))
        first_uploads(server, hosts)
        uploads(server, centre, hosts, arguments.seconds)
        digest(centre, Path(name))


def enrol(centre: Centre, number: int, folder: Path) -> list[Host]:
    """Enrol all by one command, and return them."""
    names = [f"web{place:04}" for place in range(number)]
    begun = time.perf_counter()
    done = command("fleet", "add", "--json", "--centre", centre.admin, *names)
    print(f"fleet add of {number} hosts: {time.perf_counter() - begun:.1f} s")
    hosts = []
    for each in json.loads(done):
        credential = Credential(each["address"], matches="all", **taken_apart(each["credential"]))
        hosts.append(Host(folder / f"{each['host']}.sqlite3", credential))
    return hosts


def command(*words: str) -> str:
    """Run the program, and return what it printed."""
    called = [sys.executable, "-m", "f2b_digest", *words]
    return subprocess.run(called, check=False, capture_output=True, text=True).stdout


def first_uploads(server: PostgreSQL, hosts: list[Host]) -> None:
    """Let all join as fast as they can."""
    before, begun = cpu(server), time.perf_counter()
    taken = run(hosts, 0.0)
    seconds = time.perf_counter() - begun
    print(
        f"first uploads, {CLIENTS} at a time without a pause: {len(taken) / seconds:.1f} a second (clients on the same "
        f"cores), {1000 * (cpu(server) - before) / len(taken):.1f} ms of the server's CPU each"
    )


def uploads(server: PostgreSQL, centre: Centre, hosts: list[Host], seconds: float) -> None:
    """Let all upload once in so many seconds."""
    before = cpu(server)
    time.sleep(IDLE)
    idle = (cpu(server) - before) / IDLE
    (size,) = centre.rows("SELECT pg_database_size(current_database())")[0]
    before, begun, opened = cpu(server), time.perf_counter(), []
    taken = run(hosts, seconds, watch=lambda: opened.append(connections(server)))
    lasted = time.perf_counter() - begun
    used = cpu(server) - before - idle * lasted
    each = used / len(taken)
    (after,) = centre.rows("SELECT pg_database_size(current_database())")[0]
    times = sorted(1000 * latency for _, latency in taken)
    print(
        f"{len(taken)} uploads of {BANS} bans in {lasted:.0f} s ({len(taken) / lasted:.1f} a second, time compressed "
        f"{EVERY / lasted:.1f} times), idle server {100 * idle:.2f} % of a core\n"
        f"  server's CPU: {1000 * each:.1f} ms an upload; {len(hosts)} hosts every {EVERY:.0f} s: "
        f"{100 * each * len(hosts) / EVERY:.1f} % of one core of 2; {each * 86400 / EVERY:.1f} s a host and day\n"
        f"  latency: median {statistics.median(times):.0f} ms, p99 {times[int(len(times) * 0.99)]:.0f} ms\n"
        f"  connections open at a time: at most {max(opened)}, {statistics.mean(opened):.2f} on average\n"
        f"  the database grew by {(after - size) / len(taken) / BANS:.0f} bytes a ban"
    )


def run(hosts: list[Host], seconds: float, watch: Callable[[], None] | None = None) -> list[Taken]:
    """Let each host record and upload, spread over some seconds; return how long each upload took."""
    begun, answers = time.monotonic(), FORK.Queue()
    places = list(range(len(hosts)))
    random.Random(1).shuffle(places)
    plan = sorted((begun + seconds * place / len(hosts), number) for number, place in enumerate(places))
    workers = [FORK.Process(target=client, args=(hosts, plan[first::CLIENTS], answers)) for first in range(CLIENTS)]
    for worker in workers:
        worker.start()
    taken: list[Taken] = []
    while len(taken) < len(hosts):
        if watch:
            watch()
        while not answers.empty():
            taken.append(answers.get())
        time.sleep(0.1)
    for worker in workers:
        worker.join()
    return taken


def client(hosts: list[Host], plan: list[tuple[float, int]], answers: "Queue[Taken]") -> None:
    """Upload for some hosts, each at its time."""
    for at, number in plan:
        host = hosts[number]
        host.bans(f"10.{number % 250}.{number // 250}.{random.randrange(250)}" for _ in range(BANS))
        time.sleep(max(at - time.monotonic(), 0))
        begun = time.perf_counter()
        host.forward()
        answers.put((host.store.stem, time.perf_counter() - begun))


def processes(server: PostgreSQL) -> Iterator[int]:
    """Yield the server's processes."""
    postmaster = int((server.folder / "data/postmaster.pid").read_text().split()[0])
    yield postmaster
    yield from map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())


def cpu(server: PostgreSQL) -> float:
    """Return the seconds of CPU of the server's processes, those that have ended included."""
    ticks = 0
    for number, process in enumerate(processes(server)):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # has just ended: it is in its parent's, next time
            continue
        ticks += sum(map(int, fields[11 : 13 if number else 15]))
    return ticks / TICKS


def connections(server: PostgreSQL) -> int:
    """Return how many hosts are connected."""
    count = 0
    for process in processes(server):
        try:
            count += b"postgres: h-" in Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
    return count


def digest(centre: Centre, folder: Path) -> None:
    """Look at the list and the digest of all hosts, of which some need somebody."""
    worst = "WHERE host IN (SELECT host FROM f2b.host ORDER BY md5(host) LIMIT"
    centre.do(
        f"UPDATE f2b.store SET seen_at = now() - interval '3 days' {worst} 4)",
        f"UPDATE f2b.store SET skew = 600 {worst} 6) AND seen_at > now() - interval '1 day'",
    )
    config = folder / "config.toml"
    config.write_text(
        f"""
store = "{centre.as_user("f2b_digest")}"
host = "fleet"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "{folder}"
"""
    )
    look("fleet list", "fleet", "list", "--centre", centre.admin)
    look("preview", "--config", str(config), "preview", "daily")


def look(title: str, *words: str) -> None:
    """Print what a command costs, and how it begins."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "f2b_digest", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = process.stdout.read().splitlines()
    _, _, usage = os.wait4(process.pid, 0)
    seconds, used = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
    print(f"{title}: {seconds:.1f} s, {used:.1f} s of CPU, {usage.ru_maxrss / 1024:.0f} MB, {len(lines)} lines")
    print("\n".join(f"    {line}" for line in lines[:40]))


if __name__ == "__main__":
    main()
