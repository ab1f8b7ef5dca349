"""What a fleet's digest says of its hosts: which are silent, behind, copied, off, and what came late.

Of a centre in PostgreSQL, and of a hub.
"""

import csv
import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import composition, config, delivery, recorder
from f2b_digest.cli.fleet import listing
from f2b_digest.config import Configuration
from f2b_digest.fleet import hosts, state
from f2b_digest.fleet.centre import Centre
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import from_json
from f2b_digest.model.fleet import FleetHost
from f2b_digest.model.fleet_facts import LateBans
from f2b_digest.model.host_context import HostContext
from f2b_digest.model.selection import Selection
from f2b_digest.store import lives
from tests.fleet.hosts import Fleet, Host, opened_by, restore
from tests.support.hub import Hub, hub
from tests.support.postgres_server import PostgreSQL

pytestmark = pytest.mark.slow
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture(params=["postgresql", "postgresql groups", "hub"])
def centre(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Give a centre of its own, one that groups the events of every digest, or a hub."""
    if request.param == "postgresql groups":
        monkeypatch.setattr("f2b_digest.fleet.centre.AS_ROWS", -1)
    if request.param == "hub":
        with hub(tmp_path) as made:
            yield made
    else:
        server: PostgreSQL = request.getfixturevalue("postgres")
        with server.centre() as centre:
            yield centre


@pytest.fixture
def configuration(centre: Fleet, tmp_path: Path) -> Configuration:
    """Give a centre's configuration, with a daily report into a folder."""
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
store = "{centre.as_user("f2b_digest")}"
[reports.daily]
channels = ["out"]
[reports.web]
channels = ["out"]
hosts = ["web*"]
[channels.out]
kind = "file"
folder = "{tmp_path}/out"
"""
    )
    return config.load(file, host="fleet", timezone="UTC")


def look(centre: Fleet, configuration: Configuration, name: str = "daily", now: float | None = None) -> Digest:
    """Return a report's next digest, without sealing it."""
    moment = time.time() if now is None else now
    report = configuration.reports[name]
    with (
        opened_by(centre) as opened,
        opened.about(name, report.hosts, "day", moment) as store,
        store.report(composition.pending(store, name, report)) as source,
    ):
        return composition.compose(configuration, source, name, moment, store.informed(HostContext(), 0))


def send(centre: Fleet, configuration: Configuration, now: float) -> Digest | None:
    """Seal the daily digest at a time, and return it; None if nothing was sent."""
    renderer = delivery.renderer_of(configuration)
    with opened_by(centre) as opened:
        before = opened.last_digest("daily")
        delivery.send(configuration, opened, renderer, ["daily"], lambda: now)
        last = opened.last_digest("daily")
        if last is None or last == before:
            return None
        document = opened.document(last.id)
    assert document is not None
    return from_json(document)


def kinds(digest: Digest | None) -> list[str]:
    """Return the kinds of the facts that name hosts."""
    assert digest is not None
    return [fact.kind for fact in digest.facts if hasattr(fact, "hosts")]


def hosts_of(digest: Digest) -> dict[str, FleetHost]:
    """Return the hosts with something to tell, in order."""
    assert digest.fleet is not None
    return {host.name: host for host in digest.fleet.hosts}


def of_kind(digest: Digest, kind: str) -> Any:
    """Return the fact of a kind."""
    (fact,) = [fact for fact in digest.facts if fact.kind == kind]
    return fact


def back(centre: Fleet, host: str, seconds: float) -> None:
    """Let a host have been heard last so long ago."""
    centre.do(f"UPDATE f2b.store SET seen_at = seen_at - interval '{seconds} seconds' WHERE host = '{host}'")


DEEP: Any = {}
for _ in range(200):
    DEEP = {"deep": [DEEP]}


def test_nothing_that_a_host_says_of_itself_stops_a_digest(
    centre: Fleet, host: Host, configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the list of hosts: numbers that no calendar has, infinities, other types, depths."""
    huge = 10**400
    for number, said in enumerate((
        {"now": 1e300, "complete_until": 1e300, "oldest": -1e300, "backlog": 5, "replaced": huge, "last_ban": -huge},
        {"now": -1e300, "complete_until": -1e300, "oldest": 1e300, "backlog": huge},
        {"now": "Infinity", "complete_until": "-Infinity"},
        {"now": "NaN", "complete_until": "NaN"},
        DEEP,
        {"fail2ban": {"lacking": ["\x1b[31m", 5, {}], "line": "\n", "jails": 3, "lacking_more": huge}, "version": [1]},
    )):  # fmt: skip
        host.bans([f"192.0.2.{number}"])
        monkeypatch.setattr(state, "told", lambda *_, said=said: said)
        host.forward()
        if isinstance(centre, Hub):
            known = lives(centre.path)
        else:
            with Centre(centre.as_user("f2b_digest")) as opened, opened._transaction() as connection:
                known = hosts.lives(connection)
        assert json.dumps([asdict(life) for life in known], allow_nan=False)
        assert list(listing._lines(listing._grouped(known, time.time()), time.time(), everyone=True))
        digest = send(centre, configuration, time.time())
        assert digest is not None, said
        assert digest.totals.bans == 1


def test_hosts_without_anything_are_a_number(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """The others are listed; a report has only its own."""
    other = Host(tmp_path / "db1.sqlite3", centre.add("db1"))
    host.bans(["192.0.2.1"])
    for each in (host, other):
        each.ban("192.0.2.9", at=time.time() - 60)
        each.forward()
    centre.add("web9")  # enrolled just now: it has a day to join
    fleet = look(centre, configuration).fleet
    assert fleet is not None
    assert (fleet.in_all, fleet.hosts, fleet.quiet) == (3, (), 1)
    assert [(each.name, each.bans) for each in fleet.busiest] == [("web1", 2), ("db1", 1)]
    of_web = look(centre, configuration, "web").fleet
    assert of_web is not None
    assert (of_web.in_all, of_web.busy) == (2, 1)


def test_a_silent_host_is_told_for_three_days_then_weekly_until_it_is_retired(
    centre: Fleet, host: Host, configuration: Configuration
) -> None:
    """Though nothing was banned: the verdict needs attention, and the digest goes out."""
    host.bans(["192.0.2.1"])
    host.forward()
    now = time.time()
    first = send(centre, configuration, now)
    assert first is not None
    assert first.verdict == "quiet"
    told = [send(centre, configuration, now + day * DAY) for day in range(1, 13)]
    assert [day for day, digest in enumerate(told, 1) if digest] == [1, 2, 3, 10]
    for digest in filter(None, told):
        assert (digest.verdict, kinds(digest)) == ("needs_attention", ["hosts_silent"])
        assert of_kind(digest, "hosts_silent").retire == "f2b-digest fleet retire web1"
        assert hosts_of(digest)["web1"].silent_since is not None
    centre.do("UPDATE f2b.host SET retired_at = now()")
    assert send(centre, configuration, now + 30 * DAY) is None


def test_a_host_that_never_joined_is_told_after_a_day(centre: Fleet, configuration: Configuration) -> None:
    """With what gives it a new credential."""
    centre.add("web9")
    assert kinds(look(centre, configuration)) == []
    digest = look(centre, configuration, now=time.time() + 2 * DAY)
    assert kinds(digest) == ["hosts_unheard"]
    assert of_kind(digest, "hosts_unheard").commands == ("f2b-digest fleet rotate web9",)
    assert kinds(send(centre, configuration, time.time() + 2 * DAY)) == ["hosts_unheard"]


def test_an_own_address_is_told_with_the_host_that_banned_it(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """Of each host by itself: what was lifted on one is still banned on the other."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    said = {"192.0.2.2": '{"why": "login", "near": null, "user": "anna"}'}
    now = time.time()
    for each in (host, other):
        each.ban("192.0.2.2", at=now - 60, bantime=7200)
        each.forward(own=lambda event: said.get(event["ip"]))
    digest = look(centre, configuration)
    assert sorted((fact.host, fact.user) for fact in digest.facts if fact.kind == "own") == [
        ("web1", "anna"), ("web2", "anna"),
    ]  # fmt: skip
    assert [host.own for host in hosts_of(digest).values()] == [("192.0.2.2",)] * 2


def test_jails_without_the_action_are_told_with_the_line_to_add(
    centre: Fleet, host: Host, configuration: Configuration
) -> None:
    """As the host says; what is no list of names is passed over."""
    host.bans(["192.0.2.1"])
    host.forward()
    line = 'f2b-digest.py[dbpath="/x"]'
    said = {"jails": 3, "silence": "", "lacking": ["dovecot"], "lacking_more": 0, "line": line}
    for lacking, expected in ((["dovecot"], ["hosts_lacking"]), ({"a": 1}, []), ("sshd", [])):
        state = json.dumps({"fail2ban": said | {"lacking": lacking}})
        centre.do(f"UPDATE f2b.store SET state = '{state}'")
        assert kinds(look(centre, configuration)) == expected
    centre.do(f"UPDATE f2b.store SET state = '{json.dumps({'fail2ban': said})}'")
    digest = look(centre, configuration)
    assert of_kind(digest, "hosts_lacking").line == line
    assert of_kind(digest, "hosts_lacking").intended == 'known_quiet = ["dovecot"]'
    assert kinds(look(centre, replace(configuration, known_quiet=("dovecot",)))) == []
    assert hosts_of(digest)["web1"].lacking == ("dovecot",)


@pytest.mark.parametrize("state", ['"text"', "[]", '{"backlog": "many", "oldest": {}, "fail2ban": 7, "version": 3}'])
def test_what_a_host_says_of_itself_may_be_anything(
    centre: Fleet, host: Host, configuration: Configuration, state: str
) -> None:
    """No digest fails by it."""
    host.bans(["192.0.2.1"])
    host.forward()
    centre.do(f"UPDATE f2b.store SET state = '{state}', skew = NULL, complete_until = NULL")
    digest = look(centre, configuration)
    assert (digest.notes, kinds(digest)) == ((), [])


def test_a_clone_is_told_and_a_restored_store_is_not(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """Two stores at work take turns; of a restored one, the earlier life ended where the later began."""
    host.bans(["192.0.2.1"])
    host.forward()
    restore(host.store, tmp_path / "backup")
    host.bans(["192.0.2.2"])
    host.forward()
    restored = host.copy(tmp_path / "restored.sqlite3")
    restore(tmp_path / "backup", restored.store)
    restored.bans(["192.0.2.3"])
    restored.forward()
    assert len(centre.rows("SELECT 1 FROM f2b.store")) == 2
    assert kinds(look(centre, configuration)) == []
    centre.do("UPDATE f2b.store SET began_at = began_at - interval '10 minutes'")
    host.forward()
    digest = look(centre, configuration)
    assert kinds(digest) == ["hosts_copied"]
    assert hosts_of(digest)["web1"].stores == 2


def test_backlog_clock_and_version_are_told(centre: Fleet, host: Host, configuration: Configuration) -> None:
    """A backlog by its age, a clock beyond a minute, and other versions as a number."""
    host.bans(["192.0.2.1"])
    host.forward()
    now = time.time()
    assert kinds(look(centre, configuration)) == []
    state = json.dumps({"backlog": 12310, "oldest": now - 5 * HOUR, "version": "0.0.9"})
    centre.do(f"UPDATE f2b.store SET state = '{state}', skew = 95")
    digest = look(centre, configuration)
    assert kinds(digest) == ["hosts_behind", "clocks_off"]
    seen = hosts_of(digest)["web1"]
    assert (seen.waiting, seen.clock_off) == (12310, 95)
    assert seen.waiting_since is not None
    assert abs(seen.waiting_since.timestamp() - (now - 5 * HOUR - 95)) < 1  # by the centre's clock
    assert digest.fleet is not None
    assert [(each.version, each.hosts) for each in digest.fleet.behind] == [("0.0.9", 1)]


def test_bans_that_came_late_are_told_apart(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """They are in no number of today, are sealed with it, and count in the days when they were."""
    other = Host(tmp_path / "web7.sqlite3", centre.add("web7"))
    other.ban("192.0.2.200")
    for each in (host, other):
        each.forward()
    now = time.time()
    assert send(centre, configuration, now) is not None
    host.ban("192.0.2.2", at=now + 20 * HOUR)
    for number in range(30):
        other.ban(f"198.51.100.{number}", at=now - (3 + number % 4) * DAY)
    other.ban("192.0.2.3", at=now + 21 * HOUR)
    for each in (host, other):
        each.forward()
    centre.do("UPDATE f2b.store SET seen_at = seen_at + interval '1 day', skew = 0")
    digest = send(centre, configuration, now + DAY)
    assert digest is not None
    assert (digest.totals.bans, digest.compared.before) == (2, 1)
    (late,) = [fact for fact in digest.facts if isinstance(fact, LateBans)]
    assert (late.bans, [each.host for each in late.hosts]) == (30, ["web7"])
    seen = hosts_of(digest)["web7"]
    assert seen.late is not None
    assert (seen.bans, seen.late.bans, (seen.late.last - seen.late.first).days) == (1, 30, 3)
    assert digest.verdict == "quiet"
    assert send(centre, configuration, now + DAY + 60) is None
    past = look_at_past(centre, configuration, now - 8 * DAY, now - DAY)
    assert past.totals.bans == 30


def test_an_unban_ends_the_ban_of_its_own_host_only(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """The same attacker is banned on several hosts within seconds, and for as long as each of them bans."""
    other, now = Host(tmp_path / "db1.sqlite3", centre.add("db1")), time.time()
    host.ban("192.0.2.1", at=now - 900, bantime=600)
    host.end("192.0.2.1", banned_at=now - 900, at=now - 300)
    other.ban("192.0.2.1", at=now - 905, bantime=86400)
    host.ban("192.0.2.2", at=now - 700, bantime=600)
    host.end("192.0.2.2", banned_at=now - 700, at=now - 100)
    other.ban("192.0.2.2", at=now - 699.7, bantime=86400)
    other.ban("192.0.2.3", at=now - 800, bantime=86400)
    other.end("192.0.2.3", banned_at=now - 800, at=now - 200)
    for each in (host, other):
        each.forward()
    digest = look(centre, configuration)
    assert [lifted.ip for lifted in digest.lifted] == ["192.0.2.3"]
    until = {each.ip: each.until and round(each.until.timestamp() - now) for each in digest.jails[0].worst}
    assert until == {"192.0.2.1": 600 - 900, "192.0.2.2": 85700, "192.0.2.3": -200}


def look_at_past(centre: Fleet, configuration: Configuration, since: float, until: float) -> Digest:
    """Return what `preview --since --until` shows."""
    selection = Selection(since=since, until=until)
    with (
        opened_by(centre) as opened,
        opened.about("daily", ("*",), "day", since, past=True) as store,
        store.report(selection) as source,
    ):
        return composition.compose(configuration, source, "daily", until, store.informed(HostContext(), 0))


def test_only_late_bans_are_news_enough_to_send(centre: Fleet, host: Host, configuration: Configuration) -> None:
    """They are no bans of today, and would wait for one."""
    host.ban("192.0.2.1")
    host.forward()
    now = time.time()
    send(centre, configuration, now)
    host.ban("192.0.2.2", at=now - 4 * DAY)
    host.forward()
    centre.do("UPDATE f2b.store SET seen_at = seen_at + interval '1 day', skew = 0")
    digest = send(centre, configuration, now + DAY)
    assert digest is not None
    assert (digest.totals.bans, kinds(digest)) == (0, ["late_bans"])


def plant(host: Host, jail: str, first: float, last: float, each: float) -> None:
    """Record a ban of another address in every so many seconds from a time to another."""
    times = [first + number * each for number in range(int((last - first) / each) + 1)]
    rows = [
        recorder.event("ban", jail, f"10.{number >> 8 & 255}.{number & 255}.1", at, "local", "action", recorded_at=at)
        for number, at in enumerate(times)
    ]
    with closing(recorder.connect(str(host.store))) as connection:
        connection.execute("BEGIN")
        connection.executemany(recorder.INSERT, rows)
        connection.execute("COMMIT")


def test_a_jail_that_died_on_one_host_of_three_is_told_with_its_host(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """The merged counts hardly show it. Of a host that is silent, no jail is told."""
    hosts = {name: Host(tmp_path / f"{name}.sqlite3", centre.add(name)) for name in ("web2", "web3", "web4")}
    now = time.time()
    for name, each in {"web1": host, **hosts}.items():
        dead = 2 * DAY if name in ("web2", "web4") else 60.0
        plant(each, "sshd", now - 28 * DAY, now - dead, 1800.0)
        plant(each, "nginx", now - 28 * DAY, now - 60.0, 3600.0)
        each.forward()
    state = json.dumps({"fail2ban": {"jails": 2, "silence": ""}})
    centre.do(f"UPDATE f2b.store SET state = '{state}'")
    back(centre, "web4", 3 * DAY)
    centre.do("UPDATE f2b.store SET complete_until = complete_until - 3 * 86400 WHERE host = 'web4'")
    digest = look(centre, configuration)
    silent = [(fact.host, fact.jail) for fact in digest.facts if fact.kind == "silent"]
    assert (silent, kinds(digest)) == ([("web2", "sshd")], ["hosts_silent"])
    assert hosts_of(digest)["web2"].silent_jails == ("sshd",)
    told = send(centre, configuration, now)
    assert told is not None
    assert [fact.kind for fact in told.facts if fact.needs_you] == ["hosts_silent", "silent"]
    again = look(centre, configuration, now=now + HOUR)
    assert [fact.kind for fact in again.facts if fact.needs_you] == []  # told an hour ago


def test_a_clock_that_is_days_behind_is_no_dead_jail(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """Its bans have times of two days before, and today has none: the clock is told, and no silence."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    now = time.time()
    for each, behind in ((host, 60.0), (other, 2 * DAY)):
        plant(each, "sshd", now - 28 * DAY, now - behind, 1800.0)
        each.forward()
    state = json.dumps({"fail2ban": {"jails": 1, "silence": ""}})
    centre.do(f"UPDATE f2b.store SET state = '{state}'")
    assert [fact.kind for fact in look(centre, configuration).facts if fact.needs_you] == ["silent"]
    centre.do(
        f"UPDATE f2b.store SET skew = {-2 * DAY}, complete_until = complete_until - {2 * DAY} WHERE host = 'web2'"
    )
    digest = look(centre, configuration)
    assert ([fact.kind for fact in digest.facts if fact.needs_you], kinds(digest)) == ([], ["clocks_off"])


def test_a_jail_that_died_on_all_hosts_is_told_once(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """A filter that was broken everywhere is one fact; the jail of a host that was retired is none."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    now = time.time()
    for each in (host, other):
        plant(each, "sshd", now - 28 * DAY, now - 3 * DAY, 1800.0)
        plant(each, "nginx", now - 28 * DAY, now - 60.0, 3600.0)
        each.forward()
    retired = Host(tmp_path / "mail.sqlite3", centre.add("mail"))
    plant(retired, "postfix", now - 28 * DAY, now - 3 * DAY, 1800.0)
    retired.forward()
    centre.do("UPDATE f2b.host SET retired_at = now() WHERE host = 'mail'")
    silent = [(fact.host, fact.jail) for fact in look(centre, configuration).facts if fact.kind == "silent"]
    assert silent == [(None, "sshd")]


def test_a_surge_is_that_of_its_host_and_a_new_host_is_none(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """What one host explains is told with its name; a host without a past is compared with nothing."""
    others = [Host(tmp_path / f"web{number}.sqlite3", centre.add(f"web{number}")) for number in (2, 3)]
    now = time.time()
    for each in (host, others[0]):
        plant(each, "sshd", now - 30 * DAY, now - 60.0, 1800.0)
    plant(host, "sshd", now - 6 * HOUR, now - 30.0, 40.0)
    plant(others[1], "sshd", now - 10 * HOUR, now - 30.0, 60.0)
    for each in (host, *others):
        each.forward()
    digest = look(centre, configuration)
    assert [(fact.kind, fact.host, fact.jail) for fact in digest.facts if fact.kind in ("surge", "drop")] == [
        ("surge", "web1", "sshd")
    ]


def test_fail2ban_that_does_not_answer_is_told_with_its_host(
    centre: Fleet, host: Host, configuration: Configuration, tmp_path: Path
) -> None:
    """By what the host says of it, when nobody was banned for an hour."""
    now = time.time()
    plant(host, "sshd", now - 9 * DAY, now - 2 * HOUR, 7200.0)
    host.forward()
    state = json.dumps({"fail2ban": {"jails": 0, "silence": "fail2ban does not answer"}})
    centre.do(f"UPDATE f2b.store SET state = '{state}'")
    digest = look(centre, configuration)
    assert [(fact.kind, getattr(fact, "host", None)) for fact in digest.facts if fact.needs_you] == [("down", "web1")]
    assert hosts_of(digest)["web1"].down


def test_what_only_a_fleet_sees_is_told_with_the_number_of_hosts(
    centre: Fleet, configuration: Configuration, tmp_path: Path
) -> None:
    """Addresses, networks, jails and names; an own address is not to be banned everywhere."""
    hosts = [Host(tmp_path / f"web{number}.sqlite3", centre.add(f"web{number}")) for number in range(4)]
    said = {"192.0.2.7": '{"why": "friend", "near": "192.0.2.7", "user": null}'}
    for number, each in enumerate(hosts):
        each.ban("203.0.113.59", users=("oracle", "root"), bantime=600)
        each.ban("192.0.2.7", bantime=600)
        each.ban(f"198.51.100.{number}", jail="nginx", bantime=600)
        if number:
            each.ban("203.0.113.60", jail="nginx", bantime=600)
        for last in (1, 2):
            each.ban(f"198.51.100.{10 * number + 10 + last}", jail=f"only{number}", users=("root",), bantime=600)
        each.forward(own=lambda event: said.get(event["ip"]))
    digest = look(centre, configuration)
    assert digest.fleet is not None
    assert [(each.ip, each.hosts, each.bans, each.jails) for each in digest.fleet.everywhere] == [
        ("203.0.113.59", 4, 4, ("sshd",)), ("203.0.113.60", 3, 3, ("nginx",)),
    ]  # fmt: skip
    assert digest.fleet.everywhere_in_all == 2
    assert digest.fleet.lines == ("fail2ban-client set sshd banip 203.0.113.59 203.0.113.60",)
    assert {jail.name: jail.hosts for jail in digest.jails} == {
        "sshd": 4, "nginx": 4, "only0": 1, "only1": 1, "only2": 1, "only3": 1,
    }  # fmt: skip
    assert {each.ip: each.hosts for jail in digest.jails for each in jail.worst if jail.name == "nginx"} == {
        "203.0.113.60": 3, **{f"198.51.100.{number}": 1 for number in range(4)},
    }  # fmt: skip
    assert [(each.network, each.addresses, each.hosts) for each in digest.campaigns] == [("198.51.100.0/24", 12, 4)]
    assert digest.users is not None
    assert {user.name: user.hosts for user in digest.users.most} == {"root": 4, "oracle": 4}


def test_abuseipdb_is_told_once_by_the_centre(centre: Fleet, configuration: Configuration, tmp_path: Path) -> None:
    """An address that four hosts banned is one row, with the categories of its jails."""
    reported = tmp_path / "reported.csv"
    file = tmp_path / "abuse.toml"
    file.write_text(
        f"""
store = "{configuration.store}"
[reports.daily]
channels = ["abuse"]
[channels.abuse]
kind = "abuseipdb"
dry_run = true
dry_run_file = "{reported}"
"""
    )
    for number in range(4):
        each = Host(tmp_path / f"web{number}.sqlite3", centre.add(f"web{number}"))
        each.ban("8.8.8.8", jail=("sshd", "nginx-botsearch")[number % 2], failures=5, bantime=600)
        each.ban(f"8.8.4.{number}", failures=5, bantime=600)
        each.forward()
    assert send(centre, config.load(file, host="fleet", timezone="UTC"), time.time()) is not None
    _, *rows = csv.reader(reported.read_text().splitlines())
    assert sorted(row[0] for row in rows) == ["8.8.4.0", "8.8.4.1", "8.8.4.2", "8.8.4.3", "8.8.8.8"]
