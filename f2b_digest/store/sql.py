"""What queries need of a connection: SQLite's, and as much of it as a fleet's centre has too. No query is here."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement returned."""

    @property
    def rowcount(self) -> int:
        """The number of rows that it changed."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> Sequence[Any]:
        """Return the rows."""


class Statements(Protocol):
    """A connection in a transaction, for portable SQL with values by name (`:name`)."""

    def execute(self, query: str, values: Any = ..., /) -> Rows:
        """Run a statement."""

    def scalar(self, query: str, values: Any = ..., /) -> Any:
        """Return the first column of the first row, or None if there is none."""

    def scalars(self, query: str, values: Any = ..., /) -> Sequence[Any]:
        """Return the first column of each row."""


class Connection(sqlite3.Connection):
    """A connection to SQLite."""

    def scalar(self, query: str, values: Any = (), /) -> Any:
        """Return the first column of the first row, or None if there is none."""
        row = self.execute(query, values).fetchone()
        return None if row is None else row[0]

    def scalars(self, query: str, values: Any = (), /) -> list[Any]:
        """Return the first column of each row."""
        return [row[0] for row in self.execute(query, values)]

    def has_table(self, name: str) -> bool:
        """Return whether the database has a table."""
        return bool(self.scalar("SELECT count(*) FROM main.sqlite_master WHERE name = ?", (name,)))
