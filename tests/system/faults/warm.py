"""A process that has imported the program once, and forks for each command: a fork costs less than a start of Python.

As a program it is that process; `Warm` is its other end.
"""

import ctypes
import importlib
import importlib.machinery
import importlib.util
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from f2b_digest import recorder
from tests import ROOT
from tests.support.program import Ended, only_the_database

PATIENCE = 180.0  # seconds until a command counts as hanging
GO = signal.SIGUSR1
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, 2**64 - 1
Trace = Callable[[int], AbstractContextManager[None]]
"""Traces the process of this number while the block lasts."""


class Warm:
    """The warm process; `with` ends it."""

    def __init__(self, output: Path) -> None:
        """Start it; what the commands print goes through files in this folder."""
        self._output = output
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, output],
            cwd=ROOT,
            env=os.environ | {"TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def digest(self, *arguments: str | Path, now: float, trace: Trace | None = None) -> Ended:
        """Run f2b-digest at a given time."""
        return self._run({"digest": [*map(str, arguments)], "now": now}, trace)

    def ban(self, store: Path, before: list[str], traced: list[str], trace: Trace | None = None) -> Ended:
        """Load the action as fail2ban does, ban some addresses, then, traced, others; print those acknowledged."""
        return self._run({"ban": [str(store), before, traced]}, trace)

    def program(self, *arguments: str | Path, trace: Trace | None = None) -> Ended:
        """Run another program."""
        return self._run({"program": [*map(str, arguments)]}, trace)

    def _run(self, job: dict[str, Any], trace: Trace | None) -> Ended:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        process = int(self._line())
        try:
            with trace(process) if trace else nullcontext():
                os.kill(process, GO)
                assert select.select([self._process.stdout], [], [], PATIENCE)[0], f"no end of {job}"
                status = int(self._line())
        except BaseException:
            os.kill(process, signal.SIGKILL)
            raise
        out, err = ((self._output / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(status, out, err)

    def _line(self) -> bytes:
        assert self._process.stdout
        return self._process.stdout.readline()


# ---- the process itself


def _serve(output: Path) -> None:
    for module in ("send", "retry", "prune", "record", "status"):
        importlib.import_module(f"f2b_digest.cli.{module}")
    importlib.import_module("f2b_digest.channels")
    importlib.import_module("_sqlite3")
    # What this host tells takes another number of calls each time, and a fault is found by its number.
    host = importlib.import_module("f2b_digest.host")
    vars(host)["gather"] = only_the_database
    vars(importlib.import_module("f2b_digest.cli.send"))["uptime"] = lambda: 2e9  # this host has always been up
    signal.pthread_sigmask(signal.SIG_BLOCK, {GO})
    while line := sys.stdin.buffer.readline():
        child = os.fork()
        if not child:
            _child(json.loads(line), output)
        _say(child)
        _say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _child(job: dict[str, Any], output: Path) -> None:
    """Do what was asked, and end."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
        if "ban" in job:
            _ban(*job["ban"])
        else:
            _wait()
            if "program" in job:
                os.execvp(job["program"][0], job["program"])
            _digest(job["digest"], job["now"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait() -> None:
    """Wait until strace is attached, which is not an ancestor of this process: Yama wants to be told."""
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(PR_SET_PTRACER_ANY))
    signal.sigwait({GO})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {GO})


def _digest(arguments: list[str], now: float) -> None:
    cli = importlib.import_module("f2b_digest.cli")
    vars(cli)["time"] = SimpleNamespace(time=lambda: now)
    sys.argv = ["f2b-digest", *arguments]
    cli.main()


class _Log(logging.Handler):
    """fail2ban's log, which ends where a ban is not acknowledged."""

    refused = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line, and see whether it says that the ban is in the spool."""
        sys.stderr.write(f"{record.getMessage()}\n")
        self.refused = self.refused or ".spool: " not in record.getMessage()


def _ban(store: str, before: list[str], traced: list[str]) -> None:
    name, file = "f2b-digest", str(Path(recorder.__file__).resolve())
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    log = _Log()
    logging.getLogger("fail2ban").addHandler(log)
    action = module.Action(SimpleNamespace(name="sshd"), name, dbpath=store, host="web1")
    for ip in before:
        _acknowledged(action, ip, log)
    _end_of_burst()
    _wait()
    for ip in traced:
        _acknowledged(action, ip, log)
    _end_of_burst()


def _end_of_burst() -> None:
    """Wait until the recorder has closed the store."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(30)


def _acknowledged(action: Any, ip: str, log: _Log) -> None:
    log.refused = False
    action.ban({"ip": ip, "fid": ip, "time": 1_795_089_600.0, "failures": 5, "bantime": 600})
    if not log.refused:  # not by write(2): strace counts in each thread, and would strike the nth one here, too
        os.pwritev(1, [f"{ip}\n".encode()], os.lseek(1, 0, os.SEEK_END))


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
