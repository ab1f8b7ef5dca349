"""Tests of the host's answers: interfaces, a real fail2ban, a real wtmp, a real journal, and syslog files."""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from ipaddress import IPv6Address, ip_network
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import ifaddr
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from f2b_digest import host
from f2b_digest.config import Configuration
from f2b_digest.fail2ban import server
from f2b_digest.fail2ban.client import CRON, Client
from f2b_digest.host import logins, programs
from f2b_digest.model.host_context import AnyNetwork, HostContext, Login
from tests.support.fail2ban_server import VERSIONS, Fail2ban
from tests.support.parts import missing, program

NOW = 1_795_000_000.0
"""2026-11-18, 11:06:40 UTC."""
WEEKS = NOW - 28 * 86400


def networks(*texts: str) -> set[AnyNetwork]:
    """Return networks."""
    return {ip_network(text) for text in texts}


# ---- interfaces


def test_every_address_of_this_host_is_its_own() -> None:
    """As the kernel reports them, and the loopback network."""
    lines = Path("/proc/net/fib_trie").read_text().splitlines()
    addresses = {above.split()[-1] for above, line in pairwise(lines) if line.split() == ["/32", "host", "LOCAL"]}
    assert "127.0.0.1" in addresses
    with suppress(FileNotFoundError):  # a kernel without IPv6
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
        addresses |= {str(IPv6Address(bytes.fromhex(line[:32]))) for line in lines}
    own = set(host.own_networks())
    assert networks(*addresses) <= own
    assert networks("127.0.0.0/8") <= own
    assert {str(network.network_address) for network in own if network.num_addresses == 1} == addresses


def test_a_private_network_is_ones_own_and_a_public_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud's /20 is full of strangers; zones are no part of an address."""
    ips = [("192.168.1.7", 24), ("10.1.2.3", 16), ("198.51.100.9", 20), (("2001:db8::5", 0, 0), 64),
           (("fd00:1::5", 0, 0), 64), (("fe80::1%eth0", 0, 2), 64), ("100.64.0.3", 10)]  # fmt: skip
    adapter = SimpleNamespace(ips=[SimpleNamespace(ip=ip, network_prefix=prefix) for ip, prefix in ips])
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [adapter])
    assert set(host.own_networks()) == networks(
        "192.168.1.7", "192.168.1.0/24", "10.1.2.3", "10.1.0.0/16", "198.51.100.9", "2001:db8::5",
        "fd00:1::5", "fd00:1::/64", "fe80::1", "fe80::/64", "100.64.0.3",
    )  # fmt: skip


# ---- fail2ban


def client_of(running: Fail2ban, *before: str) -> Client:
    """Return the client of the server's version, run through another command."""
    folder = running.folder / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "fail2ban-client"
    words = " ".join([*before, *running._command("fail2ban-client")])
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o755)
    return Client(environment=running._environment | {"PATH": f"{folder}:{CRON['PATH']}"})


