"""The email channel: through the system's sendmail program, or an SMTP server."""

import base64
import errno
import os
import pwd
import shlex
import signal
import smtplib
import ssl
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parseaddr
from typing import Annotated, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from f2b_digest.channels import mime
from f2b_digest.channels.base import Channel, ConfiguredPath, masked, read_secret, trust
from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp

MAIL_TEMPLATES = ("email/subject.txt", "email/body.txt", "email/body.html")
BODY_LIMIT = 80_000
"""Bytes of a part: Gmail cuts a message at about 102 kB of HTML."""
SMTP_TIMEOUT = 30
"""Seconds for each answer of the server."""
SENDMAIL_TIMEOUT = 60
TRY_AGAIN_STATUS = frozenset({1, 2, 68, 69, 71, 74, 75})
"""Exit statuses of sendmail programs after which another attempt can succeed (sysexits.h; 1 and 2 say nothing)."""

SCARCE = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""Why a program does not start today, though it stands where it should."""


def mail_fits(parts: Mapping[str, str]) -> bool:
    """Say whether neither alternative is cut by the large mail providers."""
    return all(len(parts[name].encode("utf-8", "replace")) <= BODY_LIMIT for name in MAIL_TEMPLATES)


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user without an account
        return "/"


def _check_address(address: str) -> str:
    bare = parseaddr(address)[1]
    local, at, domain = bare.rpartition("@")
    if not (local and at and domain) or not address.isprintable() or any(c.isspace() for c in bare):
        raise ValueError(f"{address!r} is not an address like admin@example.org or Name <admin@example.org>")
    try:
        mime.ascii_address(bare)
    except UnicodeError:
        raise ValueError(f"{address!r}: the part before @ must be ASCII, the domain a valid name") from None
    return address


Address = Annotated[str, AfterValidator(_check_address)]


class Email(Channel):
    """One mail per recipient, with a text and an HTML alternative."""

    templates: ClassVar[tuple[str, ...]] = MAIL_TEMPLATES

    kind: Literal["email"]
    sender: Address = Field(alias="from")
    to: tuple[Address, ...] = Field(min_length=1)
    sendmail: str = "/usr/sbin/sendmail"
    """The program and options of its own, as a shell would split them."""
    smtp: str | None = None
    """smtp://user@host:587 (STARTTLS required) or smtps://user@host:465."""
    password: SecretStr | None = None
    password_file: ConfiguredPath | None = None
    ca_file: ConfiguredPath | None = None
    """Certificates to trust instead of the system's."""

    @model_validator(mode="after")
    def _consistent(self) -> "Email":
        if self.smtp is None:
            if self.password is not None or self.password_file or self.ca_file:
                raise ValueError("password, password_file and ca_file need smtp")
            if not shlex.split(self.sendmail):
                raise ValueError("sendmail is empty")
            return self
        if "sendmail" in self.model_fields_set:
            raise ValueError("smtp and sendmail: give one of them")
        if self.password is not None and self.password_file:
            raise ValueError("password and password_file: give one of them")
        url = urlsplit(self.smtp)
        if url.scheme not in ("smtp", "smtps") or not url.hostname or url.path not in ("", "/") or url.query:
            raise ValueError("smtp is not like smtp://user@mail.example.org:587 or smtps://user@mail.example.org")
        url.port  # noqa: B018 - raises ValueError where it is no port
        if url.password is not None:
            raise ValueError("smtp holds a password: put it into password_file or password")
        if url.username and self.password is None and not self.password_file:
            raise ValueError("smtp names a user: password_file or password is missing")
        if not url.username and (self.password is not None or self.password_file):
            raise ValueError("there is a password, but smtp names no user (smtp://user@host)")
        return self

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the bare addresses."""
        return tuple(mime.ascii_address(parseaddr(address)[1]) for address in self.to)

    @property
    def _envelope_sender(self) -> str:
        return mime.ascii_address(parseaddr(self.sender)[1])

    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Keep the limits of large mail providers."""
        return mail_fits(parts)

    def identity(self, stamp: Stamp) -> str:
        """Return the Message-ID."""
        return f"{stamp.identity}@{mime.domain_of(self._envelope_sender)}"

    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the whole mail."""
        return mime.build(
            sender=self.sender,
            recipients=self.to,
            subject=parts["email/subject.txt"],
            text=parts["email/body.txt"],
            html=parts["email/body.html"],
            stamp=stamp,
            message_id=self.identity(stamp),
        )

    def deliver(self, message: Message) -> None:
        """Hand the mail to the SMTP server or to sendmail."""
        if self.smtp is None:
            self._by_sendmail(message)
        else:
            self._by_smtp(self.smtp, message)

    # ---- sendmail

    def _by_sendmail(self, message: Message) -> None:
        program = shlex.split(self.sendmail)
        command = [*program, "-i", "-f", self._envelope_sender, "--", message.recipient]
        # cron's environment has nothing that a sendmail needs but these; HOME is for msmtp's own configuration.
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": _home(),
        }
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            passes = error.errno in SCARCE
            raise DeliveryError(f"{program[0]}: {error.strerror}", permanent=not passes) from None
        with process:
            try:
                complaint = process.communicate(message.body, timeout=SENDMAIL_TIMEOUT)[1]
            except subprocess.TimeoutExpired:
                if process.poll() is None:
                    raise DeliveryError(f"{program[0]}: no end after {SENDMAIL_TIMEOUT} s", permanent=False) from None
                complaint = b""  # it ended, but a child that it left behind keeps its output open
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        status = process.returncode
        if status:
            words = complaint.decode("utf-8", "replace").strip() or "(it said nothing)"
            how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            raise DeliveryError(
                f"{program[0]}: {how}: {words}", permanent=status > 0 and status not in TRY_AGAIN_STATUS
            )

    # ---- SMTP

    def _by_smtp(self, address: str, message: Message) -> None:
        url = urlsplit(address)
        host, user = url.hostname or "", unquote(url.username or "")
        password = read_secret(self.password, self.password_file)
        context = trust(self.ca_file)
        name = mime.domain_of(self._envelope_sender)  # smtplib would ask DNS for this host's name
        try:
            server: smtplib.SMTP
            if url.scheme == "smtps":
                server = smtplib.SMTP_SSL(
                    host, url.port or 465, local_hostname=name, timeout=SMTP_TIMEOUT, context=context
                )
            else:
                server = smtplib.SMTP(host, url.port or 587, local_hostname=name, timeout=SMTP_TIMEOUT)
            with _closing(server):
                if url.scheme == "smtp":
                    server.starttls(context=context)
                if user and password is not None:
                    server.login(user, password)
                self._transact(server, message)
        except Exception as error:
            raise _smtp_error(error, f"{host}:{server_port(address)}", _forms(user, password or "")) from None

    def _transact(self, server: smtplib.SMTP, message: Message) -> None:
        """Send one message in one transaction, step by step, so that each refusal keeps its own code and words."""
        server.ehlo_or_helo_if_needed()
        _expect(*server.mail(self._envelope_sender), step="MAIL FROM")
        _expect(*server.rcpt(message.recipient), step="RCPT TO")
        _expect(*server.data(b"\r\n".join(message.body.split(b"\n"))), step="DATA")


def server_port(address: str) -> int:
    """Return the port of an SMTP URL."""
    url = urlsplit(address)
    return url.port or (465 if url.scheme == "smtps" else 587)


class _Refused(Exception):
    def __init__(self, code: int, words: bytes, step: str) -> None:
        super().__init__(code, words, step)
        self.code, self.words, self.step = code, words, step


def _expect(code: int, words: bytes, *, step: str) -> None:
    if not 200 <= code < 300:
        raise _Refused(code, words, step)


class _closing:
    """Say QUIT and close, whatever the server answers: the outcome of the message is known by then."""

    def __init__(self, server: smtplib.SMTP) -> None:
        self.server = server

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):
            if error[0] is None:
                self.server.quit()
        self.server.close()


def _forms(user: str, password: str) -> list[str]:
    """Return a password as it goes over the wire, for servers that repeat what they do not understand."""
    return [base64.b64encode(each.encode()).decode() for each in (f"\0{user}\0{password}", password)] + [password]


def _smtp_error(error: Exception, server: str, secrets: list[str]) -> Exception:
    """Return the DeliveryError for what went wrong; anything else is a bug and is returned as it is."""
    if isinstance(error, DeliveryError):
        return error
    permanent = False
    if isinstance(error, ssl.SSLCertVerificationError):
        reason, permanent = f"certificate refused: {error.verify_message}", True
    elif isinstance(error, smtplib.SMTPNotSupportedError):
        hint = "the server must offer STARTTLS, or use smtps://" if "STARTTLS" in str(error) else "it knows no login"
        reason, permanent = f"{error} ({hint})", True
    elif isinstance(error, UnicodeEncodeError):
        reason, permanent = "user and password must be ASCII: smtplib sends no others", True
    elif isinstance(error, _Refused):
        reason = f"{error.step}: {error.code} {error.words.decode('utf-8', 'replace')}"
        # 552 to RCPT means "too many recipients" in old servers (RFC 5321, 4.5.3.1.10).
        permanent = 500 <= error.code < 600 and not (error.code == 552 and error.step == "RCPT TO")
    elif isinstance(error, smtplib.SMTPResponseException):
        words = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        reason = f"{error.smtp_code} {words.decode('utf-8', 'replace')}"
        permanent = 500 <= error.smtp_code < 600
    elif type(error) is smtplib.SMTPException:  # no kind of login that both sides know
        reason, permanent = str(error), True
    elif isinstance(error, (smtplib.SMTPException, OSError, ValueError)):
        reason = str(error) or type(error).__name__
    else:
        return error
    return DeliveryError(f"{server}: {masked(reason, *secrets)}", permanent=permanent)
