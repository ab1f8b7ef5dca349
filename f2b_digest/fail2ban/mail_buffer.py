"""Buffer files of fail2ban's mailing actions: bans not mailed yet, one per line.

sendmail-buffered and mail-buffered write "`date`: <ip> (<failures> failures)": without a jail, and in the words of the
system's locale. A home-made action for a mail by cron writes "`date`: <jail> ban <ip> after <failures> failure(s)".
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest import recorder
from f2b_digest.fail2ban.files import Tally, lines_of
from f2b_digest.model.event import Event

_LINE = re.compile(
    r"(?P<date>[^:]*\d\d:\d\d:\d\d[^:]*|\d{4}-\d\d-\d\dT[\d:]+[+-]\d\d:?\d\d): "
    r"(?:(?P<ip>\S.*) \((?P<failures>\d+) failures\)|"
    r"(?P<jail>\S.*?) ban (?P<its_ip>\S.*) after (?P<its_failures>\d+) failure\(s\))\s*"
)
_DATES = (
    "%a %b %d %H:%M:%S %Y", "%a %d %b %H:%M:%S %Y", "%a %d %b %Y %I:%M:%S %p", "%a %b %d %I:%M:%S %p %Y",
    "%a %d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S",
)  # fmt: skip
"""What `date` prints in the C locale and in English ones, without the zone's name."""
JAIL = "unknown"
"""The jail, which the files of fail2ban's own actions do not contain."""


def is_line(line: bytes) -> bool:
    """Return whether a line is from such a file."""
    return _LINE.fullmatch(line.decode("utf-8", "replace")) is not None


def read(path: Path, host: str, zone: ZoneInfo, tally: Tally, *, history: bool) -> Iterator[Event]:
    """Yield the bans of one file; lines that cannot be parsed are counted in `tally`. Raises SourceError."""
    for line in lines_of(path):
        tally.lines += 1
        found = _LINE.fullmatch(line.decode("utf-8", "backslashreplace"))
        at = _time(found["date"], zone) if found else None
        if found and at is not None:
            jail, ip = found["jail"] or JAIL, found["ip"] or found["its_ip"]
            failures = found["failures"] or found["its_failures"]
            if jail != recorder.SCRATCH_JAIL:
                yield Event.of(
                    "ban", jail, ip, at, host, "buffered", recorded_at=at, failures=failures, history=history
                )
        elif line.strip():
            tally.lost(path, line)


def _time(text: str, zone: ZoneInfo) -> float | None:
    """Return the epoch seconds of what `date` printed; the zone's name is ignored in favour of the given zone."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except ValueError:
        pass
    plain = re.sub(r"\s+(?:[A-Z]{3,5}|[+-]\d\d(?:\d\d)?)(?=\s|$)(?<!AM)(?<!PM)", "", text)
    for form in _DATES:
        try:
            return datetime.strptime(plain, form).replace(tzinfo=zone).timestamp()
        except ValueError:
            continue
    return None
