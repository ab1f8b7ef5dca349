"""A streaming replica of the tests' PostgreSQL: made by pg_basebackup, promoted on request. No tests here."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Self

import psycopg

from f2b_digest.fleet.connection import parameters
from f2b_digest.fleet.credential import Credential
from tests.support.postgres_server import PATIENCE, Centre, PostgreSQL, free_port


class Replica:
    """A second server that follows a first one, in its folder; `with` starts and stops it."""

    def __init__(self, primary: PostgreSQL, *, synchronous: bool) -> None:
        """Copy the first one. With `synchronous`, it confirms nothing that is not here, too."""
        self.primary = primary
        self.port = free_port()
        self._data = primary.folder / "replica"
        socket = ("-h", str(primary.folder), "-p", str(primary.port), "-U", "postgres")
        primary.run("pg_basebackup", "-D", self._data, "-R", "-X", "stream", "--checkpoint=fast", *socket)
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nsynchronous_standby_names = ''\n")
        self._synchronous, self._failed_over = synchronous, False

    def __enter__(self) -> Self:
        self.primary.run("pg_ctl", "-D", self._data, "-l", self._data / "log", "-w", "start")
        if self._synchronous:
            set_up(self.primary.port, self.primary.folder, synchronous_standby_names="*")
        return self

    def __exit__(self, *_: object) -> None:
        self.primary.run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")
        if self._failed_over:  # what it is needed for now is to be cleared
            self.primary.start()
        set_up(self.primary.port, self.primary.folder, synchronous_standby_names="")

    def fall_behind(self) -> None:
        """Receive nothing any more."""
        set_up(self.port, self.primary.folder, primary_conninfo="")
        until = time.monotonic() + PATIENCE
        with psycopg.connect(self.primary.address(), autocommit=True) as connection:
            while connection.execute("SELECT FROM pg_stat_replication").fetchone():
                assert time.monotonic() < until
                time.sleep(0.02)

    def take_over(self) -> None:
        """Let the first one die, and become the one that accepts writes."""
        self._failed_over = True
        self.primary.stop("immediate")
        self.primary.run("pg_ctl", "-D", self._data, "-w", "promote")

    def either(self, credential: Credential) -> Credential:
        """Return a host's credential with the addresses of both servers."""
        login = parameters(credential.centre)
        hosts = f"localhost:{self.primary.port},localhost:{self.port}"
        return replace(credential, centre=f"postgresql://{login['user']}@{hosts}/{login['dbname']}")


class Pair(Centre):
    """A centre on two servers, of which one accepts writes."""

    def __init__(self, centre: Centre, replica: Replica) -> None:
        super().__init__(centre.server, centre.name)
        self._ports = f"{centre.server.port},{replica.port}"
        self.admin = self.as_user("postgres")

    def as_user(self, user: str) -> str:
        """Return the address for a role: both sockets."""
        folder = self.server.folder
        return f"postgresql://{user}@/{self.name}?host={folder},{folder}&port={self._ports}&target_session_attrs=read-write"


def set_up(port: int, folder: Path, **settings: str) -> None:
    """Change settings of a server, without a restart."""
    with psycopg.connect(
        host=str(folder), port=port, user="postgres", dbname="postgres", autocommit=True
    ) as connection:
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
