"""Machines of a fleet for the tests of its documentation: on one network of their own, typed at as a person does.

A centre with the PostgreSQL of apt as it is after its installation, a host with sshd, a mail server. No tests here.
"""

import fcntl
import os
import pty
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from contextlib import closing
from email import message_from_bytes, policy
from pathlib import Path

from tests.support.machine import Machine
from tests.support.parts import missing, program

NAMES = {
    "db.example.org": "10.9.0.1", "web1": "10.9.0.2", "web2": "10.9.0.3", "hub.example.org": "10.9.0.4",
    "db1.example.org": "10.9.0.5", "db2.example.org": "10.9.0.6",
}  # fmt: skip
"""Their addresses."""
PATIENCE = 60.0
"""Seconds for a command, and for a server to start."""
PROGRAM = "/usr/local/bin/f2b-digest"


class FleetMachine(Machine):
    """A machine with a name and an address, whose root has a home of its own."""

    def __init__(self, name: str, beside: Machine | None = None) -> None:
        super().__init__("1.0", name, beside)
        self.name = name
        self._processes: list[subprocess.Popen[bytes]] = []
        if beside is None:
            self.do("ip link set lo up")
        self.do(f"ip address add {NAMES[name]}/32 dev lo")
        with (self.folder / "etc/hosts").open("a") as hosts:
            hosts.writelines(f"{address} {each}\n" for each, address in NAMES.items())
        (self.folder / "home").mkdir(mode=0o700)
        if self("mountpoint", "-q", "/root").returncode:  # else it is this machine's own already, with a Python in it
            self._mount(self.folder / "home", "/root")
        self._mount(self.folder / "bin", "/usr/local/bin")  # of which sudo and sshd know

    def do(self, line: str) -> str:
        """Run a line of the shell as root, and return what it printed; it must succeed."""
        done = self("sh", "-c", line)
        assert done.returncode == 0, f"{self.name}: {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, *words: str, port: int) -> None:
        """Start a server, and wait until it listens."""
        with (self.folder / "served").open("ab") as log:
            server = subprocess.Popen(
                self.entering(*words), env=self.environment, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(server)
        until = time.monotonic() + PATIENCE
        while not self.do(f"ss -Hltn sport = :{port}"):
            assert time.monotonic() < until, (self.folder / "served").read_text()
            time.sleep(0.05)

    def typed(self, line: str, answers: Mapping[str, str]) -> tuple[int, str]:
        """Type a line at root's terminal, answer its questions, and return its exit status and what it showed."""
        child, terminal = pty.fork()
        if not child:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # or psql starts its pager
            os.chdir("/")
            os.execvpe("nsenter", self.entering("bash", "-c", line), self.environment)
        shown, seen, until = "", 0, time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if not select.select([terminal], [], [], 0.5)[0]:
                continue
            try:
                shown += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # it has closed the terminal
                break
            for question, answer in answers.items():
                if shown[seen:].rstrip().endswith(question):
                    os.write(terminal, f"{answer}\n".encode())
                    seen = len(shown)
        else:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)  # not before: that would be a hang-up
        return status, shown.replace("\r\n", "\n")

    def ban(self, *addresses: str) -> None:
        """Let fail2ban's jail ban addresses, and wait until they are recorded."""
        self.do(f"fail2ban-client set sshd banip {' '.join(addresses)}")
        until = time.monotonic() + PATIENCE
        with closing(sqlite3.connect(self.folder / "lib/f2b-digest/bans.sqlite3")) as store:
            while not set(addresses) <= {ip for (ip,) in store.execute("SELECT ip FROM event WHERE kind = 'ban'")}:
                assert time.monotonic() < until
                time.sleep(0.1)

    def cron(self) -> None:
        """Start cron, with nothing of the system's own to run."""
        for name in ("cron.hourly", "cron.daily", "cron.weekly", "cron.monthly"):
            shutil.rmtree(self.folder / "etc" / name, ignore_errors=True)
        self.write("etc/crontab", "")
        for file in (self.folder / "etc/cron.d").iterdir():
            if file.name != "f2b-digest":
                file.unlink()
        self._processes.append(subprocess.Popen(self.entering(program("cron", "apt install cron"), "-f")))

    def sshd(self) -> None:
        """Start sshd as the system has it configured."""
        sshd = program("sshd", "apt install openssh-server")
        self.do("ssh-keygen -A && mkdir -p -m 755 /run/sshd && mkdir -p -m 700 /root/.ssh")
        self.serve(sshd, "-D", "-e", "-o", f"ListenAddress={NAMES[self.name]}", port=22)

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        super().__exit__()


