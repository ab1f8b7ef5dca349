"""What a fleet's digest is compared with: packed times, kept at each seal, say what the events say."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from f2b_digest import composition, config
from f2b_digest.config import Configuration
from f2b_digest.fleet import history
from f2b_digest.fleet.centre import Centre as Opened
from f2b_digest.model import document
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.message import Stamp
from f2b_digest.store import campaigns
from tests.support.histories import FOLDER, histories
from tests.support.postgres_server import Centre
from tests.support.store_making import NOON

pytestmark = pytest.mark.slow
DAY = 86400.0
CONFIGURATION = """
store = "{store}"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[reports.web1]
channels = ["out"]
hosts = ["web1"]
every = "week"
[channels.out]
kind = "file"
folder = "{folder}"
"""
DAYS = 45
Event = tuple[Any, ...]
_INSERT = (
    "INSERT INTO f2b.event (store_id, seq, arrived, kind, jail, ip, at, recorded_at, failures, bantime, users, source, "
    "history) VALUES (%s, %s, to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %s, 'action', %s)"
)


class Fleet:
    """A centre to which stores upload what happened to them, by a clock of its own."""

    def __init__(self, centre: Centre, folder: Path) -> None:
        self.centre = centre
        file = folder / "config.toml"
        file.write_text(CONFIGURATION.format(store=centre.as_user("f2b_digest"), folder=folder / "out"))
        self.configuration: Configuration = config.load(file, host="fleet", timezone="UTC")
        self.last: dict[int, int] = {}

    def store(self, host: str) -> int:
        """Return a new store of a host."""
        self.centre.do(f"INSERT INTO f2b.host (host, login) VALUES ('{host}', 'h-{host}') ON CONFLICT DO NOTHING")
        query = "INSERT INTO f2b.store (host, life) VALUES (%s, gen_random_uuid()) RETURNING store_id"
        ((made,),) = self.centre.rows(query, host)
        self.last[made] = 0
        return int(made)

    def upload(self, store: int, events: Sequence[Event], now: float, *, old: bool = False) -> None:
        """Let events arrive now; `old` are known, and never told."""
        first = self.last[store] + 1
        self.last[store] += len(events)
        rows = [
            (store, seq, now, kind, jail, ip, at, recorded_at, failures, bantime, users, int(old))
            for seq, (kind, _, jail, ip, at, recorded_at, failures, bantime, _, users, *_) in enumerate(events, first)
        ]
        with psycopg.connect(self.centre.admin) as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT.encode(), rows)
            cursor.execute(
                "UPDATE f2b.store SET last_seq = %s, seen_at = to_timestamp(%s), complete_until = %s, skew = 0 "
                "WHERE store_id = %s", (self.last[store], now, now, store),
            )  # fmt: skip

    def digest(self, name: str, now: float, *, seal: bool = False) -> str:
        """Return the document of a report's next digest, and seal it if asked to."""
        report = self.configuration.reports[name]
        with (
            Opened(self.centre.as_user("f2b_digest")) as opened,
            opened.about(name, report.hosts, report.every, now) as store,
        ):
            selection = composition.pending(store, name, report)
            with store.report(selection) as source:
                made = composition.compose(
                    self.configuration, source, name, now, store.informed(HostContext(), 0)
                )  # fmt: skip
            text = document.to_json(made, indent=1)
            if seal:
                stamp = Stamp(f"{name}{now}", name, "", "fleet", now, made.totals.bans, 0, 0, 0)
                start, end = made.start.timestamp(), made.end.timestamp()
                assert store.seal(selection, stamp=stamp, document=text, start=start, end=end, messages=[])
        return text


def made_up() -> list[list[Event]]:
    """Return what three hosts recorded in 45 days; a jail falls silent, addresses come again, bans are lifted."""
    chance = random.Random(14)
    return [
        sorted((event for day in range(DAYS) for event in _day(chance, host, day)), key=lambda event: float(event[5]))
        for host in range(3)
    ]


def _day(chance: random.Random, host: int, day: int) -> Iterator[Event]:
    for jail, most in (("sshd", 30), ("postfix", 12), ("nginx", 4)):
        if (jail, host) == ("postfix", 1) and day > 38:
            continue
        for _ in range(chance.randrange(most)):
            at = NOON + (day - DAYS + chance.random()) * DAY
            ip = f"198.51.{chance.randrange(3)}.{int(chance.expovariate(0.05)) % 256}"
            users = '["root", "admin"]' if chance.random() < 0.3 else None
            yield ("ban", "web1", jail, ip, at, at, 5, 86400, None, users)
            if chance.random() < 0.1:
                yield ("unban", "web1", jail, ip, at, at + chance.random() * 3 * DAY, None, None, None, None)
            if chance.random() < 0.1:
                yield ("prolong", "web1", jail, ip, at, at + 1, None, 4 * 86400, None, None)


def real() -> list[list[Event]]:
    """Return the last 45 days of three real histories."""
    found = []
    for each in histories(FOLDER, ("drizzo", "florent", "jabedude")):
        later = NOON - each.times[-1]
        rows = each.between(each.times[-1] - DAYS * DAY, each.times[-1])
        found.append([(*row[:4], row[4] + later, row[5] + later, *row[6:10]) for row in rows])
    return found or pytest.skip(f"no histories in {FOLDER}: set F2B_DIGEST_HISTORIES")


