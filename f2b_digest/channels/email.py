"""The email channel: through the system's sendmail program, or an SMTP server."""

import shlex
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from f2b_digest.channels import mime, process, smtp, urls
from f2b_digest.channels.base import Channel, Health, one_line
from f2b_digest.channels.keys import CertificateFile, Secret
from f2b_digest.channels.tls import trust
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

SENDMAIL_TIMEOUT = 60
TRY_AGAIN_STATUS = frozenset({1, 2, 68, 69, 71, 74, 75})
"""Exit statuses of sendmail that are temporary (sysexits.h; 1 and 2 are unspecific)."""


def _check_link(url: str) -> str:
    urls.check_address(url)
    return url


Address = Annotated[str, AfterValidator(mime.check_address)]


class Email(Channel):
    """One mail per recipient, with a text and an HTML alternative."""

    any_recipient: ClassVar[bool] = True
    kind: Literal["email"]
    sender: Address = Field(alias="from")
    """Sender address. Example: "fail2ban@web1.example.org"."""
    to: tuple[Address, ...] = Field(min_length=1)
    """Recipients; each has its own delivery. Example: ["admin@example.org"]."""
    sendmail: str = "/usr/sbin/sendmail"
    """sendmail program, with options if needed. Not used with smtp."""
    smtp: str | None = None
    """SMTP server: smtp://user@host:587 requires STARTTLS, smtps://user@host:465 uses TLS from the start.
    Example: "smtp://user@mail.example.org:587".
    """
    password: Secret | None = None
    """Password for smtp. Example: "secret"."""
    link: Annotated[str, AfterValidator(_check_link)] | None = None
    """Web address of an archive of digests, named at the end of each mail. Example: "https://web1.example.org/digests/"."""
    attach: Literal["csv", "html"] | None = None
    """Attach every address of the digest, as a table ("csv") or as a page ("html"). Example: "csv"."""
    ca_file: CertificateFile | None = None
    """PEM file of the certificate authorities to trust, instead of the system's. Example: "ca.pem"."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.smtp is None and (self.password or self.ca_file):
            raise ValueError("password, password_file and ca_file need smtp")
        if self.smtp is not None and "sendmail" in self.model_fields_set:
            raise ValueError("set either smtp or sendmail, not both")
        return self

    @model_validator(mode="after")
    def _program(self) -> Self:
        if not shlex.split(self.sendmail):
            raise ValueError("sendmail is empty")
        return self

    @model_validator(mode="after")
    def _smtp_server(self) -> Self:
        if self.smtp is None:
            return self
        url = urlsplit(self.smtp)
        if url.scheme not in ("smtp", "smtps") or not url.hostname or url.path not in ("", "/") or url.query:
            raise ValueError("smtp must look like smtp://user@mail.example.org:587 or smtps://user@mail.example.org")
        url.port  # noqa: B018 - raises ValueError for an invalid port
        if url.password is not None:
            raise ValueError("smtp must not contain a password: use password_file or password")
        if url.username and not self.password:
            raise ValueError("smtp names a user: set password_file or password")
        if not url.username and self.password:
            raise ValueError("password needs a user in smtp (smtp://user@host)")
        return self

    @property
    def needs(self) -> Needs:
        """Subject, text and HTML, and what is attached."""
        page = (mime.PAGE,) if self.attach == "html" else ()
        return Needs((*mime.TEMPLATES, *page), addresses=self.attach is not None, link=self.link or "")

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the bare addresses."""
        return tuple(mime.bare_address(address) for address in self.to)

    @property
    def _envelope_sender(self) -> str:
        return mime.bare_address(self.sender)

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Respect the limits of large mail providers."""
        return mime.fits(content.parts)

    def identity(self, stamp: Stamp) -> str:
        """Return the Message-ID."""
        return f"{stamp.identity}@{mime.domain_of(self._envelope_sender)}"

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the whole mail."""
        return mime.build(
            sender=self.sender,
            recipients=self.to,
            subject=content.parts["email/subject.txt"],
            text=content.parts["email/body.txt"],
            html=content.parts["email/body.html"],
            stamp=stamp,
            message_id=self.identity(stamp),
            attached=self._attached(content, stamp),
        )

    def _attached(self, content: Content, stamp: Stamp) -> mime.Attached | None:
        if self.attach is None:
            return None
        text = content.parts[mime.PAGE] if self.attach == "html" else mime.table(content.addresses)
        return mime.Attached(f"{stamp.report}.{self.attach}", self.attach, text)

    def accept(self, message: Message) -> None:
        """Raise ValueError if the recipient is not an address, or could be taken for an option."""
        super().accept(message)
        if message.recipient.startswith("-") or mime.bare_address(message.recipient) != message.recipient:
            raise ValueError(f"{one_line(message.recipient, 80)!r} is not a valid address")

    def deliver(self, message: Message) -> None:
        """Pass the mail to the SMTP server or to sendmail."""
        if self.smtp is None:
            self._by_sendmail(message)
        else:
            self._by_smtp(self.smtp, message)

    def check(self) -> Health:
        """Log in to the SMTP server, or check that sendmail exists."""
        if self.smtp is None:
            return Health(f"{process.find(shlex.split(self.sendmail)[0])} found")
        password = self.password.reveal() if self.password else None
        smtp.greet(self.smtp, password, trust(self.ca_file), name=mime.domain_of(self._envelope_sender))
        return Health(f"{self.smtp} accepts {'the login' if password else 'mail without a login'}")

    # ---- sendmail

    def _by_sendmail(self, message: Message) -> None:
        program = shlex.split(self.sendmail)
        command = [*program, "-i", "-f", self._envelope_sender, "--", message.recipient]
        status, said = process.run(command, _on_the_wire(message), process.environment(), SENDMAIL_TIMEOUT)
        if status:
            permanent = status > 0 and status not in TRY_AGAIN_STATUS
            reason = f"{program[0]}: {process.how_it_ended(status)}: {said}"
            raise DeliveryError(reason, permanent=permanent, in_doubt=status < 0)

    # ---- SMTP

    def _by_smtp(self, address: str, message: Message) -> None:
        password = self.password.reveal() if self.password else None
        smtp.transact(
            address, password, trust(self.ca_file), name=mime.domain_of(self._envelope_sender),
            sender=self._envelope_sender, recipient=message.recipient, body=_on_the_wire(message),
        )  # fmt: skip


def _on_the_wire(message: Message) -> bytes:
    """Return the stored bytes, with an additional header if this may be a second copy."""
    return b"Possible-Duplicate: yes\n" + message.body if message.in_doubt else message.body
