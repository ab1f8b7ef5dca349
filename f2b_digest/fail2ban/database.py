"""fail2ban's own database, of every schema: its bans with failures, user names and log lines. Opened read-only.

The only SQL outside `store`: the tables are fail2ban's; the store is not used here.
It contains what dbpurgeage leaves (a day by default), without ids that were unbanned manually. Of a ban's user
names it has those of the first failure only.
"""

import ast
import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from f2b_digest import recorder
from f2b_digest.fail2ban.files import SourceError, Tally
from f2b_digest.model.event import Event

log = logging.getLogger(__name__)

WAIT = 5.0
"""Seconds; fail2ban writes in short transactions."""
DAMAGE = (sqlite3.Error, UnicodeDecodeError)
"""Errors from a damaged file: SQLite's message can quote its bytes, which Python then cannot decode."""


def read(path: Path, host: str, tally: Tally, *, history: bool, since: float = 0.0) -> Iterator[Event]:
    """Yield the bans of a database since a time, in UTC epoch seconds.

    Rows whose data is unreadable lack those fields. Raises SourceError.
    """
    try:
        with closing(_HELD.pop(path) if path in _HELD else _connect(path)) as connection:
            yield from rows(connection, path, host, tally, history=history, since=since)
    except DAMAGE as error:
        raise SourceError(f"{path}: {reason(error)}") from None


_HELD: dict[Path, sqlite3.Connection] = {}
"""Open databases, to be read after this process has dropped root."""


def reason(error: Exception) -> str:
    """Return the message of one of `DAMAGE`."""
    return "the database is damaged" if isinstance(error, UnicodeDecodeError) else str(error)


def hold(path: Path) -> None:
    """Open a database now, so that it can be read later as another user. Raises SourceError."""
    connection = _connect(path)
    try:
        connection.execute("PRAGMA schema_version")  # opens the file, which connect() does not
    except DAMAGE as error:
        raise SourceError(f"{path}: {reason(error)}") from None
    _HELD[path] = connection


def frozen(path: Path) -> sqlite3.Connection:
    """Return a database with a read lock, which blocks fail2ban's writes until it is closed. Raises sqlite3.Error."""
    connection = _connect(path)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except DAMAGE as error:
        connection.close()
        raise sqlite3.DatabaseError(reason(error)) from None
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)


def rows(
    connection: sqlite3.Connection, path: Path, host: str, tally: Tally, *, history: bool, since: float = 0.0
) -> Iterator[Event]:
    """Yield the same of an open database; `path` is for messages. Raises SourceError."""
    connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")
    try:
        columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('bans')")}
        if not {"jail", "ip", "timeofban", "data"} <= columns:
            raise SourceError(f"{path}: not fail2ban's database: it has no table bans")
        extra = "bantime, bancount" if {"bantime", "bancount"} <= columns else "NULL, NULL"
        query = f"SELECT jail, ip, timeofban, data, {extra} FROM bans WHERE timeofban >= ? ORDER BY timeofban"  # noqa: S608
        for jail, ip, at, data, bantime, bancount in connection.execute(query, (since,)):
            if jail != recorder.SCRATCH_JAIL:
                tally.lines += 1
                yield _ban(jail, ip, at, _data(data), bantime, bancount, host, history)
    except DAMAGE as error:
        raise SourceError(f"{path}: {reason(error)}") from None


def _ban(
    jail: str, ip: str, at: float, data: dict[str, Any], bantime: float | None, bancount: int | None, host: str,
    history: bool,
) -> Event:  # fmt: skip
    matches = data.get("matches")
    return Event.of(
        "ban", jail, ip, at, host, "database", recorded_at=at, failures=data.get("failures"),
        bantime=None if bantime is not None and bantime < -1 else bantime,  # -2: upgraded from a schema without it
        bancount=bancount, users=_users(data),
        matches="\n".join(map(_line, matches)) if isinstance(matches, list) else None, history=history,
    )  # fmt: skip


def _line(line: object) -> str:
    """Return a log line; fail2ban splits the first one at its date into three parts."""
    return "".join(map(str, line)) if isinstance(line, list) else str(line)


def _users(data: dict[str, Any]) -> list[str]:
    """Return the user names; fail2ban stores the set as the text of a Python list."""
    users = data.get("users")
    if isinstance(users, str) and len(users) <= recorder.TEXT_LIMIT:
        try:
            users = ast.literal_eval(users)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            log.info("a ban's user names in fail2ban's database are no list: %.200r", users, exc_info=True)
    names = [*(users if isinstance(users, list) else ()), data.get("user")]
    return [name for name in names if isinstance(name, str)]


def _data(value: object) -> dict[str, Any]:
    """Return a ban's data: JSON, which fail2ban stores as a BLOB, and older versions as text."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    try:
        data = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        log.info("a ban's data in fail2ban's database is no JSON: %.200r", text)
        data = None
    return data if isinstance(data, dict) else {}
