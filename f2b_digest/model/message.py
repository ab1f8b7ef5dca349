"""Values passed between delivery and the channels. No behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from f2b_digest.model.bans import Banned


@dataclass(frozen=True)
class Needs:
    """What a channel needs to make its messages."""

    templates: tuple[str, ...] = ()
    """As `folder/file` below `templates/`."""
    document: bool = False
    """The digest as JSON, which also replaces a template that cannot be rendered."""
    addresses: bool = False
    """Every address of the digest, not only those in templates and document."""
    link: str = ""
    """A variable of the templates: where the reader finds all digests."""
    delivered: float = 0.0
    """Seconds for which the channel needs to know what it delivered."""


@dataclass(frozen=True)
class Content:
    """What a channel gets: exactly its `Needs`."""

    parts: Mapping[str, str] = field(default_factory=dict)
    """The rendered templates, by name."""
    document: str = ""
    """The digest as JSON."""
    addresses: Sequence[Banned] = ()
    """The worst first."""
    delivered: Sequence[bytes] = ()
    """Bodies of the messages that this channel delivered lately."""


@dataclass(frozen=True)
class Stamp:
    """Metadata of a digest for a channel, beside the rendered text."""

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
    """None if unknown."""
    needs_attention: bool = False
    """Whether the digest needs attention."""

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
