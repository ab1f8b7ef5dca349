"""Each kind of channel: its least settings, how each outcome is provoked, how its bytes are read. No test."""

import email
import email.policy
import json
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import trustme

from tests.support.raw_server import WebServer, raw, says

GOOD: dict[str, dict[str, Any]] = {
    "email": {"from": "fail2ban@example.org", "to": ["admin@example.org"]},
    "file": {"folder": "/var/lib/f2b-digest/mail"},
    "ntfy": {"url": "https://ntfy.example.org", "topic": "Alertes_web1"},
    "abuseipdb": {"key_file": "abuse.key"},
    "apprise": {"url": "json://localhost"},
    "command": {"command": ["/bin/true"]},
    "free-mobile": {"user": "12345678", "key_file": "free.key"},
    "syslog": {},
    "webhook": {"url": "https://example.org/hook"},
}

Settings = dict[str, Any]
SECRET, WORDS = "s3cret-7f3a", "the loft is closed"
OUTCOMES = {"sent": (0, "sent", 0), "again": (75, "deferred", 0), "admin": (1, "failed", 0),
            "ambiguous": (75, "deferred", 1)}  # fmt: skip
"""Exit status of `send`, status of the delivery, and whether it may have arrived."""


# ---- the other sides: each gives the settings of a channel that will have the outcome


def web(
    good: str, *, admin: int = 401, url: str = "{}", tls: bool = False, **settings: Any
) -> Callable[[str, Path], AbstractContextManager[Settings]]:
    """Play a web server, which repeats the secret it was told."""

    @contextmanager
    def provoke(outcome: str, folder: Path) -> Iterator[Settings]:
        said = f"{WORDS}: {SECRET}"
        bad = json.dumps({"error": said, "errors": [{"detail": said}]})
        plays = {"sent": says(200, good), "again": says(503, bad), "admin": says(admin, bad), "ambiguous": raw(b"")}
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        with Secured(plays[outcome], authority) if tls else WebServer(plays[outcome]) as server:
            address = server.url.replace("http:", "https:") if tls else server.url
            yield settings | {"url": url.format(address)} | ({"ca_file": str(folder / "ca.pem")} if tls else {})

    return provoke


class Secured(WebServer):
    """A WebServer behind TLS."""

    def __init__(self, play: Callable[[socket.socket], None], authority: trustme.CA) -> None:
        """Listen; connections are taken from `with` on."""
        super().__init__(play)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(self._context)

    def _after_request(self, connection: socket.socket) -> None:
        with self._context.wrap_socket(connection, server_side=True) as secured:
            super()._after_request(secured)


@contextmanager
def by_apprise(outcome: str, folder: Path) -> Iterator[Settings]:
    """Play the server behind a json:// address; only what never left is in no doubt."""
    if outcome == "again":
        yield {"url_file": str(folder / "missing")}
        return
    with WebServer(says(200 if outcome == "sent" else 500, f"{WORDS}: {SECRET}")) as server:
        yield {"url": f"json://admin:{SECRET}@127.0.0.1:{server.port}/"}


def program(
    statuses: dict[str, str], settings: Callable[[Path], Settings]
) -> Callable[[str, Path], AbstractContextManager[Settings]]:
    """Make a program that reads all, complains and ends."""

    @contextmanager
    def provoke(outcome: str, folder: Path) -> Iterator[Settings]:
        script = folder / "program"
        script.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{WORDS}' >&2\n{statuses[outcome]}\n")
        script.chmod(0o755)
        yield settings(script)

    return provoke


@contextmanager
def by_file(outcome: str, folder: Path) -> Iterator[Settings]:
    """Put a file into the folder's place."""
    if outcome == "again":
        (folder / "digests").write_text("")
    yield {"folder": str(folder / "digests")}


@contextmanager
def by_syslog(outcome: str, _folder: Path) -> Iterator[Settings]:
    """Listen as a daemon, or do not; in a folder with a short name, as a socket's path is limited."""
    with tempfile.TemporaryDirectory(prefix="f2b-") as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        if outcome == "sent":
            log.bind(f"{short}/log")
        yield {"socket": f"{short}/log"}


# ---- what people read of a message's bytes


def text(body: bytes) -> list[str]:
    """Read bytes that are text."""
    return [body.decode()]


def mail(body: bytes) -> list[str]:
    """Read a mail as a mail program does, its headers too."""
    read = email.message_from_bytes(body, _class=EmailMessage, policy=email.policy.default)
    alternatives = [part.get_content() for part in read.walk() if not part.is_multipart()]
    assert all(len(part.encode()) <= 80_000 for part in alternatives)
    assert "<script" not in alternatives[1]
    assert "<img" not in alternatives[1]
    return [body.decode("ascii"), *map(str, read.values()), *alternatives]


def notification(body: bytes) -> list[str]:
    """Read the JSON of a notification."""
    assert len(body) < 8192
    document = json.loads(body)
    assert len(document["message"].encode()) <= 4095
    return [body.decode(), document["title"], document["message"]]


def data(body: bytes) -> list[str]:
    """Read JSON for programs: well-formed, with escapes for control characters."""
    json.loads(body)
    return text(body)


def sms(body: bytes) -> list[str]:
    """Read an SMS of at most the default's 300 characters, one line."""
    assert len(body.decode()) <= 300
    assert b"\n" not in body
    return text(body)


def log_lines(body: bytes) -> list[str]:
    """Read lines of a log, each of which a datagram of an old daemon holds."""
    assert all(line.startswith(b"<29>f2b-digest: ") and len(line) <= 1024 for line in body.splitlines())
    return text(body)


@dataclass(frozen=True)
class Kind:
    """A kind's row."""

    provoke: Callable[[str, Path], AbstractContextManager[Settings]]
    read: Callable[[bytes], list[str]] = text
    never: dict[str, str] = field(default_factory=dict)
    """Outcomes that this kind does not know, and why."""
    words: bool = True
    """Whether the other side says anything where it fails."""


ENDS = {"sent": "exit 0", "again": "exit 75", "ambiguous": "kill -9 $$"}
SENDMAIL = {"from": "f2b@example.org", "to": ["admin@example.org"]}
PUBLISHED = json.dumps({"id": "sPs71M8A2T", "event": "message", "topic": "web1"})
ROWS = {
    "abuseipdb": Kind(web('{"data": {"ipAddress": "9.9.9.9"}}', key=SECRET), data),
    "apprise": Kind(by_apprise, words=False, never={"admin": "Apprise does not say why"}),
    "command": Kind(program(ENDS | {"admin": "exit 1"}, lambda script: {"command": [str(script)]})),
    "email": Kind(program(ENDS | {"admin": "exit 67"}, lambda script: SENDMAIL | {"sendmail": str(script)}), mail),
    "file": Kind(
        by_file, mail, words=False,
        never={"admin": "room and rights come back", "ambiguous": "a retry replaces its file"},
    ),
    "free-mobile": Kind(web("", url="{}/sendmsg", tls=True, user="12345678", key=SECRET), sms),
    "ntfy": Kind(web(PUBLISHED, topic="web1", token=SECRET), notification),
    "syslog": Kind(
        by_syslog, log_lines, words=False,
        never={"admin": "a daemon comes back", "ambiguous": "what it took is known, line by line"},
    ),
    "webhook": Kind(web("", url=f"{{}}/{SECRET}"), data),
}  # fmt: skip


def row_of(kind: str) -> Kind:
    """Return a kind's row."""
    assert kind in ROWS, f"the kind {kind} needs a row in ROWS: how each outcome is provoked, how its bytes are read"
    return ROWS[kind]
