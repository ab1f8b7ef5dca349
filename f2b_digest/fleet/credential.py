"""A host's credential for its centre: the pasted line, and its file. No connection is made here."""

import base64
import binascii
import json
import os
import ssl
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from f2b_digest.errors import ConfigurationError, unreadable

PREFIX = "f2b1."
"""Prefix of a pasted line with a password and a CA certificate; without it, the line is a password."""
Lines = Literal["worst", "all", "none"]


@dataclass(frozen=True)
class Credential:
    """The centre's address, and this host's credentials."""

    centre: str
    """postgresql://login@host:port/database, or a hub's ssh://user@host:port"""
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    """The CA of the centre's certificate, as PEM; None for the system's."""
    certificate: str | None = None
    """This host's client certificate as PEM, if the centre requires one."""
    key: str | None = field(default=None, repr=False)
    """The key of `certificate`; or of a hub, the one that ssh shows."""
    host_key: str | None = None
    """Of a hub: its own key, as ssh-keygen prints it."""
    matches: Lines = "worst"
    """Which bans are uploaded with their log lines."""

    @property
    def by_ssh(self) -> bool:
        """Return whether the centre is a hub."""
        return self.centre.startswith("ssh://")

    @property
    def secrets(self) -> dict[str, str | None]:
        """Return the arguments of a connection other than the address, by name; None where there is none."""
        return {"password": self.password, "ca": self.ca, "certificate": self.certificate, "key": self.key}


def pasted(password: str, ca: str | None) -> str:
    """Return a password and an authority (PEM) as one line to be pasted."""
    held = {"password": password}
    if ca:
        held["ca"] = base64.b64encode(ssl.PEM_cert_to_DER_cert(ca.strip() + "\n")).decode()
    return _line(held)


def pasted_for_ssh(key: str, host_key: str) -> str:
    """Return a private key, and that of the hub, as one line to be pasted."""
    return _line({"key": key, "host_key": host_key})


def _line(held: dict[str, str]) -> str:
    return PREFIX + base64.urlsafe_b64encode(json.dumps(held).encode()).decode().rstrip("=")


def taken_apart(line: str) -> dict[str, str]:
    """Return what a pasted line holds, by the names of a credential's fields. Raises ConfigurationError."""
    line = line.strip()
    if not line.startswith(PREFIX):
        if not line:
            raise ConfigurationError(["no credential was given: paste the line that `f2b-digest fleet add` printed"])
        return {"password": line}
    try:
        body = line.removeprefix(PREFIX)
        held = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if "ca" in held:
            held["ca"] = ssl.DER_cert_to_PEM_cert(base64.b64decode(held["ca"]))
        known = {name: str(held[name]) for name in ("password", "ca", "key", "host_key") if name in held}
    except (binascii.Error, ValueError, KeyError, TypeError):
        known = {}
    if not known:
        raise ConfigurationError(["the credential is incomplete: copy the whole line that begins with f2b1."])
    return known


def read(path: Path) -> Credential | None:
    """Read a credential; None if there is no such file. Raises ConfigurationError."""
    try:
        status = path.stat()
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError([unreadable(path, error)]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from None
    if status.st_mode & 0o077:
        raise ConfigurationError([f"{path} contains a secret and is readable by others: chmod 600 {path}"])
    fields = set(Credential.__dataclass_fields__)
    if mistaken := sorted(set(values) - fields):
        raise ConfigurationError([f"{path}: {key}: unknown key" for key in mistaken])
    if wrong := sorted(key for key, value in values.items() if not isinstance(value, str)):
        raise ConfigurationError([f"{path}: {key}: must be a string" for key in wrong])
    if values.get("matches", "worst") not in get_args(Lines):
        raise ConfigurationError([f'{path}: matches: must be "worst", "all" or "none"'])
    if "centre" not in values:
        raise ConfigurationError([f"{path}: centre: is missing"])
    return Credential(**values)


def write(path: Path, credential: Credential) -> None:
    """Write a credential atomically to a file that only its owner may read. Raises OSError."""
    lines = ["# What this host needs to upload to its fleet's centre: written by `f2b-digest fleet join`. Secret."]
    for key in Credential.__dataclass_fields__:
        value = getattr(credential, key)
        if value is not None:
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
