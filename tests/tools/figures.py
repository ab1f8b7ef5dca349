"""The figures of the page "How it is tested": what a run of all tests printed at its end.

`python -m tests.tools.figures LOG…` takes them from logs of `nox -s all` (the later log counts) and writes
docs/figures.txt; a section that no log has is kept.
"""

import re
import sys
from pathlib import Path

from tests import ROOT

FIGURES = ROOT / "docs/figures.txt"
TITLES = (
    "faults", "power cuts", "model", "SMTP faults", "HTTP faults", "hostile servers", "hostile texts",
    "the owner of the folder against root", "fuzzing", "histories", "usual weeks", "imported of real logs", "load",
    "a month in the life", "storm over a fleet", "periods",
)  # fmt: skip
"""The sections that the page shows."""
SECTION = re.compile(r"^=+ ([^=\n]+?) =+\n((?:(?!=|FAILED|ERROR|SKIPPED).+\n)+)", re.MULTILINE)
SUMMED = {"faults", "fuzzing"}
"""Of these, only the last line: the others are one for each case."""


def name_of(title: str) -> str:
    """Return a section's name in the file."""
    return title.replace(" ", "-").lower()


def sections(text: str) -> dict[str, str]:
    """Return the sections of a log by their titles."""
    found: dict[str, str] = {}
    for title, lines in SECTION.findall(text):
        if title in TITLES:  # the quick run and the slow one may both have it
            found[title] = found.get(title, "") + lines
    return {title: lines.splitlines(keepends=True)[-1] if title in SUMMED else lines for title, lines in found.items()}


def kept(text: str) -> dict[str, str]:
    """Return the sections of the file by their names."""
    return dict(re.findall(r"--8<-- \[start:(.+?)\]\n(.*?)--8<-- \[end", text, re.DOTALL))


def main(logs: list[str]) -> None:
    """Write the file."""
    known = kept(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for log in logs:
        known |= {name_of(title): lines for title, lines in sections(Path(log).read_text(errors="replace")).items()}
    names = [name_of(title) for title in TITLES if name_of(title) in known]
    FIGURES.write_text("".join(f"--8<-- [start:{name}]\n{known[name]}--8<-- [end:{name}]\n" for name in names))


if __name__ == "__main__":
    main(sys.argv[1:])
