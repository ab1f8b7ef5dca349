"""What every channel is: a frozen object whose fields are its configuration keys, with one verb.

A channel never reads the store, renders, retries, prints, or looks at the clock.
"""

import signal
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, ValidationInfo

from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp

DEADLINE = 120
"""Seconds that one delivery may take in all, whatever the other side does."""

OUT_OF_DATE = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def _beside_the_configuration(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    return folder / Path(value).expanduser() if folder and isinstance(value, str) else value


ConfiguredPath = Annotated[Path, BeforeValidator(_beside_the_configuration)]
"""A path that is relative to the configuration's folder."""


class Channel(BaseModel, ABC):
    """A configured way out."""

    # A mistake is reported without what was written there: it can be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    any_recipient: ClassVar[bool] = False
    """Whether `resend --to` can give a stored message another recipient."""
    kind: str
    templates: ClassVar[tuple[str, ...]]
    """The templates of a message, as `folder/file` below `templates/`."""

    @property
    @abstractmethod
    def recipients(self) -> tuple[str, ...]:
        """Who gets a message; each has an outcome of its own."""

    @abstractmethod
    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Say whether the rendered templates keep this channel's limits."""

    @abstractmethod
    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the bytes that go out for the rendered templates; the same for the same arguments."""

    def identity(self, stamp: Stamp) -> str:
        """Return what receivers know a copy by."""
        return stamp.identity

    @abstractmethod
    def deliver(self, message: Message) -> None:
        """Hand one message over; return once the other side has taken responsibility for it.

        Raises DeliveryError.
        """


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise TimeoutError in the block after so many seconds, wherever it waits: connecting, reading, a subprocess.

    A time limit on each read does not help against a server that sends a byte now and then. Main thread only.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read_secret(value: SecretStr | None, file: Path | None) -> str | None:
    """Return a secret that stands in the configuration or in the first line of a file, or None if neither is set.

    Read at each delivery, so that a replaced file counts at once. Raises DeliveryError, to be tried again
    where it stands in a file.
    """
    secret = value.get_secret_value() if value is not None else _first_line(file) if file is not None else None
    if secret is not None and not secret.isprintable():
        place = "the token or password" if value is not None else f"secret file {file}"
        raise DeliveryError(f"{place} holds a line end or a control character", permanent=value is not None)
    return secret


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise DeliveryError(f"secret file {file}: {reason}", permanent=False) from None
    if not lines or not lines[0].strip():
        raise DeliveryError(f"secret file {file} is empty", permanent=False)
    return lines[0].strip()


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies by the certificates of a file, or by the system's. Raises DeliveryError."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise DeliveryError(f"ca_file {ca_file}: {error.strerror or error}", permanent=False) from None


def passes(refused: ssl.SSLCertVerificationError) -> bool:
    """Say whether a certificate was refused for its dates: a renewal mends that, or a clock that is set right."""
    return refused.verify_code in OUT_OF_DATE


def masked(text: str, *secrets: str) -> str:
    """Return text without the secrets, which a server may repeat."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def one_line(text: str, limit: int) -> str:
    """Return text as one line of at most `limit` characters, without control characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
