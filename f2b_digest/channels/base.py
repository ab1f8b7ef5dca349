"""The base class of channels: a frozen object whose fields are its configuration keys, with one verb, `deliver`.

A channel never reads the store, renders, retries, prints, or looks at the clock.
"""

import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import ClassVar

from pydantic import ConfigDict, Field

from f2b_digest.channels.keys import WithSecrets
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp
from f2b_digest.text.redaction import flat

DEADLINE = 120.0
"""Hard deadline of a delivery in seconds."""
IDENTITY = re.compile(r"(f2b-|\d{8}T\d{6}Z-)?[0-9a-f]{32}([.@][^\s/]{1,320})?")
"""The form of `Channel.identity`: it becomes a file name and a header."""


@dataclass(frozen=True)
class Health:
    """The result of a channel's check, made without sending anything."""

    line: str
    """For the admin; no secret."""
    keeps: float | None = None
    """Seconds for which the server keeps a message for an offline receiver; None if unknown."""
    clock: float | None = None
    """The server's clock when it answered, in UTC epoch seconds; None if unknown."""


class Channel(WithSecrets, ABC):
    """A configured channel."""

    # Errors do not show the value: it can be a secret.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,  # `f2b-digest config` and the documentation show them
    )

    any_recipient: ClassVar[bool] = False
    """Whether `resend --to` can give a stored message another recipient."""
    testable: ClassVar[bool] = True
    """Whether `check --send` may send a test message."""

    kind: str
    """Kind of channel."""
    min_bans: int = Field(default=0, ge=0)
    """Skip this channel when a digest has fewer bans."""
    samples: bool = True
    """Include log lines in the message."""

    def accept(self, message: Message) -> None:
        """Raise ValueError, with the reason, if a stored message cannot have been made by this channel.

        Whoever can write to the store can forge rows; a channel that acts on a recipient checks that too.
        """
        if not IDENTITY.fullmatch(message.identity) or not message.identity.isprintable():
            raise ValueError("malformed message identity")

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """Return what the channel needs for a message."""

    @property
    @abstractmethod
    def recipients(self) -> tuple[str, ...]:
        """Return the recipients; each has its own delivery."""

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Return whether the content fits this channel's limits; rows are left out until it does."""
        return True

    @abstractmethod
    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the bytes that go out; the same for the same arguments."""

    def identity(self, stamp: Stamp) -> str:
        """Return the identifier by which receivers recognize a duplicate."""
        return stamp.identity

    def wire(self, body: bytes) -> bytes:
        """Return the bytes as the server gets them, for display."""
        return body

    @abstractmethod
    def deliver(self, message: Message) -> str | None:
        """Deliver one message; return once the server has accepted responsibility for it.

        May return a line about the success for the admin. Raises DeliveryError.
        """

    def prepare(self) -> None:
        """Load what `deliver` needs, while this user can still read the program's files. Raises DeliveryError."""

    def check(self) -> Health:
        """Check what a delivery needs, without delivering. Raises DeliveryError.

        Reads each secret; a channel adds checks of its server.
        """
        for name in self.secrets:
            if secret := getattr(self, name):
                secret.reveal()
        return Health("cannot be tested without sending")


class Overdue(BaseException):
    """Timeout of a block. Not an Exception: libraries would treat it as a refusal and try another address."""


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Interrupt a block after so many seconds, and raise DeliveryError.

    Overdue is raised once, so that a channel can report its progress. What reliably ends any wait is killing
    the process, see f2b_digest.isolation. Main thread only.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Overdue(f"timed out after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Overdue as error:
        raise DeliveryError(str(error), permanent=False, in_doubt=True, unreachable=True) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def masked(text: str, *secrets: str) -> str:
    """Return text without the secrets, which a server may echo."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def cut(text: str, limit: int) -> bytes:
    """Return text as UTF-8 of at most `limit` bytes, cut at a character boundary."""
    content = text.encode("utf-8", "replace")
    return (
        content if len(content) <= limit else content[: limit - 3].decode("utf-8", "ignore").encode() + b"\xe2\x80\xa6"
    )


def one_line(text: str, limit: int) -> str:
    """Return text as one line of at most `limit` characters, without control characters."""
    line = flat(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
