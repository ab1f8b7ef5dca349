"""A machine for the tests of `setup`: this one, with /etc, /run and fail2ban's folders of its own and no network.

It is a namespace of the kernel's, entered for each command: what is changed there is below `folder`, and this machine's
own files and servers are never touched. No tests here.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests import ROOT
from tests.support.fail2ban_server import OLDER_PYTHON, SUITES
from tests.support.parts import missing, program, unpacked

JAILS = """
[DEFAULT]
backend = polling
banaction = dummy
destemail = admin@example.org, boss@example.org
sender = fail2ban@example.org
logpath = /var/log/test.log

[sshd]
enabled = true
backend = polling
logpath = /var/log/test.log

[own]
enabled = true
filter = sshd
action = dummy[actname=first]
         dummy[actname=second, target="/run/second"]
"""


class Machine:
    """A machine with a fail2ban of some version and two jails, which bans nobody; `with` removes it."""

    def __init__(self, version: str, name: str = "", beside: "Machine | None" = None) -> None:
        """Make it; with a name of its own, and on the network of another."""
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-machine-"))
        self.folder.chmod(0o755)
        for part in ("lib", "run/fail2ban", "log", "bin", "python"):
            (self.folder / part).mkdir(parents=True)
        shutil.copytree("/etc", self.folder / "etc", symlinks=True, ignore=shutil.ignore_patterns("fail2ban"))
        self._fail2ban(version)
        self.write("etc/fail2ban/jail.local", JAILS)
        self.write("log/test.log", "")
        self.program = self._script("f2b-digest", f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m f2b_digest "$@"')
        network = ["nsenter", "-t", str(beside.pid), "--net"] if beside else []
        apart = [program("unshare", "apt install util-linux"), "--mount", "--uts", *([] if beside else ["--net"])]
        self._namespace = subprocess.Popen([*network, *apart, "sleep", "1800"], stderr=subprocess.DEVNULL)
        self.pid: int = self._namespace.pid
        mounts = {"etc": "/etc", "lib": "/var/lib/fail2ban", "run": "/run", "log": "/var/log"}
        until = time.monotonic() + 10
        while os.readlink(f"/proc/{self._namespace.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            if self._namespace.poll() is not None or time.monotonic() > until:
                missing("a machine", "run as root, who may make a namespace")
            time.sleep(0.01)
        for part, place in mounts.items():
            self._mount(self.folder / part, place)
        self._open_python()
        if name:
            self("hostname", name)

    def _mount(self, source: Path | str, place: Path | str) -> None:
        done = self("mount", "--bind", str(source), str(place))
        if done.returncode:
            missing("a machine", f"run as root, who may mount: {done.stderr}")

    def _open_python(self) -> None:
        """Let every user run this Python, wherever it is installed (root's home is closed to others)."""
        needed = dict.fromkeys([Path(sys.base_prefix), Path(sys.prefix), ROOT])
        for number, path in enumerate(needed):
            closed = next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)
            if closed:
                kept, opened = self.folder / f"kept{number}", self.folder / f"opened{number}"
                kept.mkdir()
                (opened / path.relative_to(closed)).mkdir(parents=True)
                self._mount(path, kept)
                self._mount(opened, closed)
                self._mount(kept, path)

    def _fail2ban(self, version: str) -> None:
        python, variables = program("/usr/bin/python3", "apt install python3"), ""
        if version == "1.0":
            stock, programs = Path("/etc/fail2ban"), Path(program("fail2ban-client", "apt install fail2ban")).parent
        else:
            part = unpacked(f"fail2ban-{version}", SUITES[version], "fail2ban")
            stock, programs = part / "etc/fail2ban", part / "usr/bin"
            path = f"{part}/usr/lib/python3/dist-packages"
            if version == "0.11":
                path += f":{self.write('python/sitecustomize.py', OLDER_PYTHON).parent}"
            variables = f'PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="{path}"'
        shutil.copytree(stock, self.folder / "etc/fail2ban")
        self._script(
            "fail2ban-client", f'{variables} PATH="{programs}:$PATH" exec {python} {programs}/fail2ban-client "$@"'
        )

    def _script(self, name: str, line: str) -> str:
        path = self.write(f"bin/{name}", f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
        return str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("fail2ban-client", "stop")
        self._namespace.kill()
        self._namespace.wait()
        shutil.rmtree(self.folder)

    def write(self, name: str, text: str) -> Path:
        """Write a file below the machine's folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands there."""
        return {"PATH": f"{self.folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

    def entering(self, *words: str) -> list[str]:
        """Return a command that runs another one there."""
        enter = [program("nsenter", "apt install util-linux"), "-t", str(self.pid), "--mount", "--net", "--uts"]
        return [*enter, *words]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        return subprocess.run(
            self.entering(*words), env=self.environment, cwd="/", text=True, capture_output=True, timeout=180,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def setup(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `f2b-digest setup` there."""
        return self(self.program, "setup", "--program", self.program, *words)

    def files(self, name: str = "etc") -> dict[str, tuple[int, int, int, bytes]]:
        """Return every file below one of its folders: mode, owner, group, content."""
        found = {}
        for path in (self.folder / name).rglob("*"):
            at = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path.relative_to(self.folder / name))] = (at.st_mode, at.st_uid, at.st_gid, content)
        return found
