"""A scratch copy of a hub's store for one report: the events of its hosts alone. Nothing is sealed here.

Ids stay the same, so that a digest's range is one of the whole store. Linear in the events of these hosts.
"""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from f2b_digest import recorder
from f2b_digest.store.selected import Wanted
from f2b_digest.store.tables import DDL, DELIVERY, DIGEST

SENT_LATELY = 3600.0
"""Seconds for which sent bodies are copied: some channels do not report an address twice in a while."""


@contextmanager
def scratch(whole: Path, report: str, hosts: Wanted, now: float) -> Iterator[Path]:
    """Yield the path of a scratch store with the events of a condition, and a report's archive.

    `now` is in UTC epoch seconds.
    """
    with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder:
        path = Path(folder) / whole.name
        with closing(recorder.connect(str(path))) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("ATTACH ? AS whole", (recorder.uri(str(whole), "ro"),))
            connection.execute("BEGIN")
            for table in (DIGEST, DELIVERY):
                for statement in DDL[table]:
                    connection.execute(statement)
            _copy(connection, "event", hosts)
            if connection.execute("SELECT count(*) FROM whole.sqlite_master WHERE name = 'delivery'").fetchone()[0]:
                values = {"report": report, "since": now - SENT_LATELY}
                _copy(connection, DIGEST, Wanted("report = :report", values))
                _copy(connection, DELIVERY, Wanted(_NEEDED, values))
            connection.execute("COMMIT")
            connection.execute("DETACH whole")
        yield path


_NEEDED = """
status = 'sent' AND settled_at >= :since OR digest_id IN (SELECT id FROM whole.digest WHERE report = :report)
"""


def _copy(connection: sqlite3.Connection, table: str, wanted: Wanted) -> None:
    """Copy the rows of a condition from the attached store."""
    names = ", ".join(name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})"))
    source = f"SELECT {names} FROM whole.{table} AS {table} WHERE {wanted.where}"
    connection.execute(f"INSERT INTO main.{table} ({names}) {source}", wanted.values)
