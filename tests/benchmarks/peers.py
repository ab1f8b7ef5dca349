"""Benchmark: how many bans fail2ban's own sendmail-buffered and f2b-digest lose under the same faults.

Run: python -m tests.benchmarks.peers [--jails N] [--bans N]. It runs the very shell text of the installed
/etc/fail2ban/action.d/sendmail-buffered.conf, with its tags filled in here; mails go into a folder, nothing leaves the
host. A ban is lost if it is in no mail that arrived and nothing holds it to be told later: not the peer's buffer, not
our store or its spool. The minutes that a retry waits are skipped, by setting its time in the store.
"""

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from configparser import ConfigParser
from contextlib import closing, suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from threading import Thread

from f2b_digest import recorder

ACTION = Path("/etc/fail2ban/action.d/sendmail-buffered.conf")
LINES = 5
"""Bans of one of the peer's mails: its default."""
TIME_LIMIT = 40.0
"""Seconds for which jails ban at once: a slow machine has fewer bans in the table, and the table says so."""
MAILER = """#!/bin/sh
cd "$(dirname "$0")"
[ ! -e refuse ] || exit 75
if [ -e killed ]; then head -c 100 >/dev/null; kill -9 $$; fi
cat >"mails/.$$"
[ ! -e slow ] || sleep 1
mv "mails/.$$" "mails/$$.$(date +%N)"
"""


class Side(ABC):
    """One of the two: a folder with a mailer whose mails arrive in a folder, unless a fault's mark is there."""

    name: str

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = folder
        (folder / "mails").mkdir(parents=True)
        self.mailer = folder / "mailer"
        self.mailer.write_text(MAILER)
        self.mailer.chmod(0o755)

    @abstractmethod
    def ban(self, jail: int, number: int) -> None:
        """Do what fail2ban does at a ban: once it returns, fail2ban has forgotten it."""

    @abstractmethod
    def report(self) -> None:
        """Do what cron does."""

    @abstractmethod
    def start_mailing(self, jail: int, numbers: Iterable[int]) -> "subprocess.Popen[bytes]":
        """Ban, and return the process that is about to mail what was banned, in its own group."""

    @abstractmethod
    def known(self) -> int:
        """Return how many bans arrived, or wait to be told."""

    def set_fault(self, name: str, on: bool) -> None:
        """Break or fix the mailer."""
        (self.folder / name).touch() if on else (self.folder / name).unlink()

    def mails(self) -> list[bytes]:
        """Return the mails that arrived."""
        return [file.read_bytes() for file in (self.folder / "mails").glob("[!.]*")]


def address(jail: int, number: int) -> str:
    """Return an address that is banned once only."""
    return f"10.{jail}.{number >> 8}.{number & 255}"


class Peer(Side):
    """fail2ban's sendmail-buffered: a temporary file of all jails, mailed and removed at every fifth line."""

    name = "sendmail-buffered"

    def __init__(self, folder: Path) -> None:
        """Read the action's text."""
        super().__init__(folder)
        parser = ConfigParser()
        parser.read(ACTION)
        self._text = parser.get("Definition", "actionban")
        self._buffer = folder / "tmp-mail.txt"

    def _command(self, jail: int, number: int) -> list[str]:
        tags = {
            "ip": address(jail, number), "failures": "5", "tmpfile": str(self._buffer), "lines": str(LINES),
            "name": f"jail{jail}", "fq-hostname": "web1.example.org", "sendername": "Fail2Ban",
            "sender": "f2b@example.org", "dest": "admin@example.org", "mailcmd": str(self.mailer),
        }  # fmt: skip
        return ["sh", "-c", re.sub(r"<([a-z-]+)>", lambda tag: tags[tag[1]], self._text)]

    def ban(self, jail: int, number: int) -> None:
        """Run the action."""
        subprocess.run(self._command(jail, number), stderr=subprocess.DEVNULL, check=False)

    def report(self) -> None:
        """Do nothing: it mails while it bans."""

    def start_mailing(self, jail: int, numbers: Iterable[int]) -> "subprocess.Popen[bytes]":
        """Fill the buffer up to a mail."""
        *first, last = numbers
        for number in first:
            self.ban(jail, number)
        return subprocess.Popen(self._command(jail, last), start_new_session=True)

    def known(self) -> int:
        """Count the addresses that are in a mail or in the buffer."""
        waiting = self._buffer.read_bytes() if self._buffer.exists() else b""
        return len({ip for text in [*self.mails(), waiting] for ip in re.findall(rb"10\.\d+\.\d+\.\d+", text)})


