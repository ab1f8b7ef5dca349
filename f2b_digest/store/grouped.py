"""A digest's source whose bans are grouped elsewhere: what is grouped here are the few rows apart. No PostgreSQL here.

Other rows are brought into `event` when they are needed, for as long as the source is open. Their times are among the
packed ones. Those that the digest counts have ids of its selection; those that say when a ban ended have negative ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol

from f2b_digest import recorder
from f2b_digest.model.bans import Banned, Chosen, Sample
from f2b_digest.model.baseline import COPY
from f2b_digest.model.counts import Most
from f2b_digest.model.selection import Selection
from f2b_digest.store import bans, hosts, summary, timeline
from f2b_digest.store.hosts import Late
from f2b_digest.store.report import Source
from f2b_digest.store.selected import Pending, jails
from f2b_digest.store.sql import Connection

Row = tuple[Any, ...]
"""An event, in the order of `recorder.COLUMNS`."""
Last = tuple[str, str, float]
"""A jail, an id, and when its last ban was, in UTC epoch seconds."""
AT_ONCE = 10_000
"""Addresses whose rows are asked for at once."""


class Groups(Protocol):
    """The bans of a selection, but for the rows apart. `jails` are names; None: all. Times are UTC epoch seconds."""

    numbers: dict[str, int]
    """Of each host, that which `tried` has."""

    def copy_apart(self, connection: Connection, selection: Selection) -> None:
        """Copy the rows that are not grouped into `event`: of hosts whose stores may tell the same bans."""

    def pending(self, patterns: Sequence[str]) -> Pending:
        """Count all bans of the jails that a report's patterns take in."""

    def tried(self, jails: list[str] | None) -> Iterator[Row]:
        """Yield the rows of `tried`."""

    def of_hosts(self, jails: list[str] | None) -> Iterable[tuple[str, str, int, float]]:
        """Return hosts, jails, the number of bans there, and when the last was."""

    def firsts(self, jails: list[str] | None) -> Iterator[tuple[str, float]]:
        """Yield when ids were first banned by what the selection does not count, or the same or later."""

    def quarters(self, jails: list[str] | None) -> Iterable[tuple[int, int]]:
        """Return the number of bans in each quarter hour since the epoch that has some."""

    def late(self) -> Iterable[Late]:
        """Return the bans from before the period."""

    def spared(self, which: Sequence[tuple[str, str]]) -> Mapping[str, int]:
        """Return by id, of some (jail, id), how many bans longer bans would have spared."""

    def was_prolonged(self, jails: list[str] | None) -> bool:
        """Return whether any ban was prolonged."""

    def lifted(self) -> Iterator[Row]:
        """Yield the unbans that may have been made by hand, and their bans."""

    def last_bans(self, which: Sequence[Last]) -> Iterator[Row]:
        """Yield some last bans."""

    def ends_of(self, which: Sequence[Last]) -> Iterator[Row]:
        """Yield what says when these ended."""

    def all_of(self, ips: Sequence[str]) -> Iterator[Row]:
        """Yield all bans of some ids."""

    def ends_of_all(self, ips: Sequence[str]) -> Iterator[Row]:
        """Yield what says when these ended."""

    def with_lines(self, which: Sequence[tuple[str, str]]) -> Iterator[Row]:
        """Yield of some (jail, id) the last ban with log lines."""


_HISTORY, _KIND = recorder.COLUMNS.index("history"), recorder.COLUMNS.index("kind")
_KEY = itemgetter(*map(recorder.COLUMNS.index, ("jail", "ip", "kind", "at", "host")))
"""Of a row, what no other one has."""
_KNOWN = "INSERT INTO known VALUES (?, ?) ON CONFLICT (ip) DO UPDATE SET at = min(at, excluded.at)"
"""The table is made by `fleet.history`."""


