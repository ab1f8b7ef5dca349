"""Benchmark: `append` of a fleet's centre, through all its checks, beside COPY of the same rows into plain tables.

Run: python -m tests.benchmarks.fleet_append [--rounds N]. Batches of 500 bans without log lines by one host over TLS,
in turn with COPY by the owner into a table with the same key and index, and one with neither; the ratios are of the
server's CPU, and of seconds. Bytes a ban are of the events' tables with their indexes. fsync is on.
"""

import argparse
import json
import random
import statistics
import time
import uuid
from collections.abc import Callable
from functools import partial

import psycopg

from f2b_digest.fleet import by_sql
from f2b_digest.store import NOTHING, End
from tests.benchmarks.fleet_uploads import cpu
from tests.support.postgres_server import PostgreSQL

BATCH, BATCHES = 500, 40
COLUMNS = ("seq", "kind", "jail", "ip", "at", "recorded_at", "failures", "bantime", "bancount", "source")
Row = dict[str, object]
JAILS = ("sshd", "postfix", "nginx-http-auth", "recidive")
TABLES = {"indexed": "INCLUDING INDEXES", "bare": ""}


def main() -> None:
    """Print the ratios of all rounds, and the median."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with PostgreSQL() as server, server.centre() as centre:
        centre.do("ALTER SYSTEM SET log_statement = 'none'", "ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")
        for name, like in TABLES.items():
            centre.do(
                f"CREATE TABLE {name} (LIKE f2b.event {like})",
                f"ALTER TABLE {name} ALTER arrived SET DEFAULT now(), ALTER store_id SET DEFAULT 1, "
                "ALTER history SET DEFAULT 0",
            )
        credential = centre.add("web1")
        centre.do("UPDATE f2b.host SET daily_rows = 10000000")
        life, end = str(uuid.uuid4()), End(0, NOTHING)
        ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in TABLES}
        with by_sql.opened(credential) as door, psycopg.connect(centre.admin, autocommit=True) as owner:
            door.hello(life, [], {"now": time.time()})
            for _ in range(rounds):
                batches = [rows(end.seq + BATCH * number) for number in range(BATCHES)]

                def append(batches: list[list[Row]] = batches) -> None:
                    nonlocal end
                    for batch in batches:
                        after, end = end, End(end.seq + BATCH, str(uuid.uuid4()))
                        door.append(life, after, end, json.dumps(batch))

                ours = cost(server, append)
                print(f"append {BATCH * BATCHES / ours[1]:,.0f} rows/s", end="")
                for name in TABLES:
                    plain = cost(server, partial(copy, owner, name, batches))
                    ratios[name].append((plain[0] / ours[0], plain[1] / ours[1]))
                    print(f", COPY {name} {BATCH * BATCHES / plain[1]:,.0f}", end="")
                print()
        for name, pairs in ratios.items():
            for unit, column in zip(("CPU", "seconds"), zip(*pairs, strict=True), strict=True):
                spread = f"{min(column):.2f} to {max(column):.2f}"
                print(f"beside COPY into the {name} table, by {unit}: {statistics.median(column):.2f} ({spread})")
        query = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'f2b.event'::regclass"
        print(f"{float(centre.rows(query)[0][0]) / end.seq:.0f} bytes a ban")


def copy(owner: psycopg.Connection, table: str, batches: list[list[Row]]) -> None:
    """Write the batches into a table, each in a transaction."""
    for batch in batches:
        with owner.cursor().copy(f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN".encode()) as target:
            for row in batch:
                target.write_row([row[column] for column in COLUMNS])


def rows(after: int) -> list[Row]:
    """Return bans in four jails, of which few addresses come often."""
    now = time.time()
    return [
        {
            "seq": after + number, "kind": "ban", "jail": random.choice(JAILS),
            "ip": f"{random.randrange(1, 224)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(256)}",
            "at": now, "recorded_at": now, "failures": 5, "bantime": 3600, "bancount": 1, "source": "action",
        }
        for number in range(1, BATCH + 1)
    ]  # fmt: skip


def cost(server: PostgreSQL, work: Callable[[], None]) -> tuple[float, float]:
    """Return the server's CPU and the time that something takes, in seconds."""
    before, begun = cpu(server), time.perf_counter()
    work()
    return cpu(server) - before, time.perf_counter() - begun


if __name__ == "__main__":
    main()
