"""What every channel is: a frozen object whose fields are its configuration keys, with one verb.

A channel never reads the store, renders, retries, prints, or looks at the clock.
"""

import signal
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from f2b_digest.errors import DeliveryError
from f2b_digest.evidence import flat
from f2b_digest.message import Message, Stamp

DEADLINE = 120
"""Seconds that one delivery may take in all, whatever the other side does."""

OUT_OF_DATE = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def _beside_the_configuration(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL")
    if not folder or not isinstance(value, str):
        return value
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value}: nobody here has that name") from None


ConfiguredPath = Annotated[Path, BeforeValidator(_beside_the_configuration)]
"""A path that is relative to the configuration's folder."""


@dataclass(frozen=True)
class Variable:
    """A variable of the environment, and what it held when the configuration was read."""

    name: str
    value: SecretStr | None


def _from_environment(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a variable of the environment")
    held = (info.context or {}).get("environment", {}).get(value)
    return Variable(value, None if held is None else SecretStr(held))


@dataclass(frozen=True)
class Health:
    """What a channel found when it looked at its other side without sending anything."""

    line: str
    """For the admin; no secret."""
    keeps: float | None = None
    """Seconds for which the other side keeps a message for a receiver who is away; None where nobody said."""
    clock: float | None = None
    """The other side's time when it answered, in UTC epoch seconds; None where it did not tell it."""


EnvironmentVariable = Annotated[Variable, BeforeValidator(_from_environment)]
"""The name of a variable that holds a secret."""


class Channel(BaseModel, ABC):
    """A configured way out."""

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
    secrets: ClassVar[tuple[str, ...]] = ()
    """Keys that hold a secret; each has two more, NAME_file and NAME_env, and one of the three can be given."""

    kind: str
    """Kind of channel."""
    min_bans: int = Field(default=0, ge=0)
    """Skip this channel when a digest has fewer bans."""
    samples: bool = True
    """Include log lines in the message."""

    @model_validator(mode="after")
    def _each_secret_once(self) -> Self:
        for name in self.secrets:
            given = [key for key in (name, f"{name}_file", f"{name}_env") if getattr(self, key) is not None]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)}: give one of them")
        return self

    def has_secret(self, name: str) -> bool:
        """Say whether a secret is configured, in whichever way."""
        return any(getattr(self, key) is not None for key in (name, f"{name}_file", f"{name}_env"))

    def reveal(self, name: str) -> str | None:
        """Return a secret from the configuration, its file or the environment; None if it is not configured.

        A file is read at each delivery, so that a replaced one counts at once. Raises DeliveryError, to be tried again
        unless the secret stands in the configuration.
        """
        value, file, variable = (getattr(self, key) for key in (name, f"{name}_file", f"{name}_env"))
        if variable is not None and variable.value is None:
            raise DeliveryError(f"the environment has no variable {variable.name}", permanent=False)
        return read_secret(variable.value if variable is not None else value, file)

    @property
    @abstractmethod
    def templates(self) -> tuple[str, ...]:
        """The templates of a message, as `folder/file` below `templates/`; DOCUMENT is the digest as JSON."""

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

    def wire(self, body: bytes) -> bytes:
        """Return what the other side gets of a message's bytes, for a person to look at."""
        return body

    @abstractmethod
    def deliver(self, message: Message) -> str | None:
        """Hand one message over; return once the other side has taken responsibility for it.

        What it returns, if anything, is a line on what the admin should know of the success. Raises DeliveryError.
        """

    def check(self) -> Health:
        """Look at all that a delivery needs, as far as can be done without one. Raises DeliveryError.

        Each secret is read here; a channel adds what it knows of its other side.
        """
        for name in self.secrets:
            self.reveal(name)
        return Health("nothing to look at without sending")


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
