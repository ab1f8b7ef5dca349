"""`fleet`: the commands of a centre's administrator, and those by which a host joins and leaves: only their list."""

from importlib import import_module

import click

from f2b_digest.cli.forward import need_psycopg
from f2b_digest.errors import hint

COMMANDS = {
    "init": ("centre", "Create or upgrade a fleet's centre in a PostgreSQL database."),
    "add": ("hosts", "Enrol a host, and print what it needs to join."),
    "join": ("host", "Join a fleet, on the host itself."),
    "list": ("listing", "List the hosts with their last contact and problems."),
    "rotate": ("hosts", "Give a host a new credential; the old one stops working."),
    "retire": ("hosts", "Revoke a host's access; its events stay."),
    "leave": ("host", "Leave the fleet, on the host itself."),
    "receive": ("hub", "Receive a host's upload by ssh; for authorized_keys only."),
    "schema": ("centre", "Print the centre's schema, for psql."),
}


class Commands(click.Group):
    """The commands by name, each loaded when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names in order of use."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Load a command's module. Raises ConfigurationError without the extra for fleets."""
        if name not in COMMANDS:
            return None
        module, _ = COMMANDS[name]
        if module == "centre":
            need_psycopg()
        command = getattr(import_module(f"f2b_digest.cli.fleet.{module}"), f"{name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest names for an unknown one. Raises click's UsageError."""
        if args and args[0] not in COMMANDS:
            raise click.UsageError(f"no command {args[0]!r} ({hint('there is', COMMANDS, args[0])})", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Commands)
def command() -> None:
    """Collect the bans of many hosts at one centre.

    The centre is a PostgreSQL database, or for a few hosts a hub: another host's store, by ssh. Each host keeps its own
    store, and uploads it by `f2b-digest forward`; it can append its own events there, and do nothing else.

    \b
    At the centre, as the database's administrator:
        f2b-digest fleet init
        f2b-digest fleet add web1.example.org
    Or at a hub:
        f2b-digest fleet add web1.example.org --ssh
    On web1, as root, with what that printed:
        f2b-digest fleet join postgresql://...
    """  # noqa: D301 - click wants the character, not its name
