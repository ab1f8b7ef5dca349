"""Benchmark: a fleet's digest beside a single host's of as many bans, and grouping many in PostgreSQL.

Run: python -m tests.benchmarks.fleet [--hosts N] [--bans N] [--days N] [--histories FOLDER]. Real histories are multiplied: each
host lives through them from another place on, at a pace that gives it so many bans a day. Those of the last day are
pending. CPU counts, of a process that makes the digest and of the server's that works for it.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg

from f2b_digest import composition, config, recorder
from f2b_digest.config import Configuration
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.model.digest import Digest
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store
from tests.support.histories import FOLDER, histories
from tests.support.postgres_server import Centre, PostgreSQL

DAY = 86400.0
TARGET, MEMORY = 2.0, 300
LONGEST_GAP = 600.0
"""Seconds that a gap between two bans of a history counts at most: some have years without a ban."""
_EVENTS = """
SELECT h, i + 1, 'ban', jail, ip, {end} - {days} * 86400 + {days} * 86400 * (c - min(c) OVER host) /
       (max(c) OVER host - min(c) OVER host + 1), failures, bantime, users
FROM generate_series(1, {hosts}) AS h CROSS JOIN LATERAL (
    SELECT place - h * {step} AS i, jail, ip, c, failures, bantime, users FROM pool
    WHERE place >= h * {step} AND place < h * {step} + {each}
) AS bans WINDOW host AS (PARTITION BY h)
"""


class Fleet:
    """What is measured: a centre with the bans of many hosts, and one store with the same bans of a single host."""

    def __init__(self, centre: Centre, folder: Path, options: argparse.Namespace) -> None:
        """Make the events in the centre; all but those of the last day are reported."""
        self.centre, self.folder, self.now = centre, folder, time.time()
        self.hosts, self.bans, self.days = options.hosts, options.bans, options.days
        self.each = self.bans * self.days
        with psycopg.connect(centre.admin, autocommit=True) as connection:
            self._connection = connection
            connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'; SET statement_timeout = 0")
            self._pool(options.histories)
            self._partitions()
            self._events()
            connection.execute("VACUUM ANALYZE")

    def _do(self, query: str, *values: object) -> None:
        self._connection.execute(query.encode(), values or None)

    def _pool(self, folder: Path) -> None:
        """Write what the histories banned, in their order, as often as the last host needs."""
        rows = [row for history in histories(folder) for row in history.rows if row[0] == "ban"]
        step = len(rows) // self.hosts or 1
        most = step * self.hosts + self.each
        self.step = step
        self._do(
            "CREATE TABLE pool (place bigint PRIMARY KEY, c float8, jail text, ip text, failures bigint, "
            "bantime bigint, users text)"
        )
        with self._connection.cursor() as cursor, cursor.copy("COPY pool FROM STDIN") as copy:
            at, before = 0.0, 0.0
            for place in range(most + 1):
                _, _, jail, ip, moment, _, failures, bantime, _, users, *_ = rows[place % len(rows)]
                at, before = at + min(max(moment - before, 0.05), LONGEST_GAP), moment
                copy.write_row((place, at, jail, ip, failures, bantime, users))

    def _partitions(self) -> None:
        self._do(
            "DO $$ DECLARE month timestamptz; BEGIN FOR back IN 1..6 LOOP "
            "month := date_trunc('month', now() AT TIME ZONE 'UTC') - back * interval '1 month'; EXECUTE format("
            "'CREATE TABLE f2b.%I PARTITION OF f2b.event FOR VALUES FROM (%L) TO (%L)', 'event_' || "
            "to_char(month, 'YYYYMM'), month, month + interval '1 month'); END LOOP; END $$"
        )

    def _events(self) -> None:
        self._do("INSERT INTO f2b.host (host, login) SELECT 'web' || i, 'h-' || i FROM generate_series(1, %s) AS i", self.hosts)
        self._do(
            "INSERT INTO f2b.store (host, life, first_seq, last_seq, complete_until, skew) SELECT 'web' || i, "
            "gen_random_uuid(), 0, %s, %s, 0 FROM generate_series(1, %s) AS i", self.each, self.now, self.hosts,
        )
        events = _EVENTS.format(end=self.now - 60, days=self.days, hosts=self.hosts, step=self.step, each=self.each)
        self._do(
            "INSERT INTO f2b.event (store_id, seq, arrived, kind, jail, ip, at, recorded_at, failures, bantime, users, "
            "source) SELECT h, s, to_timestamp(t + 60), k, j, ip, t, t, f, b, u, 'action' "
            f"FROM ({events}) AS e (h, s, k, j, ip, t, f, b, u)"
        )
