"""Administering a centre in PostgreSQL: `init`, `schema`, and what `hosts` and `listing` need of it."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import psycopg

from f2b_digest.cli.console import plural
from f2b_digest.cli.fleet.hosts import DEFAULT, Joining
from f2b_digest.cli.program import say
from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet import enrolment, schema
from f2b_digest.fleet.connection import connect, is_local, parameters
from f2b_digest.fleet.credential import pasted
from f2b_digest.fleet.enrolment import Enrolled
from f2b_digest.store import Life

ADDRESS = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}")
NO_ROLE = re.compile('role ".*" does not exist')
"""What a server says of a user who has no role there."""


@contextmanager
def _administering(centre: str, hint: str = "") -> Iterator[psycopg.Connection]:
    """Connect as the centre's administrator. Raises CentreError, with what to do for another user.

    `hint` is what to do where no server answers.
    """
    try:
        with connect(centre) as connection:
            yield connection
    except CentreError as refused:
        if hint and refused.away and not (refused.state or NO_ROLE.search(str(refused))):
            raise CentreError(f"{refused}; {hint}", away=refused.away) from None
        no_role = NO_ROLE.search(str(refused)) or "authentication failed" in str(refused)
        if refused.state != "42501" and not no_role:
            raise
        todo = "run this as the database's administrator (sudo -u postgres), or name another with --centre"
        raise CentreError(f"{refused}: {todo}", away=False, state=refused.state) from None


@click.command("init")
@click.argument("centre", default=DEFAULT, metavar="[URL]", envvar="F2B_DIGEST_CENTRE")
@click.option("--address", metavar="HOST[:PORT]", help="The server's name as hosts reach it, and as its certificate "
              "has it. Default: of the URL, else this machine's.")  # fmt: skip
@click.option("--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="The authority that signed the server's certificate (PEM), for hosts whose system does not "
              "know it.")  # fmt: skip
def init_command(centre: str, address: str | None, ca: Path | None) -> None:
    """Create or upgrade a fleet's centre in a PostgreSQL database.

    Needs a superuser, and a database of its own: roles, tables, and the two functions that are all a host may call.
    What is there is upgraded, never dropped. Says what the server still lacks before hosts can connect.

    \b
    Example:   sudo -u postgres createdb f2b_digest
               sudo -u postgres f2b-digest fleet init --address db.example.org
    """  # noqa: D301 - click wants the character, not its name
    parts = parameters(centre)
    here = os.uname().nodename if is_local(parts) else str(parts["host"])
    default = f"{here}:{parts.get('port', 5432)}"
    if address is not None:
        address = _address(address, parts.get("port", 5432))
    with _administering(centre) as connection:
        done = enrolment.set_up(connection, address, _authority(ca), default)
        todo = enrolment.missing(connection)
    say(f"the centre is {'at' if done.files else 'already at'} schema {schema.steps()[-1].number}")
    if done.workers:
        say(f"its events are distributed over {plural(done.workers, 'worker', 'workers')} by Citus")
    elif done.workers == 0:
        todo.insert(0, "Citus has no workers: SELECT citus_add_node('WORKER', 5432), and run this again")
    for line in todo:
        say(f"to do: {line}")
    say("next: f2b-digest fleet add HOST, for each host")


def _address(given: str, port: object) -> str:
    """Return how hosts reach the server, each of its names with a port. Raises ConfigurationError."""
    names = [name if ":" in name.rpartition("]")[2] else f"{name}:{port}" for name in given.split(",")]
    if wrong := [name for name in names if not ADDRESS.fullmatch(name)]:
        raise ConfigurationError([f"--address {name!r}: must be HOST or HOST:PORT" for name in wrong])
    return ",".join(names)


def _authority(file: Path | None) -> str | None:
    if file is None:
        return None
    text = file.read_text(encoding="utf-8", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if text.count(begin) != 1 or end not in text:
        raise ConfigurationError([f"{file}: must hold one certificate (PEM), that of the authority"])
    return text[text.index(begin) : text.index(end) + len(end)] + "\n"


@click.command("schema")
def schema_command() -> None:
    """Print the centre's schema, for psql.

    For administrators who do not let a program create roles and tables. `fleet init` must still be run once, to store
    the server's address.

    \b
    Example:   f2b-digest fleet schema | sudo -u postgres psql f2b_digest
    """  # noqa: D301 - click wants the character, not its name
    click.echo(schema.script(), nl=False)


class Administration:
    """See `hosts.Administration`; of the centre at a URL. Raises CentreError."""

    def __init__(self, url: str, hint: str) -> None:
        self._url = url
        self._hint = hint

    def add(self, hosts: Sequence[str], now: float) -> list[Joining]:
        """Enrol hosts, all or none."""
        with _administering(self._url, self._hint) as connection, connection.transaction():
            return [_joining(enrolment.add(connection, host)) for host in hosts]

    def rotate(self, host: str, now: float) -> Joining:
        """Give a host a new credential."""
        with _administering(self._url, self._hint) as connection:
            return _joining(enrolment.rotate(connection, host))

    def retire(self, host: str, now: float) -> None:
        """Revoke a host's access."""
        with _administering(self._url, self._hint) as connection:
            enrolment.retire(connection, host)

    def lives(self) -> list[Life]:
        """Return the hosts and their stores."""
        with _administering(self._url, self._hint) as connection:
            return enrolment.lives(connection)


def _joining(enrolled: Enrolled) -> Joining:
    return Joining(enrolled.host, enrolled.address, pasted(enrolled.password, enrolled.ca), ())
