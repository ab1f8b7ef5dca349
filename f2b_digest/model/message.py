"""What delivery and the channels hand to each other: plain values, no behaviour."""

from dataclasses import dataclass

DOCUMENT = "document.json"
"""Among a channel's templates: the digest as JSON, which no template makes."""
ADDRESSES = "addresses.json"
"""Among a channel's templates: every address of the digest, not only the shown ones, as a JSON list."""
EARLIER = "earlier.json"
"""Among a channel's templates: the bodies that this channel delivered in the last 15 minutes, as a JSON list."""


@dataclass(frozen=True)
class Stamp:
    """What a channel may say of a digest beside its rendered text."""

    uuid: str
    report: str
    channel: str
    """The channel's name in the configuration."""
    host: str
    made_at: float
    """UTC epoch seconds."""
    bans: int
    addresses: int = 0
    jails: int = 0
    failures: int | None = 0
    """None where nobody knows."""

    @property
    def identity(self) -> str:
        """The same at every attempt: the Message-ID without its brackets, the sequence id without its prefix."""
        return f"{self.uuid}.{self.channel}"


@dataclass(frozen=True)
class Message:
    """One rendered digest for one recipient, as the bytes that go out at every attempt."""

    recipient: str
    body: bytes
    identity: str
    """Message-ID or sequence id: a receiver that drops duplicates by it shows one copy."""
    in_doubt: bool = False
    """An earlier attempt may have arrived: this would be a second copy."""
    at: float = 0.0
    """When this attempt is made, in UTC epoch seconds."""
