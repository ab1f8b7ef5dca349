"""EIO and ENOSPC at every system call on the files, once and from then on: said in a line, and nothing is lost."""

import pytest

from tests.support.figures import Keep
from tests.system.faults.lab import Labs
from tests.system.faults.scenarios import SCENARIOS, Scenario
from tests.system.faults.strace import ERRORS, Fault


@pytest.mark.slow
@pytest.mark.parametrize("fault", ERRORS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_disk_that_fails_at_any_call_loses_nothing(
    scenario: Scenario, fault: Fault, labs: Labs, most: int | None, figures: Keep
) -> None:
    """Once the disk is well again, everything that was acknowledged is delivered, and the store is whole."""
    outcomes = labs.run(scenario, fault, most)
    figures("faults", str(outcomes), outcomes.counts())
    assert outcomes.points
    assert not outcomes.problems, "\n".join(outcomes.problems)
    assert outcomes.lost == 0
