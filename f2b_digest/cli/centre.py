"""Shared by commands at a fleet's centre: switching users, and opening the centre."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from f2b_digest import privileges
from f2b_digest.cli.forward import MISSING, need_psycopg
from f2b_digest.cli.program import Program, complain, languages_of, prepare
from f2b_digest.errors import ConfigurationError
from f2b_digest.store import Outbox, Store

if TYPE_CHECKING:
    from f2b_digest.config import Configuration
    from f2b_digest.fleet.centre import Centre
    from f2b_digest.model.host_context import HostContext

USERS = ("f2b-digest", "nobody")
"""Users that root switches to at a centre, where no store has an owner: the first that exists."""


@contextmanager
def archive(program: Program, configuration: "Configuration", *, read_only: bool) -> Iterator[Outbox]:
    """Open where digests and deliveries are: a host's store, or a fleet's centre. Raises StoreError or CentreError."""
    if program.is_centre(configuration.store):
        with opened(program, configuration) as centre:
            yield centre
        return
    with Store(program.begin(configuration), read_only=read_only) as store:
        yield store


@contextmanager
def opened(program: Program, configuration: "Configuration") -> Iterator["Centre"]:
    """Switch from root to another user irrevocably, and open the centre. Raises CentreError, StoreError."""
    need_psycopg()
    try:
        from f2b_digest.fleet.centre import Centre
    except ImportError:  # SQLAlchemy, which hosts do without
        raise ConfigurationError([MISSING]) from None
    address = program.store or configuration.store
    assert address is not None
    _become_another(configuration)
    with Centre(address) as centre:
        yield centre


def host_context(configuration: "Configuration") -> "HostContext":
    """Return what is known at a centre: friends, and where addresses are registered."""
    from f2b_digest import geoip
    from f2b_digest.model.host_context import HostContext

    places, notes = geoip.find(configuration.geography)
    for note in notes:
        complain(note)
    return HostContext(friends=configuration.friends, geography=places)


def _become_another(configuration: "Configuration") -> None:
    """Drop root: what hosts uploaded was chosen by attackers."""
    if os.geteuid() != 0:
        return
    from f2b_digest.cli import preload

    account = next(filter(None, map(_account, USERS)), None)
    if account is None:
        raise ConfigurationError(
            [f"refusing to process uploaded data as root: create a user {USERS[0]}, or run this as another user"]
        )
    prepare(configuration)
    preload.load(languages_of(configuration))
    preload.keep_modules_open()
    groups = tuple(os.getgrouplist(account.pw_name, account.pw_gid))
    privileges.become(privileges.Owner(account.pw_uid, account.pw_gid, account.pw_name, account.pw_dir, groups))


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
