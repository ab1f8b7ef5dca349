"""A mail server for the tests: aiosmtpd on loopback, with TLS, a login, and refusals on request.

No tests here. `received` has the accepted mails, `wire` the clients' lines.
"""

import asyncio
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER = "f2b"
PASSWORD = "s3cret: with spaces"
HANG_UP = "hang up"
TLS = Literal["starttls", "implicit", "none"]
PATIENCE = 10.0  # seconds until a test gives up waiting


@dataclass(frozen=True)
class Received:
    """A mail as the server took it."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


class SmtpServer:
    """One mail server; `with` starts and ends it.

    `answers` says what it answers instead of its own, to a recipient by its address, or at "MAIL", "DATA" or "QUIT";
    HANG_UP closes the connection without an answer. With `login` unset, it does not offer one.
    """

    def __init__(
        self,
        tls: TLS = "starttls",
        *,
        authority: trustme.CA | None = None,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a server; with an authority, which signs its certificate, it asks for a login."""
        self.port = 0
        self.received: list[Received] = []
        self.wire = bytearray()
        self.login = authority is not None
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(self._context)
        self._handler = _Handler(self.received, answers or {}, login=self._context is not None)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE), "the mail server does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        context = self._context if self._tls == "implicit" else None
        server = await self._loop.create_server(self._protocol, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()

    def _protocol(self) -> SMTP:
        starttls = self._tls == "starttls"
        login: dict[str, Any] = {"authenticator": _authenticate, "auth_require_tls": starttls}
        if not self.login:
            login = {"auth_exclude_mechanism": ["LOGIN", "PLAIN"]}
        return _Protocol(
            self.wire, self._handler, hostname="mx.example.org", require_starttls=starttls, enable_SMTPUTF8=False,
            tls_context=self._context if starttls else None, **login,
        )  # fmt: skip


class _Protocol(SMTP):
    def __init__(self, wire: bytearray, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._wire = wire

    def data_received(self, data: bytes) -> None:
        self._wire += data
        super().data_received(data)


class _Handler:
    def __init__(self, received: list[Received], answers: Mapping[str, str], *, login: bool) -> None:
        self._received, self._answers, self._login = received, answers, login

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        return self._answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self._answers.get(address, "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = self._answer(server, "DATA", "250 OK")
        if answer.startswith("250"):
            assert envelope.mail_from is not None and isinstance(envelope.content, bytes)
            self._received.append(Received(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.content))
        return answer

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return self._answer(server, "QUIT", "221 Bye")

    def _answer(self, server: SMTP, step: str, usual: str) -> str:
        answer = self._answers.get(step, usual)
        if answer == HANG_UP:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer


def _authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any) -> AuthResult:
    right = login == LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)
