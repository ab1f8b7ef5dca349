"""Enrolling, listing and retiring the hosts of a fleet. No events are read here."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from f2b_digest.errors import CentreError, hint
from f2b_digest.fleet import schema
from f2b_digest.store import Life

CONNECTIONS = 3
"""Connections per host: an upload that hangs must not block the next one."""


@dataclass(frozen=True)
class Enrolled:
    """A new host's credential; the password is not stored."""

    host: str
    address: str
    """With the login: postgresql://login@host:port/database."""
    password: str
    ca: str | None


_LIVES = """
SELECT h.host, extract(epoch FROM h.enrolled_at)::float8 AS enrolled_at,
       extract(epoch FROM h.retired_at)::float8 AS retired_at, s.life::text, s.state, s.skew, s.complete_until,
       extract(epoch FROM s.began_at)::float8 AS began_at, extract(epoch FROM s.seen_at)::float8 AS seen_at
FROM f2b.host h LEFT JOIN f2b.store s USING (host) ORDER BY h.host, s.seen_at DESC
"""


class SetUp(NamedTuple):
    """What `set_up` did."""

    files: list[int]
    """The numbers of those that were applied."""
    workers: int | None
    """Citus' workers that hold the events; None without Citus."""


def set_up(connection: psycopg.Connection, address: str | None, ca: str | None, default: str) -> SetUp:
    """Upgrade the centre's schema to this version, and spread the events over Citus' workers.

    `address` (host:port) and `ca` (PEM) are given to hosts; None keeps the centre's value, or else takes
    `default` and the authorities that systems know.
    """
    done = schema.apply(connection)
    connection.execute(
        """INSERT INTO f2b.centre AS c (address, ca) VALUES (coalesce(%(address)s, %(default)s), %(ca)s)
           ON CONFLICT (one) DO UPDATE SET address = coalesce(%(address)s, c.address), ca = coalesce(%(ca)s, c.ca)""",
        {"address": address, "ca": ca, "default": default},
    )
    return SetUp(done, schema.distribute(connection))


def add(connection: psycopg.Connection, host: str) -> Enrolled:
    """Enrol a host, or one that was retired again. Raises CentreError if it is enrolled."""
    with _changing_roles(connection):
        found = connection.execute("SELECT retired_at FROM f2b.host WHERE host = %s FOR UPDATE", (host,)).fetchone()
        if found and found[0] is None:
            raise CentreError(
                f"{host} is already enrolled; for a new credential: f2b-digest fleet rotate {host}", away=False
            )
        login = f"h-{secrets.token_hex(8)}"
        connection.execute(
            """INSERT INTO f2b.host (host, login) VALUES (%s, %s)
               ON CONFLICT (host) DO UPDATE SET login = excluded.login, retired_at = NULL, enrolled_at = now()""",
            (host, login),
        )
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN IN ROLE f2b_host CONNECTION LIMIT {}").format(
                sql.Identifier(login), sql.Literal(CONNECTIONS)
            )
        )
        return _credential(connection, host, login)


def rotate(connection: psycopg.Connection, host: str) -> Enrolled:
    """Give a host a new password; the old one stops working. Raises CentreError if it is not enrolled."""
    with _changing_roles(connection):
        return _credential(connection, host, _end_sessions(connection, host))


def retire(connection: psycopg.Connection, host: str) -> None:
    """Revoke a host's access; its events are kept. Raises CentreError if it is not enrolled."""
    with _changing_roles(connection):
        login = _end_sessions(connection, host)
        connection.execute("UPDATE f2b.host SET retired_at = now() WHERE host = %s", (host,))
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(login)))


def lives(connection: psycopg.Connection) -> list[Life]:
    """Return all hosts in order, each with its stores, the most recent contact first."""
    if not schema.version(connection):
        raise CentreError("no centre in this database: run f2b-digest fleet init", away=False)
    with connection.cursor(row_factory=class_row(Life)) as cursor:
        return cursor.execute(_LIVES).fetchall()


def missing(connection: psycopg.Connection) -> list[str]:
    """Return what must be set up on the server before a host can connect."""

    def setting(name: str) -> str:
        found = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
        return str(found[0]) if found else ""

    todo = []
    if setting("ssl") != "on":
        todo.append(f"enable TLS in {setting('config_file')}: ssl = on, ssl_cert_file, ssl_key_file")
    if setting("listen_addresses") in ("", "localhost", "127.0.0.1"):
        todo.append(f"make it listen: listen_addresses = '*' in {setting('config_file')} (and restart it)")
    rules = connection.execute(
        """SELECT count(*) FROM pg_hba_file_rules WHERE type IN ('hostssl', 'host') AND error IS NULL
           AND (user_name && ARRAY['+f2b_host', 'all'])
           AND (database && ARRAY[current_database()::text, 'all']) AND address NOT IN ('127.0.0.1', '::1')"""
    ).fetchone()
    if rules == (0,):
        line = f"hostssl {connection.info.dbname} +f2b_host,f2b_digest all scram-sha-256"
        todo.append(f"allow the hosts: add the line  {line}  to {setting('hba_file')} (and reload it)")
    return todo


@contextmanager
def _changing_roles(connection: psycopg.Connection) -> Iterator[None]:
    """Begin a transaction whose roles Citus' workers do not get to know: no host connects to them."""
    with connection.transaction():
        connection.execute("SET LOCAL citus.enable_ddl_propagation TO off")
        yield


def _end_sessions(connection: psycopg.Connection, host: str) -> str:
    """End a host's sessions; return its login."""
    query = "SELECT login FROM f2b.host WHERE host = %s AND retired_at IS NULL FOR UPDATE"
    found = connection.execute(query, (host,)).fetchone()
    if found is None:
        names = [name for (name,) in connection.execute("SELECT host FROM f2b.host WHERE retired_at IS NULL")]
        raise CentreError(
            f"no host {host!r} is enrolled ({hint('there is', names, host) or 'none enrolled'})", away=False
        )
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", found)
    return str(found[0])


def _credential(connection: psycopg.Connection, host: str, login: str) -> Enrolled:
    password = secrets.token_urlsafe(24)
    # Only its verifier goes to the server: statements are logged, and shown in pg_stat_activity.
    verifier = connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login), sql.Literal(verifier)))
    found = connection.execute("SELECT address, ca FROM f2b.centre").fetchone()
    assert found is not None
    return Enrolled(host, f"postgresql://{login}@{found[0]}/{connection.info.dbname}", password, found[1])
