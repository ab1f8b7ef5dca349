"""`check` against planted faults: each is named in its own line, with what to do, and sets the exit status."""

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes, policy
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from f2b_digest import resources
from f2b_digest.checks import geoip, schedule
from f2b_digest.store import Store
from tests.support.certificates import Certificates
from tests.support.fail2ban_server import VERSIONS, Fail2ban, as_the_server
from tests.support.ntfy_server import NtfyServer
from tests.support.parts import missing, program
from tests.support.program import Command, Ended
from tests.support.raw_server import RawServer, silent
from tests.support.smtp_server import PASSWORD, USER, SmtpServer
from tests.support.store_making import event, fill, make_fail2ban_database, query

CRON = """\
PATH={bin}:/usr/bin:/bin
@daily root f2b-digest send daily
*/10 * * * * root f2b-digest retry
"""
Check = Callable[..., Ended]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a host with a cron that runs, and a table that sends daily."""
    root = tmp_path / "root"
    for folder in ("etc/cron.d", "bin", "proc/1"):
        (root / folder).mkdir(parents=True)
    (root / "proc/1/comm").write_text("cron\n")
    (root / "bin/f2b-digest").write_text("#!/bin/sh\n")
    (root / "bin/f2b-digest").chmod(0o755)
    (root / "etc/cron.d/f2b-digest").write_text(CRON.format(bin=root / "bin"))
    monkeypatch.setattr(schedule, "ROOT", root)
    monkeypatch.setattr(geoip, "ROOT", root)
    return root


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Run a real fail2ban with a jail that records, one that does not, one with our shell action, one without any."""
    with Fail2ban(request.param) as server:
        server.jail("sshd")
        server.jail("web", server.python_action(actname="mine"))
        server.jail("shell", server.shell_action())
        server.jail("forgotten", "none")
        server.jail("bare", "")
        server.write("conf/action.d/none.conf", "[Definition]\nactionban = true\n")
        server.start()
        yield server


@pytest.fixture
def recorded(path: Path) -> Path:
    """Provide a store with a ban of now."""
    now = time.time()
    rows = (event("start", ip="", at=now - 1, recorded_at=now - 1), event(at=now, recorded_at=now))
    fill(path, [(*row[:11], "action", 0) for row in rows])
    return path


