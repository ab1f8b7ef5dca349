"""The lab that the tests of faults share."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trustme

from tests.support.smtp_server import SmtpServer
from tests.system.faults.lab import Lab, Labs
from tests.system.faults.strace import attached
from tests.system.faults.warm import Warm

MOST = 6
"""Points of one scenario and one fault without --all-faults."""


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Provide a lab for each processor that this process has to itself; skip where processes cannot be traced."""
    root = tmp_path_factory.mktemp("faults")
    processors, workers = os.cpu_count() or 1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    authority, ca_file = trustme.CA(), root / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with ExitStack() as stack:
        labs = []
        for number in range(min(max(1, processors // workers), 4)):
            folder = root / str(number)
            folder.mkdir()
            warm = stack.enter_context(Warm(folder))
            warm.program("true", trace=lambda process: attached(process, folder / "trace"))
            server = stack.enter_context(SmtpServer(authority=authority))
            labs.append(Lab(folder, warm, server, ca_file))
        yield Labs(labs)


@pytest.fixture
def most(pytestconfig: pytest.Config) -> int | None:
    """Provide how many points of a scenario and a fault are run; None is all of them."""
    return None if pytestconfig.getoption("--all-faults") else MOST
