"""Parsing times on the command line: an age, a day, a date, in a report's zone. No clock is read here."""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import click

_AGES = {"h": "hours", "d": "days", "w": "weeks"}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BACK = {"today": 0, "yesterday": 1}
KNOWN = "2026-11-17, '2026-11-17 14:00', yesterday, monday, 12h, 7d, 2w"


class Day(NamedTuple):
    """A day of a zone's calendar, in UTC epoch seconds."""

    start: float
    end: float
    """Excluded."""


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def options(since: str, until: str) -> Callable[[Decorated], Decorated]:
    """Add the options `since` and `until` to a command, with these help texts."""

    def decorate(command: Decorated) -> Decorated:
        last = click.option("--until", metavar="TIME", help=until)
        return click.option("--since", metavar="TIME", help=since)(last(command))

    return decorate


def bounds(since: str | None, until: str | None, now: float, zone: ZoneInfo) -> tuple[float | None, float | None]:
    """Return both times of a command in UTC epoch seconds. Raises click's UsageError."""
    start = None if since is None else moment_of(since, now, zone)
    end = None if until is None else moment_of(until, now, zone)
    if start is not None and start >= (now if end is None else end):
        raise click.UsageError("--since is not before --until")
    return start, end


def moment_of(text: str, now: float, zone: ZoneInfo) -> float:
    """Return the epoch seconds of a time, or of the beginning of a day, as journalctl does. Raises UsageError."""
    age = re.fullmatch(r"(\d{1,5})([hdw])", text.strip())
    if age:
        return now - timedelta(**{_AGES[age[2]]: int(age[1])}).total_seconds()
    day = day_of(text, now, zone)
    if day is not None:
        return day.start
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"invalid time {text!r}; use {KNOWN}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def day_of(text: str, now: float, zone: ZoneInfo) -> Day | None:
    """Return the day that a word or a date names; a weekday is the last one that has begun; None for anything else."""
    today, word = datetime.fromtimestamp(now, zone).date(), text.strip().lower()
    if word in _BACK:
        return _day(today - timedelta(days=_BACK[word]), zone)
    weekday = next((n for n, name in enumerate(_WEEKDAYS) if word in (name, name[:3])), None)
    if weekday is not None:
        return _day(today - timedelta(days=(today.weekday() - weekday) % 7), zone)
    try:
        return _day(date.fromisoformat(word), zone) if re.fullmatch(r"\d{4}-\d\d-\d\d", word) else None
    except (ValueError, OverflowError):
        return None


def _day(day: date, zone: ZoneInfo) -> Day:
    start, end = (datetime.combine(each, time(), zone).timestamp() for each in (day, day + timedelta(days=1)))
    return Day(start, end)
