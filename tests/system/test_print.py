"""The mail's page on paper, as a real browser prints it without backgrounds: short, and no bar is lost."""

import re
import subprocess
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from f2b_digest.model.digest import Digest
from tests.support import parts
from tests.support.stories import told
from tests.tools.golden import story_pages

pytestmark = pytest.mark.slow
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--generate-pdf-document-outline", "--no-pdf-header-footer",
)  # fmt: skip
NO_BACKGROUNDS = "<style>* { background: none !important }</style></head>"
"""What the dialog of a browser does unless it is asked for backgrounds; the command line prints them."""
BAR = tuple(round(part / 255, 4) for part in bytes.fromhex("b04a2e"))
"""A bar's colour as Chromium writes it."""


@cache
def printed(name: str) -> bytes:
    """Return a story's page as PDF."""
    chromium = parts.program("chromium", "apt-get install chromium")
    with TemporaryDirectory() as folder:
        page, pdf = Path(folder) / "page.html", Path(folder) / "page.pdf"
        page.write_text(story_pages(name)[f"{name}.html"].replace("</head>", NO_BACKGROUNDS))
        command = [chromium, *CHROMIUM, f"--user-data-dir={folder}/profile", f"--print-to-pdf={pdf}", str(page)]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        return pdf.read_bytes()


def pages(pdf: bytes) -> list[bytes]:
    """Return the numbers of the pages' objects, in their order."""
    return re.findall(rb"(\d+) 0 obj\s*<</Type /Page\b(?!s)", pdf)


def bars(pdf: bytes) -> int:
    """Return how many rectangles are filled in a bar's colour, on all pages."""
    streams = re.findall(rb">>\s*stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return sum(colour == BAR for stream in streams for colour in _filled(stream))


def _filled(stream: bytes) -> Iterator[tuple[float, ...]]:
    """Yield the colour of each rectangle that a page's drawing fills; of a font or a picture, nothing."""
    try:
        drawing = zlib.decompress(stream).decode("ascii")
    except (zlib.error, UnicodeDecodeError):
        return
    colour: tuple[float, ...] = ()
    saved = []
    for line in re.sub(r" re\nf\b", " re f", drawing).splitlines():
        if line == "q":
            saved.append(colour)
        elif line == "Q":
            colour = saved.pop()
        elif found := re.search(r"([\d.]+) ([\d.]+) ([\d.]+) rg$", line):
            colour = tuple(map(float, found.groups()))
        elif line.endswith(" re f"):
            yield colour


def drawn(digest: Digest) -> int:
    """Return how many bars a digest has: of its jails, of its hours or days, and of the hours of its week."""
    assert digest.when is not None
    times = [bar.bans for bar in digest.when.bars]
    heat = [bans for hours in digest.when.heat for bans in hours]
    return len(digest.jails) + sum(map(bool, times)) + sum(map(bool, heat))


def test_a_busy_day_is_three_pages_and_says_it_on_the_first() -> None:
    """The outline that Chromium makes of the headings knows their pages."""
    pdf = printed("busy")
    assert len(pages(pdf)) <= 3
    found = re.search(rb"/Title \(Nothing is broken[^)]*\)\s*/Dest \[(\d+) 0 R", pdf)
    assert found
    assert found[1] == pages(pdf)[0]
    jails = re.search(rb"/Title \(Jails\)\s*/Dest \[(\d+) 0 R", pdf)
    assert jails
    assert jails[1] == pages(pdf)[0], "most of the first page is empty"


@pytest.mark.parametrize("name", ["busy", "week"])
def test_no_bar_is_lost_on_paper(name: str) -> None:
    """Those of each hour of a busy day; those of each hour of a week, which its heat map is made of."""
    assert bars(printed(name)) == drawn(told(name)) > 24