@pytest.fixture
def host(
    f2b_digest: Command, config: Path, root: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[str | Path, ...]:
    """Make a host where only fail2ban is missing, at the present time; give the words that examine it."""
    monkeypatch.setattr("f2b_digest.cli.time", time)
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", tmp_path / "fail2ban.sqlite3")
    make_fail2ban_database(tmp_path / "fail2ban.sqlite3")
    return "--config", config, "check", "--fail2ban-socket", tmp_path / "none"


@pytest.fixture
def check(host: tuple[str | Path, ...], f2b_digest: Command) -> Check:
    """Provide `check` on that host; the last words are its options."""
    return lambda *options: f2b_digest(*host, *options)


@pytest.fixture
def check_apart(host: tuple[str | Path, ...], apart: Command) -> Check:
    """Provide `check` on that host in its own process: where the store is another user's, root becomes that user."""
    return lambda *options: apart(*host, *options)


def lines(ended: Ended, state: str) -> list[str]:
    """Return the lines of a state that are not about the fail2ban that does not run."""
    found = [line.removeprefix(state).strip() for line in ended.out.splitlines() if line.startswith(state)]
    return [line for line in found if not line.startswith("fail2ban:")]


def add(config: Path, text: str) -> None:
    """Add a channel `more` to the configuration, and to the report."""
    written = config.read_text().replace('["out"]', '["out", "more"]')
    config.write_text(f"{written}[channels.more]\n{text}\n")


def test_a_host_that_is_well_has_no_error(check: Check) -> None:
    """Every part has its line, and only the fail2ban that does not run is at fault."""
    ended = check()
    assert (ended.status, ended.err) == (1, "")
    assert lines(ended, "error") == lines(ended, "warning") == []
    assert [line.split(":")[0] for line in lines(ended, "ok")] == [
        "program", "configuration", "disk", "store", "fail2ban's database", "report daily", "countries", "templates",
        "channel out",
    ]  # fmt: skip


# ---- fail2ban


def test_fail2ban_down(check: Check) -> None:
    """Named with its socket."""
    (line,) = [line for line in check().out.splitlines() if line.startswith("error")]
    assert "Is fail2ban running?" in line
    assert "systemctl start fail2ban" in line


def test_an_action_is_missing_from_a_jail(server: Fail2ban, check_apart: Check, config: Path) -> None:
    """Over the socket: jails with our action are distinguished from the one without, whatever its name."""
    config.write_text(
        config.read_text().replace("bans.sqlite3", "x").replace(str(config.parent / "x"), str(server.store))
    )
    ended = check_apart("--fail2ban-socket", server.folder / "run/f2b.sock")
    assert ended.status == 1
    found = [line for line in lines(ended, "error") if line.startswith("jail")]
    for line, jail in zip(sorted(found), ("bare", "forgotten"), strict=True):
        assert line.startswith(
            f"jail {jail}: bans without the f2b-digest action; nothing recorded yet (add f2b-digest.py[…] to"
        )
    for jail in ("sshd", "web", "shell"):
        assert f"jail {jail}: records; " in ended.out
    assert " ERROR " not in server.messages()


def test_an_action_that_records_elsewhere(server: Fail2ban, check: Check, path: Path) -> None:
    """Bans in a store that is never sent are as good as lost."""
    found = lines(check("--fail2ban-socket", server.folder / "run/f2b.sock"), "error")
    assert f"jail sshd: records to {server.store}, but this configuration reads {path}" in "\n".join(found)


def test_a_store_that_cannot_be_read_says_nothing_of_jails(server: Fail2ban, check: Check, path: Path) -> None:
    """After an upgrade, or a downgrade: nothing unknown is claimed."""
    query(path, "PRAGMA user_version=99")
    ended = check("--fail2ban-socket", server.folder / "run/f2b.sock")
    assert "jail forgotten: bans without the f2b-digest action (add f2b-digest.py[" in ended.out
    assert "nothing recorded yet" not in ended.out


def test_a_jail_that_is_gone(server: Fail2ban, check: Check, path: Path) -> None:
    """A jail that recorded a day ago and does not run is missed; what a script recorded is not.

    A name in the store can hold anything: it stays text.
    """
    then = time.time() - 90000
    fill(path, [(*event(jail="postfix", at=then, recorded_at=then)[:11], "action", 0), event(jail="script")])
    fill(path, [(*event(jail="\x1b[2Jx", at=then - 1, recorded_at=then - 1)[:11], "action", 0)])
    ended = check("--fail2ban-socket", server.folder / "run/f2b.sock")
    assert "\x1b" not in ended.out
    found = lines(ended, "warning")
    (line,) = [line for line in found if line.startswith("jail p")]
    assert line.startswith("jail postfix: is not running any more; last event (ban) was 1 day ago (if that is not")


def test_a_fail2ban_that_hangs(check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It has a time limit."""
    program("fail2ban-client", "apt install fail2ban")
    monkeypatch.setattr("f2b_digest.checks.fail2ban.PATIENCE", 0.01)
    assert "it does not answer within 0.01 s" in check().out


# ---- the store


def test_no_store_and_a_newer_store(check: Check, path: Path) -> None:
    """Both with the store's own message."""
    query(path, "PRAGMA user_version=99")
    assert "made by a newer f2b-digest (schema 99" in lines(check(), "error")[0]
    path.unlink()
    assert "no store at" in lines(check(), "error")[0]


def test_a_damaged_store(check: Check, path: Path) -> None:
    """Found by SQLite's own check, and not touched."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    before = path.read_bytes()
    assert f"{path} is damaged" in lines(check(), "error")[0]
    assert path.read_bytes() == before
    assert not Path(f"{path}.damaged").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_wrong_owner(check: Check, path: Path) -> None:
    """The store belongs to whoever owns its folder, so that fail2ban and send share it."""
    os.chown(path, 65534, 65534)
    assert lines(check(), "error") == [f"store: {path} belongs to nobody, its folder to root (chown root {path})"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_that_the_user_cannot_write(
    check: Check, f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried with SQLite's own lock, as the user who asks."""
    check()  # what it imports, nobody may not be able to read
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))  # pytest's own are closed to nobody
    try:
        folder.chmod(0o755)
        shutil.copy(path, folder)
        (folder / "bans.sqlite3").chmod(0o444)
        (folder / "config.toml").write_text(config.read_text().replace(str(path.parent), str(folder)))
        monkeypatch.setattr(schedule, "ROOT", folder)
        with as_the_server():
            ended = f2b_digest("--config", folder / "config.toml", "check", "--fail2ban-socket", folder / "none")
    finally:
        shutil.rmtree(folder)
    assert "not writable by this user" in lines(ended, "error")[0]


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a disk of 1 MiB for a while."""
    mount = [program("mount", "apt install mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("a small disk", "run as root, who may mount one")
    try:
        yield
    finally:
        subprocess.run([program("umount", "apt install mount"), str(folder)], check=True)


def test_a_full_disk(check: Check, f2b_digest: Command, config: Path, path: Path, tmp_path: Path) -> None:
    """Said before bans go to the spool."""
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small"):
        (tmp_path / "small").chmod(0o755)
        shutil.copy(path, tmp_path / "small")
        with pytest.raises(OSError, match="No space"):
            (tmp_path / "small/rest").write_bytes(b"x" * 2**20)
        config.write_text(config.read_text().replace(str(path), str(tmp_path / "small/bans.sqlite3")))
        line = lines(check(), "error")[0]
        for command in ("status", "preview", "history"):
            ended = f2b_digest("--config", config, command)
            assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
            assert "the disk is full, and SQLite needs space even to read: free disk space" in ended.err
    assert line.startswith(f"disk: {tmp_path}/small: 0.0 MiB free (free space: ")


def test_a_clock_that_was_set_back(check: Check, path: Path) -> None:
    """The store knows of a later time."""
    later = time.time() + 7200
    fill(path, [event(ip="192.0.2.8", at=later, recorded_at=later)])
    (line,) = lines(check(), "error")
    assert line.startswith("clock: the store has events 7,")


def test_a_store_that_everybody_reads(check: Check, path: Path) -> None:
    """A warning only has its own status."""
    path.chmod(0o644)
    assert "is world-readable" in lines(check(), "warning")[0]


def test_what_is_undelivered(check: Check, config: Path, f2b_digest: Command, tmp_path: Path) -> None:
    """A failed delivery is an error until it is resolved."""
    add(config, 'kind = "command"\ncommand = ["/bin/false"]')
    f2b_digest("--config", config, "send")
    (line,) = lines(check(), "error")
    assert line.startswith("deliveries: 1 failed, the last by more to /bin/false")


# ---- configuration and secrets


def test_a_configuration_with_mistakes(check: Check, config: Path) -> None:
    """Each mistake is a line, and the status says that it is the configuration."""
    config.write_text(config.read_text() + "colour = 1\n[reports.weekly]\nchannels = ['nobody']\n")
    ended = check()
    assert ended.status == 78
    assert len(lines(ended, "error")) == 2
    assert json.loads(check("--json").out)["state"] == "error"


def test_a_secret_that_everybody_reads_and_one_that_nobody_can(check: Check, config: Path, tmp_path: Path) -> None:
    """The first is a warning, the second keeps the channel from delivering."""
    add(config, 'kind = "ntfy"\nurl = "http://127.0.0.1:9"\ntopic = "x"\ntoken_file = "token"')
    (tmp_path / "token").mkdir()
    assert "secret file" in lines(check(), "error")[0]
    (tmp_path / "token").rmdir()
    (tmp_path / "token").write_text("tk_secret\n")
    (tmp_path / "token").chmod(0o644)
    ended = check()
    assert "contains a secret and is world-readable" in lines(ended, "warning")[0]
    assert ended.err == ""
    assert "tk_secret" not in ended.out


# ---- cron


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda root: (root / "etc/cron.d/f2b-digest").unlink(), "not scheduled by cron or a timer"),
        (lambda root: (root / "proc/1/comm").write_text("sh\n"), "no cron daemon is running"),
        (lambda root: (root / "bin/f2b-digest").unlink(), "f2b-digest is not found in"),
        (lambda root: (root / "etc/cron.d/f2b-digest").rename(root / "etc/cron.d/f2b.cron"), "files with this name"),
        (lambda root: (root / "etc/cron.d/f2b-digest").chmod(0o664), "users other than root can write"),
        (lambda root: rewrite(root, "@daily root", "@daily nobody"), "nobody cannot write to the store"),
        (lambda root: rewrite(root, "send daily", "send weekly"), "report daily: not scheduled by cron or a timer"),
        (lambda root: rewrite(root, "@daily", "#@daily"), "report daily: not scheduled by cron or a timer"),
        (lambda root: rewrite(root, "retry\n", "retry"), "its last line has no newline"),
    ],
    ids=["absent", "not running", "program", "name", "mode", "user", "report", "comment", "line end"],
)
def test_cron(check: Check, root: Path, plant: Callable[[Path], Any], words: str) -> None:
    """What keeps cron from sending is named."""
    plant(root)
    assert words in "\n".join(lines(check(), "error"))


def rewrite(root: Path, old: str, new: str) -> None:
    """Change the cron table."""
    table = root / "etc/cron.d/f2b-digest"
    table.write_text(table.read_text().replace(old, new))


def test_a_cron_that_does_not_run_what_it_should(check: Check, path: Path) -> None:
    """Whatever the reason: bans that wait for twice the period are reported."""
    then = time.time() - 3 * 86400
    fill(path, [event(ip="192.0.2.8", at=then, recorded_at=then)])
    (line,) = lines(check(), "error")
    assert "was never sent, but is due daily; bans pending: 2, the oldest 3 days ago" in line


def test_a_timer_of_systemd(check: Check, root: Path) -> None:
    """A timer is as good as cron, if it is active."""
    (root / "etc/cron.d/f2b-digest").unlink()
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "f2b-digest-test.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (units / "f2b-digest-test.service").write_text(f"[Service]\nExecStart={root}/bin/f2b-digest send daily\n")
    ended = check()
    assert "started by" in ended.out
    assert "timer: f2b-digest-test.timer is not active" in lines(ended, "error")[0]


def test_a_timer_of_a_package_counts_once_it_is_enabled(check: Check, root: Path) -> None:
    """A package installs timers that may be unused: cron does it here, and no timer is missed."""
    shutil.copytree(resources.folder("cron"), root / "usr/lib/systemd/system")
    assert lines(check(), "error") == []
    wants = root / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    (wants / "f2b-digest-retry.timer").symlink_to(root / "usr/lib/systemd/system/f2b-digest-retry.timer")
    assert "f2b-digest-retry.timer is not active" in lines(check(), "error")[0]


@pytest.mark.parametrize("times", ["Mon *-*-* 07:00:00", "Mon..Fri 07:00", "*-*-1,15 06:00", "hourly"])
def test_no_time_of_a_timer_is_read(check: Check, root: Path, monkeypatch: pytest.MonkeyPatch, times: str) -> None:
    """A healthy report is healthy whenever it comes; a template's enabled instance is what starts it."""
    monkeypatch.setattr(schedule, "_is_active", lambda _: True)
    (root / "etc/cron.d/f2b-digest").unlink()
    units = root / "etc/systemd/system"
    shutil.copytree(resources.folder("cron"), units)
    service = units / "f2b-digest-send@.service"
    service.write_text(service.read_text().replace("/usr/local/bin/f2b-digest", str(root / "bin/f2b-digest")))
    timer = units / "f2b-digest-send@.timer"
    timer.write_text(timer.read_text().replace("OnCalendar=%i", f"OnCalendar={times}"))
    assert "report daily: not scheduled by cron or a timer" in "\n".join(lines(check(), "error"))
    (units / "timers.target.wants").mkdir()
    (units / "timers.target.wants/f2b-digest-send@daily.timer").symlink_to(timer)
    for other in ("retry", "forward"):
        (units / f"f2b-digest-{other}.timer").unlink()
    ended = check()
    assert lines(ended, "error") == []
    assert f"report daily: started by {timer}, as root; not sent yet" in ended.out


