"""A fleet under faults: hosts are killed, answers lost, sessions ended, the server stopped; two senders are rivals.

At a centre in PostgreSQL, at one on Citus, and at a hub that is reached by a real ssh. Every ban that was recorded
is in exactly one digest at the end.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from f2b_digest.fleet.by_ssh import DEADLINE
from f2b_digest.fleet.credential import Credential
from f2b_digest.store import Uploads
from tests.fleet.hosts import Host, Sealable, seal, told_by_digests
from tests.fleet.living import FORK, live, rival
from tests.support.citus_cluster import Citus
from tests.support.postgres_server import PostgreSQL
from tests.support.ssh_hub import Hub
from tests.support.ssh_server import SshServer


class Postgres:
    """A centre in PostgreSQL, whose sessions end and whose server stops without a word."""

    hosts = 12

    def __init__(self, server: PostgreSQL) -> None:
        self._server = server
        self._stopped = 0

    @property
    def servers(self) -> int:
        """How many there are: of a cluster, each is stopped."""
        return len(self._server.nodes)

    def end_sessions(self) -> int:
        """End those of hosts, and some of senders; return how many."""
        query = b"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE usename LIKE 'h-%' OR (usename = 'f2b_digest' AND random() < 0.1)"""
        try:
            with psycopg.connect(self._server.address(), autocommit=True) as connection:
                found = connection.execute(query).fetchone()
                return int(found[0]) if found else 0
        except psycopg.Error:
            return 0

    def stop(self) -> None:
        """Stop a server, and start it again: of a cluster, the coordinator, then each worker."""
        node = self._server.nodes[self._stopped % self.servers]
        node.stop("immediate")
        node.start()
        self._stopped += 1


class Sshd:
    """A hub, whose `receive` is killed, and whose sshd is stopped with all connections."""

    hosts = 4
    servers = 1

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def end_sessions(self) -> int:
        """Kill a process of some connection: `receive`, or sshd's end of it; return how many."""
        sessions = self._server.sessions()
        for process in random.sample(sessions, min(1, len(sessions))):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return min(1, len(sessions))

    def stop(self) -> None:
        """Stop the server, and start it again."""
        self._server.stop()
        self._server.start()


@contextmanager
def postgresql(_: Path) -> Iterator[tuple[Postgres, Sealable, Callable[[str], Credential]]]:
    """Give what disturbs a centre of its own, the centre, and what enrols a host there."""
    with PostgreSQL() as server, server.centre() as centre:
        yield Postgres(server), centre, centre.add


@contextmanager
def citus(_: Path) -> Iterator[tuple[Postgres, Sealable, Callable[[str], Credential]]]:
    """Give the same of a cluster."""
    with Citus() as server, server.centre() as centre:
        yield Postgres(server), centre, centre.add


@contextmanager
def hub(folder: Path) -> Iterator[tuple[Sshd, Sealable, Callable[[str], Credential]]]:
    """Give the same of a hub."""
    with SshServer() as server:
        made = Hub(server, folder)
        yield Sshd(server), made, lambda host: made.add(host)[1]


def disturb(server: Postgres | Sshd, stops: int, until: float) -> Counter[str]:
    """End sessions, and stop the server some times, until the end."""
    done: Counter[str] = Counter()
    begun = time.monotonic()
    while (now := time.monotonic()) < until:
        if done["immediate stop"] < stops and (now - begun) > (until - begun) * (done["immediate stop"] + 0.5) / stops:
            server.stop()
            done["immediate stop"] += 1
        done["ended session"] += server.end_sessions()
        time.sleep(0.3)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), [(postgresql, 1), (citus, 4), (hub, 6)], ids=["postgresql", "citus", "hub"])
def test_no_ban_is_lost_or_told_twice(
    tmp_path: Path, figures: Callable[..., None], request: pytest.FixtureRequest, kind: Any, share: int
) -> None:
    """Whatever is killed, cut and stopped."""
    seconds = request.config.getoption("--storm") // share
    with kind(tmp_path) as (server, centre, add):
        stop, faults = FORK.Event(), FORK.Queue()
        hosts = {f"h{number}": Host(tmp_path / f"h{number}", add(f"h{number}")) for number in range(server.hosts)}
        workers = [FORK.Process(target=live, args=(host, name, stop, faults)) for name, host in hosts.items()]
        workers += [FORK.Process(target=rival, args=(centre, stop, faults)) for _ in range(2)]
        for worker in workers:
            worker.start()
        done = disturb(server, max(2, server.servers, seconds // 12), time.monotonic() + seconds)
        stop.set()
        recorded: dict[str, int] = {}
        while len(recorded) < len(hosts):
            said = faults.get(timeout=2 * DEADLINE)  # an upload may wait that long for a server that died
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
            f"{request.node.callspec.id}: {seconds} s, {len(hosts)} hosts, {len(wanted)} bans, lost {len(lost)}, "
            f"told twice {twice}; " + ", ".join(f"{what}: {count}" for what, count in sorted(done.items())),
        )
        assert not lost
        assert not twice
        assert set(told) == wanted
        assert notes == [], "no store was taken for a copy"
        assert all(done[what] for what in ("killed", "cut", "ended session", "immediate stop", "digest"))
