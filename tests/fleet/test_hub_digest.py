"""What a hub's digests have beside those of a centre: its own host, and whole days although seals are ranges of ids."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import composition, config, delivery, recorder
from f2b_digest.cli import send as sending
from f2b_digest.config import Configuration
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import from_json
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.message import Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store, Uploads, part, received
from tests.fleet.hosts import Host
from tests.support.hub import Hub
from tests.support.hub import hub as running

pytestmark = pytest.mark.slow
DAY = 86400.0
MIDNIGHT = (time.time() // DAY - 1) * DAY
"""A day ago, so that nothing that these tests record is of the future."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Give a hub without hosts."""
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def configuration(hub: Hub, tmp_path: Path) -> Configuration:
    """Give its configuration: a report by the calendar, and one of some hosts."""
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
store = "{hub.path}"
[reports.daily]
period = "calendar"
every = "day"
channels = ["out"]
[reports.web2]
period = "calendar"
every = "day"
channels = ["out"]
hosts = ["web2"]
[channels.out]
kind = "file"
folder = "{tmp_path}/out"
"""
    )
    return config.load(file, host="hub", timezone="UTC")


def joined(hub: Hub, name: str) -> Host:
    """Return a host that joined long ago: whatever it records is news."""
    host = Host(hub.path.with_name(f"{name}.sqlite3"), hub.add(name))
    host.ban("192.0.2.250", at=MIDNIGHT - 300 * DAY, jail="old")
    with Uploads(host.store) as uploads:
        uploads.join(MIDNIGHT - 250 * DAY)
    return host


def send(hub: Hub, configuration: Configuration, report: str, now: float) -> Digest:
    """Seal a report's digest at a time, and return it."""
    with hub.opened() as store:
        delivery.send(configuration, store, delivery.renderer_of(configuration), [report], lambda: now)
        last = store.last_digest(report)
        assert last is not None
        document = store.document(last.id)
    assert document is not None
    return from_json(document)


def addresses(digest: Digest) -> list[str]:
    """Return the addresses of a digest, in order."""
    return sorted(address.ip for jail in digest.jails for address in jail.worst)


def test_a_day_is_whole_although_hosts_upload_after_each_other(hub: Hub, configuration: Configuration) -> None:
    """The first host's bans of the new day arrive before the other's last ones of the old day; each is told once."""
    one, other = joined(hub, "web1"), joined(hub, "web2")
    one.ban("192.0.2.1", at=MIDNIGHT - 60)
    one.ban("192.0.2.2", at=MIDNIGHT + 30)
    one.forward()
    other.ban("198.51.100.1", at=MIDNIGHT - 30)
    other.ban("198.51.100.2", at=MIDNIGHT + 60)
    other.forward()
    first = send(hub, configuration, "daily", MIDNIGHT + 600)
    assert addresses(first) == ["192.0.2.1", "198.51.100.1"]
    assert hub.rows("SELECT report, id FROM fleet_ahead") == [("daily", 4), ("daily", 5)]
    assert addresses(send(hub, configuration, "web2", MIDNIGHT + 600)) == ["198.51.100.1"]
    other.ban("198.51.100.3", at=MIDNIGHT + 900)
    other.forward()
    second = send(hub, configuration, "daily", MIDNIGHT + DAY + 600)
    assert addresses(second) == ["192.0.2.2", "198.51.100.2", "198.51.100.3"]
    assert hub.rows("SELECT report, id FROM fleet_ahead") == []
    assert addresses(send(hub, configuration, "web2", MIDNIGHT + DAY + 600)) == ["198.51.100.2", "198.51.100.3"]
    with hub.opened() as store, store.about("daily", ("*",), "day", MIDNIGHT + 2 * DAY) as copy:
        assert copy.pending(composition.pending(copy, "daily", configuration.reports["daily"])).bans == 0