class Ours(Side):
    """The recorder, and send as cron runs it."""

    name = "f2b-digest"

    def __init__(self, folder: Path) -> None:
        """Write the configuration."""
        super().__init__(folder)
        self._store = folder / "bans.sqlite3"
        (folder / "config.toml").write_text(
            'store = "bans.sqlite3"\n[reports.daily]\nchannels = ["mail"]\n[channels.mail]\nkind = "email"\n'
            f'from = "f2b@example.org"\nto = ["admin@example.org"]\nsendmail = "{self.mailer}"\n'
        )

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "f2b_digest", "--config", str(self.folder / "config.toml"), *words]

    def ban(self, jail: int, number: int) -> None:
        """Append, as the action in fail2ban does."""
        row = recorder.event("ban", f"jail{jail}", address(jail, number), time.time(), "web1", "benchmark", failures=5)
        recorder.append(str(self._store), row)

    def report(self) -> None:
        """Send: it also tries again what is due."""
        with closing(sqlite3.connect(self._store)) as store, suppress(sqlite3.OperationalError):  # no digest yet
            store.execute("UPDATE delivery SET next_at = 0 WHERE status = 'deferred'")
            store.commit()
        subprocess.run(self._command("send"), stderr=subprocess.DEVNULL, check=False)

    def start_mailing(self, jail: int, numbers: Iterable[int]) -> "subprocess.Popen[bytes]":
        """Ban, and send."""
        for number in numbers:
            self.ban(jail, number)
        return subprocess.Popen(self._command("send"), start_new_session=True)

    def known(self) -> int:
        """Add up what the mails tell, each Message-ID once, and what is pending or in the spool."""
        mails = {
            mail["Message-ID"]: mail for mail in (message_from_bytes(each, policy=default) for each in self.mails())
        }
        told = sum(bans_told(mail) for mail in mails.values())
        state = json.loads(subprocess.run(self._command("status", "--json"), stdout=subprocess.PIPE, check=True).stdout)
        return told + int(state["reports"]["daily"]["pending_bans"]) + int(state["spooled"])


def bans_told(mail: EmailMessage) -> int:
    """Return the number of bans that a mail's text gives, in its column of totals."""
    part = mail.get_body(("plain",))
    text = part.get_content() if part else ""
    return int(re.findall(r"^(?=[ \d,]{10} ) *([\d,]+) bans?\b", text, re.MULTILINE)[0].replace(",", ""))


# ---- faults: each returns how many bans there were; a side is made for one fault


def failing_mailer(side: Side, bans: int) -> int:
    """Let the mail server be away for the first half of the bans."""
    side.set_fault("refuse", True)
    for number in range(bans // 2):
        side.ban(1, number)
    side.report()
    side.set_fault("refuse", False)
    for number in range(bans // 2, bans):
        side.ban(1, number)
    side.report()
    return bans


def jails_at_once(side: Side, bans: int, jails: int = 8) -> int:
    """Let jails ban at once, each in its own thread, as in fail2ban, and report meanwhile."""
    done = [0] * jails
    until = time.monotonic() + TIME_LIMIT

    def ban(jail: int) -> None:
        while done[jail] < bans and time.monotonic() < until:
            side.ban(jail, done[jail])
            done[jail] += 1

    threads = [Thread(target=ban, args=(jail,)) for jail in range(jails)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        side.report()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    side.report()
    return sum(done)


def killed_mailer(side: Side, bans: int) -> int:
    """Let the mailer be killed (`kill -9`, or out of memory) in the middle of the mails of the first half."""
    side.set_fault("killed", True)
    for number in range(bans // 2):
        side.ban(1, number)
    side.report()
    side.set_fault("killed", False)
    for number in range(bans // 2, bans):
        side.ban(1, number)
    side.report()
    return bans


def killed_sender(side: Side, bans: int) -> int:
    """Kill whoever mails, with all of its children, in the middle of a mail; then go on."""
    side.set_fault("slow", True)
    rounds = max(1, min(5, bans // LINES))
    for turn in range(rounds):
        with side.start_mailing(1, range(turn * LINES, turn * LINES + LINES)) as process:
            until = time.monotonic() + 20
            while not list((side.folder / "mails").glob(".*")) and time.monotonic() < until:
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(1.1)  # a mailer in its own session ends its mail
        for half in (side.folder / "mails").glob(".*"):
            half.unlink()
    side.set_fault("slow", False)
    side.ban(1, rounds * LINES)
    side.report()
    return rounds * LINES + 1


FAULTS: dict[str, Callable[[Side, int], int]] = {
    "the mail server is away for a while": failing_mailer,
    "the mailer is killed": killed_mailer,
    "the sender is killed with its mailer": killed_sender,
    "jails ban at once": jails_at_once,
}


def lost(side: type[Side], fault: Callable[[Side, int], int], bans: int) -> tuple[int, int]:
    """Return how many bans a side lost under a fault, and of how many."""
    with tempfile.TemporaryDirectory(prefix="f2b-digest-peers-") as folder:
        each = side(Path(folder, "side"))
        there = fault(each, bans)
        return there - each.known(), there


def table(faults: Iterable[str], bans: dict[str, int]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield (fault, lost by the peer, of how many, lost by us, of how many) of each fault."""
    for name in faults:
        yield name, *lost(Peer, FAULTS[name], bans[name]), *lost(Ours, FAULTS[name], bans[name])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bans", type=int, default=1000, help="of each of 8 jails at once")
    parser.add_argument("--few", type=int, default=100, help="under each of the other faults")
    options = parser.parse_args()
    bans = dict.fromkeys(FAULTS, options.few) | {"jails ban at once": options.bans}
    print(f"{'bans that are lost where':40} {Peer.name:>20} {Ours.name:>20}")
    for name, theirs, their_bans, ours, our_bans in table(FAULTS, bans):
        print(f"{name:40} {f'{theirs} of {their_bans}':>20} {f'{ours} of {our_bans}':>20}", flush=True)


if __name__ == "__main__":
    main()
