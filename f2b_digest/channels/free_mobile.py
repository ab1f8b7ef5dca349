"""The free-mobile channel: one SMS per digest to the subscriber's own phone, by Free Mobile's service in France."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from f2b_digest.channels import http
from f2b_digest.channels.base import Channel, Health
from f2b_digest.channels.keys import CertificateFile, Secret
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

SERVICE = "https://smsapi.free-mobile.fr/sendmsg"
REASONS = {
    400: "a parameter is missing",
    402: "too many SMS in a short time",
    403: "service not enabled, or wrong user or key: see Options, SMS notifications in the subscriber account",
    500: "server error",
}
GSM_7 = frozenset(
    "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""3GPP TS 23.038: any other character more than doubles the cost of the SMS."""
GSM_7_TWICE = frozenset("^{}\\[~]|€")
"""These count for two."""
INSTEAD = {"œ": "oe", "Œ": "OE", "’": "'", "‘": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "-", "—": "-",
           "…": "...", "×": "x", "`": "'", "„": '"', "‚": ",", "−": "-", "\n": " ", "\r": " ", "\t": " "}  # fmt: skip


def to_gsm_7(text: str) -> str:
    """Return text in GSM-7: unsupported accents are dropped, other characters become question marks."""
    return "".join(_to_gsm_7(character) for character in unicodedata.normalize("NFC", text))


def _to_gsm_7(character: str) -> str:
    if unicodedata.combining(character):
        return ""
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    for candidate in (INSTEAD.get(character, character), bare):
        if candidate and all(c in GSM_7 or c in GSM_7_TWICE for c in candidate):
            return candidate
    return "?"


def length(text: str) -> int:
    """Return the length of a GSM-7 text as the network counts it."""
    return sum(2 if character in GSM_7_TWICE else 1 for character in text)


class FreeMobile(Channel):
    """The key is sent in a POST body, so that it is in no URL and no log."""

    kind: Literal["free-mobile"]
    samples: bool = False
    user: Annotated[str, StringConstraints(pattern=r"^\d{8}$")] = Field(title="8 digits in quotes")
    """Free Mobile's customer number, 8 digits. Example: "12345678"."""
    key: Secret | None = None
    """Key of the SMS service. Example: "secret"."""
    max_chars: int = Field(default=300, ge=40, le=999)
    """Longest SMS in characters; the network splits it into parts of 153."""
    url: str = SERVICE
    """Address of the service."""
    ca_file: CertificateFile | None = None
    """PEM file of the certificate authorities to trust, instead of the system's. Example: "ca.pem"."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.key:
            raise ValueError("key, key_file or key_env is missing")
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if not self.url.startswith("https://"):
            raise ValueError("url must begin with https://")
        return self

    @property
    def needs(self) -> Needs:
        """The SMS."""
        return Needs(("free-mobile/sms.txt",))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the subscriber."""
        return (self.user,)

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Respect `max_chars`."""
        return length(self._sms(content.parts)) <= self.max_chars

    def _sms(self, parts: Mapping[str, str]) -> str:
        return " ".join(to_gsm_7(parts["free-mobile/sms.txt"]).split())

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the SMS, truncated if the host's name alone is too long."""
        sms = self._sms(content.parts)
        if length(sms) > self.max_chars:
            sms = sms[: self.max_chars]
            while length(sms) > self.max_chars - 3:
                sms = sms[:-1]
            sms += "..."
        return sms.encode()

    def deliver(self, message: Message) -> None:
        """Send the SMS to the service."""
        key = self.key.reveal() if self.key else ""
        body = json.dumps({"user": self.user, "pass": key, "msg": message.body.decode()}, ensure_ascii=False)
        status, said, *_ = http.post(self.url, body.encode(), {"Content-Type": "application/json"}, self.ca_file)
        if status == 200:  # the service answers with an empty body
            if said.lstrip().startswith(b"<"):
                reason = f"{self.url}: HTTP 200, but a web page: is this the Free Mobile API?"
                raise DeliveryError(reason, permanent=True, in_doubt=True)
            return
        reasons = (f"HTTP status {status}", REASONS.get(status), http.words(said, key))
        raise DeliveryError(
            f"{self.url}: {': '.join(filter(None, reasons))}", permanent=status != 402 and http.is_permanent(status)
        )

    def check(self) -> Health:
        """Read the key, and connect to the service; any request would send an SMS."""
        super().check()
        return Health(f"{http.reach(self.url, self.ca_file)} is reachable")
