"""fail2ban's own database, of every schema: its bans with failures, user names and log lines. Opened read-only.

It holds what its dbpurgeage leaves (a day by default), without the ids that somebody unbanned by hand.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.sources.files import Row, SourceError, Tally

WAIT = 5
"""Seconds; fail2ban writes in short transactions."""


def read(path: Path, host: str, tally: Tally, *, history: bool, since: float = 0.0) -> Iterator[Row]:
    """Yield the bans of a database since a time, in UTC epoch seconds.

    Rows whose data cannot be read lack what stood in it. Raises SourceError.
    """
    try:
        with closing(_HELD.pop(path) if path in _HELD else _connect(path)) as connection:
            yield from rows(connection, path, host, tally, history=history, since=since)
    except sqlite3.Error as error:
        raise SourceError(f"{path}: {error}") from None


_HELD: dict[Path, sqlite3.Connection] = {}
"""Open databases, to be read when this process may not open them any more."""


def hold(path: Path) -> None:
    """Open a database now, so that it can be read later, by another user. Raises SourceError."""
    connection = _connect(path)
    try:
        connection.execute("PRAGMA schema_version")  # it opens the file no sooner
    except sqlite3.Error as error:
        raise SourceError(f"{path}: {error}") from None
    _HELD[path] = connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT)


def rows(
    connection: sqlite3.Connection, path: Path, host: str, tally: Tally, *, history: bool, since: float = 0.0
) -> Iterator[Row]:
    """Yield the same of an open database; `path` is for messages. Raises SourceError."""
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    try:
        names = {row[1] for row in connection.execute("PRAGMA table_info(bans)")}
        if not {"jail", "ip", "timeofban", "data"} <= names:
            raise SourceError(f"{path}: a database, but not fail2ban's: it has no table of bans")
        extra = "bantime, bancount" if {"bantime", "bancount"} <= names else "NULL, NULL"
        query = f"SELECT jail, ip, timeofban, data, {extra} FROM bans WHERE timeofban >= ? ORDER BY timeofban"  # noqa: S608
        for jail, ip, at, data, bantime, bancount in connection.execute(query, (since,)):
            tally.lines += 1
            yield _row(jail, ip, at, _data(data), bantime, bancount, host, history)
    except sqlite3.Error as error:
        raise SourceError(f"{path}: {error}") from None


def _row(
    jail: str, ip: str, at: float, data: dict[str, Any], bantime: float | None, bancount: int | None, host: str,
    history: bool,
) -> Row:  # fmt: skip
    users = [*(data.get("users") or ()), data.get("user")]
    lines = ["".join(line) if isinstance(line, list) else str(line) for line in data.get("matches") or ()]
    row: Row = recorder.event(
        "ban", jail, ip, at, host, "database", recorded_at=at, failures=data.get("failures"),
        bantime=None if bantime is not None and bantime < -1 else bantime,  # -2: upgraded from a schema without it
        bancount=bancount, users=[user for user in users if isinstance(user, str)], matches="\n".join(lines),
        history=history,
    )  # fmt: skip
    return row


def _data(text: object) -> dict[str, Any]:
    try:
        data = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {}
