"""One SMTP transaction for one recipient, step by step, so that each refusal keeps its step, its code and its words."""

import base64
import errno
import logging
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from f2b_digest.channels.base import Overdue, masked
from f2b_digest.channels.tls import passes
from f2b_digest.errors import DeliveryError

log = logging.getLogger(__name__)

TIMEOUT = 30
"""Seconds for each answer of the server."""
REPLY_LIMIT = 65536
"""Bytes of one reply, of all its lines."""
UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
PORTS = {"smtp": 587, "smtps": 465}


def transact(
    address: str, password: str | None, context: ssl.SSLContext, *, name: str, sender: str, recipient: str, body: bytes
) -> None:
    """Hand one message, with LF line ends, to the server of an smtp:// (STARTTLS required) or smtps:// address.

    `name` is what we call ourselves; smtplib would ask DNS. Raises DeliveryError.
    """
    with _session(address, password, context, name) as server:
        _expect(*server.mail(sender), step="MAIL FROM")
        _expect(*server.rcpt(recipient), step="RCPT TO")
        _data(server, body)


def greet(address: str, password: str | None, context: ssl.SSLContext, *, name: str) -> None:
    """Go as far as `transact` does before it names a sender: connect, TLS, login, NOOP. Raises DeliveryError."""
    with _session(address, password, context, name) as server:
        _expect(*server.noop(), step="NOOP")


@contextmanager
def _session(address: str, password: str | None, context: ssl.SSLContext, name: str) -> Iterator[smtplib.SMTP]:
    """Give a connection that is ready for a message, and say what went wrong in the block as a DeliveryError."""
    url = urlsplit(address)
    host, port, user = url.hostname or "", url.port or PORTS[url.scheme], unquote(url.username or "")
    server: smtplib.SMTP
    try:
        if url.scheme == "smtps":
            server = _SecuredServer(host, port, local_hostname=name, timeout=TIMEOUT, context=context)
        else:
            server = _Server(host, port, local_hostname=name, timeout=TIMEOUT)
        with _closed(server):
            if url.scheme == "smtp":
                _expect(*server.ehlo(), step="EHLO")
                server.starttls(context=context)
            # Not left to smtplib, which tries HELO after any refusal: one that passes would end as "no login here".
            _expect(*server.ehlo(), step="EHLO")
            if user and password is not None:
                server.login(user, password)
            yield server
    except (Exception, Overdue) as error:
        raise _sorted(error, f"{host}:{port}", _forms(user, password or "")) from None


class _Reply:
    """What a server says, of which one reply takes no more than so much memory."""

    def __init__(self, file: Any) -> None:
        self._file, self.left = file, REPLY_LIMIT

    def readline(self, most: int) -> bytes:
        """Return a line. Raises OSError where the reply is too long."""
        line: bytes = self._file.readline(most)
        self.left -= len(line)
        if self.left < 0:
            raise OSError(f"reply exceeds {REPLY_LIMIT >> 10} KiB")
        return line

    def close(self) -> None:
        """Close it."""
        self._file.close()


class _Server(smtplib.SMTP):
    """A connection whose replies have an end."""

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply."""
        if self.file is None and self.sock:
            self.file = _Reply(self.sock.makefile("rb"))
        if self.file:
            self.file.left = REPLY_LIMIT
        try:
            return super().getreply()
        except Overdue:
            self.close()
            raise


class _SecuredServer(_Server, smtplib.SMTP_SSL):
    """The same within TLS."""


class _Refused(Exception):
    def __init__(self, code: int, words: bytes, step: str) -> None:
        super().__init__(code, words, step)
        self.code, self.words, self.step = code, words, step


class _InDoubt(Exception):
    """The end of the message went out, and no answer that can be understood came back."""


def _expect(code: int, words: bytes, *, step: str) -> None:
    if not 200 <= code < 300:
        raise _Refused(code, words, step)


def _data(server: smtplib.SMTP, body: bytes) -> None:
    """Send the message. Not by smtplib's data(), which does not tell a loss before its end from one behind it."""
    code, words = server.docmd("DATA")
    if code != 354:
        raise _Refused(code, words, "DATA")
    lines = re.sub(rb"(?m)^\.", b"..", body).replace(b"\n", b"\r\n")
    server.send(lines + b".\r\n" if lines.endswith(b"\r\n") else lines + b"\r\n.\r\n")
    try:
        code, words = server.getreply()
    except (smtplib.SMTPException, OSError, Overdue) as error:
        raise _InDoubt(str(error)) from None
    if not (200 <= code < 300 or 400 <= code < 600):
        raise _InDoubt(f"malformed SMTP reply: {words.decode('utf-8', 'replace')}")
    _expect(code, words, step="end of DATA")


