"""The lab that the tests of faults share, and the table that they print."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trustme

from tests.support.smtp_server import SmtpServer
from tests.system.faults.lab import Lab, Labs, Outcomes
from tests.system.faults.strace import attached
from tests.system.faults.warm import Warm

TABLE = pytest.StashKey[list[Outcomes]]()
MOST = 6
"""Points of one scenario and one fault without --all-faults."""


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Labs]:
    """Give a lab for each processor; skip where processes cannot be traced."""
    root = tmp_path_factory.mktemp("faults")
    authority, ca_file = trustme.CA(), root / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with ExitStack() as stack:
        labs = []
        for number in range(min(os.cpu_count() or 1, 4)):
            folder = root / str(number)
            folder.mkdir()
            warm = stack.enter_context(Warm(folder))
            warm.program("true", trace=lambda process: attached(process, folder / "trace"))
            server = stack.enter_context(SmtpServer(authority=authority))
            labs.append(Lab(folder, warm, server, ca_file))
        together = Labs(labs)
        pytestconfig.stash[TABLE] = together.table
        yield together


@pytest.fixture
def most(pytestconfig: pytest.Config) -> int | None:
    """Give how many points of a scenario and a fault are run; None is all of them."""
    return None if pytestconfig.getoption("--all-faults") else MOST


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and the count."""
    table = config.stash.get(TABLE, [])
    if not table:
        return
    terminalreporter.section("faults")
    line = "{:<30} {:<20} {:>9} {:>13} {:>5} {:>7}  {}"
    terminalreporter.line(line.format("", "", "points", "acknowledged", "lost", "second", "exit statuses"))
    for row in table:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(row.statuses.items()))
        points = f"{row.points}/{row.of}"
        numbers = (points, row.acknowledged, row.lost, row.second)
        terminalreporter.line(line.format(row.scenario, row.fault, *numbers, statuses))
    total = [sum(getattr(row, name) for row in table) for name in ("points", "of", "acknowledged", "lost", "second")]
    terminalreporter.line(line.format("all", "", f"{total[0]}/{total[1]}", *total[2:], ""))
