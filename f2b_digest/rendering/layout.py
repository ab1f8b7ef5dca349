"""Text layout for a screen: width, colours, line breaks."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAIL_WIDTH = 78
"""Columns of a mail's text, which fits into 80 when quoted."""
STYLES = {"bad": "1;31", "warn": "1;33", "good": "32", "strong": "1", "faint": "2", "bar": "36"}
"""What `paint` knows, as a terminal's SGR parameters (ECMA-48)."""
PAINT = re.compile(r"\x1b\[[0-9;]*m")
RESET = "\x1b[0m"


@dataclass(frozen=True)
class Layout:
    """The capabilities of the reader's screen. The default is a mail's text, which other channels get too."""

    colour: bool = False
    width: int | None = None
    """Columns that no line of text exceeds; None for a mail, in which the templates alone break lines."""
    blocks: bool = True
    """Whether it can show "█"."""
    stored: bool = True
    """Whether its bans are in a store, so that commands can look them up."""

    @property
    def columns(self) -> int:
        """The width that a template has."""
        return self.width or MAIL_WIDTH


MAIL = Layout()


def painted(text: str, style: str) -> str:
    """Return text in one of `STYLES`, line by line."""
    return "\n".join(f"\x1b[{STYLES[style]}m{line}{RESET}" if line else "" for line in text.split("\n"))


def plain(text: str) -> str:
    """Return text without what `painted` put into it."""
    return PAINT.sub("", text)


def indent_of(line: str) -> int:
    """Return a line's indentation."""
    bare = plain(line)
    return len(bare) - len(bare.lstrip(" "))


def fold(line: str, width: int, indent: int) -> str:
    """Return a line as lines of so many columns, the further ones indented; longer words are not broken.

    A break comes between the columns of a row (two spaces or more) where that is enough, else between words. What is
    coloured across a break is coloured on both sides of it, as pagers reset colours.
    """
    lines: list[str] = []
    pieces: list[str] = []
    for piece in re.findall(r" *[^ ]+", line):
        pieces.append(piece)
        if len(plain("".join(pieces))) > width and plain("".join(pieces[:-1])).strip():
            at = _break(pieces, width - indent)
            lines.append("".join(pieces[:at]))
            pieces = [" " * indent + pieces[at].lstrip(" "), *pieces[at + 1 :]]
    lines.append("".join(pieces))
    return _painted_line_by_line(lines) if PAINT.search(line) else "\n".join(lines)


def _break(pieces: Sequence[str], room: int) -> int:
    """Return which of the pieces begins the next line: the last column, if it has the room, else the last word."""
    last = len(pieces) - 1
    column = next((at for at in range(last, 0, -1) if pieces[at].startswith("  ")), last)
    before = plain("".join(pieces[:column])).strip()
    return column if before and len(plain("".join(pieces[column:])).lstrip(" ")) <= room else last


def _painted_line_by_line(lines: Iterable[str]) -> str:
    whole, style = [], ""
    for line in lines:
        bare = line.lstrip(" ")
        begin = line[: len(line) - len(bare)] + style
        for paint in PAINT.findall(line):
            style = "" if paint == RESET else paint
        whole.append(begin + bare + (RESET if style else ""))
    return "\n".join(whole)
