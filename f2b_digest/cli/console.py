"""Terminal output: width, colour, encoding, pager. Nothing here changes what is sent."""

import os
import select
import shlex
import shutil
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Any, Literal, TextIO

import click

from f2b_digest.cli import language
from f2b_digest.rendering.layout import Layout, plain

Colour = Literal["auto", "always", "never"]
NARROWEST, WIDEST = 40, 100
"""Columns: minimum for a row, maximum for readability."""
PATIENCE = 2.0
"""Seconds before progress is shown."""
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python sets LC_CTYPE to in the C locale (PEP 538)."""
INSTEAD = {"█": "#", "–": "-", "—": "-", "−": "-", "×": "x", "…": "...", "·": "-", "•": "*", "’": "'", "‘": "'",
           "“": '"', "”": '"', "«": '"', "»": '"', "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss"}  # fmt: skip


def is_screen(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal, and not a dumb one."""
    return stream.isatty() and (environment.get("TERM") or "dumb") != "dumb"


def layout_of(stream: TextIO, environment: Mapping[str, str], colour: Colour = "auto") -> Layout:
    """Return a stream's layout; anything but a terminal gets the text of the mail.

    `colour` overrides NO_COLOR (see no-color.org) and the stream's kind.
    """
    screen = is_screen(stream, environment)
    painted = colour == "always" or (colour == "auto" and screen and not environment.get("NO_COLOR"))
    if not stream.isatty():
        return Layout(painted)
    columns = shutil.get_terminal_size().columns
    return Layout(painted, min(max(columns, NARROWEST), WIDEST), blocks=_encoding(stream, environment) != "ascii")


def _encoding(stream: TextIO, environment: Mapping[str, str]) -> str:
    """Return the encoding of a screen: ASCII where the locale is C, though Python writes UTF-8 there."""
    if stream.isatty():
        category = environment.get("LC_CTYPE", "")
        named = (environment.get("LC_ALL"), "" if category in COERCED else category, environment.get("LANG"))
        if next(filter(None, named), "C") in ("C", "POSIX"):
            return "ascii"
    return stream.encoding or "utf-8"


def readable(text: str, encoding: str) -> str:
    """Return text with only an encoding's characters: if necessary, "é" becomes "e", "█" a "#", others "?"."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_like(character, encoding) for character in text)
    return text


def _like(character: str, encoding: str) -> str:
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    for candidate in (character, INSTEAD.get(character, bare)):
        try:
            candidate.encode(encoding)
        except UnicodeEncodeError:
            continue
        return candidate
    return "?"


@contextmanager
def working(what: str, share: Callable[[], float | None] = lambda: None) -> Iterator[None]:
    """Show progress on a terminal, with the elapsed time, once a block takes two seconds.

    On standard error, in a line that is erased at the end. Written by a child process, as a thread would prevent the
    work from forking. `share` returns the progress from 0 to 1 in the child, if known.
    """
    teller = _start_teller(language.told(what), share) if is_screen(sys.stderr, os.environ) else None
    try:
        yield
    finally:
        if teller:
            pipe, pid = teller
            with suppress(BrokenPipeError):  # the user quit it
                os.write(pipe, b".")  # closing is not enough: forked children have it open, too
            os.close(pipe)
            os.waitpid(pid, 0)


def _start_teller(what: str, share: Callable[[], float | None]) -> tuple[int, int] | None:
    """Return the pipe that ends the teller, and its process; None where this system starts no process more."""
    ended, pipe = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(ended)
        os.close(pipe)
        return None
    if not pid:
        try:
            os.close(pipe)
            _tell(what, share, ended)
        finally:
            os._exit(0)
    os.close(ended)
    return pipe, pid


def _tell(what: str, share: Callable[[], float | None], ended: int) -> None:
    """Tell it until something comes by a pipe, or its other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's to end
    screen, begun, wait, told = sys.stderr.fileno(), monotonic(), PATIENCE, False
    while not select.select([ended], [], [], wait)[0]:
        wait, told, done = 1.0, True, share()
        percent = "" if done is None else f"{done:.0%}, "
        os.write(screen, f"\r\x1b[K{what}: {percent}{monotonic() - begun:.0f} s ".encode())
    if told:
        os.write(screen, b"\r\x1b[K")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the terminal options `colour` and `no_pager` to a command."""
    colour = click.option(
        "--color",
        "colour",
        type=click.Choice(("auto", "always", "never")),
        default="auto",
        show_default=True,
        help="auto: on a terminal, without NO_COLOR in the environment.",
    )
    pager = click.option("--no-pager", is_flag=True, help="Do not use a pager.")
    return colour(pager(command))


def put(text: str, *, colour: bool, pager: bool) -> None:
    """Print text, through a pager if requested, interactive, and longer than the screen."""
    encoding = _encoding(sys.stdout, os.environ)
    text = readable(text.removesuffix("\n"), encoding)
    there = sys.stdin.isatty() and is_screen(sys.stdout, os.environ)
    program = _pager() if pager and there and _is_long(text) else None
    if program is None:
        click.echo(text, color=colour)
        return
    asked = os.environ.setdefault("LESS", "FRX")
    if encoding.lower() == "utf-8":  # less uses the locale, which may not be installed
        os.environ.setdefault("LESSCHARSET", "utf-8")
    shows_paint = program != "less" or "r" in asked.lower()
    click.echo_via_pager(text, color=colour and shows_paint)


def _is_long(text: str) -> bool:
    size = shutil.get_terminal_size()
    rows = sum(max(1, ceil(len(plain(line)) / size.columns)) for line in text.split("\n"))
    return rows >= size.lines  # one line for the shell's prompt


def _pager() -> str | None:
    """Return the pager program, or None if PAGER is empty, cat or missing."""
    try:
        words = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:  # unbalanced quote
        return None
    if not words or shutil.which(words[0]) is None:
        return None
    name = Path(words[0]).name
    return None if name == "cat" else name


def plural(value: int, one: str, many: str) -> str:
    """Return a count with its English noun."""
    return f"{value:,} {one if value == 1 else many}"
