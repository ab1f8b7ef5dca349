"""Digests that a fleet's centre makes: sealed by a vector of stores, each ban told once, by whoever sends."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from f2b_digest.cli.send import wait_for_hosts
from f2b_digest.config import load
from f2b_digest.fleet.centre import Centre as Opened
from tests.fleet.hosts import Host, restore, seal
from tests.support.postgres_server import Centre

pytestmark = pytest.mark.slow

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program(centre: Centre) -> Iterator[Program]:
    """Provide the program at the centre, with a report `daily` into files in a folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))
    folder.chmod(0o755)
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    config = folder / "config.toml"
    config.write_text(
        f"""
store = "{centre.as_user("f2b_digest")}"
host = "fleet"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[reports.web]
channels = ["out"]
hosts = ["web*", "!web2"]
[channels.out]
kind = "file"
folder = "{folder}/out"
"""
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "f2b_digest", "--config", str(config), *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)

    yield run
    shutil.rmtree(folder)


def digests(opened: Opened, report: str) -> list[set[str]]:
    """Return the addresses of each digest of a report, the oldest first."""
    found = []
    for sealed in reversed(opened.digests(report)):
        document = json.loads(opened.document(sealed.id) or "{}")
        found.append({address["ip"] for jail in document["jails"] for address in jail["worst"]})
    return found


