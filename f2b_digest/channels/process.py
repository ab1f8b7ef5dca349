"""One program run to its end, without a shell, for the channels that hand a message to a program."""

import errno
import os
import pwd
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from f2b_digest.errors import DeliveryError

SCARCE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Why a program does not start today, though it stands where it should."""


def environment() -> dict[str, str]:
    """Return what a program needs and cron does not always give; nothing of ours, so that no secret gets there."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user without an account
        home = "/"
    return {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": home}


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
    except OSError as error:
        passes = error.errno in SCARCE
        raise DeliveryError(f"{command[0]}: {error.strerror}", permanent=not passes) from None
    with process:
        try:
            said = process.communicate(given, timeout=timeout)[1]
        except subprocess.TimeoutExpired:
            if process.poll() is None:
                reason = f"{command[0]}: no end after {timeout:g} s"
                raise DeliveryError(reason, permanent=False, in_doubt=True) from None
            said = b""  # it ended, but a child that it left behind keeps its output open
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said.decode("utf-8", "replace").strip() or "(it said nothing)"


def how_it_ended(status: int) -> str:
    """Return an exit status in words."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"
