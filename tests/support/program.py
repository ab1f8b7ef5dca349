"""The program as tests run it: in this process, in a forked child, or as cron would. Fixtures are in conftest.py."""

import io
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from f2b_digest import host, privileges
from f2b_digest.cli import main
from f2b_digest.config import Configuration
from f2b_digest.fail2ban import server
from f2b_digest.host import logins


def let_everybody_enter(path: Path) -> None:
    """Open the folders above a path of pytest's, which are root's alone."""
    for folder in path.parents:
        if folder == Path(tempfile.gettempdir()):
            return
        folder.chmod(folder.stat().st_mode | 0o055)


@dataclass(frozen=True)
class Ended:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]
Result = TypeVar("Result")


def only_the_database(configuration: Configuration, *_: object) -> host.Gathered:
    """Return the information of a host that has fail2ban's database and nothing else."""
    database = host.Snapshot(configuration.fail2ban_database)
    return host.Gathered(server.UNKNOWN, logins.Raw(), database, (), frozenset())


def run(*arguments: str | Path) -> Ended:
    """Run the program in this process."""
    out, err, status = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", "\n", write_through=True),
        io.StringIO(),
        0,
    )
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["f2b-digest", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return Ended(status, out.buffer.getvalue().decode("utf-8", "backslashreplace"), err.getvalue())


BECOME = privileges.become
HANGS = 90.0
"""Seconds."""


def forked(*arguments: str | Path) -> Ended:
    """Run the program in a child of this process: it may become a store's owner there."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        vars(privileges)["become"] = BECOME
        try:
            said = json.dumps(astuple(run(*arguments))).encode()
        except BaseException:  # a bug of the program
            said = json.dumps((1, "", traceback.format_exc())).encode()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(said)
        os._exit(0)
    os.close(writer)
    hangs = not select.select([reader], [], [], HANGS)[0]
    if hangs:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert not hangs, f"{arguments} hangs"
    return Ended(*json.loads(said))


def as_nobody(work: Callable[[], Result]) -> Result:
    """Call a function with the rights of the user nobody, while this process is root."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        return work()
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def program(*arguments: str | bytes | Path, stdin: bytes = b"", **environment: str) -> Ended:
    """Run the program as cron or a script would, with warnings as errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "f2b_digest", *arguments],
        input=stdin, capture_output=True, check=False, timeout=HANGS,
        env={**os.environ, "F2B_DIGEST_CONFIG": "", **environment},
    )  # fmt: skip
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())
