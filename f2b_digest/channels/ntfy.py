"""The ntfy channel: a short message to a topic, published as JSON."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from f2b_digest.channels import http, urls
from f2b_digest.channels.base import Health, masked, one_line
from f2b_digest.channels.keys import CertificateFile
from f2b_digest.channels.login import Login
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

# 4 is a long vibration; 5 would sound an alarm.
ATTENTION = 4
"""Minimum priority of a digest that needs attention."""
TITLE_LIMIT = 120
"""Characters; a phone shows one line."""
PERMANENT = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 413, 431})
"""Statuses that only the admin can fix; the others (408, 425, 429, 5xx) are temporary."""
RESERVED_TOPICS = frozenset(
    {"docs", "static", "file", "app", "metrics", "account", "settings", "signup", "login", "v1"}
)


def _check_link(url: str) -> str:
    urls.check_address(url)
    return url


def _check_server(url: str) -> str:
    parts = urls.check_server(url)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must end after the host: ntfy needs the root of a host; set the topic with the key topic")
    return url


def _check_topic(topic: str) -> str:
    if topic in RESERVED_TOPICS:
        raise ValueError(f"{topic!r} is reserved by ntfy: choose another topic")
    return topic


Link = Annotated[str, AfterValidator(_check_link)]
ServerAddress = Annotated[str, AfterValidator(_check_server)]


class Ntfy(Login):
    """One notification per digest."""

    kind: Literal["ntfy"]
    samples: bool = False
    url: ServerAddress
    """Address of the server, without a path. Example: "https://ntfy.example.org"."""
    topic: Annotated[str, StringConstraints(pattern=r"^[-_A-Za-z0-9]{1,64}$"), AfterValidator(_check_topic)] = Field(
        title='letters, digits, "-" and "_" only, at most 64'
    )
    """Topic: letters, digits, - and _, at most 64. Example: "Alertes_web1"."""
    priority: int = Field(default=3, ge=1, le=5)
    """Priority of the notification; at least 4 where something needs attention."""
    urgent_from: int | None = Field(default=None, ge=1)
    """From this many bans on, the priority is 5. Example: 100."""
    tags: tuple[Annotated[str, StringConstraints(pattern=r"^[^,\s]+$")], ...] = Field(
        default=(), title="a word without spaces and commas"
    )
    """ntfy tags, some of which are shown as emoji. Example: ["no_entry"]."""
    click: Link | None = None
    """Page to open on a tap. Example: "https://web1.example.org/"."""
    max_bytes: int = Field(default=4095, ge=100)
    """Longest message in bytes. A server turns a longer one into an attachment, or refuses it."""
    ca_file: CertificateFile | None = None
    """PEM file of the certificate authorities to trust, instead of the system's. Example: "ca.pem"."""

    @property
    def needs(self) -> Needs:
        """Title and message."""
        return Needs(("ntfy/title.txt", "ntfy/message.txt"))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the topic."""
        return (self.topic,)

    def identity(self, stamp: Stamp) -> str:
        """Return the sequence id, by which newer apps replace a copy on the screen; 64 characters at most."""
        return f"f2b-{stamp.uuid}"

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Keep ntfy's limits: `max_bytes` of message, and less than twice its 4 KiB of JSON in all."""
        message = content.parts["ntfy/message.txt"].strip().encode("utf-8", "replace")
        return len(message) <= self.max_bytes and len(self.pack(content, stamp)) < 2 * (self.max_bytes + 1)

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the JSON to publish."""
        urgent = self.urgent_from is not None and stamp.bans >= self.urgent_from
        priority = max(self.priority, ATTENTION) if stamp.needs_attention else self.priority
        document: dict[str, Any] = {
            "topic": self.topic,
            "title": one_line(content.parts["ntfy/title.txt"], TITLE_LIMIT),
            "message": content.parts["ntfy/message.txt"].strip().encode("utf-8", "replace").decode(),
            "priority": 5 if urgent else priority,
            "sequence_id": self.identity(stamp),
        }
        if self.tags:
            document["tags"] = list(self.tags)
        if self.click:
            document["click"] = self.click
        return json.dumps(document, ensure_ascii=False).encode()

    def accept(self, message: Message) -> None:
        """Raise ValueError where the stored message is none for its topic."""
        super().accept(message)
        document = json.loads(message.body)
        known = isinstance(document, dict) and isinstance(document.get("message"), str)
        if not known or document.get("topic") != message.recipient:
            raise ValueError("not a message for this topic")

    def deliver(self, message: Message) -> None:
        """Publish, and believe only an answer that carries our message."""
        headers, secrets = self.authorization()
        headers["Content-Type"] = "application/json; charset=utf-8"
        status, answer, whole, _ = http.post(self.url, message.body, headers, self.ca_file)
        try:
            said = json.loads(answer)
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            said = None
        if not isinstance(said, dict):
            said = {}
        if status == 200:
            if said.get("event") == "message" and said.get("topic") == message.recipient and said.get("id"):
                return
            if not whole:
                raise DeliveryError(f"{self.url}: the response was truncated", permanent=False, in_doubt=True)
            raise DeliveryError(
                f"{self.url}: HTTP 200, but not an ntfy response: is this an ntfy server?", permanent=True
            )
        words = f"{said['error']} (ntfy code {said.get('code')})" if said.get("error") else f"HTTP status {status}"
        raise self._refusal(status, masked(words, *secrets), message)

    def check(self) -> Health:
        """Ask for the account, which tells whether the token is good. Its answer holds tokens: nobody gets it."""
        login, _ = self.authorization()
        (status, answer, *_), clock = http.get(f"{self.url.rstrip('/')}/v1/account", login, self.ca_file)
        if status in (401, 403):
            raise DeliveryError(f"{self.url}: token or user refused ({status})", permanent=True)
        if status != 200:
            raise DeliveryError(f"{self.url}: HTTP status {status}", permanent=status in PERMANENT)
        try:
            keeps = float(json.loads(answer)["limits"]["messages_expiry_duration"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DeliveryError(f"{self.url}: not an ntfy response: is this an ntfy server?", permanent=True) from None
        known = self.token or self.password
        return Health(f"{self.url} accepts {'the login' if known else 'messages without a login'}", keeps, clock)

    def _refusal(self, status: int, words: str, message: Message) -> DeliveryError:
        if 300 <= status < 400:
            return DeliveryError(f"{self.url} redirects ({status}): set url to the final address", permanent=True)
        reason = f"{self.url}: {words}"
        if status in (401, 403):
            reason += f": check the token or user, and its access to topic {self.topic}"
        # ntfy 2.20 and later answer 500 to a message that is one byte too long.
        too_long = status == 500 and len(json.loads(message.body)["message"].encode()) > 4095
        return DeliveryError(reason, permanent=status in PERMANENT or too_long)
