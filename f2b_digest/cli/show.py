"""`show`: a digest of the archive. Opens the store read-only."""

from pathlib import Path

import click

from f2b_digest.cli import Program, console
from f2b_digest.cli.centre import archive
from f2b_digest.cli.preview import FORMATS, layout_of, opened, renderer_for, show, write
from f2b_digest.errors import F2bDigestError, hint
from f2b_digest.model.document import from_json


@click.command()
@click.argument("id", type=int)
@click.option("--format", "form", type=click.Choice((*FORMATS, "raw")), default="text", show_default=True)
@click.option("--channel", metavar="NAME", help="With --format raw: whose message. Default: the first one.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there instead.")
@console.options
@click.pass_obj
def command(
    program: Program, id: int, form: str, channel: str | None, output: Path | None,  # noqa: A002
    colour: console.Colour, no_pager: bool,
) -> None:  # fmt: skip
    """Show a digest of the archive.

    ID is the number that `history` shows. The formats are rendered anew from what was sealed, with today's templates;
    in the report's language; "raw" is a message byte for byte as it went out. Text on a terminal has its colours and
    width.

    \b
    Example:   f2b-digest show 12 --format raw --channel mail
    """  # noqa: D301 - click wants the character, not its name
    if channel is not None and form != "raw":
        raise click.UsageError("--channel goes with --format raw")
    configuration = program.configuration()
    target = opened(program, configuration, output)
    renderers = {name: renderer_for(configuration, name) for name in (*configuration.reports, "")}
    with archive(program, configuration, read_only=True) as store:
        document = store.document(id)
        stored = store.deliveries(digests=[id])
        rows = [row for row in stored if channel in (None, row.channel)]
        raw = store.message(rows[0].id) if rows and form == "raw" else b""
    if form == "raw":
        if not raw:
            by = f" by channel {channel!r}" if channel else ""
            there_is = hint("there is", {row.channel: 0 for row in stored}, channel)
            raise F2bDigestError(f"no message of digest {id}{by} is stored{f' ({there_is})' if there_is else ''}")
        write(target, raw)
        return
    if document is None:
        raise F2bDigestError(f"no digest {id} is stored, or it was pruned; `f2b-digest history` lists what there is")
    digest = from_json(document)
    layout = layout_of(form, output, colour)
    renderer = renderers.get(digest.report) or renderers[""]
    text, _ = show(digest, form, renderer.with_layout(layout))
    write(target, text, colour=layout.colour, pager=not no_pager)
