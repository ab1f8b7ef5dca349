"""What the sources share: files that may be packed, what is counted on the way, and what goes wrong."""

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from f2b_digest.errors import F2bDigestError

LONGEST = 1 << 20
"""Bytes of a line; a longer one (a file without line ends) comes in pieces."""
_SHOWN = 200
"""Characters of a line that is named in a message."""


class SourceError(F2bDigestError):
    """A file that cannot be read, or that is nothing that fail2ban writes."""


@dataclass
class Tally:
    """What was found in the files, counted while they are read."""

    lines: int = 0
    bans: int = 0
    damaged: int = 0
    """Lines that look like a ban or its end, and are not understood."""
    first_damaged: str = ""
    """The first of them, with its file, fit for a terminal."""

    def lost(self, path: Path, line: bytes) -> None:
        """Count a line of a file that is not understood."""
        self.damaged += 1
        self.first_damaged = self.first_damaged or f"{path}: {shown(line)}"


def shown(line: bytes) -> str:
    """Return a line for a message: shortened, and with no byte that a terminal would obey."""
    return ascii(line[:_SHOWN].decode("utf-8", "backslashreplace").rstrip("\r\n"))


_HELD: dict[Path, int] = {}
"""Descriptors of files that are to be read when this process may not open them any more."""


def hold(path: Path) -> None:
    """Open a file now, so that it can be read later, by another user. Raises SourceError for what is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{path}: is no regular file")
    _HELD[path] = descriptor


class _Again(io.RawIOBase):
    """A held file, read from its beginning, however often and by whomever else."""

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
        return count


def _open(path: Path) -> BinaryIO:
    return io.BufferedReader(_Again(_HELD[path])) if path in _HELD else path.open("rb")


def open_binary(path: Path) -> BinaryIO:
    """Open a file, unpacked if it is packed. Raises SourceError."""
    try:
        with _open(path) as file:
            head = file.read(6)
        source = _open(path) if path in _HELD else path  # who is given an open file does not close it
        if head.startswith(b"\x1f\x8b"):
            return cast("BinaryIO", gzip.open(source))
        if head.startswith(b"\xfd7zXZ"):
            return cast("BinaryIO", lzma.open(source))
        if head.startswith(b"BZh"):
            return cast("BinaryIO", bz2.open(source))
        return _open(path)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked. Raises SourceError, also where a packed file is torn."""
    with open_binary(path) as file:
        try:
            while line := file.readline(LONGEST):
                yield line
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
