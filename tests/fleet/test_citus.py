"""What is different where the centre is distributed by Citus: setting it up, who may do what, workers that are away."""

import os
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from f2b_digest.errors import CentreError
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.fleet.connection import parameters
from tests.fleet.hosts import Host, seal, told
from tests.support.citus_cluster import Citus
from tests.support.postgres_server import Centre, PostgreSQL
from tests.support.program import Command

pytestmark = [pytest.mark.slow, pytest.mark.on("citus")]

ADDRESSES = [f"192.0.2.{number}" for number in range(1, 9)]
DENIED = "42501"


@pytest.fixture
def database(postgres: Citus) -> Iterator[Centre]:
    """Provide a database on all nodes, without a centre."""
    name = f"f2b_{secrets.token_hex(4)}"
    postgres.create(name)
    yield Centre(postgres, name)
    postgres.drop(name)


def distributed(centre: Centre) -> list[str]:
    """Return which tables are distributed, without the partitions."""
    return [
        name
        for (name,) in centre.rows(
            "SELECT logicalrelid::text FROM pg_dist_partition JOIN pg_class ON oid = logicalrelid "
            "WHERE NOT relispartition ORDER BY 1"
        )
    ]


def on_workers(centre: Centre, query: str) -> list[str]:
    """Return what each worker answers to a query of one value."""
    return [text for (text,) in centre.rows("SELECT result FROM run_command_on_workers(%s)", query)]


# ---- setting it up


def test_init_distributes_and_says_so(database: Centre, f2b_digest: Command) -> None:
    """The first time and the second; both workers have shards."""
    for said in ("the centre is at schema", "the centre is already at schema"):
        done = f2b_digest("fleet", "init", database.admin, "--address", "db.example.org")
        assert done.status == 0, done.err
        assert done.out.startswith(said)
        assert "its events are distributed over 2 workers by Citus\n" in done.out
    assert distributed(database) == ["f2b.event"]
    counts = on_workers(database, "SELECT count(*) FROM pg_class WHERE relname ~ '^event_rest_[0-9]+$'")
    assert [int(count) for count in counts] == [4, 4]


def test_the_schema_for_psql_distributes_too(postgres: Citus, database: Centre, f2b_digest: Command) -> None:
    """What `fleet schema` prints is what `fleet init` does."""
    script = f2b_digest("fleet", "schema").out
    psql = [str(postgres.bin / "psql"), "-X", "-q", database.admin]
    subprocess.run(psql, input=script, text=True, check=True, capture_output=True, timeout=120)
    assert distributed(database) == ["f2b.event"]


def test_without_workers_nothing_is_distributed(postgres: Citus, f2b_digest: Command) -> None:
    """And `fleet init` says what to do."""
    name = f"f2b_{secrets.token_hex(4)}"
    PostgreSQL.create(postgres, name)
    try:
        postgres.do("CREATE EXTENSION citus", database=name)
        done = f2b_digest("fleet", "init", postgres.address(name))
        assert done.status == 0, done.err
        assert "to do: Citus has no workers: SELECT citus_add_node(" in done.out
        assert distributed(Centre(postgres, name)) == []
    finally:
        PostgreSQL.drop(postgres, name)


# ---- who may do what


def test_hosts_are_unknown_to_workers(centre: Centre, host: Host) -> None:
    """Their roles stay at the coordinator, and a worker has no other of ours than those that it needs."""
    host.bans(ADDRESSES[:1])
    host.forward()
    roles = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^(h-|f2b)'"
    assert on_workers(centre, roles) == ["f2b_digest f2b_host f2b_ingest f2b_owner"] * 2


def test_the_functions_roles_log_in_to_workers_only(centre: Centre) -> None:
    """Without a password; at the coordinator they may not even connect."""
    for role in ("f2b_owner", "f2b_ingest"):
        assert centre.rows("SELECT rolpassword FROM pg_authid WHERE rolname = %s", role) == [(None,)]
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(centre.as_user(role))


STATEMENTS = [
    "SELECT create_intermediate_result('heap', 'SELECT generate_series(1, 1000000000)')",
    "SELECT run_command_on_workers('SELECT 1')",
    "SELECT run_command_on_coordinator('SELECT 1')",
    "SELECT citus_add_node('192.0.2.1', 5432)",
    "SELECT citus_move_shard_placement(102008, 1, 2)",
    "SELECT create_distributed_table('f2b.store', 'store_id')",
    "SELECT undistribute_table('f2b.event')",
    "SELECT recover_prepared_transactions()",
    "SELECT f2b.distribute()",
    "SELECT f2b.in_doubt()",
    "SELECT * FROM pg_dist_authinfo",
]


def test_a_host_does_nothing_with_citus(centre: Centre, host: Host) -> None:
    """What the extension lets everybody do is taken from them: filling the disk, to begin with."""
    login = str(parameters(host.credential.centre)["user"])
    with psycopg.connect(centre.as_user(login), autocommit=True) as connection:
        for statement in STATEMENTS:
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(statement.encode())
            assert refused.value.sqlstate == DENIED, str(refused.value)


def test_a_host_copies_nothing_out(centre: Centre, host: Host) -> None:
    """Citus asks the workers before it looks at rights, and they let no host in."""
    login = str(parameters(host.credential.centre)["user"])
    with (
        psycopg.connect(centre.as_user(login), autocommit=True) as connection,
        connection.cursor() as cursor,
        pytest.raises(psycopg.OperationalError, match=f"node {login}@.* failed"),
        cursor.copy("COPY f2b.event TO STDOUT") as copied,
    ):
        list(copied)


