"""The file in which fail2ban's sendmail-buffered and mail-buffered keep the bans that they have not mailed yet.

A line of it is "`date`: <ip> (<failures> failures)": without a jail, and in the words of the system's locale.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest import recorder
from f2b_digest.sources.files import Row, Tally, open_binary

_LINE = re.compile(r"(.*\d\d:\d\d:\d\d.*?): (\S.*) \((\d+) failures\)\s*")
_DATES = ("%a %b %d %H:%M:%S %Y", "%a %d %b %H:%M:%S %Y", "%a %d %b %Y %I:%M:%S %p", "%a %b %d %I:%M:%S %p %Y")
"""What `date` prints in the C locale and in English ones, without the zone's name."""
JAIL = "unknown"
"""The file does not say which jail it was."""


def is_one(path: Path) -> bool:
    """Say whether a file's first line is one of sendmail-buffered's."""
    with open_binary(path) as file:
        return _LINE.fullmatch(file.readline(1000).decode("utf-8", "replace")) is not None


def read(path: Path, host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Row]:
    """Yield the bans of one file; damaged lines are counted in `tally`. Raises SourceError."""
    with open_binary(path) as file:
        for line in file:
            tally.lines += 1
            text = line.decode("utf-8", "backslashreplace")
            found = _LINE.fullmatch(text)
            at = _time(found[1], zone) if found else None
            if not found or at is None:
                tally.damaged += 1
                tally.first_damaged = tally.first_damaged or repr(text[:200])
                continue
            yield recorder.event(
                "ban", JAIL, found[2], at, host, "buffered", recorded_at=at, failures=found[3], history=history
            )


def _time(text: str, zone: ZoneInfo) -> float | None:
    """Return the epoch seconds of what `date` printed; the zone's name in it is taken for the one given."""
    plain = re.sub(r"\s+(?:[A-Z]{3,5}|[+-]\d\d(?:\d\d)?)(?=\s|$)(?<!AM)(?<!PM)", "", text)
    for form in _DATES:
        try:
            return datetime.strptime(plain, form).replace(tzinfo=zone).timestamp()
        except ValueError:
            continue
    return None
