"""What the jails of the month have to ban, day by day: windows of real histories. No test stands here."""

import random
from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from ipaddress import ip_address

from tests.support.histories import FOLDER, History, histories
from tests.support.parts import missing

DAY = timedelta(days=1)
AGAIN = 60 * 3600.0
"""Seconds after which a jail bans an address again: its ban time of a day, and two nights in which it is lifted."""
MOST = 150
"""Bans of a jail on its worst day."""
Attempt = tuple[datetime, tuple[str, str]]
"""When, and jail and address."""
SOURCES = {"sshd": ("airencracken", "florent", "jabedude"), "web": ("airencracken",), "late": ("florent", "tcoupin")}
"""Jails, and the histories they take a window of."""
STEADY = {"web": 15}
"""A jail that bans at least so often on each day: its silence is to be noticed."""


@cache
def _history(name: str) -> History:
    found = list(histories(FOLDER, [name])) if FOLDER.is_dir() else []
    return found[0] if found else missing(f"the history {name}", f"put its file below {FOLDER} (F2B_DIGEST_HISTORIES)")


def attempts(rng: random.Random, begin: datetime, days: int) -> list[Attempt]:
    """Return what is to be banned in so many days, in the order of time; each is a ban of its own."""
    found = [each for jail, names in SOURCES.items() for each in _of_jail(rng, jail, names, begin, days)]
    return sorted(found)


def _of_jail(rng: random.Random, jail: str, names: tuple[str, ...], begin: datetime, days: int) -> list[Attempt]:
    while True:
        history = _history(rng.choice(names))
        length = days * 86400.0
        since = rng.uniform(history.times[0], history.times[-1] - length)
        rows = history.between(since, since + length)
        bans = [(row[4] - since, row[3]) for row in rows if row[0] == "ban" and ip_address(row[3]).is_global]
        window = _distinct(bans)
        by_day = Counter(int(after // 86400) for after, _ in window)
        if STEADY.get(jail, 0) <= min(by_day[day] for day in range(days)) and max(by_day.values(), default=0) <= MOST:
            return [(begin + timedelta(seconds=after), (jail, ip)) for after, ip in window]


def _distinct(window: list[tuple[float, str]]) -> list[tuple[float, str]]:
    last: dict[str, float] = {}
    kept = []
    for at, ip in window:
        if at - last.get(ip, -AGAIN) >= AGAIN:
            last[ip] = at
            kept.append((at, ip))
    return kept
