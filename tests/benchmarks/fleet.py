"""Benchmark: the digest of a fleet beside that of a single host with as many bans.

Run: python -m tests.benchmarks.fleet [--hosts N] [--bans N] [--days N] [--rounds N] [--histories FOLDER]. Real
histories are multiplied: each host begins at another place of them, at a pace that gives it so many bans a day. Those
of the last day are pending. The CPU of `preview` counts; that of the server is printed beside it. The aim is for 100
hosts with 10,000 bans a day for 10 days (--bans 10000), which take a quarter of an hour to make.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg

from f2b_digest import recorder
from f2b_digest.fleet import history
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.fleet.vectors import End
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store
from tests.support.histories import FOLDER, histories
from tests.support.postgres_server import Centre, PostgreSQL

DAY = 86400.0
TIMES, MEGABYTES = 2.0, 300
"""The aims: CPU beside a single host's digest, and memory."""
LONGEST_GAP = 600.0
"""Seconds that a gap between two bans counts at most: some histories have months without."""
CONFIGURATION = """
store = "{store}"
host = "fleet"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "{folder}"
"""
_POOL = (
    "CREATE TABLE pool (place bigint PRIMARY KEY, moment float8, jail text, ip text, failures bigint, bantime bigint, "
    "users text)"
)
# The times of a host's bans keep their proportions; all hosts end now.
_EVENTS = """
INSERT INTO f2b.event (store_id, seq, arrived, kind, jail, ip, at, recorded_at, failures, bantime, users, source)
SELECT host, seq, to_timestamp(at + 60), 'ban', jail, ip, at, at, failures, bantime, users, 'action' FROM (
    SELECT host, place - host * %(step)s + 1 AS seq, jail, ip, failures, bantime, users,
           %(now)s - 60 - %(days)s * 86400 * (max(moment) OVER bans - moment)
           / (max(moment) OVER bans - min(moment) OVER bans) AS at
    FROM generate_series(1, %(hosts)s) AS host
    JOIN pool ON place >= host * %(step)s AND place < host * %(step)s + %(each)s WINDOW bans AS (PARTITION BY host)
) AS events
"""
_PARTITIONS = """
DO $$ DECLARE month timestamptz; BEGIN
    FOR back IN 1..6 LOOP
        month := (date_trunc('month', now() AT TIME ZONE 'UTC') - back * interval '1 month') AT TIME ZONE 'UTC';
        EXECUTE 'CREATE TABLE f2b.event_' || to_char(month, 'YYYYMM') || ' PARTITION OF f2b.event FOR VALUES FROM ('
            || quote_literal(month) || ') TO (' || quote_literal(month + interval '1 month') || ')';
    END LOOP;
END $$
"""
# In between, because a process inherits the peak memory of the one that started it.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
_OF_ONE_HOST = (
    "SELECT 'ban', 'web1', jail, ip, at + store_id * 1e-4, recorded_at, failures, bantime, NULL, users, NULL, source, "
    "0 FROM f2b.event ORDER BY arrived"
)


class Cost(NamedTuple):
    """What a command took."""

    cpu: float
    """Seconds of the process."""
    server: float
    """Seconds of PostgreSQL's processes that served it."""
    megabytes: float


