"""Fixtures that several test files share."""

import io
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import astuple, dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from f2b_digest import host, privileges
from f2b_digest.cli import main, preload
from f2b_digest.config import Configuration
from f2b_digest.fail2ban import server
from f2b_digest.host import logins
from tests.store_making import NOON

LEFT_OUT = pytest.StashKey[int]()
"""How many slow tests a quick run leaves out."""
PERIODS = pytest.StashKey[str]()
"""The line that tests/test_periods.py leaves for the end."""
POWER_CUTS = pytest.StashKey[str]()
"""The line that tests/powercut leaves for the end."""


OWNER_AGAINST_ROOT = pytest.StashKey[dict[str, int]]()
"""The figures of tests/test_owner_against_root.py."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a person may ask of the tests."""
    parser.addoption("--slow", action="store_true", help="run the slow tests, too, which the quick run leaves out")
    parser.addoption(
        "--all-suites", action="store_true", help="tests/packaging/test_systemd.py on Debian 13, not only on Debian 12"
    )
    parser.addoption("--all-faults", action="store_true", help="kill and fail at every system call, not at some")
    parser.addoption(
        "--steps",
        type=int,
        default=3000,
        metavar="N",
        help="steps in all of the machine in tests/model (default: %(default)s; 1000000 takes some hours)",
    )
    parser.addoption(
        "--power-cuts",
        type=int,
        default=200,
        metavar="N",
        help="images of a power cut that tests/powercut opens (default: %(default)s; 2000 take a quarter of an hour)",
    )
    parser.addoption(
        "--full-load",
        action="store_true",
        help="tests/test_load.py with 50,000 bans and a prune of a million, instead of a tenth and a twentieth",
    )
    parser.addoption(
        "--all-zones",
        action="store_true",
        help="tests/test_periods.py at every change of every zone's clocks since 1970, not at one in eleven",
    )
    parser.addoption(
        "--usual-weeks",
        type=int,
        default=100,
        metavar="N",
        help="weeks that tests/test_usual_weeks.py makes up and judges (default: %(default)s; 10000 take minutes)",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out of a run of everything; of a file or a test that was named, nothing is left out."""
    everything = config.args_source is not pytest.Config.ArgsSource.ARGS
    if not everything or config.getoption("slow") or config.getoption("markexpr"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.stash[LEFT_OUT] = len(slow)
    config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests of periods went through, and how many slow tests were left out."""
    if left_out := config.stash.get(LEFT_OUT, 0):
        terminalreporter.section("slow tests")
        terminalreporter.line(
            f"slow tests left out: {left_out} (pytest --slow runs all, a file that is named runs whole)"
        )
    if figures := config.stash.get(PERIODS, ""):
        terminalreporter.section("periods")
        terminalreporter.line(figures)
    if figures := config.stash.get(POWER_CUTS, ""):
        terminalreporter.section("power cuts")
        terminalreporter.line(figures)
    if tried := config.stash.get(OWNER_AGAINST_ROOT, None):
        terminalreporter.section("the owner of the folder against root")
        terminalreporter.line(f"ways: tried {tried['tried']}, succeeded {tried['succeeded']}")


@dataclass(frozen=True)
class Ended:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(autouse=True, scope="session")
def stays_root() -> Iterator[None]:
    """Keep this process from becoming a store's owner, which is for good: such a test needs a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("f2b_digest.privileges.become", lambda owner: pytest.fail(f"the tests became {owner.name}"))
        yield


@pytest.fixture(autouse=True)
def _no_thread_of_apprise() -> Iterator[None]:
    """A delivery is forked; threads that Apprise started in this process for an earlier test would be missing there.

    The program itself never notifies in the process that forks.
    """
    yield
    module = sys.modules.get("apprise.apprise")
    for name in ("_shared_executor", "_coordinator_executor"):
        if module and getattr(module, name, None):
            setattr(module, name, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a store that does not exist yet."""
    return tmp_path / "bans.sqlite3"


def only_the_database(configuration: Configuration, *_: object) -> host.Gathered:
    """Return what a host tells that has fail2ban's database and nothing else."""
    database = host.Snapshot(configuration.fail2ban_database)
    return host.Gathered(server.UNKNOWN, logins.Raw(), database, (), frozenset())


@pytest.fixture
def f2b_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Give the program as a function of its arguments, run in this process an hour after noon.

    No file of this host configures it, and this host is not asked what it knows.
    """
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 3600))
    monkeypatch.setattr("f2b_digest.cli.SYSTEM_CONFIGURATION", tmp_path / "none.toml")
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", tmp_path / "none.sqlite3")
    monkeypatch.delenv("F2B_DIGEST_CONFIG", raising=False)
    monkeypatch.delenv("LANGUAGE", raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("f2b_digest.host.gather", only_the_database)
    monkeypatch.setattr("f2b_digest.cli.send.uptime", lambda: NOON)  # this host has always been up

    return run


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
HANGS = 30.0
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


@pytest.fixture
def apart(f2b_digest: Command) -> Command:
    """Give the program as `f2b_digest` does, but in a child of this process, which need not load it all again."""
    preload.load(["en"])
    return forked


@pytest.fixture
def config(path: Path, tmp_path: Path) -> Path:
    """Give a configuration: a report `daily` that goes into files in the folder `out`."""
    file = tmp_path / "config.toml"
    file.write_text(
        f"""
store = "{path}"
host = "web1"
timezone = "UTC"
[reports.daily]
channels = ["out"]
[channels.out]
kind = "file"
folder = "out"
"""
    )
    return file
