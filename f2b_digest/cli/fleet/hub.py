"""A hub: the store of a host into which others upload by ssh. `receive`, and what `hosts` and `listing` need of it."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from f2b_digest import privileges
from f2b_digest.cli.fleet.hosts import Joining
from f2b_digest.cli.program import Program
from f2b_digest.cli.record import settings
from f2b_digest.cli.setup.machine import own_path
from f2b_digest.errors import CentreError, ConfigurationError, hint
from f2b_digest.fleet import by_ssh, receive
from f2b_digest.fleet.credential import pasted_for_ssh
from f2b_digest.store import Life, Received, Refused, lives

HOST_KEYS = ("ssh_host_ed25519_key.pub", "ssh_host_ecdsa_key.pub", "ssh_host_rsa_key.pub")
SSH = Path("/etc/ssh")
SECONDS = 30
"""For ssh-keygen."""


@click.command("receive")
@click.option("--host", required=True, metavar="NAME", help="The host that uploads, as `fleet add` has it.")
@click.pass_obj
def receive_command(program: Program, host: str) -> None:
    """Receive a host's upload by ssh; for authorized_keys only.

    Reads calls of `f2b-digest forward` from standard input and answers each, whatever command the host asked for.
    Needs no configuration of its own: it appends to this host's store, as the store's owner.

    \b
    Example:   restrict,command="f2b-digest fleet receive --host web2" ssh-ed25519 AAAA...
    """  # noqa: D301 - click wants the character, not its name
    path = program.store_path(settings(program.config).get("store"))
    program.become_owner(path)
    with Received(path) as received:
        try:
            number = received.number(host)
        except Refused:
            number = 0  # each call is refused, in words that the host can read
        with receive.only_one(path, number) as alone:
            receive.limit_memory()
            if alone:
                receive.serve(received, host, sys.stdin.buffer, sys.stdout.buffer, program.clock)
            else:
                receive.refuse(sys.stdin.buffer, sys.stdout.buffer, "another upload of this host is running")


class _Key(NamedTuple):
    private: str
    public: str


class Administration:
    """See `hosts.Administration`; of this host's store. Raises F2bDigestError."""

    def __init__(self, program: Program, path: Path, address: str | None) -> None:
        """Prepare; as root this process then becomes the store's owner."""
        self._program = program
        self._path = path
        self._address = _address(address)

    def add(self, hosts: Sequence[str], now: float) -> list[Joining]:
        """Enrol hosts, each with a new key."""
        joining = [self._joining(host, "Add") for host in hosts]
        with self._received() as received:
            there = received.hosts()
            for host in [host for host in hosts if host in there] or [
                host for host in hosts if not received.enrol(host, now)
            ]:
                raise CentreError(
                    f"{host} is already enrolled; for a new credential: f2b-digest fleet rotate {host}", away=False
                )
        return joining

    def rotate(self, host: str, now: float) -> Joining:
        """Make a new key."""
        with self._received() as received:
            _refuse_unknown(received, host)
        return self._joining(host, "Replace that host's line by")

    def retire(self, host: str, now: float) -> None:
        """Revoke a host's access."""
        with self._received() as received:
            _refuse_unknown(received, host)
            received.retire(host, now)

    def lives(self) -> list[Life]:
        """Return the hosts and their stores."""
        self._program.become_owner(self._path)
        return lives(self._path)

    def _received(self) -> Received:
        self._program.become_owner(self._path)
        return Received(self._path)

    def _joining(self, host: str, what: str) -> Joining:
        """Return what a host needs to join, and what to do here first."""
        user, _, _ = by_ssh.address(self._address)
        key = _new_key(host)
        command = _command(self._program, host)
        line = f'restrict,command="{command}" {key.public}'
        where = f"Here, in ~{user}/.ssh/authorized_keys (of root, or of a user with a shell who owns the store)"
        before = (where, f"{what}:\n", f"    {line}\n")
        return Joining(host, self._address, pasted_for_ssh(key.private, _host_key()), before, line)


def _address(given: str | None) -> str:
    """Return how hosts reach this one. Raises ConfigurationError."""
    user, text = privileges.user(os.geteuid()), given or os.uname().nodename
    found = f"ssh://{text if '@' in text else f'{user}@{text}'}"
    by_ssh.address(found)
    return found


def _command(program: Program, host: str) -> str:
    """Return the command that a host's key runs, as authorized_keys quotes it. Raises ConfigurationError."""
    config = ["--config", str(program.config.absolute())] if program.config else []
    store = ["--store", program.store] if program.store else []
    words = [*shlex.split(own_path()), *config, *store, "fleet", "receive", "--host", host]
    command = shlex.join(words)
    if not command.isprintable():
        raise ConfigurationError([f"{command!r} cannot stand in authorized_keys: rename the configuration"])
    return command.replace('"', '\\"')


def _host_key() -> str:
    """Return this host's key, which others compare. Raises ConfigurationError."""
    for name in HOST_KEYS:
        try:
            kind, key, *_ = (SSH / name).read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        return f"{kind} {key}"
    raise ConfigurationError([f"no key of an ssh server in {SSH}: apt install openssh-server"])


def _new_key(host: str) -> _Key:
    """Return a new key pair, of which nothing stays here. Raises ConfigurationError."""
    with tempfile.TemporaryDirectory(prefix="f2b-digest-") as folder:
        file = Path(folder) / "key"
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"f2b-digest-{host}", "-f", str(file))
        try:
            subprocess.run(  # noqa: S603 - our own words; the name was checked
                words, check=True, timeout=SECONDS, stdin=subprocess.DEVNULL, capture_output=True
            )
        except FileNotFoundError:
            raise ConfigurationError(["ssh-keygen is not installed: apt install openssh-client"]) from None
        except (subprocess.SubprocessError, OSError):
            raise ConfigurationError(["ssh-keygen made no key"]) from None
        return _Key(file.read_text(encoding="ascii"), file.with_suffix(".pub").read_text(encoding="ascii").strip())


def _refuse_unknown(received: Received, host: str) -> None:
    """Raise CentreError where a host is not enrolled."""
    names = received.hosts()
    if host not in names:
        there_is = hint("there is", names, host) or "none enrolled"
        raise CentreError(f"no host {host!r} is enrolled ({there_is})", away=False)
