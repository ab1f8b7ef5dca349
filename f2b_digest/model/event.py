"""One event as it is appended to the store; its fields are the columns of the recorder's INSERT, in that order."""

from collections.abc import Iterable
from typing import NamedTuple, Self

from f2b_digest import recorder

EARLIER, LATER = 2.0, 30.0
"""Seconds: fail2ban's log dates a ban up to this much later than its database, which has the time of the last
failure."""


class Event(NamedTuple):
    """A ban, a prolongation or an end of one, or a jail's start or stop."""

    kind: str
    """One of `recorder.KINDS`."""
    host: str
    jail: str
    ip: str
    """What was banned: an address, a network or any text; "" for a jail's start and stop."""
    at: float
    """UTC epoch seconds: the ban's time, for its prolongation and end too."""
    recorded_at: float
    """UTC epoch seconds."""
    failures: int | None
    """None where unknown."""
    bantime: int | None
    """Seconds, -1 for permanent, None where unknown."""
    bancount: int | None
    users: str | None
    """A JSON list of names, or None where there are none."""
    matches: str | None
    """Log lines."""
    source: str
    """Where it was read: "action", "shell", "record", "log", "database", "buffered"."""
    history: int
    """1 for imported history, which is never reported."""

    @classmethod
    def of(
        cls, kind: str, jail: str, ip: str, at: float, host: str, source: str, *, recorded_at: float | None = None,
        failures: int | str | None = None, bantime: float | None = None, bancount: int | None = None,
        users: Iterable[str] = (), matches: str | None = None, history: bool = False,
    ) -> Self:  # fmt: skip
        """Return an event with every value made storable by the recorder; `recorded_at` defaults to now."""
        return cls._make(
            recorder.event(
                kind, jail, ip, at, host, source, recorded_at=recorded_at, failures=failures, bantime=bantime,
                bancount=bancount, users=users, matches=matches, history=history,
            )
        )  # fmt: skip

    def times_elsewhere(self) -> tuple[float, float]:
        """Return the range (start, end; UTC epoch seconds) in which another source may date the same ban."""
        before, after = (LATER, EARLIER) if self.source == "log" else (EARLIER, LATER)
        return self.at - before, self.at + after