class GroupedSource(Source):
    """The source of a digest whose bans are grouped elsewhere. Its connection can write, and is rolled back."""

    def __init__(self, path: Path, connection: Connection, selection: Selection, most: Most, groups: Groups) -> None:
        """Take the groups of the selection's bans."""
        self._groups = groups
        self._counted: set[Row] = set()
        groups.copy_apart(connection, selection)  # first: it may bring jails
        super().__init__(path, connection, selection, most, packed=True)

    def _group(self) -> None:
        connection, groups, wanted = self._connection, self._groups, self._wanted
        self._next = connection.scalar("SELECT max(id) FROM event WHERE id <= ?", (self.selection.last_id,)) or 0
        self._next = max(self._next, self.selection.first_id - 1)
        self._last = min(connection.scalar("SELECT min(id) FROM event") or 0, 0)
        hosts.add_functions(connection, groups.numbers)
        named = self._named()
        connection.execute("CREATE TEMP TABLE grouped (jail, ip, users, bans, failures, uncounted, first, last, hosts)")
        connection.executemany("INSERT INTO temp.grouped VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", groups.tried(named))
        apart = summary.TRIED.format(where=wanted.where, packed=summary.PACKED)
        connection.execute(f"INSERT INTO temp.grouped {apart}", wanted.values)
        connection.execute("CREATE TEMP TABLE tried AS SELECT * FROM temp.grouped ORDER BY jail, ip, users")
        connection.execute("DROP TABLE temp.grouped")
        connection.executemany(_KNOWN, groups.firsts(named))
        self._by_quarter = [*groups.quarters(named), *timeline.quarters(connection, wanted)]
        hosts.group(connection, wanted)
        hosts.add(connection, groups.of_hosts(named))
        summary.sum_up(connection, self._most)
        self._spared_apart = bans.spared(connection, wanted)
        self._bring_last("SELECT jail, ip, last FROM temp.worst")
        lifted = list(groups.lifted())
        self._bring((row for row in lifted if row[0] == "unban"), counted=True)
        self._bring((row for row in lifted if row[0] != "unban"), counted=False)

    def _named(self) -> list[str] | None:
        """Return the jails of the selection; None: all."""
        if self.selection.jails == ("*",):
            return None
        return jails(self._connection, self.selection.jails)

    def _bring(self, rows: Iterable[Row], *, counted: bool) -> None:
        """Insert rows; those that are counted replace others, which say when a ban ended."""
        names, marks = ", ".join(("id", *recorder.COLUMNS)), ", ".join("?" * (len(recorder.COLUMNS) + 1))
        how = "REPLACE" if counted else "IGNORE"
        insert = f"INSERT OR {how} INTO event ({names}) VALUES ({marks})"  # noqa: S608 - our own words
        self._connection.executemany(insert, self._numbered(rows, counted=counted))

    def _numbered(self, rows: Iterable[Row], *, counted: bool) -> Iterator[Row]:
        """Yield the rows that are not counted yet, with their ids."""
        for row in rows:
            key = _KEY(row)
            if key in self._counted:
                continue
            if counted:
                self._counted.add(key)
                self._next += 1
            else:
                self._last -= 1
            packed = (*row[:_HISTORY], COPY) if row[_KIND] == "ban" else row
            yield (self._next if counted else self._last, *packed)

    def _bring_last(self, query: str, values: Mapping[str, Any] | None = None) -> None:
        """Bring the last ban of each row of a query, and when it ended."""
        found: list[Last] = self._connection.execute(query, values or {}).fetchall()
        for place in range(0, len(found), AT_ONCE):
            some = found[place : place + AT_ONCE]
            self._bring(self._groups.last_bans(some), counted=True)
            self._bring(self._groups.ends_of(some), counted=False)

    # ---- what `Source` reads from rows

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of the selection."""
        return self._groups.pending(selection.jails)

    def _quarters(self) -> Iterable[tuple[int, int]]:
        return self._by_quarter

    def _group_hosts(self) -> None:
        """Hosts are grouped already."""

    def _late(self) -> Iterable[Late]:
        return chain(self._groups.late(), super()._late())

    def _spared(self) -> Mapping[str, int]:
        which = self._connection.execute("SELECT jail, ip FROM temp.worst").fetchall()
        spared = dict(self._spared_apart)
        for ip, count in self._groups.spared(which).items():
            spared[ip] = spared.get(ip, 0) + count
        return spared

    def _was_prolonged(self) -> bool:
        return super()._was_prolonged() or self._groups.was_prolonged(self._named())

    def samples(self, worst: Mapping[str, Sequence[str]]) -> dict[str, list[Sample]]:
        """Return by jail the last log lines of some of its ids, unredacted."""
        self._bring(self._groups.with_lines([(jail, ip) for jail, ips in worst.items() for ip in ips]), counted=True)
        return super().samples(worst)

    def chosen(self, holds: Callable[[str], bool], *, by_host: bool = False) -> list[Chosen]:
        """Return the bans of those ids that a function chooses; of a fleet by host."""
        bans.choose(self._connection, holds)
        if by_host:
            ips = self._connection.scalars("SELECT ip FROM temp.picked")
            self._bring(self._groups.all_of(ips), counted=True)
            self._bring(self._groups.ends_of_all(ips), counted=False)
        else:
            self._bring_last("SELECT jail, ip, last FROM temp.address WHERE ip IN (SELECT ip FROM temp.picked)")
        return bans.chosen(self._connection, self._wanted, by_host=by_host)

    def addresses(self) -> list[Banned]:
        """Return every address of the selection, the worst first, with times in UTC epoch seconds."""
        self._bring_last(summary.WORST_OF_ALL, {"most": summary.MOST_REPORTED})
        return super().addresses()
