"""A hub as its administrator has it: hosts reach it by a real sshd. No test stands here."""

import re
import subprocess
import sys
import time
from pathlib import Path

from f2b_digest.cli.fleet.hub import Administration
from f2b_digest.cli.program import Program
from f2b_digest.fleet.credential import Credential, taken_apart
from f2b_digest.store import Store
from tests.support.ssh_server import SshServer


class Hub:
    """A hub's store and configuration, and the program there."""

    def __init__(self, sshd: SshServer, folder: Path) -> None:
        self.sshd = sshd
        self.folder = folder
        self.store = folder / "store/bans.sqlite3"
        self.config = folder / "config.toml"
        self.store.parent.mkdir()
        (folder / "out").mkdir()
        self.config.write_text(
            f"""
store = "{self.store}"
host = "hub"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[reports.web]
channels = ["out"]
hosts = ["web*", "!web9"]
[channels.out]
kind = "file"
folder = "{folder}/out"
"""
        )

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program at the hub."""
        called = [sys.executable, "-m", "f2b_digest", "--config", str(self.config), *words]
        return subprocess.run(called, capture_output=True, text=True, check=False, timeout=60)

    def add(self, host: str) -> tuple[str, Credential]:
        """Enrol a host; return the line of authorized_keys, which stands there, and the host's credential."""
        program = Program(self.config, None, clock=time.time)
        (joining,) = Administration(program, self.store, self.sshd.address).add([host], time.time())
        return self.take("\n".join((*joining.before, f"    join {joining.address}", f"    {joining.credential}")))

    def take(self, printed: str) -> tuple[str, Credential]:
        """Do what `fleet add` printed; the key of the system's sshd is not that of this one."""
        line, address, pasted = (
            re.search(f"^    (.*{what}.*)$", printed, re.MULTILINE) for what in ("restrict", "join", "f2b1")
        )
        assert line
        assert address
        assert pasted
        with self.sshd.keys.open("a") as keys:
            keys.write(line[1] + "\n")
        kind, key, *_ = (self.sshd.folder / "ssh_host_ed25519_key.pub").read_text().split()
        held = taken_apart(pasted[1]) | {"host_key": f"{kind} {key}"}
        return line[1], Credential(address[1].split()[-1], matches="all", **held)

    def opened(self) -> Store:
        """Open the store, to make digests."""
        return Store(self.store, read_only=False)

    def told(self) -> list[str]:
        """Return the address of each ban here, in order."""
        with Store(self.store, read_only=True) as store, store._reading() as connection:
            query = "SELECT ip FROM event WHERE kind = 'ban' AND history = 0"
            return sorted(ip for (ip,) in connection.execute(query))
