"""One program run to its end, without a shell, for the channels that hand a message to a program."""

import errno
import os
import pwd
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from f2b_digest.errors import DeliveryError

SCARCE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY, errno.EIO})
"""Why a program does not start today, though it stands where it should."""
WORDS_LIMIT = 4096
"""Bytes that are kept of what a program says; the rest is read and forgotten."""
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
        raise DeliveryError(f"{program}: there is no such program that this user can run", permanent=True)
    return path


def run(command: Sequence[str], given: bytes, variables: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Run a program with something on its standard input; return its exit status and what it said on standard error.

    A negative status is the number of the signal that ended it. It, and what it started, is killed after `timeout`
    seconds. Raises DeliveryError if it does not start, or does not end.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables,
            start_new_session=True,
        )  # fmt: skip
    except TimeoutError:
        raise
    except OSError as error:
        passes = error.errno in SCARCE
        raise DeliveryError(f"{command[0]}: {error.strerror}", permanent=not passes) from None
    with process:
        try:
            said = _talk(process, given, timeout)
        except subprocess.TimeoutExpired:
            reason = f"{command[0]}: no end after {timeout:g} s"
            raise DeliveryError(reason, permanent=False, in_doubt=True) from None
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said.decode("utf-8", "replace").strip() or "(it said nothing)"


def _talk(process: subprocess.Popen[bytes], given: bytes, timeout: float) -> bytes:
    """Feed a program until it ends; return the beginning of what it said. Raises TimeoutExpired.

    Not by communicate(): that keeps all that a program says, and waits for children that it left behind.
    """
    assert process.stdin
    assert process.stderr
    end, said, rest = time.monotonic() + timeout, b"", memoryview(given)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdin, selectors.EVENT_WRITE)
        ready.register(process.stderr, selectors.EVENT_READ)
        while ready.get_map() and (left := end - time.monotonic()) > 0:
            events = ready.select(min(left, GLANCE))
            for key, _ in events:
                if key.fileobj is process.stderr:
                    piece = os.read(key.fd, 65536)
                    said += piece[: WORDS_LIMIT - len(said)]
                    if not piece:
                        ready.unregister(process.stderr)
                else:
                    rest = rest[_fed(key.fd, rest) :]
                    if not rest:
                        ready.unregister(process.stdin)
                        process.stdin.close()
            if not events and process.poll() is not None:
                break
    process.wait(max(0.0, end - time.monotonic()))
    return said


def _fed(descriptor: int, rest: memoryview) -> int:
    """Return how many bytes a program took: all, where it wants no more."""
    try:
        return os.write(descriptor, rest)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(rest)


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
