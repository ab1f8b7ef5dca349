"""A host's end of the protocol as of the first version that spoke it (schema 2). Frozen: it is never changed.

A fleet's hosts are upgraded after its centre, some of them years later. It knows nothing of this package, only the
signatures of two functions, and the names of a row's columns. Run by `test_protocol.py`.
"""

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import psycopg

NOTHING = "00000000-0000-0000-0000-000000000000"
HELLO = b"SELECT host, last_seq, last_batch::text, now FROM f2b.hello(%s, %s, %s)"
APPEND = b"SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)"


class FrozenHost:
    """A host's store and what it remembers of its uploads, in memory."""

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        self.connect = connect
        self.life = str(uuid.uuid4())
        self.acked = (0, NOTHING)
        self.batches: list[list[Any]] = []
        self.events: list[dict[str, Any]] = []

    def ban(self, ip: str, at: float) -> None:
        """Record a ban."""
        self.events.append(
            {
                "seq": len(self.events) + 1, "kind": "ban", "jail": "sshd", "ip": ip, "at": at, "recorded_at": at,
                "failures": 5, "bantime": 600, "bancount": 1, "users": '["root"]', "source": "action", "history": 0,
                "matches": "a line", "own": None,
            }
        )  # fmt: skip

    def copy(self) -> "FrozenHost":
        """Return a clone, as of a machine that is copied with its store."""
        clone = FrozenHost(self.connect)
        clone.life, clone.acked = self.life, self.acked
        clone.batches, clone.events = list(self.batches), list(self.events)
        return clone

    def state(self) -> str:
        """Return what a host said of itself."""
        said = {"now": 1795000000.0, "version": "0.1.0", "complete_until": None, "backlog": 0, "oldest": None,
                "last_ban": None, "spooled": 0, "replaced": 0, "fail2ban": None}  # fmt: skip
        return json.dumps(said)

    def forward(self, size: int = 2, dies_after: int | None = None) -> str:
        """Upload in batches; return the host's name. `dies_after` so many of them, before the answer is noted."""
        with self.connect() as connection:
            connection.autocommit = True
            host = self._meet(connection)
            sent = 0
            while rows := [event for event in self.events if event["seq"] > self.acked[0]][:size]:
                batch, upto = str(uuid.uuid4()), rows[-1]["seq"]
                values = (self.life, *self.acked, batch, upto, json.dumps(rows))
                assert connection.execute(APPEND, values).fetchone() == (upto,)
                sent += 1
                if sent == dies_after:
                    return host
                self.acked = (upto, batch)
                self.batches.insert(0, [self.life, batch, upto])
        return host

    def _meet(self, connection: psycopg.Connection) -> str:
        host, seq, batch = self._hello(connection, None)
        if seq is None:
            host, seq, batch = self._hello(connection, self.batches)
        elif self._is_another(seq, batch):
            self.life = str(uuid.uuid4())  # another one went on from the same store
            host, seq, batch = self._hello(connection, self.batches)
        self.acked = (seq, batch)
        return host

    def _is_another(self, seq: int, batch: str) -> bool:
        """Return whether the centre's end is none of ours, nor the one batch whose answer did not arrive."""
        known = (seq, batch) == self.acked or batch == NOTHING or [self.life, batch, seq] in self.batches
        return not known and self.lost != seq

    lost: int | None = None

    def _hello(self, connection: psycopg.Connection, chain: Iterable[list[Any]] | None) -> tuple[str, Any, Any]:
        listed = None if chain is None else json.dumps([*chain])
        found = connection.execute(HELLO, (self.life, listed, self.state())).fetchone()
        assert found is not None
        assert isinstance(found[3], float)
        return found[0], found[1], found[2]
