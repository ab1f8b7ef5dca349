"""Tests of the syslog channel: real sockets of both kinds, and a real rsyslog that writes down what it understood."""

import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from f2b_digest.channels.syslog import FACILITIES, LEVELS, Syslog
from f2b_digest.errors import DeliveryError, PartlyDeliveredError
from f2b_digest.model.message import Content, Message, Stamp
from tests.support import parts

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="log", host="web1", made_at=1_700_000_000.0, bans=118)
TEXT = "daily: 118 bans\n\ndaily: sshd: 84 bans é\n"
RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log")
template(name="seen" type="string" string="%syslogfacility-text%.%syslogseverity-text% %programname%:%msg%\\n")
action(type="omfile" file="{folder}/seen" template="seen")
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Provide a folder whose name is short enough for a socket in it (107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="f2b-") as name:
        yield Path(name)


def log(folder: Path, **settings: object) -> Syslog:
    """Return the channel as a configuration makes it."""
    return Syslog.model_validate({"kind": "syslog", "socket": str(folder / "log")} | settings)


def message(channel: Syslog, text: str = TEXT) -> Message:
    """Return a digest for the log."""
    body = channel.pack(Content({"syslog/lines.txt": text}), STAMP)
    return Message(channel.recipients[0], body, channel.identity(STAMP))


@contextmanager
def daemon(folder: Path, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """Listen as a syslog daemon does."""
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(folder / "log"))
        listener.settimeout(10)
        yield listener


# ---- sockets


def test_each_line_is_a_datagram_with_its_priority(folder: Path) -> None:
    """RFC 3164: <facility * 8 + level>, the program, the line; empty lines are none."""
    channel = log(folder)
    with daemon(folder, socket.SOCK_DGRAM) as listener:
        channel.deliver(message(channel))
        got = [listener.recv(65536).decode() for _ in range(2)]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.recv(65536)
    assert got == ["<29>f2b-digest: daily: 118 bans", "<29>f2b-digest: daily: sshd: 84 bans é"]


def test_a_daemon_with_a_stream_gets_a_line_each(folder: Path) -> None:
    """Some syslog daemons listen on a stream; the channel finds out."""
    channel = log(folder)
    got = b""
    with daemon(folder, socket.SOCK_STREAM) as listener:
        listener.listen()
        channel.deliver(message(channel))
        with listener.accept()[0] as connection:
            while piece := connection.recv(65536):
                got += piece
    assert got.decode() == "<29>f2b-digest: daily: 118 bans\n<29>f2b-digest: daily: sshd: 84 bans é\n"


@pytest.mark.parametrize(("urgent_from", "priority"), [(118, 16 * 8 + 2), (119, 16 * 8 + 6)])
def test_the_level_follows_the_digests_weight(urgent_from: int, priority: int, folder: Path) -> None:
    """From this many bans on it is the urgent one."""
    channel = log(folder, facility="local0", level="info", urgent_from=urgent_from, urgent_level="crit")
    assert message(channel).body.startswith(f"<{priority}>".encode())


def test_a_line_keeps_to_what_old_daemons_take(folder: Path) -> None:
    """1,024 bytes, not characters, with what stands before it; no character is cut in two."""
    line = message(log(folder), "é" * 2000).body.rstrip(b"\n")
    assert 890 < len(line) <= 1000
    assert line.decode().endswith("é…")


def test_hostile_lines_forge_no_line_of_the_log(folder: Path) -> None:
    """Whatever a template lets through is one line without control characters."""
    body = message(log(folder), "a\rb\x0b<13>root: c\x85d\u2028e\x1b[2J\0\n").body.decode()
    assert all(line.startswith("<29>f2b-digest: ") for line in body.splitlines())
    assert body.replace("\n", "").isprintable()


# ---- trouble


def test_no_daemon_is_tried_again(folder: Path) -> None:
    """A missing socket, a dead one, and a path that no socket can have; each is named."""
    channel = log(folder)
    with pytest.raises(DeliveryError, match="No such file") as missing:
        channel.deliver(message(channel))
    with daemon(folder, socket.SOCK_DGRAM):
        pass
    with pytest.raises(DeliveryError, match="Connection refused") as dead:
        channel.deliver(message(channel))
    far = log(folder / ("x" * 200))
    with pytest.raises(DeliveryError, match="too long") as long:
        far.deliver(message(far))
    assert [caught.value.permanent for caught in (missing, dead, long)] == [False] * 3
    assert str(folder / "log") in dead.value.reason


def test_a_daemon_that_stops_reading_gets_only_the_rest_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it took is not repeated, and nobody waits for it for ever."""
    monkeypatch.setattr("f2b_digest.channels.syslog.TIMEOUT", 0.2)
    channel = log(folder)
    lines = [f"line {number} {'x' * 500}" for number in range(5000)]
    whole = message(channel, "\n".join(lines))
    got = []
    with daemon(folder, socket.SOCK_DGRAM) as listener:
        before = time.monotonic()
        with pytest.raises(PartlyDeliveredError) as caught:
            channel.deliver(whole)
        assert time.monotonic() - before < 5
        assert (caught.value.permanent, caught.value.in_doubt) == (False, False)
        rest = caught.value.remaining
        assert rest
        sender = threading.Thread(
            target=channel.deliver, args=(Message(whole.recipient, rest, whole.identity, in_doubt=False),)
        )
        sender.start()
        for _ in lines:
            got.append(listener.recv(65536) + b"\n")
        sender.join()
    assert b"".join(got) == whole.body


# ---- a real daemon


@pytest.fixture
def rsyslog(folder: Path) -> Iterator[Path]:
    """Run rsyslog on its own socket; give the file that it writes."""
    program = parts.program("rsyslogd", "apt install rsyslog")
    (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder))
    command: list[str | Path] = [program, "-n", "-f", folder / "rsyslog.conf", "-i", folder / "pid"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        try:
            until((folder / "log").exists)
            yield folder / "seen"
        finally:
            running.terminate()


def until(true: Callable[[], bool], patience: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_rsyslog_understands_facility_level_program_and_text(rsyslog: Path) -> None:
    """For each facility and level under the name that it has there."""
    folder, expected = rsyslog.parent, []
    names = [(facility, "notice") for facility in FACILITIES] + [("daemon", level) for level in LEVELS]
    for facility, level in names:
        channel = log(folder, facility=facility, level=level)
        channel.deliver(message(channel))
        expected += [f"{facility}.{level} f2b-digest: {line}" for line in TEXT.splitlines() if line]
    until(lambda: rsyslog.exists() and rsyslog.read_bytes().count(b"\n") == len(expected))
    assert rsyslog.read_text().splitlines() == expected
