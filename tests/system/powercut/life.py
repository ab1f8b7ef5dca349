"""A program that lives through what changes a store: bans, a spool, digests, a prune. It is traced; no tests here.

It writes to standard error which bans were acknowledged, and nothing else.
"""

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from f2b_digest import recorder
from tests.support.program import only_the_database
from tests.support.store_making import NOON, event

DAY = 86400.0
OLD = NOON - 500 * DAY
"""When those bans were recorded that are dropped."""
BETWEEN = NOON - 150 * DAY
"""When bans were recorded that are kept."""


def live(root: Path) -> None:
    """Begin with an empty folder, as a host does on its first day."""
    path = str(root / "store" / "bans.sqlite3")
    recorder.DEFAULT_STORE = path  # whose folder is made
    _ban(path, 1, OLD)
    _ban(path, 2, OLD, spooled=True)
    _send(root, OLD + 60)
    _ban(path, 3, BETWEEN)
    recorder.reserve_spool(path)
    _ban(path, 4, NOON, spooled=True)
    _ban(path, 5, NOON)
    _send(root, NOON + 60)  # takes the spool in, delivers, prunes
    _ban(path, 6, NOON + 120, spooled=True)
    _ban(path, 7, NOON + 120)
    _send(root, NOON + 180)
    _ban(path, 8, NOON + 240)
    _ban(path, 9, NOON + 240, spooled=True)


def _ban(path: str, block: int, at: float, *, spooled: bool = False) -> None:
    for number in range(1, 4):
        ip = f"10.0.{block}.{number}"
        row = event(ip=ip, at=at + number, recorded_at=at + number, failures=5, matches="x" * 700)
        if spooled:
            recorder._spool(path, row)
        else:
            recorder.append(path, row)
        os.write(2, f"ACK {ip}\n".encode())


def _send(root: Path, now: float) -> None:
    cli = importlib.import_module("f2b_digest.cli")
    vars(cli)["time"] = SimpleNamespace(time=lambda: now)
    vars(importlib.import_module("f2b_digest.host"))["gather"] = only_the_database
    vars(importlib.import_module("f2b_digest.cli.send"))["uptime"] = lambda: 2e9
    sys.argv = ["f2b-digest", "--config", str(root / "config.toml"), "send"]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, end.code


if __name__ == "__main__":
    live(Path(sys.argv[1]))
