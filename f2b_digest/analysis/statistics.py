"""What is usual: medians, and what chance does not explain. Numbers only; no facts, no jails, no times."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Literal

FEWEST_PERIODS = 4
"""With fewer, nothing is called usual: of three, one odd period moves the median."""

# ---- silence

FEWEST_DAYS = 14
"""Days that must be known before a silence can be told from a habit: two weekends."""
SHORTEST_SILENCE = 20 / 24
"""Days. A night without bans is no news; a day of 23 hours, or a digest an hour early, still is a day."""
CHANCE_OF_SILENCE = 2e-5
"""Per jail and digest. Ten jails in a daily and a weekly digest are 8,000 chances in a hundred weeks: 0.16 false calls,
if every jail were just busy enough to be called, and days were as the model has them."""
RECENT_DAYS = 7
"""A jail that has become quieter is measured by its last week."""
LEAN = 1 / 3
"""A day is lean that has at most so large a part of the median day's bans."""
CHANCE_OF_LEAN_DAYS = 1e-4
"""As CHANCE_OF_SILENCE, for the count of lean days."""
MOST_REGULAR = 20.0
"""The negative binomial's size that no jail is believed to exceed: days differ by at least 22 % beyond counting noise,
however alike those that are known look."""


def usual(periods: Sequence[int]) -> float | None:
    """Return the median of the periods; None if they are too few."""
    return float(median(periods)) if len(periods) >= FEWEST_PERIODS else None


def silence_is_no_chance(daily: Sequence[int], days: float) -> bool:
    """Return whether a silence of so many days up to now is beyond chance; `daily` is the counts before, newest first.

    The first days of `daily` may be part of the silence.
    """
    before = tuple(daily[_empty(daily) :])
    return (
        len(before) >= FEWEST_DAYS
        and days >= SHORTEST_SILENCE
        and chance_of_silence(before, days) < CHANCE_OF_SILENCE
        and chance_of_lean_days(before, days) < CHANCE_OF_LEAN_DAYS
    )


def chance_of_lean_days(daily: Sequence[int], days: float) -> float:
    """Return the chance that so many days in a row are lean, by the share of such days; 0 if there was none.

    Bans that come in clusters (a network's addresses, one after the other; nothing for a day) make days that no
    distribution of single bans foresees. Such days show, as those do on which nobody works.
    """
    lean = LEAN * median(daily)
    return float((sum(count <= lean for count in daily) / len(daily)) ** days)


def chance_of_silence(daily: Sequence[int], days: float) -> float:
    """Return the chance that so many days pass without a ban, by the counts of usual days, newest first.

    Bans come in bursts, so that a Poisson distribution is far too sure of itself. This is a negative binomial one, a
    Poisson distribution whose mean varies from day to day: with mean m and size k, its variance is m + m²/k, and
    none at all has the chance (1 + m/k)^-k.

    m is the lowest of the median day, the median of the last week, and the mean (which is lower where many days have
    none). k comes from the days below the median only: a flood makes the mean and the variance larger, and silence no
    likelier. Neighbouring days are alike, so a week is not worth seven independent ones: k grows with the root of the
    days. That root is a choice between 1 (they are all alike) and the number of days (they know nothing of each other).
    """
    middle = median(daily)
    mean = min(middle, median(daily[:RECENT_DAYS]), fmean(daily))
    if mean <= 0:
        return 1.0
    below = [middle - count for count in daily if count < middle]
    variance = sum(lack * lack for lack in below) * 2 / len(daily)
    size = min(MOST_REGULAR, middle * middle / (variance - middle)) if variance > middle else MOST_REGULAR
    size *= math.sqrt(max(days, 1.0))
    return math.exp(-size * math.log1p(mean * days / size))


def together(series: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the sums, day by day, of several jails' counts, newest first; a jail not known that long adds none."""
    rows = tuple(series)
    return tuple(
        sum(row[day] for row in rows if day < len(row)) for day in range(max((len(row) for row in rows), default=0))
    )


def _empty(daily: Sequence[int]) -> int:
    """Return how many of the newest days had no bans."""
    return next((day for day, count in enumerate(daily) if count > 0), len(daily))


# ---- more and fewer than usual

TIMES, MORE = 2.0, 20
"""A surge has twice as many bans as usual, and twenty more: a quiet jail's first visitors in weeks are no news."""
BEYOND, BEYOND_FEW = 1.6, 2.0
"""Times what the highest of the periods had; BEYOND_FEW where there are fewer than MANY. A drop is as far below the
lowest. Without it, one of five weeks would be the highest, and news."""
MANY = 14
DEVIATIONS = 4.0
"""Standard deviations between the usual and a surge or a drop."""
FEWEST_TO_DROP = 20
"""Bans: what is usual must not be less for a drop to be news."""


def unusual(bans: int, periods: Sequence[int]) -> Literal["surge", "drop"] | None:
    """Return whether so many bans are far more or fewer than in the periods before; None also if these are too few.

    The standard deviation is 1.4826 times the median absolute deviation (what that is in a normal distribution), as one
    flood among the periods must not hide the next; but at least that of a Poisson distribution.
    """
    middle = usual(periods)
    if middle is None:
        return None
    deviation = max(1.4826 * median([abs(count - middle) for count in periods]), math.sqrt(max(middle, 1.0)))
    beyond = BEYOND if len(periods) >= MANY else BEYOND_FEW
    if abs(bans - middle) < DEVIATIONS * deviation:
        return None
    if bans >= max(TIMES * middle, middle + MORE, beyond * max(periods)):
        return "surge"
    few = middle >= FEWEST_TO_DROP and bans * beyond <= min(periods) and bans * TIMES <= middle
    return "drop" if few and bans > 0 else None
