"""Addresses that belong together: found in SQLite's SQL, by the rule that the analysis gives. Nothing is judged here.

Addresses of one /24 (IPv4) or /48 (IPv6) first; of the others, the addresses of one network number.
"""

import socket
from typing import Any, cast

import sqlalchemy as sa

from f2b_digest.model.counts import CampaignRule
from f2b_digest.model.digest import Campaign
from f2b_digest.store.geo import GeoCache

MOST_CAMPAIGNS, MOST_USERS, MOST_CIDRS = 10, 5, 256
"""Rows that are fetched."""
_NOT_ONE_NETWORK = (bytes(6), bytes.fromhex("0064ff9b0000"))
"""The first 48 bits of IPv6 addresses that hold those of all of IPv4 (::ffff:0:0/96, 64:ff9b::/96)."""


def network_of(ip: bytes) -> str | None:
    """Return the /24 or /48 of an address; None for other text, and for an IPv6 address that stands for an IPv4 one.

    fail2ban itself writes an IPv4-mapped address as IPv4.
    """
    try:
        text = ip.decode("ascii")
        if ":" not in text:
            socket.inet_pton(socket.AF_INET, text)
            return text[: text.rindex(".")] + ".0/24"
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):  # ValueError: bytes beyond ASCII, or a NUL
        return None
    if packed[:6] in _NOT_ONE_NETWORK:
        return None
    return socket.inet_ntop(socket.AF_INET6, packed[:6] + bytes(10)) + "/48"


def add_function(connection: sa.Connection) -> None:
    """Give SQL the function `network_of`, of an id as a BLOB."""
    cast("Any", connection.connection.driver_connection).create_function(
        "network_of", 1, network_of, deterministic=True
    )


def find(connection: sa.Connection, rule: CampaignRule, geo: GeoCache) -> tuple[tuple[Campaign, ...], int]:
    """Return the largest campaigns, and how many there are.

    By network numbers only of the addresses in `place`. Needs the tables of `summary`, `users` and `geo`.
    """
    connection.execute(sa.text(_OF_A_NETWORK), {"least": rule.of_network})
    connection.execute(sa.text(_OF_A_NUMBER), {"least": rule.of_number})
    connection.execute(sa.text(_MEMBER_TABLE))
    connection.execute(sa.text(_MEMBERS), {"most": MOST_CAMPAIGNS})
    jails = _by_campaign(connection, _JAILS, {})
    cidrs = _by_campaign(connection, _CIDRS, {"most": MOST_CIDRS})
    users = _by_campaign(connection, _USERS, {"most": MOST_USERS})
    worst = _by_campaign(connection, _WORST, {})
    found = []
    shown = connection.execute(sa.text(_SHOWN), {"most": MOST_CAMPAIGNS})
    for key, network, asn, addresses, bans, failures, uncounted in shown:
        place = geo.find(worst[key][0][0])
        names = users.get(key, [])
        campaign = Campaign(
            network=network, asn=place.asn if asn is None else asn, name=place.name, country=place.country,
            addresses=addresses, bans=bans, failures=failures, jails=tuple(jail for (jail,) in jails[key]),
            users=tuple(name for name, _ in names), more_users=names[0][1] - len(names) if names else 0,
            cidrs=tuple(cidr for (cidr,) in cidrs[key]), uncounted=uncounted,
        )  # fmt: skip
        found.append(campaign)
    return tuple(found), connection.execute(sa.text("SELECT count(*) FROM temp.campaign")).scalar_one()


def _by_campaign(connection: sa.Connection, query: str, values: dict[str, Any]) -> dict[int, list[tuple[Any, ...]]]:
    """Return a query's rows by their first column, without it."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for key, *row in connection.execute(sa.text(query), values):
        found.setdefault(key, []).append(tuple(row))
    return found


_OF_A_NETWORK = """
CREATE TEMP TABLE campaign AS
SELECT network, NULL AS asn, count(*) AS addresses, sum(bans) AS bans,
       CASE WHEN count(failures) THEN CAST(total(failures) AS INTEGER) END AS failures, sum(uncounted) AS uncounted
FROM temp.who WHERE network IS NOT NULL GROUP BY network HAVING count(*) >= :least
"""
_OF_A_NUMBER = """
INSERT INTO temp.campaign
SELECT NULL, asn, count(*), sum(bans),
       CASE WHEN count(failures) THEN CAST(total(failures) AS INTEGER) END, sum(uncounted)
FROM temp.place JOIN temp.who ON who.rowid = place.who
WHERE asn IS NOT NULL AND who.network IS NOT NULL
  AND who.network NOT IN (SELECT network FROM temp.campaign WHERE network IS NOT NULL)
GROUP BY asn HAVING count(*) >= :least
"""
_SHOWN = """
SELECT rowid, network, asn, addresses, bans, failures, uncounted FROM temp.campaign
ORDER BY addresses DESC, bans DESC, network, asn LIMIT :most
"""
# No address is in two campaigns. A member of a network number's campaign is in no network's.
_MEMBER_TABLE = (
    "CREATE TEMP TABLE member (ip TEXT PRIMARY KEY, campaign INTEGER, network TEXT, bans INTEGER) WITHOUT ROWID"
)
_MEMBERS = """
INSERT INTO temp.member
WITH shown AS (
    SELECT rowid, network, asn FROM temp.campaign ORDER BY addresses DESC, bans DESC, network, asn LIMIT :most
)
SELECT who.ip, shown.rowid, who.network, who.bans FROM shown JOIN temp.who ON who.network = shown.network
UNION ALL
SELECT who.ip, shown.rowid, who.network, who.bans
FROM shown JOIN temp.place ON place.asn = shown.asn JOIN temp.who ON who.rowid = place.who
WHERE who.network NOT IN (SELECT network FROM temp.campaign WHERE network IS NOT NULL)
"""
_JAILS = """
SELECT campaign, jail FROM temp.address CROSS JOIN temp.member USING (ip)
GROUP BY campaign, jail ORDER BY campaign, sum(address.bans) DESC, jail
"""
_CIDRS = """
SELECT campaign, network FROM (
    SELECT campaign, network, row_number() OVER (PARTITION BY campaign ORDER BY count(*) DESC, network) AS place
    FROM temp.member GROUP BY campaign, network
) WHERE place <= :most ORDER BY campaign, place
"""
_USERS = """
SELECT campaign, name, names FROM (
    SELECT campaign, name, count(*) OVER (PARTITION BY campaign) AS names,
           row_number() OVER (PARTITION BY campaign ORDER BY sum(tried.bans) DESC, name) AS place
    FROM temp.tried CROSS JOIN temp.member USING (ip) JOIN temp.named USING (users) GROUP BY campaign, name
) WHERE place <= :most ORDER BY campaign, place
"""
_WORST = """
SELECT campaign, ip FROM (
    SELECT campaign, ip, row_number() OVER (PARTITION BY campaign ORDER BY bans DESC, ip) AS place FROM temp.member
) WHERE place = 1
"""
