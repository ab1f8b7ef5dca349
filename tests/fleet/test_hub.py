"""A hub: hosts upload by a real ssh into its store, each ban once, and its own digests tell all of them."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from f2b_digest import recorder
from f2b_digest.cli.fleet.hosts import NAME
from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet import by_ssh
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.door import Answer
from f2b_digest.store import NOTHING, Received, Store, Uploads, lives
from tests.fleet.hosts import Host, restore
from tests.support.ssh_hub import Hub
from tests.support.ssh_server import SshServer

pytestmark = pytest.mark.slow
ADDRESSES = [f"198.51.100.{number}" for number in range(1, 30)]
LIFE, BATCH = (f"{number:032x}" for number in (1, 2))


@pytest.fixture(scope="module")
def sshd() -> Iterator[SshServer]:
    """Give a running server."""
    with SshServer() as server:
        yield server


@pytest.fixture
def hub(sshd: SshServer) -> Iterator[Hub]:
    """Give a hub without hosts."""
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-hub-"))
    yield Hub(sshd, folder)
    sshd.keys.write_text("")
    shutil.rmtree(folder)


@pytest.fixture
def host(hub: Hub, tmp_path: Path) -> Host:
    """Give a host that is enrolled as web1."""
    return Host(tmp_path / "web1.sqlite3", hub.add("web1")[1])


def test_what_is_recorded_arrives_once(hub: Hub, host: Host) -> None:
    """With all that fail2ban told, under the name that the hub gave it; starts of jails stay at home."""
    host.ban("198.51.100.1", failures=5, bantime=600, bancount=2, users=["root", "admin"], matches="a line")
    assert recorder.append(str(host.store), recorder.event("start", "sshd", "", time.time(), "x", "action")) == ""
    first = host.forward()
    assert (first.host, first.events) == ("web1", 2)
    assert host.forward().events == 0
    with Store(hub.store, read_only=True) as store, store._reading() as connection:
        query = "SELECT kind, host, jail, ip, failures, bantime, bancount, users, matches, source FROM event"
        rows = [tuple(row) for row in connection.execute(query)]
    assert rows == [
        ("ban", "web1", "sshd", "198.51.100.1", 5, 600, 2, '["root", "admin"]', "a line", "fleet"),
    ]


def test_an_upload_of_many_goes_in_batches(hub: Hub, host: Host) -> None:
    """And the key is on no disk but in fleet.toml."""
    host.bans(f"10.0.{number // 250}.{number % 250}" for number in range(1201))
    assert host.forward().events == 1201
    assert len(hub.told()) == 1201


@pytest.mark.parametrize("moment", ["intend", "acknowledge"])
def test_a_host_that_dies_before_or_after_the_answer_sends_once(
    hub: Hub, host: Host, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Nobody knows whether the batch arrived; the next run asks."""
    host.bans(ADDRESSES[:3])
    monkeypatch.setattr(Uploads, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        host.forward()
    monkeypatch.undo()
    host.bans(ADDRESSES[3:5])
    assert not host.forward().notes
    assert hub.told() == ADDRESSES[:5]


def test_a_line_that_is_cut_after_sending_loses_nothing(hub: Hub, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is killed when the batch is there; the answer is lost."""
    host.bans(ADDRESSES[:3])
    append = by_ssh.BySsh.append

    def cut(door: by_ssh.BySsh, *values: object) -> None:
        append(door, *values)  # type: ignore[arg-type]
        for session in hub.sshd.sessions():
            os.kill(session, signal.SIGKILL)
        raise CentreError("the line is cut", away=True)

    monkeypatch.setattr(by_ssh.BySsh, "append", cut)
    with pytest.raises(CentreError):
        host.forward()
    monkeypatch.undo()
    host.bans(ADDRESSES[3:4])
    assert not host.forward().notes
    assert hub.told() == ADDRESSES[:4]


def test_a_session_that_is_killed_is_away(hub: Hub, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host keeps its events, and the next run goes on."""
    host.bans(ADDRESSES[:3])
    hello = by_ssh.BySsh.hello

    def killed(door: by_ssh.BySsh, *values: object) -> Answer:
        answer = hello(door, *values)  # type: ignore[arg-type]
        for session in hub.sshd.sessions():
            os.kill(session, signal.SIGKILL)
        return answer

    monkeypatch.setattr(by_ssh.BySsh, "hello", killed)
    with pytest.raises(CentreError) as cut:
        host.forward()
    assert cut.value.away
    monkeypatch.undo()
    host.forward()
    assert hub.told() == ADDRESSES[:3]


def test_restored_and_cloned_stores_are_told_once(hub: Hub, host: Host, tmp_path: Path) -> None:
    """As at a centre in PostgreSQL: the chain finds them."""
    host.bans(ADDRESSES[:5])
    host.forward()
    restore(host.store, tmp_path / "backup")
    clone = host.copy(tmp_path / "clone.sqlite3")
    host.bans(ADDRESSES[5:10])
    host.forward()
    restore(tmp_path / "backup", host.store)
    host.bans(ADDRESSES[10:15])
    assert "copy" in host.forward().notes[0]
    clone.bans(ADDRESSES[15:17])
    clone.forward()
    assert hub.told() == sorted(ADDRESSES[:17])


def test_a_hub_that_was_restored_gets_what_it_lacks_again(hub: Hub, host: Host, tmp_path: Path) -> None:
    """From its backup, or from none: the hosts fill it up."""
    host.bans(ADDRESSES[:3])
    host.forward()
    restore(hub.store, tmp_path / "backup")
    host.bans(ADDRESSES[3:6])
    host.forward()
    restore(tmp_path / "backup", hub.store)
    host.bans(ADDRESSES[6:7])
    assert host.forward().notes
    assert hub.told() == ADDRESSES[:7]
    for file in hub.store.parent.glob("bans.sqlite3*"):
        file.unlink()
    with Received(hub.store) as received:
        received.enrol("web1", time.time())
    assert host.forward().notes
    assert hub.told() == ADDRESSES[:7]


def test_a_recovered_hub_goes_on(hub: Hub, host: Host) -> None:
    """What it knows of its hosts is recovered with its events."""
    host.bans(ADDRESSES[:3])
    host.forward()
    recorder_mark = Path(recorder.damage_mark(str(hub.store)))
    recorder_mark.write_text("for a test")
    with pytest.raises(CentreError, match=r"^the hub: ") as refused:
        host.forward()
    assert refused.value.away
    assert hub.run("recover").returncode == 0
    host.bans(ADDRESSES[3:4])
    assert not host.forward().notes
    assert hub.told() == ADDRESSES[:4]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_roots_key_receives_as_the_stores_owner(hub: Hub, tmp_path: Path) -> None:
    """Nothing that a host sent is handled as root; nothing that root alone may read stands in its way."""
    hub.folder.chmod(0o755)
    shutil.chown(hub.store.parent, "nobody", "nogroup")
    added = hub.run("fleet", "add", "web1", "--ssh", "--address", hub.sshd.address)
    assert added.returncode == 0, added.stderr
    _, credential = hub.take(added.stdout)
    host = Host(tmp_path / "web1.sqlite3", credential)
    host.bans(ADDRESSES[:2])
    assert host.forward().events == 2
    assert {path.owner() for path in hub.store.parent.iterdir()} == {"nobody"}
    assert hub.told() == ADDRESSES[:2]


# ---- a host's credential in an attacker's hands


def attack(credential: Credential, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Call ssh with a host's key, and other words than ours."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        key.touch(0o600)
        key.write_text(str(credential.key))
        user, host, port = by_ssh.address(credential.centre)
        options = ("-F", "/dev/null", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oBatchMode=yes")
        before = [word for word in words if word.startswith("-") and word != "--host" and word != "-c"]
        after = [word for word in words if word not in before]
        called = ["ssh", *options, *before, "-i", str(key), "-p", str(port), "-l", user, host, *after]
        return subprocess.run(called, input=given, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize(
    "words",
    [
        ("cat", "/etc/passwd"),
        ("f2b-digest", "fleet", "receive", "--host", "web2"),
        ("sh", "-c", "'id >&2; touch /tmp/f2b-digest-attacked'"),
        ("-s", "sftp"),
        ("-tt", "sh"),
    ],
)
def test_a_hosts_key_runs_nothing_else(hub: Hub, host: Host, words: tuple[str, ...]) -> None:
    """Whatever command is asked for, what answers is the upload of this host."""
    call = json.dumps({"hello": {"life": NOTHING, "chain": [], "state": {}}}) + "\n"
    done = attack(host.credential, *words, given=call)
    assert "root:" not in done.stdout + done.stderr
    assert "uid=" not in done.stdout + done.stderr
    assert not Path("/tmp/f2b-digest-attacked").exists()
    if "-tt" in words:
        assert "PTY allocation request failed" in done.stderr
    else:
        assert json.loads(done.stdout)["host"] == "web1"
    assert {life.host for life in lives(hub.store)} == {"web1"}


def test_a_host_cannot_take_the_hubs_memory(hub: Hub, host: Host) -> None:
    """16 MiB of empty objects would be half a gigabyte of Python."""
    objects = ",".join(["{}"] * (2**24 // 3 - 10))
    done = attack(host.credential, given=f'{{"hello": [{objects}]}}\n')
    assert "too much memory" in done.stdout


def test_a_hosts_key_forwards_nothing(hub: Hub, host: Host) -> None:
    """Neither a port of the hub, nor one behind it."""
    assert hub.sshd.keys.read_text().startswith('restrict,command="')
    with socket.create_server(("127.0.0.1", 0)) as behind:
        behind.settimeout(0.5)
        done = attack(host.credential, f"-W127.0.0.1:{behind.getsockname()[1]}", given="x")
        with pytest.raises(TimeoutError):
            behind.accept()
    assert "prohibited" in done.stderr


def test_a_host_cannot_write_as_another(hub: Hub, host: Host) -> None:
    """The name is the hub's; keys of a row that name another are passed over."""
    hub.add("web2")
    row = {
        "seq": 1, "kind": "ban", "jail": "sshd", "ip": "198.51.100.1", "at": 1e9, "recorded_at": 1e9,
        "source": "action", "host": "web2",
    }  # fmt: skip
    calls = [
        {"hello": {"life": LIFE, "chain": [], "state": {}, "host": "web2"}},
        {"append": {"life": LIFE, "after_seq": 0, "after_batch": NOTHING, "batch": BATCH, "upto": 1, "rows": [row],
                    "host": "web2"}},
    ]  # fmt: skip
    done = attack(host.credential, given="".join(json.dumps(call) + "\n" for call in calls))
    assert [json.loads(line).get("seq") for line in done.stdout.splitlines()] == [0, 1]
    with Store(hub.store, read_only=True) as store, store._reading() as connection:
        assert connection.scalars("SELECT DISTINCT host FROM event") == ["web1"]


def test_a_retired_host_is_refused_and_a_rotated_key_is_another(hub: Hub, host: Host) -> None:
    """Whatever stands in authorized_keys; what it kept arrives once it is enrolled again."""
    host.bans(ADDRESSES[:1])
    assert hub.run("fleet", "retire", "web1").returncode == 0
    with pytest.raises(CentreError, match="not enrolled") as refused:
        host.forward()
    assert refused.value.exit_status == 1
    assert "retired" in hub.run("fleet", "list").stdout
    host = replace(host, credential=hub.add("web1")[1])
    host.forward()
    hub.sshd.keys.write_text("")
    rotated = hub.run("fleet", "rotate", "web1")
    assert hub.run("fleet", "rotate", "web7").returncode == 1
    with pytest.raises(CentreError, match="Permission denied") as refused:
        host.forward()
    assert refused.value.exit_status == 1
    hub.sshd.keys.write_text("")
    line = re.search("^    (restrict.*)$", rotated.stdout, re.MULTILINE)
    assert line
    assert '--host web1"' in line[1]
    assert hub.told() == ADDRESSES[:1]


def test_another_hub_in_its_place_is_refused(host: Host) -> None:
    """The hub's key came with the credential; nobody is asked whether to trust another."""
    other = " ".join(str(host.credential.host_key).split()[:1]) + " AAAAC3NzaC1lZDI1NTE5AAAAIJ" + "A" * 43
    wrong = replace(host, credential=replace(host.credential, host_key=other[: len(str(host.credential.host_key))]))
    with pytest.raises(CentreError, match=r"[Hh]ost key|IDENTIFICATION") as refused:
        wrong.forward()
    assert not refused.value.away


# ---- deadlines


def test_a_hub_that_is_down_is_away(host: Host) -> None:
    """Nobody listens; a stopped one is given up."""
    host.bans(ADDRESSES[:1])
    nobody = replace(host, credential=replace(host.credential, centre="ssh://root@127.0.0.1:9"))
    with pytest.raises(CentreError, match="refused") as away:
        nobody.forward()
    assert away.value.exit_status == 75


def test_a_hub_that_hangs_is_given_up(hub: Hub, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no ssh is left behind."""
    monkeypatch.setattr(by_ssh, "ENDING", 0.5)
    append = by_ssh.BySsh.append
    stopped: list[int] = []

    def stop_first(door: by_ssh.BySsh, *values: object) -> None:
        stopped.extend(hub.sshd.sessions())
        for session in stopped:
            os.kill(session, signal.SIGSTOP)
        monkeypatch.setattr(by_ssh, "DEADLINE", 1)
        append(door, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(by_ssh.BySsh, "append", stop_first)
    host.bans(ADDRESSES[:1])
    try:
        with pytest.raises(CentreError, match="has not answered") as away:
            host.forward()
    finally:
        for session in stopped:
            os.kill(session, signal.SIGKILL)
    assert away.value.away
    monkeypatch.undo()
    host.forward()
    assert hub.told() == ADDRESSES[:1]


def test_two_uploads_of_a_host_do_not_meet(hub: Hub, host: Host) -> None:
    """The second is told to come again; another host's goes on."""
    other = replace(host, credential=hub.add("web2")[1], store=host.store.with_name("web2.sqlite3"))
    other.bans(ADDRESSES[:1])
    with by_ssh.opened(host.credential) as door:
        door.hello(LIFE, [], {})
        with pytest.raises(CentreError, match="another upload") as away:
            host.forward()
        assert away.value.away
        other.forward()
    assert hub.told() == ADDRESSES[:1]


# ---- the hub's own commands


def test_the_hubs_digests_tell_all_hosts(hub: Hub, host: Host) -> None:
    """Each report those of its hosts, each ban once; an address that a host takes for its own is told first."""
    other = Host(host.store.with_name("db1.sqlite3"), hub.add("db1")[1])
    host.bans(ADDRESSES[:2])
    other.bans(ADDRESSES[2:4])
    verdict = '{"why": "login", "near": null, "user": "anna"}'
    host.forward(own=lambda event: verdict if event["ip"] == ADDRESSES[0] else None)
    other.forward()
    own = recorder.event("ban", "sshd", "198.51.100.200", time.time(), "hub", "action")
    assert recorder.append(str(hub.store), own) == ""
    shown = json.loads(hub.run("preview", "web", "--format", "json").stdout)
    assert (shown["totals"]["bans"], [fact["ip"] for fact in shown["facts"] if fact["kind"] == "own"]) == (
        2, ADDRESSES[:1]
    )  # fmt: skip
    sent = hub.run("send")
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, "", "")
    listed = json.loads(hub.run("history", "--json").stdout)
    assert sorted((digest["report"], digest["bans"]) for digest in listed) == [("daily", 5), ("web", 2)]
    host.bans(ADDRESSES[4:5])
    other.bans(ADDRESSES[5:7])
    host.forward()
    other.forward()
    status = json.loads(hub.run("status", "--json").stdout)
    assert {name: report["pending_bans"] for name, report in status["reports"].items()} == {"daily": 3, "web": 1}
    assert hub.run("send").returncode == 0
    listed = json.loads(hub.run("history", "--json").stdout)
    assert sorted((digest["report"], digest["bans"]) for digest in listed) == [
        ("daily", 3), ("daily", 5), ("web", 1), ("web", 2)
    ]  # fmt: skip


def test_a_silent_host_is_told(hub: Hub, host: Host) -> None:
    """By `fleet list` at once, and by the digest after a day, with the hub's own host among the hosts."""
    host.forward()
    hub.add("web2")
    own = recorder.event("ban", "sshd", "198.51.100.200", time.time(), "hub", "action")
    assert recorder.append(str(hub.store), own) == ""
    listed = hub.run("fleet", "list")
    assert (listed.returncode, "web1: heard a moment ago" in listed.stdout) == (3, True)
    assert "web2: never heard" in listed.stdout
    assert hub.run("send").stderr == ""
    with Received(hub.store) as received, received._transaction():
        received._connection.execute("UPDATE fleet_host SET enrolled_at = enrolled_at - 200000")
    shown = json.loads(hub.run("preview", "--format", "json").stdout)
    assert [fact["kind"] for fact in shown["facts"]] == ["hosts_unheard"]
    assert [each["name"] for each in shown["fleet"]["hosts"]] == ["web2"]
    assert shown["fleet"]["in_all"] == 3


def test_what_cannot_be_a_name_is_refused(hub: Hub) -> None:
    """It would stand in a command."""
    for name in ('x" --host web1', "a b", "-x", "x;id", ""):
        assert not NAME.fullmatch(name)
    assert NAME.fullmatch("web1.example.org")
    refused = hub.run("fleet", "add", "--ssh", "--", "x;id")
    assert (refused.returncode, "letters, digits" in refused.stderr) == (78, True)
    with pytest.raises(ConfigurationError):
        by_ssh.address("ssh://root@-oProxyCommand=id")