@pytest.mark.parametrize(
    ("times", "late"),
    [
        ("@weekly", []),
        ("0 7 1,15 * *", []),
        ("0 7 * * 1-5", []),
    ],
)
def test_no_time_of_a_cron_line_is_read(check: Check, root: Path, times: str, late: list[str]) -> None:
    """The times are the admin's choice."""
    rewrite(root, "@daily", times)
    assert lines(check(), "error") == late


DAYS = 86400.0


@pytest.mark.parametrize(
    ("name", "ago", "words"),
    [
        ("daily", [3, 2, 1], ""),
        ("daily", [3.6, 2.6, 1.6], "was last sent 1 day ago, but is due daily"),
        ("weekly", [9], ""),  # a quiet report seals nothing, and is sent
        ("weekly", [11], "was last sent 11 days ago, but is due weekly"),
        ("paris", [14, 7, 0.1], ""),  # nobody knows yet
        ("paris", [29, 22, 15, 8], ""),
        ("paris", [35, 28, 21, 14], "was last sent 14 days ago, but is due weekly"),
        # Working days only: on a Monday morning the last run is three days ago.
        ("paris", [17, 16, 15, 14, 13, 10, 9, 8, 7, 6, 3], ""),
        ("paris", [3 - hour / 24 for hour in range(12)], "was last sent 2 days ago, but is due hourly"),
        ("paris", [1.2 - hour / 24 for hour in range(5)], ""),  # somebody tried it, a day ago
    ],
)
def test_what_is_late_is_known_by_the_store(
    check: Check, config: Path, path: Path, root: Path, name: str, ago: list[float], words: str
) -> None:
    """By when each report was sent, with or without a digest, and how often."""
    config.write_text(config.read_text().replace("reports.daily", f"reports.{name}"))
    rewrite(root, "send daily", f"send {name}")
    with Store(path, read_only=False) as store:
        for days in ago:
            store.ran([name], time.time() - days * DAYS)
    found = [line for line in lines(check(), "error") if line.startswith(f"report {name}")]
    assert ([words in line for line in found] == [True]) if words else (found == []), found