def test_a_day_is_that_of_the_hubs_clock(hub: Hub, configuration: Configuration) -> None:
    """A host's clock that is an hour ahead recorded as of the new day what was in the old one."""
    ahead, right = joined(hub, "web1"), joined(hub, "web2")
    for host, at in ((ahead, MIDNIGHT + 1800), (right, MIDNIGHT - 600)):
        host.ban("192.0.2.1" if host is ahead else "198.51.100.1", at=at)
        host.forward()
    ahead.ban("192.0.2.2", at=MIDNIGHT + 3660)
    ahead.forward()
    hub.do("UPDATE fleet_store SET skew = 3600 WHERE host = 'web1'")
    first = send(hub, configuration, "daily", MIDNIGHT + 7200)
    assert addresses(first) == ["192.0.2.1", "198.51.100.1"]
    assert addresses(send(hub, configuration, "daily", MIDNIGHT + DAY + 600)) == ["192.0.2.2"]


def test_a_clock_that_was_years_ahead_keeps_no_ban_from_the_digest(hub: Hub, configuration: Configuration) -> None:
    """Once it is right again, and whatever it recorded meanwhile."""
    host, other = joined(hub, "web1"), joined(hub, "web2")
    for number, at in enumerate((MIDNIGHT - 900, MIDNIGHT + 1000 * DAY, MIDNIGHT - 300, MIDNIGHT + 60)):
        host.ban(f"192.0.2.{number}", at=at)
    host.forward()
    other.ban("198.51.100.1", at=MIDNIGHT + 30)
    other.forward()
    first = send(hub, configuration, "daily", MIDNIGHT + 600)
    assert addresses(first) == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
    assert addresses(send(hub, configuration, "daily", MIDNIGHT + DAY + 600)) == ["192.0.2.3", "198.51.100.1"]


def test_an_address_is_known_since_its_first_ban(hub: Hub, configuration: Configuration) -> None:
    """Which the comparison of a month does not reach."""
    host = joined(hub, "web1")
    for days in (200, 100, 2):
        host.ban("192.0.2.1", at=MIDNIGHT - days * DAY)
        host.forward()
        hub.do("UPDATE event SET recorded_at = at")
        assert addresses(send(hub, configuration, "daily", MIDNIGHT - (days - 1) * DAY))
    host.ban("192.0.2.1", at=MIDNIGHT - 60)
    host.forward()
    digest = send(hub, configuration, "daily", MIDNIGHT + 600)
    (address,) = digest.jails[0].worst
    assert address.known_since is not None
    assert address.known_since.timestamp() == MIDNIGHT - 200 * DAY
    assert digest.compared.returning == 1


def composed(hub: Hub, configuration: Configuration, now: float) -> tuple[Digest, Any, bool]:
    """Return what the report `daily` would say, what is known of the hub itself, and whether there are packed times."""
    with (
        Store(hub.path, read_only=True) as store,
        store.about("daily", ("*",), "day", now) as copy,
        copy._reading() as connection,
    ):
        is_packed = connection.has_table("past")
        connection.rollback()
        known = copy.informed(HostContext(), 0)
        assert known.fleet is not None
        of_hub = [state.host for state in known.fleet if state.here], copy.starts_and_stops(("*",), 0.0)
        with copy.report(composition.pending(copy, "daily", configuration.reports["daily"])) as source:
            return composition.compose(configuration, source, "daily", now, known), of_hub, is_packed


