"""Runs a scenario once for each point of a fault, and judges what is left: whole, nothing lost, no needless copy."""

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from f2b_digest import recorder
from tests.support.program import Ended
from tests.support.smtp_server import Received, SmtpServer
from tests.support.store_making import NOON
from tests.system.faults import strace
from tests.system.faults.scenarios import DAY, OLD_BLOCKS, SCENARIOS, Host, Scenario
from tests.system.faults.strace import Call, Fault
from tests.system.faults.warm import Warm

LATER = NOON + 2 * DAY
"""When the disk is well again and everything deferred is due."""
ADDRESS = re.compile(r"(?m)^    (10\.\d+\.\d+\.\d+) +(\d+)\b")
Key = tuple[str, str, str]
"""A message for somebody: channel, recipient, Message-ID."""


@dataclass(frozen=True)
class Copy:
    """One mail or file that arrived."""

    key: Key
    bans: Counter[str]
    """How often each address is told to be banned."""
    says_so: bool
    """Whether it calls itself a possible duplicate."""


@dataclass
class Outcomes:
    """A line of the table: what became of the points of one scenario under one fault."""

    scenario: str
    fault: str
    of: int
    points: int = 0
    acknowledged: int = 0
    lost: int = 0
    second: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __add__(self, other: "Outcomes") -> "Outcomes":
        """Return what became of other points, too."""
        names = ("points", "acknowledged", "lost", "second", "statuses", "problems")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in names})

    def __str__(self) -> str:
        """Return the line."""
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        points = f"{self.points} of {self.of} points"
        return f"{self.scenario:<28}  {self.fault:<17}  {points:<17}  exit statuses {statuses}"

    def counts(self) -> dict[str, int]:
        """Return the numbers that can be added up."""
        return {
            "points": self.points, "system calls": self.of, "acknowledged events": self.acknowledged,
            "lost": self.lost, "second copies": self.second,
        }  # fmt: skip


class Labs:
    """A few labs side by side, for the points of a scenario do not know each other."""

    def __init__(self, labs: Sequence["Lab"]) -> None:
        self._labs = labs

    def run_whole(self, scenario: Scenario) -> tuple[Outcomes, list[Call]]:
        """Run a scenario without a fault; return what became of it, and its calls."""
        return self._labs[0].run_whole(scenario)

    def run(self, scenario: Scenario, fault: Fault, most: int | None) -> Outcomes:
        """Run a scenario with a fault at each of its calls, or, evenly spread, at this many of them."""
        count = len(self._labs)
        with ThreadPoolExecutor(count) as pool:
            parts = list(pool.map(lambda n: self._labs[n].run(scenario, fault, most, n, count), range(count)))
        return sum(parts[1:], parts[0])


