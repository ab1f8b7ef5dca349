"""The list of commands, and the entry point. Only this package prints, exits, or queries the machine.

Each command's module is imported when the command runs, so that `--help` and `record` load only click.
"""

import gc
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from f2b_digest import __version__
from f2b_digest.cli import language
from f2b_digest.cli.mistakes import in_the_language
from f2b_digest.cli.program import SYSTEM_CONFIGURATION, Program, ended, system_configuration
from f2b_digest.errors import hint

COMMANDS = {
    "record": "Append one event to the store.",
    "preview": "Show the next digest without sending it.",
    "send": "Send pending digests.",
    "retry": "Retry deferred deliveries that are due.",
    "status": "Show pending bans and undelivered digests.",
    "history": "List digests and their deliveries.",
    "show": "Show a past digest.",
    "find": "Look up an address, network, user name or jail.",
    "resend": "Deliver a past digest again.",
    "import": "Import past bans from fail2ban's database or logs.",
    "prune": "Delete old events that were reported.",
    "recover": "Recover a damaged store.",
    "setup": "Install on or uninstall from this machine.",
    "check": "Check the installation and report problems.",
    "forward": "Upload new events to the fleet's centre.",
    "fleet": "Collect the bans of many hosts at one centre.",
    "config": "Print a configuration with every key and its default, or check one.",
    "demo": "Run every step on sample bans in a temporary folder.",
    "completion": "Print the shell completion script.",
    "help": "Show the help of a command.",
}
COLLECTED = 20_000
"""Objects between two rounds of Python's garbage collector; its default of 700 is a tenth of a start."""
SAMPLES = "samples"
"""Context key for running commands on sample bans."""


class Commands(click.Group):
    """The commands by name, each loaded when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in order of use."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load a command's module."""
        if name not in COMMANDS:
            return None
        module = {"import": "importing"}.get(name, name)  # a Python keyword cannot name a module
        command = import_module(f"f2b_digest.cli.{module}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest names for an unknown one. Raises click's UsageError."""
        if args and args[0] not in COMMANDS:
            meant = hint("there is", COMMANDS, args[0])
            raise click.UsageError(f"no command {args[0]!r} ({meant})", context)
        return super().resolve_command(context, args)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the global options. Raises UsageError, in the language."""
        with in_the_language():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> object:
        """Run the command; explain a misplaced global option. Raises UsageError, in the language."""
        with in_the_language():
            try:
                return super().invoke(context)
            except click.NoSuchOption as error:
                name = error.option_name
                if any(name in parameter.opts for parameter in self.params):
                    right = f"{context.info_name} {name} … {context.invoked_subcommand}"
                    raise click.UsageError(f"{name} goes before the command: {right}", error.ctx) from None
                raise

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="F2B_DIGEST_CONFIG",
    help=f"Configuration. Default: $F2B_DIGEST_CONFIG, else {SYSTEM_CONFIGURATION} if there is one.",
)
@click.option("--store", metavar="PATH", help="Store to use instead of the configured one.")
@click.option("-v", "--verbose", count=True, help="Log what is done; -vv also logs tracebacks.")
@click.version_option(__version__, prog_name="f2b-digest")
@click.pass_context
def cli(context: click.Context, config: Path | None, store: str | None, verbose: int) -> None:
    """One digest of what fail2ban banned, by mail and phone.

    \b
    Example, for cron:   f2b-digest send daily
    At any time:         f2b-digest preview

    \b
    Exit status: 0 done, or nothing to do; 1 failed; 2 usage; 75 deferred,
    will be retried; 78 configuration.
    """  # noqa: D301 - click wants the character, not its name
    config = config or system_configuration()
    if verbose:
        from f2b_digest.cli import logs

        logs.begin(verbose)
        context.call_on_close(logs.end)
    asks_host = context.obj is not SAMPLES
    context.obj = Program(config, store, verbose=bool(verbose), asks_host=asks_host, clock=time.time)


def main() -> None:
    """Run the program; expected errors become one line and an exit status."""
    gc.set_threshold(COLLECTED)
    language.speak(None)
    if status := ended(lambda: cli(prog_name="f2b-digest")):
        sys.exit(status)
