"""Our Python action inside real fail2ban servers: what a ban leaves in the store, whatever happens around it.

Every test that depends on fail2ban's own code runs with each of its versions; a faulty disk is the same to all of them.
"""

import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest

from f2b_digest import recorder
from f2b_digest.text.redaction import samples
from tests.support.fail2ban_server import VERSIONS, Fail2ban
from tests.support.parts import missing, program

HOSTILE_NAMES = (
    b"caf\xc3\xa9",
    b"\xff\xfe undecodable",
    b"nul\0nul",
    b"esc\x1b[2J\x1b]0;title\x07",
    b"\"quotes\" and 'quotes'",
    b"$(touch x) `touch x` ${IFS}",
    b"%s %(name)s %n 100%",
    b"<ip> <matches> <F-USER>",
    b"<script>alert(1)</script>",
    "right-to-left \u202eecila\u202c\u2066\u200f".encode(),
    "line\u2028separators\u2029and\x0b\x0c\x85".encode(),
    b" spaces \t around ",
    b"back\\slash\\n",
    b"'); DROP TABLE event; --",
)
ABOUT_A_SECOND = 1.5  # with the client's own start


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Provide a server of each version, not started."""
    with Fail2ban(request.param) as fail2ban:
        yield fail2ban


@pytest.fixture
def any_server() -> Iterator[Fail2ban]:
    """Provide a server of one version, not started, for what does not depend on it."""
    with Fail2ban("1.0") as fail2ban:
        yield fail2ban


def firewall(server: Fail2ban) -> str:
    """Return a shell action that keeps its rules in a file, and loses them when somebody removes its chain."""
    server.write(
        "conf/action.d/firewall.conf",
        f"""
[Definition]
actionstart_on_demand = true
actionstart = test -e {server.folder}/chain || (touch {server.folder}/chain && : > {server.folder}/rules)
actionstop = rm -f {server.folder}/chain
actioncheck = test -e {server.folder}/chain
actionban = test -e {server.folder}/chain && echo "<ip>" >> {server.folder}/rules
actionunban =
""",
    )
    return "firewall"


def rules(server: Fail2ban) -> list[str]:
    """Return the addresses that the firewall keeps out."""
    file = server.folder / "rules"
    return file.read_text().split() if file.exists() else []


# ---- what a ban leaves


def test_a_ban_is_recorded_with_all_that_fail2ban_knows_of_it(server: Fail2ban) -> None:
    """One ban is one event that says where, who, when, for how long and why."""
    server.jail("ssh", server.python_action(host="web1"), maxretry="3", bantime="1h")
    server.start()
    at = server.log("ssh", *[f'FAIL user="{name}" from 192.0.2.1' for name in ("alice", "bob", "carol")])
    ban = server.ban_of("192.0.2.1")
    assert (ban["host"], ban["jail"], ban["at"]) == ("web1", "ssh", at)
    assert (ban["failures"], ban["bantime"], ban["bancount"]) == (3, 3600, 1)
    assert json.loads(ban["users"]) == ["alice", "bob", "carol"]
    assert ban["matches"].splitlines() == [
        f'{at} FAIL user="{name}" from 192.0.2.1' for name in ("alice", "bob", "carol")
    ]
    assert abs(ban["recorded_at"] - time.time()) < 60
    assert (ban["source"], ban["history"]) == ("action", 0)


def test_hostile_user_names_are_recorded_as_they_stand(server: Fail2ban) -> None:
    """No byte that an attacker can put into a log line keeps a ban out of the store, or changes another's name."""
    server.jail("ssh")
    server.start()
    lines = [b'FAIL user="%s" from 192.0.2.%d' % (name, number) for number, name in enumerate(HOSTILE_NAMES)]
    at = server.log("ssh", *lines)
    for number, line in enumerate(lines):
        ban = server.ban_of(f"192.0.2.{number}")
        name = HOSTILE_NAMES[number].decode(errors="replace")
        assert json.loads(ban["users"]) == [name]
        assert ban["matches"] == f"{at} {line.decode(errors='replace')}"


def test_every_hostile_name_that_one_address_tried_is_recorded(server: Fail2ban) -> None:
    """The names of the second and later failures are found again, whatever is in them."""
    server.jail("ssh", maxretry=str(len(HOSTILE_NAMES)))
    server.start()
    server.log("ssh", *[b'FAIL user="%s" from 192.0.2.1' % name for name in HOSTILE_NAMES])
    ban = server.ban_of("192.0.2.1")
    assert json.loads(ban["users"]) == [name.decode(errors="replace") for name in HOSTILE_NAMES]
    assert ban["failures"] == len(HOSTILE_NAMES)