@contextmanager
def _closed(server: smtplib.SMTP) -> Iterator[None]:
    """Close the connection; after a delivery say QUIT, whatever the server answers: the outcome is known by then."""
    try:
        yield
        try:
            server.quit()
        except (Exception, Overdue):
            log.debug("QUIT failed", exc_info=True)
    finally:
        server.close()


def _forms(user: str, password: str) -> list[str]:
    """Return a password as it goes over the wire, for servers that repeat what they do not understand."""
    return [base64.b64encode(each.encode()).decode() for each in (f"\0{user}\0{password}", password)] + [password]


def _sorted(error: BaseException, server: str, secrets: list[str]) -> BaseException:
    """Return the DeliveryError for what went wrong; anything else is a bug and is returned as it is."""
    permanent = False
    if isinstance(error, ssl.SSLCertVerificationError):
        reason, permanent = f"certificate refused: {error.verify_message}", not passes(error)
    elif isinstance(error, smtplib.SMTPNotSupportedError):
        hint = "the server must offer STARTTLS, or use smtps://" if "STARTTLS" in str(error) else "it offers no login"
        reason, permanent = f"{error} ({hint})", True
    elif isinstance(error, UnicodeEncodeError):
        reason, permanent = "user and password must be ASCII", True
    elif isinstance(error, _InDoubt):
        reason = f"no reply after the end of the message, which may have arrived: {error}"
    elif isinstance(error, _Refused):
        reason = f"{error.step}: {error.code} {error.words.decode('utf-8', 'replace')}"
        # 552 to RCPT means "too many recipients" in old servers (RFC 5321, 4.5.3.1.10).
        permanent = 500 <= error.code < 600 and not (error.code == 552 and error.step == "RCPT TO")
    elif isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error  # as bytes by a server; as text by smtplib, whose own 500 is for a line without end
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        reason, permanent = f"{error.smtp_code} {words}", 500 <= error.smtp_code < 600 and isinstance(said, bytes)
    elif type(error) is smtplib.SMTPException:  # no kind of login that both sides know, or challenges without end
        reason, permanent = str(error), "No suitable" in str(error)
    elif isinstance(error, (smtplib.SMTPException, OSError, ValueError, Overdue)):
        reason = str(error) or type(error).__name__
    else:
        return error
    in_doubt = isinstance(error, _InDoubt)
    return DeliveryError(
        f"{server}: {masked(reason, *secrets)}", permanent=permanent, in_doubt=in_doubt, unreachable=_is_lost(error)
    )


def _is_lost(error: BaseException | None) -> bool:
    """Return whether a server did not answer: no connection, or a timeout. A hang-up may concern one recipient.

    smtplib turns some of these into errors of its own.
    """
    while isinstance(error, (OSError, _InDoubt, Overdue)):  # SMTPException is an OSError
        if isinstance(error, (Overdue, TimeoutError, ConnectionRefusedError, socket.gaierror)) or (
            error.errno in UNREACHABLE if isinstance(error, OSError) else False
        ):
            return True
        error = error.__context__
    return False
