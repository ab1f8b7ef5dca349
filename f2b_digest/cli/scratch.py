"""Scratch folders of commands that need one. What is put into them is not known here."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from f2b_digest.errors import F2bDigestError


def make(prefix: str) -> Path:
    """Make a folder below the system's temporary one; it stays. Raises F2bDigestError."""
    try:
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError as error:  # no place is writable, or the disk is full
        raise no_room(error.strerror or str(error)) from None


@contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """Make a folder for a block, below the system's temporary one. Raises F2bDigestError."""
    try:
        made = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        raise no_room(error.strerror or str(error)) from None
    with made as name:
        yield Path(name)


def no_room(reason: str) -> F2bDigestError:
    """Return the error for a temporary folder that cannot be used."""
    return F2bDigestError(f"no usable temporary folder: {reason}: set TMPDIR to a folder with room")
