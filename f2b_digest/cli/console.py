"""What the screen before a person can show, and how a long text gets there: nothing of this changes what is sent."""

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

from f2b_digest.rendering.layout import Layout, plain

Colour = Literal["auto", "always", "never"]
NARROWEST, WIDEST = 40, 100
"""Columns: below, a row has no room; above, the eye loses its line."""
PATIENCE = 2.0
"""Seconds of silence before a person is told that work goes on."""
COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself puts into LC_CTYPE where the locale is C (PEP 538)."""
INSTEAD = {"█": "#", "–": "-", "—": "-", "−": "-", "×": "x", "…": "...", "·": "-", "•": "*", "’": "'", "‘": "'",
           "“": '"', "”": '"', "«": '"', "»": '"', "œ": "oe", "Œ": "OE", "æ": "ae", "Æ": "AE", "ß": "ss"}  # fmt: skip


def is_screen(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether a person looks at a stream: a terminal that can do more than print."""
    return stream.isatty() and (environment.get("TERM") or "dumb") != "dumb"


def layout_of(stream: TextIO, environment: Mapping[str, str], colour: Colour = "auto") -> Layout:
    """Return what a stream can show; what is no screen gets the text of the mail.

    `colour` overrules NO_COLOR (see no-color.org) and what the stream is.
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
    """Return text of characters that an encoding has: "é" becomes "e" where it must, "█" a "#", others "?"."""
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
    """Tell a person at a terminal that work goes on, and for how long, once it takes two seconds.

    On standard error, in a line that is gone at the end. A child process writes it, for a thread would forbid the work
    to fork. `share` says there how much is done, from 0 to 1, if that can be known.
    """
    teller = _start_teller(what, share) if is_screen(sys.stderr, os.environ) else None
    try:
        yield
    finally:
        if teller:
            pipe, pid = teller
            with suppress(BrokenPipeError):  # somebody ended it
                os.write(pipe, b".")  # closing is not enough: whoever the work forked has it, too
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
    """Give a command that shows a digest the options of the screen: `colour` and `no_pager`."""
    colour = click.option(
        "--color",
        "colour",
        type=click.Choice(("auto", "always", "never")),
        default="auto",
        show_default=True,
        help="auto: on a terminal, without NO_COLOR in the environment.",
    )
    pager = click.option("--no-pager", is_flag=True, help="Print also what is longer than the screen.")
    return colour(pager(command))


def put(text: str, *, colour: bool, pager: bool) -> None:
    """Print text, by a pager where that is wanted, somebody is there to use it, and the screen is too low."""
    encoding = _encoding(sys.stdout, os.environ)
    text = readable(text.removesuffix("\n"), encoding)
    there = sys.stdin.isatty() and is_screen(sys.stdout, os.environ)
    program = _pager() if pager and there and _is_long(text) else None
    if program is None:
        click.echo(text, color=colour)
        return
    asked = os.environ.setdefault("LESS", "FRX")
    if encoding.lower() == "utf-8":  # less goes by the locale, which this machine need not have
        os.environ.setdefault("LESSCHARSET", "utf-8")
    shows_paint = program != "less" or "r" in asked.lower()
    click.echo_via_pager(text, color=colour and shows_paint)


def _is_long(text: str) -> bool:
    size = shutil.get_terminal_size()
    rows = sum(max(1, ceil(len(plain(line)) / size.columns)) for line in text.split("\n"))
    return rows >= size.lines  # the shell's prompt takes one


def _pager() -> str | None:
    """Return the name of the program to page with, or None: PAGER can be empty, or cat, or not there."""
    try:
        words = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:  # half a quotation
        return None
    if not words or shutil.which(words[0]) is None:
        return None
    name = Path(words[0]).name
    return None if name == "cat" else name


def plural(value: int, one: str, many: str) -> str:
    """Return a count with its noun, in English: what commands say."""
    return f"{value:,} {one if value == 1 else many}"
