"""A scratch copy of a hub's store for one report: the events of its hosts alone. Nothing is sealed here.

Ids stay the same, so that a digest's range is one of the whole store. Linear in the events of these hosts.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from f2b_digest import recorder
from f2b_digest.store.tables import delivery, digest, event

SENT_LATELY = 3600.0
"""Seconds for which sent bodies are copied: some channels do not report an address twice in a while."""


@contextmanager
def scratch(whole: Path, report: str, hosts: sa.ColumnElement[bool], now: float) -> Iterator[Path]:
    """Yield the path of a scratch store with the events of a condition, and a report's archive.

    `now` is in UTC epoch seconds.
    """
    with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder:
        path = Path(folder) / whole.name
        with closing(recorder.connect(str(path))) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("ATTACH ? AS whole", (recorder.uri(str(whole), "ro"),))
            connection.execute("BEGIN")
            for table in (digest, delivery):
                connection.execute(str(sa.schema.CreateTable(table).compile(dialect=sqlite.dialect())))
            _copy(connection, event, hosts)
            if connection.execute("SELECT count(*) FROM whole.sqlite_master WHERE name = 'delivery'").fetchone()[0]:
                _copy(connection, digest, digest.c.report == report)
                _copy(connection, delivery, _needed(now) | delivery.c.digest_id.in_(_sealed(report)))
            connection.execute("COMMIT")
            connection.execute("DETACH whole")
        yield path


def _sealed(report: str) -> sa.Select[tuple[int]]:
    whole = digest.to_metadata(sa.MetaData(), schema="whole")
    return sa.select(whole.c.id).where(whole.c.report == report)


def _needed(now: float) -> sa.ColumnElement[bool]:
    return (delivery.c.status == "sent") & (delivery.c.settled_at >= now - SENT_LATELY)


def _copy(connection: sqlite3.Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> None:
    """Copy the rows of a condition from the attached store; its tables have no schema here, ours are in `main`."""
    names = ", ".join(column.name for column in table.columns)
    where = str(condition.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    source = f"SELECT {names} FROM whole.{table.name} AS {table.name} WHERE {where}"  # noqa: S608 - quoted by SQLAlchemy
    connection.execute(f"INSERT INTO main.{table.name} ({names}) {source}")