def test_every_name_is_found_with_fail2bans_own_sshd_filter(server: Fail2ban) -> None:
    """A stock filter, with its prefix and its several lines a session, gives every name too."""
    server.stock("filter.d/common.conf", "filter.d/sshd.conf")
    server.jail("sshd", filter="sshd", maxretry="3")
    server.start()
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    names = ("alice", "bob", "eve and mallory")
    server.append_log(
        "sshd",
        *[
            (
                f"{now} web1 sshd[{number}]: Failed password for invalid user {name} from 192.0.2.1 port 4{number} ssh2"
            ).encode()
            for number, name in enumerate(names, 100)
        ],
    )
    ban = server.ban_of("192.0.2.1")
    assert json.loads(ban["users"]) == list(names)


def test_what_sshd_says_before_a_name_is_no_part_of_it(server: Fail2ban) -> None:
    """The stock filter gives "invalid user admin" as the name; an empty name is none."""
    server.stock("filter.d/common.conf", "filter.d/sshd.conf")
    server.jail("sshd", filter="sshd", maxretry="3")
    server.start()
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    said = "error: maximum authentication attempts exceeded for"
    lines = [
        f"{now} web1 sshd[{number}]: {said} {name} from 192.0.2.1 port 4{number} ssh2 [preauth]"
        for number, name in enumerate(("invalid user admin", "invalid user ", "root"), 100)
    ]
    server.append_log("sshd", *[line.encode() for line in lines])
    ban = server.ban_of("192.0.2.1")
    assert json.loads(ban["users"]) == ["admin", "root"]
    [shown] = samples([("192.0.2.1", "\n".join(lines[:1]), json.loads(ban["users"]))], (), ())
    assert f"{said} invalid user admin from 192.0.2.1 port" in shown


def test_what_an_admin_bans_by_hand_is_recorded(server: Fail2ban) -> None:
    """`banip` of an IPv4 address, an IPv6 address and a network each leaves an event, without failures or names."""
    server.jail("ssh")
    server.start()
    addresses = ("192.0.2.7", "2001:db8::7", "198.51.100.0/24")
    for address in addresses:
        server.client("set", "ssh", "banip", address)
    assert [event["ip"] for event in server.events()] == list(addresses)
    for event in server.events():
        assert (event["failures"], event["users"], event["matches"]) == (0, None, None)


def test_an_unban_is_recorded(server: Fail2ban) -> None:
    """The end of a ban is a separate event that names the same ban time."""
    server.jail("ssh")
    server.start()
    server.client("set", "ssh", "banip", "192.0.2.7")
    server.client("set", "ssh", "unbanip", "192.0.2.7")
    [ban], [unban] = server.events("ban"), server.events("unban")
    assert (unban["jail"], unban["ip"], unban["at"]) == ("ssh", "192.0.2.7", ban["at"])


@pytest.mark.slow
def test_a_growing_ban_time_ends_with_its_final_value(server: Fail2ban) -> None:
    """Under bantime.increment the newest bantime recorded of an address is the one that fail2ban settled on."""
    for jail in ("ssh", "web"):
        server.jail(jail, bantime="5", bantime_increment="true", bantime_overalljails="true", bantime_multipliers="1 2")
    server.start()
    first = server.log("ssh", 'FAIL user="root" from 192.0.2.1')
    server.wait_until(lambda: server.known_bans("ssh") == [(5, 1)], "the first ban in fail2ban's database")
    server.wait_until(lambda: time.time() >= first + 1)  # what is not later, fail2ban takes for the same ban
    server.log("web", 'FAIL user="root" from 192.0.2.1')

    def newest() -> list[tuple[int, int]]:
        events = [*server.events("ban", jail="web"), *server.events("prolong", jail="web")]
        return [(event["bantime"], event["bancount"]) for event in events][-1:]

    server.wait_until(lambda: newest() == [(10, 2)], "the final ban time")
    # The observer's thread may report the prolongation before the jail's thread has reported the ban.
    server.wait_until(lambda: len(server.events("ban", jail="web")) == 1, "the ban itself, once")
    assert server.known_bans("web") == newest()


@pytest.mark.slow
def test_jails_record_their_start_and_stop(server: Fail2ban) -> None:
    """Each jail's start and stop are events, and stopping ends no ban."""
    server.jail("ssh")
    server.jail("web")
    server.start()
    server.client("set", "web", "banip", "192.0.2.7")
    server.stop()
    assert sorted(event["jail"] for event in server.events("start")) == ["ssh", "web"]
    assert sorted(event["jail"] for event in server.events("stop")) == ["ssh", "web"]
    assert server.events("unban") == []


# ---- what an admin does to fail2ban


