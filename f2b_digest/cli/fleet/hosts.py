"""The commands that enrol and retire a fleet's hosts, at a centre in PostgreSQL or at a hub."""

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import click

from f2b_digest.cli.forward import credential_file, need_psycopg
from f2b_digest.cli.program import Program, say
from f2b_digest.cli.record import settings
from f2b_digest.errors import ConfigurationError
from f2b_digest.fleet import credential
from f2b_digest.store import Life, is_hub

DEFAULT = "postgresql:///f2b_digest"
THERE = ": run this there"
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""Of a host: it stands in commands and in patterns."""


class Joining(NamedTuple):
    """What a host needs to join."""

    host: str
    address: str
    credential: str
    before: tuple[str, ...]
    """What to do here before the host can join, line by line."""
    authorized_key: str | None = None
    """At a hub: the line of authorized_keys."""


class Administration(Protocol):
    """A centre, for its administrator; `now` is in UTC epoch seconds. All raise F2bDigestError."""

    def add(self, hosts: Sequence[str], now: float) -> list[Joining]:
        """Enrol hosts, all or none."""

    def rotate(self, host: str, now: float) -> Joining:
        """Give a host a new credential."""

    def retire(self, host: str, now: float) -> None:
        """Revoke a host's access."""

    def lives(self) -> list[Life]:
        """Return the hosts and their stores."""


def centre_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --centre."""
    return click.option(
        "--centre", envvar="F2B_DIGEST_CENTRE", metavar="URL",
        help=f"URL of the centre's database for its administrator; also $F2B_DIGEST_CENTRE. Default: this host's store "
        f"if hosts upload into it by ssh, else {DEFAULT}.",
    )(command)  # fmt: skip


def administration(program: Program, url: str | None) -> Administration:
    """Return the centre at a URL; without one, this host's store if it is a hub's, else the default.

    A database's administrator (`sudo -u postgres`) may not read the configuration, which has the sender's password.
    """
    if url is None and (program.config is None or os.access(program.config, os.R_OK)):
        configured = settings(program.config).get("store")
        if not program.is_centre(configured) and is_hub(path := program.store_path(configured)):
            from f2b_digest.cli.fleet import hub

            return hub.Administration(program, path, None)
    hint = "" if url else _where_else(program)
    _need_psycopg(hint)
    from f2b_digest.cli.fleet import centre

    return centre.Administration(url or DEFAULT, hint)


def _need_psycopg(hint: str) -> None:
    """Raise ConfigurationError without the extra for fleets, which a host that uploads need not have for this."""
    try:
        need_psycopg()
    except ConfigurationError as missing:
        if hint.endswith(THERE):
            raise ConfigurationError([hint]) from None
        raise ConfigurationError([f"{missing}; {hint}" if hint else str(missing)]) from None


def _where_else(program: Program) -> str:
    """Return where else to run this if no centre answers here and none was named; "" on a machine that has one."""
    config, centre = program.config, _centre_of(program)
    if centre:
        return f"this host uploads to {centre}{THERE}"
    if config and not os.access(config, os.R_OK):
        return f"at a hub, run this as root, who can read {config}"
    if program.is_centre(settings(config).get("store")):
        return ""
    return (
        "if the centre is elsewhere, name it with --centre; without a database, f2b-digest fleet add HOST --ssh makes "
        "this host a hub"
    )


def _centre_of(program: Program) -> str:
    """Return the address of the centre that this host uploads to, without its login; "" if it uploads nothing."""
    try:
        kept = credential.read(credential_file(program))
    except ConfigurationError:  # there, but for root only
        return "another machine"
    return urlsplit(kept.centre).netloc.rpartition("@")[2] if kept else ""


@click.command("add")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--ssh", "by_ssh", is_flag=True, help="Let the host upload into this host's own store, by ssh: needs no "
              "database server.")  # fmt: skip
@click.option("--address", metavar="[USER@]HOST[:PORT]", help="With --ssh: this host, as the other one reaches it. "
              "Default: the user who runs this, and this host's name.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON output, for programs: by host, what it needs to join.")
@centre_option
@click.pass_obj
def add_command(
    program: Program, hosts: tuple[str, ...], by_ssh: bool, address: str | None, as_json: bool, centre: str | None
) -> None:
    """Enrol hosts, and print what each needs to join.

    HOST is its name in digests; of several, all are enrolled or none. What is printed is shown only now: the line for
    the host, and the credential that it asks for. With --ssh also the line for authorized_keys, which lets its key
    append that host's events and do nothing else.

    \b
    Examples:  f2b-digest fleet add web1 web2
               f2b-digest fleet add web2 --ssh --address root@hub.example.org
    """  # noqa: D301 - click wants the character, not its name
    if address and not by_ssh:
        raise click.UsageError("--address is for --ssh; of a centre in PostgreSQL it is set by fleet init")
    if centre and by_ssh:
        raise click.UsageError("--ssh is for this host's own store: it cannot be combined with --centre")
    names = list(dict.fromkeys(hosts))
    if wrong := [name for name in names if not NAME.fullmatch(name)]:
        raise ConfigurationError(
            [f"{name!r} cannot be a host's name: it needs letters, digits, '.', '-' and '_'" for name in wrong]
        )
    if by_ssh:
        from f2b_digest.cli.fleet import hub

        path = program.store_path(settings(program.config).get("store"))
        joining = hub.Administration(program, path, address).add(names, program.clock())
    else:
        joining = administration(program, centre).add(names, program.clock())
    if as_json:
        click.echo(json.dumps([_as_json(each) for each in joining], indent=2))
        return
    for each in joining:
        _print(each)


def _as_json(joining: Joining) -> dict[str, str]:
    key = {"authorized_key": joining.authorized_key} if joining.authorized_key else {}
    return {"host": joining.host, "address": joining.address, "credential": joining.credential, **key}


@click.command("rotate")
@click.argument("host")
@centre_option
@click.pass_obj
def rotate_command(program: Program, host: str, centre: str | None) -> None:
    """Give a host a new credential; the old one stops working.

    The host keeps its events until it has joined again with the new one: nothing is lost or told twice. At a hub, the
    old one works until its line in authorized_keys is replaced by the one that is printed.
    """
    _print(administration(program, centre).rotate(host, program.clock()))


def _print(joining: Joining) -> None:
    for line in joining.before:
        say(line)
    say(f"On {joining.host}, as root:")
    click.echo()
    click.echo(f"    f2b-digest fleet join {shlex.quote(joining.address)}\n")
    say("It asks for this credential, which is not shown again:")
    click.echo()
    click.echo(f"    {joining.credential}\n")


@click.command("retire")
@click.argument("host")
@centre_option
@click.pass_obj
def retire_command(program: Program, host: str, centre: str | None) -> None:
    """Revoke a host's access; its events stay.

    Its login is dropped and its sessions end; at a hub, its uploads are refused. `fleet add` enrols it again.
    """
    administration(program, centre).retire(host, program.clock())
