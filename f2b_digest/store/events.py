"""Single events of a store: lookup, and appending while fail2ban records. No digests here."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.model.event import Event

WAIT = 5.0
"""Seconds for SQLite's lock."""
_BY_FAIL2BAN = "source IN ('action', 'shell')"
"""Recorded by fail2ban while banning; not imported or added later."""
_SAME_BAN = "jail = ? AND ip = ? AND kind = 'ban' AND at BETWEEN ? AND ?"


class Found(NamedTuple):
    """A ban that the store has."""

    id: int
    history: int
    """1 for what was imported as history, which no digest reports."""


class Lookup:
    """A store, open for looking up single events. A context manager; SQLite's errors become StoreError."""

    def __init__(self, path: Path) -> None:
        """Open it read-only. Raises StoreError."""
        with _explained(path):
            self._path = path
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT)
            self._connection.text_factory = lambda value: value.decode("utf-8", "backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def first_by_fail2ban(self, oldest: float) -> float | None:
        """Return when fail2ban first recorded here, at the earliest `oldest`; None if it never did.

        Times are in UTC epoch seconds.
        """
        recently = (
            f"SELECT recorded_at FROM event WHERE recorded_at >= ? AND {_BY_FAIL2BAN} ORDER BY recorded_at LIMIT 1"  # noqa: S608 - our words
        )
        ever = f"SELECT recorded_at FROM event WHERE recorded_at < ? AND {_BY_FAIL2BAN} ORDER BY id LIMIT 1"  # noqa: S608
        # Avoids reading years of imported history, unless the action has been silent for long.
        row = self._one(recently, oldest) or self._one(ever, oldest)
        return None if row is None else max(row[0], oldest)

    def last_by_fail2ban(self, jail: str) -> float | None:
        """Return when fail2ban last recorded something of a jail, in UTC epoch seconds; None if it never did."""
        row = self._one(f"SELECT max(recorded_at) FROM event WHERE {_BY_FAIL2BAN} AND jail = ?", jail)  # noqa: S608
        return row[0] if row else None

    def ban(self, ban: Event) -> Found | None:
        """Return the same ban as recorded from another source, whatever the host's name."""
        query = f"SELECT id, history FROM event WHERE {_SAME_BAN} ORDER BY abs(at - ?) LIMIT 1"  # noqa: S608
        row = self._one(query, ban.jail, ban.ip, *ban.times_elsewhere(), ban.at)
        return None if row is None else Found(*row)

    def ids(self, bans: Iterable[Event]) -> frozenset[int]:
        """Return the ids of exactly these bans, as far as they exist."""
        query = "SELECT id FROM event WHERE host = ? AND jail = ? AND ip = ? AND at = ? AND kind = 'ban'"
        rows = (self._one(query, ban.host, ban.jail, ban.ip, ban.at) for ban in bans)
        return frozenset(row[0] for row in rows if row)

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with _explained(self._path):
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
            return row


def append_events(path: Path, batches: Iterable[Sequence[Event]]) -> int:
    """Append events, each batch in a transaction of its own; return how many bans were new.

    A ban that the store has from another source is skipped: its time differs by fail2ban's own delay.
    Creates the store if there is none. Raises StoreError; earlier batches are kept.
    """
    new = 0
    with _explained(path), closing(recorder.connect(str(path), WAIT)) as connection:
        for batch in batches:
            connection.execute("BEGIN IMMEDIATE")
            for event in batch:
                is_ban = event.kind == "ban"
                if not (is_ban and _is_known(connection, event)):
                    new += connection.execute(recorder.INSERT, event).rowcount * is_ban
            connection.execute("COMMIT")
    return new


def _is_known(connection: Any, ban: Event) -> bool:
    query = f"SELECT 1 FROM event WHERE {_SAME_BAN} AND host = ? AND source <> ? LIMIT 1"  # noqa: S608
    values = (ban.jail, ban.ip, *ban.times_elsewhere(), ban.host, ban.source)
    return connection.execute(query, values).fetchone() is not None


def has_ban(path: Path, ip: str) -> bool:
    """Return whether a ban of an address is there; False where there is no store yet. Raises StoreError."""
    with _explained(path):
        if not path.exists():
            return False
        with closing(recorder.connect(str(path))) as connection:
            query = "SELECT 1 FROM event WHERE kind = 'ban' AND ip = ? LIMIT 1"
            return connection.execute(query, (ip,)).fetchone() is not None


def spooled_events(path: Path) -> Iterator[Event]:
    """Yield the events in a store's spool, which the next send imports. Raises StoreError."""
    with _explained(path):
        if recorder.spooled(str(path)):
            events = map(recorder.event_of, recorder.spool_lines(recorder.spool_path(str(path))))
            yield from (Event._make(event) for event in events if event)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, recorder.ForeignStore) as error:
        raise StoreError(f"{path}: {error}") from None
