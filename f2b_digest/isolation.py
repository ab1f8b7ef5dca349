"""Runs functions in forked children, each with a deadline and a memory limit. No digests, channels or stores here."""

import ctypes
import gc
import logging
import math
import os
import pickle
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from f2b_digest.errors import F2bDigestError, bug

log = logging.getLogger(__name__)

MEMORY = 96 * 2**20
"""Memory limit of a child in bytes, beyond what this process has at the fork."""
LARGEST_RESULT = 32 * 2**20
"""Maximum bytes of a pickled result."""
REAPING = 1.0
"""Seconds to wait for a killed child; one that hangs in the kernel is abandoned."""
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """A child ended without a result: not started, deadline, memory limit, signal, or a bug.

    The text is one line without secrets.
    """


class NotStartedError(Stopped):
    """The child could not be started: no process or file descriptor left."""


class OverdueError(Stopped):
    """The child was killed at its deadline."""


@dataclass(frozen=True)
class Finished:
    """The outcome of one child."""

    key: Any
    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return the work's result, or raise its F2bDigestError; any other failure is Stopped."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass
class _Child:
    key: Any
    pid: int
    seconds: float
    ends: float
    """The deadline, on the monotonic clock."""
    said: bytearray = field(default_factory=bytearray)


def run(work: Callable[[], Any], *, seconds: float, memory: int = MEMORY) -> Any:
    """Run a function in a child process and return its result, which must be picklable.

    `seconds` is wall-clock time, after which the child and all it started are killed; `memory` the bytes it may take
    beyond the present. Raises the work's F2bDigestError, or Stopped.
    """
    with Children() as children:
        children.start(None, work, seconds=seconds, memory=memory)
        return children.wait().result()


class Children:
    """Child processes that run in parallel; those still running are killed at the end of the block.

    A child inherits this process's memory and the standard descriptors, but no others, so that it holds neither a lock
    nor a database open. It leads its own session, flushes no buffers and runs no exit handlers; the kernel kills it
    when this process dies.
    """

    def __init__(self) -> None:
        self._running: dict[int, _Child] = {}
        """By the file descriptor of their pipe."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        for pipe in tuple(self._running):
            self._end(pipe, everything=True)

    def __len__(self) -> int:
        return len(self._running)

    def start(self, key: Any, work: Callable[[], Any], *, seconds: float, memory: int = MEMORY) -> None:
        """Start a function in a child; `key` identifies its outcome. Raises NotStartedError."""
        try:
            pipe, end = os.pipe()
            try:
                parent, pid = os.getpid(), os.fork()
            except OSError:
                os.close(pipe)
                os.close(end)
                raise
        except OSError as error:
            raise NotStartedError(f"cannot fork: {error.strerror}") from None
        if not pid:
            _be_child(work, end, parent, memory)
        os.close(end)
        self._running[pipe] = _Child(key, pid, seconds, time.monotonic() + seconds)

    def wait(self) -> Finished:
        """Wait until a child ends or reaches its deadline (it is killed then), and return its outcome."""
        poll = select.poll()
        for pipe in self._running:
            poll.register(pipe, select.POLLIN)
        while True:
            now = time.monotonic()
            first = min(self._running, key=lambda pipe: self._running[pipe].ends)
            if self._running[first].ends <= now:
                return self._overdue(first)
            for pipe, _ in poll.poll(math.ceil((self._running[first].ends - now) * 1000)):
                finished = self._heard(pipe)
                if finished:
                    return finished

    def _overdue(self, pipe: int) -> Finished:
        child = self._running[pipe]
        self._end(pipe, everything=True)
        log.info("killed process %d at its deadline of %g s", child.pid, child.seconds)
        return Finished(child.key, error=OverdueError(f"timed out after {child.seconds:g} s"))

    def _heard(self, pipe: int) -> Finished | None:
        """Read from a child's pipe; return its outcome once it is complete."""
        child = self._running[pipe]
        part = os.read(pipe, 1 << 16)
        child.said += part
        if part and len(child.said) <= LARGEST_RESULT:
            return None
        outcome = _read(child) if not part else None
        status = self._end(pipe, everything=outcome is None)
        return outcome or Finished(child.key, error=Stopped(_how_it_ended(child, status)))

    def _end(self, pipe: int, *, everything: bool) -> int | None:
        """End a child, with `everything` also its session's other processes; return its wait status, or None.

        Without `everything`, what a child left running goes on: a mail system's queue runner.
        """
        child = self._running.pop(pipe)
        os.close(pipe)
        status = None if everything else _reaped(child.pid)
        if status is None:
            for pid in (child.pid, *_of_session(child.pid)):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            status = _reaped(child.pid)
        return status


@contextmanager
def without_limit() -> Iterator[None]:
    """Lift the memory limit for programs that a child starts in this block."""
    now, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (now, most))


def _of_session(leader: int) -> Iterator[int]:
    """Yield the pids of a session, in any process group."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[3]) == leader:
                yield int(file.parent.name)


def _reaped(pid: int) -> int | None:
    """Return a child's wait status; None if it does not end within `REAPING`, or was reaped elsewhere."""
    until = time.monotonic() + REAPING
    while True:
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended or time.monotonic() > until:
            return status if ended else None
        time.sleep(0.002)


def _read(child: _Child) -> Finished | None:
    """Return the outcome that a child wrote; None if it is incomplete."""
    try:
        kind, content, *rest = pickle.loads(child.said)  # noqa: S301 - by our own code, under our own user
        if kind is None:
            return Finished(child.key, content)
        error = kind.__new__(kind, *content)
        error.__dict__.update(*rest)
        return Finished(child.key, error=error)
    except Exception:  # it was killed while writing
        log.debug("incomplete result of process %d", child.pid, exc_info=True)
        return None


def _how_it_ended(child: _Child, status: int | None) -> str:
    if len(child.said) > LARGEST_RESULT:
        return f"result exceeds {LARGEST_RESULT >> 20} MB"
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by signal {number} ({signal.strsignal(number)})"
    return "ended without a result"


# ---- in the child


def _be_child(work: Callable[[], Any], pipe: int, parent: int, memory: int) -> NoReturn:
    """Run the function, write its outcome, and exit without any of this process's exit handlers."""
    try:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the kernel knew
            _leave_parent(pipe)
            _limit(memory)
            _write(pipe, _report(work, memory))
    finally:
        os._exit(0)


def _leave_parent(pipe: int) -> None:
    """Leave the parent's session, signal handlers and descriptors; its objects are never garbage-collected here."""
    gc.freeze()
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX"))


def _limit(memory: int) -> None:
    """Limit this process's data (heap, private mappings, thread stacks) to its present size plus `memory` bytes."""
    try:
        present = int(Path("/proc/self/statm").read_bytes().split()[5]) * resource.getpagesize()
    except OSError:
        log.warning("no memory limit: /proc cannot be read", exc_info=True)
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = present + memory
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def _report(work: Callable[[], Any], memory: int) -> bytes:
    """Run the function; return its outcome pickled: (None, value), or (class, arguments, attributes) of an error."""
    try:
        return pickle.dumps((None, work()))
    except F2bDigestError as error:
        return pickle.dumps((type(error), error.args, vars(error)))
    except MemoryError:
        log.debug("out of memory", exc_info=True)
        return pickle.dumps((Stopped, (f"needed more than {memory >> 20} MB of memory",), {}))
    except BaseException as error:  # unexpected, and its text may hold a secret
        log.debug("a bug", exc_info=True)
        return pickle.dumps((Stopped, (bug(error),), {}))


def _write(pipe: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(pipe, rest) :]
