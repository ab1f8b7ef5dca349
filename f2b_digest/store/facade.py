"""The opened store. Events are appended by `recorder` and never changed."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from f2b_digest import __version__, recorder
from f2b_digest.errors import DamagedStoreError, StoreError
from f2b_digest.model.counts import SHOWN, Most
from f2b_digest.model.fleet import HostState
from f2b_digest.model.host_context import Belonging, HostContext
from f2b_digest.model.inquiry import Inquiry
from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import asked, examined, migrations, part, retention, selected, verdicts
from f2b_digest.store.archive import OPEN, Delivery, Sealed
from f2b_digest.store.connection import (
    check,
    connect,
    explain,
    is_there,
    make_tables,
    no_store,
    refusal,
    sender_lock,
    stand_in,
    take_spool_in,
    transaction,
)
from f2b_digest.store.events import Found, Lookup, append_events, has_ban, spooled_events
from f2b_digest.store.examined import Last
from f2b_digest.store.host_states import states
from f2b_digest.store.integrity import (
    HOW_TO_RECOVER,
    OVERDUE,
    begin_week,
    damage,
    fault,
    is_due,
    keep_in_mind,
    set_aside,
    verify,
    verify_all,
)
from f2b_digest.store.outbox import Outbox
from f2b_digest.store.reads import Reads
from f2b_digest.store.received import AHEAD
from f2b_digest.store.recovery import recover
from f2b_digest.store.report import Asked, Source
from f2b_digest.store.selected import Pending, Wanted
from f2b_digest.store.sql import Connection, Statements
from f2b_digest.store.tables import DDL
from f2b_digest.store.uploaders import is_hub, lives
from f2b_digest.store.verdicts import judged

log = logging.getLogger(__name__)

__all__ = [
    "HOW_TO_RECOVER", "OPEN", "OVERDUE", "Asked", "Delivery", "Found", "Last", "Lookup", "Outbox", "Pending", "Reads",
    "Sealed", "Source", "Statements", "Store", "append_events", "begin_week", "damage", "fault", "has_ban", "is_due",
    "is_there", "judged", "keep_in_mind", "no_store", "recover", "refusal", "sender_lock", "spooled_events", "states",
    "take_spool_in", "verify", "verify_all",
]  # fmt: skip


class Store(Outbox, Reads):
    """An open store, to be closed or used as a context manager.

    Methods that write are in `Outbox`, and below "pruning". SQLite's errors become StoreError.
    """

    _conflict = sqlite3.IntegrityError

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Open a store. Raises StoreError, with what to do, if it is missing or unusable."""
        self.path = path
        self._read_only = read_only
        self._ahead: Sequence[int] = ()
        if not is_there(path):
            raise no_store(path)
        damaged = damage(path)
        if damaged and not read_only:
            raise DamagedStoreError(f"{path} was set aside as damaged ({damaged}): {HOW_TO_RECOVER}")
        self._connection: Connection | None = None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Check the file; where allowed, upgrade it and create the tables that the first send needs."""
        with self._reading() as connection:
            version = check(self.path, connection)
            is_complete = all(map(connection.has_table, DDL))
            if self._read_only:
                stand_in(connection)
        if self._read_only:
            return
        while version < recorder.SCHEMA_VERSION:
            with self._writing() as connection:
                version = check(self.path, connection)  # another sender may have done so meanwhile
                if version < recorder.SCHEMA_VERSION:
                    migrations.upgrade(connection, version)
        if not is_complete:
            with self._writing() as connection:
                make_tables(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next transaction opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[Connection]:
        try:
            if self._connection is None:
                self._connection = connect(self.path, "ro" if self._read_only else "rw")
            with transaction(self._connection, begin):
                yield self._connection
        except sqlite3.IntegrityError:
            raise
        except OverflowError:
            raise StoreError(f"{self.path}: an id exceeds 64 bits") from None
        except sqlite3.DatabaseError as error:
            words = str(error)
            if "malformed" in words and not self._read_only:
                self.close()
                raise set_aside(self.path, words) from None
            if "malformed" in words or "not a database" in words:
                raise DamagedStoreError(f"{self.path} is damaged or not an SQLite database ({words})") from None
            raise StoreError(explain(self.path, words)) from None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def report(self, selection: Selection, most: Most = SHOWN) -> Iterator[Source]:
        """Open a snapshot of everything that a selection's digest is made of.

        One read transaction, which does not block appends. This store cannot be used otherwise until it ends.
        """
        with self._passing() as connection:
            yield Source(self.path, connection, selection, most)

    @contextmanager
    def asked(self, inquiry: Inquiry, asn_of: Callable[[str], int | None], most: Most = SHOWN) -> Iterator[Asked]:
        """Open the bans of an inquiry, in one read transaction like `report`.

        `asn_of` returns the AS number of an id.
        """
        with self._passing() as connection:
            yield Asked(self.path, connection, inquiry, most, asn_of)

    @contextmanager
    def _passing(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that is rolled back, with its temporary tables."""
        with self._transaction() as connection:
            try:
                yield connection
            finally:
                connection.rollback()

    def has_bans(self, kind: Literal["jail", "ip"], text: str) -> bool:
        """Return whether any ban has this jail, or this id."""
        with self._reading() as connection:
            return asked.is_there(connection, kind, text)

    @contextmanager
    def about(
        self, report: str, hosts: Sequence[str], every: str | None, now: float, *, past: bool = False
    ) -> Iterator["Store"]:
        """Yield this store itself; of a hub, and for a report of some hosts, a scratch store with their events.

        Once all these hosts were retired, and what they uploaded is told, a hub's digest is that of a single host.
        """
        hub = lives(self.path) if is_hub(self.path) else []
        if tuple(hosts) == ("*",) and not hub:
            yield self
            return
        chosen, fleet = selected.of_hosts(hosts), states(hub, hosts) if hub else None
        alone = fleet == () and not past and not self._has_uploaded(report, chosen)
        with (
            part.scratch(self.path, report, part.own(chosen) if alone else chosen, every, now, past=past) as path,
            Part(path, self, fleet, now, alone=alone) as store,
        ):
            yield store

    def _has_uploaded(self, report: str, hosts: Wanted) -> bool:
        with self._reading() as connection:
            return part.has_uploaded(connection, report, hosts)

    def judged(self, first_id: int) -> Mapping[str, Belonging]:
        """Return the ids that hosts classified as own addresses before their upload, of bans from an id on."""
        with self._reading() as connection:
            return verdicts.of_hub(connection, first_id)

    def informed(self, host_context: HostContext, first_id: int) -> HostContext:
        """Return what is known of this host with what hosts of a fleet said, of bans from an id on."""
        return replace(host_context, judged=self.judged(first_id))

    def seal_with(self, ahead: Sequence[int], selection: Selection, **sealed: Any) -> bool:
        """Seal like `seal`, with events of a hub beyond the selection's end."""
        self._ahead = ahead
        try:
            return self.seal(selection, **sealed)
        finally:
            self._ahead = ()

    def _mark(self, connection: Statements, key: int, report: str) -> None:
        """Note the events that a hub's digest takes beyond its end; earlier ones are within it now."""
        assert isinstance(connection, Connection)
        if not connection.has_table(AHEAD):
            return
        earlier = f"DELETE FROM {AHEAD} WHERE report = ? AND id <= (SELECT last_id FROM digest WHERE id = ?)"  # noqa: S608
        connection.execute(earlier, (report, key))
        connection.executemany(
            f"INSERT INTO {AHEAD} (report, id) VALUES (?, ?)",  # noqa: S608 - our own name
            [(report, each) for each in self._ahead],
        )

    # ---- for `check` only

    def journal(self) -> str:
        """Return SQLite's journal mode: "wal", unless a copy of the file lost it."""
        with self._reading() as connection:
            return examined.journal(connection)

    def last_events(self) -> dict[str, Last]:
        """Return by jail the last event that fail2ban recorded; not what was imported, or recorded by hand."""
        with self._reading() as connection:
            return examined.last_events(connection)

    def newest(self) -> float:
        """Return the latest time at which anything was recorded or sealed here, in UTC epoch seconds, or 0."""
        with self._reading() as connection:
            recorded = connection.scalar("SELECT recorded_at FROM event ORDER BY id DESC LIMIT 1") or 0.0
        return max([recorded, *(sealed.sealed_at for sealed in self.digests(most=1))])

    def verify_pending(self) -> None:
        """Compare the pending events with the index that is used to find them, so that none is missed.

        Sets the store aside and raises DamagedStoreError if there is a difference.
        """
        with self._reading() as connection:
            missing = examined.missing_in_index(connection)
        if missing:
            self.close()
            raise set_aside(self.path, f"{missing} events are missing from its index")

    def silence_before(self, boot: float, before: float) -> float:
        """Return for how many seconds nothing was recorded or sealed before the system's boot.

        0 where nothing was recorded before `before`, or nothing before the boot. Times are UTC epoch seconds; the boot
        is as the clock has it now, so that a clock that jumped since then moved it away from the rows before.
        """
        with self._reading() as connection:
            last = retention.last_sign(connection, boot, before)
        return 0.0 if last is None else boot - last

    # ---- pruning

    def prune(
        self, before: float, reports: Mapping[str, Sequence[str]], pause: Callable[[float], None],
        hosts: Mapping[str, Sequence[str]] | None = None,
    ) -> int:  # fmt: skip
        """Delete what is older than `before` (UTC epoch seconds) and no longer needed; return the number of events.

        `reports` holds each report's patterns of jails, `hosts` those of hosts. See `retention`. Calls `pause` with
        seconds between its short transactions.
        """
        dropped, needed = 0, self._first_needed(reports, hosts or {})
        while ids := self._old(lambda connection: retention.old_events(connection, before, needed)):
            with self._short_transaction(pause) as connection:
                retention.drop_events(connection, ids)
            dropped += len(ids)
        while ids := self._old(lambda connection: retention.old_digests(connection, before)):
            with self._short_transaction(pause) as connection:
                retention.drop_messages(connection, ids)
        self._give_space_back(pause)
        return dropped

    def _first_needed(self, reports: Mapping[str, Sequence[str]], hosts: Mapping[str, Sequence[str]]) -> int:
        """Return the id of the first event still to be reported or delivered, or the newest id plus one."""
        newest = self.last_event()
        first = [newest + 1]
        for name, jails in reports.items():
            last = self.last_digest(name)
            pending = Selection(
                first_id=last.last_id + 1 if last else 1, last_id=newest, jails=tuple(jails),
                hosts=tuple(hosts.get(name, ("*",))),
            )  # fmt: skip
            with self._reading() as connection:
                wanted = selected.wanted(connection, pending)
                found = selected.first(connection, wanted), retention.first_undelivered(connection, name)
            first += [key for key in found if key is not None]
        return min(first)

    def _old(self, find: Callable[[Connection], list[int]]) -> list[int]:
        with self._reading() as connection:
            return find(connection)

    @contextmanager
    def _short_transaction(self, pause: Callable[[float], None]) -> Iterator[Connection]:
        """Run one step, then release the lock for writers for twice as long as the step took."""
        start = time.monotonic()
        with self._writing() as connection:
            yield connection
        pause(2 * (time.monotonic() - start))

    def _give_space_back(self, pause: Callable[[float], None]) -> None:
        """Shrink the file by the freed pages; if the lock is held, leave it to the next run."""
        with self._reading() as connection:
            pages = retention.free_pages(connection)
        assert self._connection is not None
        try:
            for _ in range(0, pages, retention.PAGES):
                start = time.monotonic()
                retention.give_pages_back(self._connection)
                pause(2 * (time.monotonic() - start))
        except sqlite3.OperationalError as error:
            log.info("the file is not shortened now: %s", error)


