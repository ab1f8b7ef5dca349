"""Benchmark: a centre on Citus with two workers beside one on a single PostgreSQL, all on this machine.

Run: python -m tests.benchmarks.citus [--events N] [--hosts N] [--batches N] [--rounds N] [--histories FOLDER]. Real
histories are multiplied: each host begins at another place of them. Prints the rows a second that one host appends, in
batches of 500; the seconds of a bare GROUP BY by host, jail and address over all events; and those of the digest of all
of them. The same cores do both, so that what Citus gains with more machines does not show: the ratio is what it costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from f2b_digest.fleet.connection import parameters
from tests.benchmarks.fleet import MEASURE
from tests.support.citus_cluster import Citus
from tests.support.histories import FOLDER, histories
from tests.support.postgres_server import Centre, PostgreSQL

BATCH = 500
ZERO = str(uuid.UUID(int=0))
GROUPED = """
SELECT count(*), sum(bans) FROM (
    SELECT store_id, jail, ip, count(*) AS bans, sum(failures) AS failures, min(at) AS first, max(at) AS last
    FROM f2b.event WHERE kind = 'ban' AND history = 0 GROUP BY store_id, jail, ip) AS groups
"""
_STORES = """
INSERT INTO f2b.store (store_id, host, life, last_seq, complete_until, skew) OVERRIDING SYSTEM VALUE
SELECT i + 999, 'db' || i, gen_random_uuid(), %(each)s, extract(epoch FROM now()), 0
FROM generate_series(1, %(hosts)s) AS i
"""
CONFIGURATION = """
store = "{store}"
host = "fleet"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "{folder}"
"""
Ban = tuple[str, str, float, int | None, int | None, str | None]
"""Jail, address, time, failures, seconds of the ban, names tried."""


def bans(folder: Path) -> list[Ban]:
    """Return all bans of the histories."""
    return [
        (row[2], row[3], row[4], row[6], row[7], row[9])
        for history in histories(folder)
        for row in history.rows
        if row[0] == "ban"
    ]


def fill(centre: Centre, pool: Sequence[Ban], hosts: int, events: int) -> None:
    """Copy events into a centre: as many of each host."""
    lines = [
        "\t".join((
            "ban", jail.replace("\\", "\\\\"), ip.replace("\\", "\\\\"), repr(at), repr(at),
            *("\\N" if value is None else str(value).replace("\\", "\\\\") for value in (failures, bantime, users)),
            "action\n",
        )).encode()
        for jail, ip, at, failures, bantime, users in pool
    ]  # fmt: skip
    each, step = events // hosts, max(len(pool) // hosts, 1)
    columns = "store_id, seq, kind, jail, ip, at, recorded_at, failures, bantime, users, source"
    with psycopg.connect(centre.admin, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        with connection.cursor() as cursor, cursor.copy(f"COPY f2b.event ({columns}) FROM STDIN".encode()) as copy:
            for host in range(hosts):
                copy.write(b"".join(
                    b"%d\t%d\t%s" % (host + 1000, seq, lines[(host * step + seq) % len(lines)]) for seq in range(each)
                ))  # fmt: skip
        connection.execute("ANALYZE f2b.event")
        values = {"hosts": hosts, "each": each}
        connection.execute(
            b"INSERT INTO f2b.host (host, login) SELECT 'db' || i, 'd-' || i FROM generate_series(1, %(hosts)s) AS i",
            values,
        )
        connection.execute(_STORES.encode(), values)


def appending(centre: Centre, pool: Sequence[Ban], batches: int) -> Callable[[], float]:
    """Return what appends some batches as a host, and says how many rows a second."""
    address = centre.as_user(str(parameters(centre.add("web1").centre)["user"]))
    life, end = str(uuid.uuid4()), [0, ZERO]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SELECT * FROM f2b.hello(%s, '[]', %s)", (life, json.dumps({"now": time.time()})))

    def append() -> float:
        with psycopg.connect(address, autocommit=True) as connection:
            begun = time.monotonic()
            for _ in range(batches):
                after, last = end
                assert isinstance(after, int)
                rows = [
                    {"seq": seq, "kind": "ban", "jail": jail, "ip": ip, "at": at, "recorded_at": at, "source": "action",
                     "failures": failures, "bantime": bantime}
                    for seq in range(after + 1, after + BATCH + 1)
                    for jail, ip, at, failures, bantime, _ in (pool[seq % len(pool)],)
                ]  # fmt: skip
                batch = str(uuid.uuid4())
                values = (life, after, last, batch, after + BATCH, json.dumps(rows))
                connection.execute("SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)", values)
                end[:] = [after + BATCH, batch]
            return batches * BATCH / (time.monotonic() - begun)

    return append


def grouping(centre: Centre) -> float:
    """Return the seconds of the bare GROUP BY."""
    with psycopg.connect(centre.admin, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        begun = time.monotonic()
        connection.execute(GROUPED).fetchone()
        return time.monotonic() - begun


class Cost(NamedTuple):
    """What a command took: seconds, those of its own CPU, and memory."""

    seconds: float
    cpu: float
    megabytes: float


def digest(centre: Centre, folder: Path) -> Cost:
    """Return what the preview of the digest of all events takes."""
    config = folder / "config.toml"
    config.write_text(CONFIGURATION.format(store=centre.as_user("f2b_digest"), folder=folder))
    begun = time.monotonic()
    words = [sys.executable, "-m", "f2b_digest", "--config", str(config), "preview"]
    said = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True)
    cpu, kilobytes = map(float, said.stdout.split())
    return Cost(time.monotonic() - begun, cpu, kilobytes / 1024)


def shown(what: str, unit: str, one: Sequence[float], citus: Sequence[float]) -> None:
    """Print the medians of both with what they lie between, and their ratio."""
    texts = (f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})" for values in (one, citus))
    ratio = statistics.median(b / a for a, b in zip(one, citus, strict=True))
    print(f"{what}, {unit}: PostgreSQL {next(texts)}, Citus {next(texts)}; {ratio:.2f} times", flush=True)


def main() -> None:
    """Measure both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--histories", type=Path, default=FOLDER)
    options = parser.parse_args()
    pool = bans(options.histories)
    with PostgreSQL() as server, Citus() as cluster, server.centre() as one, cluster.centre() as citus:
        for node in (*server.nodes, *cluster.nodes):  # or the single server sorts on disk, and the shards do not
            node.do("ALTER SYSTEM SET work_mem = '256MB'", "SELECT pg_reload_conf()")
        rates = [appending(centre, pool, options.batches) for centre in (one, citus)]
        taken = [[rate() for rate in rates] for _ in range(options.rounds)]
        shown(f"append, batches of {BATCH}", "rows/s", [row[0] for row in taken], [row[1] for row in taken])
        for name, centre in (("PostgreSQL", one), ("Citus", citus)):
            begun = time.monotonic()
            fill(centre, pool, options.hosts, options.events)
            print(f"{name}: {options.events:,} events copied in {time.monotonic() - begun:.0f} s", flush=True)
        taken = [[grouping(centre) for centre in (one, citus)] for _ in range(options.rounds)]
        shown("GROUP BY by host, jail, address", "seconds", [row[0] for row in taken], [row[1] for row in taken])
        print(one.rows(GROUPED), citus.rows(GROUPED))
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
            costs = [[digest(centre, Path(name)) for centre in (one, citus)] for _ in range(options.rounds)]
        shown("digest", "seconds", [row[0].seconds for row in costs], [row[1].seconds for row in costs])
        shown("its own CPU", "seconds", [row[0].cpu for row in costs], [row[1].cpu for row in costs])
        print(f"memory at most {max(cost.megabytes for row in costs for cost in row):.0f} MB")


if __name__ == "__main__":
    main()
