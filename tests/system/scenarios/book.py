"""The register of scenarios: what each plants, and what its reader must find. No scenarios here."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.system.scenarios.world import World

Play = Callable[[World], None]
SCENARIOS: list["Scenario"] = []
CALM = "All quiet"
NEEDS = r"(?i:needs? attention)"


@dataclass(frozen=True)
class Scenario:
    """A day or a week, and the patterns that its subject and first five lines must and must not match."""

    play: Play
    report: str
    finds: tuple[str, ...]
    never: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return its name."""
        return self.play.__name__.replace("_", " ")

    def missing(self, head: str) -> list[str]:
        """Return what is not as it must be."""
        return [f"not there: {pattern}" for pattern in self.finds if not re.search(pattern, head)] + [
            f"there: {pattern}" for pattern in self.never if re.search(pattern, head)
        ]


def scenario(*finds: str, never: tuple[str, ...] = (), report: str = "daily") -> Callable[[Play], Play]:
    """Register a scenario: regular expressions that must be found, and that must not be."""

    def register(play: Play) -> Play:
        SCENARIOS.append(Scenario(play, report, finds, never))
        return play

    return register
