"""One program run to its end, without a shell, for the channels that hand a message to a program."""

import errno
import os
import pwd
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import BinaryIO

from f2b_digest import isolation
from f2b_digest.errors import DeliveryError

SCARCE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.EIO})
"""Why a program does not start today, though it stands where it should."""
WORDS_LIMIT = 4096
"""Bytes kept of a program's output; the rest is read and discarded."""
GLANCE = 0.2
"""Seconds of silence after which we look whether a program has ended whose output is still open."""


def environment() -> dict[str, str]:
    """Return what a program needs and cron does not always give; nothing of ours, so that no secret gets there."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user without an account
        home = "/"
    return {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": home}


def find(program: str) -> str:
    """Return where a program is that can be run. Raises DeliveryError."""
    path = shutil.which(program, path=environment()["PATH"])
    if path is None:
        raise DeliveryError(f"{program}: no such program, or not executable by this user", permanent=True)
    return path


def run(command: Sequence[str], given: bytes, variables: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run a program with something on its standard input; return its exit status and what it said on standard error.

    Its standard input is a whole file: if this process is killed, the program does not take a part for all of it. A
    negative status is the number of the signal that ended it. It, and what it started, is killed after `timeout`
    seconds. Raises DeliveryError if it does not start, or does not end.
    """
    try:
        with _file(given) as stdin, isolation.without_limit():
            process = subprocess.Popen(  # noqa: S603 - the admin's own words, no shell
                command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables,
                process_group=0,
            )  # fmt: skip
    except OSError as error:
        passes = error.errno in SCARCE
        raise DeliveryError(f"{command[0]}: {error.strerror}", permanent=not passes) from None
    with process:
        try:
            said = _listen(process, timeout)
        except subprocess.TimeoutExpired:
            reason = f"{command[0]}: timed out after {timeout:g} s"
            raise DeliveryError(reason, permanent=False, in_doubt=True, unreachable=True) from None
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said.decode("utf-8", "replace").strip() or "(no output)"


def _file(content: bytes) -> BinaryIO:
    """Return a file that has no name, at its beginning."""
    file = os.fdopen(os.memfd_create("message"), "r+b")
    file.write(content)
    file.seek(0)
    return file


def _listen(process: subprocess.Popen[bytes], timeout: float) -> bytes:
    """Wait until a program ends; return the beginning of its output. Raises TimeoutExpired.

    Not by communicate(): that keeps all that a program says, and waits for children that it left behind.
    """
    assert process.stderr
    end, said = time.monotonic() + timeout, b""
    poll = select.poll()
    poll.register(process.stderr, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        if poll.poll(1000 * min(left, GLANCE)):
            piece = os.read(process.stderr.fileno(), 65536)
            said += piece[: WORDS_LIMIT - len(said)]
            if not piece:
                break
        elif process.poll() is not None:
            break
    process.wait(max(0.0, end - time.monotonic()))
    return said


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
