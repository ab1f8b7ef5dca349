"""A PostgreSQL for all tests of this folder, or a cluster of Citus, with a centre for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.hosts import Host
from tests.support.citus_cluster import Citus
from tests.support.postgres_server import ASKED, Centre, PostgreSQL

ONE, CITUS = "one", "citus"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that is marked `on` on the servers named there; others run on the one that was asked for."""
    mark = metafunc.definition.get_closest_marker("on")
    if mark and "postgres" in metafunc.fixturenames:
        metafunc.parametrize("postgres", mark.args, indirect=True, scope="session")


@pytest.fixture(scope="session")
def one() -> Iterator[PostgreSQL]:
    """Provide a running server."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def citus() -> Iterator[Citus]:
    """Provide a running cluster."""
    with Citus() as server:
        yield server


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> PostgreSQL:
    """Provide the server of this test: kept for the session, whichever others are asked for in between."""
    wanted = getattr(request, "param", CITUS if ASKED == CITUS else ONE)
    server: PostgreSQL = request.getfixturevalue(wanted)
    return server


@pytest.fixture
def centre(postgres: PostgreSQL) -> Iterator[Centre]:
    """Provide its own centre."""
    with postgres.centre() as made:
        yield made


@pytest.fixture
def host(centre: Centre, tmp_path: Path) -> Host:
    """Provide a host that is enrolled as web1."""
    return Host(tmp_path / "web1.sqlite3", centre.add("web1"))