class DatabaseMachine(FleetMachine):
    """A machine with PostgreSQL as Debian installs it, and all its ports."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        program("pg_createcluster", "apt install postgresql")
        program("sudo", "apt install sudo")
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        self.version = versions[-1].parts[-3] if versions else missing("PostgreSQL", "apt install postgresql")
        (self.folder / "postgresql").mkdir()
        shutil.chown(self.folder / "postgresql", "postgres", "postgres")
        self._mount(self.folder / "postgresql", "/var/lib/postgresql")
        shutil.rmtree(self.folder / f"etc/postgresql/{self.version}", ignore_errors=True)
        self.do("mkdir -p /var/log/postgresql && chown postgres: /var/log/postgresql")
        self.do(f"pg_createcluster {self.version} main --port 5432 --start")

    def append(self, file: str, text: str) -> None:
        """Add lines to the end of one of PostgreSQL's files."""
        with self.configuration(file).open("a") as opened:
            opened.write(text)

    def configuration(self, file: str) -> Path:
        """Return one of PostgreSQL's files."""
        return self.folder / f"etc/postgresql/{self.version}/main/{file}"

    def cable(self, other: FleetMachine) -> None:
        """Connect a machine that is on a network of its own."""
        self.do(
            "ip link show br0 || (ip link add br0 type bridge && ip link set br0 up && "
            f"ip route add 10.9.0.0/24 dev br0 src {NAMES[self.name]})"
        )
        port, address = f"port{other.pid}", NAMES[other.name]
        self.do(f"ip link add {port} type veth peer name eth0 netns {other.pid} && ip link set {port} master br0 up")
        other.do(
            f"ip address delete {address}/32 dev lo && ip address add {address}/24 dev eth0 && ip link set eth0 up"
        )

    def restart(self) -> None:
        """Restart PostgreSQL."""
        self.do(f"pg_ctlcluster {self.version} main restart")

    def __exit__(self, *_: object) -> None:
        self("pg_ctlcluster", self.version, "main", "stop", "-m", "immediate")
        super().__exit__()


class CentreMachine(DatabaseMachine):
    """One that has a mail server, too."""

    def mail_server(self, python: str) -> None:
        """Start a mail server on port 25 that keeps what it takes, and have a sendmail that knows it."""
        (self.folder / "mail").mkdir()
        self.write("etc/msmtprc", "account default\nhost 127.0.0.1\n")
        self._mount(program("msmtp", "apt install msmtp"), "/usr/sbin/sendmail")
        words = ("-m", "aiosmtpd", "--nosetuid", "--listen", "127.0.0.1:25", "--class", "aiosmtpd.handlers.Mailbox")
        self.serve(python, *words, str(self.folder / "mail/box"), port=25)

    def mails(self) -> list[str]:
        """Return the text of each mail that arrived."""
        messages = [
            message_from_bytes(file.read_bytes(), policy=policy.default)
            for file in (self.folder / "mail/box/new").glob("*")
        ]
        parts = [message.get_body(("plain",)) for message in messages]
        return [
            f"{message['Subject']}\n{part.get_content()}" for message, part in zip(messages, parts, strict=True) if part
        ]
