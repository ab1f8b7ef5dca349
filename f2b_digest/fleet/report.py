"""One report's scratch store at a centre: with its pending events, or with groups of them. No queries here."""

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from f2b_digest.fleet.grouping import Grouping, OfJail
from f2b_digest.fleet.scratch import copy_pending, vector
from f2b_digest.fleet.vectors import End, by_store
from f2b_digest.model.counts import SHOWN, Most
from f2b_digest.model.fleet import HostState
from f2b_digest.model.host_context import Belonging, HostContext
from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection, matches
from f2b_digest.store import GroupedSource, Pending, Source, Store, host_set, judged


class Known(NamedTuple):
    """What hosts said of themselves, and of the addresses that they banned."""

    states: tuple[HostState, ...]
    """Of the report's hosts."""
    verdicts: list[tuple[str, str]]
    """See `Grouping.verdicts`."""


class ReportStore(Store):
    """One report's scratch store; its seal is the centre's."""

    RECORDED = Store.BY_OUR_CLOCK

    def __init__(
        self, path: Path, ends: Sequence[End], known: Known, seal: Callable[..., bool], *, read_only: bool = True
    ) -> None:
        """Open what `scratch` filled; `seal` is `Centre.seal_of`."""
        super().__init__(path, read_only=read_only)
        self._seal = seal
        self._ends = ends
        self._known = known

    def judged(self, first_id: int) -> Mapping[str, Belonging]:
        """Return the pending ids that hosts classified as own, and why; the host's data is untrusted."""
        return judged(self._known.verdicts)

    def informed(self, host_context: HostContext, first_id: int) -> HostContext:
        """Return what is known with the hosts' states, too."""
        return replace(super().informed(host_context, first_id), fleet=self._known.states)

    def seal(
        self, selection: Selection, *, stamp: Stamp, document: str, start: float, end: float,
        messages: Sequence[tuple[str, Message]],
    ) -> bool:  # fmt: skip
        """Mark the selection as taken at the centre; false if another sender was first."""
        return self._seal(
            self._taken(selection.last_id), selection, stamp=stamp, document=document, start=start, end=end,
            messages=messages,
        )  # fmt: skip

    def _taken(self, last_id: int) -> list[End]:
        return vector(self.path, self._ends, last_id)


@dataclass(frozen=True)
class Pendings:
    """The pending events of a report that PostgreSQL groups, in a transaction that the caller holds."""

    connection: sa.Connection
    ends: Sequence[End]
    hosts: Mapping[int, str]
    """By store."""
    apart: frozenset[int]
    """Stores whose bans another one of the same host may tell too: these are told apart as rows."""
    late: float | None
    """Bans from before are late, in UTC epoch seconds."""

    def grouping(self, ends: Iterable[End], *, apart: bool = False) -> Grouping:
        """Return the groups up to some ends; with `apart`, of the stores that are read as rows, too."""
        some = [end for end in ends if apart or end.store_id not in self.apart]
        return Grouping(self.connection, some, self.late)


class GroupedStore(ReportStore):
    """The scratch store of a report whose pending events are not in it.

    Their ids are those that they would have there, as far as anybody asks for them.
    """

    def __init__(self, path: Path, pending: Pendings, before: int, known: Known, seal: Callable[..., bool]) -> None:
        """Open what `scratch.fill_past` filled, up to the id `before`."""
        super().__init__(path, pending.ends, known, seal, read_only=False)
        self._pending = pending
        self._before = before
        self._cuts: dict[int, list[End]] = {}

    def last_event(self) -> int:
        """Return the id of the newest event."""
        return self._id_of(self._ends)

    def _id_of(self, ends: Iterable[End]) -> int:
        return self._before + sum(end.upto - end.seq for end in ends)

    def first_recorded(self, first_id: int, since: float, until: float) -> int | None:
        """Return the id of the first event, from an id on, that was recorded in a time (UTC epoch seconds)."""
        if first_id <= self._before:
            found = super().first_recorded(first_id, since, until)
            if found is not None:
                return found
        ends, is_there = self._pending.grouping(self._ends, apart=True).cut(since, until)
        if not is_there:
            return None
        last = self._id_of(ends)
        self._cuts[last] = ends
        return last + 1

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of a selection."""
        return self._groups(selection.last_id).pending(selection.jails)

    @contextmanager
    def report(self, selection: Selection, most: Most = SHOWN) -> Iterator[Source]:
        """Group a selection's bans."""
        with self._passing() as connection:
            yield GroupedSource(self.path, connection, selection, most, self._groups(selection.last_id))

    def _up_to(self, last_id: int) -> Sequence[End]:
        return self._ends if last_id >= self.last_event() else self._cuts[last_id]

    def _taken(self, last_id: int) -> list[End]:
        return [end for end in self._up_to(last_id) if end.upto > end.seq]

    def _groups(self, last_id: int) -> "_Groups":
        return _Groups(self._pending, self._up_to(last_id))


