"""`config`: print every key of the configuration, or check a file."""

from pathlib import Path

import click

from f2b_digest.cli.program import SYSTEM_CONFIGURATION, Program, say
from f2b_digest.errors import ConfigurationError


@click.command()
@click.option("--check", is_flag=True, help="Check FILE instead: print every error, or ok.")
@click.argument("path", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.pass_obj
def command(program: Program, check: bool, path: Path | None) -> None:
    """Print a configuration with every key and its default, or check one.

    The printed configuration is all comments: uncomment what you need. --check only reads FILE (default: the
    configuration in use); `f2b-digest check` checks the whole installation. Exit status of --check: 0 ok, 78 errors.

    \b
    Examples:  f2b-digest config | less
               f2b-digest config --check config.toml
    """  # noqa: D301 - click wants the character, not its name
    if path and not check:
        raise click.UsageError("FILE needs --check")
    if check:
        _check(program, path or program.config)
        return
    from f2b_digest.cli import reference

    click.echo(reference.commented_configuration(), nl=False)


def _check(program: Program, file: Path | None) -> None:
    """Print "ok", and warnings on standard error. Raises ConfigurationError, which has one line for each mistake."""
    if file is None:
        raise ConfigurationError([f"no configuration file found: give one, or create {SYSTEM_CONFIGURATION}"])
    program.config = file
    program.configuration()
    say(f"{file}: ok")
