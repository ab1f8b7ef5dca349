"""A real sshd on loopback, with a port, keys and users' authorized keys of its own. No test stands here."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Self

from tests.support.parts import missing

PROGRAM = "/usr/sbin/sshd"
PATIENCE = 20.0  # seconds
SETTINGS = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/ssh_host_ed25519_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PermitRootLogin yes
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
LogLevel VERBOSE
SetEnv HOME={folder}
"""
"""Not the home of a developer, where bash may read what takes seconds, or leaves a lock where it is killed (pyenv)."""


class SshServer:
    """One server; `with` starts it, ends it with all its sessions, and takes its folder away."""

    def __init__(self) -> None:
        if not Path(PROGRAM).exists():
            missing("sshd", "apt install openssh-server")
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-sshd-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.keys = self.folder / "authorized_keys"
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        """Return USER@HOST:PORT."""
        return f"{self.user}@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        key = self.folder / "ssh_host_ed25519_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (self.folder / "sshd_config").write_text(SETTINGS.format(port=self.port, folder=self.folder))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()
        return self

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [PROGRAM, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.folder / "log")]
        self._process = subprocess.Popen(words, start_new_session=True)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """Stop listening, and cut all sessions."""
        for child in self.sessions():
            os.kill(child, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def sessions(self) -> list[int]:
        """Return the processes of its connections, each with the children that sshd makes of it."""
        found, ask = [], [self._process.pid]
        while ask:
            path = Path(f"/proc/{ask[0]}/task/{ask.pop(0)}/children")
            try:
                children = [int(each) for each in path.read_text().split()]
            except OSError:
                continue
            found += children
            ask += children
        return found

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)
