"""`record`: append one event, for shell actions, scripts and other banning tools. Loads no library but click."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from f2b_digest import privileges, recorder
from f2b_digest.cli import language
from f2b_digest.cli.program import Program, complain
from f2b_digest.errors import ConfigurationError, StoreError, unreadable


@click.command()
@click.option("--jail", required=True, help="Jail, or its equivalent in another tool.")
@click.option("--ip", required=True, metavar="ID", help="What was banned: an address, a network or any text.")
@click.option("--kind", type=click.Choice(recorder.KINDS), default="ban", show_default=True)
@click.option("--at", type=float, metavar="EPOCH", help="Time of the last failure, in UTC seconds. Default: now.")
@click.option("--failures", type=int, metavar="N")
@click.option("--bantime", type=int, metavar="SECONDS", help="-1 is permanent.")
@click.option("--bancount", type=int, metavar="N", help="How often this id was banned, including this ban.")
@click.option("--user", "users", multiple=True, metavar="NAME", help="User name tried; can be repeated.")
@click.option("--matches", metavar="TEXT", help='Log lines; "-" reads standard input.')
@click.option("--host", metavar="NAME", help="Default: the configuration's host, else this machine's name.")
@click.pass_obj
def command(program: Program, /, jail: str, ip: str, kind: str, at: float | None, users: tuple[str, ...],
            matches: str | None, host: str | None, **numbers: int | None) -> None:  # fmt: skip
    """Append one event to the store.

    The store is created at the first event. If it is busy, the event goes to its spool: it is safe on disk and imported
    later.

    \b
    Example:   f2b-digest record --jail sshd --ip 192.0.2.7 --failures 5 --bantime 600
    """  # noqa: D301 - click wants the character, not its name
    language.speak(language.SOURCE)  # fail2ban is waiting, and notes what is said in its log
    configured = settings(program.config)
    if matches == "-":
        matches = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    name = host or configured.get("host") or os.uname().nodename
    path = program.store_path(configured.get("store"))
    program.become_owner(path)
    if not (program.store or configured.get("store")):  # the default: it may not exist yet
        recorder.make_folder(str(path.parent))
    row = recorder.event(
        kind, jail, ip, program.clock() if at is None else at, name, "record", users=users, matches=matches, **numbers
    )
    try:
        reason = recorder.append(str(path), row)
    except recorder.NotStored as error:
        raise StoreError(f"NOT RECORDED: the {kind} of {ip!r} in {jail!r}: {error}") from None
    if reason:
        complain(f"the {kind} of {ip!r} is in {recorder.spool_path(str(path))}, for the next send: {reason}")


def settings(path: Path | None) -> dict[str, Any]:
    """Return the configuration's top-level keys, unvalidated: full loading would take ten times as long."""
    if path is None:
        return {}
    privileges.refuse_changeable(path)
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([unreadable(path, error)]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from None
