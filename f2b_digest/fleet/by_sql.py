"""The door of a centre in PostgreSQL: its two functions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from f2b_digest.errors import CentreError
from f2b_digest.fleet.connection import ask, connect
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.door import Answer
from f2b_digest.store import Chain, End

_HELLO: LiteralString = "SELECT host, last_seq, last_batch::text, now FROM f2b.hello(%s, %s, %s)"
_APPEND: LiteralString = "SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)"


_ADVICE = {
    "password authentication failed": "the credential is wrong, was replaced, or the host was retired; at the centre, "
    "f2b-digest fleet rotate gives a new one",
    "certificate verify failed": "the centre's certificate has expired, or is not signed by the authority of the "
    "credential or --ca; or this host's clock is wrong",
}
"""What to do about errors of which libpq says no more."""


@contextmanager
def opened(credential: Credential) -> Iterator["BySql"]:
    """Connect. Raises CentreError."""
    try:
        with connect(credential.centre, credential.secrets) as connection:
            yield BySql(connection)
    except CentreError as refused:
        for words, advice in _ADVICE.items():
            if words in str(refused):
                raise CentreError(f"{refused}: {advice}", away=refused.away, state=refused.state) from None
        raise


class BySql:
    """See `door.Door`."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def hello(self, life: str, chain: Chain | None, state: dict[str, Any]) -> Answer:
        """Call the first function."""
        listed = None if chain is None else Jsonb(chain)
        host, seq, batch, _ = ask(self._connection, _HELLO, (life, listed, Jsonb(state)))
        return Answer(host, None if seq is None else End(seq, batch))

    def append(self, life: str, after: End, batch: End, rows: str) -> None:
        """Call the second."""
        ask(self._connection, _APPEND, (life, after.seq, after.batch, batch.batch, batch.seq, rows))