class Lab:
    """One host, made anew for each point, and its mail server."""

    def __init__(self, folder: Path, warm: Warm, server: SmtpServer, ca_file: Path) -> None:
        self._folder, self._server, self._ca_file = folder, server, ca_file
        self._host = Host(folder / "host", warm)
        self._prepared: dict[Scenario, tuple[set[str], tuple[Received, ...]]] = {}
        self._listed: dict[tuple[Scenario, bool], list[Call]] = {}

    def run_whole(self, scenario: Scenario) -> tuple[Outcomes, list[Call]]:
        """Run a scenario without a fault, while somebody reads the store; return what became of it, and its calls."""
        self._prepare(scenario)
        self._restore()
        outcomes = Outcomes(scenario.name, "none", 1)
        with closing(sqlite3.connect(self._host.store if self._host.store.exists() else ":memory:")) as reader:
            reader.execute("SELECT count(*) FROM sqlite_master")  # so that nobody is the last to close the store
            ended = scenario.step(self._host, lambda process: strace.attached(process, self._trace))
        calls = strace.calls(self._trace)
        self._judge(scenario, ended, outcomes, killed=False)
        return outcomes, [call for call in calls if self._matters(call.line)]

    def run(self, scenario: Scenario, fault: Fault, most: int | None, part: int, parts: int) -> Outcomes:
        """Run one part of a scenario's points."""
        self._prepare(scenario)
        calls, at = self._list(scenario, fault)
        chosen = at if most is None or len(at) <= most else [at[i * len(at) // most] for i in range(most)]
        outcomes = Outcomes(scenario.name, fault.name, len(at))
        for index in chosen[part::parts]:
            ended = self._strike(scenario, fault, calls, index)
            before = len(outcomes.problems)
            outcomes.points += 1
            outcomes.statuses[ended.status] += 1
            self._judge(scenario, ended, outcomes, killed=fault.kills)
            where = calls[index].line.replace(str(self._folder), "")[:150]
            outcomes.problems[before:] = [f"{where}: {problem:.500}" for problem in outcomes.problems[before:]]
        return outcomes

    # ---- one host

    def _prepare(self, scenario: Scenario) -> None:
        """Make the host that a scenario begins with, once for all its faults."""
        host = self._host
        host.channels = scenario.channels
        host.mail = host.by_smtp(self._server.port, self._ca_file) if scenario.smtp else host.by_mailbox()
        self._saved = self._folder / "saved" / str(SCENARIOS.index(scenario))
        if scenario not in self._prepared:
            shutil.rmtree(host.root, ignore_errors=True)
            self._server.received.clear()
            host.make()
            self._prepared[scenario] = (set(scenario.prepare(host)), tuple(self._server.received))
            shutil.copytree(host.root, self._saved)
            assert scenario.step(host, None).status == 0  # fills Python's caches
        self._known, self._received = self._prepared[scenario]

    def _restore(self) -> None:
        shutil.rmtree(self._host.root, ignore_errors=True)
        shutil.copytree(self._saved, self._host.root)
        self._server.received[:] = self._received

    # ---- one point

    @property
    def _trace(self) -> Path:
        return self._folder / "trace"

    def _attach(
        self, scenario: Scenario, fault: Fault, process: int, inject: Sequence[str]
    ) -> AbstractContextManager[None]:
        store = str(self._host.store)
        beside = ("", "-wal", "-shm", "-journal", ".damaged", ".spool", ".spool.taken", ".spool.torn")
        paths = [Path(store + name) for name in beside] if fault.on_store else []
        return strace.attached(process, self._trace, inject=inject, paths=paths)

    def _list(self, scenario: Scenario, fault: Fault) -> tuple[list[Call], list[int]]:
        """Return the calls of a run without a fault, and which of them are points."""
        key = (scenario, fault.on_store)
        if key not in self._listed:
            self._restore()
            ended = scenario.step(self._host, lambda process: self._attach(scenario, fault, process, ()))
            assert ended.status == 0, ended
            self._listed[key] = strace.calls(self._trace)
        calls = self._listed[key]
        points: dict[tuple[str, int], int] = {}
        for index, call in enumerate(calls):
            if fault.befalls(call) and self._matters(call.line):
                points.setdefault((call.name, call.number), index)  # strace counts in each thread
        return calls, list(points.values())

    def _matters(self, line: str) -> bool:
        """Return whether a call is on a file of the store or of a channel, or talks to somebody."""
        places = (str(self._host.store.parent), str(self._host.box), "<socket:", "<TCP:")
        return any(place in line for place in places)

    def _found_again(
        self, scenario: Scenario, fault: Fault, calls: Sequence[Call], index: int
    ) -> tuple[Sequence[Call], int]:
        """Return the calls of another run without a fault, and which of them is the one that was meant.

        Only calls that matter are the same each time, in their order; strace counts the others, too.
        """
        self._restore()
        scenario.step(self._host, lambda process: self._attach(scenario, fault, process, ()))
        fresh = strace.calls(self._trace)
        place = self._alike(calls, calls[index].name).index(index)
        alike = self._alike(fresh, calls[index].name)
        return (fresh, alike[place]) if place < len(alike) else (calls, index)

    def _alike(self, calls: Sequence[Call], name: str) -> list[int]:
        return [at for at, call in enumerate(calls) if call.name == name and self._matters(call.line)]

    def _strike(self, scenario: Scenario, fault: Fault, calls: Sequence[Call], index: int) -> Ended:
        for _ in range(4):  # how many calls it takes to talk TLS, or to import a module, is not ours to say
            self._restore()
            inject = fault.injection(calls, index)
            ended = scenario.step(self._host, lambda process: self._attach(scenario, fault, process, inject))
            if self._matters(strace.struck(self._trace)):
                return ended
            calls, index = self._found_again(scenario, fault, calls, index)
        raise AssertionError(f"{scenario.name}, {fault.name}: the run does not reach {calls[index]}")

    # ---- what is left

    def _judge(self, scenario: Scenario, ended: Ended, outcomes: Outcomes, *, killed: bool) -> None:
        host, problems = self._host, outcomes.problems
        acknowledged = self._known | set(scenario.says(ended))
        outcomes.acknowledged += len(acknowledged)
        problems += _sane(scenario, ended, killed=killed)

        there, unsettled, broken = _look(host.store)
        problems += broken
        spooled, _ = _spooled(host.store)
        present = there | spooled
        lost = {ip for ip in acknowledged - present if int(ip.split(".")[2]) not in OLD_BLOCKS}
        arrived = Counter(copy.key for copy in self._copies())

        if present or host.store.exists():
            clean = host.digest("send", now=LATER)
            complaints = [line for line in clean.err.splitlines() if "more incomplete lines" not in line]
            if (clean.status or complaints) and (present or acknowledged):
                problems.append(f"the clean send: {clean}")
        copies = self._copies()
        keys = Counter(copy.key for copy in copies)
        outcomes.second += keys.total() - len(keys)
        for key, count in keys.items():
            if count > 2 or (count == 2 and not (arrived[key] == 1 and key in unsettled)):
                problems.append(f"{key} was sent {count} times, {arrived[key]} of them before the clean send")
            doubtful = sum(copy.says_so for copy in copies if copy.key == key)
            if doubtful < count - 1:
                problems.append(f"the second copy of {key} does not say that it may be one")
        told = {copy.key: copy.bans for copy in copies}
        wanted = Counter(acknowledged | present)
        for channel, recipient in scenario.recipients:
            bans: Counter[str] = sum((told[key] for key in told if key[:2] == (channel, recipient)), Counter())
            if bans != wanted:
                problems.append(f"{channel} {recipient}: missing {wanted - bans}, too many {bans - wanted}")
                lost |= set(wanted - bans) & acknowledged
        outcomes.lost += len(lost)
        problems += [f"lost: {sorted(lost)}"] * bool(lost)
        problems += [f"left: {left}" for left in _left(host)]

    def _copies(self) -> list[Copy]:
        """Return all that arrived."""
        host = self._host
        mails = [
            _copy("mail", mail.recipients[0].encode(), message_from_bytes(mail.data)) for mail in self._server.received
        ]
        for file in sorted(host.mails.iterdir()):
            if not file.name.startswith("."):
                mail = message_from_bytes(file.read_bytes())
                mails.append(_copy("mail", mail["Delivered-To"].encode(), mail))
        boxed = sorted(host.box.glob("*.eml")) if host.box.exists() else []
        return mails + [_copy("box", b"", message_from_bytes(file.read_bytes())) for file in boxed]


def _copy(channel: str, recipient: bytes, mail: Message) -> Copy:
    part = mail.get_payload(0)
    assert isinstance(part, Message)
    text = part.get_payload(decode=True)
    assert isinstance(text, bytes)
    bans = Counter({ip: int(count) for ip, count in ADDRESS.findall(text.decode())})
    return Copy((channel, recipient.decode(), mail["Message-ID"].strip("<>")), bans, "Possible-Duplicate" in mail)


def _sane(scenario: Scenario, ended: Ended, *, killed: bool) -> list[str]:
    """Return what is wrong with how a run ended and what it said."""
    if killed:
        child = ended.status == 75 and "killed by signal 9" in ended.err and not scenario.threads
        return [] if ended.status == -9 or child else [f"it was not killed: {ended}"]
    problems = []
    if ended.status not in (0, 1, 75):
        problems.append(f"exit status: {ended}")
    if "Traceback" in ended.err or "a bug in f2b-digest" in ended.err:
        problems.append(f"a traceback: {ended.err[-600:]}")
    elif ended.status and not ended.err:
        problems.append("it failed without a word")
    elif not scenario.threads and not all(line.startswith("f2b-digest: ") for line in ended.err.splitlines()):
        problems.append(f"not a line of ours: {ended.err}")
    return problems


def _look(store: Path) -> tuple[set[str], set[Key], list[str]]:
    """Return the addresses in a store, the messages that may be sent again, and what is wrong with it."""
    if not store.exists():
        return set(), set(), []
    problems = ["it was set aside"] if Path(recorder.damage_mark(str(store))).exists() else []
    with closing(sqlite3.connect(store)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            problems.append(f"integrity_check: {found}")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        ips = [ip for (ip,) in connection.execute("SELECT ip FROM event")] if "event" in tables else []
        if len(ips) != len(set(ips)):
            problems.append("an event is in the store twice")
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(delivery)")}
        if "delivery" in tables and columns.isdisjoint({"in_doubt", "made_at", "settled_at"}) != (version == 1):
            problems.append(f"the store is between two versions: {version}, {columns}")
        rows = (
            connection.execute(
                "SELECT channel, recipient, identity FROM delivery WHERE status IN ('pending', 'deferred')"
            ).fetchall()
            if "delivery" in tables
            else []
        )
    unsettled = {(channel, "" if channel == "box" else recipient, identity) for channel, recipient, identity in rows}
    return set(ips), unsettled, problems


def _spooled(store: Path) -> tuple[set[str], int]:
    """Return the addresses in the spool and in what a take-in left, and the number of lines that are no event."""
    ips, torn = set(), 0
    for name in (recorder.spool_path(str(store)), recorder.spool_path(str(store)) + ".taken"):
        if Path(name).exists():
            events = [recorder.event_of(line) for line in recorder.spool_lines(name)]
            ips |= {row[recorder.COLUMNS.index("ip")] for row in events if row}
            torn += events.count(None)
    return ips, torn


def _left(host: Host) -> list[str]:
    """Return what a clean send should not have left behind."""
    if not host.store.exists():
        return []
    spool = Path(recorder.spool_path(str(host.store)))
    left = [f"{count} events in the spool" for count in [recorder.spooled(str(host.store))] if count]
    left += ["the taken spool"] * Path(f"{spool}.taken").exists()
    return left + [file.name for file in host.box.iterdir() if file.suffix != ".eml"] if host.box.exists() else left