@pytest.fixture(params=VERSIONS)
def fail2ban(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Provide a server of each version with two jails, not started."""
    with Fail2ban(request.param) as running:
        running.jail("sshd")
        running.jail("web", ignoreip="127.0.0.0/8 ::1 192.0.2.7 fd00::/8 host.invalid")
        yield running


def test_a_running_fail2ban_tells_its_jails_and_whom_they_ignore(fail2ban: Fail2ban) -> None:
    """Of every jail, addresses and networks; a name is not resolved."""
    fail2ban.start()
    answers = server.ask(client_of(fail2ban))
    assert answers.running == ("sshd", "web")
    assert set(answers.ignored) == networks("127.0.0.0/8", "::1", "192.0.2.7", "fd00::/8")
    assert answers.increments is False


def test_one_jail_with_growing_ban_times_is_enough(fail2ban: Fail2ban) -> None:
    """It is the advice that this makes needless."""
    fail2ban.jail("sshd", bantime_increment="true")
    fail2ban.start()
    assert server.ask(client_of(fail2ban)).increments is True


def test_a_fail2ban_that_is_down_has_no_jails(fail2ban: Fail2ban) -> None:
    """Stopped, and killed so that its socket stayed."""
    assert server.ask(client_of(fail2ban)).running == ()
    fail2ban.start()
    assert fail2ban._process
    fail2ban._process.kill()
    fail2ban._process.wait()
    assert (fail2ban.folder / "run/f2b.sock").exists()
    assert server.ask(client_of(fail2ban)).running == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["socket", "folder"])
def test_one_who_may_not_ask_does_not_call_it_down(fail2ban: Fail2ban, closed: str, tmp_path: Path) -> None:
    """Whether the socket or its folder is unreadable; ignoreip is then read from the configuration."""
    fail2ban.jail("sshd", bantime_increment="true")
    if closed == "folder":
        (fail2ban.folder / "run").chmod(0o700)
    fail2ban.start()
    daemon = pwd.getpwnam("daemon")
    setpriv = program("setpriv", "apt install util-linux")
    as_daemon = (setpriv, f"--reuid={daemon.pw_uid}", f"--regid={daemon.pw_gid}", "--clear-groups")
    client = client_of(fail2ban, *as_daemon)
    os.seteuid(daemon.pw_uid)
    try:
        answers = server.ask(client)
        assert (answers.running, answers.increments) == (None, True)
        assert set(answers.ignored) == networks("127.0.0.0/8", "::1", "192.0.2.7", "fd00::/8")
    finally:
        os.seteuid(0)


def test_a_host_without_fail2ban_is_unknown() -> None:
    """The store may hold other hosts' bans."""
    assert server.ask(Client(environment={"PATH": "/nonexistent"})) == server.UNKNOWN


def test_a_fail2ban_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jails are known if it hangs later on."""
    monkeypatch.setattr(server, "DEADLINE", 0.3)
    script = tmp_path / "fail2ban-client"
    client = Client(environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    for text, answers in (
        ("exec sleep 60", server.Answers(None, asked=False)),
        (
            '[ "$1" = status ] && echo "Jail list: sshd" && exit 0\nexec sleep 60',
            server.Answers(("sshd",), asked=False),
        ),
    ):
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        started = time.monotonic()
        assert server.ask(client) == answers
        assert time.monotonic() - started < 5


@pytest.mark.alone
def test_twenty_jails_cost_little_more_than_one() -> None:
    """Two programs are run, not forty: the time is less than a quarter of theirs."""
    with Fail2ban("1.0") as running:
        for number in range(20):
            running.jail(f"jail-{number}", "none", ignoreip=f"192.0.2.{number}")
        running.write("conf/action.d/none.conf", "[Definition]\nactionban = true\n")
        running.start()
        client = client_of(running)
        started = time.monotonic()
        client("status")
        one = time.monotonic() - started
        started = time.monotonic()
        answers = server.ask(client)
        assert time.monotonic() - started < 10 * one
    assert len(answers.ignored) == len(answers.running or ()) == 20


# ---- logins

WTMP = """\
[2] [00000] [~~  ] [reboot  ] [~           ] [6.1.0-13-amd64      ] [0.0.0.0        ] [2026-11-10T09:00:00,000000+00:00]
[7] [00101] [ts/0] [root    ] [pts/0       ] [203.0.113.5         ] [203.0.113.5    ] [2026-11-10T10:00:00,000000+00:00]
[8] [00101] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-10T12:30:00,000000+00:00]
[7] [00102] [ts/0] [root    ] [pts/0       ] [203.0.113.5         ] [203.0.113.5    ] [2026-11-12T10:00:00,000000+00:00]
[7] [00103] [ts/1] [alice   ] [pts/1       ] [dsl.example.org     ] [2001:db8::5    ] [2026-11-12T11:00:00,000000+00:00]
[7] [00104] [tty1] [bob     ] [tty1        ] [                    ] [0.0.0.0        ] [2026-11-12T12:00:00,000000+00:00]
[7] [00105] [ts/2] [bob     ] [pts/2       ] [localhost           ] [127.0.0.1      ] [2026-11-12T12:10:00,000000+00:00]
[7] [00106] [ts/3] [old     ] [pts/3       ] [203.0.113.9         ] [203.0.113.9    ] [2026-09-01T12:10:00,000000+00:00]
"""


def find(tmp_path: Path, wtmp: Path | None = None, *files: Path) -> tuple[Login, ...]:
    """Return the logins of these files of four weeks, and of no journal."""
    (tmp_path / "journal").mkdir(exist_ok=True)
    return logins.find(WEEKS, NOW, wtmp or tmp_path / "none", files, ["--directory", tmp_path / "journal"])


def at(text: str) -> float:
    """Return a time of November 2026 ("12 10:00") in UTC epoch seconds."""
    return datetime.fromisoformat(f"2026-11-{text}:00+00:00").timestamp()


def test_wtmp_tells_the_newest_login_from_each_other_host(tmp_path: Path) -> None:
    """Not reboots, consoles, loopback, or what is too old."""
    wtmp = tmp_path / "wtmp"
    utmpdump = program("utmpdump", "apt install util-linux")
    with wtmp.open("wb") as file:
        subprocess.run([utmpdump, "-r"], input=WTMP.encode(), stdout=file, stderr=subprocess.DEVNULL, check=True)
    program("last", "apt install util-linux")
    assert find(tmp_path, wtmp) == (
        Login("2001:db8::5", "alice", at("12 11:00")),
        Login("203.0.113.5", "root", at("12 10:00")),
    )


def written(path: Path, *lines: str) -> Path:
    """Write a log that ends now."""
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (NOW, NOW))
    return path


def test_sshds_logins_are_read_from_syslogs_files(tmp_path: Path) -> None:
    """Of both kinds of time, and of both names of the program."""
    auth = written(
        tmp_path / "auth.log",
        "2026-11-12T11:00:00.123456+01:00 web1 sshd[1]: Accepted publickey for alice from 2001:db8::5 port 50022 ssh2: "
        "ED25519 SHA256:3zQk0",
        "2026-11-12T10:30:00+00:00 web1 sshd-session[22]: Accepted password for bob from 203.0.113.5 port 22 ssh2",
        "2026-11-12T10:31:00Z web1 sshd[22]: Accepted keyboard-interactive/pam for bob from 203.0.113.6 port 22 ssh2",
        "2026-11-12T10:40:00Z web1 sshd[22]: Accepted password for bob from ::1 port 22 ssh2",
        "2026-11-12T10:40:00Z web1 sshd[22]: Accepted publickey for eve from ::ffff:203.0.113.8 port 22 ssh2",
        "2026-09-12T10:31:00Z web1 sshd[22]: Accepted password for bob from 203.0.113.9 port 22 ssh2",
        "2030-09-12T10:31:00Z web1 sshd[22]: Accepted password for bob from 203.0.113.9 port 22 ssh2",
    )
    older = written(
        tmp_path / "auth.log.1",
        "Nov  3 08:00:00 web1 sshd[1]: Accepted password for carol from 203.0.113.7 port 22 ssh2",
        "Dec  3 08:00:00 web1 sshd[1]: Accepted password for carol from 203.0.113.8 port 22 ssh2",
    )
    assert set(find(tmp_path, None, auth, older)) == {
        Login("2001:db8::5", "alice", at("12 10:00") + 0.123456),
        Login("203.0.113.5", "bob", at("12 10:30")),
        Login("203.0.113.6", "bob", at("12 10:31")),
        Login("203.0.113.8", "eve", at("12 10:40")),
        Login("203.0.113.7", "carol", time.mktime((2026, 11, 3, 8, 0, 0, 0, 0, -1))),
    }


def test_a_log_of_december_is_read_in_january(tmp_path: Path) -> None:
    """Its lines have no year."""
    january = 1_798_800_000.0  # 2027-01-01, 10:40 UTC
    line = "Dec 31 08:00:00 web1 sshd[1]: Accepted password for carol from 203.0.113.7 port 22 ssh2"
    (login,) = logins.from_file(os.open(written(tmp_path / "auth.log", line), os.O_RDONLY), january)
    assert login.at == time.mktime((2026, 12, 31, 8, 0, 0, 0, 0, -1))


FORGED = "Accepted password for root from 198.51.100.66 port 22 ssh2"
STAMP = "2026-11-12T10:30:00+00:00 web1"
HOSTILE = [
    f"{STAMP} sshd[1]: Invalid user {FORGED} from 198.51.100.66 port 4242",
    f"{STAMP} sshd[1]: Failed password for invalid user {FORGED} from 198.51.100.66 port 4242 ssh2",
    f"{STAMP} sshd[1]: Failed password for invalid user x sshd[1]: {FORGED}",
    f"{STAMP} sshd[1]: Failed password for invalid user {STAMP} sshd[1]: {FORGED}",
    f"{STAMP} sshd[1]:  {FORGED}",
    f"{STAMP} vsftpd[1]: sshd[1]: {FORGED}",
    f"{STAMP} dovecot: auth: sshd[1]: {FORGED}",
    f"{STAMP} sudo: pam_unix: x sshd[1]: {FORGED}",
    f"{STAMP} notsshd[1]: {FORGED}",
    f"{STAMP} sshd[x]: {FORGED}",
    f"{STAMP} sshd: {FORGED}",
    f" {STAMP} sshd[1]: {FORGED}",
    f"web1 sshd[1]: {FORGED}",
    f"{STAMP} x sshd[1]: {FORGED}",
    f"{STAMP} sshd[1]: message repeated 2 times: [ {FORGED}]",
    f"{STAMP} sshd[1]: Accepted password for a b from 198.51.100.66 port 22 ssh2",
    f"{STAMP} sshd[1]: Accepted password for root from host.example port 22 ssh2",
    f"{STAMP} sshd[1]: Accepted password for root from 198.51.100.66.7 port 22 ssh2",
    f"{STAMP} sshd[1]: Accepted password for root from 198.51.100.66 port 22 ssh2 from 203.0.113.1",
    f"{STAMP} sshd[1]: Postponed publickey for root from 198.51.100.66 port 22 ssh2\x0b{STAMP} sshd[1]: {FORGED}",
    f"{STAMP} sshd[1]: Invalid user x\r{STAMP} sshd[1]: {FORGED}",
    f"{STAMP} sshd[1]: Invalid user x\u2028{STAMP} sshd[1]: {FORGED}",
    f"Foo 12 10:30:00 web1 sshd[1]: {FORGED}",
    f"2026-99-12T10:30:00Z web1 sshd[1]: {FORGED}",
    f"Nov 99 99:99:99 web1 sshd[1]: {FORGED}",
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_nobody_makes_a_login_of_a_user_name(tmp_path: Path, line: str) -> None:
    """A rejected client chooses the user name, and must not become a friend by it."""
    known = f"{STAMP} sshd[1]: Accepted password for alice from 203.0.113.5 port 22 ssh2"
    (tmp_path / "auth.log").write_bytes(f"{known}\n{line}\n{known}\n".encode())
    os.utime(tmp_path / "auth.log", (NOW, NOW))
    assert {login.ip for login in find(tmp_path, None, tmp_path / "auth.log")} == {"203.0.113.5"}


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\n", codec="utf-8")), st.text(max_size=20))
@example(f"{FORGED} ", "")
@example("root from 198.51.100.66 port 22 ssh2", "")
def test_no_user_name_that_is_refused_is_a_login(name: str, after: str) -> None:
    """Whatever else it contains, a rejection line starts as one."""
    after = after.replace("\n", " ").encode("utf-8", "replace").decode()
    for refusal in ("Failed password for invalid user", "Invalid user", "Disconnected from authenticating user"):
        line = f"{STAMP} sshd[1]: {refusal} {name} from 198.51.100.66 port 22{after}"
        tagged = logins._TAGGED.fullmatch(line)
        assert not (tagged and logins._ACCEPTED.fullmatch(tagged["message"]))


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the half line that it begins with."""
    line = f"{STAMP} sshd[1]: Accepted password for alice from 203.0.113.5 port 22 ssh2"
    other = line.replace("alice", "bob")
    file = written(tmp_path / "auth.log", line, f"{'x' * 50} {line}", other)
    monkeypatch.setattr(logins, "TAIL", len(other) + 2 + len(line))
    assert {login.user for login in find(tmp_path, None, file)} == {"bob"}


