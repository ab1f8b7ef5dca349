"""Real histories: no false alarms, little news, nothing reported twice, and dead jails reported soon."""

import math
from pathlib import Path

import pytest

from tests.benchmarks.histories import BUSY, SLOW, Result, quantile, replay
from tests.support.figures import Keep
from tests.support.histories import FOLDER, histories

NAMES = ("kevanpng", "arsh25-ssh", "binayakpg", "kareiva", "cs102auth", "drizzo", "tcoupin", "jabedude")
"""Those that take less than two minutes."""
GAPS = {"jabedude": "2017-01-21"}
"""When a history's source stopped for two weeks."""
DEATHS = 12
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Provide what was told of each history."""
    if not (FOLDER / "bans").is_dir():
        pytest.skip(f"no histories in {FOLDER}: set F2B_DIGEST_HISTORIES")
    folder: Path = tmp_path_factory.mktemp("histories")
    return [replay(history, folder / history.name, DEATHS) for history in histories(FOLDER, NAMES)]


def test_nobody_is_called_in_vain(results: list[Result]) -> None:
    """The only outage is the one in which the source has nothing."""
    for result in results:
        gap = GAPS.get(result.history.name)
        assert [line for line in result.red if gap is None or f"datetime.datetime({gap[:4]}, 1, 21," not in line] == []


@pytest.mark.parametrize(("report", "most"), [("daily", 0.1), ("weekly", 0.25)])
def test_little_stands_out(results: list[Result], report: str, most: float, figures: Keep) -> None:
    """Amber or red: a tenth of the daily digests, a quarter of the weekly ones."""
    told = [result.told[report] for result in results]
    issues, quiet = sum(each.issues for each in told), sum(each.verdicts["quiet"] for each in told)
    figures("histories", f"{report}: {issues} digests, {100 * (1 - quiet / issues):.1f} % amber or red")
    assert 1 - quiet / issues <= most


def test_nothing_is_told_twice(results: list[Result]) -> None:
    """On a following day, without something new."""
    assert [line for result in results for told in result.told.values() for line in told.repeated] == []


@pytest.mark.parametrize(("least", "below", "within"), [(BUSY, math.inf, 2.0), (SLOW, BUSY, 3.5)])
def test_a_death_is_told_soon(results: list[Result], least: float, below: float, within: float, figures: Keep) -> None:
    """At any hour, in nine cases of ten."""
    days = [days for result in results for rate, days in result.deaths if least <= rate < below]
    if not days:
        pytest.skip("no jail of these histories bans so often for four weeks")
    figures(
        "histories", f"deaths of {least:g} bans a day and more: {len(days)}, 90 % told in {quantile(days, 0.9):.1f}"
    )
    assert quantile(days, 0.9) <= within
