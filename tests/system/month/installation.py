"""An installation whose clock is moved: its bans, its cron, its mailboxes. No test stands here."""

import csv
import json
import re
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import trustme

from tests.support.parts import program
from tests.system import wheels
from tests.system.day import NAME, PATIENCE, Server

ZONE = ZoneInfo("Europe/Paris")
FOLDER = "var/lib/fail2ban/f2b-digest"
STORE = f"{FOLDER}/bans.sqlite3"
CRON = "etc/cron.d/f2b-digest"
LOG = "var/log/fail2ban.log"
DOCUMENTS = "var/tmp/documents"
BANNED = re.compile(r"NOTICE +\[([^]]+)\] Ban (\S+)")
BILLION = 10**9
Ban = tuple[str, str]
"""Jail and address."""
JAILS = """
[DEFAULT]
banaction = dummy
backend = polling
destemail = anna@{name}
sender = fail2ban@{name}
bantime = 1d
findtime = 1h
maxretry = 1

[sshd]
enabled = true
logpath = /var/log/sshd.log

[web]
enabled = true
filter = sshd
logpath = /var/log/web.log
"""
LATER = "[late]\nenabled = true\nfilter = sshd\nlogpath = /var/log/late.log\n"
REPORTS = """
[reports.weekly]
channels = ["mail", "office"]

[channels.office]
kind = "email"
from = "fail2ban@{name}"
to = ["ben@{name}"]
smtp = "smtp://{name}:25"
ca_file = "ca.pem"
attach = "csv"

[channels.documents]
kind = "command"
command = ["/opt/document"]
input = "json"
"""
SMTPD = """
smtp    inet       n - n -   - smtpd
tlsmgr  unix       - - n 1000? 1 tlsmgr
scache  unix       - - n -   1 scache
showq   unix       n - n -   - showq
proxymap unix      - - n -   - proxymap
anvil   unix       - - n -   1 anvil
"""
DOCUMENT = f"""#!/bin/sh
set -e
file=$(mktemp /{DOCUMENTS}/.XXXXXX)
cat >$file
mv $file /{DOCUMENTS}/$(date +%s.%N)
"""
"""A channel's program, which keeps each digest as JSON."""


class Line(NamedTuple):
    """A line of cron's file."""

    when: str
    command: str


