"""A hub without ssh: hosts reach `receive` in this process, by the bytes that ssh would carry. No test stands here."""

import io
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from f2b_digest.errors import CentreError
from f2b_digest.fleet import by_ssh, receive
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.door import passes
from f2b_digest.store import Received, Store

_HERE = ((r"f2b\.(store|host|link)\b", r"fleet_\1"), (r"now\(\)", "((julianday('now') - 2440587.5) * 86400.0)"),
         (r"extract\(epoch FROM (.*?)\)$", r"\1"))  # fmt: skip
_UNITS = {"second": 1, "minute": 60, "day": 86400}


class Hub:
    """A hub's store; the methods are those of a centre in PostgreSQL, and so is the SQL that they are given."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / "hub.sqlite3"
        self.clock = clock
        with Received(self.path):
            pass

    def add(self, host: str) -> Credential:
        """Enrol a host; its name stands for its key."""
        with Received(self.path) as received:
            received.enrol(host, self.clock())
        return Credential(f"ssh://{host}@{self.path.parent.name}", key=str(self.path), host_key=host, matches="all")

    def as_user(self, _: str) -> str:
        """Return what a configuration has as its store."""
        return str(self.path)

    def opened(self) -> Store:
        """Open the store, to make digests."""
        return Store(self.path, read_only=False)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(_words(query)).fetchall()

    def do(self, *statements: str) -> None:
        """Do something as the administrator."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            for statement in statements:
                connection.execute(_words(statement))


def _words(query: str) -> str:
    query = re.sub(r"interval '([0-9.]+) (\w+?)s?'", lambda found: str(float(found[1]) * _UNITS[found[2]]), query)
    for old, new in _HERE:
        query = re.sub(old, new, query)
    return query


class Through(by_ssh.BySsh):
    """Asks `receive` for each call."""

    def __init__(self, path: Path, host: str) -> None:
        self._path, self._host = path, host

    def _ask(self, call: str) -> dict[str, Any]:
        answers = io.BytesIO()
        with Received(self._path) as received:
            receive.serve(received, self._host, io.BytesIO(call.encode() + b"\n"), answers, time.time)
        answer: dict[str, Any] = json.loads(answers.getvalue())
        if "refused" in answer:
            state = str(answer["state"])
            raise CentreError(answer["refused"], away=passes(state), state=state)
        return answer


@contextmanager
def _opened(credential: Credential) -> Iterator[Through]:
    assert credential.key
    assert credential.host_key
    yield Through(Path(credential.key), credential.host_key)


@contextmanager
def hub(folder: Path) -> Iterator[Hub]:
    """Yield a hub that hosts of this process reach without ssh."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_ssh, "opened", _opened)
        yield Hub(folder)
