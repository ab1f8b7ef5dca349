"""The file channel: digests as files in a folder, at the end of a file, or as new mails in a Maildir."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from f2b_digest.channels import archive, mime
from f2b_digest.channels.base import Channel, Health, one_line
from f2b_digest.channels.keys import ConfiguredPath
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp

NEEDS = {
    "eml": Needs(mime.TEMPLATES),
    "text": Needs(("email/body.txt",)),
    "html": Needs(("email/body.html",)),
    "json": Needs(document=True),
}
PAGE, SUBJECT, WORDS = "file/page.html", "email/subject.txt", "file/index.txt"
INDEX = "index.html"
ENDINGS = {"eml": "eml", "text": "txt", "html": "html", "json": "json"}


class File(Channel):
    """Write each digest to a folder, a Maildir, or the end of a file. Files are written atomically."""

    kind: Literal["file"]
    folder: ConfiguredPath | None = None
    """Folder for one file per digest; created if missing. Example: "/var/spool/f2b-digest"."""
    append: ConfiguredPath | None = None
    """File to append each digest to. Example: "/var/log/f2b-digest.txt"."""
    maildir: ConfiguredPath | None = None
    """Maildir for one new mail per digest; created if missing. Example: "/home/admin/Maildir"."""
    format: Literal["eml", "text", "html", "json"] | None = None
    """Format of the files. Default: "eml" for folder and maildir, "text" for append. Example: "eml"."""

    index: bool = False
    """With folder and format = "html": name every address on each page, and keep an index.html of all pages."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(place is not None for place in (self.folder, self.append, self.maildir)) != 1:
            raise ValueError("set exactly one of folder, append and maildir")
        return self

    @model_validator(mode="after")
    def _suits(self) -> Self:
        if self.maildir and self.format not in (None, "eml"):
            raise ValueError('maildir needs format = "eml"')
        if self.append and self.format not in (None, "text", "json"):
            raise ValueError('append needs format = "text" or "json"')
        return self

    @model_validator(mode="after")
    def _indexed(self) -> Self:
        if self.index and (self.folder is None or self.format != "html"):
            raise ValueError('index needs folder and format = "html"')
        return self

    @property
    def _format(self) -> str:
        return self.format or ("text" if self.append else "eml")

    @property
    def needs(self) -> Needs:
        """What the format needs."""
        return Needs((PAGE, SUBJECT, WORDS), addresses=True) if self.index else NEEDS[self._format]

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the path."""
        return (str(self.folder or self.append or self.maildir),)

    def fits(self, content: Content, stamp: Stamp) -> bool:
        """Keep a mail's limits where it is one."""
        return self._format != "eml" or mime.fits(content.parts)

    def identity(self, stamp: Stamp) -> str:
        """Return the file's name, or the Message-ID."""
        return archive.name_of(stamp) if self.index else f"{stamp.identity}.{ENDINGS[self._format]}"

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the file's content."""
        if self.index:
            parts = content.parts
            page = archive.described(parts[PAGE], archive.about(stamp, parts[SUBJECT], parts[WORDS]))
            return page.strip("\n").encode("utf-8", "replace") + b"\n"
        if self._format != "eml":
            text = next(iter(content.parts.values()), content.document)
            return text.strip("\n").encode("utf-8", "replace") + b"\n"
        return mime.build(
            sender="f2b-digest@localhost",
            recipients=["admin@localhost"],
            subject=content.parts["email/subject.txt"],
            text=content.parts["email/body.txt"],
            html=content.parts["email/body.html"],
            stamp=stamp,
            message_id=f"{stamp.identity}@localhost",
        )

    def accept(self, message: Message) -> None:
        """Raise ValueError if the store's path differs from the configuration's."""
        super().accept(message)
        if message.recipient not in self.recipients:
            raise ValueError(f"recipient {one_line(message.recipient, 80)!r} does not match {self.recipients[0]!r}")

    def deliver(self, message: Message) -> None:
        """Write or append to the file, and sync it."""
        try:
            if self.maildir:
                _drop(self.maildir, message.identity, message.body)
            elif self.append:
                _append(self.append, message.body)
            elif self.folder:
                _write(self.folder, message.identity, message.body)
                if self.index:
                    _write(self.folder, INDEX, archive.index(self.folder))
        except OSError as error:
            reason = f"{error.filename or self.recipients[0]}: {error.strerror or error}"
            raise DeliveryError(reason, permanent=False) from None

    def check(self) -> Health:
        """Check that this user can write there, or create what is missing."""
        place = Path(self.recipients[0])
        # Not Path.exists(): before Python 3.14 it raises for a path in a folder that is closed to this user.
        nearest = next(path for path in (place, *place.absolute().parents) if os.path.exists(path))  # noqa: PTH110
        if not os.access(nearest, os.W_OK, effective_ids=True):
            raise DeliveryError(f"{nearest}: not writable by this user", permanent=False)
        return Health(f"{place} is writable")


def _write(folder: Path, name: str, content: bytes) -> None:
    """Write a file atomically."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    temporary = folder / f".{name}.new"  # the same at every attempt: the next one replaces what a killed one left
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o640), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_names(folder)


def _drop(maildir: Path, name: str, content: bytes) -> None:
    """Write a new mail atomically, owned by its reader.

    Python's mailbox is not used: on a full disk, each attempt would leave another file in `tmp`. Root follows no
    symlink of the reader's.
    """
    if not maildir.is_dir():
        maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(maildir.parent) as parent:
            _give(os.open(maildir.name, _FOLDER, dir_fd=parent), parent)
    with _opened(maildir) as top:
        for folder in ("cur", "tmp", "new"):
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700, dir_fd=top)
                _give(os.open(folder, _FOLDER, dir_fd=top), top)
        with _opened("tmp", top) as tmp, _opened("new", top) as new:
            try:
                flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
                with os.fdopen(os.open(name, flags, 0o600, dir_fd=tmp), "wb") as file:
                    file.write(content)
                    file.flush()
                    _give(os.dup(file.fileno()), top)
                    os.fsync(file.fileno())
                os.replace(name, name, src_dir_fd=tmp, dst_dir_fd=new)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=tmp)
            os.fsync(new)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def _opened(folder: str | Path, within: int | None = None) -> Iterator[int]:
    """Open a folder without following symlinks below `within`."""
    descriptor = os.open(folder, _FOLDER if within is not None else os.O_RDONLY | os.O_DIRECTORY, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _give(descriptor: int, folder: int) -> None:
    """When root, chown to the folder's owner; close it in any case."""
    try:
        if os.geteuid() == 0:
            owner = os.fstat(folder)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)


def _append(path: Path, content: bytes) -> None:
    """Append to a file completely or not at all, also on a full disk."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o640), "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and not _ends_a_line(path, end):  # left by a power cut or another program
            content = b"\n" + content
        done = False
        try:
            whole = file.write(content) == len(content)
            os.fsync(file.fileno())
            done = whole
        finally:
            if not done:
                file.truncate(end)
    if not whole:
        raise OSError(errno.ENOSPC, "no space left for a complete digest", str(path))
    _sync_names(path.parent)


def _ends_a_line(path: Path, end: int) -> bool:
    with path.open("rb") as file:
        file.seek(end - 1)
        return file.read(1) == b"\n"


def _sync_names(folder: Path) -> None:
    """Sync a folder's entries, where the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
