"""Mistakes on the command line, in the language: what click says, and its frame around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from f2b_digest.cli import language
from f2b_digest.cli.language import gettext as _


class Failure(click.ClickException):
    """An error of click's whose text is in the language already."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error."""
        click.echo(_("Error: %(reason)s", reason=self.message), file=file, err=True)


class Mistake(click.UsageError):
    """A wrong use whose text is in the language already."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the usage, how to get help, and the mistake, on standard error."""
        if self.ctx is not None:
            usage = self.ctx.get_usage().removeprefix("Usage:")
            click.echo(_("Usage:") + usage, file=file, err=True)
            help_line = _("Help: %(command)s --help", command=self.ctx.command_path)
            click.echo(help_line + "\n", file=file, err=True)
        Failure(self.message).show(file)


@contextmanager
def in_the_language() -> Iterator[None]:
    """Translate what click raises; in English, it stays click's own."""
    try:
        yield
    except click.ClickException as error:
        is_help = not error.format_message() or type(error).__name__ == "NoArgsIsHelpError"
        if is_help or isinstance(error, (Failure, Mistake)) or language.code() == language.SOURCE:
            raise
        text = language.told(" ".join(error.format_message().split()))
        raise (Mistake(text, error.ctx) if isinstance(error, click.UsageError) else Failure(text)) from error
