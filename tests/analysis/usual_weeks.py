"""Usual weeks of a host with ten jails, made up: counts by the hour, and the baselines that a store would give of them.

Nothing is judged here. What is usual: a rhythm of the day and of the week, days that differ by more than counting does,
bans in clusters, visits of a botnet that last some hours, and a level that drifts.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from f2b_digest.analysis import SHORTEST_SILENCE
from f2b_digest.model.bans import Rebans
from f2b_digest.model.baseline import Baseline, Quiet

RATES = {
    "sshd": 400.0, "nginx-botsearch": 150.0, "postfix-sasl": 80.0, "dovecot": 40.0, "nginx-http-auth": 20.0,
    "recidive": 10.0, "apache-auth": 5.0, "vsftpd": 2.0, "mysqld-auth": 0.5, "webmin-auth": 0.2,
}  # fmt: skip
"""Bans a day of each jail, on the average."""
HISTORY, WEEKS_BEFORE = 28, 4
"""Days of a baseline, and weeks before the first digest that is judged."""
NO_REBANS = Rebans(spared=0, spared_addresses=0, frequent=0, frequent_bans=0, prolonged=False)
GAPS = 31
"""The longest gaps that a store tells."""


@dataclass(frozen=True)
class History:
    """The bans of each hour of each jail, oldest first; hour 0 is Monday, 00:00 UTC, at epoch 345600."""

    hours: Mapping[str, list[int]]

    def bans(self, jail: str, day: int, days: int = 1) -> int:
        """Return the bans of a jail in this many days from a day on."""
        return sum(self.hours[jail][day * 24 : (day + days) * 24])

    def baseline(self, day: int, days: int) -> Baseline:
        """Return what a store says of a digest of this many days that begins at a day's start."""
        starts = [day - days * back for back in range(1, max(HISTORY // days, 4) + 1)]
        windows = {jail: tuple(self.bans(jail, start, days) for start in starts) for jail in self.hours}
        every = tuple(sum(row) for row in zip(*windows.values(), strict=True))
        return Baseline(
            windows=windows,
            all=every,
            quiet={jail: quiet for jail in self.hours if (quiet := self._quiet(jail, (day + days) * 24))},
            last={
                jail: epoch(last / 24) + 1800 for jail in self.hours if (last := self._last(jail, day * 24)) is not None
            },
            before={jail: counts[0] for jail, counts in windows.items()},
            before_all=every[0],
        )

    def _last(self, jail: str, before: int) -> int | None:
        """Return the last hour with a ban."""
        return next((hour for hour in range(before - 1, -1, -1) if self.hours[jail][hour]), None)

    def _quiet(self, jail: str, end: int) -> Quiet | None:
        """Return how a jail banned before its last ban, if that is a while ago; an hour's bans are spread evenly."""
        hour = self._last(jail, end)
        if hour is None or end - hour <= SHORTEST_SILENCE / 3600:
            return None
        first = max(0, hour + 1 - HISTORY * 24)
        counts = self.hours[jail][first : hour + 1]
        times = [3600 * (at + (ban + 0.5) / bans) for at, bans in enumerate(counts, first) for ban in range(bans)]
        last, days = times[-1], min(HISTORY, (hour + 1) // 24)
        gaps = sorted((later - earlier for earlier, later in pairwise(times)), reverse=True)
        daily = [sum(self.hours[jail][hour + 1 - 24 * (day + 1) : hour + 1 - 24 * day]) for day in range(days)]
        return Quiet(epoch(0) + last, tuple(daily), tuple(gaps[:GAPS]))


def epoch(day: float) -> float:
    """Return when a day of a history begins, in UTC epoch seconds."""
    return 345600 + day * 86400


def history(seed: int, weeks: int, rates: Mapping[str, float] | None = None, *, steady: bool = False) -> History:
    """Return made-up bans of this many weeks, reproducible by their seed; steady ones vary little beyond a rhythm."""
    chance = random.Random(seed)
    return History({jail: _jail(chance, weeks * 7, rate, steady=steady) for jail, rate in (rates or RATES).items()})


def _jail(chance: random.Random, days: int, rate: float, *, steady: bool) -> list[int]:
    """Return a jail's hours.

    Steady jails vary by some 14 % from day to day beyond counting (size 50 of a gamma distribution). Of the others,
    two thirds by 30 % (size 10: at 20 bans a day, three times Poisson's variance; at 400, forty times), the rest by
    45 %; weekends have 60 to 110 %. The level wanders by 5 % a day around its mean, some 20 % in all. In every third
    jail bans come in clusters of three, on the average. About once in two weeks a botnet comes for two to eight hours.
    """
    size = chance.choice((5.0, 10.0, 10.0))
    cluster = 1 if steady else chance.choice((1, 1, 3))
    weekend = chance.uniform(0.6, 1.1)
    level = 0.0
    hours: list[int] = []
    visits: dict[int, float] = {}
    for day in range(days):
        level = 0.0 if steady else 0.97 * level + chance.gauss(0, 0.05)
        mean = rate * math.exp(level) * (weekend if day % 7 >= 5 and not steady else 1.0)
        mean *= chance.gammavariate(50, 1 / 50) if steady else chance.gammavariate(size, 1 / size)
        if chance.random() < 1 / 14 and not steady:
            length, begin = chance.randint(2, 8), day * 24 + chance.randrange(24)
            visits.update(dict.fromkeys(range(begin, begin + length), rate * chance.uniform(0.3, 1.0) / length))
        for hour in range(24):
            rhythm = 1 + 0.5 * math.sin(2 * math.pi * (hour - 8) / 24)
            clusters = _poisson(chance, (mean / 24 * rhythm + visits.get(day * 24 + hour, 0.0)) / cluster)
            hours.append(sum(1 + _poisson(chance, cluster - 1) for _ in range(clusters)))
    return hours


def _poisson(chance: random.Random, mean: float) -> int:
    """Return a random count, by the times between arrivals."""
    count, left = 0, chance.expovariate(1.0)
    while left < mean:
        count += 1
        left += chance.expovariate(1.0)
    return count


def kill(past: History, jail: str, hour: int) -> None:
    """End a jail's bans at an hour."""
    past.hours[jail][hour:] = [0] * (len(past.hours[jail]) - hour)
