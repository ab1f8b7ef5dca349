"""The digest of a fleet whose pending events PostgreSQL groups is the one that is made of their rows."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from difflib import unified_diff
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import psycopg
import pytest

from f2b_digest import composition, config
from f2b_digest.config import Configuration
from f2b_digest.errors import CentreError
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.fleet.grouping import Grouping
from f2b_digest.fleet.report import ReportStore
from f2b_digest.fleet.vectors import End
from f2b_digest.model import document
from f2b_digest.model.bans import Banned
from f2b_digest.model.host_context import HostContext, Proxy
from f2b_digest.model.message import Stamp
from tests.support.postgres_server import Centre
from tests.support.store_making import NOON

pytestmark = pytest.mark.slow
HOUR, DAY = 3600.0, 86400.0
DAYS = 6
CONFIGURATION = """
store = "{store}"
timezone = "Europe/Berlin"
[reports.all]
channels = ["out"]
period = "pending"
[reports.daily]
channels = ["out"]
period = "calendar"
[reports.some]
channels = ["out"]
every = "day"
period = "calendar"
jails = ["*", "!ssh*"]
hosts = ["web*", "!web2"]
[channels.out]
kind = "file"
folder = "{folder}"
"""
CONTEXT = HostContext(
    friends=(ip_network("198.51.100.0/30"),), proxies=(Proxy(ip_network("203.0.113.0/29"), "Shield", "cdn"),)
)
NAMES = ["root", "admin", "anna", "bo", "müller", "ﬀ"]
VERDICTS = ['{"why": "login", "user": "anna"}', '{"why": "ignored", "near": "192.0.2.0/24"}', "nonsense"]
_INSERT = (
    "INSERT INTO f2b.event (store_id, seq, arrived, kind, jail, ip, at, recorded_at, failures, bantime, users, "
    "matches, source, history, own) "
    "VALUES (%s, %s, to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %s, %s, 'action', %s, %s)"
)
Event = tuple[Any, ...]
"""From `kind` to `matches`, `history` and `own`."""


class World:
    """Five stores of four hosts, which upload now and then what chance brings."""

    def __init__(self, centre: Centre, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.centre = centre
        file = folder / "config.toml"
        file.write_text(CONFIGURATION.format(store=centre.as_user("f2b_digest"), folder=folder / "out"))
        self.configuration: Configuration = config.load(file, host="fleet", timezone="UTC")
        self.stores = [self._store(host) for host in ("web1", "web2", "web3", "db1", "web3")]
        self.skews = [self.chance.choice([0.0, 0.0, 7200.0, -300.0]) for _ in self.stores]
        self.last = dict.fromkeys(self.stores, 0)
        self.waiting: dict[int, list[Event]] = {store: [] for store in self.stores}
        self.jumps = self.chance.random() < 0.3

    def _store(self, host: str) -> int:
        self.centre.do(f"INSERT INTO f2b.host (host, login) VALUES ('{host}', 'h-{host}') ON CONFLICT DO NOTHING")
        query = "INSERT INTO f2b.store (host, life) VALUES (%s, gen_random_uuid()) RETURNING store_id"
        ((made,),) = self.centre.rows(query, host)
        return int(made)

    def live(self, now: float) -> None:
        """Let the hosts ban for a day, which ends now, and most of them upload that."""
        for store, skew in zip(self.stores, self.skews, strict=True):
            events = sorted(self._day(now - DAY, now, skew), key=lambda event: float(event[4]))
            self.waiting[store] += events
            if store == self.stores[4]:  # a second store of the same host records much the same
                self.waiting[store] += [event for event in self.waiting[self.stores[2]] if self.chance.random() < 0.7]
            if self.chance.random() < 0.85:
                self._upload(store, skew, now)

    def _day(self, begin: float, end: float, skew: float) -> list[Event]:
        chance, made = self.chance, []
        for _ in range(chance.randrange(40)):
            jail, ip = chance.choice(["sshd", "sshd", "postfix", "nginx-é", "recidive"]), self._address()
            at = chance.uniform(begin, end) + skew
            if self.jumps and chance.random() < 0.02:
                at += 300 * DAY
            users = json.dumps(chance.sample(NAMES, chance.randrange(1, 4))) if chance.random() < 0.6 else None
            lines = f"Failed password for {chance.choice(NAMES)} from {ip}" if chance.random() < 0.5 else None
            own = chance.choice(VERDICTS) if chance.random() < 0.05 else None
            bantime = chance.choice([600, 600, 86400, -1, None])
            failures = chance.choice([5, 7, None])
            old = int(chance.random() < 0.03)
            made.append(("ban", jail, ip, at, at + chance.random(), failures, bantime, users, lines, old, own))
            if chance.random() < 0.3:
                made.append(("prolong", jail, ip, at, at + 2, None, 4 * 86400, None, None, 0, None))
            if chance.random() < 0.4:
                ended = at + chance.choice([10.0, 600.0, 5000.0, 90000.0])
                noted = float(round(at)) if chance.random() < 0.2 else at
                made.append(("unban", jail, ip, noted, ended, None, None, None, None, 0, None))
        return made

    def _address(self) -> str:
        chance = self.chance
        return chance.choice([
            f"192.0.2.{int(chance.expovariate(0.2)) % 256}", f"198.51.100.{chance.randrange(8)}",
            f"203.0.113.{chance.randrange(12)}", f"2001:db8:{chance.randrange(3)}::{chance.randrange(9)}",
            "someone@example.org", "10.0.0.0/8",
        ])  # fmt: skip

    def _upload(self, store: int, skew: float, now: float) -> None:
        ready = [event for event in self.waiting[store] if event[4] <= now + skew or event[4] > now + 100 * DAY]
        self.waiting[store] = [event for event in self.waiting[store] if event not in ready]
        rows = []
        for event in ready:
            recorded = event[4]
            self.last[store] += self.chance.choice([1, 1, 1, 3])  # starts and stops are in between
            arrived = min(max(recorded - skew, now - DAY), now) if self.chance.random() < 0.8 else now
            rows.append((store, self.last[store], arrived, *event))
        with psycopg.connect(self.centre.admin) as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT.encode(), rows)
            cursor.execute(
                "UPDATE f2b.store SET last_seq = %s, seen_at = to_timestamp(%s), complete_until = %s, skew = %s "
                "WHERE store_id = %s", (self.last[store], now, now + skew, skew, store),
            )  # fmt: skip

    def _bans(self, taken: Sequence[End]) -> list[tuple[int, int]]:
        """Return what a vector takes: bans, by store and number, but of stores that tell the same bans."""
        single = [end for end in taken if end.store_id not in (self.stores[2], self.stores[4])]
        query = "SELECT store_id, seq FROM f2b.event WHERE kind = 'ban' AND history = 0 ORDER BY 1, 2"
        return [
            (store, seq)
            for store, seq in self.centre.rows(query)
            if any(end.store_id == store and end.seq < seq <= end.upto for end in single)
        ]

    def digest(
        self, name: str, now: float, *, seal: bool = False
    ) -> tuple[str, Sequence[Banned], list[tuple[int, int]], int]:
        """Return a report's next digest, all its addresses, what it takes, and its bans; seal it if asked to."""
        report = self.configuration.reports[name]
        with (
            Opened(self.centre.as_user("f2b_digest")) as opened,
            opened.about(name, report.hosts, report.every, now) as store,
        ):
            due = composition.due(self.configuration, store, name, now)
            selection, end = due or (composition.pending(store, name, report), now)
            assert isinstance(store, ReportStore)
            taken = self._bans(store._taken(selection.last_id))
            with store.report(selection) as source:
                made = composition.compose(self.configuration, source, name, end, store.informed(CONTEXT, 0))
                addresses = [] if made.notes else source.addresses()
            if seal and due:
                stamp = Stamp(f"{name}{now}", name, "", "fleet", now, made.totals.bans, 0, 0, 0)
                start, until = made.start.timestamp(), made.end.timestamp()
                text = document.to_json(made)
                assert store.seal(selection, stamp=stamp, document=text, start=start, end=until, messages=[])
        assert not made.notes, "the analysis failed"
        return document.to_json(made, indent=1), addresses, taken, made.totals.bans