@pytest.mark.parametrize("starts", [((MIDNIGHT - 20 * DAY, "start"), (MIDNIGHT - 3 * DAY, "stop")), ()])
def test_a_digest_that_is_compared_with_packed_times_says_the_same(
    hub: Hub, configuration: Configuration, monkeypatch: pytest.MonkeyPatch, starts: tuple[tuple[float, str], ...]
) -> None:
    """As one that is compared with rows: usual numbers, silent jails, known addresses, lifted bans, the hub's own."""
    for name in ("web1", "web2"):
        hub.add(name)
    rows: list[tuple[Any, ...]] = []

    def add(kind: str, host: str, jail: str, ip: str, at: float, **fields: Any) -> None:
        source = "action" if host == "hub" else "fleet"
        rows.append(recorder.event(kind, jail, ip, at, host, source, **{"recorded_at": at} | fields))

    add("ban", "web1", "ftp", "10.20.1.1", MIDNIGHT - 100 * DAY)
    for day in range(40, 0, -1):
        for number in range(12):
            at = MIDNIGHT - day * DAY + number * 7000
            own = "hub" if day > 2 else "web1"
            add("ban", ("web1", "web2", own)[number % 3], "sshd", f"10.{number}.{day}.1", at, bantime=600)
            if number < 8 and (day > 6 or number > 3):
                add("ban", ("web1", "web2")[number % 2], "nginx", f"10.{number}.{day}.2", at, bantime=-1)
        if day > 3:
            add("ban", "hub", "smtp", f"10.1.{day}.3", MIDNIGHT - day * DAY + 80000)
    for at, kind in starts:
        add(kind, "hub", "smtp", "", at)
    rows.sort(key=lambda row: row[recorder.COLUMNS.index("recorded_at")])
    add("ban", "web1", "ftp", "10.20.1.1", MIDNIGHT + 30)
    for number in range(1, 30):
        add("ban", "web2", "sshd", f"10.{number}.1.1", MIDNIGHT + number * 60, bantime=600)
    at = MIDNIGHT - 20 * DAY + 7000  # of a ban that was for ever
    add("unban", "web2", "nginx", "10.1.20.2", at, recorded_at=MIDNIGHT + 3600)
    told = sum(row[recorder.COLUMNS.index("recorded_at")] < MIDNIGHT for row in rows)
    with closing(recorder.connect(str(hub.path))) as connection:
        connection.executemany(recorder.INSERT, rows)
    with hub.opened() as store:
        stamp = Stamp("0" * 32, "daily", "", "hub", MIDNIGHT, 1)
        store.seal(
            Selection(first_id=1, last_id=told), stamp=stamp, document="{}", start=MIDNIGHT - DAY, end=MIDNIGHT,
            messages=[],
        )  # fmt: skip
    by_rows, of_hub, is_packed = composed(hub, configuration, MIDNIGHT + DAY)
    assert not is_packed
    monkeypatch.setattr(part, "REMEMBERED", 5)
    assert of_hub == (["hub"], {"smtp": tuple((kind, at) for at, kind in starts)} if starts else {})
    assert composed(hub, configuration, MIDNIGHT + DAY) == (by_rows, of_hub, True)
    assert [each.ip for each in by_rows.lifted] == ["10.1.20.2"]
    assert (by_rows.compared.new, by_rows.compared.returning) == (17, 12)
    assert {fact.kind for fact in by_rows.facts} >= {"silent", "surge"}


def test_the_hub_judges_its_own_host_by_what_it_knows_of_it(
    hub: Hub, configuration: Configuration, tmp_path: Path
) -> None:
    """A jail that was stopped there is told with its host; that it does not run on the others says nothing of them."""
    host = Host(tmp_path / "web1.sqlite3", hub.add("web1"))
    own = Host(hub.path, host.credential)  # records as "local"
    now = time.time()
    for days in range(28):
        for each, jail in ((own, "sshd"), (host, "sshd"), (own, "nginx")):
            each.ban(f"192.0.2.{days + 1}", jail, at=now - (days + 0.5) * DAY)
    for kind, jail, at in (("start", "sshd", 30 * DAY), ("start", "nginx", 30 * DAY), ("stop", "sshd", 7200.0)):
        row = recorder.event(kind, jail, "", now - at, "local", "action", recorded_at=now - at)
        assert recorder.append(str(hub.path), row) == ""
    host.forward()
    context = HostContext(running=("nginx",), stores=(str(hub.path),))
    report = configuration.reports["daily"]
    with (
        Store(hub.path, read_only=True) as store,
        store.about("daily", ("*",), "day", now) as copy,
        copy.report(composition.pending(copy, "daily", report)) as source,
    ):
        known = copy.informed(context, 0)
        digest = composition.compose(configuration, source, "daily", now, known)
    assert known.fleet is not None
    assert [(state.host, state.here) for state in known.fleet] == [("local", True), ("web1", False)]
    facts = [fact for fact in digest.facts if fact.kind in ("stopped", "silent", "down")]
    assert [(fact.kind, fact.jail, fact.host, fact.run_on) for fact in facts if fact.kind == "stopped"] == [
        ("stopped", "sshd", "local", "local")
    ]
    assert len(facts) == 1
    assert digest.fleet is not None
    assert digest.fleet.in_all == 2


