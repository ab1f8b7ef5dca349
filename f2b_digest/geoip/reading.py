"""What the readers of all kinds of database share: a database's value, and what is believed of its words.

No file is opened here. A database's words are odd at times and may be hostile: what is not plausible is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from f2b_digest.model.host_context import Place

AnyAddress = IPv4Address | IPv6Address
Gift = tuple[Literal["country", "network"], Literal[4, 6]]
"""Something that a database knows, and for which family of addresses."""

ALL: frozenset[Gift] = frozenset({("country", 4), ("country", 6), ("network", 4), ("network", 6)})

LONGEST_NAME = 100
LONGEST_LINE = 300
LONGEST_ADDRESS = 45
"""Characters of 0000:0000:0000:0000:0000:ffff:255.255.255.255, which is the longest address."""
LATEST = 4_102_444_800
"""The year 2100 in epoch seconds: no database says in earnest that it was made later."""


class Unreadable(Exception):
    """A file is not a database, or damaged; the text says which."""


@dataclass(frozen=True)
class Database:
    """One opened file."""

    source: str
    made_at: float
    """UTC epoch seconds."""
    licence: str
    """The line that the licence asks for; empty if it asks for none, or is not known."""
    gives: frozenset[Gift]
    lookup: Callable[[AnyAddress], Place]
    """Never gets an IPv4-mapped address. Raises anything at a broken file."""


def address(text: str) -> AnyAddress | None:
    """Return the address that a text is, an IPv4-mapped one as IPv4; None for other texts, also with a zone."""
    if len(text) > LONGEST_ADDRESS:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        return None if found.scope_id is not None else found.ipv4_mapped or found
    return found


@cache
def iso_codes() -> frozenset[str]:
    """Return the codes of ISO 3166-1 alpha-2, from the tz database, and XK, which all databases use for Kosovo."""
    table = (files("tzdata") / "zoneinfo" / "iso3166.tab").read_text(encoding="utf-8")
    return frozenset(line[:2] for line in table.splitlines() if not line.startswith("#")) | {"XK"}


def country(code: object) -> str | None:
    """Return a country's code, or None for what is none: ??, EU, AP, UK, libloc's A1 (an anonymous proxy) and XD."""
    return code if isinstance(code, str) and code in iso_codes() else None


def network(number: object) -> int | None:
    """Return an autonomous system's number, given as a number or as AS64496; None for 0 and for what is none."""
    if isinstance(number, str):
        digits = number.upper().removeprefix("AS")
        number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 10 else None
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**32:
        return number
    return None


def line(text: object, longest: int = LONGEST_LINE) -> str:
    """Return a text in one line, without what does not print, cut to its longest length; empty for no text."""
    if not isinstance(text, str):
        return ""
    words = " ".join(text[: 4 * longest].split())
    return "".join(character for character in words if character.isprintable())[:longest]


def name(text: object) -> str | None:
    """Return the name of a network's holder, or None."""
    return line(text, LONGEST_NAME) or None


def made_at(seconds: object, otherwise: float) -> float:
    """Return when a database was made, in UTC epoch seconds: what it says if that can be, otherwise its file's time."""
    return float(seconds) if isinstance(seconds, int | float) and 0 < seconds < LATEST else otherwise


def credit(vendor: str, licence: str, words: str) -> str:
    """Return the line that names a database's maker and licence, in the database's own words."""
    return line(f"{line(vendor)}, {line(licence)}. {line(words)}") if vendor or licence or words else ""
