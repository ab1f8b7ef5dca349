"""What a hub has of the hosts that upload into its store: who they are, and where their chains of batches end.

The two calls of `fleet.door` as a hub answers them; a PostgreSQL centre has the same in `fleet/sql`. No SQLAlchemy:
this runs for each upload. A store that is no hub has none of these tables.
"""

import _sqlite3  # the sqlite3 package would load datetime and its adapters
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.store.uploads import NOTHING, End

HOSTS, OWN = "fleet_host", "fleet_own"
AHEAD = "fleet_ahead"
TABLES = (HOSTS, "fleet_store", "fleet_link", OWN, AHEAD, "fleet_dropped", "fleet_jail")
FROM_A_HOST = "fleet"
"""Source of what came from a host: this host's fail2ban has not recorded it."""
OF_ONE_HOST = ("start", "stop")
"""Kinds that are not stored: they say nothing of the jail of that name on other hosts."""
_JAIL, _RECORDED_AT, _HISTORY = map(recorder.COLUMNS.index, ("jail", "recorded_at", "history"))
DAY = 86400.0
WAIT = 20.0
"""Seconds for the store's write lock."""
MOST_LIVES = 20
"""Copies of a store in a day."""
DAILY_ROWS = 200_000
"""What a compromised host can cost."""
MOST_JAILS = 1000
"""Of a host: each costs every digest a millisecond, for as long as it is remembered."""
OTHER_JAILS = "other-jails"
"""The jail of what a host uploads of more jails than that."""
_DDL = (
    """
CREATE TABLE IF NOT EXISTS fleet_host (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL UNIQUE, enrolled_at REAL NOT NULL, retired_at REAL,
    day INTEGER NOT NULL DEFAULT 0, rows_today INTEGER NOT NULL DEFAULT 0
)
""",
    """
CREATE TABLE IF NOT EXISTS fleet_store (  -- a life of a host's store: an unbroken chain of uploads
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, life TEXT NOT NULL, last_seq INTEGER NOT NULL,
    last_batch TEXT NOT NULL, began_at REAL NOT NULL, seen_at REAL NOT NULL, skew REAL, complete_until REAL,
    state TEXT, UNIQUE (host, life)
)
""",
    """
CREATE TABLE IF NOT EXISTS fleet_link (  -- the last batch of each day, to find where a copy forks
    id INTEGER PRIMARY KEY, store INTEGER NOT NULL, day INTEGER NOT NULL, batch TEXT NOT NULL, upto INTEGER NOT NULL,
    UNIQUE (store, day)
)
""",
    """
CREATE TABLE IF NOT EXISTS fleet_own (  -- a ban's id, and why its host takes the address for one of its own side
    id INTEGER PRIMARY KEY, own TEXT NOT NULL
)
""",
    """
CREATE TABLE IF NOT EXISTS fleet_ahead (  -- events beyond a report's last digest that it has told already
    report TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (report, id)
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS fleet_dropped (  -- by a host's number, until when what was recorded there was pruned here
    id INTEGER PRIMARY KEY, until REAL NOT NULL
)
""",
    """
CREATE TABLE IF NOT EXISTS fleet_jail (  -- by a host's number, the jails that it has uploaded bans of
    id INTEGER PRIMARY KEY, host INTEGER NOT NULL, jail TEXT NOT NULL, UNIQUE (host, jail)
)
""",
)


class Refused(Exception):
    """A host's call is refused; `state` is the SQLSTATE that PostgreSQL's functions have for it."""

    def __init__(self, state: str, text: str) -> None:
        super().__init__(text)
        self.state = state


Chain = list[tuple[str, str, int]]
"""Batches that a centre has acknowledged, the newest first, as (life, batch, upto)."""


class Said(NamedTuple):
    """What a host says of itself."""

    state: str
    """As JSON."""
    skew: float | None
    """Seconds by which its clock is ahead."""
    complete_until: float | None
    """By its clock: what it recorded until then is here."""


class Arrived(NamedTuple):
    """One event of a batch."""

    row: tuple[Any, ...]
    """In the order of the recorder's columns."""
    own: str | None
    """Why the host takes the banned address for one of its own side."""


class Greeted(NamedTuple):
    """The answer to a hello."""

    host: str
    seq: int | None
    """Where the life's chain ends; None if the life is unknown."""
    batch: str | None
    now: float


