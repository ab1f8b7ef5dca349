"""Types of configuration keys: paths, certificate files and secrets. Files are read when the configuration is."""

import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
    model_validator,
)  # fmt: skip
from pydantic_core import CoreSchema, core_schema

from f2b_digest.errors import DeliveryError

log = logging.getLogger(__name__)

LARGEST_SECRET, LARGEST_BUNDLE = 64 * 1024, 4 * 2**20
"""Bytes of a file with a secret, and of one with certificates."""
CREDENTIALS = "$CREDENTIALS_DIRECTORY"
"""How the path of a secret's file begins if systemd hands it to the unit."""


def _beside_the_configuration(value: object, info: ValidationInfo) -> object:
    folder = (info.context or {}).get("folder")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not contain a NUL byte")
    if not folder or not isinstance(value, str):
        return value
    try:
        return folder / Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{value}: no such user") from None


ConfiguredPath = Annotated[Path, BeforeValidator(_beside_the_configuration)]
"""A path that is relative to the configuration's folder."""


@dataclass(frozen=True)
class Contents:
    """A file that the configuration names, and its text when the configuration was read."""

    path: Path
    held: SecretStr
    trouble: str = ""
    """Why it could not be read: no mistake yet, for not every command needs it."""


def _from_file(largest: int, value: object, info: ValidationInfo) -> Contents:
    path = _beside_the_configuration(value, info)
    if not isinstance(path, (str, Path)) or not str(path):
        raise ValueError("must be a file path")
    try:
        return Contents(Path(path), SecretStr(_read(Path(path), largest)))
    except (OSError, ValueError) as error:
        log.debug("cannot read %s", path, exc_info=True)
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        return Contents(Path(path), SecretStr(""), reason)


def _read(path: Path, largest: int) -> str:
    """Return a regular file's text; does not block on a FIFO. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"is larger than {largest >> 10} KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


CertificateFile = Annotated[Contents, BeforeValidator(partial(_from_file, LARGEST_BUNDLE))]
"""A path, relative to the configuration's folder, of a file with certificates in PEM."""


@dataclass(frozen=True)
class Secret:
    """A secret: the value of NAME, the first line of the file NAME_file, or the environment variable NAME_env.

    A file "$CREDENTIALS_DIRECTORY/…" is a credential of systemd's.

    It is read once, with the configuration, so that every attempt of a run uses the same, and a command that does not
    need it can run without it.
    """

    held: SecretStr
    place: str = ""
    """Its file or variable, for error messages; empty if it is in the configuration itself."""
    file: Path | None = None
    trouble: str = ""
    """Why it could not be read."""

    @property
    def inline(self) -> bool:
        """Whether it is in the configuration itself."""
        return not self.place

    def reveal(self) -> str:
        """Return the secret. Raises DeliveryError, permanent if only a change of the configuration can help."""
        if self.trouble:
            raise DeliveryError(self.trouble, permanent=False)
        secret = self.held.get_secret_value()
        if not secret.isprintable():
            place = self.place or "the token or password"
            raise DeliveryError(f"{place} contains a line break or control character", permanent=self.inline)
        return secret

    def for_header(self, name: str) -> str:
        """Return the secret if it is valid in a header. Raises DeliveryError."""
        secret = self.reveal()
        if not secret.isascii():
            raise DeliveryError(f"the {name} contains a non-ASCII character", permanent=self.inline)
        return secret

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(_secret)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "format": "password"}


@dataclass(frozen=True)
class _Given:
    """What the configuration has for a secret."""

    name: str
    values: dict[str, object]
    """By key: NAME, NAME_file or NAME_env."""


def keys_of(name: str) -> tuple[str, str, str]:
    """Return the keys by which a secret can be given."""
    return name, f"{name}_file", f"{name}_env"


def _secret(value: object, info: ValidationInfo) -> Secret:
    given = value if isinstance(value, _Given) else _Given("", {"": value})
    if len(given.values) > 1:
        raise ValueError(f"set only one of {' and '.join(given.values)}")
    ((key, value),) = given.values.items()
    _, file, variable = keys_of(given.name)
    if key == file:
        return _from_credential(value, info) or _from_secret_file(_from_file(LARGEST_SECRET, value, info))
    if key == variable:
        return _from_environment(key, value, info)
    if isinstance(value, str):
        return Secret(SecretStr(value))
    if isinstance(value, SecretStr):
        return Secret(value)
    raise ValueError('must be a string like "…"')


def _from_credential(value: object, info: ValidationInfo) -> Secret | None:
    """Return a secret that systemd hands to the unit (LoadCredential=); None if another file is named."""
    if not isinstance(value, str) or not value.startswith(f"{CREDENTIALS}/"):
        return None
    folder = (info.context or {}).get("environment", {}).get(CREDENTIALS[1:])
    if not folder:
        why = f"{value} is a credential, which only the unit that loads it can read"
        return Secret(SecretStr(""), value, Path(value), why)
    return _from_secret_file(_from_file(LARGEST_SECRET, folder + value.removeprefix(CREDENTIALS), info))


def _from_secret_file(contents: Contents) -> Secret:
    place = f"secret file {contents.path}"
    line = contents.held.get_secret_value().strip("\n").partition("\n")[0].strip()
    trouble = f"{place}: {contents.trouble}" if contents.trouble else "" if line else f"{place} is empty"
    return Secret(SecretStr(line), place, contents.path, trouble)


def _from_environment(key: str, value: object, info: ValidationInfo) -> Secret:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be the name of an environment variable")
    held = (info.context or {}).get("environment", {}).get(value)
    place = f"environment variable {value}"
    return Secret(SecretStr(held or ""), place, trouble=f"{place} is not set" if held is None else "")


class WithSecrets(BaseModel):
    """A table of the configuration whose fields of type Secret can be given by three keys each."""

    secrets: ClassVar[tuple[str, ...]] = ()
    """The names of those fields."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Find the secrets."""
        super().__pydantic_init_subclass__(**kwargs)
        found = [name for name, field in cls.model_fields.items() if _is_secret(field.annotation)]
        cls.secrets = tuple(dict.fromkeys((*cls.secrets, *found)))

    @model_validator(mode="before")
    @classmethod
    def _gather_secrets(cls, table: Any) -> Any:
        """Put what was given by any of a secret's keys under its name."""
        return _gathered(table, cls.secrets) if isinstance(table, Mapping) else table


def _gathered(table: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    rest = dict(table)
    for name in names:
        if isinstance(rest.get(name), (Secret, _Given)):
            continue
        given = {key: rest.pop(key) for key in keys_of(name) if rest.get(key) is not None}
        if given:
            rest[name] = _Given(name, given)
    return rest


def _is_secret(annotation: Any) -> bool:
    return annotation is Secret or any(map(_is_secret, get_args(annotation)))