class Part(Store):
    """A scratch copy of some hosts' events; its seal, and what hosts said, are the whole store's."""

    RECORDED = Store.BY_OUR_CLOCK

    def __init__(
        self, path: Path, whole: Store, fleet: tuple[HostState, ...] | None, now: float, *, alone: bool
    ) -> None:
        """Open the copy. `fleet` are the hosts that upload into the whole store; None if it is no hub's.

        `alone`: it has events of the hub's own host only.
        """
        super().__init__(path, read_only=True)
        self._whole, self._fleet, self._now, self._alone = whole, fleet, now, alone
        with self._reading() as connection:
            self._name = selected.own_host(connection)

    def judged(self, first_id: int) -> Mapping[str, Belonging]:
        """Return the ids that hosts classified as own addresses."""
        return self._whole.judged(first_id)

    def informed(self, host_context: HostContext, first_id: int) -> HostContext:
        """Return what is known of this host and of those that upload here, for the report of their events."""
        known = super().informed(host_context, first_id)
        if self._fleet is None:
            return known
        whole, copy = (os.path.realpath(store.path) for store in (self._whole, self))
        stores = known.stores and tuple(copy if each == whole else each for each in known.stores)
        if self._alone:
            return replace(known, stores=stores)
        name = self._name
        if name is None or name in {state.host for state in self._fleet}:
            return replace(known, fleet=self._fleet)
        own = HostState(name, self._now, self._now, complete_until=self._now, version=__version__, here=True)
        return replace(known, stores=stores, fleet=tuple(sorted((own, *self._fleet), key=lambda state: state.host)))

    def seal(
        self, selection: Selection, *, stamp: Stamp, document: str, start: float, end: float,
        messages: Sequence[tuple[str, Message]],
    ) -> bool:  # fmt: skip
        """Seal what the selection takes of the whole store; false if another sender was first."""
        last, ahead = part.taken(self.path, selection.last_id, selection.first_id - 1)
        return self._whole.seal_with(
            ahead, replace(selection, last_id=last), stamp=stamp, document=document, start=start, end=end,
            messages=messages,
        )  # fmt: skip
