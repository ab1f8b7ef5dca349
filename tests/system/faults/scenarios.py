"""What is put to the test, one step of the product each: what stands before it, the step, and who gets the digests."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from f2b_digest import recorder
from tests.support.program import Ended
from tests.support.smtp_server import PASSWORD, USER
from tests.support.store_making import NOON, Row, event, fill, query
from tests.system.faults.warm import Trace, Warm

DAY = 86400.0
NOW = NOON + 3600
OLD = NOON - 500 * DAY
"""Before what the configurations keep, which is 400 days."""
OLD_BLOCKS = range(10, 16)
"""Blocks of addresses that were banned then."""
ADMINS = ("a@example.org", "b@example.org")
MAILBOX = Path(__file__).with_name("mailbox.py")

CONFIGURATION = """
store = "store/bans.sqlite3"
host = "web1"
timezone = "UTC"
[reports.daily]
channels = {channels}
addresses = 50
[channels.mail]
kind = "email"
from = "fail2ban@web1.example.org"
to = ["a@example.org", "b@example.org"]
{mail}
[channels.box]
kind = "file"
folder = "box"
"""


@dataclass
class Host:
    """The folders of one host; every point of a scenario finds them at the same paths."""

    root: Path
    warm: Warm
    mail: str = ""
    """How the email channel of the configuration delivers."""
    channels: Sequence[str] = ("box",)

    @property
    def store(self) -> Path:
        """Return the store's path."""
        return self.root / "store" / "bans.sqlite3"

    @property
    def box(self) -> Path:
        """Return the folder of the file channel."""
        return self.root / "box"

    @property
    def mails(self) -> Path:
        """Return the folder of the sendmail program."""
        return self.root / "mail"

    def make(self) -> None:
        """Make the folders and the configuration."""
        self.store.parent.mkdir(parents=True)
        self.mails.mkdir()
        self.configure(self.mail)

    def configure(self, mail: str) -> None:
        """Write the configuration."""
        text = CONFIGURATION.format(channels=list(self.channels), mail=mail)
        file = self.root / "config.toml"
        file.write_text(text)
        file.chmod(0o600)

    def by_mailbox(self) -> str:
        """Return the email channel's line for a sendmail program that fills a folder."""
        return f"sendmail = '/usr/bin/python3 -I -S {MAILBOX} {self.mails}'"

    def by_smtp(self, port: int, ca_file: Path) -> str:
        """Return the email channel's lines for a mail server of this machine."""
        lines = (f"smtp = 'smtp://{USER}@127.0.0.1:{port}'", f"password = '{PASSWORD}'", f"ca_file = '{ca_file}'")
        return "\n".join(lines)

    def digest(self, *arguments: str, now: float = NOW, trace: Trace | None = None) -> Ended:
        """Run f2b-digest."""
        return self.warm.digest("--config", self.root / "config.toml", *arguments, now=now, trace=trace)

    def spool(self, rows: Sequence[Row], *, taken: bool = False) -> None:
        """Put events into the spool, or into one that a take-in left when it died."""
        for row in rows:
            recorder._spool(str(self.store), row)
        if taken:
            spool = Path(recorder.spool_path(str(self.store)))
            spool.rename(f"{spool}.taken")


def bans(*ips: str, jail: str = "sshd", at: float = NOON) -> list[Row]:
    """Return bans, each of a different address."""
    return [event(ip=ip, jail=jail, at=at, recorded_at=at, failures=5, matches="x" * 400) for ip in ips]


def addresses(block: int, count: int) -> list[str]:
    """Return some addresses; no two blocks share one."""
    return [f"10.0.{block}.{number}" for number in range(1, count + 1)]


@dataclass(frozen=True)
class Scenario:
    """One step of the product, to be run on a host that `prepare` made."""

    name: str
    prepare: Callable[[Host], list[str]]
    """Makes what stands before, and returns the addresses whose bans are acknowledged by then."""
    step: Callable[[Host, Trace | None], Ended]
    says: Callable[[Ended], list[str]] = lambda _: []
    """The addresses whose bans the step acknowledged."""
    channels: tuple[str, ...] = ("box",)
    smtp: bool = False
    threads: bool = False

    @property
    def recipients(self) -> set[tuple[str, str]]:
        """Return each channel and recipient of a digest."""
        mail = {("mail", admin) for admin in ADMINS} if "mail" in self.channels else set()
        return mail | ({("box", "")} if "box" in self.channels else set())


# ---- what stands before


def _nothing(host: Host) -> list[str]:
    return []


