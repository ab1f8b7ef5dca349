"""Reads databases in MaxMind's format, from any vendor. Which ones are used is decided elsewhere."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal

import maxminddb

from f2b_digest.geoip import reading
from f2b_digest.geoip.reading import Database, Gift, Unreadable
from f2b_digest.model.host_context import Place

STEPS = 200
"""Networks that are looked at in each family to see what a database knows; gaps count too."""
BEGINNINGS: dict[Literal[4, 6], reading.AnyAddress] = {4: IPv4Address(0), 6: IPv6Address("2000::")}
"""Where a family's public addresses begin."""

GEOLITE = "This product includes GeoLite Data created by MaxMind, available from https://www.maxmind.com"
DB_IP = "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0"
IPINFO = "IP address data powered by IPinfo (https://ipinfo.io)"
LICENCES = (
    (r"geolite", GEOLITE),
    (r"geoip", ""),  # bought: asks for no line
    (r"dbip.*lite", DB_IP),
    (r"dbip.*-", ""),  # bought
    (r"ipinfo", IPINFO),
)
FILE_LICENCES = ((r"geolite", GEOLITE), (r"dbip", DB_IP))
"""By file name. The much-used files of the project ip-location-db say no more of themselves than `country ipvAll`."""


def open_database(path: Path) -> Database:
    """Open a file and look at its first records. Raises OSError, Unreadable, and what maxminddb raises.

    The library's C extension reads ten times as fast, but one wrong bit in a file can crash it, and with it every
    digest from then on. So its Python is used. It maps the file into memory: a program that cuts the file while a
    digest is made would end this process, and the next run would make up for it; the makers' updaters rename.
    """
    reader = maxminddb.open_database(path, maxminddb.MODE_MMAP)
    described = reader.metadata()
    source, licence = _names(reading.line(described.database_type), path)
    versions = (4,) if described.ip_version == 4 else (4, 6)
    gives: set[Gift] = set()
    for family, beginning in BEGINNINGS.items():
        for place in _sample(reader, beginning) if family in versions else ():
            gives |= {("country", family)} if place.country else set()
            gives |= {("network", family)} if place.asn else set()
    if not gives:
        raise Unreadable(f"{source} has neither countries nor networks")
    made_at = reading.made_at(described.build_epoch, path.stat().st_mtime)

    def lookup(address: reading.AnyAddress) -> Place:
        """Return an address's place. Raises what maxminddb raises at a broken file."""
        return _place(reader.get(address) if address.version in versions else None)

    return Database(source, made_at, licence, frozenset(gives), lookup)


def _sample(reader: maxminddb.Reader, beginning: reading.AnyAddress) -> Iterator[Place]:
    """Yield the places of a family's first networks. The library's own iterator cannot begin at IPv6's."""
    number, bits = int(beginning), beginning.max_prefixlen
    for _ in range(STEPS):
        record, length = reader.get_with_prefix_len(type(beginning)(number))
        yield _place(record)
        number = (number >> (bits - length)) + 1 << (bits - length)
        if number >> bits:
            return


def _names(kind: str, path: Path) -> tuple[str, str]:
    """Return a database's name and the line that its licence asks for, as far as it or its file says who made it."""
    for pattern, licence in LICENCES:
        if re.match(pattern, kind, re.IGNORECASE):
            return kind.partition(" (compat=")[0].replace("DBIP", "DB-IP").replace("-", " ").replace(
                "DB IP", "DB-IP"
            ), licence
    for pattern, licence in FILE_LICENCES:
        if re.match(pattern, path.name, re.IGNORECASE):
            return reading.line(path.stem), licence
    return kind or reading.line(path.stem), ""


def _place(record: object) -> Place:
    """Return what a record says, in the schemas of MaxMind, DB-IP, IPinfo and ip-location-db.

    MaxMind has two countries: where it believes the address to be, and where its block is registered. The second is
    a fact, and what the other databases tell; so it comes first.
    """
    if not isinstance(record, Mapping):
        return Place(None, None, None)
    inner = (record.get("registered_country"), record.get("country"))
    codes = [each.get("iso_code") for each in inner if isinstance(each, Mapping)]
    codes += [record.get("country_code"), record.get("country")]
    country = next(filter(None, map(reading.country, codes)), None)
    traits = record.get("traits")
    holders: list[Mapping[str, Any]] = [record, traits] if isinstance(traits, Mapping) else [record]
    for holder in holders:
        asn = reading.network(holder.get("autonomous_system_number", holder.get("asn")))
        if asn is not None:
            keys = ("autonomous_system_organization", "as_name", "name")
            return Place(country, asn, next(filter(None, (reading.name(holder.get(key)) for key in keys)), None))
    return Place(country, None, None)
