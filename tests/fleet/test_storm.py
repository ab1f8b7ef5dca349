"""A fleet under faults: hosts are killed, answers lost, sessions ended, the server stopped; two senders are rivals.

Every ban that was recorded is in exactly one digest at the end.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg
import pytest

from f2b_digest.errors import F2bDigestError
from f2b_digest.fleet import by_sql
from f2b_digest.fleet.connection import ask
from f2b_digest.store import Uploads
from tests.fleet.hosts import Host, seal, told_by_digests
from tests.support.citus_cluster import Citus
from tests.support.postgres_server import Centre, PostgreSQL

HOSTS = 12
KILLED, CUT = 0.25, 0.15
"""How many uploads are killed at any moment, and how many right after the centre has taken a batch."""
FORK = get_context("fork")


def upload(host: Host, *, cut: bool) -> None:
    """Upload in this process, which ends by that."""
    if cut:

        def die(connection: Any, *rest: Any) -> Any:
            answer = ask(connection, *rest)
            if "append" in rest[0]:
                os._exit(0)
            return answer

        vars(by_sql)["ask"] = die
    try:
        host.forward()
    except F2bDigestError:
        os._exit(0)


def live(host: Host, name: str, stop: Event, faults: Any) -> None:
    """Record and upload until the end, as a host whose uploads are killed."""
    chance = random.Random(name)
    count = 0
    while not stop.is_set():
        batch = chance.randrange(1, 15)
        host.bans([f"{name}-{number}" for number in range(count, count + batch)])
        count += batch
        cut = chance.random() < CUT
        child = FORK.Process(target=upload, args=(host,), kwargs={"cut": cut})
        child.start()
        faults.put("cut") if cut else None
        if not cut and chance.random() < KILLED:
            time.sleep(chance.random() * 0.2)
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            faults.put("killed")
        child.join()
    faults.put((name, count))


def rival(centre: Centre, stop: Event, faults: Any) -> None:
    """Seal again and again, whatever is refused."""
    while not stop.is_set():
        try:
            faults.put("digest" if seal(centre) >= 0 else "lost race")
        except F2bDigestError:
            time.sleep(0.1)


def disturb(server: PostgreSQL, stops: int, until: float) -> Counter[str]:
    """End sessions of hosts and senders, and stop the server some times without a word, until the end."""
    done: Counter[str] = Counter()
    begun = time.monotonic()
    query = b"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE usename LIKE 'h-%' OR (usename = 'f2b_digest' AND random() < 0.1)"""
    while (now := time.monotonic()) < until:
        if done["immediate stop"] < stops and (now - begun) > (until - begun) * (done["immediate stop"] + 0.5) / stops:
            node = server.nodes[done["immediate stop"] % len(server.nodes)]
            node.stop("immediate")
            node.start()
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
@pytest.mark.parametrize("kind", [PostgreSQL, Citus])
def test_no_ban_is_lost_or_told_twice(
    kind: type[PostgreSQL], tmp_path: Path, figures: Callable[..., None], request: pytest.FixtureRequest
) -> None:
    """Whatever is killed, cut and stopped; of a cluster, the coordinator and each worker."""
    seconds = request.config.getoption("--storm") // (1 if kind is PostgreSQL else 2)
    with kind() as server, server.centre() as centre:
        stop, faults = FORK.Event(), FORK.Queue()
        hosts = {f"h{number}": Host(tmp_path / f"h{number}", centre.add(f"h{number}")) for number in range(HOSTS)}
        workers = [FORK.Process(target=live, args=(host, name, stop, faults)) for name, host in hosts.items()]
        workers += [FORK.Process(target=rival, args=(centre, stop, faults)) for _ in range(2)]
        for worker in workers:
            worker.start()
        done = disturb(server, max(len(server.nodes), 2, seconds // 12), time.monotonic() + seconds)
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
            f"storm over a fleet on {kind.__name__}",
            f"{seconds} s, {HOSTS} hosts, {len(wanted)} bans, lost {len(lost)}, told twice {twice}; "
            + ", ".join(f"{what}: {count}" for what, count in sorted(done.items())),
        )
        assert not lost
        assert not twice
        assert set(told) == wanted
        assert notes == [], "no store was taken for a copy"
        assert all(done[what] for what in ("killed", "cut", "ended session", "immediate stop", "digest"))
