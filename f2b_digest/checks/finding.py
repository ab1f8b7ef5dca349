"""What an examination says: one line, how bad it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of `check`."""

    state: State
    what: str
    """The part that was examined: "store", "jail sshd"."""
    text: str
    todo: str = ""
    """What the admin can do; empty where all is well, or the text says it."""


def ok(what: str, text: str) -> Finding:
    """Return the finding for a part that is as it should be."""
    return Finding("ok", what, text)


def warning(what: str, text: str, todo: str = "") -> Finding:
    """Say what works, but not for long, or not as somebody might think."""
    return Finding("warning", what, text, todo)


def error(what: str, text: str, todo: str = "") -> Finding:
    """Say what keeps a ban from being recorded, or a digest from arriving."""
    return Finding("error", what, text, todo)


def ago(seconds: float) -> str:
    """Return an age in words."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "a moment ago"


def span(seconds: float) -> str:
    """Return a duration in words: hours, or days from two of them on."""
    return f"{seconds / 86400:g} days" if seconds >= 2 * 86400 else f"{seconds / 3600:g} h"