def _stored(host: Host) -> list[str]:
    known = addresses(1, 3)
    fill(host.store, bans(*known))
    return known


def _two_digests(host: Host) -> list[str]:
    """Seal a digest that reached its recipients, and leave bans for another."""
    first, second = addresses(1, 3), addresses(2, 3)
    fill(host.store, bans(*first))
    assert host.digest("send", now=NOON + 60).status == 0
    fill(host.store, bans(*second[:2]) + bans(second[2], jail="nginx"))
    return first + second


def _spooled(host: Host) -> list[str]:
    """Leave a spool, one torn line in it, and what a take-in left that died when it had taken half."""
    stored, taken, spooled = addresses(1, 2), addresses(2, 3), addresses(3, 3)
    fill(host.store, bans(*stored, taken[0]))
    host.spool(bans(*taken), taken=True)
    host.spool(bans(*spooled[:2]))
    with Path(recorder.spool_path(str(host.store))).open("ab") as file:
        file.write(b'{"kind": "ban", "ho')
    host.spool(bans(spooled[2]))
    return stored + taken + spooled


def _aged(host: Host) -> list[str]:
    """Seal digests that are older than the store keeps, and leave newer bans, reported and not."""
    old = []
    for block in OLD_BLOCKS:
        old += addresses(block, 40)
        fill(host.store, bans(*old[-40:], at=OLD))
        assert host.digest("send", now=OLD + 60).status == 0
    return old + _two_digests(host)


def _version_3(host: Host) -> list[str]:
    """Make a store of an older version, with a sealed digest, one delivery of it deferred, and bans for another."""
    host.configure("sendmail = '/bin/sh -c \"exit 75\"'")
    known = addresses(1, 3)
    fill(host.store, bans(*known))
    assert host.digest("send", now=NOON + 60).status == 75
    host.configure(host.mail)
    more = addresses(2, 2)
    fill(host.store, bans(*more))
    query(host.store, "DROP INDEX event_age")
    query(host.store, "PRAGMA user_version=3")
    assert query(host.store, "SELECT status, count(*) FROM delivery GROUP BY 1 ORDER BY 1") == [
        ("deferred", 2),
        ("sent", 1),
    ]
    return known + more


# ---- the steps

NEW = "10.1.0.1"
BANNED = ["10.1.0.2", "10.1.0.3"]
EARLIER = ["10.1.0.4", "10.1.0.5"]


def _shell_door(host: Host, trace: Trace | None) -> Ended:
    door = Path(recorder.__file__).resolve()
    options = ("--jail=sshd", f"--ip={NEW}", f"--at={NOON}", "--failures=5", "--host=web1")
    return host.warm.program("/usr/bin/python3", "-I", "-S", door, f"--store={host.store}", *options, trace=trace)


def _record(host: Host, trace: Trace | None) -> Ended:
    options = ("--jail", "sshd", "--ip", NEW, "--at", str(NOON))
    program = (sys.executable, "-m", "f2b_digest", "--config", str(host.root / "config.toml"))
    return host.warm.program(*program, "record", *options, trace=trace)


def _one(ended: Ended) -> list[str]:
    return [NEW] if ended.status == 0 else []


def _ban_first(host: Host, trace: Trace | None) -> Ended:
    return host.warm.ban(host.store, [], BANNED, trace)


def _ban(host: Host, trace: Trace | None) -> Ended:
    return host.warm.ban(host.store, EARLIER, BANNED, trace)


def _printed(ended: Ended) -> list[str]:
    return ended.out.split()


def _command(*arguments: str) -> Callable[[Host, Trace | None], Ended]:
    return lambda host, trace: host.digest(*arguments, trace=trace)


SCENARIOS = (
    Scenario("record, the shell's door", _stored, _shell_door, _one),
    Scenario("record, the first event", _nothing, _shell_door, _one),
    Scenario("record, the command", _stored, _record, _one),
    Scenario("ban(), twice", _stored, _ban, _printed, threads=True),
    Scenario("ban(), the first of a host", _nothing, _ban_first, _printed, threads=True),
    Scenario("send, to files and sendmail", _two_digests, _command("send"), channels=("mail", "box")),
    Scenario("send, to an SMTP server", _two_digests, _command("send"), channels=("mail",), smtp=True),
    Scenario("send, taking in the spool", _spooled, _command("send")),
    Scenario("prune", _aged, _command("prune")),
    Scenario("upgrade from version 3", _version_3, _command("retry"), channels=("mail", "box")),
)