@pytest.mark.on("one", "citus")
def test_a_digest_of_two_hosts(centre: Centre, host: Host, tmp_path: Path, program: Program) -> None:
    """Each ban of each host is reported once; the archive and the outbox are the centre's."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    host.bans(["192.0.2.1", "192.0.2.2"])
    other.bans(["192.0.2.2", "192.0.2.3"])
    host.forward()
    other.forward()
    preview = program("preview", "daily")
    assert preview.returncode == 0, preview.stderr
    assert "4 bans" in preview.stdout
    sent = program("send")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
    host.bans(["192.0.2.4"])
    host.forward()
    assert program("send", "daily").returncode == 0
    with Opened(centre.as_user("f2b_digest")) as opened:
        assert digests(opened, "daily") == [{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, {"192.0.2.4"}]
        assert digests(opened, "web") == [{"192.0.2.1", "192.0.2.2"}]
        assert {row.status for row in opened.deliveries()} == {"sent"}
    newest = json.loads(program("history", "daily", "--json").stdout)[0]
    assert newest["bans"] == 1
    shown = program("show", str(newest["id"]))
    assert "192.0.2.4" in shown.stdout
    resent = program("resend", str(newest["id"]))
    assert (resent.returncode, resent.stderr) == (0, ""), resent.stderr
    assert (program("retry").returncode, program("prune").returncode) == (0, 0)
    host.bans(["192.0.2.5", "192.0.2.6"])
    host.forward()
    status = json.loads(program("status", "--json").stdout)
    assert {name: report["pending_bans"] for name, report in status["reports"].items()} == {"daily": 2, "web": 3}
    assert status["undelivered"] == []


def test_an_own_address_that_a_host_banned_is_told(centre: Centre, host: Host, program: Program) -> None:
    """By the host's verdict, which it came to by its log-ins and ignoreip; what is no verdict is passed over."""
    host.bans(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    said = {"192.0.2.2": '{"why": "login", "near": null, "user": "anna"}', "192.0.2.3": '{"why": "because"}'}
    host.forward(own=lambda event: said.get(event["ip"]))
    shown = json.loads(program("preview", "--format", "json").stdout)
    assert [(fact["ip"], fact["user"]) for fact in shown["facts"] if fact["kind"] == "own"] == [("192.0.2.2", "anna")]


def test_a_silent_host_is_told_by_the_digest(centre: Centre, host: Host, program: Program) -> None:
    """Though nothing was banned; cron has nothing to mail."""
    host.forward()
    centre.do("UPDATE f2b.store SET seen_at = now() - interval '3 days'")
    sent = program("send", "daily")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
    (newest,) = json.loads(program("history", "daily", "--json").stdout)
    assert "No uploads: web1 since" in program("show", str(newest["id"])).stdout


def test_what_is_for_a_hosts_store_says_so(program: Program) -> None:
    """A command that makes no sense at a centre ends with a line."""
    for words in (("record", "--jail", "sshd", "--ip", "192.0.2.1"), ("recover",)):
        refused = program(*words)
        assert refused.returncode == 78, words
        assert "this command needs a host's store" in refused.stderr


def test_a_store_that_was_restored_is_told_once(centre: Centre, host: Host, tmp_path: Path) -> None:
    """The vector knows both of its lives."""
    host.bans(["192.0.2.1"])
    host.forward()
    restore(host.store, tmp_path / "backup")
    host.bans(["192.0.2.2"])
    host.forward()
    seal(centre)
    restore(tmp_path / "backup", host.store)
    host.bans(["192.0.2.3"])
    host.forward()
    seal(centre)
    with Opened(centre.as_user("f2b_digest")) as opened:
        bans = [sealed.bans for sealed in reversed(opened.digests("daily"))]
    assert bans == [2, 1]


def send_until(stop: Event, centre: Centre, told: "Queue[int]") -> None:
    """Seal again and again, as one of two senders."""
    while not stop.is_set():
        told.put(seal(centre))


def test_two_senders_tell_each_ban_once(centre: Centre, host: Host, tmp_path: Path) -> None:
    """On two machines, while hosts upload: one digest follows another, and of two rivals one gives way."""
    hosts = [host, *(Host(tmp_path / f"h{number}.sqlite3", centre.add(f"h{number}")) for number in range(2))]
    fork = get_context("fork")
    told: Queue[int] = fork.Queue()
    stop = fork.Event()
    senders = [fork.Process(target=send_until, args=(stop, centre, told)) for _ in range(2)]
    for sender in senders:
        sender.start()
    for turn in range(8):
        for number, each in enumerate(hosts):
            each.bans([f"10.{number}.{turn}.{last}" for last in range(5)])
            each.forward()
    stop.set()
    for sender in senders:
        sender.join(60)
    bans = [seal(centre)]
    while not told.empty():
        bans.append(told.get())
    assert sum(count for count in bans if count > 0) == 8 * 3 * 5
    taken = centre.rows("SELECT store_id, after_seq, upto_seq FROM f2b.taken ORDER BY store_id, after_seq")
    for store in {key for key, _, _ in taken}:
        ranges = [(after, upto) for key, after, upto in taken if key == store]
        assert [after for after, _ in ranges] == [0, *(upto for _, upto in ranges[:-1])]


@pytest.mark.parametrize("as_rows", [1000, -1])
def test_a_calendar_report_takes_what_was_recorded_before_its_end(
    centre: Centre, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_rows: int
) -> None:
    """Of each host, up to the first event of the running period, by the centre's clock; the rest waits for the next."""
    monkeypatch.setattr("f2b_digest.fleet.centre.AS_ROWS", as_rows)
    other, ahead = (Host(tmp_path / f"{name}.sqlite3", centre.add(name)) for name in ("web2", "web3"))
    now = time.time()
    for each, minutes in ((host, (50, 40, 20)), (other, (45, 10)), (ahead, (50 - 60, 20 - 60))):
        for minute in minutes:
            each.ban(f"192.0.2.{minute % 60}", at=now - minute * 60)
        each.forward()
    centre.do("UPDATE f2b.store SET skew = 3600 WHERE host = 'web3'")
    with Opened(centre.as_user("f2b_digest")) as opened, opened.about("daily", ("*",), "day", now) as store:
        running = store.first_recorded(1, since=now - 30 * 60, until=now)
        assert running is not None
        taken = store._taken(running - 1)
        names = dict(centre.rows("SELECT store_id, host FROM f2b.store"))
    assert {(names[end.store_id], end.upto) for end in taken} == {("web1", 2), ("web2", 1), ("web3", 1)}


@pytest.mark.parametrize("as_rows", [1000, -1])
def test_a_clock_that_was_years_ahead_keeps_no_ban_from_a_calendar_report(
    centre: Centre, host: Host, monkeypatch: pytest.MonkeyPatch, as_rows: int
) -> None:
    """What was recorded by it was recorded before it arrived."""
    monkeypatch.setattr("f2b_digest.fleet.centre.AS_ROWS", as_rows)
    now = time.time()
    for at in (now + 1000 * 86400, now + 10):
        host.ban("192.0.2.1", at=at)
    host.forward()
    host.ban("192.0.2.2", at=now + 2 * 86400)
    host.forward()
    centre.do("UPDATE f2b.event SET arrived = now() + interval '2 days' WHERE seq = 3")
    with (
        Opened(centre.as_user("f2b_digest")) as opened,
        opened.about("daily", ("*",), "day", now + 2 * 86400 + 60) as store,
    ):
        running = store.first_recorded(1, since=now + 86400, until=now + 2 * 86400 + 60)
        assert running is not None
        (taken,) = store._taken(running - 1)
    assert (taken.seq, taken.upto) == (0, 2)


@pytest.mark.on("one", "citus")
def test_find_looks_through_all_hosts(centre: Centre, host: Host, tmp_path: Path, program: Program) -> None:
    """An address, a network, a name, a jail: with the hosts that banned it, and the digests that told it."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    host.ban("203.0.113.5", users=["anna"])
    host.ban("no address '; --", jail="odd")
    other.bans(["203.0.113.5", "203.0.113.9", "2001:db8::1"])
    host.forward()
    other.forward()
    assert program("send", "web").returncode == 0
    other.bans(["203.0.113.5"])
    other.forward()
    shown = program("find", "203.0.113.5")
    assert shown.returncode == 0, shown.stderr
    assert "203.0.113.5: 3 bans" in shown.stdout
    assert "banned by 2 hosts: web2 (2), web1 (1)" in shown.stdout
    (found,) = json.loads(program("find", "203.0.113.5", "--json").stdout)
    assert found["hosts"] == [["web2", 2], ["web1", 1]]
    assert [(told["report"], told["bans"]) for told in found["told"]] == [("web", 1)]
    assert found["waiting"] == ["daily"]
    assert found["neighbours"]["worst"] == [["203.0.113.9", 1]]
    bans = {}
    for what in ("203.0.112.0/20", "anna", "sshd", "odd", "2001:db8::/32", "no address '; --", "198.51.100.1"):
        answers = json.loads(program("find", what, "--json").stdout)
        bans[what] = max(answer["counts"]["totals"]["bans"] for answer in answers)
    assert bans == {
        "203.0.112.0/20": 4, "anna": 1, "sshd": 5, "odd": 1, "2001:db8::/32": 1, "no address '; --": 1,
        "198.51.100.1": 0,
    }  # fmt: skip


def test_check_names_a_report_that_selects_no_host(centre: Centre, program: Program) -> None:
    """Its digests would be quiet for ever."""
    centre.add("web2")
    said = [each["text"] for each in json.loads(program("check", "--json").stdout)["findings"]]
    assert [text for text in said if "enrolled hosts" in text] == ["report web selects none of the enrolled hosts"]
    centre.add("web1")
    assert "enrolled hosts" not in program("check").stdout


def test_check_and_metrics_tell_of_the_fleet(centre: Centre, host: Host, program: Program, tmp_path: Path) -> None:
    """Hosts by state, reports, channels; nothing of a fail2ban on this machine. A centre that is gone is an error."""
    centre.add("web9")
    host.bans(["192.0.2.1"])
    host.forward()
    checked = json.loads(program("check", "--json").stdout)["findings"]
    said = {finding["what"]: finding for finding in checked}
    assert said["centre"]["state"] == "ok"
    assert said["hosts"]["text"] == "of 2 hosts, 0 are silent and 1 were never heard"
    assert said["channel out"]["state"] == "ok"
    assert not [finding for finding in checked if "fail2ban" in finding["what"]]
    metrics = program("status", "--format", "prometheus").stdout
    assert 'f2b_digest_fleet_hosts{state="never"} 1' in metrics
    assert 'f2b_digest_pending_bans{report="daily"} 1' in metrics
    target = Path(tempfile.mkdtemp(dir=tmp_path)) / "bans.prom"
    assert program("status", "--textfile", str(target)).returncode == 0
    assert 'f2b_digest_fleet_hosts{state="heard"} 1' in target.read_text()


def test_setup_at_a_centre_installs_what_starts_send(centre: Centre, tmp_path: Path) -> None:
    """In a tree without fail2ban: cron's file, no action, no jail, no store."""
    (tmp_path / "etc/f2b-digest").mkdir(parents=True)
    (tmp_path / "usr/sbin").mkdir(parents=True)
    (tmp_path / "usr/sbin/cron").touch()
    (tmp_path / "etc/cron.d").mkdir()
    config = tmp_path / "etc/f2b-digest/config.toml"
    config.write_text(f'store = "{centre.as_user("f2b_digest")}"\n[reports.daily]\n')
    words = ("setup", "--root", str(tmp_path), "--program", "/usr/bin/f2b-digest")
    done = subprocess.run(
        [sys.executable, "-m", "f2b_digest", *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "f2b-digest send daily" in (tmp_path / "etc/cron.d/f2b-digest").read_text()
    assert not (tmp_path / "etc/fail2ban").exists()
    assert not (tmp_path / "var/lib/fail2ban").exists()


def test_a_calendar_report_waits_for_its_hosts_within_a_bound(
    centre: Centre, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For those that were heard lately and are not complete; not for ever, and not for hosts of other reports."""
    other = Host(tmp_path / "web2.sqlite3", centre.add("web2"))
    config = tmp_path / "config.toml"
    config.write_text(
        f"""store = "{centre.as_user("f2b_digest")}"
        [reports.daily]
        period = "calendar"
        hosts = ["web1"]
        channels = ["out"]
        [channels.out]
        kind = "file"
        folder = "{tmp_path}"
        """
    )
    configuration = load(config, host="fleet", timezone="UTC")
    now = time.time()
    midnight = now // 86400 * 86400
    host.bans(["192.0.2.1"])
    host.forward()
    other.forward()
    until = f"{midnight - 100} + coalesce(skew, 0)"
    centre.do(f"UPDATE f2b.store SET complete_until = {until}")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            centre.do("UPDATE f2b.store SET complete_until = extract(epoch FROM now()) WHERE host = 'web1'")

    with Opened(centre.as_user("f2b_digest")) as opened:
        wait_for_hosts(opened.unfinished, configuration, ["daily"], lambda: now, sleep)
        assert len(slept) == 3
        centre.do(f"UPDATE f2b.store SET complete_until = {until}, seen_at = now() - interval '20 minutes'")
        wait_for_hosts(opened.unfinished, configuration, ["daily"], lambda: now, sleep)
        assert len(slept) == 3
        centre.do("UPDATE f2b.store SET seen_at = now()")
        monkeypatch.setattr("f2b_digest.cli.send.HOSTS_WAIT", 0.5)
        wait_for_hosts(opened.unfinished, configuration, ["daily"], lambda: now, lambda _: time.sleep(0.1))


@pytest.mark.on("one", "citus")
def test_what_was_told_is_dropped_with_its_partition(centre: Centre, host: Host) -> None:
    """And what was not told stays, whatever its age."""
    host.bans(["192.0.2.1"])
    host.forward()
    centre.do(
        "CREATE TABLE f2b.event_old PARTITION OF f2b.event FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')",
        "ALTER TABLE f2b.event_old OWNER TO f2b_owner",
        "UPDATE f2b.event SET arrived = '2020-01-15'",
    )
    with Opened(centre.as_user("f2b_digest")) as opened:
        assert opened.prune(400 * 86400.0, {"daily": ("*",)}) == []
        assert seal(centre) == 1
        assert opened.prune(400 * 86400.0, {"daily": ("*",), "late": ("*",)}) == []
        assert opened.prune(400 * 86400.0, {"daily": ("*",), "none": ("!*",)}) == ["dropped event_old"]
    assert centre.rows("SELECT count(*) FROM f2b.event") == [(0,)]


def test_the_digests_role_cannot_drop_what_is_recent(centre: Centre, host: Host) -> None:
    """`tend` keeps 30 days whatever it is told."""
    host.bans(["192.0.2.1"])
    host.forward()
    with Opened(centre.as_user("f2b_digest")) as opened:
        assert opened.prune(0.0, {}) == []
    assert centre.rows("SELECT count(*) FROM f2b.event") == [(1,)]