def test_what_is_no_log_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe, a folder, nothing, noise: no logins, no error."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "noise").write_bytes(os.urandom(100_000) + b" sshd[1]: Accepted \xff\n")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder", "nothing"):
        assert find(tmp_path, tmp_path / name, tmp_path / name) == ()
        raw = logins.gather(WEEKS, tmp_path / "none", [tmp_path / name], ["--directory", tmp_path / "none"])
        assert raw.unseen == (name != "nothing"), "a log that is there, and cannot be read, was not looked at"
    assert find(tmp_path, None, tmp_path / "noise") == ()


def test_a_log_that_breaks_off_was_not_looked_at(tmp_path: Path) -> None:
    """What could be read counts; that it was not all is known."""
    line = "2026-11-12T08:00:00+00:00 web1 sshd[1]: Accepted password for carol from 203.0.113.7 port 22 ssh2"
    whole, broken = written(tmp_path / "auth.log", line), os.open(tmp_path, os.O_RDONLY)  # a folder cannot be read
    raw = logins.Raw(files=(os.open(whole, os.O_RDONLY), broken))
    found, complete = logins.parse(raw, WEEKS, NOW)
    assert ([login.user for login in found], complete) == (["carol"], False)


def test_an_old_log_is_not_read(tmp_path: Path) -> None:
    """Its lines have no year: those of last November are not of this one."""
    line = "Nov 12 08:00:00 web1 sshd[1]: Accepted password for carol from 203.0.113.7 port 22 ssh2"
    file = written(tmp_path / "auth.log.1", line)
    assert len(find(tmp_path, None, file)) == 1
    os.utime(file, (NOW - 360 * 86400, NOW - 360 * 86400))
    assert find(tmp_path, None, file) == ()


