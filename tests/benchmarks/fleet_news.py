"""Benchmark: in how many digests of a fleet something stands out, by kind and number of hosts.

Run: python -m tests.benchmarks.fleet_news [--hosts N…] [--days N] [--seed N] [--show KIND…]. Each host gets one to
three jails, each of them a real history (see tests.support.histories) begun at a place of its own; short ones repeat.
The hosts upload into a hub, whose daily digests are made as ever. Those of the first five weeks do not count: nothing
is usual yet.
"""

import argparse
import json
import os
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean

from f2b_digest import __version__, recorder
from f2b_digest.store import FROM_A_HOST, Received, Said
from tests.support.histories import DAY, FOLDER, SENT_AT, History, Replay, histories
from tests.support.store_making import Row

LEARNED = 35
"""Days before the first digest that counts."""
BEGIN = 1_700_000_000.0 // DAY * DAY + SENT_AT
JAILS = ("sshd", "postfix-sasl", "nginx-limit-req", "dovecot", "recidive-mail", "wordpress")
NEWS = ("campaign", "target", "surge", "drop", "roaming")
"""Not silences: most of these histories have gaps, which are silences."""
HOST, JAIL, AT, RECORDED_AT, SOURCE = (
    recorder.COLUMNS.index(name) for name in ("host", "jail", "at", "recorded_at", "source")
)


def jail(read: History, host: str, name: str, days: int, chance: random.Random) -> Iterator[Row]:
    """Yield the bans of a host's jail: a history from some place on, which repeats."""
    length = max(read.days, 1) // 1 * DAY + DAY
    shift = BEGIN - read.times[0] - chance.randrange(int(length // DAY)) * DAY
    while shift + read.times[0] < BEGIN + days * DAY:
        for row in read.rows:
            if row[0] == "ban" and BEGIN <= (at := row[AT] + shift) < BEGIN + days * DAY:
                values = list(row)
                values[HOST], values[JAIL], values[AT], values[RECORDED_AT], values[SOURCE] = (
                    host,
                    name,
                    at,
                    at,
                    FROM_A_HOST,
                )
                yield tuple(values)
        shift += length


def fleet(read: Sequence[History], hosts: int, days: int, seed: int) -> History:
    """Return what all hosts of a fleet banned."""
    chance = random.Random(seed)
    rows: list[Row] = []
    for number in range(hosts):
        names = chance.sample(JAILS, chance.randint(1, 3))
        for name in names:
            rows += jail(chance.choice(read), f"web{number}", name, days, chance)
    rows.sort(key=lambda row: row[AT])
    return History(f"{hosts} hosts", rows, [row[AT] for row in rows])


def uploaded(received: Received, hosts: int, lives: Sequence[str], now: float) -> None:
    """Let all hosts be heard, and complete."""
    state = json.dumps({"version": __version__, "backlog": 0, "fail2ban": {"jails": 3, "silence": "", "lacking": []}})
    for number in range(hosts):
        received.hello(f"web{number}", lives[number], [], Said(state, 0.0, now), now)


def replay(
    history: History, hosts: int, days: int, folder: Path, show: Sequence[str]
) -> tuple[int, Counter[str], list[int]]:
    """Live through it; return how many digests counted, how many told each kind, and the findings of each."""
    hub = Replay(history, folder, ("daily",), BEGIN)
    lives = [str(uuid.UUID(int=number + 1)) for number in range(hosts)]
    with Received(hub.store) as received:
        for number in range(hosts):
            received.enrol(f"web{number}", BEGIN)
        issues, told = 0, Counter[str]()
        found: list[int] = []
        for day in range(1, days):
            uploaded(received, hosts, lives, BEGIN + day * DAY)
            if day < LEARNED:
                hub.record(history.between(hub.now, hub.now + DAY))
                hub.now += DAY
                continue
            for issue in hub.live(BEGIN + day * DAY):
                kinds = Counter(fact.kind for fact in issue.digest.facts if fact.kind in NEWS)
                for fact in issue.digest.facts:
                    if fact.kind in show:
                        print(f"    day {day}: {fact}", flush=True)
                if day > LEARNED:  # the first has all that was before
                    issues, found = issues + 1, [*found, kinds.total()]
                    told.update(set(kinds))
    return issues, told, found


def main() -> None:
    """Replay fleets of some sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", nargs="*", type=int, default=(1, 20, 100))
    parser.add_argument("--days", type=int, default=30, help="digests that count")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--histories", type=Path, default=FOLDER)
    parser.add_argument("--show", nargs="*", default=(), help="kinds of findings to print")
    options = parser.parse_args()
    read = [history for history in histories(options.histories) if history.days >= 5]
    days = LEARNED + 1 + options.days
    for hosts in options.hosts:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
            history = fleet(read, hosts, days, options.seed)
            issues, told, found = replay(history, hosts, days, Path(name), options.show)
        kinds = ", ".join(f"{kind} {count}" for kind, count in told.most_common()) or "none"
        print(f"{hosts} hosts, {len(history.rows) / days:.0f} bans a day: {issues} digests, with findings "
              f"{sum(map(bool, found))} (mean {mean(found or [0]):.2f}); {kinds}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