def make_tables(connection: Any) -> None:
    """Make the tables where they are missing, within the caller's transaction."""
    for statement in _DDL:
        connection.execute(statement)


def drop(connection: Any, ids: Sequence[int]) -> None:
    """Drop what a hub has beside some events, which the caller deletes in the same transaction; note that they go."""
    make_tables(connection)  # that of the notes is missing in a hub of version 0.1
    keys = [(key,) for key in ids]
    connection.executemany(_NOTE_DROPPED, keys)
    connection.executemany("DELETE FROM fleet_own WHERE id = ?", keys)


_NOTE_DROPPED = """
INSERT INTO fleet_dropped SELECT h.id, e.recorded_at FROM event e JOIN fleet_host h USING (host)
WHERE e.id = ? AND e.source = 'fleet'
ON CONFLICT (id) DO UPDATE SET until = excluded.until WHERE until < excluded.until
"""
# Only another store of the host can upload again what was dropped, and only of before the last of them began (and a
# day, for clocks that are wrong). A host that was cut off for months has one store, and all that it brings is news.
_TOLD_UNTIL = """
SELECT min(d.until, max(s.began_at) + ?)
FROM fleet_dropped d JOIN fleet_host h USING (id) JOIN fleet_store s USING (host)
WHERE h.host = ? HAVING count(*) > 1
"""


