"""Shared by all sources: compressed files, counters, and errors."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from f2b_digest.errors import F2bDigestError

LONGEST = 1 << 20
"""Maximum bytes of a line; a longer one (a file without newlines) is split."""
SQLITE = b"SQLite format 3\0"
_SHOWN = 200
"""Maximum characters of a line quoted in a message."""


class SourceError(F2bDigestError):
    """A file that cannot be read, or is not written by fail2ban."""


class TornError(SourceError):
    """A compressed file that is truncated or damaged: the part before is readable."""


@dataclass
class Tally:
    """Counters for what was read from the files."""

    lines: int = 0
    bans: int = 0
    damaged: int = 0
    """Lines that look like a ban or its end, but cannot be parsed."""
    first_damaged: str = ""
    """The first of them, with its file, sanitized for a terminal."""

    restored: int = 0
    """Bans restored at a start of fail2ban that began before the input."""
    failures: int = 0
    """Failures in logs."""
    counted: int = 0
    """Those of them that belong to a ban."""
    first: float | None = None
    last: float | None = None
    """The oldest and the newest time in any file, in UTC epoch seconds."""
    notes: list[str] = field(default_factory=list)
    """Further notes on the files."""
    torn: list[str] = field(default_factory=list)
    """Files that could not be read completely, and why."""

    def saw(self, at: float) -> None:
        """Record a time found in a file, in UTC epoch seconds."""
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def lost(self, path: Path, line: bytes) -> None:
        """Count a line of a file that cannot be parsed."""
        self.damaged += 1
        self.first_damaged = self.first_damaged or f"{path}: {shown(line)}"


def shown(line: bytes) -> str:
    """Return a line for a message: shortened, without control characters."""
    return ascii(line[:_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n"))


_HELD: dict[Path, int] = {}
"""Descriptors of files to be read after this process has dropped root."""


STANDARD_INPUT = Path("-")


def hold(path: Path, standard_input: Callable[[], BinaryIO]) -> None:
    """Open a file now, so that it can be read later as another user; standard input is copied, as it is read twice.

    Raises SourceError if it is not a file.
    """
    try:
        if path == STANDARD_INPUT:
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(standard_input(), copy)
                copy.flush()
                _HELD[path] = os.dup(copy.fileno())
            return
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    hold_file(path)


def hold_file(path: Path, *, follow: bool = True) -> None:
    """Open a file now, so that it can be read later, by another user; without `follow`, not what a link leads to.

    Raises SourceError if it is not a file.
    """
    try:
        link = 0 if follow else os.O_NOFOLLOW
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | link)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{path}: is not a regular file")
    _HELD[path] = descriptor


class _Again(io.RawIOBase):
    """A held file, read from its start, independent of other readers."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, os.fstat(self._descriptor).st_size)
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        os.lseek(self._descriptor, self._at, os.SEEK_SET)  # for `share_read`; nothing is read by this place
        return count


def share_read(paths: Iterable[Path]) -> float | None:
    """Return which part of the bytes of held files was read, from 0 to 1; None where there are none.

    Of packed files, their packed bytes. A process that was forked meanwhile can ask, too: places are shared. Databases,
    which SQLite reads, do not count.
    """
    held = [_HELD[path] for path in paths if path in _HELD and os.pread(_HELD[path], len(SQLITE), 0) != SQLITE]
    size = sum(os.fstat(descriptor).st_size for descriptor in held)
    return sum(os.lseek(descriptor, 0, os.SEEK_CUR) for descriptor in held) / size if size else None


def modified(path: Path) -> datetime:
    """Return when a file was last written to. Raises SourceError."""
    try:
        status = os.fstat(_HELD[path]) if path in _HELD else path.stat()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _open(path: Path) -> BinaryIO:
    return io.BufferedReader(_Again(_HELD[path])) if path in _HELD else path.open("rb")


def open_binary(path: Path) -> BinaryIO:
    """Open a file, decompressed if necessary. Raises SourceError."""
    try:
        with _open(path) as file:
            head = file.read(6)
        source = _open(path) if path in _HELD else path  # gzip and others do not close a file object they are given
        if head.startswith(b"\x1f\x8b"):
            return cast("BinaryIO", gzip.open(source))
        if head.startswith(b"\xfd7zXZ"):
            return cast("BinaryIO", lzma.open(source))
        if head.startswith(b"BZh"):
            return cast("BinaryIO", bz2.open(source))
        return _open(path)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None


def lines_of(path: Path, start: int = 0) -> Iterator[bytes]:
    """Yield the lines of a file, decompressed. Raises SourceError; TornError after the last readable line.

    With `start`, in bytes, only the lines after the one that it is in.
    """
    with open_binary(path) as file:
        if start:
            file.seek(start)
            file.readline()
        while line := _next_of(path, lambda: file.readline(LONGEST)):
            yield line


def size_of(path: Path) -> tuple[int, bool]:
    """Return a file's size in bytes, and whether it is packed. Raises SourceError."""
    try:
        with _open(path) as file:
            packed = file.read(6).startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh"))
            return file.seek(0, os.SEEK_END), packed
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None


def beginning(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed. Raises SourceError."""
    with open_binary(path) as file:
        return _next_of(path, lambda: file.read(size))


def _next_of(path: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        why = str(getattr(error, "strerror", None) or error)
        raise TornError(f"{path}: damaged; only the part before the damage was read ({why})") from None
