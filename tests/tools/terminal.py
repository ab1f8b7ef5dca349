"""Draws a terminal recording (asciinema's format, version 2) as an animated SVG, and as plain text.

For output that comes line by line, with colours; a terminal's other sequences are left out.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SGR = re.compile(r"\x1b\[([\d;]*)m")
OTHER = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\x1b[()=>][B0]?|\x07")
COLOURS = dict(enumerate(
    ("#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"), start=30
))  # fmt: skip
ROW, COLUMN, SIZE, EDGE = 18, 8.43, 14, 12
"""Pixels: a line's height, a column's width, the font's size, the margin."""
WAIT = 4.0
"""Seconds that the end is shown before the recording begins again."""
STYLE = """
text { font: %dpx ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #dcdfe4; white-space: pre }
.b { font-weight: bold } .d { opacity: .65 }
.l { animation: 1s step-end infinite }
@media (prefers-reduced-motion: reduce) { .l, .s { animation: none !important } }
"""


@dataclass
class Line:
    """A line of the terminal: when it began, and its pieces with their styles."""

    at: float
    pieces: list[tuple[str, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(text for _, text in self.pieces).rstrip()


def lines(cast: Path) -> tuple[list[Line], int, int]:
    """Return a recording's lines, and the terminal's columns and rows."""
    header, *events = map(json.loads, cast.read_text(encoding="utf-8").splitlines())
    columns, found, style = header["width"], [Line(0.0)], ""
    for at, _, output in events:
        for part in re.split(r"(\r*\n|\r|\x1b\[[\d;]*m)", OTHER.sub("", output).replace("\t", "  ")):
            if part.endswith("\n"):
                found.append(Line(at))
            elif part == "\r":
                found[-1].pieces.clear()
            elif sgr := SGR.fullmatch(part):
                style = _style(sgr[1])
            elif part:
                _write(found, at, style, part, columns)
    return found, columns, header["height"]


def _write(found: list[Line], at: float, style: str, text: str, columns: int) -> None:
    """Write at the end of the last line, and on lines below it where it is full."""
    while text:
        line = found[-1]
        line.at = line.at if line.pieces else at
        room = columns - sum(len(piece) for _, piece in line.pieces)
        line.pieces += [(style, text[:room])] if room else []
        text = text[room:]
        if text:
            found.append(Line(at))


def _style(codes: str) -> str:
    """Return the attributes of the codes of a "select graphic rendition"."""
    classes, fill = [], ""
    for code in map(int, filter(None, codes.split(";"))):
        classes += {1: ["b"], 2: ["d"]}.get(code, [])
        fill = COLOURS.get(code if code < 90 else code - 60, fill)
    return (f' class="{" ".join(classes)}"' if classes else "") + (f' fill="{fill}"' if fill else "")


def text(cast: Path) -> str:
    """Return what a recording shows, as plain text."""
    return "\n".join(line.text for line in lines(cast)[0]) + "\n"


def svg(cast: Path) -> str:
    """Return a recording as an SVG that plays again and again; for who wants no motion, its last screen."""
    found, columns, rows = lines(cast)
    total = found[-1].at + WAIT
    width, height = round(columns * COLUMN + 2 * EDGE), rows * ROW + 2 * EDGE
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{STYLE % SIZE}", *_appearing(found, total), *_scrolling(found, rows, total), "</style>",
        '<rect width="100%" height="100%" rx="8" fill="#1e2127"/>',
        f'<svg y="{EDGE}" width="100%" height="{rows * ROW}" overflow="hidden"><g class="s">',
        *(_drawn(number, line, total) for number, line in enumerate(found)), "</g></svg>", "</svg>", "",
    ])  # fmt: skip


def _drawn(number: int, line: Line, total: float) -> str:
    spans = "".join(f"<tspan{style}>{html.escape(piece, quote=False)}</tspan>" for style, piece in line.pieces)
    shown = f"animation-name:a{number};animation-duration:{total:.2f}s"
    return f'<text class="l" style="{shown}" x="{EDGE}" y="{SIZE + number * ROW}" xml:space="preserve">{spans}</text>'


def _appearing(found: list[Line], total: float) -> Iterator[str]:
    """Yield a rule for each line: hidden until its second."""
    for number, line in enumerate(found):
        at = _percent(line.at, total)
        yield f"@keyframes a{number} {{ 0% {{ visibility: hidden }} {at} {{ visibility: visible }} }}"


def _scrolling(found: list[Line], rows: int, total: float) -> Iterator[str]:
    """Yield the rules that move all lines up when the terminal is full."""
    ups = {0.0: 0} | {line.at: number - rows + 1 for number, line in enumerate(found) if number >= rows}
    steps = " ".join(f"{_percent(at, total)} {{ transform: translateY({-ROW * up}px) }}" for at, up in ups.items())
    yield f"@keyframes scroll {{ {steps} }}"
    last = -ROW * max(ups.values())
    yield f".s {{ transform: translateY({last}px); animation: scroll {total:.2f}s step-end infinite }}"


def _percent(at: float, total: float) -> str:
    return f"{100 * at / total:.3f}%"
