"""The apprise channel: any of the services that the Apprise library knows; needs the extra f2b-digest[apprise]."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import AfterValidator, Field, model_validator

from f2b_digest.channels.base import Channel, Health, masked, one_line
from f2b_digest.channels.keys import Secret
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

INSTEAD = {"ntfy": "ntfy", "ntfys": "ntfy", "freemobile": "free-mobile"}
"""Schemes with a channel of our own: Apprise's truncate a long message, or leak its title."""


def _refuse(scheme: str) -> None:
    if scheme in INSTEAD:
        raise ValueError(f'{scheme}:// is not supported here: use kind = "{INSTEAD[scheme]}", which does more')


def _check_address(url: str) -> None:
    found = re.match(r"([A-Za-z0-9+.-]+)://", url)
    if not found:
        raise ValueError("must look like service://…; see Apprise's list of services")
    _refuse(found[1].lower())


def _check_url(url: Secret) -> Secret:
    if url.inline:
        _check_address(url.held.get_secret_value())
    return url


class Apprise(Channel):
    """Apprise does not say why a delivery failed, so every failure is retried."""

    kind: Literal["apprise"]
    samples: bool = False
    url: Annotated[Secret, AfterValidator(_check_url)] | None = None
    """Apprise URL of the service. It contains the service's secrets. Example: "mailtos://user:password@example.org"."""
    urgent_from: int | None = Field(default=None, ge=1)
    """From this many bans on, the notification is a warning. Example: 100."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.url:
            raise ValueError("url, url_file or url_env is missing")
        return self

    @property
    def needs(self) -> Needs:
        """Title and body."""
        return Needs(("apprise/title.txt", "apprise/body.txt"))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the service's name; the rest of the address is secret."""
        return (self.url.held.get_secret_value().partition("://")[0] if self.url and self.url.inline else "apprise",)

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the notification's kind, its title, and its body, a line each for the first two."""
        urgent = stamp.needs_attention or (self.urgent_from is not None and stamp.bans >= self.urgent_from)
        title = one_line(content.parts["apprise/title.txt"], 120)
        body = content.parts["apprise/body.txt"].strip()
        return f"{'warning' if urgent else 'info'}\n{title}\n{body}".encode("utf-8", "replace")

    def accept(self, message: Message) -> None:
        """Raise ValueError where the stored message has no kind and title."""
        super().accept(message)
        if message.body.decode().split("\n", 1)[0] not in ("info", "warning") or message.body.count(b"\n") < 2:
            raise ValueError("not an Apprise message")

    def deliver(self, message: Message) -> None:
        """Send the notification through Apprise."""
        url = self.url.reveal() if self.url else ""
        notify_type, title, body = message.body.decode().split("\n", 2)
        with _words() as words:
            result = _sender(url, message.recipient).notify(
                body=body, title=title, notify_type=notify_type, body_format="text"
            )
        if not result:
            status = getattr(getattr(result, "status", None), "name", "failure").lower()  # Apprise 1 says False or None
            said = masked(": ".join([status, *words]), *_secrets(url))
            raise DeliveryError(f"Apprise, {message.recipient}: {said}", permanent=False, in_doubt=True)

    def prepare(self) -> None:
        """Load Apprise and its service plugins, which it finds by listing its own folder."""
        _sender(self.url.reveal() if self.url else "", self.recipients[0])

    def check(self) -> Health:
        """Have Apprise parse the address; it cannot test more without sending."""
        _sender(self.url.reveal() if self.url else "", self.recipients[0])
        return Health("Apprise accepts the address")


def _sender(url: str, name: str) -> Any:
    """Return Apprise with the one service. Raises DeliveryError."""
    apprise = _library()
    try:
        _check_address(url)
        service = apprise.Apprise.instantiate(url)  # add() would accept several, separated by commas
        _check_service(service, name)
    except ValueError as error:
        raise DeliveryError(f"the url {error}", permanent=False) from None
    sender = apprise.Apprise()
    sender.add(service)
    return sender


def _check_service(service: Any, name: str) -> None:
    if not service:
        raise ValueError(f"is not a valid {name} address for Apprise")
    protocols = service.secure_protocol or service.protocol  # it may have been matched by an https:// address
    _refuse(protocols if isinstance(protocols, str) else protocols[0])
    if not service.verify_certificate:
        raise ValueError("must not contain verify=no: certificates are always verified")


def _library() -> Any:
    """Load Apprise, which takes longer than the rest of the program. Raises DeliveryError."""
    try:
        apprise = import_module("apprise")
        # It follows redirects, and no version has a way to forbid it to every service. Nothing else here uses requests.
        import_module("requests.sessions").__dict__["DEFAULT_REDIRECT_LIMIT"] = 0
    except ImportError:
        raise DeliveryError('Apprise is missing: pip install "f2b-digest[apprise]"', permanent=False) from None
    return apprise


@contextmanager
def _words() -> Iterator[list[str]]:
    """Collect what Apprise logs in the block: the service's response is available nowhere else.

    Warnings at import are dropped, as cron would mail them.
    """
    words: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = record.getMessage()
            if record.levelno >= logging.WARNING or said.startswith(("Response Details", "Socket Exception")):
                words.append(said)

    logger, handler = logging.getLogger("apprise"), Listener()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield words
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _secrets(url: str) -> list[str]:
    """Return an address, and each part that a service may echo, the longest first."""
    rest = url.partition("://")[2]
    password = re.match(r"[^/?]*:([^/?]*)@", rest)
    found = {url, rest, password[1] if password else "", *(part for part in re.split(r"[/?&=@:]", rest) if part[3:])}
    return sorted(found | {unquote(part) for part in found}, key=len, reverse=True)
