"""A fleet under faults: hosts are killed, answers lost, sessions ended, the server stopped; two senders are rivals.

Every ban that was recorded is in exactly one digest at the end.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from f2b_digest.store import Uploads
from tests.fleet.hosts import Host, seal, told_by_digests
from tests.fleet.living import FORK, live, rival
from tests.support.postgres_server import PostgreSQL

HOSTS = 12


def disturb(server: PostgreSQL, stops: int, until: float) -> Counter[str]:
    """End sessions of hosts and senders, and stop the server some times without a word, until the end."""
    done: Counter[str] = Counter()
    begun = time.monotonic()
    query = b"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE usename LIKE 'h-%' OR (usename = 'f2b_digest' AND random() < 0.1)"""
    while (now := time.monotonic()) < until:
        if done["immediate stop"] < stops and (now - begun) > (until - begun) * (done["immediate stop"] + 0.5) / stops:
            server.stop("immediate")
            server.start()
            done["immediate stop"] += 1
        try:
            with psycopg.connect(server.address(), autocommit=True) as connection:
                found = connection.execute(query).fetchone()
                done["ended session"] += found[0] if found else 0
        except psycopg.Error:
            pass
        time.sleep(0.3)
    return done


@pytest.mark.slow
@pytest.mark.alone
def test_no_ban_is_lost_or_told_twice(
    tmp_path: Path, figures: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    """Whatever is killed, cut and stopped."""
    seconds = request.config.getoption("--storm")
    with PostgreSQL() as server, server.centre() as centre:
        stop, faults = FORK.Event(), FORK.Queue()
        hosts = {f"h{number}": Host(tmp_path / f"h{number}", centre.add(f"h{number}")) for number in range(HOSTS)}
        workers = [FORK.Process(target=live, args=(host, name, stop, faults)) for name, host in hosts.items()]
        workers += [FORK.Process(target=rival, args=(centre, stop, faults)) for _ in range(2)]
        for worker in workers:
            worker.start()
        done = disturb(server, max(2, seconds // 12), time.monotonic() + seconds)
        stop.set()
        recorded: dict[str, int] = {}
        while len(recorded) < HOSTS:
            said = faults.get(timeout=60)
            if isinstance(said, str):
                done[said] += 1
            else:
                recorded[said[0]] = said[1]
        for worker in workers:
            worker.join(60)
        notes: list[str] = []
        for host in hosts.values():
            notes += host.forward().notes
            with Uploads(host.store) as uploads:
                assert uploads.backlog().events == 0
        seal(centre)
        told = told_by_digests(centre)
        wanted = {f"{name}-{number}" for name, count in recorded.items() for number in range(count)}
        lost, twice = wanted - set(told), sum(count - 1 for count in told.values())
        figures(
            "storm over a fleet",
            f"{seconds} s, {HOSTS} hosts, {len(wanted)} bans, lost {len(lost)}, told twice {twice}; "
            + ", ".join(f"{what}: {count}" for what, count in sorted(done.items())),
        )
        assert not lost
        assert not twice
        assert set(told) == wanted
        assert notes == [], "no store was taken for a copy"
        assert all(done[what] for what in ("killed", "cut", "ended session", "immediate stop", "digest"))