def test_a_send_that_tells_nothing_is_a_run(check: Check, config: Path, f2b_digest: Command, path: Path) -> None:
    """Noted by every send, of the runs of an hour the last one, and no more than it takes to know how often."""
    assert f2b_digest("--config", config, "send").status == 0
    assert f2b_digest("--config", config, "send").status == 0
    assert query(path, "SELECT report, at FROM run") == [("daily", pytest.approx(time.time(), abs=60))]
    assert "report daily: started by" in (out := check().out)
    assert "; last sent a moment ago (usually daily)" in out
    with Store(path, read_only=False) as store:
        for hour in range(1, 40):
            store.ran(["daily"], time.time() + 3600 * hour)
        assert len(store.runs("daily")) == 11
        store.ran(["daily"], time.time())  # the clock is right again
        assert max(store.runs("daily")) == pytest.approx(time.time(), abs=60)


@pytest.fixture
def daemons_store(recorded: Path, config: Path) -> Iterator[Path]:
    """Make the user daemon the owner of the store, in a folder that daemon may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to daemon
        store = Path(name, recorded.name)
        shutil.copy(recorded, store)
        for path in (store.parent, store):
            os.chown(path, 1, 1)
        config.write_text(config.read_text().replace(str(recorded), str(store)))
        yield store


@pytest.mark.usefixtures("daemons_store")
def test_an_installation_of_the_old_kind(check_apart: Check, root: Path) -> None:
    """A cron line of the store's owner sends, and sees little: setup moves it over."""
    check = check_apart
    rewrite(root, "root f2b-digest", "daemon f2b-digest")
    found = [line for line in lines(check(), "warning") if line.startswith("cron")]
    assert len(found) == 1
    assert (
        "daemon runs send, but can read neither fail2ban's server and database nor the logins (f2b-digest setup"
        in found[0]
    )
    rewrite(root, "daemon f2b-digest", "root f2b-digest")
    ended = check()
    assert "as root, switching to daemon" in ended.out
    assert not [line for line in lines(ended, "warning") if line.startswith("cron")]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'f2b-digest: no store at /x' >&2; exit 1", "root cannot run f2b-digest: f2b-digest: no store at /x"),
        ("exit 3", "root cannot run f2b-digest: exit status 3"),
        ('[ "$PWD $HOME $1" = "/ /root status" ] && [ -z "$F2B" ] || exit 9', ""),
    ],
)
def test_the_program_is_run_as_cron_would(
    check: Check, root: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    """In its environment, in its folder, by its path and as its user: what fails there is an error here."""
    monkeypatch.setenv("F2B", "of the admin's shell")
    (root / "bin/f2b-digest").write_text(f"#!/bin/sh\n{script}\n")
    found = [line for line in lines(check(), "error") if line.startswith("cron")]
    assert ([words in line for line in found] == [True]) if words else (found == []), found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_runs_nothing_that_another_user_wrote(check: Check, root: Path) -> None:
    """A table that others may write to, which cron refuses, and a user's own."""
    ran, table = root / "ran", root / "etc/cron.d/f2b-digest"
    (root / "bin/f2b-digest").write_text(f"#!/bin/sh\n: >{ran}\n")
    table.chmod(0o664)
    check()
    assert not ran.exists()
    table.chmod(0o644)
    check()
    assert ran.exists()
    ran.unlink()
    (root / "var/spool/cron/crontabs").mkdir(parents=True)
    theirs = root / "var/spool/cron/crontabs/daemon"
    theirs.write_text(f"@daily {root}/bin/f2b-digest send daily\n")
    os.chown(theirs, 1, 1)
    table.unlink()
    check()
    assert not ran.exists()


# ---- channels


@pytest.mark.parametrize("version", ["2.11", "new"])
def test_ntfy_is_asked_without_a_message(check: Check, config: Path, version: str) -> None:
    """A good token, a bad one, and a server that forgets before the next digest comes; no message is published."""
    with NtfyServer(version) as ntfy:
        given = f'kind = "ntfy"\nurl = "{ntfy.url}"\ntopic = "f2b-check"\n'
        add(config, f'{given}token = "{ntfy.token}"')
        config.chmod(0o600)
        ended = check()
        assert f"channel more: ntfy: {ntfy.url} accepts the login" in ended.out
        (line,) = lines(ended, "warning")
        assert line.startswith("channel more: keeps a message for 12 h, and daily is sent daily (receivers offline")
        config.write_text(config.read_text().replace(ntfy.token, "tk_" + "w" * 29))
        assert "token or user refused (401)" in lines(check(), "error")[0]
        assert ntfy.poll("f2b-check") == []


def test_an_smtp_server_is_asked_without_a_mail(check: Check, config: Path, tmp_path: Path) -> None:
    """TLS, login, NOOP; a wrong password and an unknown certificate are refused."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    with SmtpServer("starttls", authority=authority) as mail:
        add(
            config,
            f'kind = "email"\nfrom = "f2b@example.org"\nto = ["a@example.org"]\nca_file = "ca.pem"\n'
            f'smtp = "smtp://{USER}@127.0.0.1:{mail.port}"\npassword_file = "password"',
        )
        assert "accepts the login" in check().out
        (tmp_path / "password").write_text("wrong")
        assert "535" in lines(check(), "error")[0]
        assert mail.received == []
        assert b"noop\r\n" in mail.wire
        assert b"mail" not in mail.wire.lower()


def test_a_sendmail_that_is_not_there(check: Check, config: Path) -> None:
    """Nothing is mailed to find out."""
    add(config, 'kind = "email"\nfrom = "f2b@example.org"\nto = ["a@example.org"]\nsendmail = "/none/sendmail"')
    assert "/none/sendmail: no such program" in lines(check(), "error")[0]


@pytest.mark.parametrize("kind", ["ntfy", "webhook"])
def test_an_expired_certificate(check: Check, config: Path, tmp_path: Path, kind: str) -> None:
    """The error names the reason."""
    certificates = Certificates()
    certificates.authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def play(connection: Any) -> None:
        with certificates.expired.wrap_socket(connection, server_side=True) as secure:
            silent(secure)

    with RawServer(play) as server:
        topic = 'topic = "x"\n' if kind == "ntfy" else ""
        url = server.url.replace("http", "https")
        add(config, f'kind = "{kind}"\nurl = "{url}/"\n{topic}ca_file = "ca.pem"')
        config.chmod(0o600)
        assert "certificate has expired" in lines(check(), "error")[0]


def test_a_clock_that_the_server_contradicts(check: Check, config: Path) -> None:
    """The Date header of ntfy's response is compared."""

    class Hasty(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() + 600, usegmt=True))
            self.end_headers()
            self.wfile.write(b'{"limits": {"messages_expiry_duration": 259200}, "tokens": [{"token": "tk_x"}]}')

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Hasty) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        add(config, f'kind = "ntfy"\nurl = "http://127.0.0.1:{server.server_port}"\ntopic = "x"')
        ended = check()
        thread.join()
    (line,) = lines(ended, "error")
    assert "this host's clock is" in line
    assert "s slow" in line
    assert "tk_x" not in ended.out


