"""What must be true of a store, in plain Python: no SQL, no files, no clock. Nothing of the product is called here."""

from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

Bans = Counter[tuple[str, str]]
"""How many bans there are of each (jail, ip)."""


class Event(NamedTuple):
    """One event; two with the same key are one."""

    kind: str
    jail: str
    ip: str
    at: float
    recorded_at: float = 0.0
    history: bool = False

    @property
    def key(self) -> tuple[str, str, str, float]:
        """Return what tells it from others."""
        return self[:4]

    @property
    def is_told(self) -> bool:
        """Return whether reports tell it."""
        return self.kind == "ban" and not self.history


class Digest(NamedTuple):
    """Events `first` to `last` (excluded) as a report told them, and who has to get it: (channel, recipient)."""

    report: str
    first: int
    last: int
    bans: Bans
    readers: frozenset[tuple[str, str]]


@dataclass
class Model:
    """The store as a list: whoever records appends to it, and every report has a mark in it."""

    events: list[Event] = field(default_factory=list)
    live: set[int] = field(default_factory=set)
    """Indexes of the events that were not pruned."""
    spool: list[Event] = field(default_factory=list)
    marks: Counter[str] = field(default_factory=Counter)
    """How many events each report has behind it."""
    digests: dict[str, Digest] = field(default_factory=dict)

    def record(self, event: Event) -> None:
        """Append an event, unless it is there."""
        if event.key not in self.keys():
            self.live.add(len(self.events))
            self.events.append(event)

    def keys(self) -> set[tuple[str, str, str, float]]:
        """Return what the store must hold."""
        return {self.events[index].key for index in self.live}

    def pending(self, report: str, jails: tuple[str, ...], last: int | None = None) -> Bans:
        """Return what a report has not told."""
        indexes = range(self.marks[report], len(self.events) if last is None else last)
        events = [self.events[index] for index in indexes if index in self.live]
        return Counter((event.jail, event.ip) for event in events if event.is_told and matches(event.jail, jails))

    def seal(self, uuid: str, report: str, jails: tuple[str, ...], last: int, readers: set[tuple[str, str]]) -> None:
        """Put what is pending before `last` into a digest."""
        bans = self.pending(report, jails, last)
        self.digests[uuid] = Digest(report, self.marks[report], last, bans, frozenset(readers))
        self.marks[report] = last

    def needed(self, index: int, reports: dict[str, tuple[str, ...]], unfinished: set[str]) -> bool:
        """Return whether one of these reports has still to tell an event, or to deliver it."""
        event = self.events[index]
        return event.is_told and any(
            matches(event.jail, jails)
            and (
                self.marks[name] <= index
                or any(d.report == name and d.first <= index < d.last for d in map(self.digests.get, unfinished) if d)
            )
            for name, jails in reports.items()
        )


def matches(jail: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a report's patterns take a jail in."""
    return any(fnmatchcase(jail, p) for p in patterns) and not any(
        fnmatchcase(jail, p[1:]) for p in patterns if p[0] == "!"
    )
