"""SIGKILL at every system call that changes the world: what was acknowledged is delivered, once but for a moment."""

import re

import pytest

from tests.support.figures import Keep
from tests.system.faults.lab import Labs
from tests.system.faults.scenarios import SCENARIOS, Scenario
from tests.system.faults.strace import KILLED

FILE = re.compile(r"^(?:\d+ +)?\w+\(\d+<(/[^>]*)>")
"""The file of a call on a descriptor."""


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_a_fault_everything_is_delivered_once_and_brought_to_disk(scenario: Scenario, labs: Labs) -> None:
    """A kill does not see what only a power cut loses: what was written, and never synced."""
    outcomes, calls = labs.run_whole(scenario)
    assert not outcomes.problems, "\n".join(outcomes.problems)
    assert (outcomes.lost, outcomes.second) == (0, 0)
    unsynced: set[str] = set()
    for call in calls:
        path = FILE.search(call.line)
        if path and call.name in ("write", "pwrite64"):
            unsynced.add(path[1])
        elif path and call.name in ("fsync", "fdatasync"):
            unsynced.discard(path[1])
        elif call.name == "unlink":
            unsynced = {name for name in unsynced if f'"{name}"' not in call.line}
    assert calls
    assert not {name for name in unsynced if not name.endswith("-shm")}  # the index is made anew


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_process_killed_at_any_call_loses_nothing(
    scenario: Scenario, labs: Labs, most: int | None, figures: Keep
) -> None:
    """The store is whole, no acknowledged event is lost, and a second copy is one whose mark was not stored."""
    outcomes = labs.run(scenario, KILLED, most)
    figures("faults", str(outcomes), outcomes.counts())
    assert outcomes.points
    assert not outcomes.problems, "\n".join(outcomes.problems)
    assert outcomes.lost == 0
