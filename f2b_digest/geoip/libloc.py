"""Reads IPFire's location database (libloc), of which Debian has the package libloc-database.

Its Python binding cannot be installed with pip. The format is that of version 1, as libloc's sources fix it
(src/libloc/format.h, database.c; https://github.com/ipfire/libloc). All numbers are big-endian:

- 8 bytes: LOCDBXX and the version;
- the header: when it was made (8 bytes); offsets of vendor, description and licence in the pool (4 bytes each); offset
  and length of the autonomous systems, networks, nodes, countries and pool (4 + 4 bytes each); signatures, not read;
- a node: the nodes for a 0 and for a 1 (0: there is none) and the network that ends here (0xffffffff: none). The
  tree has 128 levels, the highest bit first; IPv4 stands under ::ffff:0:0/96. The last network on the way holds;
- a network: country, 2 bytes of nothing, number of the autonomous system, flags, 2 bytes of nothing;
- an autonomous system, in order of number: number, offset of its name in the pool;
- the pool: texts in UTF-8, each with a zero at its end.
"""

import os
import struct
import weakref
from functools import lru_cache
from pathlib import Path

from f2b_digest.geoip import reading
from f2b_digest.geoip.reading import ALL, Database, Unreadable
from f2b_digest.model.host_context import Place

MARK = b"LOCDBXX"
VERSION = 1
HEADER = struct.Struct(">7sBQ3I10I")
NODE = struct.Struct(">3I")
NETWORK = struct.Struct(">2s2xIH2x")
SYSTEM = struct.Struct(">2I")
NOTHING = 0xFFFFFFFF
LONGEST = 1024
"""Bytes of a text that are read."""
MAPPED = 0xFFFF << 32
"""Where IPv4 begins."""
NAMES = 4096
"""Names that are kept in memory: most addresses are of few networks."""


def open_database(path: Path) -> Database:
    """Open a file. Raises OSError, and Unreadable if it is not a complete database of version 1."""
    file = _File(path)
    return Database("libloc", file.made_at, file.licence, ALL, file.find)


class _File:
    """An open database.

    It is read with pread, not mapped into memory: truncating a mapped file kills the process.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        head = os.pread(self._descriptor, HEADER.size, 0)
        if len(head) < HEADER.size:
            raise Unreadable("truncated")
        mark, version, made_at, vendor, words, licence, *sections = HEADER.unpack(head)
        if mark != MARK or version != VERSION:
            raise Unreadable(f"not a libloc database of version {VERSION}")
        if any(offset + length > status.st_size for offset, length in zip(*[iter(sections)] * 2, strict=True)):
            raise Unreadable("truncated")
        self._systems, length, self._networks, networks, self._nodes, nodes, _, _, self._pool, self._texts = sections
        self._counts = length // SYSTEM.size, networks // NETWORK.size, nodes // NODE.size
        self._name = lru_cache(NAMES)(self._find_name)
        self.made_at = reading.made_at(made_at, status.st_mtime)
        self.licence = reading.credit(*map(self._text, (vendor, licence, words)))
        self._start = self._descend(0, MAPPED >> 32, 96, NOTHING)
        """The node of IPv4, None if it has none, and the network that holds above it."""

    def find(self, address: reading.AnyAddress) -> Place:
        """Return an address's place. Raises Unreadable at a broken file."""
        if address.version == 4:
            node, above = self._start
            _, index = (None, above) if node is None else self._descend(node, int(address), 32, above)
        else:
            _, index = self._descend(0, int(address), 128, NOTHING)
        if index == NOTHING:
            return Place(None, None, None)
        if index >= self._counts[1]:
            raise Unreadable("a network is out of range")
        code, asn, _ = NETWORK.unpack(os.pread(self._descriptor, NETWORK.size, self._networks + index * NETWORK.size))
        number = reading.network(asn)
        name = None if number is None else self._name(number)
        return Place(reading.country(code.decode("ascii", "replace")), number, name)

    def _descend(self, node: int, address: int, bits: int, index: int) -> tuple[int | None, int]:
        """Follow the bits of an address from a node; return the last node, None if the way ends, and the network."""
        descriptor, nodes, count = self._descriptor, self._nodes, self._counts[2]
        for bit in range(bits - 1, -2, -1):
            if node >= count:
                raise Unreadable("a node is out of range")
            zero, one, network = NODE.unpack(os.pread(descriptor, NODE.size, nodes + node * NODE.size))
            if network != NOTHING:
                index = network
            if bit < 0:
                break
            following = one if address >> bit & 1 else zero
            if not following:
                return None, index
            node = following
        return node, index

    def _find_name(self, number: int) -> str | None:
        """Return the name of an autonomous system, found by halving, or None."""
        low, high = 0, self._counts[0]
        while low < high:
            middle = (low + high) // 2
            here, name = SYSTEM.unpack(os.pread(self._descriptor, SYSTEM.size, self._systems + middle * SYSTEM.size))
            if here == number:
                return reading.name(self._text(name))
            if here < number:
                low = middle + 1
            else:
                high = middle
        return None

    def _text(self, offset: int) -> str:
        """Return a text of the pool; empty for one outside."""
        length = min(LONGEST, self._texts - offset)
        if length <= 0:
            return ""
        return os.pread(self._descriptor, length, self._pool + offset).partition(b"\0")[0].decode("utf-8", "replace")