def test_a_flood_of_logins_is_cut_to_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest stay."""
    monkeypatch.setattr(logins, "AT_MOST", 2)
    lines = [
        f"2026-11-12T10:0{n}:00Z web1 sshd[1]: Accepted password for u{n} from 203.0.113.5 port 22 ssh2"
        for n in range(5)
    ]
    assert [login.user for login in find(tmp_path, None, written(tmp_path / "auth.log", *lines))] == ["u4", "u3"]


def test_programs_that_are_missing_or_hang_cost_no_login(tmp_path: Path) -> None:
    """What was said until the deadline, or the bound, counts: whole lines of it."""
    assert programs.output([str(tmp_path / "none")], 1, 9) == (b"", True)
    started = time.monotonic()
    assert programs.output(["/bin/sh", "-c", "echo one; printf half; exec sleep 60"], 0.5, 9999) == (b"one\n", False)
    text, complete = programs.output(["yes"], 30, 100_000)
    assert (len(text) >= 100_000 - 2, len(text) < 200_000, complete) == (True, True, False)
    assert time.monotonic() - started < 5


IN_A_JOURNAL = """
set -e
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal && mount --bind "$1" /run/log/journal
/lib/systemd/systemd-journald & journald=$!
python3=$2 nobody=$3
say() { "$@" -c '
import socket, sys, time
for _ in range(200):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        try:
            log.connect("/run/systemd/journal/dev-log")
        except OSError:
            time.sleep(0.05)
            continue
        for line in sys.stdin.read().split("\\n"):
            log.send(line.encode())
        time.sleep(0.2)
        break
'; }
printf '%s' "$4" | say "$python3"
printf '%s' "$5" | say $nobody "$python3"
kill $journald; wait || true
"""


@contextmanager
def journal(folder: Path, root: str, nobody: str) -> Iterator[Path]:
    """Provide the folder of a journal, written by its own journald, of what root and nobody logged."""
    if os.geteuid() or not Path("/lib/systemd/systemd-journald").exists():
        missing("journald, and the right to run one in a namespace", "run as root, apt install systemd")
    for name in ("unshare", "journalctl", "setpriv"):
        program(name, "apt install util-linux systemd")
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    script = ["unshare", "--mount", "/bin/sh", "-c", IN_A_JOURNAL, "-", str(folder), "/usr/bin/python3", as_nobody]
    if subprocess.run([*script, root, nobody], check=False, capture_output=True, timeout=60).returncode:
        missing("a mount namespace of its own", "run as root, who may mount")
    yield folder


def test_sshds_logins_are_read_from_the_journal(tmp_path: Path) -> None:
    """Only root's: another user's program may call itself sshd. And not by a name that was refused."""
    root = [
        "<86>sshd[1]: Accepted publickey for alice from 2001:db8::5 port 50022 ssh2: ED25519 SHA256:3zQk0",
        "<86>sshd-session[2]: Accepted password for bob from 203.0.113.5 port 22 ssh2",
        f"<86>sshd[3]: Invalid user {FORGED} from 198.51.100.66 port 4242",
        f"<86>sshd[3]: Accepted password for a b {FORGED}",
        f"<86>vsftpd[4]: sshd[3]: {FORGED}",
        f"<86>vsftpd[4]: {FORGED}",
    ]
    before = time.time()
    with journal(tmp_path, "\n".join(root), f"<86>sshd[9]: {FORGED}\n<86>sshd[9]: Accepted stays") as folder:
        said = subprocess.check_output(["journalctl", "--directory", folder, "-o", "cat", "-t", "sshd"], text=True)
        assert {"Accepted stays", FORGED} <= set(said.splitlines()), "the forged lines are there"
        found = logins.find(before - 60, time.time() + 1, tmp_path / "none", (), ["--directory", folder])
        assert {(login.ip, login.user) for login in found} == {("2001:db8::5", "alice"), ("203.0.113.5", "bob")}
        assert all(before - 1 <= login.at <= time.time() for login in found)
        assert logins.find(time.time() + 60, time.time() + 90, tmp_path / "none", (), ["--directory", folder]) == ()


# ---- all of it


def look(configuration: Configuration, since: float = WEEKS, now: float = NOW) -> HostContext:
    """Gather, and read."""
    return host.read(host.gather(configuration, since), configuration, since, now)[0]


def test_a_look_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing part leaves the others intact."""
    friends = (ip_network("203.0.113.0/24"),)
    configuration = Configuration("web1", ZoneInfo("UTC"), None, None, {}, {}, friends=friends)

    def odd(*_: object) -> object:
        raise RuntimeError("odd")

    people = (Login("192.0.2.99", "alice", NOW), Login("192.0.2.5", "me", NOW))
    monkeypatch.setattr(logins, "parse", lambda *_: (people, True))
    monkeypatch.setattr(host, "own_networks", lambda: iter(networks("192.0.2.5", "192.168.0.0/24")))
    monkeypatch.setattr(server, "ask", odd)
    found = look(configuration)
    assert (found.running, found.ignored, found.increments, found.geography) == (None, (), None, None)
    assert found.friends == friends
    assert [login.ip for login in found.logins] == ["192.0.2.99"], "a login from this host itself is none from another"
    assert "root" in found.users
    for module, name in ((logins, "parse"), (host, "own_networks"), (pwd, "getpwall")):
        monkeypatch.setattr(module, name, odd)
    found = look(configuration)
    assert set(found.unseen) >= {"server", "logins", "addresses", "users"}, "what failed is told"
    assert (found.own, found.logins, found.users, found.friends) == ((), (), frozenset(), friends)


def test_this_host_is_looked_at_in_time() -> None:
    """As it is, with all that it has: well within the deadlines together."""
    started = time.monotonic()
    configuration = Configuration("web1", ZoneInfo("UTC"), None, None, {}, {})
    found = look(configuration, time.time() - 28 * 86400, time.time())
    assert time.monotonic() - started < 16
    assert ip_network("127.0.0.1") in found.own
    assert sys.platform != "linux" or found.users
