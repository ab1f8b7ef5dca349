"""The file channel: digests as files in a folder, at the end of a file, or as new mails in a Maildir."""

import errno
import mailbox
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from f2b_digest.channels import mime
from f2b_digest.channels.base import Channel, ConfiguredPath
from f2b_digest.channels.email import MAIL_TEMPLATES, mail_fits
from f2b_digest.errors import DeliveryError
from f2b_digest.message import DOCUMENT, Message, Stamp

TEMPLATES = {
    "eml": MAIL_TEMPLATES,
    "text": ("email/body.txt",),
    "html": ("email/body.html",),
    "json": (DOCUMENT,),
}
ENDINGS = {"eml": "eml", "text": "txt", "html": "html", "json": "json"}


class File(Channel):
    """Whole files: one that is there is complete, and a retry replaces its own."""

    kind: Literal["file"]
    folder: ConfiguredPath | None = None
    """One file per digest; made if missing."""
    append: ConfiguredPath | None = None
    """One file, to whose end each digest goes."""
    maildir: ConfiguredPath | None = None
    """One new mail per digest; made if missing."""
    format: Literal["eml", "text", "html", "json"] | None = None
    """Default: eml for a folder and a Maildir, text for a file that grows."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(place is not None for place in (self.folder, self.append, self.maildir)) != 1:
            raise ValueError("folder, append and maildir: give one of them")
        if self.maildir and self.format not in (None, "eml"):
            raise ValueError("a Maildir holds mails: format is eml")
        if self.append and self.format not in (None, "text", "json"):
            raise ValueError("a file that grows takes the formats text and json")
        return self

    @property
    def _format(self) -> str:
        return self.format or ("text" if self.append else "eml")

    @property
    def templates(self) -> tuple[str, ...]:
        """What the format needs."""
        return TEMPLATES[self._format]

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the path."""
        return (str(self.folder or self.append or self.maildir),)

    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Keep a mail's limits where it is one."""
        return self._format != "eml" or mail_fits(parts)

    def identity(self, stamp: Stamp) -> str:
        """Return the file's name, or the Message-ID."""
        return f"{stamp.identity}.{ENDINGS[self._format]}"

    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the file's content."""
        if self._format != "eml":
            return parts[self.templates[0]].strip("\n").encode("utf-8", "replace") + b"\n"
        return mime.build(
            sender="f2b-digest@localhost",
            recipients=["admin@localhost"],
            subject=parts["email/subject.txt"],
            text=parts["email/body.txt"],
            html=parts["email/body.html"],
            stamp=stamp,
            message_id=f"{stamp.identity}@localhost",
        )

    def deliver(self, message: Message) -> None:
        """Write the file, or its end, and bring it to disk."""
        try:
            if self.maildir:
                mailbox.Maildir(self.maildir, create=True).add(message.body)
            elif self.append:
                _append(self.append, message.body)
            elif self.folder:
                _write(self.folder, message.identity, message.body)
        except (OSError, mailbox.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            place = getattr(error, "filename", None) or self.recipients[0]
            raise DeliveryError(f"{place}: {reason}", permanent=False) from None


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file whole, or not at all."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = folder / f".{name}.new"  # the same at every attempt: what a killed one left, the next takes over
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_names(folder)


def _append(path: Path, content: bytes) -> None:
    """Append to a file whole, or not at all: a disk that fills up in the middle leaves no torn digest."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o640), "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        whole = False
        try:
            whole = file.write(content) == len(content)
            os.fsync(file.fileno())
        finally:
            if not whole:
                file.truncate(end)
    if not whole:
        raise OSError(errno.ENOSPC, "no space for a whole digest", str(path))


def _sync_names(folder: Path) -> None:
    """Bring a folder's names to disk, where its file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
