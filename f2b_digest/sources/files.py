"""What the sources share: files that may be packed, what is counted on the way, and what goes wrong."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from f2b_digest.errors import F2bDigestError

Row = tuple[Any, ...]
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


def open_binary(path: Path) -> BinaryIO:
    """Open a file, unpacked if it is packed. Raises SourceError."""
    try:
        with path.open("rb") as file:
            head = file.read(6)
        if head.startswith(b"\x1f\x8b"):
            return cast("BinaryIO", gzip.open(path))
        if head.startswith(b"\xfd7zXZ"):
            return cast("BinaryIO", lzma.open(path))
        if head.startswith(b"BZh"):
            return cast("BinaryIO", bz2.open(path))
        return path.open("rb")
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
