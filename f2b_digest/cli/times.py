"""Times as people write them: an age, a day, a date, all in a report's zone. No clock is read here."""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import click

_AGES = {"h": "hours", "d": "days", "w": "weeks"}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BACK = {"today": 0, "yesterday": 1}
KNOWN = "2026-11-17, '2026-11-17 14:00', yesterday, monday, 12h, 7d or 2w"


class Day(NamedTuple):
    """A day of a zone's calendar, in UTC epoch seconds."""

    start: float
    end: float
    """Excluded."""


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `since` and `until`."""
    until = click.option("--until", metavar="TIME", help="Up to this time, or the end of this day.")
    return click.option("--since", metavar="TIME", help="From this time on.")(until(command))


def start_of(text: str, now: float, zone: ZoneInfo) -> float:
    """Return the epoch seconds of a time, of a day its beginning. Raises click's UsageError."""
    day = day_of(text, now, zone)
    return _moment(text, now, zone) if day is None else day.start


def end_of(text: str, now: float, zone: ZoneInfo) -> float:
    """Return the epoch seconds of a time, of a day its end. Raises click's UsageError."""
    day = day_of(text, now, zone)
    return _moment(text, now, zone) if day is None else day.end


def bounds(since: str | None, until: str | None, now: float, zone: ZoneInfo) -> tuple[float | None, float | None]:
    """Return both times of a command. Raises click's UsageError."""
    start = None if since is None else start_of(since, now, zone)
    end = None if until is None else end_of(until, now, zone)
    if start is not None and start >= (now if end is None else end):
        raise click.UsageError("--since is not before --until")
    return start, end


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


def _moment(text: str, now: float, zone: ZoneInfo) -> float:
    age = re.fullmatch(r"(\d{1,5})([hdw])", text.strip())
    if age:
        return now - timedelta(**{_AGES[age[2]]: int(age[1])}).total_seconds()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is no time like {KNOWN}") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
