"""Transactions of a fleet's centre, through SQLAlchemy: portable statements, deadlines, readable errors. No queries."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from f2b_digest.errors import CentreError
from f2b_digest.fleet.connection import Impatient, opened, refusal

IN_DOUBT = 30.0
"""Seconds to wait for transactions that Citus has to finish after a crash."""
PATIENCE = 600
"""Seconds for a query of a digest's events."""
MEMORY, MEMORY_TO_GROUP = "64MB", "256MB"
"""PostgreSQL's memory for a sort or a group of such a query."""


class PortableStatements:
    """A transaction of the centre, for the portable statements of `Outbox`."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def execute(self, query: str, values: Any = None, /) -> sa.CursorResult[Any]:
        """Run a statement, once for each of several values."""
        return self._connection.execute(sa.text(query), values)

    def scalar(self, query: str, values: Any = None, /) -> Any:
        """Return the first column of the first row, or None if there is none."""
        return self.execute(query, values).scalar()

    def scalars(self, query: str, values: Any = None, /) -> Sequence[Any]:
        """Return the first column of each row."""
        return self.execute(query, values).scalars().all()


def engine_of(address: str) -> sa.Engine:
    """Return an engine with one connection, as who makes digests."""
    return sa.create_engine("postgresql+psycopg://", creator=lambda: opened(address), poolclass=sa.StaticPool)


@contextmanager
def transaction_of(engine: sa.Engine, isolation: str) -> Iterator[sa.Connection]:
    """Yield a transaction. PostgreSQL's errors become CentreError, but for IntegrityError."""
    try:
        with engine.connect().execution_options(isolation_level=isolation) as connection, connection.begin():
            driver(connection).seconds = None
            yield connection
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        raise refusal(_of_the_driver(error)) from None


def _of_the_driver(error: Exception) -> psycopg.Error:
    found = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    assert isinstance(found, psycopg.Error)
    return found


def be_patient(connection: sa.Connection, *, memory: str = MEMORY) -> None:
    """Let a transaction take its time, and its queries `PATIENCE`: the centre's settings are made for uploads."""
    settings = {
        "statement_timeout": f"{PATIENCE}s", "idle_in_transaction_session_timeout": "0", "work_mem": memory,
    }  # fmt: skip
    connection.execute(sa.text("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in settings.items())))
    driver(connection).seconds = PATIENCE + 10


def driver(connection: sa.Connection) -> Impatient:
    """Return the driver's connection."""
    found = connection.connection.driver_connection
    assert isinstance(found, Impatient)
    return found


def wait_for_workers(connection: sa.Connection) -> None:
    """Wait until Citus' workers have committed what the stores' ends cover. Raises CentreError after a while."""
    query = sa.text("SELECT f2b.in_doubt()")
    doubts, until = set(connection.scalars(query)), time.monotonic() + IN_DOUBT
    while doubts:
        if time.monotonic() > until:
            raise CentreError("a worker of the centre has not committed yet what hosts sent", away=True)
        time.sleep(0.1)
        doubts &= set(connection.scalars(query))
