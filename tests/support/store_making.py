"""Makes stores for the tests with the recorder, as fail2ban does. No tests here."""

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from tests.support.fail2ban_history import history

NOON = 1_795_089_600.0
"""Thursday 19 November 2026, 12:00 UTC: when the tests' bans happen, unless they say otherwise."""
Row = tuple[Any, ...]


def event(
    kind: str = "ban", jail: str = "sshd", ip: str = "192.0.2.7", at: float = NOON, host: str = "web1", **more: Any
) -> Row:
    """Return one event as the recorder stores it."""
    row: Row = recorder.event(kind, jail, ip, at, host, "test", **more)
    return row


def fill(path: Path, rows: Iterable[Row]) -> None:
    """Append events in one transaction, into a store that is made, with its folder, if there is none."""
    recorder.make_folder(str(path.absolute().parent))
    with closing(recorder.connect(str(path))) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # a test's store need not survive a power cut
        connection.execute("BEGIN")
        connection.executemany(recorder.INSERT, rows)
        connection.execute("COMMIT")


def query(path: Path, sql: str, *values: object) -> list[Row]:
    """Run SQL on a store (or on any SQLite file) from another connection; return the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


def make_fail2ban_database(path: Path, bans: Iterable[tuple[str, str, float]] = ()) -> None:
    """Make fail2ban's own database with these bans (jail, id, time), in place of one that is there.

    A real fail2ban wrote it, and one of its bans is what each of these is made from.
    """
    path.unlink(missing_ok=True)
    shutil.copy(history("1.0").database, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TEMP TABLE model AS SELECT * FROM bans WHERE ip = '192.0.2.1'")
        connection.execute("DELETE FROM bans")
        for jail, ip, at in bans:
            connection.execute(
                "INSERT INTO bans SELECT ?, ?, ?, bantime, bancount, data FROM temp.model", (jail, ip, round(at))
            )
        connection.commit()
