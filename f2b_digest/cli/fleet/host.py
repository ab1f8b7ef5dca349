"""The commands by which a host joins a fleet and leaves it."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from f2b_digest import privileges, recorder
from f2b_digest.cli import language
from f2b_digest.cli.console import plural
from f2b_digest.cli.forward import credential_file, need_psycopg, upload
from f2b_digest.cli.program import Program, complain, ended, say
from f2b_digest.cli.record import settings
from f2b_digest.errors import CentreError, ConfigurationError, StoreError, unreadable
from f2b_digest.fleet import by_ssh, credential
from f2b_digest.fleet.credential import Credential, Lines
from f2b_digest.store import Uploads

Readable = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("join")
@click.argument("address", metavar="URL")
@click.option("--credential", "source", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
              metavar="FILE", help="Read the credential from a file, or from standard input (-), instead of asking.",
              )  # fmt: skip
@click.option("--ca", type=Readable, metavar="FILE", help="Authority that signed the centre's certificate (PEM), if "
              "the credential does not bring it.")  # fmt: skip
@click.option("--certificate", type=Readable, metavar="FILE", help="This host's own certificate (PEM), if the centre "
              "wants one.")  # fmt: skip
@click.option("--key", type=Readable, metavar="FILE", help="The key of --certificate.")
@click.option("--matches", type=click.Choice(get_args(Lines)), default="worst", show_default=True,
              help="Upload the log lines of the worst bans, of all, or of none.")  # fmt: skip
@click.pass_obj
def join_command(
    program: Program, address: str, source: Path | None, ca: Path | None, certificate: Path | None, key: Path | None,
    matches: Lines,
) -> None:  # fmt: skip
    """Join a fleet, on the host itself.

    URL and credential are what `fleet add` printed. The credential is asked for, and kept in fleet.toml beside the
    configuration, which only its owner may read. If this host has reports of its own, what it recorded before is
    uploaded as history, which the centre's digests do not report; otherwise the last day counts as news. `f2b-digest
    setup` then adds the upload to cron, every five minutes.

    \b
    Examples:  f2b-digest fleet join postgresql://h-3f9ce2@db.example.org:5432/f2b_digest
               f2b-digest fleet join ssh://root@hub.example.org
    """  # noqa: D301 - click wants the character, not its name
    folder = program.store_path(settings(program.config).get("store")).parent
    if not folder.exists():
        raise ConfigurationError([f"{folder} is missing: run f2b-digest setup first, which makes the store"])
    if address.startswith("ssh://"):
        if ca or certificate or key:
            raise ConfigurationError(["--ca, --certificate and --key are for a centre in PostgreSQL"])
        by_ssh.address(address)
        kept = Credential(address, matches=matches, **credential.taken_apart(_read(source)))
    else:
        kept = _for_postgresql(address, source, ca, certificate, key, matches)
    _join(program, kept)


def _for_postgresql(
    address: str, source: Path | None, ca: Path | None, certificate: Path | None, key: Path | None, matches: Lines
) -> Credential:
    """Return the credential for a database. Raises ConfigurationError."""
    if not address.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(["the address must begin with postgresql://, or of a hub with ssh://"])
    need_psycopg()
    from f2b_digest.fleet.connection import is_local, parameters

    parts = parameters(address)
    if "password" in parts:
        raise ConfigurationError(
            ["do not put the password in the URL, where other users can see it: enter it at the prompt"]
        )
    if bool(certificate) != bool(key):
        raise ConfigurationError(["--certificate needs --key, and the reverse"])
    needs_none = certificate is not None or is_local(parts)
    held = {} if needs_none and source is None else credential.taken_apart(_read(source))
    kept = Credential(address, held.get("password"), held.get("ca"), matches=matches)
    if ca:
        kept = replace(kept, ca=ca.read_text(encoding="utf-8"))
    if certificate and key:
        kept = replace(kept, certificate=certificate.read_text(encoding="utf-8"), key=key.read_text(encoding="utf-8"))
    return kept


def _read(source: Path | None) -> str:
    if source is None:
        if not (sys.stdin.isatty() or _has_terminal()):
            raise ConfigurationError(
                ["no terminal to ask for the credential: use --credential FILE, or - for standard input"]
            )
        return str(click.prompt(language.told("Credential"), hide_input=True, err=True))
    if str(source) == "-":
        return sys.stdin.readline()
    try:
        return source.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigurationError([unreadable(source, error)]) from None


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _join(program: Program, kept: Credential) -> None:
    place = credential_file(program)
    configured = settings(program.config)
    path, told = program.store_path(configured.get("store")), _tells(configured)
    before = credential.read(place)
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    credential.write(place, kept)  # first: who becomes the store's owner to upload may not write here
    status = 1
    try:
        status = _in_child(lambda: _first_upload(program, kept, path, told=told))
    finally:  # a signal as well
        if status and before:
            credential.write(place, before)
        elif status:
            place.unlink(missing_ok=True)
    if status:
        sys.exit(status)
    say("next: f2b-digest setup, which has cron upload every five minutes")


def _tells(configured: dict[str, Any]) -> bool:
    """Return whether a host has reports of its own that reach somebody, by its configuration as it stands."""
    reports = configured.get("reports")
    found = reports.values() if isinstance(reports, dict) else ()
    return any(isinstance(report, dict) and report.get("channels") for report in found)


def _first_upload(program: Program, kept: Credential, path: Path, *, told: bool) -> None:
    result = upload(program, kept, path, looks=True, told=told)
    if result is None:
        raise StoreError(f"another upload of {path} is running: try again")
    for note in result.notes:
        complain(note)
    say(f"joined as {result.host}: {plural(result.events, 'event', 'events')} uploaded")


def _end(number: int, _: object) -> None:
    """Raise SystemExit with the status that shells give a process ended by a signal."""
    sys.exit(128 + number)


def _in_child(work: Callable[[], None]) -> int:
    """Do something that ends with this process becoming another user, and return its exit status."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    child = os.fork()
    if child:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except BaseException:  # a signal: nothing goes on behind the caller's back
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    status = None
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        status = ended(work)
    except SystemExit as end:
        status = int(end.code or 0)
    except KeyboardInterrupt:
        status = 130
    finally:
        if status is None:  # a bug
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if status is None else status)


@click.command("leave")
@click.pass_obj
def leave_command(program: Program) -> None:
    """Leave the fleet, on the host itself.

    Says goodbye to the centre, if it answers, and forgets the credential. Nothing is kept for the centre any more: old
    events are dropped as `keep` says. What the centre has, it keeps; `fleet retire` there shuts the host out.
    `f2b-digest setup` then takes the upload out of cron.
    """
    place = credential_file(program)
    path = program.store_path(settings(program.config).get("store"))
    try:
        kept = credential.read(place)
    except ConfigurationError as error:
        complain(str(error))  # what cannot be read is forgotten all the same
        kept = None
    if recorder.is_there(str(path)) and privileges.as_owner(path, lambda: _forget(program, path, kept)):
        sys.exit(1)
    place.unlink(missing_ok=True)


def _forget(program: Program, path: Path, kept: Credential | None) -> int:
    try:
        with Uploads(path) as uploads:
            if kept:
                _say_goodbye(program, uploads, kept)
            uploads.leave()
    except StoreError as error:
        complain(str(error))
        return 1
    return 0


def _say_goodbye(program: Program, uploads: Uploads, kept: Credential) -> None:
    """Tell the centre that this host leaves, or say why that failed."""
    from f2b_digest.fleet import forward, state

    try:
        uploads.now()  # it may have no more than a credential
        if not kept.by_ssh:
            need_psycopg()
        host = forward.leave(uploads, kept, state.farewell(uploads, program.clock()))
    except StoreError:
        return
    except (CentreError, ConfigurationError) as error:
        complain(f"the centre was not told that this host leaves: {error}")
        return
    say(f"next: f2b-digest setup, which takes the upload out of cron; at the centre: f2b-digest fleet retire {host}")