@contextmanager
def by_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let digests read each event that they are compared with, as if no times were kept."""
    fill = history.fill
    with monkeypatch.context() as patch:
        patch.setattr("f2b_digest.fleet.scratch.history.fill", lambda *given, rows: fill(*given, rows=True))
        yield


@pytest.fixture(params=[made_up, real])
def hosts(request: pytest.FixtureRequest) -> list[list[Event]]:
    """Give what three hosts recorded."""
    events: list[list[Event]] = request.param()
    return events


def test_packed_times_say_what_the_events_say(
    centre: Centre, tmp_path: Path, hosts: list[list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For two reports that seal at their own pace, with late bans, a restored store, and events that were dropped."""
    fleet = Fleet(centre, tmp_path)
    stores = [fleet.store(f"web{number}") for number in (1, 2, 3)]
    restored, compared = None, 0
    for module in (history, campaigns):
        monkeypatch.setattr(module, "REMEMBERED", 40)
    for day in range(DAYS):
        now = NOON - (DAYS - 1 - day) * DAY
        for number, (store, events) in enumerate(zip(stores, hosts, strict=True)):
            arriving = [event for event in events if now - DAY <= event[5] < now]
            if number < 2 and day in (41, 42):  # cut off: the next day has all of it
                continue
            if number < 2 and day == 43:
                arriving = [event for event in events if now - 3 * DAY <= event[5] < now]
            fleet.upload(store, arriving, now, old=day < 6 and number == 0)
            if number == 2 and day == 38:
                restored = fleet.store("web3")
                fleet.upload(restored, arriving, now)  # the same bans from a second store
        if day == 40:  # the events of the first days were dropped
            centre.do(
                f"DELETE FROM f2b.event WHERE arrived < to_timestamp({now - 20 * DAY})",
                f"UPDATE f2b.centre SET events_since = to_timestamp({now - 20 * DAY})",
            )
        for name in ("daily", "web1"):
            if day >= 37:
                packed = fleet.digest(name, now)
                with by_rows(monkeypatch):
                    assert fleet.digest(name, now) == packed
                with monkeypatch.context() as patched:
                    patched.setattr("f2b_digest.fleet.centre.AS_ROWS", -1)
                    assert fleet.digest(name, now) == packed
                compared += 1
            if day % 3 == 0 or (name == "daily" and day >= 37):
                fleet.digest(name, now, seal=True)
    assert compared == 2 * (DAYS - 37)
    assert centre.rows("SELECT count(*) > 30 FROM f2b.times") == [(True,)]


def test_times_that_another_report_kept_are_not_counted_before_they_are_told(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late bans that `daily` has told are pending for `web1`: there they would be counted twice."""
    fleet = Fleet(centre, tmp_path)
    store = fleet.store("web1")
    for module in (history, campaigns):
        monkeypatch.setattr(module, "REMEMBERED", 40)
    for day in range(1, 5):
        now = NOON + day * DAY
        fleet.upload(store, bans(now - DAY / 2, 60), now)
        if day == 4:  # what is kept next begins before the end of what `web1` has told, and ends after it
            centre.do("REVOKE INSERT ON f2b.times FROM f2b_digest")
        fleet.digest("web1", now, seal=True)
    centre.do("GRANT INSERT ON f2b.times TO f2b_digest")
    now = NOON + 5 * DAY
    fleet.upload(store, bans(now - 1.4 * DAY, 10), now)
    fleet.digest("daily", now, seal=True)
    assert centre.rows("SELECT max(after_seq), max(upto_seq) FROM f2b.times") == [(180, 250)]
    packed = fleet.digest("web1", now)
    with by_rows(monkeypatch):
        assert fleet.digest("web1", now) == packed
    assert json.loads(packed)["compared"]["before"] == 70


def bans(at: float, count: int) -> list[Event]:
    """Return bans of an address within a minute."""
    times = [at + second for second in range(count)]
    return [
        ("ban", "web1", "sshd", f"192.0.2.{second % 256}", time, time, *[None] * 4) for second, time in enumerate(times)
    ]


def test_a_digest_is_sealed_although_its_times_are_not_kept(centre: Centre, tmp_path: Path) -> None:
    """The next seal keeps them, too."""
    fleet = Fleet(centre, tmp_path)
    store, kept = fleet.store("web1"), "SELECT after_seq, upto_seq, octet_length(times) FROM f2b.times"
    for day, rights in ((1, "REVOKE INSERT ON f2b.times FROM"), (2, "GRANT INSERT ON f2b.times TO")):
        centre.do(f"{rights} f2b_digest")
        now = NOON + day * DAY
        fleet.upload(store, [("ban", "web1", "sshd", "192.0.2.1", now - 60, now - 60, *[None] * 4)] * 3, now)
        fleet.digest("daily", now, seal=True)
        assert centre.rows("SELECT seq FROM f2b.mark WHERE report = 'daily'") == [(3 * day,)]
        assert centre.rows(kept) == ([] if day == 1 else [(0, 6, 48)])


def test_times_of_dropped_events_go(centre: Centre, tmp_path: Path) -> None:
    """When the partitions are tended."""
    fleet = Fleet(centre, tmp_path)
    store = fleet.store("web1")
    for day in (1, 2):
        now = NOON + day * DAY
        fleet.upload(store, [("ban", "web1", "sshd", "192.0.2.1", now - 60, now - 60, *[None] * 4)], now)
        fleet.digest("daily", now, seal=True)
    centre.do(f"UPDATE f2b.centre SET events_since = to_timestamp({NOON + 1.5 * DAY})")
    with Opened(centre.as_user("f2b_digest")) as opened:
        opened.prune(400 * DAY, {})
    assert centre.rows("SELECT upto_seq FROM f2b.times") == [(2,)]
