"""A PostgreSQL for all tests of this folder, with a centre for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.hosts import Host
from tests.support.citus_cluster import Citus
from tests.support.postgres_server import ASKED, Centre, PostgreSQL


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    """Provide a running server."""
    with (Citus() if ASKED == "citus" else PostgreSQL()) as server:
        yield server


@pytest.fixture
def centre(postgres: PostgreSQL) -> Iterator[Centre]:
    """Provide its own centre."""
    with postgres.centre() as made:
        yield made


@pytest.fixture
def host(centre: Centre, tmp_path: Path) -> Host:
    """Provide a host that is enrolled as web1."""
    return Host(tmp_path / "web1.sqlite3", centre.add("web1"))
