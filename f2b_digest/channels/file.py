"""The file channel: each digest as an .eml file in a folder, which any mail program opens."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from f2b_digest.channels import mime
from f2b_digest.channels.base import Channel, ConfiguredPath
from f2b_digest.channels.email import MAIL_TEMPLATES, mail_fits
from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp


class File(Channel):
    """One .eml file per digest; a retry replaces its file."""

    templates: ClassVar[tuple[str, ...]] = MAIL_TEMPLATES

    kind: Literal["file"]
    folder: ConfiguredPath
    """Where the files go; made if missing."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the folder."""
        return (str(self.folder),)

    def fits(self, parts: Mapping[str, str], stamp: Stamp) -> bool:
        """Keep a mail's limits."""
        return mail_fits(parts)

    def pack(self, parts: Mapping[str, str], stamp: Stamp) -> bytes:
        """Return the mail."""
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
        """Write the file, whole and on disk or not at all."""
        name = f"{message.identity}.eml"
        temporary = self.folder / f".{name}"  # the same at every attempt: what a killed one left, the next takes over
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640), "wb") as file:
                    file.write(message.body)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.folder / name)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            reason = f"{error.filename or self.folder}: {error.strerror or error}"
            raise DeliveryError(reason, permanent=False) from None
        _sync_names(self.folder)


def _sync_names(folder: Path) -> None:
    """Bring a folder's names to disk, where its file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