@pytest.mark.slow
def test_a_restart_records_no_ban_twice(server: Fail2ban) -> None:
    """Bans that fail2ban restores from its database were recorded when they were new."""
    server.jail("ssh")
    server.start()
    server.log("ssh", 'FAIL user="root" from 192.0.2.1')
    server.ban_of("192.0.2.1")
    server.client("set", "ssh", "banip", "192.0.2.7")
    server.restart()
    server.wait_until(lambda: server.messages().count("Restore Ban") == 2, "two bans restored")
    server.stop()
    assert sorted(event["ip"] for event in server.events()) == ["192.0.2.1", "192.0.2.7"]
    assert recorder.spooled(str(server.store)) == 0


@pytest.mark.slow
def test_a_log_that_is_read_again_records_no_ban_twice(server: Fail2ban) -> None:
    """Without its own database, a restarted fail2ban bans anew from the log; that is the same ban."""
    server.dbfile = "None"
    server.jail("ssh")
    server.start()
    server.log("ssh", 'FAIL user="root" from 192.0.2.1')
    server.ban_of("192.0.2.1")
    server.restart()
    server.wait_until(lambda: server.messages().count("] Ban 192.0.2.1") == 2, "banned again")
    server.stop()
    assert recorder.spooled(str(server.store)) == 0
    assert [event["ip"] for event in server.events()] == ["192.0.2.1"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [["reload"], ["reload", "--restart"], ["restart", "ssh"]], ids=" ".join)
def test_a_reload_keeps_recording(server: Fail2ban, how: list[str]) -> None:
    """After each way to reload, bans are recorded, and changed options hold."""
    server.jail("ssh", server.python_action(host="before"))
    server.start()
    server.jail("ssh", server.python_action(host="after"))
    server.client(*how)
    server.client("set", "ssh", "banip", "192.0.2.7")
    assert server.ban_of("192.0.2.7")["host"] == "after"


@pytest.mark.slow
def test_a_mistaken_option_costs_no_jail_and_no_ban(server: Fail2ban) -> None:
    """fail2ban starts with every jail, each ban is recorded, in the default store if need be, and the log says why."""
    mistakes = {
        "unknown": {"colour": "red"},
        "name": {"name": "x"},
        "jail": {"jail": "x"},
        "self": {"self": "x"},
        "arguments": {"arguments": "x"},
        "options": {"options": "x"},
        "relative": {"dbpath": "relative.sqlite3"},
        "empty": {"dbpath": ""},
    }
    for jail, options in mistakes.items():
        server.jail(jail, server.python_action(**options))
    server.jail("sound")
    server.start()
    for jail in (*mistakes, "sound"):
        server.client("set", jail, "banip", "192.0.2.7")
    assert [event["jail"] for event in server.events()] == [*mistakes, "sound"]
    complaints = [line for line in server.messages().splitlines() if "ERROR" in line]
    for options, complaint in zip(mistakes.values(), complaints, strict=True):
        assert next(iter(options)) in complaint


@pytest.mark.slow
def test_the_firewall_beside_us_gets_its_lost_bans_back(server: Fail2ban) -> None:
    """fail2ban bans again with a firewall action that lost its rules, which an action without banEpoch prevents."""
    server.jail("ssh", firewall(server), server.python_action())
    server.start()
    server.log("ssh", 'FAIL user="root" from 192.0.2.1')
    server.ban_of("192.0.2.1")
    (server.folder / "chain").unlink()
    server.log("ssh", 'FAIL user="root" from 192.0.2.2')  # the firewall finds out, and starts anew
    server.wait_until(lambda: rules(server) == ["192.0.2.2"], "the firewall's new rules")
    server.log("ssh", 'FAIL user="root" from 192.0.2.1')  # "already banned"
    server.wait_until(lambda: rules(server) == ["192.0.2.2", "192.0.2.1"], "the lost ban back in the firewall")
    server.stop()
    assert [event["ip"] for event in server.events()] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.slow
def test_the_firewall_beside_us_is_checked_when_a_banned_address_is_seen_again(server: Fail2ban) -> None:
    """fail2ban asks every action of the jail whether all is well, ours too, and then repairs the firewall."""
    server.jail("ssh", server.python_action(), firewall(server))
    server.start()
    server.log("ssh", 'FAIL user="root" from 192.0.2.1', ago=10)
    server.wait_until(lambda: rules(server) == ["192.0.2.1"], "the ban in the firewall")
    (server.folder / "chain").unlink()
    (server.folder / "rules").unlink()
    server.log("ssh", 'FAIL user="root" from 192.0.2.1')
    server.wait_until(lambda: rules(server) == ["192.0.2.1"], "the lost ban back in the firewall")
    server.stop()
    assert [event["ip"] for event in server.events()] == ["192.0.2.1"]


# ---- what a disk does to us


