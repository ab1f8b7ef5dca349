"""The database and the log of a real fail2ban server that banned with sshd's stock filter.

No tests here. Making one takes seconds, so each version's is made once.
"""

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.fail2ban_server import Fail2ban

FAILED = {
    "192.0.2.1": "Failed password for root from 192.0.2.1 port 22 ssh2",
    "192.0.2.2": "Failed password for invalid user o'neil from 192.0.2.2 port 22 ssh2",
    "192.0.2.3": "Failed password for invalid user \"a, b'] from 192.0.2.3 port 22 ssh2",
    "192.0.2.4": "Failed password for invalid user ['x', 'y'] from 192.0.2.4 port 22 ssh2",
    "192.0.2.5": "Connection closed by 192.0.2.5 port 22 [preauth]",
    "192.0.2.6": "Failed password for invalid user \xff\\n from 192.0.2.6 port 22 ssh2",
    "2001:db8::1": "Failed password for invalid user jörg ✓ from 2001:db8::1 port 22 ssh2",
}
"""By address, sshd's line for it; each is written twice."""
USERS = {
    "192.0.2.1": ["root"],
    "192.0.2.2": ["o'neil"],
    "192.0.2.3": ["\"a, b']"],
    "192.0.2.4": ["['x', 'y']"],
    "192.0.2.5": None,
    "192.0.2.6": ["\ufffd\\n"],
    "2001:db8::1": ["jörg ✓"],
}
"""By address, the user names in it."""
BY_HAND, AGAIN = ("192.0.2.9", "198.51.100.0/24"), "192.0.2.11"
LIFTED, PARDONED = "192.0.2.10", "192.0.2.12"
"""Unbanned manually: one banned manually, and one that had failed twice."""


@dataclass(frozen=True)
class History:
    """The files left behind, and what our action recorded meanwhile."""

    database: Path
    log: Path
    store: Path
    """Of our action."""
    events: tuple[dict[str, Any], ...]

    def recorded(self, ip: str, kind: str = "ban") -> list[dict[str, Any]]:
        """Return what our action recorded of an address."""
        return [event for event in self.events if event["ip"] == ip and event["kind"] == kind]


@cache
def history(version: str) -> History:
    """Run a server of this version through bans of every kind, and a restart; return what it leaves."""
    kept = Path(tempfile.mkdtemp(prefix="f2b-digest-history-"))
    atexit.register(shutil.rmtree, kept)
    with Fail2ban(version) as server:
        server.stock("filter.d/sshd.conf", "filter.d/common.conf")
        # The stock pattern of 0.11 is none for the Python that runs it here.
        server.write("conf/filter.d/sshd.local", "[Definition]\ndatepattern = {^LN-BEG}Epoch\n")
        server.jail("sshd", filter="sshd[mode=aggressive]", maxretry="2")
        server.jail("again", bantime="4", bantime_increment="true", bantime_rndtime="0")
        server.start()
        _attack(server)
        server.restart()
        server.wait_until(lambda: "Restore Ban 192.0.2.1" in server.messages(), "the restored bans")
        server.stop()
        for name in ("fail2ban.sqlite3", "fail2ban.log"):
            shutil.copy(server.folder / name, kept / name)
        shutil.copy(server.store, kept / "bans.sqlite3")
        kinds = ("ban", "prolong", "unban", "start", "stop")
        events = tuple(event for kind in kinds for event in server.events(kind))
    return History(kept / "fail2ban.sqlite3", kept / "fail2ban.log", kept / "bans.sqlite3", events)


def _attack(server: Fail2ban) -> None:
    """Ban by log lines, by hand, twice; lift one."""
    lines = [
        b" web1 sshd[%d]: %s" % (number, line.encode("latin-1" if "\xff" in line else "utf-8"))
        for number, line in enumerate(line for line in FAILED.values() for _ in range(2))
    ]
    lines += [b" web1 sshd[99]: Failed password for anna from %s port 22 ssh2" % PARDONED.encode()] * 2
    server.log("sshd", *lines)
    server.log("again", f'FAIL user="root" from {AGAIN}')
    server.client("set", "sshd", "banip", *BY_HAND, LIFTED)
    server.wait_until(lambda: server.events("unban", ip=AGAIN), "the end of a short ban")
    server.log("again", f'FAIL user="root" from {AGAIN}')
    server.wait_until(lambda: len(server.events(ip=AGAIN)) == 2, "the second ban")
    server.wait_until(lambda: (8, 2) in server.known_bans("again"), "a ban of twice the time")
    server.wait_until(lambda: server.events("prolong", ip=AGAIN), "what increment made of it")
    count = len(FAILED) + len(BY_HAND) + 2
    server.wait_until(lambda: len(server.events(jail="sshd")) == count, f"{count} bans")
    server.wait_until(lambda: len(server.known_bans("sshd")) == count, f"{count} bans in the database")
    server.client("set", "sshd", "unbanip", LIFTED, PARDONED)
    server.wait_until(lambda: len(server.events("unban", jail="sshd")) == 2, "the unbans")
