"""Running programs of this host with a deadline and an output limit. Output is bytes and not parsed here."""

import logging
import os
import select
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from f2b_digest.fail2ban.client import CRON

log = logging.getLogger(__name__)
CHUNK = 65536


class Output(NamedTuple):
    """A program's output, in complete lines."""

    text: bytes
    complete: bool
    """Whether it ended by itself, or is not installed; its exit status is ignored (1 if nothing was found)."""


def output(command: Sequence[str], deadline: float, most: int) -> Output:
    """Run a program with cron's environment, and kill it after so many seconds or bytes."""
    try:
        program = subprocess.Popen(  # noqa: S603 - fixed words, no shell
            command, env=dict(CRON), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd="/",
        )  # fmt: skip
    except FileNotFoundError:
        return Output(b"", True)
    except OSError as error:
        log.info("%s: %s", command[0], error.strerror)
        return Output(b"", False)
    with program:
        try:
            text, complete = _read(program, time.monotonic() + deadline, most)
        finally:
            program.kill()
    log.info("%s said %s bytes%s", command[0], f"{len(text):,}", "" if complete else " and was ended")
    return Output(text if complete else text[: text.rfind(b"\n") + 1], complete)


def _read(program: "subprocess.Popen[bytes]", until: float, most: int) -> tuple[bytes, bool]:
    assert program.stdout
    text = bytearray()
    while len(text) < most and (left := until - time.monotonic()) > 0:
        if select.select([program.stdout], [], [], left)[0]:
            chunk = os.read(program.stdout.fileno(), CHUNK)
            if not chunk:
                return bytes(text), True
            text += chunk
    return bytes(text), False
