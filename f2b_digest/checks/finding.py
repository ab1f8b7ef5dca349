"""A finding: one line, its severity, and what to do."""

from dataclasses import dataclass
from typing import Literal

from f2b_digest.periods import DAY, HOUR

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of `check`."""

    state: State
    what: str
    """The checked part: "store", "jail sshd"."""
    text: str
    todo: str = ""
    """What to do; empty if ok, or included in the text."""


def ok(what: str, text: str) -> Finding:
    """Return a finding that a part is ok."""
    return Finding("ok", what, text)


def warning(what: str, text: str, todo: str = "") -> Finding:
    """Return a warning: it works, but not for long, or not as expected."""
    return Finding("warning", what, text, todo)


def error(what: str, text: str, todo: str = "") -> Finding:
    """Return an error: bans are not recorded, or digests do not arrive."""
    return Finding("error", what, text, todo)


def ago(seconds: float) -> str:
    """Return an age in words."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "a moment ago"


def due(seconds: float) -> str:
    """Return an interval as one says when a digest is due: "daily", "every 2 h"."""
    seconds = round(seconds / 60) * 60.0  # what was measured is not exact
    named = {DAY: "daily", 7 * DAY: "weekly", HOUR: "hourly"}
    return "monthly" if 28 * DAY <= seconds <= 31 * DAY else named.get(seconds) or f"every {span(seconds)}"


def span(seconds: float) -> str:
    """Return a duration in words: minutes below one hour, hours, or days from two of them on."""
    if seconds < HOUR:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / DAY:.3g} days" if seconds >= 2 * DAY else f"{seconds / HOUR:.3g} h"
