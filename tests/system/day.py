"""A server for the tests, where cron, sshd, rsyslog, Postfix and fail2ban run, and hosts elsewhere that log in there.

It is this machine seen through an overlay, with processes, a network and its own name: all that is changed there
goes away with it, and no file, server or log of this machine is touched. No tests here.
"""

import contextlib
import email
import json
import mailbox
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path
from typing import Any, Self

from tests.support.parts import missing, program

PATIENCE = 60.0
"""Seconds until a test gives up waiting for what takes a second on an idle machine."""
MAIL = EmailPolicy()
ADDRESS = "203.0.113.10"
NAME = "web1.example.org"
PASSWORD = "correct horse"
PARTS = {
    "cron": "cron", "fail2ban-server": "fail2ban", "ip": "iproute2", "mount": "mount", "nsenter": "util-linux",
    "pgrep": "procps", "postfix": "postfix", "rsyslogd": "rsyslog", "sqlite3": "sqlite3", "ssh": "openssh-client",
    "sshd": "openssh-server", "unshare": "util-linux", "useradd": "passwd",
}  # fmt: skip
"""What must be installed: programs, and the packages they come in."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
"""Of root's shell there."""
# Folders that begin empty: what this machine keeps there is neither shown nor run.
EMPTY = {
    "/dev": "755", "/run": "755", "/tmp": "1777", "/var/tmp": "1777", "/var/log": "755", "/var/spool": "755",
    "/var/mail": "2777", "/var/lib/fail2ban": "755,size=160m", "/var/lib/postfix": "755", "/home": "755", "/opt": "755",
    "/etc/cron.d": "755", "/etc/cron.hourly": "755", "/etc/cron.daily": "755", "/etc/cron.weekly": "755",
    "/etc/fail2ban/jail.d": "755", "/etc/rsyslog.d": "755", "/etc/ssh": "755",
}  # fmt: skip
BOOT = """
set -eu
work=$1; shift
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
cd "$work/root"
rm -rf etc/f2b-digest  # in the overlay only, and no mount: purge takes it away
while [ "$1" != -- ]; do
    mkdir -p ".$2"; mount -t tmpfs -o "mode=$1" tmpfs ".$2"; shift 2
done
shift
for folder; do  # the Python of the tests, for all users
    mkdir -p ".$folder"; mount --bind "$folder" ".$folder"
    while folder=$(dirname "$folder"); [ "$folder" != / ]; do chmod a+rx ".$folder"; done
done
mkdir -p proc
mount -t proc proc proc
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom dev/
ln -s /proc/self/fd dev/fd
mkdir dev/shm && mount -t tmpfs -o mode=1777 tmpfs dev/shm
hostname NAME
unshare --net sleep 1800 &
until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link set lo up
ip link add eth0 type veth peer name eth0 netns $!
ip addr add ADDRESS/32 dev eth0
ip link set eth0 up
ip route add 198.51.100.0/24 dev eth0
nsenter -t $! --net sh -c 'ip addr add 198.51.100.1/24 dev eth0; ip link set eth0 up; ip route add ADDRESS dev eth0
    for last in $(seq 2 99); do ip addr add 198.51.100.$last/32 dev eth0; done'
echo $! >run/elsewhere.pid
mkdir old && pivot_root . old && umount -l old && rmdir old
echo up
exec /usr/bin/python3 -c '
import signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody is left a zombie
time.sleep(1800)'
""".replace("NAME", NAME).replace("ADDRESS", ADDRESS)
ACCOUNTS = f"""
useradd --create-home --shell /bin/sh anna && echo 'anna:{PASSWORD}' | chpasswd
mkdir -p /run/sshd /run/fail2ban /var/spool/cron/crontabs /var/spool/postfix /var/log/fail2ban
chown postfix /var/lib/postfix
ssh-keygen -q -A
newaliases
"""
WITNESS = """#!/bin/sh
{
    grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status
    ps -eo ruid=,euid=,args= | grep '[f]2b-digest send' | grep -v '/bin/sh -c'  # that is cron's own
} >/tmp/witness
exit 0
"""
"""A channel's program that tells who runs it, and as whom the sender's processes run then."""
FILES = {
    "etc/hosts": f"127.0.0.1 localhost\n{ADDRESS} {NAME} web1\n",
    "etc/resolv.conf": "",
    "etc/mailname": f"{NAME}\n",
    "etc/aliases": "postmaster: root\n",
    "etc/crontab": "",
    "etc/rsyslog.conf": """
module(load="imuxsock")
$FileOwner root
$FileGroup adm
$FileCreateMode 0640
$Umask 0022
auth,authpriv.* /var/log/auth.log
cron.* /var/log/cron.log
mail.* /var/log/mail.log
""",
    "etc/ssh/sshd_config": "UsePAM yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nUseDNS no\n"
    "MaxStartups 100\nPerSourceMaxStartups 100\n",
    "etc/postfix/main.cf": f"""
compatibility_level = 3.6
myhostname = {NAME}
mydestination = {NAME}, localhost
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
smtp_dns_support_level = disabled
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
""",
    "etc/postfix/master.cf": """
pickup  unix       n - n 60  1 pickup
cleanup unix       n - n -   0 cleanup
qmgr    unix       n - n 300 1 qmgr
rewrite unix       - - n -   - trivial-rewrite
bounce  unix       - - n -   0 bounce
defer   unix       - - n -   0 bounce
trace   unix       - - n -   0 bounce
error   unix       - - n -   - error
local   unix       - n n -   - local
smtp    unix       - - n -   - smtp
""",
    "etc/fail2ban/jail.local": f"""
[DEFAULT]
banaction = dummy
banaction_allports = dummy
backend = polling
destemail = anna@{NAME}
sender = fail2ban@{NAME}
bantime = 1h

[sshd]
enabled = true
maxretry = 3
""",
    "opt/answer": '#!/bin/sh\necho "$ANSWER"\n',
    "opt/witness": WITNESS,
}
"""How the server differs from a machine that has the packages installed."""


