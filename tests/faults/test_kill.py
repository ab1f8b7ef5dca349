"""SIGKILL at every system call that changes the world: what was acknowledged is delivered, once but for a moment."""

import pytest

from tests.faults.lab import Labs
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.strace import KILLED


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_process_killed_at_any_call_loses_nothing(scenario: Scenario, labs: Labs, most: int | None) -> None:
    """The store is whole, no acknowledged event is lost, and a second copy is one whose mark was not stored."""
    outcomes = labs.run(scenario, KILLED, most)
    assert outcomes.points
    assert not outcomes.problems, "\n".join(outcomes.problems)
    assert outcomes.lost == 0
