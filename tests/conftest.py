"""Options and fixtures for all tests; support/program.py runs the program."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from f2b_digest.cli import preload
from tests.support.figures import Printed, figures
from tests.support.program import Command, forked, only_the_database, run
from tests.support.store_making import NOON

__all__ = ["figures"]

OUTPUT = pytest.StashKey[dict[str, int]]()
EVERYTHING = "everything"
"""Passed to pytest-xdist's workers: whether all tests were requested, not a file or a test."""
LEFT_OUT = "left out"
"""What a worker answers: how many tests a quick run leaves out."""
FIRST = ("test_a_month", "test_a_day_in_the_life", "test_a_power_cut_at_any_moment_loses_nothing")
"""Tests that take minutes: started first, so that no worker ends with one while the others idle."""


def pytest_configure(config: pytest.Config) -> None:
    """Print figures at the end."""
    config.pluginmanager.register(Printed())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a person may ask of the tests."""
    parser.addoption("--slow", action="store_true", help="run the slow tests, too, which the quick run leaves out")
    parser.addoption(
        "--fuzz",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="time for each parser in tests/system/test_fuzz.py (default: %(default)s; 720 make an hour in all)",
    )
    parser.addoption(
        "--all-suites",
        action="store_true",
        help="tests/packaging: systemd on Debian 13, not only on Debian 12, and ansible-lint",
    )
    parser.addoption("--all-faults", action="store_true", help="kill and fail at every system call, not at some")
    parser.addoption(
        "--steps",
        type=int,
        default=3000,
        metavar="N",
        help="steps in all of the machine in tests/system/model (default: %(default)s; 1000000 takes some hours)",
    )
    parser.addoption(
        "--power-cuts",
        type=int,
        default=200,
        metavar="N",
        help="images of a power cut that tests/system/powercut opens (default: %(default)s; 2000 take 15 minutes)",
    )
    parser.addoption(
        "--full-load",
        action="store_true",
        help="tests/system/test_load.py with 50,000 bans and a prune of a million, instead of a tenth and a twentieth",
    )
    parser.addoption(
        "--all-zones",
        action="store_true",
        help="tests/test_periods.py at every change of every zone's clocks since 1970, not at one in eleven",
    )
    parser.addoption(
        "--storm",
        type=int,
        default=60,
        metavar="SECONDS",
        help="how long tests/fleet/test_storm.py has a fleet under faults (default: %(default)s; on Citus a "
        "quarter, at a hub a sixth)",
    )
    parser.addoption(
        "--orders",
        type=int,
        default=15,
        metavar="N",
        help="orders of steps that tests/fleet/test_any_order.py tries (default: %(default)s)",
    )
    parser.addoption(
        "--month",
        type=float,
        metavar="SECONDS",
        help="lives in tests/system/month through months of random seeds for so long (default: one month, of seed 1)",
    )
    parser.addoption("--month-seed", type=int, metavar="N", help="the first month's seed, as a failed run names it")
    parser.addoption(
        "--usual-weeks",
        type=int,
        default=100,
        metavar="N",
        help="weeks that tests/analysis/test_usual_weeks.py simulates (default: %(default)s; 10000 take minutes)",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests marked slow or alone out of a run of everything, which may have several processes.

    Of a file or a test that was named, nothing is left out.
    """
    items.sort(key=lambda item: getattr(item, "originalname", None) not in FIRST)
    if not _everything(config) or config.getoption("slow") or config.getoption("markexpr"):
        return
    left_out = {item for item in items if item.get_closest_marker("slow") or item.get_closest_marker("alone")}
    items[:] = [item for item in items if item not in left_out]
    _output(config)[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=list(left_out))


def _everything(config: pytest.Config) -> bool:
    """Return whether no file and no test was named."""
    told: dict[str, bool] = getattr(config, "workerinput", {})  # a worker gets the folder of the tests by name
    return told.get(EVERYTHING, config.args_source is not pytest.Config.ArgsSource.ARGS)


def _output(config: pytest.Config) -> dict[str, int]:
    """Return what outlives this process: a worker's output, or the run's own."""
    output: dict[str, int] | None = getattr(config, "workeroutput", None)
    return config.stash.setdefault(OUTPUT, {}) if output is None else output


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what was asked for."""
    node.workerinput[EVERYTHING] = _everything(node.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's answer; all workers collect the same tests."""
    if left_out := getattr(node, "workeroutput", {}).get(LEFT_OUT):
        _output(node.config)[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how many slow tests were left out."""
    if left_out := _output(config).get(LEFT_OUT):
        terminalreporter.section("slow tests")
        terminalreporter.line(
            f"slow tests left out: {left_out} (pytest --slow runs all, a file that is named runs whole)"
        )


@pytest.fixture(autouse=True, scope="session")
def stays_root() -> Iterator[None]:
    """Keep this process from becoming a store's owner, which is irrevocable: such a test needs its own process."""
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
    """Provide the path of a store that does not exist yet."""
    return tmp_path / "bans.sqlite3"


@pytest.fixture
def f2b_digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Provide the program as a function of its arguments, run in this process an hour after noon.

    No configuration of this host is read, and this host is not queried.
    """
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 3600))
    monkeypatch.setattr("f2b_digest.cli.program.SYSTEM_CONFIGURATION", tmp_path / "none.toml")
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", tmp_path / "none.sqlite3")
    monkeypatch.delenv("F2B_DIGEST_CONFIG", raising=False)
    monkeypatch.delenv("LANGUAGE", raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("f2b_digest.host.gather", only_the_database)
    monkeypatch.setattr("f2b_digest.fail2ban.server.ask_banned", lambda *_: None)
    monkeypatch.setattr("f2b_digest.cli.send.uptime", lambda: NOON)  # this host has always been up

    return run


@pytest.fixture
def apart(f2b_digest: Command) -> Command:
    """Provide the program as `f2b_digest` does, but in a child of this process, which need not load it all again."""
    preload.load(["en"])
    return forked


@pytest.fixture
def config(path: Path, tmp_path: Path) -> Path:
    """Provide a configuration: a report `daily` that goes into files in the folder `out`."""
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
