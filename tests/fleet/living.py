"""Hosts of a fleet that live in processes of their own, of which uploads are killed and cut, and a sender. No tests."""

import os
import random
import signal
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

from f2b_digest.errors import F2bDigestError
from f2b_digest.fleet.by_sql import BySql
from f2b_digest.fleet.by_ssh import BySsh
from tests.fleet.hosts import Host, Sealable, seal

KILLED, CUT = 0.25, 0.15
"""How many uploads are killed at any moment, and how many right after the centre has taken a batch."""
FORK = get_context("fork")


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