# ---- workers that are away


def ended_early(act: Callable[[], object], seconds: float) -> str:
    """Return how something is refused because the centre is away, within so many seconds."""
    begun = time.monotonic()
    with pytest.raises(CentreError) as refused:
        act()
    assert refused.value.away, refused.value
    assert time.monotonic() - begun < seconds
    return str(refused.value)


def test_a_worker_that_is_down_is_a_centre_that_is_away(postgres: Citus, centre: Centre, tmp_path: Path) -> None:
    """Whoever needs it is told at once; everything is told once when it is back."""
    hosts = [Host(tmp_path / f"web{number}", centre.add(f"web{number}")) for number in range(4)]
    for number, host in enumerate(hosts):
        host.bans(ADDRESSES[number : number + 1])
        host.forward()
    worker = postgres.workers[0]
    worker.stop()
    try:
        away = 0
        for number, host in enumerate(hosts, 4):
            host.bans(ADDRESSES[number : number + 1])
            try:
                host.forward()
            except CentreError as refused:
                assert refused.away, refused
                away += 1
        assert away, "no store of four is on a worker of two"
        ended_early(lambda: seal(centre), 20)
    finally:
        worker.start()
    for host in hosts:
        host.forward()
    assert told(centre) == ADDRESSES
    assert seal(centre) == len(ADDRESSES)


@contextmanager
def hanging(node: PostgreSQL) -> Iterator[None]:
    """Stop all processes of a server, which keeps its connections and answers nothing."""
    postmaster = int((node.folder / "data/postmaster.pid").read_text().split()[0])
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(postmaster)], capture_output=True, text=True, check=True)
    processes = [postmaster, *map(int, listed.stdout.split())]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def test_a_worker_that_hangs_is_given_up(
    postgres: Citus, centre: Centre, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the upload and by the digest, also in the middle of a transaction, where the server's timeout is of no use."""
    monkeypatch.setattr("f2b_digest.fleet.connection.DEADLINE", 2)
    host.bans(ADDRESSES[:1])
    host.forward()
    with hanging(postgres.workers[0]), hanging(postgres.workers[1]):
        host.bans(ADDRESSES[1:2])
        ended_early(host.forward, 15)
        ended_early(lambda: seal(centre), 15)

    def count_in_vain() -> None:
        with Opened(centre.as_user("f2b_digest")) as opened, opened._transaction() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM f2b.event")
            with hanging(postgres.workers[0]), hanging(postgres.workers[1]):
                connection.exec_driver_sql("SELECT count(*) FROM f2b.event")

    assert ended_early(count_in_vain, 15) == "the centre has not answered for 2 s"
    host.forward()
    assert seal(centre) == 2


# ---- between a worker's promise and its commit


RELOAD = "SELECT pg_reload_conf()"
GID = "citus_0_1_1_1"
"""As Citus names them: of the coordinator, a process, a transaction and a connection."""


@contextmanager
def promised(centre: Centre) -> Iterator[None]:
    """Take back to before its commit on the worker what the only store has uploaded, until the end.

    As a crash of the coordinator right after its own commit leaves it: the rows are in a transaction that the worker
    has prepared, and that Citus commits when it sees to it.
    """
    ((shard,),) = centre.rows("SELECT DISTINCT tableoid::regclass::text FROM f2b.event")
    ((port, group),) = centre.rows(
        "SELECT nodeport, groupid FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE shardid = %s",
        int(shard.rpartition("_")[2]),
    )
    centre.do("ALTER SYSTEM SET citus.recover_2pc_interval = -1", RELOAD)
    (worker,) = (node for node in centre.server.nodes if node.port == port)
    with psycopg.connect(worker.address(centre.name), autocommit=True) as connection:
        connection.execute("SET ROLE f2b_owner")
        for statement in (
            f"BEGIN; CREATE TABLE f2b.promised AS SELECT * FROM {shard}; DELETE FROM {shard}; COMMIT",
            f"BEGIN; INSERT INTO {shard} TABLE f2b.promised; DROP TABLE f2b.promised; PREPARE TRANSACTION '{GID}'",
        ):
            connection.execute(statement.encode())
    centre.do(f"INSERT INTO pg_dist_transaction VALUES ({group}, '{GID}')")  # the coordinator has committed
    try:
        yield
    finally:
        centre.do("SELECT recover_prepared_transactions()", "ALTER SYSTEM RESET citus.recover_2pc_interval", RELOAD)


def test_what_a_worker_has_not_committed_is_waited_for(
    centre: Centre, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a digest, which would never tell it; by `find`; by a copy of the store, which would upload it again."""
    monkeypatch.setattr("f2b_digest.fleet.transaction.IN_DOUBT", 0.5)

    def find() -> list[tuple[str]]:
        with (
            Opened(centre.as_user("f2b_digest")) as opened,
            opened.found(ADDRESSES[:1], 0.0, lambda _: None) as store,
            closing(sqlite3.connect(store.path)) as scratch,
        ):
            return scratch.execute("SELECT ip FROM event").fetchall()

    host.bans(ADDRESSES[:2])
    clone = host.copy(tmp_path / "clone.sqlite3")
    host.forward()
    with promised(centre):
        assert told(centre) == []
        for act in (lambda: seal(centre), find, clone.forward):
            assert "has not committed yet" in ended_early(act, 15)
    assert (ADDRESSES[0],) in find()
    clone.forward()
    assert told(centre) == ADDRESSES[:2]
    assert seal(centre) == 2
