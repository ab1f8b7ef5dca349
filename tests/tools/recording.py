"""The terminal recording of the documentation: a Debian 12 from `apt install` to its first digest, in a real terminal.

`python -m tests.tools.recording` (as root, some minutes) writes docs/recording.cast, in asciinema's format; with the
path of a built package, it does not build one. Every command and all output are real; the sshd lines that fail2ban
reads are written here, because nobody attacks the machine. tests/tools/terminal.py draws it.
"""

import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from tempfile import TemporaryDirectory
from termios import TIOCSWINSZ

from tests import ROOT
from tests.packaging.debian import ENVIRONMENT, Debian
from tests.packaging.publishing import build

CAST = ROOT / "docs/recording.cast"
COLUMNS, LINES = 100, 30
PROMPT = "\x1b[1;32mroot@web1\x1b[0m:\x1b[1;34m~\x1b[0m# "
LONGEST = 1.2
"""Seconds: longer pauses of the recording are cut to this."""
STEPS = (
    ("apt-get install -qqy ./f2b-digest_*.deb", ""),
    ("f2b-digest setup", "y\n"),
    ("# Some minutes later, fail2ban has banned:", ""),
    ("fail2ban-client status sshd", ""),
    ("f2b-digest preview --no-pager", ""),
    ("# That is what cron sends tonight. Not to wait for it:", ""),
    ("f2b-digest send daily", ""),
    ("f2b-digest status", ""),
    ("grep -a ^Subject: /var/mail/root", ""),
)
"""What is typed, and what is answered to the question that follows."""
TRIED = {
    "203.0.113.7": ("root", "admin"), "203.0.113.8": ("root",), "203.0.113.21": ("oracle", "postgres"),
    "203.0.113.52": ("root", "test"), "203.0.113.77": ("git",), "198.51.100.14": ("ubuntu",),
    "192.0.2.201": ("root", "anna"), "2001:db8:40::9": ("root",),
}  # fmt: skip
"""Who tries which accounts."""
ACCOUNTS = ("root", "anna")
"""Those that the machine has."""
Event = tuple[float, str]


def main(packages: list[str]) -> None:
    """Record, and write the file."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if packages:
            shutil.copy(packages[0], folder)
        else:
            building = build(folder)
            said = building.communicate()[0]
            assert not building.returncode, said
        with Debian("bookworm", folder) as machine:
            prepare(machine)
            events = list(record(machine))
    header = {"version": 2, "width": COLUMNS, "height": LINES, "title": "f2b-digest: from setup to the first digest"}
    lines = [json.dumps(header), *(json.dumps([round(at, 2), "o", text]) for at, text in events)]
    CAST.write_text("\n".join([*lines, ""]))


def prepare(machine: Debian) -> None:
    """Make it a host with a name, an account, and a mail system for root."""
    machine("hostname web1.example.org && useradd --create-home --shell /bin/bash anna")
    machine("cp /repository/*.deb /root/")


def attack(machine: Debian) -> None:
    """Write what sshd writes of wrong passwords, and wait until all are banned."""
    now = time.time()
    lines = [
        f"{time.strftime('%b %d %H:%M:%S', time.gmtime(now))} web1 sshd[{4000 + number}]: "
        f"Failed password for {'' if user in ACCOUNTS else 'invalid user '}{user} from {ip} port 40{number:03} ssh2"
        for number, (ip, users) in enumerate(TRIED.items())
        for user in users * 5
    ]
    machine("cat >> /var/log/auth.log <<'END'\n" + "\n".join(lines) + "\nEND")
    for ip in TRIED:
        machine.until(f"python3 /root/recorded.py {ip}")


def record(machine: Debian) -> Iterator[Event]:
    """Type each command, and yield what the terminal shows, with its second."""
    at = 0.0
    for command, answer in STEPS:
        yield at, PROMPT
        at += LONGEST
        yield at, f"{command}\r\n"
        at += 0.3
        if command.startswith("#"):
            attack(machine)
            continue
        for pause, text in terminal(machine, command, answer):
            at += min(pause, LONGEST)
            yield at, text
        at += LONGEST
    yield at, PROMPT


def terminal(machine: Debian, command: str, answer: str) -> Iterator[Event]:
    """Run a command in a terminal of the machine; yield its output, with the seconds since the output before."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    words = ["nsenter", "-t", machine.leader, "-a", *ENVIRONMENT, "TERM=xterm-256color", "sh", "-c", f"cd && {command}"]
    running = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    last, shown = time.monotonic(), ""
    while True:
        if answer and shown.rstrip().endswith("]:"):
            os.write(ours, answer.encode())
            answer = ""
        try:
            text = os.read(ours, 1 << 16).decode() if select.select([ours], [], [], 120)[0] else ""
        except OSError:  # the other end is closed
            text = ""
        if not text:
            break
        now = time.monotonic()
        yield now - last, text
        last, shown = now, shown + text
    os.close(ours)
    assert running.wait(20) == 0, shown


if __name__ == "__main__":
    main(sys.argv[1:])
