"""The webhook channel: POST of the digest as JSON, or of a template's text, to an address of the admin's."""

import hashlib
import hmac
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from f2b_digest.channels import http, urls
from f2b_digest.channels.base import Health
from f2b_digest.channels.keys import CertificateFile, Secret
from f2b_digest.channels.login import Login
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

OURS = frozenset({"content-type", "authorization", "idempotency-key", "f2b-digest-timestamp", "f2b-digest-signature"})


def _check_url(url: Secret) -> Secret:
    if url.inline:
        urls.check_server(url.held.get_secret_value())
    return url


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    wrong = [fault for name, value in headers.items() if (fault := _header_fault(name, value.get_secret_value()))]
    if wrong:
        raise ValueError("; ".join(wrong))
    return headers


def _header_fault(name: str, value: str) -> str:
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        return f"{name!r} is not a valid header name"
    if name.lower() in OURS:
        return f"{name} is set from other keys"
    return "" if value.isprintable() and value.isascii() else f"the value of {name} must be printable ASCII"


class Webhook(Login):
    """Any answer of 2xx is a success."""

    kind: Literal["webhook"]
    url: Annotated[Secret, AfterValidator(_check_url)] | None = None
    """URL to POST to. Treated as a secret: whoever knows a chat's webhook can write there.
    Example: "https://hooks.example.org/services/T00/B00/XXXX".
    """
    template: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")] | None = Field(
        default=None, title='the name of a file below templates/webhook/, like "slack.json"'
    )
    """Template below templates/webhook/: slack.json (also for Mattermost), discord.json, teams.json or your own.
    Without it, the digest is sent as JSON. Example: "slack.json".
    """
    content_type: Annotated[str, StringConstraints(pattern=r"^[ -~]+/[ -~]+$")] = Field(
        default="application/json; charset=utf-8", title='like "text/plain; charset=utf-8"'
    )
    """Content-Type header."""
    headers: Annotated[dict[str, SecretStr], AfterValidator(_check_headers)] = Field(default_factory=dict)
    """Further HTTP headers. Example: { X-Team = "ops" }."""
    secret: Secret | None = None
    """Key for the signature header, F2B-Digest-Signature: sha256=HMAC-SHA256(secret, timestamp + "." + body).
    Example: "secret".
    """
    max_bytes: int = Field(default=1_000_000, ge=1000)
    """Longest body in bytes; rows are left out until it fits."""
    ca_file: CertificateFile | None = None
    """PEM file of the certificate authorities to trust, instead of the system's. Example: "ca.pem"."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.url:
            raise ValueError("url, url_file or url_env is missing")
        return self

    @property
    def needs(self) -> Needs:
        """The template, and the digest as JSON, used without one."""
        return Needs((f"webhook/{self.template}",) if self.template else (), document=True)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the host; the rest of the address may be secret."""
        return (
            urls.check_address(self.url.held.get_secret_value()).netloc if self.url and self.url.inline else "webhook",
        )

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Keep `max_bytes`."""
        return len(self.pack(content, stamp)) <= self.max_bytes

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the body."""
        text = next(iter(content.parts.values()), content.document)
        return text.strip().encode("utf-8", "replace")

    def deliver(self, message: Message) -> None:
        """Post it."""
        url = self._address()
        host = urls.check_server(url).netloc
        headers, secrets = self._headers(message)
        status, said, *_ = http.post(url, message.body, headers, self.ca_file)
        if not 200 <= status < 300:
            words = http.words(said, *_parts(url, host), *secrets) or "(no output)"
            raise DeliveryError(f"{host}: HTTP status {status}: {words}", permanent=http.is_permanent(status))

    def check(self) -> Health:
        """Connect to the server, and ask it nothing: any request might be taken for a message."""
        self._headers(Message("", b"", ""))
        return Health(f"{http.reach(self._address(), self.ca_file)} is reachable")

    def _address(self) -> str:
        url = self.url.reveal() if self.url else ""
        try:
            urls.check_server(url)
        except ValueError as error:
            raise DeliveryError(f"the url {error}", permanent=False) from None
        return url

    def _headers(self, message: Message) -> tuple[dict[str, str], list[str]]:
        """Return the headers of one attempt, and the secrets in them."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        secrets = list(headers.values())
        login, login_secrets = self.authorization()
        headers |= {"Content-Type": self.content_type, "Idempotency-Key": message.identity, **login}
        key = self.secret.reveal() if self.secret else None
        if key:
            time = str(int(message.at))
            signature = hmac.new(key.encode(), f"{time}.".encode() + message.body, hashlib.sha256).hexdigest()
            headers |= {"F2B-Digest-Timestamp": time, "F2B-Digest-Signature": f"sha256={signature}"}
        return headers, [*secrets, *login_secrets, *filter(None, (key,))]


def _parts(url: str, host: str) -> list[str]:
    """Return an address, and what a server may repeat of it: "Cannot POST /services/T0/…"."""
    path = url.partition(host)[2].partition("#")[0]
    return [url, *([path] if len(path) > 1 else []), *(part for part in re.split(r"[/?&=]", path) if len(part) > 7)]