def test_what_is_there_or_not_without_a_network(check: Check, config: Path, tmp_path: Path) -> None:
    """A program, a folder, a socket, a closed port."""
    before = config.read_text()
    for text, words in (
        ('kind = "command"\ncommand = ["/none/program"]', "/none/program: no such program"),
        ('kind = "syslog"\nsocket = "none"', "none: No such file"),
        ('kind = "webhook"\nurl = "http://127.0.0.1:1/hook"', "127.0.0.1:1: Connection refused"),
    ):
        config.write_text(before)
        config.chmod(0o600)
        add(config, text)
        assert words in lines(check(), "error")[0]


# ---- countries


def test_without_a_database_of_addresses_all_is_well(check: Check) -> None:
    """The line says what to install, and warns of nothing."""
    (line,) = (line for line in lines(check(), "ok") if line.startswith("countries: "))
    assert "apt install tor-geoipdb" in line


@pytest.mark.parametrize(("age", "state"), [(700, "ok"), (760, "warning")])
def test_a_database_of_addresses_grows_old(check: Check, root: Path, age: int, state: str) -> None:
    """The one that a digest uses is named with its day; after two years it is a warning."""
    made = time.time() - age * 86400
    file = root / "usr/share/tor/geoip"
    file.parent.mkdir(parents=True)
    file.write_text(f"# Last updated based on a database of {time.strftime('%Y-%m-%d', time.gmtime(made))}\n1,2,AU\n")
    os.utime(file, (made, made))
    (line,) = (line for line in lines(check(), state) if line.startswith("countries: "))
    assert line.startswith(f"countries: tor-geoipdb of {time.strftime('%Y-%m-%d', time.gmtime(made))}")