class _Groups:
    """The groups of a selection, see `store.grouped`: with hosts' names instead of their stores."""

    def __init__(self, pending: Pendings, ends: Sequence[End]) -> None:
        self._pending, self._ends = pending, ends
        self._all = pending.grouping(pending.ends)
        self._here = pending.grouping(ends)
        self.numbers = {host: number for number, host in enumerate(dict.fromkeys(pending.hosts.values()))}

    def copy_apart(self, connection: Any, selection: Selection) -> None:
        """Copy the rows that are not grouped."""
        for ends, before in ((self._ends, selection.first_id - 1), (self._beyond(), selection.last_id)):
            apart = [end for end in ends if end.store_id in self._pending.apart]
            if apart:
                copy_pending(self._pending.connection, connection, apart, before, self._pending.late)

    def _beyond(self) -> list[End]:
        """Return what is pending and not of the selection."""
        both = zip(self._pending.ends, self._ends, strict=True)
        return [replace(whole, seq=end.upto) for whole, end in both if whole.upto > end.upto]

    @cached_property
    def _of_jails(self) -> list[OfJail]:
        return self._here.of_jails()

    def pending(self, patterns: Sequence[str]) -> Pending:
        """Count the bans of the jails that patterns take in."""
        found = self._pending.grouping(self._ends, apart=True).of_jails()
        counted = [each for each in found if each.bans and matches(each.jail, patterns)]
        return Pending(
            sum(each.bans for each in counted), min((each.recorded or 0.0 for each in counted), default=None)
        )

    def tried(self, jails: list[str] | None) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `tried`."""
        numbers = {store: self.numbers[host] for store, host in self._pending.hosts.items()}
        for *row, stores in self._here.tried(jails):
            yield (*row, host_set(numbers[store] for store in _stores(stores)))

    def of_hosts(self, jails: list[str] | None) -> Iterable[tuple[str, str, int, float]]:
        """Return hosts, jails, the number of bans there, and when the last was."""
        return [
            (self._pending.hosts[each.store_id], each.jail, each.bans, each.last)
            for each in self._of_jails
            if each.last is not None and (jails is None or each.jail in jails)
        ]

    def firsts(self, jails: list[str] | None) -> Iterator[tuple[str, float]]:
        """Yield when ids were first banned by what the selection does not count, or the same or later."""
        yield from self._all.firsts(counted=jails is not None)
        if jails is None:
            yield from self._pending.grouping(self._beyond()).firsts(counted=True)

    def quarters(self, jails: list[str] | None) -> Iterable[tuple[int, int]]:
        """Return the number of bans in each quarter hour."""
        return self._here.quarters(jails)

    def late(self) -> Iterable[tuple[str, str, int, float, float]]:
        """Return the bans from before the period."""
        return [
            (self._pending.hosts[each.store_id], each.jail, each.late, each.first_late, each.last_late)
            for each in self._of_jails
            if each.first_late is not None and each.last_late is not None
        ]

    def spared(self, which: Sequence[tuple[str, str]]) -> Mapping[str, int]:
        """Return by id how many bans longer bans would have spared."""
        return self._here.spared(which)

    def was_prolonged(self, jails: list[str] | None) -> bool:
        """Return whether any ban was prolonged."""
        return self._here.was_prolonged(jails)

    def lifted(self) -> Iterator[tuple[Any, ...]]:
        """Yield the unbans that may have been made by hand, and their bans."""
        return self._here.lifted(by_store((end.store_id, end.upto) for end in self._all.ends))

    def last_bans(self, which: Sequence[tuple[str, str, float]]) -> Iterator[tuple[Any, ...]]:
        """Yield some last bans."""
        return self._here.last_bans(which)

    def ends_of(self, which: Sequence[tuple[str, str, float]]) -> Iterator[tuple[Any, ...]]:
        """Yield what says when these ended."""
        return self._all.ends_of(which)

    def all_of(self, ips: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield all bans of some ids."""
        return self._here.all_of(ips)

    def ends_of_all(self, ips: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield what says when these ended."""
        return self._all.ends_of_all(ips)

    def with_lines(self, which: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
        """Yield of some (jail, id) the last ban with log lines."""
        return self._here.with_lines(which)


def _stores(sent: bytes) -> "array[int]":
    """Return the numbers of an array as `array_send` writes it: 20 bytes, and of each number its length and itself."""
    found = array("I", sent[20:])
    if sys.byteorder == "little":
        found.byteswap()
    return found[1::2]