class Fleet:
    """A centre with many hosts' bans, and a store with the same bans of a single host."""

    def __init__(self, server: PostgreSQL, centre: Centre, folder: Path, options: argparse.Namespace) -> None:
        """Make both; all but the last day's bans of each host are reported."""
        self.server, self.centre, self.folder, self.now = server, centre, folder, time.time()
        self.hosts, self.bans, self.days = options.hosts, options.bans, options.days
        with psycopg.connect(centre.admin, autocommit=True) as connection:
            connection.execute("SET statement_timeout = 0; SET work_mem = '256MB'; SET synchronous_commit = off")
            self._fill(connection, options.histories)
            self._tell(connection)
            connection.execute("VACUUM ANALYZE")
        self._keep()
        self._fill_store()

    def _fill(self, connection: psycopg.Connection, folder: Path) -> None:
        each, rows = self.bans * self.days, [row for read in histories(folder) for row in read.rows if row[0] == "ban"]
        step = max(len(rows) // self.hosts, 1)
        connection.execute(_POOL.encode())
        with connection.cursor() as cursor, cursor.copy("COPY pool FROM STDIN") as copy:
            moment, before = 0.0, 0.0
            for place in range(step * self.hosts + each):
                _, _, jail, ip, at, _, failures, bantime, _, users, *_ = rows[place % len(rows)]
                moment, before = moment + min(max(at - before, 0.05), LONGEST_GAP), at
                copy.write_row((place, moment, jail, ip, failures, bantime, users))
        connection.execute(_PARTITIONS.encode())
        connection.execute(
            b"INSERT INTO f2b.host (host, login) SELECT 'web' || i, 'h-' || i FROM generate_series(1, %s) AS i",
            (self.hosts,),
        )
        connection.execute(
            b"INSERT INTO f2b.store (host, life, last_seq, complete_until, skew) "
            b"SELECT 'web' || i, gen_random_uuid(), %s, %s, 0 FROM generate_series(1, %s) AS i",
            (each, self.now, self.hosts),
        )
        values = {"step": step, "now": self.now, "days": self.days, "hosts": self.hosts, "each": each}
        connection.execute(_EVENTS.encode(), values)
        connection.execute("DROP TABLE pool")

    def _tell(self, connection: psycopg.Connection) -> None:
        """Seal all but the last day's, up to the first of these."""
        told = self.bans * (self.days - 1)
        ((first,),) = connection.execute(b"SELECT min(at) FROM f2b.event WHERE seq > %s", (told,)).fetchall()
        self.told_at = float(first)
        connection.execute(
            b"INSERT INTO f2b.digest (uuid, report, after_id, first_id, last_id, period_start, period_end, sealed_at, "
            b"bans, document) VALUES ('told', 'daily', 0, 1, 1, %s, %s, %s, 1, '{}')",
            (self.told_at - DAY, self.told_at, self.told_at),
        )
        connection.execute(b"INSERT INTO f2b.mark SELECT 'daily', store_id, %s FROM f2b.store", (told,))

    def _keep(self) -> None:
        """Keep the times of each day, as its digest did."""
        stores = [store for (store,) in self.centre.rows("SELECT store_id FROM f2b.store")]
        with Opened(self.centre.as_user("f2b_digest")) as opened:
            for day in range(1, self.days):
                with opened._transaction() as connection:
                    history.keep(connection, [End(store, 0, day * self.bans) for store in stores], self.now)

    def _fill_store(self) -> None:
        path = self.folder / "bans.sqlite3"
        with closing(recorder.connect(str(path))) as store, psycopg.connect(self.centre.admin) as connection:
            store.execute("PRAGMA synchronous=OFF")
            store.execute("PRAGMA cache_size=-200000")
            connection.execute("SET statement_timeout = 0")
            store.execute("BEGIN")
            with connection.cursor(name="bans") as cursor:
                cursor.itersize = 5000
                cursor.execute(_OF_ONE_HOST.encode())
                store.executemany(recorder.INSERT, cursor)
            store.execute("COMMIT")
        with Store(path, read_only=False) as opened:
            told = Selection(first_id=1, last_id=self.hosts * self.bans * (self.days - 1))
            stamp = Stamp("0" * 32, "daily", "", "web1", self.told_at, 1)
            opened.seal(told, stamp=stamp, document="{}", start=self.told_at - DAY, end=self.told_at, messages=[])

    def preview(self, store: str) -> Cost:
        """Return what the preview of a store's daily digest takes."""
        config = self.folder / "config.toml"
        config.write_text(CONFIGURATION.format(store=store, folder=self.folder))
        server = self._cpu_of_server()
        words = [sys.executable, "-m", "f2b_digest", "--config", str(config), "preview"]
        said = subprocess.run([sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, check=True)
        cpu, kilobytes = map(float, said.stdout.split())
        time.sleep(0.5)  # until the server has seen its process end
        return Cost(cpu, self._cpu_of_server() - server, kilobytes / 1024)

    def _cpu_of_server(self) -> float:
        """Return the CPU seconds of the server's processes that have ended."""
        postmaster = (self.server.folder / "data/postmaster.pid").read_text().split()[0]
        words = Path(f"/proc/{postmaster}/stat").read_text().rpartition(") ")[2].split()
        return sum(map(int, words[13:15])) / os.sysconf("SC_CLK_TCK")


def measured(options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the result."""
    with (
        PostgreSQL() as server,
        server.centre() as centre,
        tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name,
    ):
        Path(name).chmod(0o755)
        with psycopg.connect(server.address(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("ALTER SYSTEM SET log_statement = none")
            connection.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
            connection.execute("SELECT pg_reload_conf()")
        fleet = Fleet(server, centre, Path(name), options)
        pending = options.hosts * options.bans
        ((size,),) = centre.rows("SELECT pg_size_pretty(pg_total_relation_size('f2b.times'))")
        yield f"{pending:,} pending in {pending * options.days:,}; {size} of packed times"
        costs: dict[str, list[Cost]] = {"a fleet's digest": [], "a single host's": []}
        for _ in range(options.rounds):
            costs["a fleet's digest"].append(fleet.preview(centre.as_user("f2b_digest")))
            costs["a single host's"].append(fleet.preview(str(fleet.folder / "bans.sqlite3")))
    yield f"{'':20} CPU s  quartiles   server's CPU s  memory, MB"
    for what, each in costs.items():
        cpu = sorted(cost.cpu for cost in each)
        quartiles = f"{cpu[len(cpu) // 4]:.1f}-{cpu[3 * len(cpu) // 4]:.1f}"
        server_cpu = statistics.median(cost.server for cost in each)
        most = max(cost.megabytes for cost in each)
        yield f"{what:20} {statistics.median(cpu):5.1f}  {quartiles:11} {server_cpu:14.1f}  {most:10.0f}"
    ours, single = (statistics.median(cost.cpu for cost in each) for each in costs.values())
    memory = max(cost.megabytes for cost in costs["a fleet's digest"])
    yield f"ratio {ours / single:.2f} (aim {TIMES:g}: {_reached(ours <= TIMES * single)})"
    yield f"memory {memory:.0f} MB (aim {MEGABYTES}: {_reached(memory <= MEGABYTES)})"


def _reached(done: bool) -> str:
    return "reached" if done else "MISSED"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--bans", type=int, default=1000, help="of each host in a day")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--histories", type=Path, default=FOLDER)
    for line in measured(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
