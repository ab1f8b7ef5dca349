"""A host of a fleet as tests need it: a store, its way to the centre, and what became of both."""

import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from f2b_digest import composition, recorder
from f2b_digest.config import Report
from f2b_digest.fleet import state
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.forward import Result, forward
from f2b_digest.model.message import Stamp
from f2b_digest.store import Store, Uploads
from tests.support.hub import Hub
from tests.support.postgres_server import Centre
from tests.support.ssh_hub import Hub as SshHub

Fleet = Centre | Hub
Sealable = Fleet | SshHub


@dataclass(frozen=True)
class Host:
    """A host with a store, and its way to the centre."""

    store: Path
    credential: Credential
    clock: Callable[[], float] = time.time

    def ban(self, ip: str, jail: str = "sshd", at: float | None = None, **fields: Any) -> None:
        """Record a ban."""
        moment = self.clock() if at is None else at
        row = recorder.event("ban", jail, ip, moment, "local", "action", recorded_at=moment, **fields)
        assert recorder.append(str(self.store), row) == ""

    def end(self, ip: str, banned_at: float, at: float, jail: str = "sshd") -> None:
        """Record the end of a ban."""
        row = recorder.event("unban", jail, ip, banned_at, "local", "action", recorded_at=at)
        assert recorder.append(str(self.store), row) == ""

    def bans(self, addresses: Iterable[str]) -> None:
        """Record a ban of each, in one transaction."""
        now = self.clock()
        rows = [recorder.event("ban", "sshd", ip, now, "local", "action", recorded_at=now) for ip in addresses]
        with closing(recorder.connect(str(self.store))) as connection:
            connection.execute("BEGIN")
            connection.executemany(recorder.INSERT, rows)
            connection.execute("COMMIT")

    def forward(self, own: Callable[[dict[str, Any]], str | None] = lambda event: None) -> Result:
        """Upload."""
        now = self.clock()
        with Uploads(self.store) as uploads:
            uploads.join(now)
            return forward(
                uploads, self.credential, lambda until: state.told(uploads, self.clock(), until), own, now,
                spooled=False,
            )  # fmt: skip

    def copy(self, store: Path) -> "Host":
        """Return a clone of this host, with its own copy of the store."""
        restore(self.store, store)
        return replace(self, store=store)


def restore(source: Path, target: Path) -> None:
    """Put a copy of a store in a place, as a backup does."""
    for end in ("", "-wal", "-shm"):
        Path(f"{target}{end}").unlink(missing_ok=True)
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    old.close()
    new.close()


def opened_by(centre: Sealable) -> Store | Opened:
    """Open a centre or a hub, to make digests."""
    return Opened(centre.as_user("f2b_digest")) if isinstance(centre, Centre) else centre.opened()


def told(centre: Centre) -> list[str]:
    """Return the address of each ban that a digest would report, in order, with duplicates."""
    return sorted(ip for (ip,) in centre.rows("SELECT ip FROM f2b.event WHERE kind = 'ban' AND history = 0"))


def seal(centre: Sealable, address: str = "", share: float = 1.0) -> int:
    """Seal what the report `daily` has pending, without a message; return how many bans, or -1: another was faster.

    By the centre's socket, or by another address of it; the first ones, if not all. The document has the bans by
    address.
    """
    moment = time.time()
    with (
        Opened(address) if address else opened_by(centre) as opened,
        opened.about("daily", ("*",), "day", moment) as store,
    ):
        selection = composition.pending(store, "daily", Report())
        last = selection.first_id - 1 + round((selection.last_id - selection.first_id + 1) * share)
        selection = replace(selection, last_id=last)
        with store.report(selection) as source:
            bans = Counter({each.ip: each.bans for each in source.addresses()})
        stamp = Stamp(uuid.uuid4().hex, "daily", "", "fleet", moment, bans.total(), 0, 0, 0)
        done = store.seal(selection, stamp=stamp, document=json.dumps(bans), start=0.0, end=0.0, messages=[])
    return bans.total() if done else -1


def told_by_digests(centre: Sealable) -> dict[str, int]:
    """Return by address how many bans of it the digests of the report `daily` took; of a hub, by what they said."""
    if not isinstance(centre, Centre):
        with centre.opened() as store:
            documents = [store.document(digest.id) for digest in store.digests("daily")]
        return sum((Counter(json.loads(document or "{}")) for document in documents), Counter())
    return dict(
        centre.rows(
            "SELECT e.ip, count(*) FROM f2b.taken t JOIN f2b.digest d ON d.id = t.digest_id AND d.report = 'daily' "
            "JOIN f2b.event e ON e.store_id = t.store_id AND e.seq > t.after_seq AND e.seq <= t.upto_seq "
            "WHERE e.kind = 'ban' AND e.history = 0 GROUP BY e.ip"
        )
    )
