"""What every channel is: a frozen object whose fields are its configuration keys, with one verb.

A channel never reads the store, renders, retries, prints, or looks at the clock.
"""

import logging
import os
import re
import signal
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationInfo, model_validator

from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Message, Stamp
from f2b_digest.text.redaction import flat

log = logging.getLogger(__name__)

DEADLINE = 120.0
"""Seconds that one delivery may take in all, whatever the other side does."""
LARGEST_SECRET, LARGEST_BUNDLE = 64 * 1024, 4 * 2**20
"""Bytes of a file with a secret, and of one with certificates."""
CREDENTIALS = "$CREDENTIALS_DIRECTORY"
"""How the path of a secret begins that systemd hands to a unit (LoadCredential=)."""
IDENTITY = re.compile(r"(f2b-)?[0-9a-f]{32}([.@][^\s/]{1,320})?")
"""What `Channel.identity` makes: it becomes the name of a file and a header."""


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
class Contents:
    """A file that the configuration names, and what it held when the configuration was read."""

    path: Path
    held: SecretStr
    trouble: str = ""
    """Why it could not be read. Not every command needs it, or is run by somebody who may read it."""


def _from_file(largest: int, value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and value.startswith(f"{CREDENTIALS}/"):
        folder = (info.context or {}).get("environment", {}).get(CREDENTIALS[1:])
        if not folder:
            return Contents(Path(value), SecretStr(""), "a credential, which only the unit that loads it can read")
        value = folder + value.removeprefix(CREDENTIALS)
    path = _beside_the_configuration(value, info)
    if not isinstance(path, (str, Path)) or not str(path):
        raise ValueError("must be the path of a file")
    try:
        return Contents(Path(path), SecretStr(_read(Path(path), largest)))
    except (OSError, ValueError) as error:
        log.debug("cannot read %s", path, exc_info=True)
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        return Contents(Path(path), SecretStr(""), reason)


def _read(path: Path, largest: int) -> str:
    """Return a regular file's text, without waiting for anybody. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is no regular file")
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"is larger than {largest >> 10} KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


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
SecretFile = Annotated[Contents, BeforeValidator(partial(_from_file, LARGEST_SECRET))]
"""A path, relative to the configuration's folder, of a file that holds a secret in its first line.

One that begins with "$CREDENTIALS_DIRECTORY/" is a credential that systemd hands to the unit.
"""
CertificateFile = Annotated[Contents, BeforeValidator(partial(_from_file, LARGEST_BUNDLE))]
"""A path, relative to the configuration's folder, of a file with certificates in PEM."""


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
        """Return a secret, as it was when the configuration was read; None if it is not configured.

        Raises DeliveryError, to be tried again unless the secret stands in the configuration.
        """
        value, file, variable = (getattr(self, key) for key in (name, f"{name}_file", f"{name}_env"))
        if variable is not None and variable.value is None:
            raise DeliveryError(f"the environment has no variable {variable.name}", permanent=False)
        return read_secret(variable.value if variable is not None else value, file)

    def accept(self, message: Message) -> None:
        """Raise ValueError, which says why, if a stored message is none that this channel could have been given.

        Who can write to the store can lay rows into it; a channel that acts on a recipient checks it, too.
        """
        if not IDENTITY.fullmatch(message.identity) or not message.identity.isprintable():
            raise ValueError("its identity is none that is ever made here")

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

    def prepare(self) -> None:
        """Load what `deliver` needs, while this user can still read the program's files. Raises DeliveryError."""

    def check(self) -> Health:
        """Look at all that a delivery needs, as far as can be done without one. Raises DeliveryError.

        Each secret is read here; a channel adds what it knows of its other side.
        """
        for name in self.secrets:
            self.reveal(name)
        return Health("nothing to look at without sending")


class Overdue(BaseException):
    """The time for a block is over. No Exception: libraries take those for a refusal, and try another address."""


@contextmanager
def deadline(seconds: float = DEADLINE) -> Iterator[None]:
    """Raise DeliveryError at the end of the block if it is interrupted for taking more than so many seconds.

    It rings once, as Overdue: for a channel that can say how far it came. What ends any wait for sure is the end of
    the process, see f2b_digest.isolation. Main thread only.
    """

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Overdue(f"no end after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Overdue as error:
        raise DeliveryError(str(error), permanent=False, in_doubt=True, unreachable=True) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read_secret(value: SecretStr | None, file: Contents | None) -> str | None:
    """Return a secret that stands in the configuration or in the first line of a file, or None if neither is set.

    Raises DeliveryError, to be tried again where it stands in a file.
    """
    secret = value.get_secret_value() if value is not None else _first_line(file) if file is not None else None
    if secret is not None and not secret.isprintable():
        place = "the token or password" if value is not None else f"secret file {file.path if file else ''}"
        raise DeliveryError(f"{place} holds a line end or a control character", permanent=value is not None)
    return secret


def _first_line(file: Contents) -> str:
    lines = file.held.get_secret_value().splitlines()
    if file.trouble:
        raise DeliveryError(f"secret file {file.path}: {file.trouble}", permanent=False)
    if not lines or not lines[0].strip():
        raise DeliveryError(f"secret file {file.path} is empty", permanent=False)
    return lines[0].strip()


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
