"""The store, opened, read and marked: the only SQLAlchemy. Events are appended by `recorder`, and never changed."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.errors import DamagedStoreError, StoreError
from f2b_digest.model.bans import Chosen, Rebans, Sample
from f2b_digest.model.baseline import Baseline, Window
from f2b_digest.model.digest import Digest
from f2b_digest.model.host_context import Geography
from f2b_digest.model.selection import Selection
from f2b_digest.store import bans, baseline, retention, runs, selected, summary
from f2b_digest.store.connection import (
    begin,
    check,
    connect,
    explain,
    is_there,
    no_store,
    refusal,
    sender_lock,
    take_spool_in,
    upgrade,
    view,
)
from f2b_digest.store.events import Found, Lookup, append_events, has_ban, spooled_events
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
from f2b_digest.store.outbox import OPEN, Delivery, Outbox, Sealed
from f2b_digest.store.recovery import recover
from f2b_digest.store.selected import Pending
from f2b_digest.store.tables import delivery, event

__all__ = [
    "HOW_TO_RECOVER", "OPEN", "OVERDUE", "Delivery", "Found", "Last", "Lookup", "Pending", "Sealed", "Store",
    "append_events", "begin_week", "damage", "fault", "has_ban", "is_due", "is_there", "keep_in_mind", "no_store",
    "recover", "refusal", "sender_lock", "spooled_events", "take_spool_in", "verify", "verify_all",
]  # fmt: skip


class Last(NamedTuple):
    """The last event of a jail."""

    kind: str
    at: float
    """When it was recorded, in UTC epoch seconds."""


class Store(Outbox):
    """An open store, to be closed or used as a context manager.

    What changes anything stands below "marking" in `Outbox`, and below "pruning". SQLite's errors become StoreError.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Open a store. Raises StoreError with what to do where there is none, or none that can be used."""
        self.path = path
        self._read_only = read_only
        if not is_there(path):
            raise no_store(path)
        damaged = damage(path)
        if damaged and not read_only:
            raise DamagedStoreError(f"{path} was set aside as damaged ({damaged}): {HOW_TO_RECOVER}")
        mode = "ro" if read_only else "rw"
        self._engine = sa.create_engine("sqlite://", creator=lambda: connect(path, mode), poolclass=sa.StaticPool)
        sa.event.listen(self._engine, "begin", begin)
        try:
            self._has_archive = self._prepare(read_only)
        except BaseException:
            self.close()
            raise

    def _prepare(self, read_only: bool) -> bool:
        """Check the file, upgrade it if it is older, and return whether it has tables of digests and deliveries."""
        with self._transaction() as connection:
            version = check(self.path, connection)
            has_archive = sa.inspect(connection).has_table(delivery.name)
        if version == recorder.SCHEMA_VERSION and has_archive:
            return True
        if not read_only:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                upgrade(connection, check(self.path, connection))  # another sender may have done it meanwhile
            return True
        if has_archive:
            with self._transaction() as connection:
                view(connection, version)
        return has_archive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN") -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(begin=begin) as connection, connection.begin():
                yield connection
        except sa.exc.IntegrityError:
            raise
        except OverflowError:
            raise StoreError(f"{self.path}: nothing in it has a number beyond 64 bits") from None
        except sa.exc.DatabaseError as error:
            words = str(error.orig)
            if "malformed" in words and not self._read_only:
                self.close()
                raise set_aside(self.path, words) from None
            if "malformed" in words or "not a database" in words:
                raise DamagedStoreError(f"{self.path} is damaged or no SQLite database ({words})") from None
            raise StoreError(explain(self.path, words)) from None

    # ---- what is there

    def last_event(self) -> int:
        """Return the id of the newest event, or 0."""
        with self._transaction() as connection:
            return connection.scalar(sa.select(sa.func.max(event.c.id))) or 0

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of a selection."""
        with self._transaction() as connection:
            return selected.pending(connection, selection)

    def journal(self) -> str:
        """Return how SQLite keeps the store's transactions: "wal", unless a copy of the file lost that."""
        with self._transaction() as connection:
            return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())

    def last_events(self) -> dict[str, Last]:
        """Return by jail the last event that fail2ban recorded; not what was imported, or recorded by hand."""
        query = (
            "SELECT jail, kind, max(recorded_at) FROM event NOT INDEXED "
            "WHERE source IN ('action', 'shell') AND jail NOT IN ('', :scratch) GROUP BY jail ORDER BY jail"
        )
        with self._transaction() as connection:
            rows = connection.execute(sa.text(query), {"scratch": recorder.SCRATCH_JAIL})
            return {jail: Last(kind, at) for jail, kind, at in rows}

    def is_fed(self) -> bool:
        """Say whether fail2ban's action records here: whether one of the newest thousand events is from it."""
        query = "SELECT source FROM event ORDER BY id DESC LIMIT 1000"
        with self._transaction() as connection:
            return not {"action", "shell"}.isdisjoint(connection.scalars(sa.text(query)))

    def newest(self) -> float:
        """Return the latest time at which anything was recorded or sealed here, in UTC epoch seconds, or 0."""
        with self._transaction() as connection:
            recorded = connection.scalar(sa.select(event.c.recorded_at).order_by(event.c.id.desc()).limit(1)) or 0.0
        return max([recorded, *(sealed.sealed_at for sealed in self.digests(most=1))])

    def runs(self, report: str) -> list[float]:
        """Return when a report was last sent, with or without a digest: the oldest first, in UTC epoch seconds."""
        with self._transaction() as connection:
            return runs.read(connection, report)

    def ran(self, reports: Sequence[str], now: float) -> None:
        """Note that reports were sent now (UTC epoch seconds), whether or not there was anything to tell."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            for report in reports:
                runs.note(connection, report, now)

    def first_recorded(self, first_id: int, since: float, until: float) -> int | None:
        """Return the id of the first event, from an id on, that was recorded in a time; both ends are included.

        What was imported as history is left out: no digest tells it. The times are in UTC epoch seconds.
        """
        query = (
            sa.select(event.c.id)
            .where((event.c.id >= first_id) & (event.c.history == 0) & event.c.recorded_at.between(since, until))
            .order_by(event.c.id)
            .limit(1)
        )
        with self._transaction() as connection:
            return connection.scalar(query)

    def verify_pending(self) -> None:
        """Compare what no digest tells yet with the index that finds it; what follows must not miss any of it.

        Sets the store aside and raises DamagedStoreError if there is a difference.
        """
        with self._transaction() as connection:
            missing = summary.missing_in_index(connection)
        if missing:
            self.close()
            raise set_aside(self.path, f"{missing} events are not in its index")

    def silence_before(self, boot: float, before: float) -> float:
        """Return for how many seconds nothing was recorded or sealed before the system's boot.

        0 where nothing was recorded before `before`, or nothing before the boot. Times are UTC epoch seconds; the boot
        is as the clock has it now, so that a clock that jumped since then moved it away from the rows before.
        """
        with self._transaction() as connection:
            last = retention.last_sign(connection, boot, before)
        return 0.0 if last is None else boot - last

    # ---- the digest

    def addresses(self, selection: Selection) -> list[dict[str, Any]]:
        """Return every address of a selection, the worst first, with times in UTC epoch seconds."""
        with self._transaction() as connection:
            return summary.addresses(connection, selection)

    def summarise(
        self, selection: Selection, *, report: str, host: str, zone: ZoneInfo, start: float | None, end: float,
        campaign: int = 5, users: frozenset[str] = frozenset(), geography: Geography | None = None,
    ) -> Digest:  # fmt: skip
        """Return what a selection's bans amount to, worst first, summed in SQL.

        Without `start` (UTC epoch seconds, as `end`), the period begins with the first ban. `campaign` is how many
        addresses make one; `users` are this host's; `geography` says where addresses are registered.
        """
        with self._transaction() as connection:
            return summary.summarise(
                connection, selection, report=report, host=host, zone=zone, start=start, end=end, campaign=campaign,
                users=users, geography=geography,
            )  # fmt: skip

    def baseline(self, windows: Sequence[Window], patterns: Sequence[str], *, before: float) -> Baseline:
        """Count the bans of each window (UTC epoch seconds, the end excluded) in the jails that patterns take in.

        Each jail's last ban is that before a time, in UTC epoch seconds too.
        """
        with self._transaction() as connection:
            return baseline.baseline(connection, windows, patterns, before)

    def starts_and_stops(self, patterns: Sequence[str], since: float) -> Mapping[str, tuple[tuple[str, float], ...]]:
        """Return by jail the kind and time of its starts and stops since a time, and of the last one before."""
        with self._transaction() as connection:
            return baseline.starts_and_stops(connection, patterns, since)

    def samples(self, selection: Selection, worst: Mapping[str, Sequence[str]]) -> dict[str, list[Sample]]:
        """Return by jail the last log lines of some of its ids, nothing masked."""
        with self._transaction() as connection:
            return bans.samples(connection, selection, worst)

    def chosen(self, selection: Selection, wanted: Callable[[str], bool]) -> list[Chosen]:
        """Return the bans of those ids of a selection that a function chooses; quick right after `summarise`."""
        with self._transaction() as connection:
            return bans.chosen(connection, selection, wanted)

    def rebans(self, selection: Selection, frequent_from: int) -> Rebans:
        """Return how often addresses of a selection were banned again; frequent are those with so many bans."""
        with self._transaction() as connection:
            return bans.rebans(connection, selection, frequent_from)

    # ---- pruning

    def prune(self, before: float, reports: Mapping[str, Sequence[str]], pause: Callable[[float], None]) -> int:
        """Drop what is older than `before` (UTC epoch seconds) and no longer needed; return the number of events.

        `reports` holds each report's patterns of jails. See `retention`. Calls `pause` with seconds between its short
        transactions.
        """
        dropped, needed = 0, self._first_needed(reports)
        while ids := self._old(lambda connection: retention.old_events(connection, before, needed)):
            with self._short_transaction(pause) as connection:
                retention.drop_events(connection, ids)
            dropped += len(ids)
        while ids := self._old(lambda connection: retention.old_digests(connection, before)):
            with self._short_transaction(pause) as connection:
                retention.drop_messages(connection, ids)
        self._give_space_back(pause)
        return dropped

    def _first_needed(self, reports: Mapping[str, Sequence[str]]) -> int:
        """Return the id of the first event that a report has still to tell or to deliver, or one beyond the newest."""
        newest = self.last_event()
        first = [newest + 1]
        for name, jails in reports.items():
            last = self.last_digest(name)
            pending = Selection(first_id=last.last_id + 1 if last else 1, last_id=newest, jails=tuple(jails))
            with self._transaction() as connection:
                found = selected.first(connection, pending), retention.first_undelivered(connection, name)
            first += [key for key in found if key is not None]
        return min(first)

    def _old(self, find: Callable[[sa.Connection], list[int]]) -> list[int]:
        with self._transaction() as connection:
            return find(connection)

    @contextmanager
    def _short_transaction(self, pause: Callable[[float], None]) -> Iterator[sa.Connection]:
        """Run one step, then leave the lock to whoever appends, for twice as long as the step took."""
        start = time.monotonic()
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection
        pause(2 * (time.monotonic() - start))

    def _give_space_back(self, pause: Callable[[float], None]) -> None:
        """Shorten the file by what was dropped; if somebody keeps the lock, the next time will do."""
        with self._transaction() as connection:
            pages = retention.free_pages(connection)
        raw = self._engine.raw_connection()
        try:
            for _ in range(0, pages, retention.PAGES):
                start = time.monotonic()
                retention.give_pages_back(cast("sqlite3.Connection", raw.driver_connection))
                pause(2 * (time.monotonic() - start))
        except sqlite3.OperationalError:
            pass
        finally:
            raw.close()
