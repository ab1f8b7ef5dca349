"""The product between hooks: a store, channels and senders that a test can interrupt at any point. No tests here.

Whatever is delivered, claimed or sealed is compared at once with the model.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self
from unittest.mock import patch
from zoneinfo import ZoneInfo

from f2b_digest import composition, delivery, recorder, resources
from f2b_digest.channels.base import Channel
from f2b_digest.config import Configuration, Report
from f2b_digest.delivery import attempts
from f2b_digest.errors import DeliveryError, F2bDigestError
from f2b_digest.isolation import Finished, Stopped
from f2b_digest.model.message import Content, Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import OPEN, Delivery, Store
from f2b_digest.store.connection import sender_lock, take_spool_in
from tests.support.office import Recording
from tests.support.store_making import NOON, event
from tests.system.model.reference import Bans, Event, Model

ALL = 50
"""How many addresses of a jail a message shows: more than there are here, so that a message tells every ban."""
POINTS = (
    "last_event", "report", "seal", "sealed", "claim", "claimed", "deliver", "delivered", "settle", "settled",
    "copied", "store_spool", "spool_stored", "empty_spool", "prune",
)  # fmt: skip
"""Where a plan can strike: before a step, or (sealed, claimed …) after it."""
TROUBLE: dict[str, Callable[[], Exception]] = {  # a fresh one each time: an exception keeps whom it went through
    "busy": lambda: DeliveryError("450 busy", permanent=False),
    "refused": lambda: DeliveryError("550 no such user", permanent=True),
    "lost answer": lambda: DeliveryError("no answer after the end of the data", permanent=False, in_doubt=True),
    "lost": lambda: DeliveryError("no answer", permanent=False, in_doubt=True),
    "slow": lambda: TimeoutError("timed out after 120 s"),
    "bug": lambda: ValueError("a bug"),
    "dead": lambda: DeliveryError("nobody answers", permanent=False, unreachable=True),
}
"""What a channel does with a message. Of these, only "lost answer" has taken it."""


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Plan:
    """What happens when a point is reached for the nth time."""

    point: str
    skip: int
    happening: str


class Post(Recording):
    """The fake channel; its messages go to a simulation."""

    any_recipient: ClassVar[bool] = True

    simulation: Any

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the list, below a line that is never empty."""
        return f"{stamp.bans} bans\n".encode() + super().pack(content, stamp)

    def deliver(self, message: Message) -> None:
        """Hand it to the simulation, whose assertions must not pass for a channel's bug, which would be retried."""
        try:
            self.simulation.deliver(message)
        except AssertionError as wrong:
            self.simulation.wrong.append(wrong)
            raise