class Received:
    """A hub's store, opened to enrol hosts and to receive from them. SQLite's errors become StoreError."""

    def __init__(self, path: Path) -> None:
        """Open the store as the recorder does, and make what a hub has beside events. Raises StoreError."""
        self.path = path
        with explained(path):
            self._connection = recorder.connect(str(path), WAIT)
        with self._transaction():
            make_tables(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    # ---- the administrator's

    def enrol(self, host: str, now: float) -> bool:
        """Enrol a host, or one that was retired again; false if it is enrolled."""
        with self._transaction():
            return bool(
                self._connection.execute(
                    "INSERT INTO fleet_host (host, enrolled_at) VALUES (?, ?) ON CONFLICT (host) DO UPDATE "
                    "SET enrolled_at = excluded.enrolled_at, retired_at = NULL WHERE retired_at IS NOT NULL",
                    (host, now),
                ).rowcount
            )

    def retire(self, host: str, now: float) -> bool:
        """Shut a host out; false if it is not enrolled."""
        query = "UPDATE fleet_host SET retired_at = ? WHERE host = ? AND retired_at IS NULL"
        with self._transaction():
            return bool(self._connection.execute(query, (now, host)).rowcount)

    def hosts(self) -> list[str]:
        """Return the names of the hosts that are enrolled."""
        query = "SELECT host FROM fleet_host WHERE retired_at IS NULL ORDER BY host"
        with explained(self.path):
            return [host for (host,) in self._connection.execute(query)]

    def number(self, host: str) -> int:
        """Return the number of an enrolled host. Raises Refused."""
        with explained(self.path):
            return int(self._enrolled(host)[0])

    # ---- a host's

    def hello(self, host: str, life: str, chain: Chain | None, said: Said, now: float) -> Greeted:
        """Note what a host says of itself, and return where a life's chain ends. Raises Refused.

        With a chain, an unknown life begins where the newest known batch of it ends.
        """
        with self._transaction():
            self._enrolled(host)
            if chain is not None and self._store(host, life) is None:
                self._begin(host, life, chain, now)
            self._connection.execute(
                "UPDATE fleet_store SET seen_at = ?, state = ?, skew = ?, complete_until = ? "
                "WHERE host = ? AND life = ?",
                (now, *said, host, life),
            )
            store = self._store(host, life)
        return Greeted(host, store[1], store[2], now) if store else Greeted(host, None, None, now)

    def append(self, host: str, life: str, after: End, batch: End, events: Sequence[Arrived], now: float) -> int:
        """Append a batch to a life's chain, in one transaction; return the chain's end. Raises Refused."""
        with self._transaction():
            number, day, today = self._enrolled(host)
            store = self._store(host, life)
            if store is None:
                raise Refused("F2B02", "say hello first")
            key, seq, last = store
            if last == batch.batch:  # the answer to an earlier attempt was lost
                return int(seq)
            if (seq, last) != after:
                raise Refused("F2B02", "the chain ends elsewhere")
            this_day = int(now // DAY)
            today = len(events) + (today if day == this_day else 0)
            if today > DAILY_ROWS:
                raise Refused("F2B04", f"this host may send {DAILY_ROWS} rows a day")
            self._insert(host, number, events)
            do = self._connection.execute
            do("UPDATE fleet_host SET day = ?, rows_today = ? WHERE id = ?", (this_day, today, number))
            query = "UPDATE fleet_store SET last_seq = ?, last_batch = ?, seen_at = ? WHERE id = ?"
            do(query, (batch.seq, batch.batch, now, key))
            query = (
                "INSERT INTO fleet_link (store, day, batch, upto) VALUES (?, ?, ?, ?) ON CONFLICT (store, day) "
                "DO UPDATE SET batch = excluded.batch, upto = excluded.upto"
            )
            do(query, (key, this_day, batch.batch, batch.seq))
        return batch.seq

    def _insert(self, host: str, number: int, events: Sequence[Arrived]) -> None:
        """Insert events. What another life of the host has sent is there already, or was dropped: told once."""
        (told_until,) = self._connection.execute(_TOLD_UNTIL, (DAY, host)).fetchone() or (-1.0,)
        jails = self._jails(number, {event.row[_JAIL] for event in events})
        for event in events:
            if event.row[0] in OF_ONE_HOST:
                continue
            row = list(event.row)
            if row[_RECORDED_AT] <= told_until:
                row[_HISTORY] = 1
            if row[_JAIL] not in jails:
                row[_JAIL] = OTHER_JAILS
            if self._connection.execute(recorder.INSERT, row).rowcount and event.own:
                self._connection.execute("INSERT INTO fleet_own VALUES (last_insert_rowid(), ?)", (event.own,))

    def _jails(self, number: int, named: set[str]) -> set[str]:
        """Return the jails that are a host's own, with those that are named for the first time as far as it may."""
        query = "SELECT jail FROM fleet_jail WHERE host = ?"
        jails = {jail for (jail,) in self._connection.execute(query, (number,))}
        fresh = sorted(named - jails)[: max(MOST_JAILS - len(jails), 0)]
        query = "INSERT INTO fleet_jail (host, jail) VALUES (?, ?)"
        self._connection.executemany(query, [(number, jail) for jail in fresh])
        return jails.union(fresh)

    def _begin(self, host: str, life: str, chain: Chain, now: float) -> None:
        (lives,) = self._connection.execute(
            "SELECT count(*) FROM fleet_store WHERE host = ? AND began_at > ?", (host, now - DAY)
        ).fetchone()
        if lives >= MOST_LIVES:
            raise Refused("F2B03", "more than 20 copies of a store in a day")
        # Up to 64 KiB of each: of a year of twenty a day, the list of hosts would be read from half a gigabyte.
        self._connection.execute(
            "UPDATE fleet_store SET state = NULL WHERE host = ? AND seen_at < ? AND state IS NOT NULL",
            (host, now - DAY),
        )
        first = next(filter(None, (self._known(host, link) for link in chain)), 0)
        self._connection.execute(
            "INSERT INTO fleet_store (host, life, last_seq, last_batch, began_at, seen_at) VALUES (?, ?, ?, ?, ?, ?)",
            (host, life, first, NOTHING, now, now),
        )

    def _known(self, host: str, link: tuple[str, str, int]) -> int | None:
        query = (
            "SELECT l.upto FROM fleet_link l JOIN fleet_store s ON s.id = l.store "
            "WHERE s.host = ? AND s.life = ? AND l.batch = ? AND l.upto = ?"
        )
        found = self._connection.execute(query, (host, *link)).fetchone()
        return found[0] if found else None

    def _enrolled(self, host: str) -> Any:
        query = "SELECT id, day, rows_today FROM fleet_host WHERE host = ? AND retired_at IS NULL"
        found = self._connection.execute(query, (host,)).fetchone()
        if found is None:
            raise Refused("F2B01", "this host is not enrolled")
        return found

    def _store(self, host: str, life: str) -> Any:
        query = "SELECT id, last_seq, last_batch FROM fleet_store WHERE host = ? AND life = ?"
        return self._connection.execute(query, (host, life)).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as StoreError, with the store's path."""
    try:
        yield
    except (_sqlite3.Error, recorder.ForeignStore) as error:
        text = str(error)
        raise StoreError(text if str(path) in text else f"{path}: {text}") from None
