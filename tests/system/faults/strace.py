"""Which system calls a process makes, and the same process with one of them failing: a thin layer over strace(1)."""

import re
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.parts import missing, program

WRITING = ("write", "writev", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "mkdir", "mkdirat")
"""Calls that can need space, beside those that make a file."""
NAMING = ("link", "linkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "fchmod", "fchown", "flock")
TALKING = ("connect", "sendto", "sendmsg", "shutdown")
OPENING = ("openat",)
READING = ("read", "pread64", "fstat", "stat", "lstat", "newfstatat")
CHANGING = WRITING + NAMING + TALKING
"""Calls that change the world, beside those that make a file; between two of them one moment is like another."""
TRACED = OPENING + CHANGING + READING


@dataclass(frozen=True)
class Call:
    """A system call of a traced process, before it was made."""

    name: str
    thread: str
    number: int
    """The how manieth call of its name in its thread it is: what strace counts."""
    line: str

    @property
    def makes_file(self) -> bool:
        """Return whether it may bring a file into being."""
        return self.name in OPENING and "O_CREAT" in self.line


@dataclass(frozen=True)
class Fault:
    """A way in which system calls go wrong."""

    name: str
    effect: str
    """As strace's `inject` takes it."""
    names: Collection[str]
    """The calls it can befall; those that make a file always."""
    lasting: bool = False
    """Every such call from the one on, not that one alone."""
    on_store: bool = False
    """Only calls on the store and what stands beside it; else also those on other files and sockets."""

    @property
    def kills(self) -> bool:
        """Return whether the process ends there."""
        return "KILL" in self.effect

    def befalls(self, call: Call) -> bool:
        """Return whether this call can go wrong so."""
        return call.name in self.names or (call.makes_file and "write" in self.names)

    def injection(self, calls: Sequence[Call], at: int) -> list[str]:
        """Return strace's options for this fault at one of the calls that a process makes."""
        here = calls[at]
        if not self.lasting:
            return [f"--inject={here.name}:{self.effect}:when={here.number}"]
        before = [call.name for call in calls[:at] if call.thread == here.thread]
        names = (name for name in TRACED if name in self.names or name in OPENING)
        return [f"--inject=?{name}:{self.effect}:when={before.count(name) + 1}+" for name in names]


@contextmanager
def attached(process: int, output: Path, *, inject: Iterable[str] = (), paths: Iterable[Path] = ()) -> Iterator[None]:
    """Trace a waiting process, which may go on in the block, and wait until it has ended.

    Its threads and children are traced too. With `paths`, only calls on these are seen, counted and injected.
    """
    command = [
        program("strace", "apt-get install strace"),
        "-y",  # names the files behind the numbers
        f"--output={output}",
        f"--trace={','.join('?' + name for name in TRACED)}",
        *inject,
        *(f"--trace-path={path}" for path in paths),
        "-f",
        f"--attach={process}",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        said = tracer.stderr.readline()
        if "attached" not in said:
            missing("the right to trace processes", f"be root, or allow ptrace ({said.strip()})")
        yield
        tracer.stderr.read()


KILLED = Fault("SIGKILL", "signal=KILL", CHANGING)
ERRORS = (
    Fault("EIO once", "error=EIO", CHANGING),
    Fault("EIO once, reading", "error=EIO", READING, on_store=True),
    # The terminal and Python's own files still work.
    Fault("EIO from then on", "error=EIO", CHANGING + READING, lasting=True, on_store=True),
    Fault("ENOSPC once", "error=ENOSPC", WRITING),
    Fault("ENOSPC from then on", "error=ENOSPC", WRITING, lasting=True, on_store=True),
)
_KILLED = re.compile(r"(?:(?P<thread>\d+) +)?\+\+\+ killed by SIGKILL \+\+\+")
_CALL = re.compile(r"(?:(?P<thread>\d+) +)?(?P<name>\w+)\(")


def calls(output: Path) -> list[Call]:
    """Return the calls of a trace, in order."""
    found: list[Call] = []
    counts: dict[tuple[str, str], int] = {}
    for line in output.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match:
            key = (match["thread"] or "", match["name"])
            counts[key] = counts.get(key, 0) + 1
            found.append(Call(match["name"], key[0], counts[key], line))
    return found


def struck(output: Path) -> str:
    """Return the line of a trace that shows the fault, or nothing."""
    lines = output.read_text(errors="replace").splitlines()
    hit = [line for line in lines if "(INJECTED)" in line]
    killed = [match["thread"] for line in lines if (match := _KILLED.match(line))]
    if not hit and killed:  # the first; its children follow it
        found = ((line, _CALL.match(line)) for line in lines)
        hit = [line for line, match in found if match and match["thread"] == killed[0]][-1:]
    return hit[0] if hit else ""
