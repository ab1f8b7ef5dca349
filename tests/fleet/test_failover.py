"""A centre that fails over to a streaming replica, and one that pg_dump backed up: nothing is lost or told twice."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import ROOT
from tests.fleet.hosts import Host, seal, told_by_digests
from tests.fleet.living import Lives, grow, state_of
from tests.support.postgres_server import Centre, PostgreSQL
from tests.support.replica import Pair, Replica

pytestmark = pytest.mark.slow
HOSTS = 4


@pytest.mark.alone
@pytest.mark.parametrize("synchronous", [False, True], ids=["asynchronous", "synchronous"])
def test_no_ban_is_lost_or_told_twice_by_a_failover(
    tmp_path: Path, figures: Callable[..., None], synchronous: bool
) -> None:
    """Hosts upload and a sender seals meanwhile; of an asynchronous replica, the last seconds are gone."""
    with (
        PostgreSQL() as server,
        server.centre() as centre,
        Replica(server, synchronous=synchronous) as replica,
    ):
        pair = Pair(centre, replica)
        hosts = {
            f"h{number}": Host(tmp_path / f"h{number}", replica.either(centre.add(f"h{number}")))
            for number in range(HOSTS)
        }
        with Lives(hosts, pair) as lives:
            grow(centre)
            if not synchronous:
                replica.fall_behind()
                grow(centre)
            before = state_of(centre)
            replica.take_over()
            after = state_of(pair)
            grow(pair)
            outcome = lives.settle()
        gone = {what: len(before[what] - after[what]) for what in before}
        figures(
            "failover of a fleet's centre",
            f"{'synchronous' if synchronous else 'asynchronous'}: {outcome}; it lacked {gone['events']} of "
            f"{len(before['events'])} uploaded events, and {gone['digests']} of {len(before['digests'])} digests, "
            "which are made again",
        )
        assert not outcome.lost
        assert not outcome.twice
        if synchronous:
            assert gone == {"events": 0, "digests": 0}
        else:
            assert all(gone.values()), "otherwise, nothing was tried"


@pytest.mark.alone
def test_an_old_primary_that_comes_back_takes_uploads_and_nothing_is_lost(
    tmp_path: Path, figures: Callable[..., None]
) -> None:
    """Hosts go from one to the other and back, killed and cut: whichever is kept gets all and tells it once."""
    with PostgreSQL() as server, server.centre() as centre, Replica(server, synchronous=False) as replica:
        pair = Pair(centre, replica)
        hosts = {
            f"h{number}": Host(tmp_path / f"h{number}", replica.either(centre.add(f"h{number}")))
            for number in range(HOSTS)
        }
        with Lives(hosts, pair) as lives:
            grow(centre)
            replica.fall_behind()
            grow(centre)
            replica.take_over()
            grow(pair)
            server.start()
            grow(centre)
            server.stop("immediate")
            outcome = lives.settle()
        server.start()
        try:
            for host in hosts.values():
                host.forward()
            seal(centre)
            told = told_by_digests(centre)
        finally:
            server.stop()
        figures("failover of a fleet's centre", f"two primaries by turns: {outcome}")
        assert not outcome.lost
        assert not outcome.twice
        assert list(told.values()) == [1] * outcome.bans, "the old one is not filled up"


@pytest.mark.on("one")
def test_a_restored_backup_is_filled_up_by_the_hosts(centre: Centre, host: Host, tmp_path: Path) -> None:
    """With the commands of docs/fleet.md: what was uploaded since comes again, and what hosts may not do holds."""
    page = (ROOT / "docs/fleet.md").read_text()
    backup, restore = re.findall(
        r"^```sh\n((?:sudo -u postgres pg_dump|sudo -u postgres psql -f).*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    host.bans(["192.0.2.1", "192.0.2.2"])
    host.forward()
    seal(centre)
    type_at(centre.server, backup.replace("f2b_digest", centre.name), tmp_path)
    host.bans(["192.0.2.3"])
    host.forward()
    seal(centre)
    with PostgreSQL() as other:
        type_at(other, restore.replace("f2b_digest", centre.name), tmp_path)
        restored = Centre(other, centre.name)
        login = host.credential.centre.replace(f":{centre.server.port}/", f":{other.port}/")
        moved = Host(host.store, host.credential.__class__(login, host.credential.password, other.ca))
        moved.bans(["192.0.2.4"])
        result = moved.forward()
        assert result.events == 2
        assert "the centre is back at event 2" in result.notes[0]
        seal(restored)
        assert told_by_digests(restored) == dict.fromkeys(("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"), 1)
        for query in (
            "SELECT has_function_privilege('f2b_host', 'pg_sleep(float8)', 'EXECUTE')",
            "SELECT has_function_privilege('f2b_host', 'lo_create(oid)', 'EXECUTE')",
            "SELECT has_database_privilege('f2b_host', current_database(), 'TEMPORARY')",
            "SELECT has_table_privilege('f2b_host', 'f2b.event', 'SELECT')",
        ):
            assert restored.rows(query) == [(False,)], query
        assert restored.rows("SHOW temp_file_limit") == [("1GB",)]
        assert restored.rows("SELECT relrowsecurity FROM pg_class WHERE oid = 'f2b.event'::regclass") == [(True,)]


def type_at(server: PostgreSQL, lines: str, folder: Path) -> None:
    """Run lines of the page as the administrator of a server."""
    environment = {
        "PATH": f"{server.bin}:{os.environ['PATH']}", "PGHOST": str(server.folder), "PGPORT": str(server.port),
        "PGUSER": "postgres", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    script = lines.replace("sudo -u postgres ", "")
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
