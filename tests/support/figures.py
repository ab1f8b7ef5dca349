"""Figures measured by tests, printed at the end of the run, also with several processes. No tests here."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import cast

import pytest

PROPERTY = "figures"
Figure = tuple[str, str, dict[str, int]]
Keep = Callable[..., None]
"""Called with a title and a line, or with a title and counts by name, which are summed over all tests."""


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Keep:
    """Provide the function that attaches figures to a test's report, which is all that workers send back."""

    def keep(title: str, line: str = "", counts: Mapping[str, int] | None = None) -> None:
        request.node.user_properties.append((PROPERTY, [title, line, dict(counts or {})]))

    return keep


class Printed:
    """The plugin that prints them."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, list[str]] = defaultdict(list)
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a finished test's figures."""
        if report.when != "teardown":  # the reports of set-up and call hold the same list
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                title, line, counts = cast("Figure", value)
                self._lines[title] += [line] if line else []
                self._counts[title].update(counts)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print a section for each title: its lines, then its sums."""
        for title in sorted(self._counts):
            terminalreporter.section(title)
            sums = ", ".join(f"{count} {name}" for name, count in self._counts[title].items())
            for line in [*self._lines[title], *([sums] if sums else [])]:
                terminalreporter.line(line)
