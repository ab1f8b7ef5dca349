"""The host's side of the upload: new events go to the centre, each exactly once.

Uploads form a chain: each batch names its predecessor, and the centre refuses any other. The local store
remembers which batch was acknowledged and which is on its way, so that a crash at any moment, a lost answer, a store or
a centre that was restored from a backup, and a copy of a machine all end in one of `_meet`'s cases.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from f2b_digest.errors import CentreError
from f2b_digest.fleet import rows
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.door import ELSEWHERE, TOO_MUCH, Answer, Door
from f2b_digest.store import NOTHING, Chain, End, Uploads

MOST_ROWS, MOST_BYTES = 500, 4 * 2**20
"""Limits of one batch."""
SETTLED = 5.0
"""Seconds after which a recorded event is in the store or its spool."""
MEETINGS = 5
"""Restarts of an upload if another one of the same chain interferes."""
State = Callable[[float | None], dict[str, Any]]
"""Returns a host's state, given until when everything that it recorded is at the centre."""


@dataclass(frozen=True)
class Result:
    """The result of an upload."""

    host: str
    """The centre's name for this host."""
    events: int
    notes: tuple[str, ...]
    """Warnings, one line each."""


def forward(
    uploads: Uploads, credential: Credential, state: State, own: rows.Own, now: float, *, spooled: bool
) -> Result:
    """Upload all new events, and this host's state.

    `now` is from before the spool was imported; `spooled` says that it still has events. Raises CentreError, and
    StoreError; whatever was acknowledged by then stays so.
    """
    with _opened(credential) as door:
        upload = _Upload(door, uploads, credential, state, own, now - SETTLED)
        upload.run(complete=not spooled)
        return Result(upload.host, upload.events, tuple(upload.notes))


def leave(uploads: Uploads, credential: Credential, farewell: dict[str, Any]) -> str:
    """Tell the centre by a last state that this host leaves; return its name there. Raises CentreError."""
    with _opened(credential) as door:
        return door.hello(uploads.now().life, None, farewell).host


def _opened(credential: Credential) -> AbstractContextManager[Door]:
    """Return the centre's door, of which only the one that is used is loaded: psycopg is most of an upload's time."""
    if credential.by_ssh:
        from f2b_digest.fleet import by_ssh  # noqa: PLC0415

        return by_ssh.opened(credential)
    from f2b_digest.fleet import by_sql  # noqa: PLC0415

    return by_sql.opened(credential)


class _Upload:
    """One run."""

    def __init__(
        self, door: Door, uploads: Uploads, credential: Credential, state: State, own: rows.Own, until: float
    ) -> None:
        self._door = door
        self._uploads = uploads
        self._credential = credential
        self._state = state
        self._own = own
        self._until = until
        self.host = ""
        self.events = 0
        self.notes: list[str] = []

    def run(self, *, complete: bool) -> None:
        """Upload what the centre lacks, and say where this store has nothing older left.

        `complete` is whether the store has all that was recorded, so that an empty backlog means that the centre has,
        too. Raises CentreError.
        """
        if complete and not self._uploads.backlog().events:
            self._uploads.complete(self._until)
        for _ in range(MEETINGS):
            self._meet()
            try:
                self._send()
                break
            except CentreError as refused:
                if refused.state != ELSEWHERE:
                    raise
        else:
            raise CentreError("another upload of this store keeps interfering", away=True)
        if complete and self.events:
            self._uploads.complete(self._until)
        if self.events:
            self._hello(None)

    def _hello(self, chain: Chain | None) -> Answer:
        """Return the end of this store's chain at the centre."""
        known = self._uploads.now()
        answer = self._door.hello(known.life, chain, self._state(known.complete_until))
        self.host = answer.host
        return answer

    def _meet(self) -> None:
        """Find out where to continue the chain."""
        known = self._uploads.now()
        end = self._hello(None).end
        if end is None:
            self._begin()
            return
        if end == known.acked:
            return
        if end == known.sending:  # the response was lost
            self._uploads.acknowledge(known.life, end)
        elif end.batch == NOTHING or (known.life, end.batch, end.seq) in self._uploads.chain():
            self.notes.append(
                f"the centre is back at event {end.seq} (restored from a backup?): uploading the missing events again"
            )
            self._uploads.go_back(end)
        else:
            self.notes.append(
                "this store is a copy, or was restored from a backup: the centre has later events; "
                "it continues as a new store"
            )
            self._uploads.new_life()
            self._begin()

    def _begin(self) -> None:
        """Register a life unknown to the centre: it starts after the centre's events of earlier ones."""
        end = self._hello(self._uploads.chain()).end
        assert end is not None
        if self._uploads.now().acked.batch != NOTHING:
            self.notes.append(f"the centre does not know this store: uploading everything after event {end.seq}")
        self._uploads.go_back(end)

    def _send(self) -> None:
        most = MOST_ROWS
        while events := self._uploads.events(self._uploads.now().acked.seq, most):
            known = self._uploads.now()
            lines = rows.of_events(events, self._uploads, self._credential.matches, self._own, known.history_until)
            lines = list(_fitting(lines))
            try:
                self._append(lines, events[len(lines) - 1]["id"])
                most = MOST_ROWS
            except CentreError as refused:
                if refused.state[:2] not in ("22", "23") and refused.state != TOO_MUCH:
                    raise
                if len(lines) > 1:  # one of them is refused
                    most = len(lines) // 2
                    continue
                self.notes.append(
                    f"event {events[0]['id']} went without log lines and names: the centre refused it ({refused})"
                )
                self._uploads.replace()
                self._append([rows.placeholder(events[0])], events[0]["id"])

    def _append(self, lines: list[str], upto: int) -> None:
        known = self._uploads.now()
        batch = End(upto, str(uuid.uuid4()))
        self._uploads.intend(batch)
        self._door.append(known.life, known.acked, batch, f"[{','.join(lines)}]")
        self._uploads.acknowledge(known.life, batch)
        self.events += len(lines)


def _fitting(lines: list[str]) -> Iterator[str]:
    """Yield as many rows as fit into a batch, at least one."""
    size = 0
    for line in lines:
        size += len(line)
        if size > MOST_BYTES and size > len(line):
            return
        yield line
