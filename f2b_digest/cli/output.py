"""A digest as `preview` and `show` print it: its format, layout, and where it goes. Which digest is theirs to say."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from f2b_digest import delivery
from f2b_digest.channels.email import Email
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.cli import console
from f2b_digest.cli.program import Program
from f2b_digest.config import Configuration
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import document, to_json
from f2b_digest.model.message import Content
from f2b_digest.rendering.layout import MAIL, Layout, plain
from f2b_digest.rendering.renderer import Renderer

FORMATS = ("text", "html", "ntfy", "json")


def renderer_for(configuration: Configuration, report: str) -> Renderer:
    """Return a report's renderer, as `send` uses it."""
    return delivery.renderer_for(delivery.renderer_of(configuration), configuration, report)


def show(digest: Digest, form: str, renderer: Renderer, *, everything: bool = False) -> tuple[str, Digest]:
    """Return a digest in one of `FORMATS`, cut to the size that a channel with default settings would send.

    With `everything`, nothing is cut. The digest is returned too, with notes on errors.
    """
    if form == "json":
        return to_json(digest, indent=2) + "\n", digest
    body = "email/body.html" if form == "html" else "email/body.txt"
    if everything:
        return renderer.render([body], document(digest))[body], digest
    stamp = delivery.stamp_of(digest, "preview", "preview", digest.end.timestamp())
    channel: Any
    if form == "ntfy":
        channel = Ntfy(kind="ntfy", url="https://ntfy.example.org", topic="preview")
    else:
        channel = Email.model_validate({"kind": "email", "from": "f2b@example.org", "to": ["admin@example.org"]})

    def fits(content: Content) -> bool:  # terminal layout does not count against a message's size
        return bool(channel.fits(Content({name: plain(text) for name, text in content.parts.items()}), stamp))

    content, digest = delivery.fit(channel.needs, delivery.shown_by(channel, digest), renderer, fits)
    if form == "ntfy":
        return f"{content.parts['ntfy/title.txt'].strip()}\n\n{content.parts['ntfy/message.txt'].strip()}\n", digest
    return content.parts[body], digest


def layout_of(form: str, output: Path | None, colour: console.Colour) -> Layout:
    """Return the layout for text on a terminal; files and other formats get what is sent."""
    return MAIL if output or form != "text" else console.layout_of(sys.stdout, os.environ, colour)


def opened(program: Program, configuration: Configuration, path: Path | None) -> Path | int | None:
    """Return an output file for `write`: opened now, if root is about to switch to the store's owner.

    Its content is kept until it is written. Raises click's FileError.
    """
    if path is None or not program.becomes_another(configuration):
        return path
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None


def write(path: Path | int | None, content: str | bytes, *, colour: bool = False, pager: bool = False) -> None:
    """Write to an output file (a path, or open), or to the terminal. Raises click's FileError."""
    if path is None:
        if isinstance(content, str):
            console.put(content, colour=colour, pager=pager)
        else:
            click.echo(content, nl=False)
        return
    try:
        with open(path, "wb") as file:  # noqa: PTH123 - it may be a descriptor
            with contextlib.suppress(OSError):
                file.truncate()  # a pipe cannot be truncated
            file.write(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None
