"""Statistics: medians, and deviations beyond chance. Plain numbers only: no facts, jails or times."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Literal

DAY = 86400.0
FEWEST_PERIODS = 4
"""Minimum number of periods: of three, one outlier moves the median."""

JUDGED = 10
"""Jails of one digest for which all thresholds are set; of a fleet, each jail of each host is one."""


def times_further(judged: float) -> float:
    """Return how many times as far away an unusual count must be as in a digest of `JUDGED` jails; at least 1.

    It grows with the logarithm of their number, as the tails of these counts are about exponential.
    """
    return 1.0 + FURTHER * math.log10(times_chances(judged))


# ---- silence

FEWEST_DAYS, FEWEST_BANS = 14, 60
"""Days and bans needed to judge a silence: two weekends, and enough gaps."""
# A night without bans is not news; a day of 23 hours, or a digest an hour early, still counts as a day.
SHORTEST_SILENCE = 20 * 3600.0
"""Minimum seconds of a silence."""
LONG_GAPS = 30
"""Number of longest gaps to extrapolate from: each night's, or of a slow jail one gap in two."""
EXPECTED_GAPS = 1e-3
"""So many gaps as long as the silence may be expected in four weeks. Ten jails have 250 times four weeks in a hundred
weeks: 0.25 false calls, if gaps were as the model has them."""
SHORTEST_EXCESS = 3600.0
"""Seconds: lower bound of the scale of gaps, however alike the long gaps look."""
CHANCE_OF_SILENCE = 1e-3
"""Chance, by the days' counts, that must not be exceeded."""
RECENT_DAYS = 7
"""Days of the last week, for jails that have become quieter."""
# However alike the known days look, days differ by at least 22 % beyond counting noise.
MOST_REGULAR = 20.0
"""Upper bound of the negative binomial's size."""
LEAN = 1 / 5
"""A lean day has at most this share of the median day's bans."""
CHANCE_TOGETHER, CHANCE_OF_LEAN_DAYS = 2e-5, 1e-4
"""For several jails, whose common gaps are unknown: chance of no ban, and of so many lean days."""


def times_chances(judged: float) -> float:
    """Return how many times as often chance speaks in a digest as in one of `JUDGED` jails; at least 1."""
    return max(1.0, judged / JUDGED)


def usual(periods: Sequence[int]) -> float | None:
    """Return the median of the periods; None if there are too few."""
    return float(median(periods)) if len(periods) >= FEWEST_PERIODS else None


def silence_is_no_chance(daily: Sequence[int], gaps: Sequence[float], seconds: float, judged: float = JUDGED) -> bool:
    """Return whether a silence is beyond chance, given the activity before it; `judged` jails are judged in a digest.

    `daily` is the counts of the days up to the last ban, newest first; `gaps` the longest seconds between two bans in
    them, the longest first, more than `LONG_GAPS`.
    """
    return (
        seconds >= SHORTEST_SILENCE
        and len(daily) >= FEWEST_DAYS
        and sum(daily) >= FEWEST_BANS
        and len(gaps) > LONG_GAPS
        and expected_gaps(gaps, seconds) < EXPECTED_GAPS / times_chances(judged)
        and chance_of_silence(daily, seconds / DAY) < CHANCE_OF_SILENCE / times_chances(judged)
    )


def silence_together_is_no_chance(daily: Sequence[int], seconds: float, judged: float = JUDGED) -> bool:
    """Return whether a silence of several jails is beyond chance, by the sums of their days, newest first."""
    return (
        seconds >= SHORTEST_SILENCE
        and len(daily) >= FEWEST_DAYS
        and chance_of_silence(daily, seconds / DAY) < CHANCE_TOGETHER / times_chances(judged)
        and chance_of_lean_days(daily, seconds / DAY) < CHANCE_OF_LEAN_DAYS / times_chances(judged)
    )


def expected_gaps(gaps: Sequence[float], seconds: float) -> float:
    """Return the expected number of gaps of that length, given the longest ones.

    What is longer than the thirty-first longest gap is so by a time that is distributed exponentially, as the tails of
    most distributions are: nights, weekends and clusters of bans are in the gaps themselves. That needs no model of the
    days, and finds a busy jail dead after 20 hours where its days' counts, which differ, would take a week.
    """
    longest, base = gaps[:LONG_GAPS], gaps[LONG_GAPS]
    excess = max(fmean(longest) - base, SHORTEST_EXCESS)
    return LONG_GAPS * math.exp(-max(seconds - base, 0.0) / excess)


def chance_of_lean_days(daily: Sequence[int], days: float) -> float:
    """Return the chance that so many days in a row are lean, by the share of such days; 0 if there was none.

    Bans that come in clusters (a network's addresses, one after the other; nothing for a day) make days that no
    distribution of single bans foresees. Such days show, as those do on which nobody works.
    """
    lean = LEAN * median(daily)
    return float((sum(count <= lean for count in daily) / len(daily)) ** days)


def chance_of_silence(daily: Sequence[int], days: float) -> float:
    """Return the chance that so many days pass without a ban, by the counts of usual days, newest first.

    Bans come in bursts, so a Poisson distribution is overconfident. This is a negative binomial one, a
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


# ---- more and fewer than usual

# By a factor alone, a quiet jail's first bans in weeks would be news.
TIMES, MORE = 2.0, 20
"""A surge has at least this factor of the usual bans, and this many more."""
# Without it, one of five weeks would always be the highest, and news.
BEYOND, BEYOND_FEW = 1.6, 2.0
"""Factor beyond the highest of the periods; BEYOND_FEW if there are fewer than MANY. A drop is as far below the
lowest."""
MANY = 14
DEVIATIONS = 4.0
"""Standard deviations between the usual and a surge or a drop."""
FURTHER = 0.5
"""How much further a count must be away with ten times the jails, as a share."""
FEWEST_TO_DROP = 20
"""Bans: lowest usual count for which a drop is news."""


def unusual(bans: int, periods: Sequence[int], judged: float = JUDGED) -> Literal["surge", "drop"] | None:
    """Return whether a count is a surge or drop against the periods before; None if neither, or if there are too few.

    With more than `JUDGED` jails it must be further away: see `times_further`.

    The standard deviation is 1.4826 times the median absolute deviation (what that is in a normal distribution), as one
    flood among the periods must not hide the next; but at least that of a Poisson distribution.
    """
    middle = usual(periods)
    if middle is None:
        return None
    deviation = max(1.4826 * median([abs(count - middle) for count in periods]), math.sqrt(max(middle, 1.0)))
    further = times_further(judged)
    beyond = (BEYOND if len(periods) >= MANY else BEYOND_FEW) * further
    if abs(bans - middle) < DEVIATIONS * (further if bans > middle else 1.0) * deviation:
        return None
    if bans >= max(TIMES * middle, middle + MORE * further, beyond * max(periods)):
        return "surge"
    few = middle >= FEWEST_TO_DROP * further and bans * beyond <= min(periods) and bans * TIMES <= middle
    return "drop" if few and bans > 0 else None