def test_a_configured_database_that_is_not_there(check: Check, config: Path) -> None:
    """It is named: the digest goes out without countries."""
    config.write_text('geography = ["gone.mmdb"]\n' + config.read_text())
    (line,) = lines(check(), "warning")
    assert "gone.mmdb: No such file" in line


# ---- the ways to show it


def test_json_and_the_test_message(check: Check, config: Path, path: Path, tmp_path: Path) -> None:
    """--send delivers a message that says what it is, and marks nothing."""
    before = query(path, "SELECT * FROM event")
    ended = check("--json", "--send")
    document = json.loads(ended.out)
    assert document["state"] == "error"
    assert {"state": "ok", "what": "test by out", "text": f"sent to {tmp_path}/out", "todo": ""} in document["findings"]
    (mail,) = (tmp_path / "out").glob("*.eml")
    assert "TEST from web1" in mail.read_text()
    assert "test message" in mail.read_text()
    assert query(path, "SELECT * FROM event") == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'delivery'").fetchone() == (0,)


def test_a_test_message_speaks_the_configurations_language(check: Check, config: Path, tmp_path: Path) -> None:
    """As the digests do."""
    config.write_text('language = "fr"\n' + config.read_text())
    check("--send")
    (mail,) = (tmp_path / "out").glob("*.eml")
    page = message_from_bytes(mail.read_bytes(), policy=policy.default).get_body(("html",))
    assert page is not None
    assert 'lang="fr"' in page.get_content()


def test_a_test_message_that_fails(check: Check, config: Path) -> None:
    """The status says so."""
    add(config, 'kind = "command"\ncommand = ["/bin/false"]')
    (line,) = lines(check("--send"), "error")
    assert line.startswith("test by more: to /bin/false: ")


def test_warnings_alone_have_a_status_of_their_own(
    check: Check, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 when all is well, 3 for warnings, 1 for an error."""
    monkeypatch.setattr("f2b_digest.checks.fail2ban.examine", lambda *_: iter(()))
    assert check().status == 0
    path.chmod(0o644)
    assert check().status == 3
    config.write_text(config.read_text().replace('["out"]', "[]"))
    assert check().status == 1
