"""What README.md and docs/ show of the program: made by it, by `nox -s renew`, and held true by tests."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from click.testing import CliRunner

from f2b_digest import composition, recorder, resources
from f2b_digest.cli import COMMANDS, cli, reference
from f2b_digest.cli.demo import sample_week
from f2b_digest.cli.output import show
from f2b_digest.config import Report, load
from f2b_digest.model.digest import Digest, Reconciliation
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.support import samples

ZONE = "Europe/Paris"
NOW = datetime(2026, 11, 20, tzinfo=ZoneInfo(ZONE)).timestamp()


def sample_digest() -> Digest:
    """Return the digest of the demo's sample week, at a fixed time."""
    weekly = Report(every="week")
    configuration = replace(load(None, host="web1.example.org", timezone=ZONE), reports={"weekly": weekly})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bans.sqlite3"
        for event in sample_week(NOW):
            recorder.append(str(path), event)
        with Store(path, read_only=True) as store:
            selection = composition.pending(store, "weekly", weekly)
            with store.report(selection) as source:
                digest = composition.compose(configuration, source, "weekly", NOW)
            return replace(
                digest, reconciliation=Reconciliation(digest.totals.bans, known=19, added=2, jails=("dovecot",))
            )


def sample_text() -> str:
    """Return the start of a digest with findings, as in its mail."""
    text, _ = show(samples.telling(), "text", Renderer(resources.folder("templates")))
    return text.partition("\n\nWhen")[0].rstrip("\n")


def helps() -> str:
    """Return what --help says, of the program and of each command."""
    runner = CliRunner()
    blocks = []
    for words in ([], *commands()):
        text = runner.invoke(cli, [*words, "--help"], prog_name="f2b-digest", terminal_width=80).output
        blocks.append(f"```\n$ f2b-digest {' '.join([*words, '--help'])}\n{text}```")
    return "\n\n".join(blocks)


def commands() -> Iterator[list[str]]:
    """Yield the words of each command; subcommands follow their group."""
    for name in COMMANDS:
        yield [name]
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            yield from ([name, each] for each in command.list_commands(click.Context(command)))


def keys() -> str:
    """Return every key of the configuration, a table for each part of the file, as Markdown."""
    return "\n\n".join(_table(table) for table in reference.tables())


def _table(table: reference.Table) -> str:
    part, _, name = table.title.partition(".")
    heading = {"": "Top level", "reports": "Reports"}.get(part, f'kind = "{name}"')
    rows = ["| key | type | default | meaning |", "|---|---|---|---|", *map(_row, table.keys)]
    place = {"": "At the top of the file.", "reports": "In `[reports.NAME]`. "}.get(part, "")
    return "\n\n".join([f"### {heading}", f"{place}{table.meaning}", "\n".join(rows)])


def _row(key: reference.Key) -> str:
    default = "required" if key.required else f"`{key.default}`" if key.default else ""
    meaning = f"{key.meaning} Example: `{key.example}`" if key.example and not key.required else key.meaning
    return f"| `{key.name}` | {key.type} | {default} | {meaning} |"