@contextmanager
def locked(server: Fail2ban) -> Iterator[None]:
    """Hold the store's write lock, as a process that hangs would."""
    with closing(sqlite3.connect(server.store, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def locked_for_readers_too(server: Fail2ban) -> Iterator[None]:
    """Hold the store as a process does that checks or replaces it."""
    with closing(sqlite3.connect(server.store, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def damaged(server: Fail2ban) -> Iterator[None]:
    """Overwrite the store with garbage, until an admin moves it away."""
    garbage = b"no database " * 5000
    server.store.write_bytes(garbage)
    yield
    assert server.store.read_bytes() == garbage
    server.store.unlink()


@contextmanager
def read_only(server: Fail2ban) -> Iterator[None]:
    """Take the right to write away from the store's folder."""
    server.store.parent.chmod(0o555)
    yield
    server.store.parent.chmod(0o755)


@contextmanager
def full(server: Fail2ban) -> Iterator[None]:
    """Fill the disk to the last byte."""
    filler = server.store.parent / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            if file.write(b"x" * 4096) < 4096:
                file.write(b"x")
    yield
    filler.unlink()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a disk of 1 MB in place of a folder."""
    mount = [program("mount", "apt install mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except subprocess.CalledProcessError:
        missing("a small disk", "run as root, who may mount one")
    try:
        yield
    finally:
        subprocess.run([program("umount", "apt install mount"), str(folder)], check=True)


def ban_during(server: Fail2ban, fault: Callable[[Fail2ban], AbstractContextManager[None]]) -> None:
    """Ban during a fault; the ban must be quick, reach the firewall, wait in the spool, and come out of it once."""
    server.jail("ssh", firewall(server), server.python_action(), "firewall[actname=last]")
    server.start()
    server.client("set", "ssh", "banip", "192.0.2.1")
    server.wait_for_rest()  # tests/test_burst.py has faults while it is open
    with fault(server):
        start = time.monotonic()
        server.client("set", "ssh", "banip", "192.0.2.2")
        assert time.monotonic() - start < ABOUT_A_SECOND
        assert rules(server) == ["192.0.2.1"] * 2 + ["192.0.2.2"] * 2
        server.wait_until(lambda: recorder.spooled(str(server.store)) == 1, "an event in the spool")
        assert "192.0.2.2" in server.messages().rpartition("WARNING")[2]
    assert recorder.take_in(str(server.store)) == (1, 0)
    assert recorder.take_in(str(server.store)) == (0, 0)
    assert len(server.events(ip="192.0.2.2")) == 1
    server.client("set", "ssh", "banip", "192.0.2.3")
    assert len(server.events(ip="192.0.2.3")) == 1


@pytest.mark.slow
def test_a_locked_store_holds_no_ban_up_and_loses_none(server: Fail2ban) -> None:
    """Another process that keeps the store locked costs a ban less than a second."""
    ban_during(server, locked)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [locked_for_readers_too, damaged, read_only])
def test_a_store_that_takes_nothing_holds_no_ban_up_and_loses_none(
    any_server: Fail2ban, fault: Callable[[Fail2ban], AbstractContextManager[None]]
) -> None:
    """Whatever is wrong with the store, a ban takes about a second at most and waits in the spool."""
    ban_during(any_server, fault)


@pytest.mark.slow
def test_a_full_disk_holds_no_ban_up_and_loses_none(any_server: Fail2ban) -> None:
    """The bytes that the spool set aside take the bans that a full disk does not."""
    with small_disk(any_server.store.parent):
        try:
            ban_during(any_server, full)
        finally:
            any_server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_store_that_was_removed_is_made_anew(any_server: Fail2ban, what: str) -> None:
    """A ban after somebody removed the store, or its folder, is in a new one."""
    any_server.jail("ssh")
    any_server.start()
    any_server.client("set", "ssh", "banip", "192.0.2.1")
    if what == "file":
        any_server.store.unlink()
    else:
        shutil.rmtree(any_server.store.parent)
    any_server.client("set", "ssh", "banip", "192.0.2.2")
    assert [event["ip"] for event in any_server.events()] == ["192.0.2.2"]


@pytest.mark.slow
def test_a_hundred_bans_at_once_during_a_lock_are_all_recorded(any_server: Fail2ban) -> None:
    """A burst of bans while the store is locked goes to the spool as a whole, and to the store once."""
    any_server.jail("ssh", maxretry="1")
    any_server.start()
    any_server.client("set", "ssh", "banip", "198.51.100.1")
    lines = [f'FAIL user="u{number}" from 192.0.2.{number}' for number in range(5)]
    with locked(any_server):
        any_server.log("ssh", *lines)
        any_server.wait_until(lambda: recorder.spooled(str(any_server.store)) == len(lines), "all in the spool")
    assert recorder.take_in(str(any_server.store)) == (len(lines), 0)
    assert {event["users"] for event in any_server.events()} - {None} == {f'["u{number}"]' for number in range(5)}