class Here:
    """Stands for `isolation.Children` (tests/test_isolation.py has the real ones): the work is done in this process.

    What the other side sees stays in the simulation, and a crash in the middle of a delivery takes the sender along.
    """

    def __init__(self, simulation: "Simulation") -> None:
        self._world = simulation
        self._waiting: list[tuple[Any, Callable[[], Any]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self, key: Any, work: Callable[[], Any], **_: float) -> None:
        """Take some work."""
        self._waiting.append((key, work))

    def wait(self) -> Finished:
        """Do the work that waits longest."""
        key, work = self._waiting.pop(0)
        self._world.delivering.append(key[0].id)
        try:
            return Finished(key, work())
        except F2bDigestError as error:
            return Finished(key, error=error)
        except Exception as error:
            return Finished(key, error=Stopped(repr(error)))
        finally:
            self._world.delivering.pop()


class List(Renderer):
    """A renderer that costs nothing: a line for each jail and address."""

    def render(self, names: Iterable[str], document: Mapping[str, Any]) -> dict[str, str]:
        """Return the list."""
        lines = [f"{j['name']} {a['ip']} {a['bans']}" for j in document["jails"] for a in j["worst"]]
        return {"list.txt": "\n".join(lines)}


class WatchedStore(Store):
    """The store; reports each step to a simulation, which may end the process there."""

    def __init__(self, simulation: "Simulation") -> None:
        super().__init__(simulation.path, read_only=False)
        self.simulation = simulation
        self.seen = 0
        """How many events there were when this sender looked."""

    def last_event(self) -> int:
        """Note what a digest can hold."""
        self.simulation.at("last_event")
        self.seen = len(self.simulation.model.events)
        return super().last_event()

    def report(self, selection: Selection, *most: Any) -> Any:
        """Be interrupted between looking and sealing."""
        self.simulation.at("report")
        return super().report(selection, *most)

    def seal(self, selection: Selection, *, stamp: Stamp, messages: Sequence[tuple[str, Message]], **more: Any) -> bool:
        """Put the same into the model."""
        self.simulation.at("seal")
        done = super().seal(selection, stamp=stamp, messages=messages, **more)
        if done:
            report = self.simulation.reports[stamp.report]
            readers = {(name, to) for name in report.channels for to in self.simulation.channels[name].recipients}
            assert sorted(readers) == sorted((name, message.recipient) for name, message in messages)
            self.simulation.model.seal(stamp.uuid, stamp.report, report.jails, self.seen, readers)
            bans = self.simulation.model.digests[stamp.uuid].bans.total()
            assert bans == stamp.bans
            assert bans >= report.min_bans or (bans == 0 and report.quiet == "send")
        self.simulation.at("sealed")
        return done

    def claim(self, key: int, **more: Any) -> Message | None:
        """Hold the attempt to its time."""
        began = (self.simulation.now, self.simulation.jumps)  # the sender has just read the clock
        self.simulation.at("claim")
        message = super().claim(key, **more)
        if message:
            self.simulation.begin_attempt(key, *began)
        self.simulation.at("claimed")
        return message

    def settle(self, key: int, *, status: str, **more: Any) -> None:
        """Note that an outcome is stored: what it says is no longer in doubt."""
        self.simulation.at("settle")
        super().settle(key, status=status, **more)
        self.simulation.end_attempt(key, status)
        self.simulation.at("settled")

    def copy(self, key: int, *, recipient: str, now: float) -> int:
        """Expect one more copy."""
        made = super().copy(key, recipient=recipient, now=now)
        ((identity,),) = self.simulation.query("SELECT identity FROM delivery WHERE id = ?", made)
        self.simulation.copies[identity, recipient] += 1
        self.simulation.at("copied")
        return made


class Simulation:
    """A store on disk, a configuration, a clock, what channels were given, and the model that all must agree with."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bans.sqlite3"
        self.now = NOON
        self.jumps = 0
        self.model = Model()
        self.channels: dict[str, Channel] = {"mail": Post(to=("ann", "bob"), simulation=self)}
        self.reports = {"daily": Report(channels=("mail",), addresses=ALL)}
        self.trouble: dict[str, str] = {}
        self.plan: Plan | None = None
        self.happened: Counter[str] = Counter()
        self.wrong: list[AssertionError] = []
        """What was found during a delivery."""
        self.renderer = List(resources.folder("templates"))
        self.attempting: set[int] = set()
        """The deliveries that are claimed and not settled."""
        self.delivering: list[int] = []
        """The deliveries that a channel has in hand; a second sender's come last, and end first."""
        self.attempts: dict[int, list[tuple[float, int]]] = defaultdict(list)
        """When each delivery was tried: the clock, and how often it had jumped."""
        self.tried: dict[int, str] = {}
        """How each delivery's last attempt ended for the other side."""
        self.landed: set[int] = set()
        """The deliveries of which the other side has a copy."""
        self.arrived: Counter[tuple[str, str]] = Counter()
        """Copies by (identity, recipient)."""
        self.copies: Counter[tuple[str, str]] = Counter()
        """Copies that somebody asked for."""
        self.doubts: Counter[tuple[str, str]] = Counter()
        """Copies that arrived without an outcome that says so: each allows another."""
        self.record([])
        WatchedStore(self).close()
        self.reader = Store(self.path, read_only=True)
        self.database = sqlite3.connect(self.path, isolation_level=None)

    def close(self) -> None:
        """Close what only looks on."""
        self.reader.close()
        self.database.close()

    def query(self, sql: str, *values: object) -> list[Any]:
        """Return the rows of a query, from another connection."""
        return self.database.execute(sql, values).fetchall()

    @property
    def configuration(self) -> Configuration:
        """Return what a configuration file would say."""
        return Configuration("web1", ZoneInfo("UTC"), None, None, self.reports, self.channels)

    # ---- what can happen at a point

    def at(self, point: str) -> None:
        """Let happen what is planned for this point."""
        plan = self.plan
        if plan and plan.point == point:
            plan.skip -= 1
            if plan.skip < 0:
                self.plan = None
                self.happened[plan.happening] += 1
                getattr(self, plan.happening)()

    def crash(self) -> None:
        """End the process."""
        raise Crash

    def second_send(self) -> None:
        """Let another process send all reports, past the sender's lock."""
        with WatchedStore(self) as store:
            told = [name for name, report in self.reports.items() if report.channels]
            delivery.send(self.configuration, store, self.renderer, told, lambda: self.now)

    def second_retry(self) -> None:
        """Let another process try what is due, past the sender's lock."""
        with WatchedStore(self) as store:
            delivery.retry(self.configuration, store, lambda: self.now)

    def locked_out(self) -> None:
        """Let another process ask for the sender's lock."""
        with sender_lock(self.path, 0) as alone:
            assert not alone

    def ban(self) -> None:
        """Record a ban."""
        self.record([Event("ban", "sshd", "192.0.2.99", float(len(self.model.events)), self.now)])

    def spooled_ban(self) -> None:
        """Record a ban that the store does not take."""
        self.spool([Event("ban", "web", "192.0.2.98", float(len(self.model.spool)), self.now)])

    def jump_on(self) -> None:
        """Set the clock forward."""
        self.jump(self.now + 3 * 86400)

    def jump_back(self) -> None:
        """Set the clock back."""
        self.jump(self.now - 3 * 86400)

    def jump(self, now: float) -> None:
        """Set the clock."""
        self.now = max(now, 0.0)
        self.jumps += 1

    # ---- recording

    def record(self, events: Iterable[Event]) -> None:
        """Record events as the action does."""
        with closing(recorder.connect(str(self.path))) as connection:
            for one in events:
                connection.execute(recorder.INSERT, row(one))
                self.model.record(one)

    def spool(self, events: Iterable[Event]) -> None:
        """Record events while somebody keeps the store locked."""
        with closing(recorder.connect(str(self.path))) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            for one in events:
                assert "locked" in recorder.append(str(self.path), row(one), 0)
                self.model.spool.append(one)
            somebody.execute("ROLLBACK")

    def take_in(self) -> None:
        """Take the spool in; a crash in it may leave all of it in both places."""
        store_lines: Any = recorder._store_lines
        empty_spool: Any = recorder._empty_spool
        done = 0

        def store(*arguments: Any) -> tuple[int, int]:
            nonlocal done
            self.at("store_spool")
            count, torn = store_lines(*arguments)
            for one in self.model.spool[done : done + count]:
                self.model.record(one)
            done += count
            self.at("spool_stored")
            return count, torn

        def empty(path: str, start: int) -> int:
            self.at("empty_spool")
            end: int = empty_spool(path, start)
            if end == start:
                self.model.spool.clear()
            return end

        with patch.object(recorder, "_store_lines", store), patch.object(recorder, "_empty_spool", empty):
            assert take_spool_in(self.path) == 0
        assert recorder.spooled(str(self.path)) == 0

    # ---- sending

    def send(self, names: Sequence[str], plan: Plan | None) -> None:
        """Do what the command `send` does, without its prune."""
        with self._sender(plan):
            self.take_in()
            with WatchedStore(self) as store:
                due = [name for name in names if self._has_enough(name)]
                before = Counter(digest.report for digest in self.model.digests.values())
                jumps = self.jumps
                delivery.send(self.configuration, store, self.renderer, names, lambda: self.now)
                after = Counter(digest.report for digest in self.model.digests.values())
                assert all(after[name] > before[name] for name in due)
                self._check_all_due_was_tried(store, jumps)

    def _has_enough(self, name: str) -> bool:
        report = self.reports[name]
        bans = self.model.pending(name, report.jails).total()
        return bans >= report.min_bans or (bans == 0 and report.quiet == "send")

    def retry(self, plan: Plan | None) -> None:
        """Do what the command `retry` does."""
        with self._sender(plan), WatchedStore(self) as store:
            jumps = self.jumps
            delivery.retry(self.configuration, store, lambda: self.now)
            self._check_all_due_was_tried(store, jumps)

    def _check_all_due_was_tried(self, store: Store, jumps: int) -> None:
        if self.jumps == jumps:
            assert store.deliveries(OPEN, due=self.now, longest=4 * 3600.0) == []

    def resend(self, choose: Callable[[Sequence[Any]], Any], to: str | None, plan: Plan | None) -> None:
        """Do what the command `resend` does with one delivery of a digest, unless that was pruned."""
        with self._sender(plan), WatchedStore(self) as store:
            digest = choose(store.digests())
            originals = store.deliveries(digests=[digest.id])
            if originals and store.document(digest.id) is not None:
                delivery.resend(self.configuration, store, [choose(originals)], to, lambda: self.now)

    def prune(self, keep: float, plan: Plan | None) -> None:
        """Do what the command `prune` does; what somebody still needs must stay, and the rest must go."""
        before, finished = self.now - keep, False
        with self._sender(plan):
            self.take_in()
            with WatchedStore(self) as store:
                store.prune(before, self.configuration.jails, lambda _seconds: self.at("prune"))
                finished = True
        self._compare_pruned(before, finished)

    @contextmanager
    def _sender(self, plan: Plan | None) -> Iterator[None]:
        """Be the only sender; it may crash."""
        self.plan = plan
        try:
            with sender_lock(self.path, 0) as alone, patch.object(attempts, "Children", lambda: Here(self)):
                assert alone
                yield
        except Crash:
            self.attempting.clear()
        self.plan = None
        assert not self.attempting

    def deliver(self, message: Message) -> None:
        """Be the other side."""
        self.at("deliver")
        key, copy = self.delivering[-1], (message.identity, message.recipient)
        digest = self.model.digests[message.identity.partition(".")[0]]
        assert listed(message.body) == digest.bans
        trouble = self.trouble.get(message.recipient)
        if trouble and trouble != "lost answer":
            self.tried[key] = trouble
            error = TROUBLE[trouble]()
            raise error
        assert self.arrived[copy] <= self.copies[copy] + self.doubts[copy], "a copy too many"
        assert message.in_doubt or key not in self.landed
        assert not message.in_doubt or len(self.attempts[key]) > 1
        self.landed.add(key)
        self.arrived[copy] += 1
        self.doubts[copy] += 1  # until the outcome is stored
        self.tried[key] = trouble or "arrived"
        self.at("delivered")
        if trouble:
            error = TROUBLE[trouble]()
            raise error

    def begin_attempt(self, key: int, now: float, jumps: int) -> None:
        """Hold an attempt to the schedule: it is not before its time, unless the clock was changed."""
        earlier = self.attempts[key]
        if earlier and earlier[-1][1] == jumps:
            assert now >= earlier[-1][0] + min(300.0 * 2 ** (len(earlier) - 1), 4 * 3600.0)
        earlier.append((now, jumps))
        self.attempting.add(key)

    def end_attempt(self, key: int, status: str) -> None:
        """Hold a stored outcome to what happened."""
        ((identity, recipient),) = self.query("SELECT identity, recipient FROM delivery WHERE id = ?", key)
        self.attempting.remove(key)
        how = self.tried.get(key)
        if status == "sent":
            assert how == "arrived"
            self.doubts[identity, recipient] -= 1
        elif status == "failed":
            assert how == "refused" or len(self.attempts[key]) >= 5

    def _compare_pruned(self, before: float, finished: bool) -> None:
        """Drop from the model what was dropped from the store, if it could go; what could go is gone at the end."""
        stored = set(self.query("SELECT kind, jail, ip, at FROM event"))
        unfinished, jails = self.unfinished(), self.configuration.jails
        needed = [index for index in self.model.live if self.model.needed(index, jails, unfinished)]
        open_digests = [digest for uuid in unfinished if (digest := self.model.digests[uuid]).report in jails]
        kept_from = min([*needed, *(digest.first for digest in open_digests), len(self.model.events)])
        for index in sorted(self.model.live):
            event = self.model.events[index]
            old = event.recorded_at < before
            if event.key not in stored:
                assert old
                assert index not in needed
                self.model.live.discard(index)
            elif finished:
                assert not old or (index >= kept_from and not event.history)
        if finished:
            kept = self.query("SELECT uuid FROM digest WHERE sealed_at < ? AND document IS NOT NULL", before)
            assert {uuid for (uuid,) in kept} <= unfinished

    # ---- what is there

    def check(self) -> None:
        """Compare the store with the model."""
        for wrong in self.wrong:
            raise wrong
        for name, report in self.reports.items():
            pending = self.reader.pending(composition.pending(self.reader, name, report)).bans
            assert pending == self.model.pending(name, report.jails).total()
        rows = self.reader.deliveries()
        uuids = {digest.id: digest.uuid for digest in self.reader.digests()}
        assert sorted(uuids.values()) == sorted(self.model.digests)
        readers: Counter[tuple[str, str, str]] = Counter(
            (uuids[row.digest], row.channel, row.recipient) for row in rows
        )
        for uuid, digest in self.model.digests.items():
            for channel, to in digest.readers:
                copies = self.copies[f"{uuid}.{channel}", to]
                assert readers[uuid, channel, to] == 1 + copies
        for row in rows:
            self._check_delivery(row, uuids[row.digest])
        stored = self.query("SELECT kind, jail, ip, at FROM event")
        assert len(stored) == len(self.model.live)
        assert set(stored) == self.model.keys()
        assert self.query(f"SELECT 1 FROM delivery WHERE status IN {OPEN} AND length(message) = 0") == []

    def _check_delivery(self, row: Delivery, uuid: str) -> None:
        """Hold a delivery's state to what the other side knows."""
        copy = (f"{uuid}.{row.channel}", row.recipient)
        assert row.attempts == len(self.attempts[row.id])
        if row.status == "sent":
            assert self.arrived[copy]

    def check_the_end(self) -> None:
        """Once all is calm: nothing is pending, and whoever can still get anything has got it or was given up."""
        assert {row.channel for row in self.reader.deliveries(OPEN)}.isdisjoint(self.channels)
        assert not any(self.model.pending(name, jails) for name, jails in self.configuration.jails.items())

    def unfinished(self) -> set[str]:
        """Return the digests that have an open delivery."""
        sql = f"SELECT DISTINCT uuid FROM digest JOIN delivery ON digest.id = digest_id WHERE status IN {OPEN}"
        return {uuid for (uuid,) in self.query(sql)}


def row(one: Event) -> tuple[Any, ...]:
    """Return an event as the recorder stores it."""
    return event(one.kind, one.jail, one.ip, one.at, recorded_at=one.recorded_at, history=one.history, bantime=600)


def listed(body: bytes) -> Bans:
    """Return the bans that a message tells."""
    lines = [line.rsplit(" ", 1) for line in body.decode().splitlines()[1:]]
    return Counter({(place.split(" ")[0], place.split(" ")[1]): int(bans) for place, bans in lines})
