"""The manual page, f2b_digest/man/f2b-digest.1, made from the commands' help.

`python -m tests.tools.manual` writes it anew; a test holds it true.
"""

import inspect
from collections.abc import Iterator

import click

from f2b_digest import __version__, recorder
from f2b_digest.cli import COMMANDS, cli
from f2b_digest.cli.program import SYSTEM_CONFIGURATION
from tests import ROOT

PAGE = ROOT / "f2b_digest/man/f2b-digest.1"
FILES = {
    str(SYSTEM_CONFIGURATION): "The configuration; \\fBf2b\\-digest config\\fR prints every key.",
    recorder.DEFAULT_STORE: "The store, of root. Of anybody else: $XDG_STATE_HOME/f2b-digest/bans.sqlite3.",
    "STORE.spool": "Bans that the store did not take; the next send takes them in.",
    "STORE.damaged": "While it is there, nobody writes to the store.",
    "/etc/fail2ban/action.d/f2b-digest.py": "What fail2ban runs.",
}
STATUSES = {
    "0": "Done, or nothing to do.",
    "1": "Failed.",
    "2": "Usage.",
    "75": "Deferred: will be retried.",
    "78": "Configuration: nothing was sent.",
}


def page() -> str:
    """Return the page as troff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield f'.TH F2B-DIGEST 1 "" "f2b-digest {__version__}" "User Commands"'
    yield from (".SH NAME", "f2b-digest \\- one digest of what fail2ban banned, by mail and phone")
    yield from (".SH SYNOPSIS", ".B f2b-digest", "[OPTIONS] COMMAND [ARGS]...")
    yield ".SH DESCRIPTION"
    yield "fail2ban's action appends each ban to a store. This program shows, delivers and keeps digests of them."
    yield ".SH OPTIONS"
    program = click.Context(cli, info_name="f2b-digest", **cli.context_settings)
    yield from _options(cli, program)
    yield ".SH COMMANDS"
    for name in COMMANDS:
        yield from _command(cli, program, name)
    yield from _list("FILES", FILES)
    yield from _list("EXIT STATUS", STATUSES)
    yield from _list("ENVIRONMENT", {"F2B_DIGEST_CONFIG": "The configuration, where \\-\\-config is not given."})
    yield from (".SH SEE ALSO", ".BR fail2ban (1),", ".BR jail.conf (5)")


def _command(group: click.Group, parent: click.Context, name: str) -> Iterator[str]:
    command = group.get_command(parent, name)
    assert command is not None
    context = click.Context(command, parent=parent, info_name=name)
    words = context.command_path.removeprefix("f2b-digest ")
    pieces = " ".join(command.collect_usage_pieces(context))
    yield from (f".SS {words}", f".B f2b-digest {words}", _text(pieces), ".PP")
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _command(command, context, each)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b"):  # click's mark for lines that stay as they are
            yield from (".nf", _text(paragraph[1:].strip("\n")), ".fi", ".PP")
        else:
            yield from (_text(" ".join(paragraph.split())), ".PP")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record:
            yield from (".TP", f".B {_text(record[0])}", _text(" ".join(record[1].split())))


def _list(title: str, items: dict[str, str]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in items.items():
        yield from (".TP", f".B {_text(name)}", text)


def _text(text: str) -> str:
    """Return text for troff: no line of it is a request, and its hyphens can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.split("\n"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
