"""Connections to a fleet's PostgreSQL: verified TLS, deadlines, and readable errors. No queries here."""

import os
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet.deadline import TooLongError, deadline
from f2b_digest.fleet.door import passes

CONNECT_SECONDS = 10
DEADLINE = 70
"""Timeout in seconds for a connection, or an answer; the server's statement timeout is 60."""
_PATIENCE = {
    "connect_timeout": CONNECT_SECONDS,
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""libpq's keepalive settings, in seconds, and one in milliseconds."""
AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""System CA bundles (libpq has no default before version 16)."""
HIGHEST_PORT = 65535
QUESTION = "\n\tIs the server running"
"""libpq asks this where nothing answers: what to do about it follows in the same line."""
DISK_FULL = "53100"
"""The server's state; what it says itself names a file of its own."""
_UNSAFE = ("sslmode", "gssencmode", "sslnegotiation", "passfile", "service", "options", "krbsrvname")
"""Parameters not allowed in an address: TLS cannot be weakened."""


def parameters(address: str) -> dict[str, Any]:
    """Return the parts of an address like postgresql://login@host:5432/database. Raises ConfigurationError."""
    if not address.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError(["a centre's address must begin with postgresql://"])
    try:
        parts = conninfo_to_dict(address)
    except psycopg.ProgrammingError:  # its text contains the address, maybe with a password
        raise ConfigurationError(
            ["the address must look like postgresql://login@centre.example.org/f2b_digest"]
        ) from None
    ports = str(parts.get("port") or 5432).split(",")
    if not all(re.fullmatch("[1-9][0-9]{0,4}", port) and int(port) <= HIGHEST_PORT for port in ports if port):
        raise ConfigurationError([f"the port of a centre's address must be a number up to {HIGHEST_PORT}"])
    for key in _UNSAFE:
        if key in parts and parts[key] != "verify-full":
            raise ConfigurationError([f"{key} is not allowed in a centre's address: TLS is always used and verified"])
    return parts


def is_local(parts: dict[str, Any]) -> bool:
    """Return whether an address is a socket of this machine, so that no network is involved."""
    return all(host.startswith(("/", "@")) for host in str(parts.get("host") or "/").split(","))


def system_authorities() -> str:
    """Return the system's CA bundle. Raises ConfigurationError."""
    found = next((name for name in AUTHORITIES if Path(name).exists()), None)
    if found is None:
        raise ConfigurationError(["no CA certificates on this system: apt install ca-certificates"])
    return found


@contextmanager
def connect(address: str, secrets: dict[str, str | None] | None = None) -> Iterator[psycopg.Connection]:
    """Connect, each statement a transaction of its own.

    `secrets` holds "password", and as PEM "ca", "certificate" and "key", each of which may be missing. Raises
    CentreError, whose text holds no secret; `away` says that trying again can help.
    """
    parts = parameters(address)
    held = secrets or {}
    descriptors: list[int] = []
    try:
        if not is_local(parts):
            parts |= _tls(parts, held, descriptors)
        if held.get("password"):
            parts["password"] = held["password"]
        with words(), _opened(parts) as connection:
            yield connection
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def ask(connection: psycopg.Connection, query: LiteralString, values: tuple[object, ...]) -> tuple[Any, ...]:
    """Return the first row of a result. Raises CentreError, also after the `DEADLINE`."""
    with words(), deadline(DEADLINE):
        row = connection.execute(query, values).fetchone()
    assert row is not None
    return row


def opened(address: str) -> psycopg.Connection:
    """Connect for transactions of several statements; the caller closes it. Raises CentreError."""
    parts = parameters(address)
    with words():
        if not is_local(parts):
            parts |= _tls(parts, {}, [])
        return _opened(parts, Impatient, autocommit=False)


def _opened(
    parts: dict[str, Any], kind: type[psycopg.Connection] = psycopg.Connection, *, autocommit: bool = True
) -> psycopg.Connection:
    if "," in str(parts.get("host", "")):  # of several, the one that accepts writes
        parts.setdefault("target_session_attrs", "read-write")
    options: dict[str, Any] = {**_PATIENCE, "gssencmode": "disable", "application_name": "f2b-digest", **parts}
    with deadline(DEADLINE):
        # No prepared statements: a pooler may switch sessions.
        return kind.connect(**options, autocommit=autocommit, prepare_threshold=None)


class Impatient(psycopg.Connection[Any]):
    """Closes itself where an answer takes longer than `seconds`, and raises psycopg's OperationalError.

    The server's own timeout does not end a query that waits for one of Citus' workers that hangs.
    """

    seconds: float | None = None
    """None: the `DEADLINE`."""

    def wait(self, gen: Generator[Any, Any, Any], *rest: Any, **options: Any) -> Any:
        """Wait for an answer."""
        try:
            return super().wait(_bounded(gen, self.seconds or DEADLINE), *rest, **options)
        except TooLongError:
            self.close()
            raise psycopg.OperationalError(_late(self.seconds or DEADLINE)) from None


def _bounded(answer: Generator[Any, Any, Any], seconds: float) -> Generator[Any, Any, Any]:
    """Take part in psycopg's waiting, which asks some times a second. Raises TooLongError."""
    until, ready = time.monotonic() + seconds, None
    while True:
        try:
            wanted = answer.send(ready)
        except StopIteration as done:
            return done.value
        ready = yield wanted
        if not ready and time.monotonic() > until:
            raise TooLongError


def _late(seconds: float) -> str:
    return f"the centre has not answered for {seconds:.0f} s"


def _tls(parts: dict[str, Any], held: dict[str, str | None], descriptors: list[int]) -> dict[str, str]:
    """Return libpq's TLS files as in-memory files: those on disk may be unreadable for this user by now."""
    wanted = {"sslmode": "verify-full"}
    for key, name in (("ca", "sslrootcert"), ("certificate", "sslcert"), ("key", "sslkey")):
        text = held.get(key)
        if text:
            descriptors.append(_in_memory(text))
            wanted[name] = f"/proc/self/fd/{descriptors[-1]}"
    if "sslrootcert" not in wanted and "sslrootcert" not in parts:
        wanted["sslrootcert"] = system_authorities()
    return wanted


def _in_memory(text: str) -> int:
    descriptor = os.memfd_create("f2b-digest")
    os.fchmod(descriptor, 0o600)  # libpq refuses a key readable by others
    os.write(descriptor, text.encode())
    return descriptor


@contextmanager
def words() -> Iterator[None]:
    """Turn the driver's errors into CentreError."""
    try:
        yield
    except TooLongError:
        raise CentreError(_late(DEADLINE), away=True) from None
    except psycopg.Error as error:
        raise refusal(error) from None


def refusal(error: psycopg.Error) -> CentreError:
    """Return a connection error in one line, and whether it is temporary."""
    state = error.sqlstate or ""
    said = (error.diag.message_primary or str(error)).partition(QUESTION)[0]
    text = " ".join(said.split())[:300]
    if not state:  # not from the server: libpq's own message
        unsafe = "certificate" in text or "SSL" in text
        wrong = unsafe or "password authentication failed" in text or "no pg_hba.conf entry" in text
        return CentreError(text or type(error).__name__, away=not wrong, state=state)
    if state == DISK_FULL:
        text = f"the centre's disk is full: {text}"
    return CentreError(text, away=passes(state), state=state)
