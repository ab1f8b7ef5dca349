"""Reads databases of MaxMind's format, whoever made them. Which of them are used is not decided here."""

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import maxminddb

from f2b_digest.geography import reading
from f2b_digest.geography.reading import Database, Gift, Unreadable
from f2b_digest.surroundings import Place

SAMPLE = 100
"""Records that are looked at to see what a database knows."""

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

    The library maps the file into memory where it has its C extension. It reads some 50 times as fast as without.
    A program that cuts the file while a digest is made would end this process; the updaters rename.
    """
    reader = maxminddb.open_database(path)
    described = reader.metadata()
    kind = reading.line(described.database_type)
    source, licence = _names(kind, path)
    gives: set[Gift] = set()
    for position, (network, record) in enumerate(islice(reader, SAMPLE)):
        if position == 0:
            families = {network.version, described.ip_version}  # a tree of IPv6 has IPv4 at its beginning
        place = _place(record)
        gives |= {("country", family) for family in families if place.country}
        gives |= {("network", family) for family in families if place.asn}
    if not gives:
        raise Unreadable(f"{source or 'this database'} knows neither countries nor networks")
    made_at = reading.made_at(described.build_epoch, path.stat().st_mtime)
    return Database(source, made_at, licence, frozenset(gives), lambda address: _place(_get(reader, address)))


def _get(reader: maxminddb.Reader, address: reading.AnyAddress) -> object:
    """Return an address's record, or None."""
    if address.version == 6 and reader.metadata().ip_version == 4:
        return None
    return reader.get(address)


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

    MaxMind tells two countries: where it believes the address to be, and where its block is registered. The second is
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