@pytest.mark.parametrize("seed", range(3))
def test_groups_say_what_the_rows_say(
    centre: Centre, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch, figures: Callable[..., None]
) -> None:
    """The digest, the reported addresses, and what is sealed; day by day, of three reports."""
    world, bans, compared = World(centre, tmp_path, seed), 0, 0
    for day in range(DAYS):
        now = NOON + day * DAY
        world.live(now)
        for name in world.configuration.reports:
            rows = world.digest(name, now)
            with monkeypatch.context() as patched:
                patched.setattr("f2b_digest.fleet.centre.AS_ROWS", -1)
                groups = world.digest(name, now, seal=day % 2 == 0)
            differences = "\n".join(unified_diff(rows[0].splitlines(), groups[0].splitlines(), "rows", "groups", n=2))
            assert not differences, differences
            assert groups == rows
            bans, compared = bans + rows[3], compared + 1
    figures("digests by groups beside digests by rows", counts={"compared": compared, "bans": bans})
    assert bans > 200


@pytest.mark.parametrize("as_rows", [1000, -1])
def test_a_fleets_first_day_is_not_over(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_rows: int
) -> None:
    """A calendar report of hosts that all joined today has nothing to say yet."""
    world = World(centre, tmp_path, 1)
    world.live(NOON)
    centre.do("UPDATE f2b.event SET recorded_at = 1e10", f"UPDATE f2b.event SET arrived = to_timestamp({NOON - HOUR})")
    monkeypatch.setattr("f2b_digest.fleet.centre.AS_ROWS", as_rows)
    with (
        Opened(centre.as_user("f2b_digest")) as opened,
        opened.about("daily", ("*",), "day", NOON) as store,
    ):
        assert store.last_event() > 0
        assert composition.due(world.configuration, store, "daily", NOON) is None


def test_a_digest_is_not_made_of_half_the_groups(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A centre that goes away while a digest is analysed is an error to try again after, and seals nothing."""
    world = World(centre, tmp_path, 1)
    world.live(NOON)
    monkeypatch.setattr("f2b_digest.fleet.centre.AS_ROWS", -1)
    expected, with_lines = world.digest("all", NOON), Grouping.with_lines

    def interrupted(self: Grouping, which: Sequence[tuple[str, str]]) -> Iterator[tuple[Any, ...]]:
        centre.do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        return with_lines(self, which)

    with monkeypatch.context() as patched, pytest.raises(CentreError) as raised:
        patched.setattr(Grouping, "with_lines", interrupted)
        world.digest("all", NOON, seal=True)
    assert raised.value.away
    assert centre.rows("SELECT count(*) FROM f2b.mark") == [(0,)]
    assert world.digest("all", NOON, seal=True) == expected
