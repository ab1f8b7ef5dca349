"""Benchmark: what is told of real histories of bans, what is reported twice, and how soon a dead jail is reported.

Run: python -m tests.benchmarks.histories [FOLDER] [--only NAME…] [--deaths N] [--show KIND…]. FOLDER is of the form of
../shared/histories, the default. Each history is replayed through the real `send`, with a daily and a weekly report.
"""

import argparse
import math
import os
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.histories import DAY, FOLDER, History, Issue, Replay, histories

DEATHS = 40
"""Planted in each history."""
PATIENCE = 14
"""Days after which a death counts as never told."""
LEARNED = 28
"""Days of history before the first death."""
MORE = 1.6
"""Times what was reported before: something new."""
DAILY_SILENCE, WEEKLY_SILENCE = 3, 6.5 * DAY
"""Digests in a row, and seconds from one to the next from then on, in which a silence may be reported again."""
LASTING = frozenset(("silent", "stopped", "down"))
"""Kinds of what is reported until it ends."""
BUSY, SLOW = 40.0, 15.0
"""Bans a day of the two classes of jails whose deaths are timed."""


@dataclass
class Told:
    """What one report of a history told."""

    issues: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    lines: list[int] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    last: dict[tuple[Any, ...], tuple[int, float]] = field(default_factory=dict)
    """By finding, its size and the number of digests in a row that told it, from the digest before."""
    silences: dict[tuple[Any, ...], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, issue: Issue) -> None:
        """Count a digest."""
        self.issues += 1
        self.verdicts[issue.digest.verdict] += 1
        self.lines.append(len(issue.text.splitlines()))
        now: dict[tuple[Any, ...], tuple[int, float]] = {}
        for fact in issue.digest.facts:
            self.kinds[fact.kind] += 1
            name, size = identity(fact), getattr(fact, "addresses", None) or getattr(fact, "bans", None) or 0
            now[name] = (size, issue.sent_at)
            if self._is_repeated(name, size, issue.sent_at, fact):
                day = datetime.fromtimestamp(issue.sent_at, UTC)
                self.repeated.append(f"{day:%Y-%m-%d} {issue.report}: {' '.join(map(str, name))}, {size}")
        self.last = now

    def _is_repeated(self, name: tuple[Any, ...], size: int, at: float, fact: Any) -> bool:
        if fact.kind in LASTING:
            key = (*name, getattr(fact, "last", None) or getattr(fact, "since", None))
            self.silences[key].append(at)
            times = self.silences[key]
            return len(times) > DAILY_SILENCE and times[-1] - times[-2] < WEEKLY_SILENCE
        before = self.last.get(name)
        return before is not None and size < MORE * before[0] and not getattr(fact, "needs_you", False)


def identity(fact: Any) -> tuple[Any, ...]:
    """Return what makes a finding the same one on another day."""
    keys = ("jail", "network", "asn", "user", "ip")
    return (fact.kind, *(getattr(fact, key) for key in keys if getattr(fact, key, None) is not None))


@dataclass
class Result:
    """All that a replay of one history showed."""

    history: History
    told: dict[str, Told] = field(default_factory=lambda: {"daily": Told(), "weekly": Told()})
    mute: int = 0
    """Days on which nothing was sent."""
    days: int = 0
    red: list[str] = field(default_factory=list)
    deaths: list[tuple[float, float]] = field(default_factory=list)
    """The jail's bans a day, and the days until its death was reported."""


def replay(history: History, folder: Path, deaths: int = DEATHS, show: Sequence[str] = ()) -> Result:
    """Live through a history; plant deaths at random hours."""
    result, host = Result(history), Replay(history, folder / "host")
    chance = random.Random(history.name)
    days = range(LEARNED, int(history.days) - 1)
    planted = frozenset(chance.sample(days, min(deaths, len(days))))
    for day in range(math.ceil((history.times[-1] - host.now) / DAY)):
        if day in planted and (rate := _rate(history, host.now)) >= SLOW:
            at = host.now + DAY * chance.random()
            result.deaths.append((rate, _until_told(host.copy(folder / f"death{day}"), at)))
        issues = host.live(host.now + DAY)
        result.days += 1
        result.mute += not issues
        for issue in issues:
            result.told[issue.report].add(issue)
            line = f"{datetime.fromtimestamp(issue.sent_at, UTC):%Y-%m-%d} {issue.report}: "
            for fact in issue.digest.facts:
                if fact.needs_you:
                    result.red.append(f"{line}{fact}")
                if fact.kind in show:
                    print(f"    {line}{fact}")
    return result


def _rate(history: History, now: float) -> float:
    """Return the median of the bans of the 28 days before; 0 unless the last of these days had some."""
    counts = [
        sum(row[0] == "ban" for row in history.between(now - (day + 1) * DAY, now - day * DAY)) for day in range(28)
    ]
    return float(median(counts)) if counts[0] else 0.0


def _until_told(host: Replay, death: float) -> float:
    """Return the days from a death until the daily report tells it; infinite if it does not in `PATIENCE` days."""
    host.reports = ("daily",)
    for _ in range(PATIENCE):
        for issue in host.live(host.now + DAY, dead_from=death):
            if issue.sent_at > death and any(fact.kind in LASTING for fact in issue.digest.facts):
                return (issue.sent_at - death) / DAY
    return math.inf


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which so large a part of the values is."""
    return sorted(values)[min(len(values) - 1, math.ceil(part * len(values)) - 1)]


def report(result: Result) -> Iterator[str]:
    """Yield what is printed of a history."""
    yield f"{result.history.name}: {result.days} days, {result.mute} without a digest"
    for name, told in result.told.items():
        if told.issues:
            share = {key: 100 * count / told.issues for key, count in sorted(told.verdicts.items())}
            yield (
                f"  {name}: {told.issues} digests, {', '.join(f'{key} {part:.1f} %' for key, part in share.items())}; "
                f"lines {median(told.lines):.0f} (most {max(told.lines)}); repeated {len(told.repeated)}"
            )
            yield f"    {', '.join(f'{kind} {count}' for kind, count in told.kinds.most_common()) or 'no findings'}"
    yield from (f"  red: {line}" for line in result.red)
    for least, most, words in (
        (BUSY, math.inf, f"{BUSY:g} bans a day and more"),
        (SLOW, BUSY, f"{SLOW:g} to {BUSY:g}"),
    ):
        days = [days for rate, days in result.deaths if least <= rate < most]
        if days:
            yield (
                f"  deaths of {words}: {len(days)} planted, told after {median(days):.1f} days (median), "
                f"{quantile(days, 0.9):.1f} (90 %)"
            )


def main() -> None:
    """Replay everything, print the table and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--deaths", type=int, default=DEATHS)
    parser.add_argument("--show", nargs="*", default=(), help="kinds of findings to print")
    parser.add_argument("--repeated", action="store_true", help="print what was repeated")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        for history in histories(options.folder, options.only):
            results.append(replay(history, Path(name, history.name), options.deaths, options.show))
            print("\n".join(report(results[-1])), flush=True)
            if options.repeated:
                print("\n".join(f"  repeated: {line}" for told in results[-1].told.values() for line in told.repeated))
    for kind in ("daily", "weekly"):
        issues = sum(result.told[kind].issues for result in results)
        loud = issues - sum(result.told[kind].verdicts["quiet"] for result in results)
        print(f"{kind}: {issues} digests, {100 * loud / max(issues, 1):.1f} % amber or red")
    print(f"repeated: {sum(len(told.repeated) for result in results for told in result.told.values())}")


if __name__ == "__main__":
    main()
