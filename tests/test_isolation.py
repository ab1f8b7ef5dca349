"""Forked children: results and errors come back, nothing outlives its deadline or its limit of memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from f2b_digest import isolation
from f2b_digest.errors import ConfigurationError, DeliveryError, PartlyDeliveredError
from f2b_digest.isolation import Children, OverdueError, Stopped


def test_result_comes_back() -> None:
    """A result of a megabyte arrives whole."""
    assert isolation.run(lambda: {"a": b"x" * 1_000_000}, seconds=10) == {"a": b"x" * 1_000_000}


def test_own_errors_come_back_as_they_were() -> None:
    """Our error arrives with its class and its fields."""

    def work() -> None:
        raise PartlyDeliveredError(DeliveryError("no", permanent=False, in_doubt=True), b"rest")

    with pytest.raises(PartlyDeliveredError, match=r"^no$") as raised:
        isolation.run(work, seconds=10)
    assert (raised.value.permanent, raised.value.in_doubt, raised.value.remaining) == (False, True, b"rest")

    def mistaken() -> None:
        raise ConfigurationError(["a", "b"])

    with pytest.raises(ConfigurationError) as listed:
        isolation.run(mistaken, seconds=10)
    assert listed.value.mistakes == ["a", "b"]


def test_foreign_errors_come_back_without_their_text() -> None:
    """A bug's text may hold a secret: kind and place come back."""

    def work() -> None:
        raise ValueError("hunter2")

    with pytest.raises(Stopped, match=r"^a bug in f2b-digest: ValueError at test_isolation.py") as raised:
        isolation.run(work, seconds=10)
    assert "hunter2" not in str(raised.value)


@pytest.mark.alone
@pytest.mark.parametrize("work", ["sleep", "spin", "catch"])
def test_deadline_holds_whatever_is_caught(work: str) -> None:
    """A child that sleeps, computes, or catches every signal and error ends at its deadline."""

    def forever() -> None:
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while True:
            if work == "sleep":
                time.sleep(60)
            if work == "spin":
                str(10**60_000) if sys.get_int_max_str_digits() == 0 else 10**600_000

    begun = time.monotonic()
    with pytest.raises(OverdueError, match=r"timed out after 0\.3 s"):
        isolation.run(forever, seconds=0.3)
    assert time.monotonic() - begun < 1


def test_what_a_child_started_is_killed_with_it(tmp_path: Path) -> None:
    """At the deadline, a program and its own children end, too."""
    mark = tmp_path / "pid"

    def work() -> None:
        subprocess.run(["sh", "-c", f"sleep 60 & echo $! > {mark}; wait"], check=False, process_group=0)

    with pytest.raises(OverdueError):
        isolation.run(work, seconds=1)
    assert _ended(int(mark.read_text()))


def _ended(pid: int) -> bool:
    """Return whether a process is gone, or is a zombie that nobody here reaps, within a second."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_memory_is_limited() -> None:
    """A child that fills its memory ends with a word on it; 60 MB more than the parent has are free to use."""
    assert isolation.run(lambda: len(bytearray(60 << 20)), seconds=10) == 60 << 20
    with pytest.raises(Stopped, match="needed more than 96 MB of memory"):
        isolation.run(lambda: len(bytearray(200 << 20)), seconds=10)


def test_programs_have_the_memory_of_any_program() -> None:
    """What a child starts is not under its limit."""
    program = [sys.executable, "-c", "bytearray(150 << 20)"]

    def work() -> int:
        with isolation.without_limit():
            return subprocess.run(program, check=False).returncode

    assert isolation.run(work, seconds=20) == 0


def test_killed_child_is_told() -> None:
    """A child that the system kills gives an error that says so."""
    with pytest.raises(Stopped, match=r"killed by signal 9 \(Killed\)"):
        isolation.run(lambda: os.kill(os.getpid(), signal.SIGKILL), seconds=10)


@pytest.mark.alone
def test_side_by_side() -> None:
    """The quick one is heard first, and the slow ones take no longer than one of them."""
    begun = time.monotonic()
    with Children() as children:
        for key, seconds in (("slow", 0.5), ("slower", 0.6), ("quick", 0.0)):
            children.start(key, lambda seconds=seconds: time.sleep(seconds), seconds=5)  # type: ignore[misc]
        assert [children.wait().key for _ in range(3)] == ["quick", "slow", "slower"]
    assert time.monotonic() - begun < 1


def test_child_has_nothing_open_but_its_pipe(tmp_path: Path) -> None:
    """Locks and databases of the parent are not held by a child."""
    with (tmp_path / "lock").open("w"):
        assert len(isolation.run(lambda: os.listdir("/proc/self/fd"), seconds=10)) == 5  # and the listing itself


def test_nothing_of_the_parent_is_done_twice() -> None:
    """A child flushes no buffer and runs no exit handler of its parent."""
    program = (
        "import atexit, sys; from f2b_digest import isolation; atexit.register(print, 'bye')\n"
        "sys.stdout.write('once '); isolation.run(lambda: None, seconds=9)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "once bye\n"


def test_child_of_a_dead_parent_dies(tmp_path: Path) -> None:
    """A child does not go on when its parent was killed: the next sender would not be alone."""
    mark = tmp_path / "pid"
    program = (
        "import os, pathlib, time; from f2b_digest import isolation\n"
        f"isolation.run(lambda: (pathlib.Path({str(mark)!r}).write_text(str(os.getpid())), time.sleep(60)), seconds=60)"
    )
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        while not mark.exists() or not mark.read_text():
            time.sleep(0.01)
        parent.kill()
    assert _ended(int(mark.read_text()))


def test_no_descriptors_left() -> None:
    """Failing to create a pipe has its own error."""
    program = (
        "import os, resource; from f2b_digest import isolation\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "try:\n    isolation.run(lambda: None, seconds=9)\n"
        "except isolation.NotStartedError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "cannot fork: Too many open files\n"
