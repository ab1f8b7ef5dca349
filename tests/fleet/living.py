"""Hosts of a fleet that live in processes of their own, of which uploads are killed and cut, and a sender. No tests."""

import os
import random
import signal
import time
from collections.abc import Mapping
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any, NamedTuple, Self

from f2b_digest.errors import F2bDigestError
from f2b_digest.fleet.by_sql import BySql
from f2b_digest.fleet.by_ssh import BySsh
from f2b_digest.store import Uploads
from tests.fleet.hosts import Host, Sealable, seal, told_by_digests
from tests.support.postgres_server import Centre

KILLED, CUT = 0.25, 0.15
"""How many uploads are killed at any moment, and how many right after the centre has taken a batch."""
FORK = get_context("fork")
PATIENCE = 90.0
"""Seconds: an upload may wait that long for a server that died."""


def upload(host: Host, *, cut: bool) -> None:
    """Upload in this process, which ends by that."""
    if cut:
        door = BySsh if host.credential.by_ssh else BySql
        append = door.append

        def die(self: Any, *batch: Any) -> None:
            append(self, *batch)
            os._exit(0)

        setattr(door, "append", die)  # noqa: B010 - mypy refuses the assignment
    try:
        host.forward()
    except F2bDigestError:
        os._exit(0)


def live(host: Host, name: str, stop: Event, faults: Any) -> None:
    """Record and upload until the end, as a host whose uploads are killed."""
    os.nice(10)  # other tests run beside it
    chance = random.Random(name)
    count = 0
    while not stop.is_set():
        batch = chance.randrange(1, 15)
        host.bans([f"{name}-{number}" for number in range(count, count + batch)])
        count += batch
        first = count == batch
        cut = chance.random() < CUT or (first and name == "h0")
        child = FORK.Process(target=upload, args=(host,), kwargs={"cut": cut})
        child.start()
        faults.put("cut") if cut else None
        if not cut and (chance.random() < KILLED or (first and name == "h1")):
            time.sleep(chance.random() * (1.0 if host.credential.by_ssh else 0.2))
            assert child.pid
            os.kill(child.pid, signal.SIGKILL)
            faults.put("killed")
        child.join()
    faults.put((name, count))


def rival(centre: Sealable, stop: Event, faults: Any) -> None:
    """Seal again and again, whatever is refused."""
    while not stop.is_set():
        try:
            faults.put("digest" if seal(centre) >= 0 else "lost race")
        except F2bDigestError:
            time.sleep(0.1)


class Outcome(NamedTuple):
    """What became of the bans of hosts that lived."""

    bans: int
    lost: set[str]
    twice: int
    """How many are in more than one digest, or several times in one."""

    def __str__(self) -> str:
        return f"{self.bans} bans, lost {len(self.lost)}, told twice {self.twice}"


class Lives:
    """Hosts that record and upload, and a sender, until `settle`; `with` starts them, and ends them in any case."""

    def __init__(self, hosts: Mapping[str, Host], centre: Centre) -> None:
        self._hosts, self._centre = hosts, centre
        self._stop, self._said = FORK.Event(), FORK.Queue()
        self._workers = [
            FORK.Process(target=live, args=(host, name, self._stop, self._said)) for name, host in hosts.items()
        ]
        self._workers.append(FORK.Process(target=rival, args=(centre, self._stop, self._said)))

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
            worker.join()

    def settle(self) -> Outcome:
        """Stop them, upload and seal all that is left, and return what the digests told."""
        self._stop.set()
        recorded: dict[str, int] = {}
        while len(recorded) < len(self._hosts):
            said = self._said.get(timeout=PATIENCE)
            recorded |= dict([said]) if isinstance(said, tuple) else {}
        for worker in self._workers:
            worker.join(PATIENCE)
        for host in self._hosts.values():
            host.forward()
            with Uploads(host.store) as uploads:
                assert uploads.backlog().events == 0
        seal(self._centre)
        told = told_by_digests(self._centre)
        wanted = {f"{name}-{number}" for name, count in recorded.items() for number in range(count)}
        assert set(told) <= wanted
        return Outcome(len(wanted), wanted - set(told), sum(count - 1 for count in told.values()))


def grow(centre: Centre) -> None:
    """Wait until a centre has more events and digests."""
    begun, until = state_of(centre), time.monotonic() + PATIENCE
    while any(len(found) < len(begun[what]) + 2 for what, found in state_of(centre).items()):
        assert time.monotonic() < until
        time.sleep(0.1)


def state_of(centre: Centre) -> dict[str, set[tuple[Any, ...]]]:
    """Return the events and digests of a centre, each with what it does not get a second time."""
    return {
        "events": set(centre.rows("SELECT store_id, seq, arrived FROM f2b.event")),
        "digests": set(centre.rows("SELECT uuid FROM f2b.digest")),
    }
