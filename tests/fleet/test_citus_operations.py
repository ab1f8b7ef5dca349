"""What an administrator does to a centre on Citus while hosts upload: nothing is lost or told twice."""

import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from f2b_digest.errors import CentreError
from f2b_digest.fleet import enrolment, schema
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.fleet.connection import connect
from tests import ROOT
from tests.fleet.hosts import Host, seal, told, told_by_digests
from tests.fleet.living import Lives, grow
from tests.support.citus_cluster import Citus, Node
from tests.support.postgres_server import ASKED, Centre, PostgreSQL

pytestmark = [pytest.mark.slow, pytest.mark.on("citus")]
FLEET = ROOT / "docs/fleet.md"
when_asked = pytest.mark.skipif(ASKED != "citus", reason="takes long: F2B_DIGEST_POSTGRES=citus runs it")
HOSTS = 4
KNOWS_CITUS = 4
"""The first file of the schema that does."""
PATIENCE = 90.0
"""Seconds."""


def hosts_of(centre: Centre, folder: Path) -> dict[str, Host]:
    """Enrol hosts."""
    return {f"h{number}": Host(folder / f"h{number}", centre.add(f"h{number}")) for number in range(HOSTS)}


def init(centre: Centre) -> None:
    """Run `fleet init` once more."""
    with connect(centre.admin) as connection:
        enrolment.set_up(connection, None, None, "unused:1")


