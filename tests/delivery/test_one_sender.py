"""One sender at a time: the kernel's lock on the store's folder, and the store's unique key."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from f2b_digest.store.connection import sender_lock
from tests.support.parts import program as system_program
from tests.support.program import Command
from tests.support.store_making import event, fill, query

PATIENCE = 60.0  # seconds until a test gives up waiting
SLOW_SENDMAIL = """#!/bin/sh
cd "$(dirname "$0")"
for to; do :; done
echo "$to" >>tried
while [ -e hold ]; do sleep 0.02; done
cat >/dev/null
echo "$to" >>arrived
"""
HOLD_LOCK = """
import fcntl, os, sys, time
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(folder, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""
TRY_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


class Cron:
    """Programs that run at once, with a sendmail that holds each delivery as long as the file `hold` is there."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Write the configuration: `daily` to admin, `weekly` to boss."""
        self.folder, self._stack = folder, stack
        self.store = folder / "bans.sqlite3"
        sendmail = folder / "sendmail"
        sendmail.write_text(SLOW_SENDMAIL)
        sendmail.chmod(0o755)
        mail = f'kind = "email"\nfrom = "f2b@example.org"\nsendmail = "{sendmail}"'
        (folder / "config.toml").write_text(
            f'store = "bans.sqlite3"\nhost = "web1"\n[reports.daily]\nchannels = ["mail"]\n'
            f'[reports.weekly]\nchannels = ["boss"]\n[channels.mail]\n{mail}\nto = ["admin@example.org"]\n'
            f'[channels.boss]\n{mail}\nto = ["boss@example.org"]\n'
        )
        (folder / "hold").touch()
        stack.callback((folder / "hold").unlink, missing_ok=True)  # or a killed sender's sendmail would wait for ever
        fill(self.store, [event()])

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program; it is killed at the end of the test if it still runs."""
        command = [sys.executable, "-W", "error", "-m", "f2b_digest", "--config", str(self.folder / "config.toml")]
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self._stack.callback(reap, process)
        return process

    def start_held(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program, and wait until a delivery is in progress."""
        before = len(self.tried)
        process = self.start(*arguments)
        wait(lambda: len(self.tried) > before)
        return process

    @property
    def tried(self) -> list[str]:
        """Return the recipients to whom a delivery began."""
        return lines(self.folder / "tried")

    @property
    def arrived(self) -> list[str]:
        """Return the recipients whose delivery ended well."""
        return lines(self.folder / "arrived")

    def let_go(self) -> None:
        """End the held deliveries."""
        (self.folder / "hold").unlink()


def lines(file: Path) -> list[str]:
    """Return a file's lines, none if there is no file."""
    return file.read_text().splitlines() if file.exists() else []


def reap(process: subprocess.Popen[bytes]) -> None:
    """End a process, with those that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait(condition: object) -> None:
    """Wait until a condition holds."""
    assert callable(condition)
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait for a program's end; return its status and what it printed."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def waits(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a program still runs after a time in which it would have ended."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.2)
    return process.returncode is None


@pytest.fixture
def cron(tmp_path: Path) -> Iterator[Cron]:
    """Provide a host where programs run at once."""
    with ExitStack() as stack:
        yield Cron(tmp_path, stack)


@pytest.mark.slow
def test_a_second_send_waits_and_finds_nothing_left(cron: Cron) -> None:
    """Both exit with 0 and print nothing; there is one digest and one mail."""
    first = cron.start_held("send", "daily")
    second = cron.start("send", "daily")
    assert waits(second)
    cron.let_go()
    assert end(first) == end(second) == (0, b"", b"")
    assert cron.arrived == ["admin@example.org"]
    assert query(cron.store, "SELECT report, bans FROM digest") == [("daily", 1)]


@pytest.mark.slow
def test_a_weekly_send_is_not_skipped_because_a_daily_one_is_at_work(cron: Cron) -> None:
    """Cron begins both at midnight; the second comes after the first."""
    first = cron.start_held("send", "daily")
    second = cron.start("send", "weekly")
    assert waits(second)
    assert query(cron.store, "SELECT report FROM digest") == [("daily",)]
    cron.let_go()
    assert end(first) == end(second) == (0, b"", b"")
    assert cron.arrived == ["admin@example.org", "boss@example.org"]


@pytest.mark.slow
def test_a_ban_is_recorded_while_a_send_is_held(cron: Cron) -> None:
    """The lock is the senders' alone."""
    first = cron.start_held("send", "daily")
    assert end(cron.start("record", "--jail", "sshd", "--ip", "192.0.2.8")) == (0, b"", b"")
    assert query(cron.store, "SELECT count(*) FROM event") == [(2,)]
    cron.let_go()
    assert end(first)[0] == 0


@pytest.mark.slow
def test_a_reader_does_not_wait_for_a_send(cron: Cron) -> None:
    """Status, preview and history answer at once."""
    first = cron.start_held("send", "daily")
    for command in ("status", "preview", "history"):
        assert end(cron.start(command))[0] == 0
    assert first.poll() is None


@pytest.mark.slow
def test_a_retry_beside_a_send_ends_at_once_in_silence(cron: Cron) -> None:
    """Even where something is due: the send will do it."""
    first = cron.start_held("send", "daily")
    query(cron.store, "UPDATE delivery SET next_at = 0")
    assert end(cron.start("retry")) == (0, b"", b"")
    assert first.poll() is None
    assert cron.tried == ["admin@example.org"]


@pytest.mark.slow
@pytest.mark.parametrize("command", [("resend", "1"), ("prune",)], ids=" ".join)
def test_whoever_writes_waits_for_a_send(cron: Cron, command: tuple[str, ...]) -> None:
    """A copy, or a prune, comes after it."""
    first = cron.start_held("send", "daily")
    second = cron.start(*command)
    assert waits(second)
    cron.let_go()
    assert end(first)[0] == end(second)[0] == 0


@pytest.mark.slow
def test_a_killed_sender_frees_the_lock_at_once(cron: Cron) -> None:
    """Nothing is left that somebody would have to remove; the delivery is tried again when it is due."""
    first = cron.start_held("send", "daily")
    second = cron.start("send", "weekly")
    assert waits(second)
    os.kill(first.pid, signal.SIGKILL)
    wait(lambda: "boss@example.org" in cron.tried)
    cron.let_go()
    assert end(second) == (0, b"", b"")
    assert query(cron.store, "SELECT recipient, status FROM delivery ORDER BY id") == [
        ("admin@example.org", "deferred"),
        ("boss@example.org", "sent"),
    ]
    assert end(cron.start("retry")) == (0, b"", b"")  # not due yet
    query(cron.store, "UPDATE delivery SET next_at = 0")
    assert end(cron.start("retry")) == (0, b"", b"")
    assert cron.arrived.count("admin@example.org") >= 1


@pytest.mark.slow
def test_a_sender_that_waits_too_long_says_so(cron: Cron, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line and status 75: something hangs, and cron will run it again."""
    cron.start_held("send", "daily")
    monkeypatch.setattr("f2b_digest.cli.send.PATIENCE", 0.2)
    ended = f2b_digest("--config", cron.folder / "config.toml", "send", "weekly")
    assert (ended.status, ended.out, ended.err.count("\n")) == (75, "", 1)
    assert f"another send has held {cron.store}" in ended.err


def test_without_the_lock_the_store_still_takes_one_digest(
    cron: Cron, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks: two senders compose the same bans, and one of them seals."""
    monkeypatch.setattr("f2b_digest.cli.send.sender_lock", lambda *_: contextlib.nullcontext(True))
    from f2b_digest import composition  # noqa: PLC0415 - as it is before the patch

    compose, config = composition.compose, cron.folder / "config.toml"
    cron.let_go()

    def slowly(*arguments: object) -> object:
        composed = compose(*arguments)  # type: ignore[arg-type]
        monkeypatch.setattr(composition, "compose", compose)
        assert f2b_digest("--config", config, "send", "daily").status == 0  # the faster one
        return composed

    monkeypatch.setattr(composition, "compose", slowly)
    ended = f2b_digest("--config", config, "send", "daily")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert query(cron.store, "SELECT report, after_id, bans FROM digest") == [("daily", 0, 1)]
    assert cron.arrived == ["admin@example.org"]


# ---- other users


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Provide a folder that belongs to nobody and that only its owner and root may enter."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "store").mkdir(mode=0o700)
        os.chown(folder / "store", 65534, 65534)
        yield folder / "store"


def as_nobody(code: str, folder: Path) -> list[str]:
    """Return a command that runs Python code as nobody, on the system's Python, which nobody can read."""
    setpriv = system_program("setpriv", "apt-get install util-linux")
    return [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", code, str(folder)]


def test_nobody_keeps_root_out(shared_folder: Path) -> None:
    """A send by the folder's owner is one that root's send waits for."""
    with subprocess.Popen(as_nobody(HOLD_LOCK, shared_folder), stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        with sender_lock(shared_folder / "bans.sqlite3", 0) as alone:
            assert not alone
        holder.kill()
        holder.wait()
        with sender_lock(shared_folder / "bans.sqlite3", 0) as alone:
            assert alone


def test_root_keeps_nobody_out(shared_folder: Path) -> None:
    """And vice versa; root leaves no file that nobody could not lock."""
    attempt = as_nobody(TRY_LOCK, shared_folder)
    with sender_lock(shared_folder / "bans.sqlite3", 0) as alone:
        assert alone
        assert b"BlockingIOError" in subprocess.run(attempt, capture_output=True, check=False).stderr
    assert subprocess.run(attempt, capture_output=True, check=False).returncode == 0
    assert list(shared_folder.iterdir()) == []
