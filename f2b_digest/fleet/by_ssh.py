"""The door of a hub: ssh, which runs `f2b-digest fleet receive` there whatever is asked for. Its calls: see `receive`.

On disk the key is in fleet.toml only: ssh reads it, and the hub's own key, from this process's memory.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet.credential import Credential
from f2b_digest.fleet.deadline import TooLongError, deadline
from f2b_digest.fleet.door import Answer, passes
from f2b_digest.store import Chain, End

DEADLINE = 70
"""Seconds for the connection, and for an answer."""
ENDING = 3.0
"""Seconds that ssh has to end by itself."""
MOST_ANSWER = 65536
"""Bytes of an answer."""
ALIAS = "f2b-digest-hub"
"""The name under which the hub's key is known, whatever its address."""
OPTIONS = (
    "BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "UpdateHostKeys=no",
    "CheckHostIP=no", f"HostKeyAlias={ALIAS}", "IdentitiesOnly=yes", "IdentityAgent=none",
    "PreferredAuthentications=publickey", "ClearAllForwardings=yes", "ControlMaster=no", "ControlPath=none",
    "ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=3", "LogLevel=ERROR",
)  # fmt: skip
_FINAL = ("Permission denied", "Host key verification failed", "HOST IDENTIFICATION HAS CHANGED", "invalid format")
"""What ssh says where trying again does not help."""
_ADDRESS = re.compile(r"[A-Za-z0-9._:%-]+")
MISSING = "ssh is not installed: apt install openssh-client"


def address(text: str) -> tuple[str, str, int]:
    """Return user, host and port of an address like ssh://user@hub.example.org:22. Raises ConfigurationError."""
    try:
        parts = urlsplit(text)
        user, host, port = parts.username or "", parts.hostname or "", parts.port or 22
    except ValueError:
        user, host, port = "", "", 0
    shaped = all(_ADDRESS.fullmatch(each) and not each.startswith("-") for each in (user, host))
    if not shaped or not port or parts.password or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            ["a hub's address must look like ssh://user@hub.example.org, and :port if it is not 22"]
        )
    return user, host, port


@contextmanager
def opened(credential: Credential) -> Iterator["BySsh"]:
    """Connect. Raises CentreError; whatever happens, ssh has ended afterwards."""
    if not credential.key or not credential.host_key:
        raise ConfigurationError(["fleet.toml has no key for its hub: run f2b-digest fleet join again"])
    user, host, port = address(credential.centre)
    if shutil.which("ssh") is None:
        raise ConfigurationError([MISSING])
    held = [_in_memory(credential.key.strip() + "\n"), _in_memory(f"{ALIAS} {credential.host_key}\n")]
    words = [f"-o{option}" for option in OPTIONS] + ["-p", str(port), "-l", user, "--", host, "f2b-digest"]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own words; the address was checked
            _command(held, words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=held, start_new_session=True,
        )  # fmt: skip
    finally:
        for descriptor in held:
            os.close(descriptor)
    try:
        yield BySsh(process)
    finally:
        _end(process)


def _command(held: list[int], words: list[str]) -> list[str]:
    """Return what starts ssh, from a shell that keeps the files open: ssh closes all that it inherits.

    Not from this process: after it was root, its own /proc/PID/fd is closed to it.
    """
    names = " ".join(f'"${{{place}}}"' for place in range(1, len(words) + 1))
    script = (
        f'ssh -F /dev/null -T -i "/proc/$$/fd/{held[0]}" -o "UserKnownHostsFile=/proc/$$/fd/{held[1]}" {names}; exit $?'
    )
    return ["/bin/sh", "-c", script, "sh", *words]


def _in_memory(text: str) -> int:
    descriptor = os.memfd_create("f2b-digest")
    os.fchmod(descriptor, 0o600)  # ssh refuses a key that others can read
    os.write(descriptor, text.encode())
    return descriptor


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    with suppress(OSError):
        process.stdin.close()  # the hub's end reads the end of the calls
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
    process.stderr.close()


class BySsh:
    """See `door.Door`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def hello(self, life: str, chain: Chain | None, state: dict[str, Any]) -> Answer:
        """Ask where a chain ends."""
        found = self._ask(json.dumps({"hello": {"life": life, "chain": chain, "state": state}}))
        return Answer(str(found["host"]), None if found["seq"] is None else End(found["seq"], found["batch"]))

    def append(self, life: str, after: End, batch: End, rows: str) -> None:
        """Append a batch."""
        named = {
            "life": life, "after_seq": after.seq, "after_batch": after.batch, "batch": batch.batch, "upto": batch.seq,
        }  # fmt: skip
        self._ask(f'{{"append": {json.dumps(named)[:-1]}, "rows": {rows}}}}}')

    def _ask(self, call: str) -> dict[str, Any]:
        """Return the answer to a call. Raises CentreError."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            with deadline(DEADLINE):
                self._process.stdin.write(call.encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline(MOST_ANSWER)
        except TooLongError:
            raise CentreError(f"the hub has not answered for {DEADLINE} s", away=True) from None
        except OSError:  # it has ended
            line = b""
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._broken(line)
        if "refused" in answer:
            state = str(answer.get("state", ""))
            raise CentreError(_one_line(str(answer["refused"])), away=passes(state), state=state)
        return answer

    def _broken(self, line: bytes) -> CentreError:
        """Return why there is no answer: what ssh said, or what came instead."""
        _wait(self._process)
        assert self._process.stderr
        os.set_blocking(self._process.stderr.fileno(), False)
        said = self._process.stderr.read(MOST_ANSWER) or line or b"the connection was cut"
        lines = [text for text in said.decode("utf-8", "replace").splitlines() if text.strip(" @")]
        text = next((text for text in lines if any(word in text for word in _FINAL)), (lines or [""])[-1])
        text = re.sub("^f2b-digest:", "the hub:", text)  # what it names is there, not on this host
        return CentreError(_one_line(text), away=not any(word in text for word in _FINAL))


def _wait(process: "subprocess.Popen[bytes]") -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING)


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