@when_asked
def test_a_centre_in_use_is_upgraded_and_distributed(
    postgres: Citus, tmp_path: Path, figures: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `fleet init`, from the schema that knew nothing of Citus: hosts go on, and senders as soon as it is done."""
    name = f"f2b_{secrets.token_hex(4)}"
    for node in postgres.nodes:
        PostgreSQL.create(node, name)
    centre = Centre(postgres, name)
    try:
        with monkeypatch.context() as before, connect(centre.admin) as connection:
            older = [step for step in schema.steps() if step.number < KNOWS_CITUS]
            before.setattr(schema, "steps", lambda: older)
            schema.apply(connection)
            address = f"localhost:{postgres.port}"
            connection.execute("INSERT INTO f2b.centre (address, ca) VALUES (%s, %s)", (address, postgres.ca))
        with Lives(hosts_of(centre, tmp_path), centre) as lives:
            until = time.monotonic() + PATIENCE
            while centre.rows("SELECT count(*) < 20 FROM f2b.event") == [(True,)]:
                assert time.monotonic() < until
                time.sleep(0.1)
            postgres.extend(name)
            init(centre)
            grow(centre)
            outcome = lives.settle()
        assert centre.rows("SELECT count(*) > 0 FROM citus_shards WHERE table_name = 'f2b.event'::regclass") == [
            (True,)
        ]
        figures("Citus", f"a centre upgraded and distributed: {outcome}")
        assert not outcome.lost
        assert not outcome.twice
    finally:
        postgres.drop(name)


@when_asked
def test_a_worker_is_added_and_shards_are_moved(
    postgres: Citus, centre: Centre, tmp_path: Path, figures: Callable[..., None]
) -> None:
    """As docs/fleet.md has it, with the roles that `fleet init` makes there."""
    with Node(postgres.authority) as third:
        PostgreSQL.create(third, centre.name)
        third.do("CREATE EXTENSION citus", database=centre.name)
        with Lives(hosts_of(centre, tmp_path), centre) as lives:
            grow(centre)
            centre.do(f"SELECT citus_add_node('127.0.0.1', {third.port})")
            init(centre)
            centre.do("SELECT citus_rebalance_start()")
            until = time.monotonic() + PATIENCE
            while centre.rows("SELECT FROM citus_rebalance_status() WHERE state <> 'finished'"):
                assert time.monotonic() < until, centre.rows("SELECT * FROM citus_rebalance_status()")
                time.sleep(0.5)
            grow(centre)
            outcome = lives.settle()
        ((moved,),) = centre.rows("SELECT count(*) FROM citus_shards WHERE nodeport = %s", third.port)
        figures("Citus", f"a worker added, {moved} shards moved to it: {outcome}")
        assert moved
        assert not outcome.lost
        assert not outcome.twice
        centre.do(
            f"SELECT citus_drain_node('127.0.0.1', {third.port})",
            f"SELECT citus_remove_node('127.0.0.1', {third.port})",
        )


@when_asked
@pytest.mark.on("one", "citus")
def test_partitions_are_dropped(centre: Centre, tmp_path: Path, figures: Callable[..., None]) -> None:
    """By `prune`, which waits for uploads, and they for it."""
    months = [f"2024-0{month}-01" for month in range(1, 8)]
    for since, until in pairwise(months):
        part = (
            f"f2b.event_{since[:7].replace('-', '')} PARTITION OF f2b.event FOR VALUES FROM ('{since}') TO ('{until}')"
        )
        centre.do("SET ROLE f2b_owner", f"CREATE TABLE {part}")
    with Lives(hosts_of(centre, tmp_path), centre) as lives:
        grow(centre)
        with Opened(centre.as_user("f2b_digest")) as opened:
            assert len(opened.prune(60 * 86400.0, {"daily": ["*"]})) == len(months) - 1
        grow(centre)
        outcome = lives.settle()
    figures("partitions dropped", str(outcome))
    assert not outcome.lost
    assert not outcome.twice


@pytest.mark.parametrize("older", ["worker", "coordinator"])
def test_a_node_is_restored_to_an_earlier_moment_than_others(
    postgres: Citus, centre: Centre, tmp_path: Path, older: str
) -> None:
    """By docs/fleet.md: hosts upload again what is missing, and what was told is not told again."""
    hosts = hosts_of(centre, tmp_path)
    wanted: set[str] = set()

    def everybody(what: str) -> None:
        for name, host in hosts.items():
            bans = [f"{name}-{what}-{number}" for number in range(3)]
            host.bans(bans)
            host.forward()
            wanted.update(bans)

    everybody("old")
    seal(centre)
    everybody("pending")
    node = postgres if older == "coordinator" else postgres.workers[0]
    node.back_up()
    everybody("told")
    seal(centre)
    if older == "coordinator":  # it will not know this store, whose number another gets
        hosts["other"] = Host(tmp_path / "other", hosts["h0"].credential)
    everybody("later")
    with unreachable(postgres):
        node.restore()
        with pytest.raises(CentreError) as refused:
            hosts["h0"].forward()
        assert refused.value.away
        psql(centre, mending())
    if older == "coordinator":
        hosts["another"] = Host(tmp_path / "another", hosts["h1"].credential)
    everybody("new")
    seal(centre)
    assert told_by_digests(centre) == dict.fromkeys(wanted, 1)
    assert told(centre) == sorted(wanted)


@contextmanager
def unreachable(coordinator: Citus) -> Iterator[None]:
    """Have it listen to its socket only, also after it was restored."""
    restart(coordinator, "-c listen_addresses=''")
    try:
        yield
    finally:
        restart(coordinator, "")


def restart(server: PostgreSQL, options: str) -> None:
    """Restart a server with options, or without."""
    server.options = options
    server.stop()
    server.start()


def mending() -> str:
    """Return the statements of the page."""
    (statements,) = re.findall(r"psql f2b_digest <<'END'\n(.*?)^END$", FLEET.read_text(), re.MULTILINE | re.DOTALL)
    return str(statements)


def psql(centre: Centre, statements: str) -> None:
    """Run statements at the coordinator as psql does."""
    command = [str(centre.server.bin / "psql"), "-X", "-v", "ON_ERROR_STOP=1", centre.admin]
    subprocess.run(command, input=statements, text=True, check=True, capture_output=True, timeout=PATIENCE)
