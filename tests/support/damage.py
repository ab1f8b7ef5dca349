"""Damages a store's file like a bad disk."""

import hashlib
from pathlib import Path

PAGE = 4096
TABLE_LEAF, INDEX_LEAF = 13, 10


def pages(path: Path, kind: int, words: bytes) -> list[int]:
    """Return the numbers, from 0, of the pages of a kind that contain some bytes."""
    content = path.read_bytes()
    starts = range(PAGE, len(content), PAGE)
    return [n // PAGE for n in starts if content[n] == kind and words in content[n : n + PAGE]]


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def break_events(path: Path) -> None:
    """Break a page of events."""
    overwrite(path, pages(path, TABLE_LEAF, b"Failed password")[9] * PAGE, b"\xff" * 2000)


def break_many(path: Path) -> None:
    """Break every fifth page of events."""
    for page in pages(path, TABLE_LEAF, b"Failed password")[::5]:
        overwrite(path, page * PAGE, b"\xff" * 2000)


def break_index(path: Path) -> None:
    """Break a page of the index that keeps events from being stored twice."""
    overwrite(path, pages(path, INDEX_LEAF, b"192.0.2.")[3] * PAGE + 8, b"\x00\x10" * 40)


def break_header(path: Path) -> None:
    """Break the file's size and its list of free pages, in its header."""
    overwrite(path, 28, b"\0\0\0\7\0\0\0\5\0\0\0\x20")


def truncate(path: Path) -> None:
    """Cut off the second half of the file."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // PAGE // 2 * PAGE)


def fingerprint(path: Path) -> str:
    """Return a hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
