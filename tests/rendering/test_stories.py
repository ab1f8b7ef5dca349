"""Seventeen stories as mails, reviewed by eye before they were committed, and short enough.

`python -m tests.tools.golden` writes tests/golden/stories anew; tests/system/test_browser.py measures the pages.
"""

import pytest

from tests.support.stories import STORIES
from tests.tools.golden import STORY_PAGES, story_pages

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_told_as_it_was_looked_at(name: str) -> None:
    """Subject, text, page and notification, byte for byte."""
    assert {file: text for file, text in story_pages(name).items() if (STORY_PAGES / file).read_text() != text} == {}


@pytest.mark.parametrize("name", STORIES)
def test_the_text_of_a_story_keeps_its_budget(name: str) -> None:
    """No more lines than its budget, none wider than 80 columns; the subject says it in 50 characters."""
    story, pages = STORIES[name], story_pages(name)
    lines = pages[f"{name}.txt"].splitlines()
    assert len(lines) <= story.lines
    assert max(map(len, lines)) <= 80
    assert len(pages[f"{name}.ntfy.txt"].splitlines()) <= 12


def test_the_planted_attack_stands_first() -> None:
    """In the subject, the headline and the first finding, among a thousand bans of a busy day."""
    pages = story_pages("busy")
    assert pages["busy.subject.txt"].startswith("Attack from 203.0.113.0/24: 61 addresses – web3")
    _, headline, finding, *_ = pages["busy.txt"].splitlines()
    assert headline == "Nothing is broken. One attack stands out: 61 addresses."
    assert finding.startswith("* Attack from 203.0.113.0/24 ")


def test_a_flood_is_not_quiet() -> None:
    """A thousand times the usual is said with its number."""
    assert "Nothing is broken. sshd: 30,0" in story_pages("flood")["flood.txt"]


def test_no_golden_story_is_left_over() -> None:
    """A page that nothing makes any more proves nothing."""
    assert {file.name.partition(".")[0] for file in STORY_PAGES.iterdir()} == set(STORIES)
