"""What stands between a host and its centre, and between versions: a frozen client, a pooler."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from f2b_digest.fleet.connection import parameters
from tests.fleet.frozen_client import FrozenHost
from tests.fleet.hosts import Host, seal, told
from tests.support.pooler import pooler
from tests.support.postgres_server import TLS, Centre

pytestmark = pytest.mark.slow

ADDRESSES = [f"192.0.2.{number}" for number in range(1, 12)]


@pytest.fixture
def frozen(centre: Centre) -> FrozenHost:
    """Give a host of the first version that is enrolled as old1; it comes by the socket."""
    login = str(parameters(centre.add("old1").centre)["user"])
    return FrozenHost(lambda: psycopg.connect(centre.as_user(login)))


@pytest.mark.on("one", "citus")
def test_a_host_of_the_first_version_uploads_to_this_centre(centre: Centre, frozen: FrozenHost, host: Host) -> None:
    """Each ban once, and a digest takes them beside those of a host of host."""
    for ip in ADDRESSES[:5]:
        frozen.ban(ip, time.time())
    assert frozen.forward() == "old1"
    frozen.forward()
    host.bans(ADDRESSES[5:6])
    host.forward()
    assert told(centre) == ADDRESSES[:6]
    assert seal(centre) == 6
    columns = "failures, bantime, bancount, users, matches, source"
    assert centre.rows(f"SELECT DISTINCT {columns} FROM f2b.event WHERE ip = '192.0.2.1'") == [
        (5, 600, 1, '["root"]', "a line", "action")
    ]


@pytest.mark.on("one", "citus")
def test_its_lost_answers_and_its_clones_are_told_once(centre: Centre, frozen: FrozenHost) -> None:
    """The chain means today what it meant then."""
    for ip in ADDRESSES[:4]:
        frozen.ban(ip, time.time())
    frozen.forward(size=2, dies_after=2)
    frozen.lost = 4
    frozen.ban(ADDRESSES[4], time.time())
    frozen.forward()
    assert told(centre) == ADDRESSES[:5]
    clone = frozen.copy()
    frozen.ban(ADDRESSES[5], time.time())
    frozen.forward()
    clone.ban(ADDRESSES[6], time.time())
    clone.forward()
    assert told(centre) == ADDRESSES[:7]
    assert centre.rows("SELECT count(*) FROM f2b.store") == [(2,)]


def test_a_centre_that_went_back_is_filled_up_by_it(centre: Centre, frozen: FrozenHost) -> None:
    """An empty one asks for everything."""
    for ip in ADDRESSES[:3]:
        frozen.ban(ip, time.time())
    frozen.forward()
    centre.do("DELETE FROM f2b.event", "DELETE FROM f2b.link", "DELETE FROM f2b.store")
    frozen.ban(ADDRESSES[3], time.time())
    frozen.forward()
    assert told(centre) == ADDRESSES[:4]


# ---- pgbouncer


@contextmanager
def pooled(centre: Centre, host: Host) -> Iterator[tuple[Host, int]]:
    """Give a host that comes by a pooler, and the pooler's port."""
    with pooler(centre) as port:
        address = host.credential.centre.replace(f":{centre.server.port}/", f":{port}/")
        yield replace(host, credential=replace(host.credential, centre=address)), port


@pytest.mark.skipif(not TLS, reason="this PostgreSQL is built without TLS")
def test_pgbouncer_in_transaction_mode_works(centre: Centre, host: Host) -> None:
    """A host needs no session: each call is a transaction. So does the sender of digests."""
    ca = centre.server.folder / "ca.pem"
    centre.do("ALTER ROLE f2b_digest PASSWORD 'digest'")
    with pooled(centre, host) as (by_pooler, port):
        by_pooler.bans(f"10.0.{number // 250}.{number % 250}" for number in range(1201))
        assert by_pooler.forward().events == 1201
        by_pooler.bans(ADDRESSES[:2])
        assert not by_pooler.forward().notes
        assert seal(centre, f"postgresql://f2b_digest:digest@localhost:{port}/{centre.name}?sslrootcert={ca}") == 1203
        assert by_pooler.forward().events == 0
