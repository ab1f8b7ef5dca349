"""Reads the text ranges of Debian's tor-geoipdb: country only, IPv4 and IPv6 in a file each.

A line is `16777216,16777471,AU` or `2001:2::,2001:2:0:ffff:ffff:ffff:ffff:ffff,JP`, in order of address. Comments at
the beginning say who made it and when.
"""

import os
import re
import weakref
from bisect import bisect_right
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from ipaddress import IPv6Address
from pathlib import Path
from typing import Literal

from f2b_digest.geoip import reading
from f2b_digest.geoip.reading import Database, Unreadable
from f2b_digest.model.host_context import Place

RANGE_4 = re.compile(rb"\d{1,10},\d{1,10},[^,\n]{1,8}\r?$")
RANGE_6 = re.compile(rb"[0-9a-fA-F:.]{2,45},[0-9a-fA-F:.]{2,45},[^,\n]{1,8}\r?$")
LONGEST_HEAD = 16_384
BLOCK = 4096
"""Bytes between two places that are remembered: some 150 lines are looked through for an address."""
LONGEST = 256
"""Bytes that hold a whole line after the rest of another."""


def ranges_begin(head: bytes) -> tuple[int, Literal[4, 6]] | None:
    """Return where in a file's first bytes its first range is, and of which family; None if there is none."""
    begin = 0
    while head[begin : begin + 1] == b"#":
        begin = head.find(b"\n", begin) + 1
        if not begin:
            return None
    line = head[begin : begin + LONGEST].partition(b"\n")[0]
    if RANGE_4.match(line):
        return begin, 4
    return (begin, 6) if RANGE_6.match(line) else None


def open_database(path: Path) -> Database:
    """Open a file and index every 150th line. Raises OSError, and Unreadable for other files."""
    file = _File(path)
    return Database("tor-geoipdb", file.made_at, file.licence, frozenset({("country", file.family)}), file.find)


class _File:
    """An open file of ranges, not loaded: a place in each block is remembered, and one block read for an address."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        head = os.pread(self._descriptor, LONGEST_HEAD, 0)
        begin = ranges_begin(head)
        if begin is None:
            raise Unreadable("no address ranges")
        start, self.family = begin
        self._number: Callable[[bytes], int] = int if self.family == 4 else _number_6
        self._read_head(head[:start].decode("utf-8", "replace"), status.st_mtime)
        self._offsets, self._starts = [start], [self._start(os.pread(self._descriptor, LONGEST, start))]
        for offset in range(start + BLOCK, status.st_size, BLOCK):
            rest, newline, line = os.pread(self._descriptor, LONGEST, offset).partition(b"\n")
            if not newline or b"\n" not in line:
                break  # the last line; a file that is cut short ends here too
            self._offsets.append(offset + len(rest) + 1)
            self._starts.append(self._start(line))
            if self._starts[-1] <= self._starts[-2]:
                raise Unreadable("address ranges are not sorted")
        self._offsets.append(status.st_size)

    def find(self, address: reading.AnyAddress) -> Place:
        """Return an address's place. Raises ValueError at a broken line."""
        number = int(address)
        block = bisect_right(self._starts, number) - 1
        if address.version == self.family and block >= 0:
            begin, end = self._offsets[block : block + 2]
            lines = os.pread(self._descriptor, min(end - begin, 2 * BLOCK), begin).rstrip(b"\n").split(b"\n")
            position = bisect_right(lines, number, key=self._start) - 1
            _, last, code = lines[position].split(b",")
            if position >= 0 and number <= self._number(last):
                return Place(reading.country(code.strip().decode("ascii", "replace")), None, None)
        return Place(None, None, None)

    def _start(self, line: bytes) -> int:
        """Return the first address of a range. Raises ValueError at a broken line."""
        return self._number(line.partition(b",")[0])

    def _read_head(self, head: str, otherwise: float) -> None:
        """Take time, maker and licence from the comments."""
        found = dict(re.findall(r"^# *(Generated|Vendor|License): *(.+)$", head, re.MULTILINE))
        try:
            seconds = parsedate_to_datetime(found.get("Generated", "")).timestamp()
        except (ValueError, OverflowError):
            seconds = otherwise
        self.made_at = reading.made_at(seconds, otherwise)
        words = head.partition("License:")[2].partition("\n")[2].replace("#", " ")
        self.licence = reading.credit(found.get("Vendor", ""), found.get("License", ""), words)


def _number_6(text: bytes) -> int:
    """Return an IPv6 address as a number. Raises ValueError."""
    return int(IPv6Address(text.decode("ascii")))
