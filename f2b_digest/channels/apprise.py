"""The apprise channel: any of the services that the Apprise library knows; needs the extra f2b-digest[apprise]."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from f2b_digest.channels.base import Channel, ConfiguredPath, EnvironmentVariable, masked, one_line
from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp

INSTEAD = {"ntfy": "ntfy", "ntfys": "ntfy", "freemobile": "free-mobile"}
"""Schemes for which we have a channel that loses nothing: Apprise's cut a long message, or give its title away."""


def _check_url(url: SecretStr) -> SecretStr:
    scheme = url.get_secret_value().partition("://")[0].lower()
    if "://" not in url.get_secret_value():
        raise ValueError("is not like service://…, see Apprise's list of services")
    if scheme in INSTEAD:
        raise ValueError(f'is of {scheme}://: use a channel of kind = "{INSTEAD[scheme]}", which does more')
    return url


class Apprise(Channel):
    """Apprise does not say why a delivery failed, so that every failure is tried again."""

    secrets: ClassVar[tuple[str, ...]] = ("url",)

    kind: Literal["apprise"]
    url: Annotated[SecretStr, AfterValidator(_check_url)] | None = None
    """Holds the service's secrets."""
    url_file: ConfiguredPath | None = None
    url_env: EnvironmentVariable | None = None
    urgent_from: int | None = Field(default=None, ge=1)
    """Bans from which on the notification is a warning."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.has_secret("url"):
            raise ValueError("url, url_file or url_env is missing")
        return self

    @property
    def templates(self) -> tuple[str, ...]:
        """Title and body."""
        return ("apprise/title.txt", "apprise/body.txt")

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the service's name; the rest of the address is secret."""
        return (self.url.get_secret_value().partition("://")[0] if self.url else "apprise",)

    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Say that any text does: Apprise cuts to each service's length."""
        return True

    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the notification's kind, its title, and its body, a line each for the first two."""
        urgent = self.urgent_from is not None and stamp.bans >= self.urgent_from
        title = one_line(parts["apprise/title.txt"], 120)
        body = parts["apprise/body.txt"].strip()
        return f"{'warning' if urgent else 'info'}\n{title}\n{body}".encode("utf-8", "replace")

    def deliver(self, message: Message) -> None:
        """Hand the notification to Apprise."""
        url = self.reveal("url") or ""
        try:
            _check_url(SecretStr(url))
        except ValueError as error:
            raise DeliveryError(f"the url {error}", permanent=False) from None
        notify_type, title, body = message.body.decode().split("\n", 2)
        apprise = _library()
        sender = apprise.Apprise()
        if not sender.add(url):
            raise DeliveryError(f"Apprise does not understand the {message.recipient}:// address", permanent=False)
        result = sender.notify(body=body, title=title, notify_type=notify_type, body_format="text")
        if not result:
            reason = f"Apprise could not notify {message.recipient}{masked(_words(result), url)}"
            raise DeliveryError(reason, permanent=False, in_doubt=True)


def _library() -> Any:
    """Load Apprise, which takes longer than the whole rest of the program. Raises DeliveryError."""
    try:
        import apprise  # noqa: PLC0415
    except ImportError:
        raise DeliveryError('Apprise is missing: pip install "f2b-digest[apprise]"', permanent=False) from None
    return apprise


def _words(result: object) -> str:
    """Return what an AppriseResult (Apprise 2) says; Apprise 1 only says False or None."""
    status = getattr(getattr(result, "status", None), "name", "")
    return f": {status.lower()}" if status else ""
