"""A fleet's centre as source of digests: its outbox in PostgreSQL, and each report's events in a scratch store.

Digests and deliveries are read and changed by the code that a host's store has (`Outbox`); two senders on two machines
are serialized by rows: only one digest can follow another, only one sender can claim a delivery.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import psycopg
import sqlalchemy as sa

from f2b_digest.analysis import LATELY
from f2b_digest.errors import CentreError, F2bDigestError
from f2b_digest.fleet import history, lookup, schema
from f2b_digest.fleet import hosts as hosts_of_fleet
from f2b_digest.fleet.archive import archive
from f2b_digest.fleet.grouping import Grouping
from f2b_digest.fleet.report import GroupedStore, Known, Pendings, ReportStore
from f2b_digest.fleet.scratch import copy_archive, fill, fill_past
from f2b_digest.fleet.transaction import (
    MEMORY_TO_GROUP,
    PortableStatements,
    be_patient,
    driver,
    engine_of,
    transaction_of,
    wait_for_workers,
)
from f2b_digest.fleet.vectors import COUNTED, End, values_of
from f2b_digest.model.baseline import COMPARED, LATE
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store import Outbox, Pending, Statements, Store, states

log = logging.getLogger(__name__)

DAY = 86400.0
SCHEMA = "f2b"
AS_ROWS = 50_000
"""Pending events up to which a digest's events are copied; PostgreSQL groups those of a larger one."""
_ENDS = """
SELECT s.store_id, coalesce(m.seq, 0) AS seq, s.last_seq AS upto, s.host FROM f2b.store s
LEFT JOIN f2b.mark m ON m.report = :report AND m.store_id = s.store_id
"""


