"""The commands about a fleet's hosts, at a centre in PostgreSQL or at a hub: add, rotate, retire, list."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol

import click

from f2b_digest import __version__
from f2b_digest.analysis import LATELY, is_off, is_silent
from f2b_digest.cli.console import plural
from f2b_digest.cli.forward import need_psycopg
from f2b_digest.cli.program import Program, say
from f2b_digest.cli.record import settings
from f2b_digest.model.fleet import HostState
from f2b_digest.store import Life, is_hub, state_of
from f2b_digest.text.visible import visible

DEFAULT = "postgresql:///f2b_digest"


class Joining(NamedTuple):
    """What a host needs to join."""

    host: str
    address: str
    credential: str
    before: tuple[str, ...]
    """Lines on what is to be done here, before the host can."""
    authorized_key: str | None = None
    """At a hub: the line of authorized_keys."""


class Administration(Protocol):
    """A centre, for its administrator; `now` is in UTC epoch seconds. All raise F2bDigestError."""

    def add(self, hosts: Sequence[str], now: float) -> list[Joining]:
        """Enrol hosts, all or none."""

    def rotate(self, host: str, now: float) -> Joining:
        """Give a host a new credential."""

    def retire(self, host: str, now: float) -> None:
        """Shut a host out."""

    def lives(self) -> list[Life]:
        """Return the hosts and their stores."""


def _centre(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--centre", envvar="F2B_DIGEST_CENTRE", metavar="URL",
        help=f"URL of the centre's database for its administrator; also $F2B_DIGEST_CENTRE. Default: this host's store "
        f"if hosts upload into it by ssh, else {DEFAULT}.",
    )(command)  # fmt: skip


def _of(program: Program, url: str | None) -> Administration:
    """Return the centre at a URL; without one, this host's store if it is a hub's, else the default.

    A database's administrator (`sudo -u postgres`) may not read the configuration, which has the sender's password.
    """
    if url is None and (program.config is None or os.access(program.config, os.R_OK)):
        configured = settings(program.config).get("store")
        if not program.is_centre(configured) and is_hub(path := program.store_path(configured)):
            from f2b_digest.cli.fleet import hub

            return hub.Administration(program, path, None)
    return _in_postgresql(url or DEFAULT)


def _in_postgresql(url: str) -> Administration:
    need_psycopg()
    from f2b_digest.cli.fleet import centre

    return centre.Administration(url)


@click.command("add")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--ssh", "by_ssh", is_flag=True, help="Let the host upload into this host's own store, by ssh: needs no "
              "database server.")  # fmt: skip
@click.option("--address", metavar="[USER@]HOST[:PORT]", help="With --ssh: this host, as the other one reaches it. "
              "Default: the user who runs this, and this host's name.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON output, for programs: by host, what it needs to join.")
@_centre
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
    names = list(dict.fromkeys(hosts))
    if by_ssh:
        from f2b_digest.cli.fleet import hub

        path = program.store_path(settings(program.config).get("store"))
        joining = hub.Administration(program, path, address).add(names, program.clock())
    else:
        joining = _of(program, centre).add(names, program.clock())
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
@_centre
@click.pass_obj
def rotate_command(program: Program, host: str, centre: str | None) -> None:
    """Give a host a new credential; the old one stops working.

    The host keeps its events until it has joined again with the new one: nothing is lost or told twice. At a hub, the
    old one works until its line in authorized_keys is replaced by the one that is printed.
    """
    _print(_of(program, centre).rotate(host, program.clock()))


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
@_centre
@click.pass_obj
def retire_command(program: Program, host: str, centre: str | None) -> None:
    """Revoke a host's access; its events stay.

    Its login is dropped and its sessions end; at a hub, its uploads are refused. `fleet add` enrols it again.
    """
    _of(program, centre).retire(host, program.clock())


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON output; times are UTC epoch seconds.")
@_centre
@click.pass_obj
def list_command(program: Program, as_json: bool, centre: str | None) -> None:
    """List the hosts with their last contact and problems.

    Those that need somebody come first: silent, never heard, behind with their uploads, with jails that do not record,
    with a clock that is wrong, with more than one store at work.

    \b
    Exit status, for monitoring: 0 all is well; 3 some host needs somebody.
    """  # noqa: D301 - click wants the character, not its name
    lives = _of(program, centre).lives()
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
                say(line)
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
    """Yield the problems of a host to act on, given its stores, the most recent contact first."""
    if lives[0].retired_at is not None:
        return
    host = state_of(lives)
    if host.heard_at is None:
        yield f"never heard since it was enrolled {_ago(now, host.enrolled_at)}: run fleet join there"
        return
    if is_silent(host, now, LATELY):
        yield f"silent since {_ago(now, host.heard_at)}: check that it is up and that cron runs f2b-digest forward"
    if host.stores > 1:
        yield f"{host.stores} stores report as this host: a clone? enrol it under its own name"
    if host.backlog > 0:
        yield f"{plural(host.backlog, 'event is', 'events are')} not uploaded yet"
    if is_off(host):
        yield f"its clock is {abs(host.skew):,.0f} s {'ahead' if host.skew > 0 else 'behind'}: set it by NTP"
    if (replaced := _number((lives[0].state or {}).get("replaced"))) > 0:
        yield f"{plural(int(replaced), 'event', 'events')} uploaded without log lines and names"
    if host.version not in (__version__, None):
        yield f"runs f2b-digest {host.version}, and this is {__version__}"
    yield from _jail_troubles(host)


def _jail_troubles(host: HostState) -> Iterator[str]:
    if host.silence:
        yield f"fail2ban: {host.silence}"
    if host.lacking:
        jails = ", ".join((*host.lacking, *("…",) * bool(host.lacking_more)))
        yield f"jails without the f2b-digest action: {jails}; add to each: {host.line}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _ago(now: float, at: Any) -> str:
    seconds = max(now - _number(at), 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit, unit + 's')} ago"
    return "a moment ago"