class Installation(Server):
    """A server on which the program is installed as the README says, with the clock and the bans that a test wants."""

    def __init__(self, begin: datetime) -> None:
        """Boot it at a time."""
        self._compiler = program("cc", "apt install gcc libc6-dev")
        self.now = begin
        self.fed: Counter[Ban] = Counter()
        """What the jails had to ban."""
        self.times: dict[str, list[datetime]] = {}
        """When each jail had something to ban."""
        self.recording = {"sshd", "web"}
        """Jails with the action."""
        self._last: dict[str, tuple[str, float]] = {}
        self.doubtful: set[Ban] = set()
        """Bans beside which fail2ban, or the whole machine, was killed: whether it recorded them is not known here."""
        self._client: subprocess.Popen[str] | None = None
        super().__init__()

    # ---- the clock

    def _daemons(self) -> None:
        """Give all that runs there the moved clock, and start what a machine's init would."""
        source = Path(__file__).with_name("clock.c")
        subprocess.run(
            [self._compiler, "-O2", "-shared", "-fPIC", "-o", self.root / "opt/clock.so", source], check=True
        )
        self._moved = [0, 0]
        self._write_clock()
        self.set_clock(self.now)
        self._booted_at(self.now)
        self.write("etc/ld.so.preload", "/opt/clock.so\n")
        self.well("ln", "-sf", f"/usr/share/zoneinfo/{ZONE.key}", "/etc/localtime")
        self.write("etc/timezone", f"{ZONE.key}\n")
        self._files()
        self.start()

    def set_clock(self, to: datetime) -> None:
        """Move the clock on, as time would: the machine has been up for as much longer."""
        before = self._moved[0]
        self.jump(to)
        self._moved[1] += self._moved[0] - before
        self._write_clock()

    def jump(self, to: datetime) -> None:
        """Set the clock, as a person or NTP does."""
        self._moved[0] = int(to.timestamp() * BILLION) - time.time_ns()
        self._write_clock()

    def _booted_at(self, when: datetime) -> None:
        uptime = int((self.now - when).total_seconds() * BILLION) + BILLION
        self._moved[1] = uptime - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._write_clock()

    def _write_clock(self) -> None:
        with (self.root / "opt/clock").open("r+b" if (self.root / "opt/clock").exists() else "wb") as file:
            file.write(struct.pack("qq", *self._moved))

    # ---- what runs there

    def _files(self) -> None:
        self.write("etc/fail2ban/jail.local", JAILS.format(name=NAME))
        for jail in ("sshd", "web", "late"):
            self.write(f"var/log/{jail}.log", "")
        self.write("etc/postfix/master.cf", self.read("etc/postfix/master.cf") + SMTPD)
        more = "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = /etc/postfix/key.pem\ninet_interfaces = all\n"
        main = self.read("etc/postfix/main.cf").replace("inet_interfaces = 127.0.0.1\n", more)
        self.write("etc/postfix/main.cf", f"{main}smtpd_relay_restrictions = reject_unauth_destination\n")
        authority = trustme.CA()
        # Of a year around the clock that is moved, and around this machine's.
        certificate = authority.issue_cert(NAME, not_after=self.now + timedelta(days=3000))
        self.write("etc/postfix/key.pem", certificate.private_key_and_cert_chain_pem.bytes().decode())
        self._authority = authority.cert_pem.bytes().decode()
        self.write("opt/document", DOCUMENT)
        self.well("sh", "-ec", f"chmod 755 /opt/document; mkdir -m 1777 /{DOCUMENTS}; useradd ben")

    def start(self) -> None:
        """Start the daemons."""
        self.well("sh", "-ec", "mkdir -p /run/fail2ban /run/sshd")
        self.well("rsyslogd")
        self.well("postfix", "start")
        self.well("fail2ban-client", "start")

    def die(self) -> None:
        """Kill everything, and forget what a boot forgets."""
        others = f"{self.read('run/elsewhere.pid').strip()}"  # the other end of its network cable
        self(
            "sh",
            "-c",
            f"for each in /proc/[2-9]* /proc/1?*; do echo ${{each#/proc/}}; done | grep -vx {others} | xargs kill -9",
        )
        self._hang_up()
        self.well("sh", "-ec", "find /run /dev/log -mindepth 0 ! -type d ! -name elsewhere.pid -delete")

    def _hang_up(self) -> None:
        if self._client:
            self._client.kill()
            self._client.communicate()
            self._client = None

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._hang_up()
        super().__exit__()

    def reboot(self) -> None:
        """Start a machine that died."""
        self._booted_at(self.now)
        self.start()

    # ---- bans

    def fail2ban(self, line: str) -> None:
        """Give fail2ban's interactive client a command, which needs no process of its own."""
        if self._client is None or self._client.poll() is not None:
            self._client = subprocess.Popen(
                [*self._enter, "fail2ban-client", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, bufsize=1,
            )  # fmt: skip
        assert self._client.stdin
        assert self._client.stdout
        self._client.stdin.write(f"{line}\n")
        said = self._client.stdout.readline()
        while not said.strip().endswith("1"):
            said = self._client.stdout.readline()
            assert said, f"{line}: fail2ban's client has ended\n{self.logs()}"

    def attack(self, until: datetime, attempts: Iterable[tuple[datetime, Ban]]) -> None:
        """Live until a time, with these attempts; each is a ban, and at the end fail2ban has made them all."""
        for at, (jail, address) in attempts:
            self.now = max(self.now, at)
            self.set_clock(self.now)
            self.fail2ban(f"set {jail} attempt {address}")
            self.fed[jail, address] += 1
            self.times.setdefault(jail, []).append(self.now)
            self._last[jail] = (address, self.now.timestamp() - 1)
        self.wait_for(lambda: not self.fed - self.banned(), "fail2ban's bans")
        self._wait_for_the_action()
        self.now = max(self.now, until)
        self.set_clock(self.now)

    def _wait_for_the_action(self) -> None:
        """Wait until the last ban of each jail is stored: for `send`, the moved clock makes it hours old at once."""
        last, self._last = self._last, {}
        until = time.monotonic() + PATIENCE
        for jail, (ip, at) in last.items():
            query = f"SELECT 1 FROM event WHERE kind = 'ban' AND jail = '{jail}' AND ip = '{ip}' AND at >= {at}"
            while jail in self.recording and ip not in self.read(f"{STORE}.spool") and not self.select(STORE, query):
                assert time.monotonic() < until, f"not recorded: {jail} {ip}"
                time.sleep(0.1)

    def banned(self) -> Counter[Ban]:
        """Return what fail2ban banned, by its own log."""
        return Counter((jail, ip) for jail, ip in BANNED.findall(self.read(LOG)) if jail != "f2b-digest-setup")

    # ---- the program

    def install(self, wheel: Path) -> None:
        """Follow the README, then write a second report and a second mailbox into the configuration."""
        wheels.install(self, wheel)
        self.program("setup", "--yes")
        text = self.read("etc/f2b-digest/config.toml")
        text = text.replace('channels = ["mail"]', 'channels = ["mail", "office", "documents"]')
        text = re.sub(r"(?m)^(to = .*)$", r'\1\nattach = "csv"', text) + REPORTS.format(name=NAME)
        self.write("etc/f2b-digest/config.toml", text)
        self.write("etc/f2b-digest/ca.pem", self._authority)
        self.program("setup", "--yes")
        assert {line.when for line in self.crontab()} == {"@daily", "@weekly", "*/10 * * * *"}

    def program(self, *words: str) -> str:
        """Run it as root, without a word of trouble, and return what it said."""
        done = self("f2b-digest", *words)
        assert (done.returncode, done.stderr) == (0, ""), f"{words}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def troubles(self) -> list[str]:
        """Return what `check` says that is an error."""
        return [line for line in self("f2b-digest", "check").stdout.splitlines() if line.startswith("error")]

    # ---- cron

    def crontab(self) -> list[Line]:
        """Return the lines of cron's file."""
        lines = re.findall(r"(?m)^(@\w+|[*\d]\S* (?:\S+ ){3}\S+) +root +(.+)$", self.read(CRON))
        return [Line(*line) for line in lines]

    def cron(self, *whens: str) -> None:
        """Run the lines for these times, side by side as cron does; what one says is mailed to root."""
        for command, process in [(line.command, self.cron_begins(line.command)) for line in self.lines(*whens)]:
            self.cron_ends(command, process)

    def lines(self, *whens: str) -> list[Line]:
        """Return the lines for these times."""
        return [line for line in self.crontab() if line.when in whens]

    def cron_begins(self, command: str) -> "subprocess.Popen[str]":
        """Start a command in cron's environment."""
        path = re.search(r"(?m)^PATH=(.+)$", self.read(CRON))
        assert path
        environment = ("env", "-i", f"PATH={path[1]}", "SHELL=/bin/sh", "HOME=/root", "LOGNAME=root")
        return self.begin(*environment, "setsid", "/bin/sh", "-c", command)

    def cron_ends(self, command: str, process: "subprocess.Popen[str]") -> None:
        """Wait for it, and mail root what it said."""
        said = process.communicate(timeout=180)[0]
        if said:
            head = f"From: root\nTo: root\nSubject: Cron {command}\nX-At: {self.now.isoformat()}\n\n"
            self("sendmail", "-t", given=head + said)

    # ---- what arrives

    def documents(self) -> list[tuple[datetime, dict[str, Any]]]:
        """Return each digest that the program's own command got, and when."""
        # One whose name begins with a dot was being written when something was killed.
        found = sorted((self.root / DOCUMENTS).glob("[0-9]*"), key=lambda file: float(file.name))
        return [(datetime.fromtimestamp(float(file.name), UTC), json.loads(file.read_text())) for file in found]

    def settled(self) -> None:
        """Wait until Postfix has delivered all that it was given."""
        empty = partial(self, "sh", "-c", "postqueue -p | grep -q 'queue is empty'")
        self.well("postqueue", "-f")
        self.wait_for(lambda: empty().returncode == 0, f"an empty queue: {self('postqueue', '-p').stdout}")


def told(mails: Sequence[EmailMessage]) -> dict[str, Counter[Ban]]:
    """Return how often each report's mails tell each ban; copies of one Message-ID count once."""
    found: dict[str, Counter[Ban]] = {}
    for mail in {mail["Message-ID"]: mail for mail in mails}.values():
        counts = found.setdefault(report_of(mail), Counter())
        for part in mail.iter_attachments():
            for row in csv.DictReader(part.get_content().splitlines()):
                counts[row["jail"], row["address"]] += int(row["bans"])
    return found


def report_of(mail: EmailMessage) -> str:
    """Return which report a mail is of."""
    report = re.search(r"report=(\w+)", mail["X-F2B-Digest"])
    assert report
    return report[1]
