"""The selection of a digest's bans, as a plain value. Its SQL is in f2b_digest.store.selected."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Selection:
    """Which bans: of an id range, or of a period (UTC epoch seconds, the end excluded); and of which jails."""

    first_id: int = 0
    last_id: int = 0
    after: int = 0
    """The digest that took the events before `first_id`, or 0: only one digest can follow it."""
    since: float | None = None
    until: float | None = None
    jails: tuple[str, ...] = ("*",)
    """Shell patterns; a leading "!" excludes."""
    hosts: tuple[str, ...] = ("*",)
    """The same, for a store with the events of several hosts."""


def matches(jail: str, patterns: Sequence[str]) -> bool:
    """Return whether a report's patterns match a jail: some pattern does, and no "!pattern" excludes it."""
    taken_in = any(fnmatchcase(jail, pattern) for pattern in patterns if not pattern.startswith("!"))
    return taken_in and not any(fnmatchcase(jail, pattern[1:]) for pattern in patterns if pattern.startswith("!"))