class Server:
    """A server on which all that a machine needs for fail2ban runs; `with` ends it, and nothing of it is left."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            missing("a server of one's own", "run as root, who may make one")
        for name, package in PARTS.items():
            program(name, f"apt install {package}")
        self._folder = Path(tempfile.mkdtemp(prefix="f2b-digest-server-"))
        empty = [word for folder, mode in EMPTY.items() for word in (mode, folder)]
        pythons = dict.fromkeys(map(str, (sys.base_prefix, sys.prefix)))
        self._kernel = subprocess.Popen(
            [
                *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"),
                *("--propagation", "private", "sh", "-c", BOOT, "sh", str(self._folder), *empty, "--", *pythons),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise

    def _begin(self) -> None:
        assert self._kernel.stdout
        assert self._kernel.stderr
        if self._kernel.stdout.readline() != "up\n":
            said = self._kernel.stderr.read()
            missing("a server of one's own", f"run where root may make namespaces, an overlay and a veth: {said}")
        number = self._kernel.pid
        self._pid = int(Path(f"/proc/{number}/task/{number}/children").read_text())
        self._enter = ["nsenter", "-t", str(self._pid), "--mount", "--net", "--pid", "--uts", "--ipc"]
        self.root = Path(f"/proc/{self._pid}/root")
        for name, text in FILES.items():
            self.write(name, text)
        for name in ("answer", "witness"):
            (self.root / "opt" / name).chmod(0o755)
        self.well("sh", "-ec", ACCOUNTS)
        self._daemons()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.kill()
        self._kernel.communicate()
        self._folder.rmdir()

    def _daemons(self) -> None:
        """Start what a machine's init would."""
        self.well("rsyslogd")
        self.wait_for((self.root / "dev/log").exists, "rsyslog's socket")
        self.well("/usr/sbin/sshd")
        self.well("postfix", "start")
        self.well("cron")
        self.well("fail2ban-client", "start")

    # ---- hosts elsewhere

    def knock(self, address: str, user: str, *, password: str = "wrong", guesses: int = 3) -> subprocess.Popen[str]:
        """Begin to log in from an address, with the same password up to three times."""
        ssh = [
            *("ssh", "-b", address, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "PreferredAuthentications=password", "-o", f"NumberOfPasswordPrompts={guesses}"),
            *(f"{user}@{ADDRESS}", "true"),
        ]
        elsewhere = ("nsenter", "-t", self.read("run/elsewhere.pid").strip(), "--net")
        return self.begin(*elsewhere, *ssh, ANSWER=password, SSH_ASKPASS="/opt/answer", SSH_ASKPASS_REQUIRE="force")

    # ---- its shell

    def __call__(self, *words: str, given: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, as its root."""
        return subprocess.run(
            [*self._enter, *words], env=ENVIRONMENT | variables, cwd="/", input=given or "", text=True,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip

    def begin(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Begin a command there."""
        return subprocess.Popen(
            [*self._enter, *words], env=ENVIRONMENT | variables, cwd="/", text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def well(self, *words: str, given: str | None = None) -> str:
        """Run a command there that must end well, and return what it said."""
        done = self(*words, given=given)
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def write(self, name: str, text: str) -> None:
        """Write a file there."""
        (self.root / name).write_text(text, encoding="utf-8")

    def read(self, name: str) -> str:
        """Read a file there; nothing if there is none."""
        path = self.root / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def wait_for(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait until a condition holds; fail with the server's logs if it never does."""
        until = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < until, f"never came: {what}\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """Return what its daemons wrote, for failure messages."""
        names = ("auth.log", "cron.log", "mail.log", "fail2ban.log")
        return "\n".join(f"---- {name}\n{self.read(f'var/log/{name}')}" for name in names)

    # ---- what stands on it

    def tree(self, *names: str) -> dict[str, tuple[int, int, int, bytes]]:
        """Return every file below some folders: mode, owner, group, content."""
        found = {}
        for path in (path for name in names for path in (self.root / name).rglob("*")):
            at = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(at.st_mode) else b""
            found[str(path.relative_to(self.root))] = (at.st_mode, at.st_uid, at.st_gid, content)
        return found

    def mails(self, user: str) -> list[EmailMessage]:
        """Return what lies in a user's mailbox, the oldest first."""
        path = self.root / "var/mail" / user
        if not path.exists():
            return []
        with contextlib.closing(mailbox.mbox(path, create=False)) as box:
            return [email.message_from_bytes(box.get_bytes(key), policy=MAIL) for key in box.keys()]  # noqa: SIM118

    def select(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; SQLite as root leaves what it makes beside a database to the database's owner."""
        said = self.well("sqlite3", "-json", "-cmd", ".timeout 5000", f"/{database}", query)
        return [tuple(row.values()) for row in json.loads(said or "[]")]
