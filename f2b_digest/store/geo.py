"""Registration of banned addresses: looked up here, counted in SQLite's SQL. No file is opened here."""

import logging
from datetime import tzinfo

from f2b_digest.model.digest import Country, Network, Where, moment
from f2b_digest.model.host_context import Geography, Place
from f2b_digest.store.sql import Connection

log = logging.getLogger(__name__)

MOST_LOOKED_UP = 5_000
"""Ids; those with the most bans."""
MOST_COUNTRIES, MOST_NETWORKS = 6, 6
NOWHERE = Place(None, None, None)


class GeoCache:
    """Wraps a geography, or none, and never raises: after the first failure it returns nothing and has a note."""

    def __init__(self, geography: Geography | None) -> None:
        self.geography = geography
        self.notes: tuple[str, ...] = ()

    def find(self, ip: str) -> Place:
        """Return where an id is registered, as far as known."""
        if self.geography is None:
            return NOWHERE
        try:
            return self.geography.find(ip) or NOWHERE
        except Exception as error:  # a damaged file or unexpected data must not prevent the digest
            log.info("%s fails for %r", self.geography.source, ip, exc_info=True)
            self.notes = (f"{self.geography.source} lookup failed: {type(error).__name__}",)
            self.geography = None
            return NOWHERE


def look_up(connection: Connection, geo: GeoCache) -> None:
    """Create the temporary table `place` with the registration of the top ids of `who`; empty without a geography."""
    connection.execute("CREATE TEMP TABLE place (who INTEGER PRIMARY KEY, country, asn, name)")
    if geo.geography is None:
        return
    rows = connection.execute(_MOST, {"most": MOST_LOOKED_UP}).fetchall()
    found = [(key, *geo.find(ip)) for key, ip in rows]
    if found:
        connection.executemany("INSERT INTO temp.place VALUES (?, ?, ?, ?)", found)


_MOST = "SELECT rowid, ip FROM temp.who ORDER BY bans DESC, coalesce(failures, 0) DESC, ip LIMIT :most"


def where(connection: Connection, geo: GeoCache, zone: tzinfo) -> Where | None:
    """Sum up `place`; None without a geography."""
    if geo.geography is None:
        return None
    looked_up, unknown = connection.execute(_KNOWN).fetchone()
    return Where(
        source=geo.geography.source,
        made_at=moment(geo.geography.made_at, zone),
        licence=geo.geography.licence,
        looked_up=looked_up,
        unknown=unknown,
        countries=tuple(Country(*row) for row in connection.execute(_COUNTRIES, {"most": MOST_COUNTRIES})),
        networks=tuple(Network(*row) for row in connection.execute(_NETWORKS, {"most": MOST_NETWORKS})),
    )


_KNOWN = "SELECT count(*), coalesce(sum(country IS NULL AND asn IS NULL), 0) FROM temp.place"
_COUNTRIES = """
SELECT country, count(*) AS addresses, sum(bans) AS bans FROM temp.place JOIN temp.who ON who.rowid = place.who
WHERE country IS NOT NULL GROUP BY country ORDER BY addresses DESC, bans DESC, country LIMIT :most
"""
_NETWORKS = """
SELECT asn, max(name), count(*) AS addresses, sum(bans) AS bans FROM temp.place JOIN temp.who ON who.rowid = place.who
WHERE asn IS NOT NULL GROUP BY asn ORDER BY addresses DESC, bans DESC, asn LIMIT :most
"""
