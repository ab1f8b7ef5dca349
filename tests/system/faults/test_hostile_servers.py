"""Servers that answer without end, slowly, in bombs, or not as agreed: in time, in little memory, said in a line."""

import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import raw_server
from tests.support.figures import Keep
from tests.support.raw_server import Play, RawServer, WebServer, raw
from tests.support.store_making import event, fill, query

DEADLINE, GRACE = 4.0, 1.0
"""Seconds, in place of two minutes."""
pytestmark = pytest.mark.slow
PROGRAM = f"""
import atexit, re, resource, socket, sys, time
from pathlib import Path
from f2b_digest.delivery import attempts
from f2b_digest.cli import main
from f2b_digest.isolation import Children
attempts.DEADLINE, attempts.GRACE = {DEADLINE}, {GRACE}
kept, begun, start, end, resolve = sys.argv[1], {{}}, Children.start, attempts._Run.end, socket.getaddrinfo
def weigh():
    own = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Path(kept + ".peak").write_text(str(max(int(own), children)))
atexit.register(weigh)
def started(self, key, work, **limits):
    begun[key[0].id] = time.monotonic()
    start(self, key, work, **limits)
def ended(self, finished):
    with open(kept, "a") as took:
        print(time.monotonic() - begun[finished.key[0].id], file=took)
    end(self, finished)
def twelve(host, *rest, **more):
    return 12 * resolve("127.0.0.1", *rest, **more) if host == "twelve.example" else resolve(host, *rest, **more)
Children.start, attempts._Run.end, socket.getaddrinfo = started, ended, twelve
sys.argv[1:] = sys.argv[2:]
main()
"""
"""`f2b-digest` with a shorter deadline and a name of twelve addresses, which keeps how long each attempt took."""


def repeated(start: bytes, more: bytes) -> Play:
    """Send something again and again."""

    def play(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(more * (1 + 65536 // len(more)))

    return play


def after(answers: bytes, play: Play) -> Play:
    """Take what the client says after each answer; then play."""

    def whole(connection: socket.socket) -> None:
        for answer in answers.splitlines(keepends=True):
            connection.sendall(answer)
            connection.recv(65536)
        play(connection)

    return whole


OK = b"HTTP/1.1 200 OK\r\n"
BOMB = b"".join(gzip.compress(b"[" * 1_000_000, 9) for _ in range(300))
MAIL: dict[str, Play] = {
    "banner without end": repeated(b"", b"220-hello\r\n"),
    "line without end": raw_server.endless(b"220 "),
    "EHLO without end": after(b"220 mx\r\n", repeated(b"", b"250-SIZE\r\n")),
    "drip": raw_server.dripping(b"220-"),
    "silence": raw_server.silent,
    "refusal without end": after(b"220 mx\r\n250 mx\r\n", repeated(b"", b"454-no\r\n")),
}
WEB: dict[str, Play] = {
    "head without end": repeated(OK, b"X-A: b\r\n"),
    "header without end": raw_server.endless(OK + b"X-A: "),
    "body without end": raw_server.endless(OK + b"\r\n"),
    "one chunk without end": raw_server.endless(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n"),
    "103 without end": repeated(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "100 without end": repeated(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 and no more": raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
    "a negative chunk": raw(OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk of no number": raw(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
    "a bomb": raw(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "drip in the head": raw_server.dripping(OK + b"X-A: "),
    "drip in the body": raw_server.dripping(OK + b"\r\n"),
    "silence": raw_server.silent,
}
REPORTS: dict[str, Play] = {
    "report: deep JSON": raw(OK + b"Content-Length: 4000000\r\n\r\n" + b"[" * 4_000_000),
    "report: body without end": raw_server.endless(OK + b"\r\n"),
    "report: a bomb": raw(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB),
    "report: thousands of errors": raw(
        b"HTTP/1.1 422 No\r\n\r\n" + json.dumps({"errors": [{"detail": "x" * 1000}] * 3500}).encode()
    ),
}


@pytest.mark.alone
def test_hostile_servers(path: Path, tmp_path: Path, figures: Keep) -> None:
    """Each attempt ends by its deadline, in at most 200 MB, with a line that is no bug of ours; nothing is lost."""
    took = tmp_path / "took"
    with ExitStack() as stack:
        config = _configure(path, tmp_path, stack)
        fill(path, [event(ip="9.9.9.9", users=["root"])])
        command = [sys.executable, "-c", PROGRAM, str(took), "--config", str(config), "send"]
        begun = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sender:
            assert sender.stderr
            said = sender.stderr.read()
        seconds = time.monotonic() - begun
    rows = query(path, "SELECT channel, status, error FROM delivery")
    late = max(map(float, took.read_text().split())) - DEADLINE
    peak = int(Path(f"{took}.peak").read_text()) / 1024
    figures(
        "hostile servers",
        f"{len(rows)} tried side by side in {seconds:.1f} s; peak {peak:.0f} MB; the longest attempt ended "
        f"{late:+.2f} s from its deadline; failed as a bug: {sum('a bug in' in error for _, _, error in rows)}",
    )
    assert len(rows) == len(MAIL) + len(WEB) + len(REPORTS) + 2
    assert {(name, status) for name, status, _ in rows if status == "sent"} == set()
    assert [error for _, _, error in rows if "a bug in" in error] == []
    assert "Traceback" not in said
    assert peak <= 200
    assert late < 1


def _configure(path: Path, folder: Path, stack: ExitStack) -> Path:
    channels: dict[str, str] = {}
    servers: tuple[tuple[dict[str, Play], Callable[[Play], RawServer], str], ...] = (
        (MAIL, RawServer, 'kind = "email"\nfrom = "f@example.org"\nto = ["a@example.org"]\nsmtp = "smtp://{}"'),
        (WEB, WebServer, 'kind = "ntfy"\ntopic = "t"\nurl = "http://{}"'),
        (REPORTS, WebServer, 'kind = "abuseipdb"\nkey = "k"\nurl = "http://{}"'),
    )
    for plays, make, settings in servers:
        for play in plays.values():
            port = stack.enter_context(make(play)).port
            channels[f"c{len(channels)}"] = settings.format(f"127.0.0.1:{port}")
    jammed = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    address = jammed.getsockname()
    for _ in range(2):  # the queue is full: whoever connects next gets no answer
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(address)
    for _, _, settings in servers[:2]:
        channels[f"c{len(channels)}"] = settings.format(f"twelve.example:{address[1]}")
    tables = "".join(f"[channels.{name}]\n{text}\n" for name, text in channels.items())
    config = folder / "config.toml"
    config.write_text(f'store = "{path}"\n[reports.daily]\nchannels = {json.dumps(list(channels))}\n{tables}')
    config.chmod(0o600)
    return config


def test_an_early_hint_is_not_the_answer(path: Path, tmp_path: Path) -> None:
    """103 announces; the 200 behind it is what counts."""
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2 + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with WebServer(raw(answer)) as server:
        config = tmp_path / "config.toml"
        config.write_text(
            f'store = "{path}"\n[reports.daily]\nchannels = ["out"]\n'
            f'[channels.out]\nkind = "webhook"\nurl = "{server.url}"\n'
        )
        config.chmod(0o600)
        fill(path, [event()])
        subprocess.run([sys.executable, "-m", "f2b_digest", "--config", config, "send"], check=True)
    assert query(path, "SELECT status FROM delivery") == [("sent",)]
