"""What every channel is: a frozen object whose fields are its configuration keys, with one verb.

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
"""Seconds that one delivery may take in all, whatever the other side does."""
IDENTITY = re.compile(r"(f2b-|\d{8}T\d{6}Z-)?[0-9a-f]{32}([.@][^\s/]{1,320})?")
"""What `Channel.identity` makes: it becomes the name of a file and a header."""


@dataclass(frozen=True)
class Health:
    """What a channel found when it looked at its other side without sending anything."""

    line: str
    """For the admin; no secret."""
    keeps: float | None = None
    """Seconds for which the other side keeps a message for a receiver who is away; None where nobody said."""
    clock: float | None = None
    """The other side's time when it answered, in UTC epoch seconds; None where it did not tell it."""


class Channel(WithSecrets, ABC):
    """A configured channel."""

    # A mistake is reported without what was written there: it can be a secret.
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
        """Raise ValueError, which says why, if a stored message is none that this channel could have been given.

        Who can write to the store can lay rows into it; a channel that acts on a recipient checks it, too.
        """
        if not IDENTITY.fullmatch(message.identity) or not message.identity.isprintable():
            raise ValueError("malformed message identity")

    @property
    @abstractmethod
    def needs(self) -> Needs:
        """What a message is made of."""

    @property
    @abstractmethod
    def recipients(self) -> tuple[str, ...]:
        """Who gets a message; each has an outcome of its own."""

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Return whether the content keeps this channel's limits; rows are left out until it does."""
        return True

    @abstractmethod
    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the bytes that go out; the same for the same arguments."""

    def identity(self, stamp: Stamp) -> str:
        """Return the identifier by which receivers recognize a copy."""
        return stamp.identity

    def wire(self, body: bytes) -> bytes:
        """Return the bytes as the other side gets them, for display."""
        return body

    @abstractmethod
    def deliver(self, message: Message) -> str | None:
        """Deliver one message; return once the other side has accepted responsibility for it.

        What it returns, if anything, is a line on what the admin should know of the success. Raises DeliveryError.
        """

    def prepare(self) -> None:
        """Load what `deliver` needs, while this user can still read the program's files. Raises DeliveryError."""

    def check(self) -> Health:
        """Check whatever a delivery needs, without delivering. Raises DeliveryError.

        Each secret is read here; a channel adds what it knows of its other side.
        """
        for name in self.secrets:
            if secret := getattr(self, name):
                secret.reveal()
        return Health("cannot be tested without sending")


class Overdue(BaseException):
    """The time for a block is over. No Exception: libraries take those for a refusal, and try another address."""


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise DeliveryError at the end of the block if it is interrupted for taking more than so many seconds.

    Overdue is raised once, for a channel that can say how far it came. What ends any wait for sure is the end of
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
    """Return text without the secrets, which a server may repeat."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def cut(text: str, limit: int) -> bytes:
    """Return text as UTF-8 of at most `limit` bytes, no character of which is cut in two."""
    content = text.encode("utf-8", "replace")
    return (
        content if len(content) <= limit else content[: limit - 3].decode("utf-8", "ignore").encode() + b"\xe2\x80\xa6"
    )


def one_line(text: str, limit: int) -> str:
    """Return text as one line of at most `limit` characters, without control characters."""
    line = flat(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"