class Centre(Outbox):
    """An open centre, to be closed or used as a context manager. PostgreSQL's errors become CentreError."""

    _conflict = sa.exc.IntegrityError

    def __init__(self, address: str) -> None:
        """Connect as the digests' role. Raises CentreError, with what to do if there is no centre."""
        self.path = Path("/") / SCHEMA  # the centre has no file
        self._address = address
        self._engine = engine_of(address)
        self._taken: Sequence[End] = ()
        try:
            with self._transaction() as connection:
                _refuse_other_schema(driver(connection))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, isolation: str = "READ COMMITTED") -> Iterator[sa.Connection]:
        with transaction_of(self._engine, isolation) as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator["PortableStatements"]:
        with self._transaction() as connection:
            connection.execute(sa.text(f"SET LOCAL search_path TO {SCHEMA}"))
            yield PortableStatements(connection)

    _writing = _reading

    # ---- status

    @property
    def name(self) -> str:
        """Return the database's address without secrets."""
        with self._transaction() as connection:
            query = "SELECT current_database(), coalesce(host(inet_server_addr()), 'a socket of this machine')"
            database, server = connection.execute(sa.text(query)).one()
        return f"postgresql, database {database} by {server}"

    def unfinished(self, hosts: Sequence[str], until: float, since: float) -> list[str]:
        """Return the hosts, heard since a time, that may have more to upload of what they recorded before `until`.

        Times are UTC epoch seconds by this clock; a host's own is corrected by what it is off.
        """
        query = (
            "SELECT DISTINCT s.host FROM f2b.store s JOIN f2b.host h USING (host) WHERE h.retired_at IS NULL "
            "AND s.seen_at >= to_timestamp(:since) "
            "AND coalesce(s.complete_until, 0) - coalesce(s.skew, 0) < :until ORDER BY s.host"
        )
        with self._transaction() as connection:
            found = connection.scalars(sa.text(query), {"since": since, "until": until})
            return [host for host in found if matches(host, hosts)]

    def hosts_by_state(self, now: float) -> dict[str, int]:
        """Return how many enrolled hosts are "heard", "silent" for a quarter of an hour, or "never" heard."""
        query = (
            "SELECT CASE WHEN seen IS NULL THEN 'never' WHEN seen < to_timestamp(:since) THEN 'silent' "
            "ELSE 'heard' END AS state, count(*) AS hosts FROM (SELECT max(s.seen_at) AS seen FROM f2b.host h "
            "LEFT JOIN f2b.store s USING (host) WHERE h.retired_at IS NULL GROUP BY h.host) AS hosts GROUP BY 1"
        )
        with self._transaction() as connection:
            found = {row.state: row.hosts for row in connection.execute(sa.text(query), {"since": now - LATELY})}
        return {"heard": 0, "silent": 0, "never": 0} | found

    def enrolled(self) -> list[str]:
        """Return the names of the enrolled hosts, in order."""
        with self._transaction() as connection:
            return list(connection.scalars(sa.text("SELECT host FROM f2b.host WHERE retired_at IS NULL ORDER BY host")))

    def size(self) -> int:
        """Return the size of the database on disk, in bytes."""
        with self._transaction() as connection:
            return int(connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)

    def pending_of(self, report: str, hosts: Sequence[str], jails: Sequence[str]) -> Pending:
        """Count the bans that a report has not sealed, by its patterns of hosts and of jails."""
        with self._transaction() as connection:
            values = values_of(_matching(connection, report, hosts))
            rows = [row for row in connection.execute(sa.text(COUNTED), values) if matches(row.jail, jails)]
        return Pending(sum(row.bans for row in rows), min((row.since for row in rows), default=None))

    # ---- a report's events

    @contextmanager
    def about(
        self, report: str, hosts: Sequence[str], every: str | None, now: float, *, past: bool = False
    ) -> Iterator[ReportStore]:
        """Yield a scratch store with a snapshot of a report's pending events and their baseline.

        Bans from before the last digest's end are set apart, unless a past period is wanted.
        """
        with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder, ExitStack() as stack:
            path = Path(folder) / "bans.sqlite3"
            with self._transaction("REPEATABLE READ") as connection:
                ends = _matching(connection, report, hosts)
                wait_for_workers(connection)
                be_patient(connection)
                last = None if past else _end_of_last(connection, report)
                late, since = None if last is None else last - LATE, now - COMPARED[every] * DAY
                known = Known(
                    states(hosts_of_fleet.lives(connection), hosts), Grouping(connection, ends, None).verdicts()
                )
                if past or sum(end.upto - end.seq for end in ends) <= AS_ROWS:
                    before = fill(connection, path, ends, since, late, rows=past)
                    grouped = None
                else:
                    grouped = stack.enter_context(self._grouped(ends, since, late))
                    before = fill_past(grouped.connection, path, ends, since, grouped.grouping(ends), grouped.hosts)
                copy_archive(path, *archive(connection, report, before, now))
            if grouped is None:
                yield stack.enter_context(ReportStore(path, ends, known, self.seal_of))
            else:
                yield stack.enter_context(GroupedStore(path, grouped, before, known, self.seal_of))

    @contextmanager
    def _grouped(self, ends: Sequence[End], since: float, late: float | None) -> Iterator[Pendings]:
        """Yield the pending events in a transaction of its own, which lasts until their digest is sealed."""
        engine = engine_of(self._address)
        try:
            with transaction_of(engine, "REPEATABLE READ") as connection:
                be_patient(connection, memory=MEMORY_TO_GROUP)
                stores = connection.execute(sa.text("SELECT store_id, host FROM f2b.store"))
                hosts = {store.store_id: store.host for store in stores}
                apart = frozenset(history.several_of(connection, ends, since))
                yield Pendings(connection, ends, hosts, apart, late)
        finally:
            engine.dispose()

    @contextmanager
    def found(self, words: Sequence[str], since: float, asn_of: Callable[[str], int | None]) -> Iterator[Store]:
        """Yield a scratch store with the events of what is asked about, and the digests that told them.

        Whatever is no address, and no small network, is looked for since a time, in UTC epoch seconds.
        """
        with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder:
            path = Path(folder) / "bans.sqlite3"
            with self._transaction("REPEATABLE READ") as connection:
                wait_for_workers(connection)
                lookup.fill(connection, path, words, since, asn_of)
            with Store(path, read_only=True) as store:
                yield store

    # ---- sealing

    def seal_of(self, taken: Sequence[End], selection: Selection, **sealed: Any) -> bool:
        """Seal like `seal`, and store the vector of taken events in the same transaction."""
        self._taken = taken
        try:
            done = self.seal(selection, **sealed)
        finally:
            self._taken = ()
        if done:
            self._keep_times(taken, sealed["stamp"].made_at)
        return done

    def _keep_times(self, taken: Sequence[End], now: float) -> None:
        """Keep what the next digests are compared with. Without it they cost more and say the same."""
        try:
            with self._transaction() as connection:
                be_patient(connection)
                history.keep(connection, taken, now)
        except (F2bDigestError, sa.exc.IntegrityError):  # in the latter case, another sender was faster
            log.info("the times of a digest's bans were not kept", exc_info=True)

    def _mark(self, connection: Statements, key: int, report: str) -> None:
        rows = [asdict(end) | {"digest": key, "report": report} for end in self._taken]
        if not rows:
            return
        connection.execute("INSERT INTO f2b.taken VALUES (:digest, :store_id, :seq, :upto)", rows)
        connection.execute(
            "INSERT INTO f2b.mark VALUES (:report, :store_id, :upto) "
            "ON CONFLICT (report, store_id) DO UPDATE SET seq = excluded.seq",
            rows,
        )

    def ran(self, reports: Sequence[str], now: float) -> None:
        """Record that reports were sent now; another sender may do so at the same time."""
        with suppress(sa.exc.IntegrityError):
            super().ran(reports, now)

    # ---- pruning

    def prune(self, keep: float, reports: Mapping[str, Sequence[str]]) -> list[str]:
        """Create the next partitions, and drop those older than `keep` seconds and reported; return what was done.

        `reports` holds each report's patterns of hosts.
        """
        with self._transaction() as connection:
            history.forget(connection)
            stores = connection.execute(sa.text("SELECT store_id, host FROM f2b.store")).all()
            needed = {
                name: [row.store_id for row in stores if matches(row.host, hosts)] for name, hosts in reports.items()
            }
            query = sa.text("SELECT f2b.tend(make_interval(secs => :keep), CAST(:needed AS jsonb))")
            return list(connection.scalars(query, {"keep": keep, "needed": json.dumps(needed)}))


def _matching(connection: sa.Connection, report: str, hosts: Sequence[str]) -> list[End]:
    """Return a report's position in each store of its hosts."""
    found = connection.execute(sa.text(_ENDS), {"report": report})
    return [End(end.store_id, end.seq, end.upto) for end in found if matches(end.host, hosts)]


def _end_of_last(connection: sa.Connection, report: str) -> float | None:
    """Return when the period of a report's last digest ended, in UTC epoch seconds."""
    query = "SELECT period_end FROM f2b.digest WHERE report = :report ORDER BY id DESC LIMIT 1"
    ended: float | None = connection.scalar(sa.text(query), {"report": report})
    return ended


def _refuse_other_schema(connection: psycopg.Connection) -> None:
    if schema.version(connection) < schema.steps()[-1].number:
        raise CentreError("the centre's schema is older than this program: run f2b-digest fleet init", away=False)
