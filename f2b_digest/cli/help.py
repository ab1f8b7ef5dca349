"""`help`: shows a command's `--help`."""

import click

from f2b_digest.errors import hint


@click.command()
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command.

    \b
    Example:   f2b-digest help find
    """  # noqa: D301 - click wants the character, not its name
    root = context.find_root()
    shown, within = root.command, root
    for word in words:
        if not isinstance(shown, click.Group):
            raise click.UsageError(f"{within.command_path} has no subcommands")
        found = shown.get_command(within, word)
        if found is None:
            raise click.UsageError(f"no command {word!r} ({hint('there is', shown.list_commands(within), word)})")
        shown, within = found, click.Context(found, info_name=word, parent=within)
    click.echo(shown.get_help(within))
