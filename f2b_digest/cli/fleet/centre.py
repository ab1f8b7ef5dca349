"""The commands of a centre's administrator: init, schema, add, list, rotate, retire."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import psycopg

from f2b_digest import __version__
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program
from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet import enrolment, schema
from f2b_digest.fleet.connection import connect, is_local, parameters
from f2b_digest.fleet.credential import pasted
from f2b_digest.fleet.enrolment import Enrolled, Life
from f2b_digest.text.visible import visible

DEFAULT = "postgresql:///f2b_digest"
SILENT = 15 * 60.0
"""Seconds without an upload after which a host is listed as silent: three runs of cron."""
SKEWED = 60.0
"""Seconds by which a clock may be off."""


def _centre(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--centre", default=DEFAULT, show_default=True, envvar="F2B_DIGEST_CENTRE", metavar="URL",
        help="URL of the centre's database for its administrator; also $F2B_DIGEST_CENTRE.",
    )(command)  # fmt: skip


@contextmanager
def _administering(centre: str) -> Iterator[psycopg.Connection]:
    """Connect as the centre's administrator. Raises CentreError, with what to do where that is somebody else."""
    try:
        with connect(centre) as connection:
            yield connection
    except CentreError as refused:
        if refused.state != "42501" and "authentication failed" not in str(refused):
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
    if address and ":" not in address:
        address = f"{address}:{parts.get('port', 5432)}"
    with _administering(centre) as connection:
        done = enrolment.set_up(connection, address, _authority(ca), default)
        todo = enrolment.missing(connection)
    click.echo(f"the centre is {'at' if done else 'already at'} schema {schema.steps()[-1].number}")
    for line in todo:
        click.echo(f"to do: {line}")
    click.echo("next: f2b-digest fleet add HOST, for each host")


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

    For an administrator who lets no program do what `fleet init` does; that still has to be run for the address.

    \b
    Example:   f2b-digest fleet schema | sudo -u postgres psql f2b_digest
    """  # noqa: D301 - click wants the character, not its name
    click.echo(schema.script(), nl=False)


@click.command("add")
@click.argument("host")
@_centre
def add_command(host: str, centre: str) -> None:
    """Enrol a host, and print what it needs to join.

    HOST is its name in digests. What is printed is shown only now: the line for the host, and the credential that it
    asks for.
    """
    with _administering(centre) as connection:
        _print(enrolment.add(connection, host))


@click.command("rotate")
@click.argument("host")
@_centre
def rotate_command(host: str, centre: str) -> None:
    """Give a host a new credential; the old one stops working.

    The host keeps its events until it has joined again with the new one: nothing is lost or told twice.
    """
    with _administering(centre) as connection:
        _print(enrolment.rotate(connection, host))


def _print(enrolled: Enrolled) -> None:
    click.echo(f"On {enrolled.host}, as root:\n")
    click.echo(f"    f2b-digest fleet join {shlex.quote(enrolled.address)}\n")
    click.echo("It asks for this credential, which is not shown again:\n")
    click.echo(f"    {pasted(enrolled.password, enrolled.ca)}\n")


@click.command("retire")
@click.argument("host")
@_centre
def retire_command(host: str, centre: str) -> None:
    """Revoke a host's access; its events stay.

    Its login is dropped and its sessions end. `fleet add` enrols it again.
    """
    with _administering(centre) as connection:
        enrolment.retire(connection, host)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON output; times are UTC epoch seconds.")
@_centre
@click.pass_obj
def list_command(program: Program, as_json: bool, centre: str) -> None:
    """List the hosts with their last contact and problems.

    Those that need somebody come first: silent, never heard, behind with their uploads, with jails that do not record,
    with a clock that is wrong, with more than one store at work.

    \b
    Exit status, for monitoring: 0 all is well; 3 some host needs somebody.
    """  # noqa: D301 - click wants the character, not its name
    with _administering(centre) as connection:
        lives = enrolment.lives(connection)
    now = program.clock()
    hosts: dict[str, list[Life]] = {}
    for life in lives:
        hosts.setdefault(life.host, []).append(life)
    troubles = {host: list(troubles_of(of_host, now)) for host, of_host in hosts.items()}
    if as_json:
        listed = [
            {"host": host, "troubles": troubles[host], "stores": [asdict(life) for life in of_host if life.life]}
            for host, of_host in hosts.items()
        ]
        click.echo(json.dumps(listed, indent=2))
    else:
        for host in sorted(hosts, key=lambda host: (not troubles[host], host)):
            for line in _host_lines(hosts[host], troubles[host], now):
                click.echo(line)
    sys.exit(3 if any(troubles.values()) else 0)


def _host_lines(lives: list[Life], troubles: list[str], now: float) -> Iterator[str]:
    newest = lives[0]
    words = visible({"host": newest.host, "troubles": troubles}, 4096)
    if newest.retired_at is not None:
        yield f"{words['host']}: retired"
        return
    state = newest.state or {}
    seen = f"heard {_ago(now, newest.seen_at)}" if newest.seen_at else "never heard"
    ban = f", last ban {_ago(now, state['last_ban'])}" if _number(state.get("last_ban")) else ""
    yield f"{words['host']}: {seen}{ban}"
    for line in words["troubles"]:
        yield f"    {line}"


def troubles_of(lives: list[Life], now: float) -> Iterator[str]:
    """Yield what somebody should do about a host, whose stores are given, the last heard first."""
    newest = lives[0]
    if newest.retired_at is not None:
        return
    if newest.seen_at is None:
        yield f"never heard since it was enrolled {_ago(now, newest.enrolled_at)}: run fleet join there"
        return
    if now - newest.seen_at > SILENT:
        yield f"silent since {_ago(now, newest.seen_at)}: check that it is up and that cron runs f2b-digest forward"
    at_work = [life for life in lives if life.seen_at and now - life.seen_at < SILENT]
    if len(at_work) > 1:
        yield f"{len(at_work)} stores report as this host: a clone? enrol it under its own name"
    state = newest.state or {}
    if _number(state.get("backlog")) > 0:
        yield f"{plural(int(_number(state.get('backlog'))), 'event is', 'events are')} not uploaded yet"
    if newest.skew is not None and abs(newest.skew) > SKEWED:
        yield f"its clock is {abs(newest.skew):,.0f} s {'ahead' if newest.skew > 0 else 'behind'}: set it by NTP"
    if _number(state.get("replaced")) > 0:
        yield f"{plural(int(_number(state.get('replaced'))), 'event', 'events')} uploaded without log lines and names"
    if state.get("version") not in (__version__, None):
        yield f"runs f2b-digest {state['version']}, and this is {__version__}"
    yield from _jail_troubles(state.get("fail2ban"))


def _jail_troubles(said: Any) -> Iterator[str]:
    """Yield what a host's jails lack; all of it was written by the host, and may be anything."""
    if not isinstance(said, dict):
        return
    if said.get("silence"):
        yield f"fail2ban: {said['silence']}"
    lacking = said.get("lacking")
    if isinstance(lacking, list) and lacking:
        yield f"jails without the f2b-digest action: {', '.join(map(str, lacking))}; add to each: {said.get('line')}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _ago(now: float, at: Any) -> str:
    seconds = max(now - _number(at), 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit, unit + 's')} ago"
    return "a moment ago"
