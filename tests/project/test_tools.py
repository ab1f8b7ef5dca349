"""The tools that make parts of the documentation: the terminal's drawing, the figures of the tests."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from f2b_digest.cli import COMMANDS
from tests import ROOT
from tests.tools import figures, terminal

CAST = ROOT / "docs/recording.cast"


def cast_of(folder: Path, *output: str, width: int = 20) -> Path:
    """Return a recording of this output, a second apart."""
    path = folder / "x.cast"
    events = [json.dumps([float(at), "o", text]) for at, text in enumerate(output)]
    path.write_text("\n".join([json.dumps({"version": 2, "width": width, "height": 3}), *events]))
    return path


def test_a_terminal_shows_lines_as_a_reader_saw_them(tmp_path: Path) -> None:
    """What was written over is gone, what is too long goes on below, colours and other sequences are no text."""
    cast = cast_of(tmp_path, "\x1b[1;32m$\x1b[0m go\r\n", " 5%\r100%\r\n", "\x1b[2Kabc<" + "d" * 20 + "\r\n")
    assert terminal.text(cast) == "$ go\n100%\nabc<" + "d" * 16 + "\ndddd\n\n"
    root = ET.fromstring(terminal.svg(cast))
    [first, *_] = root.iter("{http://www.w3.org/2000/svg}tspan")
    assert (first.text, first.get("class"), first.get("fill")) == ("$", "b", terminal.COLOURS[32])
    assert "".join(root.itertext()).count("abc<") == 1


def test_the_recording_ends_with_a_digest_and_names_commands_that_there_are() -> None:
    """From the package's installation to a digest in the mailbox."""
    shown = terminal.text(CAST)
    commands = re.findall(r"# f2b-digest (\S+)", shown)
    assert [name for name in commands if name not in COMMANDS] == []
    assert {"setup", "preview", "send", "status"} <= set(commands)
    assert "Subject: " in shown
    assert "Traceback" not in shown
    assert re.search(r"^root@web1:~#$", shown.rstrip().splitlines()[-1])


def test_the_figures_are_the_sections_of_a_log() -> None:
    """Each whole, but for those that have a line for each case; titles that the page does not show are left out."""
    log = """
=============== faults ================
record   EIO once   6 of 40 points
60 points, 0 lost
================ model ================
100 steps
=============== fours =================
4 tried
======== slowest 20 durations =========
"""
    assert figures.sections(log) == {"faults": "60 points, 0 lost\n", "model": "100 steps\n"}


def test_every_figure_has_a_place_on_the_page() -> None:
    """And none says that something was lost or broken."""
    text = (ROOT / "docs/figures.txt").read_text()
    page = (ROOT / "docs/tested.md").read_text()
    names = {figures.name_of(title) for title in figures.TITLES}
    assert set(figures.kept(text)) == names
    assert set(re.findall(r'--8<-- "docs/figures.txt:(.+)"', page)) == names
    assert [
        int(count) for count in re.findall(r"(\d+) (?:lost|harmful|succeeded|crashes|told twice)\b", text) if int(count)
    ] == []
