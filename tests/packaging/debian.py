"""A Debian that is booted for a test: systemd as its first process, its own network, gone afterwards.

Its files are those of a tree that `.ci/run` made, which stay as they were: what the test changes is in `changed`. No
test stands here.
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.support.parts import missing, program, unpacked

NSPAWN = "apt install systemd-container"
ENVIRONMENT = ("env", "-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
               "DEBIAN_FRONTEND=noninteractive")  # fmt: skip
SOURCES = "deb [signed-by=/repository/f2b-digest.asc] file:/repository stable main\n"
JAILS = """
[DEFAULT]
banaction = dummy
backend = polling
[sshd]
enabled = true
logpath = /var/log/auth.log
"""
RECORDED = """
import sqlite3, sys
query = "SELECT 1 FROM event WHERE kind = 'ban' AND ip = ?"
found = sqlite3.connect("/var/lib/fail2ban/f2b-digest/bans.sqlite3").execute(query, sys.argv[1:]).fetchone()
sys.exit(found is None)
"""
BOOT = 60.0
"""Seconds that a machine may take until its units are started."""


class Debian:
    """A booted system with a running fail2ban that bans nobody; `with` removes it."""

    def __init__(self, suite: str, repository: Path) -> None:
        nspawn = program("systemd-nspawn", NSPAWN)
        lower = unpacked(f"debian-{suite}", suite, "a whole system (see .ci/run)")
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-debian-"))
        self.root, self.changed = self.folder / "root", self.folder / "changed"
        for name in ("root", "changed", "work"):
            (self.folder / name).mkdir()
        layers = f"lowerdir={lower},upperdir={self.changed},workdir={self.folder / 'work'}"
        mount = ["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)]
        if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
            missing("a booted Debian", "run as root, who may mount an overlay")
        self.write("etc/fail2ban/jail.local", JAILS)
        self.write("var/log/auth.log", "")
        self.write("root/recorded.py", RECORDED)
        self.write("etc/apt/sources.list", "")
        shutil.rmtree(self.root / "etc/apt/sources.list.d")
        (self.root / "etc/apt/sources.list.d").mkdir()
        # Not registered with the host's systemd, which there may be none of.
        options = ("--quiet", "--register=no", "--keep-unit", "--private-network", "--link-journal=no")
        self._console = (self.folder / "console").open("wb")
        self._nspawn = subprocess.Popen(
            [nspawn, *options, f"--bind-ro={repository}:/repository", "-D", self.root, "--boot"],
            stdin=subprocess.DEVNULL, stdout=self._console, stderr=self._console,
        )  # fmt: skip
        self.leader = self._booted()

    def _booted(self) -> str:
        """Return the number of the machine's first process, once its units are started."""
        until = time.monotonic() + BOOT
        while time.monotonic() < until:
            children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
            for leader in children.read_text().split():
                asked = subprocess.run(
                    ["nsenter", "-t", leader, "-a", "systemctl", "is-system-running"],
                    check=False, capture_output=True, text=True,
                )  # fmt: skip
                if asked.stdout.strip() in ("running", "degraded"):
                    return leader
            time.sleep(0.2)
        raise AssertionError((self.folder / "console").read_text(errors="replace")[-2000:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._nspawn.terminate()
        try:
            self._nspawn.wait(10)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._console.close()
        subprocess.run(["umount", "--lazy", self.root], check=True)
        shutil.rmtree(self.folder)

    def write(self, name: str, text: str) -> None:
        """Write a file of the machine."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        """Return a file of the machine; nothing if there is none."""
        path = self.root / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the shell there, as root."""
        command = ["nsenter", "-t", self.leader, "-a", *ENVIRONMENT, "sh", "-c", script]
        return subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=180,
        )  # fmt: skip

    def __call__(self, script: str) -> str:
        """Run a script there, and return what it said; it must succeed."""
        done = self.run(script)
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def until(self, script: str, seconds: float = 20.0) -> str:
        """Run a script until it succeeds, and return what it then said."""
        end = time.monotonic() + seconds
        while (done := self.run(script)).returncode:
            assert time.monotonic() < end, f"{script}\n{done.stdout}"
            time.sleep(0.2)
        return done.stdout

    def install(self, what: str = "f2b-digest") -> str:
        """Install from the repository, with its signature checked, and nothing else to install from."""
        self.write("etc/apt/sources.list.d/f2b-digest.list", SOURCES)
        return self(f"apt-get -q update && apt-get -qy install {what}")

    def ban(self, address: str) -> None:
        """Let the jail ban an address, and wait until it is recorded."""
        self(f"fail2ban-client set sshd banip {address}")
        self.until(f"python3 /root/recorded.py {address}")

    def mail(self, words: str) -> str:
        """Wait until root's mailbox holds these words, and return it."""
        self.until(f"grep -qF '{words}' /var/mail/root")
        return self.read("var/mail/root")
