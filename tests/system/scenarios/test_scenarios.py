"""Each scenario's fact is found where its reader looks first: in the subject or the first five lines of the mail."""

from pathlib import Path

import pytest

from tests.system.scenarios import calm, needs, news, times
from tests.system.scenarios.book import SCENARIOS, Scenario
from tests.system.scenarios.world import World

BOOKS = (calm, needs, news, times)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def test_the_planted_fact_is_found_at_once(tmp_path: Path, scenario: Scenario) -> None:
    """It is in the subject or the first five lines, and nothing there cries wolf."""
    world = World(tmp_path, scenario.report)
    scenario.play(world)
    mail = world.send()
    assert mail, "no mail went out"
    assert "a bug in" not in mail.text
    assert scenario.missing(mail.head) == [], f"{mail.subject}\n\n{mail.text[:2000]}"


def test_there_are_forty_scenarios_at_least() -> None:
    """At least forty, with distinct titles."""
    titles = {scenario.title for scenario in SCENARIOS}
    assert len(titles) == len(SCENARIOS) >= 40
