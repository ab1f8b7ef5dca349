"""What the sources share: files that may be packed, what is counted on the way, and what goes wrong."""

import bz2
import gzip
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from f2b_digest.errors import F2bDigestError

Row = tuple[Any, ...]


class SourceError(F2bDigestError):
    """A file that cannot be read, or that is nothing that fail2ban writes."""


@dataclass
class Tally:
    """What was found in the files, counted while they are read."""

    lines: int = 0
    bans: int = 0
    damaged: int = 0
    first_damaged: str = ""


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