def test_a_hub_whose_hosts_are_retired_has_the_digest_of_a_single_host(hub: Hub, configuration: Configuration) -> None:
    """As soon as all that they uploaded is told: without their jails, as if nobody had ever uploaded."""
    host, now = joined(hub, "web1"), MIDNIGHT + DAY
    own = Host(hub.path, host.credential)  # records as "local"
    for days in range(29, 0, -1):
        own.ban(f"192.0.2.{days}", at=now - (days - 0.5) * DAY)
        for jail in ("sshd", "nginx"):
            host.ban(f"198.51.100.{days}", jail, at=now - (days - 0.4 + 5 * (jail == "nginx")) * DAY)
    host.forward()
    hub.do("UPDATE fleet_host SET retired_at = 1")
    report = configuration.reports["daily"]

    def look() -> Digest:
        context = HostContext(running=("sshd",), stores=(str(hub.path),))
        with (
            Store(hub.path, read_only=True) as store,
            store.about("daily", ("*",), "day", now) as copy,
        ):
            known = copy.informed(context, 0)
            with copy.report(composition.pending(copy, "daily", report)) as source:
                assert composition.is_fed(copy, known)
                return composition.compose(configuration, source, "daily", now, known)

    first = look()
    assert (first.fleet is None, {jail.name for jail in first.jails}) == (False, {"sshd", "nginx"})
    with hub.opened() as store:
        stamp = Stamp("0" * 32, "daily", "", "hub", now - DAY, 1)
        last = Selection(first_id=1, last_id=store.last_event())
        store.seal(last, stamp=stamp, document="{}", start=now - 2 * DAY, end=now - DAY, messages=[])
    for number in range(3):
        own.ban(f"203.0.113.{number}", at=now - 3600 + number)
    then = look()
    hub.do("DELETE FROM event WHERE source = 'fleet'", *(f"DROP TABLE {table}" for table in received.TABLES))
    assert then == look()
    assert (then.fleet, then.jails[0].usual, then.facts) == (None, 1.0, ())


def test_a_calendar_report_waits_for_hosts_that_have_more_of_the_day(hub: Hub, configuration: Configuration) -> None:
    """For those that the report has, that are not retired, and that were heard lately; not for ever."""
    hosts = [Host(hub.path.with_name(f"{name}.sqlite3"), hub.add(name)) for name in ("web1", "web2")]
    for host in hosts:
        host.ban("192.0.2.1")
        host.forward()
    now = time.time()
    midnight = now // DAY * DAY
    hub.do(f"UPDATE fleet_store SET complete_until = {midnight - 100} + coalesce(skew, 0)")
    slept: list[float] = []

    def wait(report: str, then: Callable[[], None] = lambda: None) -> int:
        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:
                then()

        slept.clear()
        sending.wait_for_hosts(
            lambda *asked: sending._unfinished(hub.path, *asked), configuration, [report], lambda: now, sleep
        )
        return len(slept)

    done = f"UPDATE fleet_store SET complete_until = {now + 60}"
    assert wait("daily", lambda: hub.do(done)) == 3
    hub.do(f"UPDATE fleet_store SET complete_until = {midnight - 100} WHERE host = 'web1'")
    assert wait("web2") == 0
    hub.do(f"UPDATE fleet_store SET seen_at = {now - 1200} WHERE host = 'web1'")
    assert wait("daily") == 0
    hub.do(f"UPDATE fleet_store SET seen_at = {now}", "UPDATE fleet_host SET retired_at = 1 WHERE host = 'web1'")
    assert wait("daily") == 0
