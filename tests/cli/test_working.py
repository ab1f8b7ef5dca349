"""What takes long says so on a terminal, in a line that is gone at the end, and nothing where nobody looks."""

import bz2
import gzip
import lzma
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from f2b_digest.fail2ban import files, history
from tests import ROOT
from tests.support.store_making import event, fill

SLOWLY = """
import importlib, sys, time
from f2b_digest.cli import console, main
console.PATIENCE = 0.05
module, name = sys.argv.pop(1).split(":")
holder = importlib.import_module(module)
*way, name = name.split(".")
for each in way:
    holder = getattr(holder, each)
real = getattr(holder, name)
def slowly(*arguments, **more):
    time.sleep(1.5)
    return real(*arguments, **more)
setattr(holder, name, slowly)
main()
"""
"""A program one part of which takes its time; told after a twentieth of a second, and then each second."""
COMMANDS = {
    "find": (("find", "192.0.2.7"), "f2b_digest.inquiry:answer", "Looking up"),
    "preview": (("preview",), "f2b_digest.composition:compose", "Counting the bans"),
    "status": (("status",), "f2b_digest.cli.status:_state", "Reading the store"),
    "send": (("send",), "f2b_digest.delivery:send", "Sending"),
    "import": (("import", "fail2ban.log"), "f2b_digest.cli.importing:write", "Importing"),
}
LINE = "2026-11-19 {hour:02}:00:00,123 fail2ban.actions [1]: NOTICE [sshd] Ban 192.0.2.{last}\n"
CONFIG = """
timezone = "UTC"
store = "bans.sqlite3"
[reports.daily]
every = "day"
channels = ["out"]
[channels.out]
kind = "file"
append = "out"
"""
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def slow(tmp_path: Path) -> Run:
    """Provide a function that runs a slow command, on a terminal or not, and returns its stdout and its stderr."""
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "fail2ban.log").write_text(LINE.format(hour=1, last=9))
    fill(tmp_path / "bans.sqlite3", [event()])

    def run(words: tuple[str, ...], part: str, *, screen: bool) -> tuple[str, str]:
        here, there = pty.openpty() if screen else os.pipe()
        environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
        run = [sys.executable, "-c", SLOWLY, part, "--config", "config.toml", *words]
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=there, cwd=tmp_path, env=environment) as program:
            os.close(there)
            said = b"".join(iter(lambda: _read(here), b""))
            out = program.stdout.read() if program.stdout else b""
        os.close(here)
        return out.decode(), said.decode()

    return run


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # so says Linux when nobody has a terminal's other side any more
        return b""


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_takes_long_says_so_on_a_terminal(slow: Run, command: str) -> None:
    """With the seconds; the line is gone at the end."""
    words, part, what = COMMANDS[command]
    _, said = slow(words, part, screen=True)
    assert re.search(rf"\r\x1b\[K{what}: (\d+%, )?0 s \r\x1b\[K{what}: (\d+%, )?1 s \r\x1b\[K", said), said


@pytest.mark.slow
def test_nothing_is_said_where_nobody_looks(slow: Run) -> None:
    """As under cron, whose mail it would be."""
    words, part, _ = COMMANDS["send"]
    assert slow(words, part, screen=False)[1] == ""


@pytest.mark.slow
def test_show_and_check_say_so_too(slow: Run) -> None:
    """A digest's events are counted anew for `--all`; each examination that takes long is told of by itself."""
    slow(("send",), "f2b_digest.delivery:send", screen=False)
    _, said = slow(("show", "--all"), "f2b_digest.store.report:Bans.counts", screen=True)
    assert "\r\x1b[KCounting the bans: 0 s " in said
    out, said = slow(("check",), "f2b_digest.cli.check:checks.look", screen=True)
    assert "\r\x1b[KExamining: 0 s " in said
    assert "f2b-digest" in out


@pytest.mark.parametrize("packed", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_an_import_knows_how_much_of_its_files_is_read(tmp_path: Path, packed: Callable[[bytes], bytes]) -> None:
    """By their bytes as they are, packed; another process that was forked before knows it, too."""
    path = tmp_path / "fail2ban.log"
    lines = [LINE.format(hour=n % 24, last=n % 250) + os.urandom(40).hex() + "\n" for n in range(20_000)]
    path.write_bytes(packed("".join(lines).encode()))
    (held,) = history.hold([path], lambda: sys.stdin.buffer)
    asked, answered = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        while os.read(asked[0], 1) == b"?":
            os.write(answered[1], f"{files.share_read([held]) or 0:.6f}\n".encode())
        os._exit(0)
    shares = []
    for number, _ in enumerate(files.lines_of(held)):
        if number % 10_000 == 9_999:
            os.write(asked[1], b"?")
            shares.append(float(os.read(answered[0], 32)))
    os.write(asked[1], b".")
    os.waitpid(child, 0)
    assert shares == sorted(shares)
    assert 0.1 < shares[0] < 0.7
    assert shares[-1] > 0.85
    assert files.share_read([tmp_path / "unknown"]) is None
