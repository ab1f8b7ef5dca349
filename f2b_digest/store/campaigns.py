"""Campaigns, queried in SQLite's SQL by the rule that `analysis` gives. Nothing is interpreted here.

Addresses of one /24 (IPv4) or /48 (IPv6); and all addresses of an AS number that has enough others.
"""

import json
import math
import socket
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import tzinfo
from functools import cache
from typing import Any, cast

from f2b_digest.model.baseline import PLAUSIBLE, REMEMBERED, NetworkKey, Window, key_of
from f2b_digest.model.counts import CampaignRule
from f2b_digest.model.digest import Campaign, moment
from f2b_digest.store.geo import GeoCache
from f2b_digest.store.selected import jails
from f2b_digest.store.sql import Connection

MOST_CAMPAIGNS, MOST_USERS, MOST_CIDRS = 10, 5, 256
"""Rows that are fetched."""
TIGHT = 3 * 3600
"""Seconds: first bans within this time count as coordinated."""
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


class _Tightest:
    """SQL aggregate: the largest number of times within `TIGHT` seconds from one of them on, and that start.

    SQLite's window functions take three times as long.
    """

    def __init__(self) -> None:
        self._times: list[float] = []

    def step(self, at: float) -> None:
        """Add a time, in UTC epoch seconds."""
        self._times.append(at)

    def finalize(self) -> str:
        """Return the number and the start, separated by a space; of equal numbers, the first."""
        times, end, most, since = sorted(self._times), 0, 0, 0.0
        for start, at in enumerate(times):
            while end < len(times) and times[end] <= at + TIGHT:
                end += 1
            if end - start > most:
                most, since = end - start, at
        return f"{most} {since!r}"


def add_functions(connection: Connection) -> None:
    """Register the SQL function `network_of` (of an id as a BLOB) and the aggregate `tightest` (of times)."""
    connection.create_function("network_of", 1, network_of, deterministic=True)
    connection.create_aggregate("tightest", 1, cast("Any", _Tightest))


def find(
    connection: Connection, rule: CampaignRule, geo: GeoCache, zone: tzinfo, accounts: frozenset[str]
) -> tuple[tuple[Campaign, ...], int]:
    """Return the campaigns with the most bans (concentrated ones count up to double), and the number of all.

    Campaigns of an AS number are found among the addresses in `place` only. `accounts` are user names that can log in
    here. Needs the tables of `summary`, `users` and `geo`.
    """
    connection.execute(_OF_A_NETWORK, {"least": rule.of_network})
    connection.execute(_OF_A_NUMBER, {"least": rule.of_number})
    connection.execute("CREATE INDEX temp.campaign_network ON campaign (network)")
    connection.execute(_TIGHT)
    connection.execute(_SHOWN, {"most": MOST_CAMPAIGNS})
    connection.execute(_OF_THE_SHOWN)
    connection.execute("CREATE INDEX temp.member_ip ON member (ip)")
    tried = _by_campaign(connection, _ON_ACCOUNTS, {"accounts": json.dumps(sorted(accounts))})
    hours = _by_campaign(connection, _HOURS, {})
    of_jails = _by_campaign(connection, _JAILS, {})
    cidrs = _by_campaign(connection, _CIDRS, {"most": MOST_CIDRS})
    users = _by_campaign(connection, _USERS, {"most": MOST_USERS})
    worst = _by_campaign(connection, _WORST, {})
    found = []
    shown = connection.execute("SELECT * FROM temp.shown ORDER BY place")
    for key, network, asn, addresses, bans, failures, uncounted, within, _ in shown:
        together, since = within.split()
        place = geo.find(worst[key][0][0])
        names = users.get(key, [])
        campaign = Campaign(
            network=network, asn=place.asn if asn is None else asn, name=place.name, country=place.country,
            addresses=addresses, bans=bans, failures=failures, jails=tuple(jail for (jail,) in of_jails[key]),
            users=tuple(name for name, _ in names), more_users=names[0][1] - len(names) if names else 0,
            cidrs=tuple(cidr for (cidr,) in cidrs[key]), uncounted=uncounted, first=moment(hours[key][0][0], zone),
            last=moment(hours[key][0][1], zone), tight=int(together), tight_from=moment(float(since), zone),
            on_accounts=tried[key][0][0] if key in tried else 0,
        )  # fmt: skip
        found.append(campaign)
    return tuple(found), connection.scalar("SELECT count(*) FROM temp.campaign")


def before(
    connection: Connection,
    first_id: int,
    windows: Sequence[Window],
    patterns: Sequence[str],
    campaigns: Sequence[Campaign],
    geo: GeoCache,
) -> dict[NetworkKey, tuple[int, ...]]:
    """Return by network or AS number of each campaign its banned addresses in each window, the newest first.

    Windows older than the `REMEMBERED` events before `first_id`, the digest's first, are left out.
    """
    networks = {each.network for each in campaigns if each.network is not None}
    numbers = {each.asn for each in campaigns if each.network is None}
    ordered = sorted(windows)
    if not ordered or not (networks or numbers):
        return {}
    limits = {
        "first": first_id, "most": REMEMBERED, "jails": json.dumps(jails(connection, patterns)),
        "since": ordered[0][0], "until": ordered[-1][1],
    }  # fmt: skip
    oldest = connection.scalar(_OLDEST, limits | {"since": PLAUSIBLE[0]}) or math.inf
    known = [place for place, (since, _) in enumerate(ordered) if since >= oldest]
    keys = [key_of(each) for each in campaigns]

    @cache
    def keys_of(ip: str) -> list[NetworkKey]:
        of_ip = (network_of(ip.encode("utf-8", "replace")), None), (None, geo.find(ip).asn if numbers else None)
        return [key for key in of_ip if key in keys]

    seen = _by_window(_bans_before(connection, networks, numbers, limits), ordered, keys_of)
    none: list[set[str]] = [set() for _ in ordered]
    return {key: tuple(len(seen.get(key, none)[place]) for place in reversed(known)) for key in keys}


def _bans_before(
    connection: Connection, networks: set[str], numbers: set[int | None], limits: dict[str, Any]
) -> Iterator[tuple[str, float]]:
    """Yield the address and the UTC epoch seconds of each ban that may be of the networks or AS numbers."""
    if numbers or any(":" in network for network in networks):  # no range of text holds an IPv6 network, or an AS
        yield from connection.execute(_BEFORE, limits)
        return
    for network in networks:
        low, high = network[:-4], network[:-4].removesuffix(".") + "/"
        yield from connection.execute(_IN_NETWORK, limits | {"low": low, "high": high})


def _by_window(
    bans: Iterable[tuple[str, float]], ordered: Sequence[Window], keys_of: Callable[[str], Iterable[NetworkKey]]
) -> dict[NetworkKey, list[set[str]]]:
    """Return the banned addresses of each network, in each of the windows; these do not overlap."""
    starts = [since for since, _ in ordered]
    seen: dict[NetworkKey, list[set[str]]] = {}
    for ip, at in bans:
        place = bisect_right(starts, at) - 1
        if place < 0 or at >= ordered[place][1]:
            continue
        for key in keys_of(ip):
            seen.setdefault(key, [set() for _ in ordered])[place].add(ip)
    return seen


_OLDEST = """
SELECT max(min(first.at), coalesce((SELECT at FROM event WHERE id >= :first - :most AND :first > :most LIMIT 1), 0))
FROM (
    SELECT (SELECT min(at) FROM event WHERE jail = value AND kind = 'ban' AND at >= :since AND at < :until) AS at
    FROM json_each(:jails)
) AS first
"""
"""A jail's first ban, by the index `event_when`; or the first of the events that are searched."""
_BEFORE = """
SELECT ip, at FROM event
WHERE id >= :first - :most AND kind = 'ban' AND at >= :since AND at < :until
  AND jail IN (SELECT value FROM json_each(:jails))
"""
_IN_NETWORK = f"{_BEFORE} AND ip >= :low AND ip < :high"
"""By the index `event_who`: of an IPv4 network only its own bans are read."""


def _by_campaign(connection: Connection, query: str, values: dict[str, Any]) -> dict[int, list[tuple[Any, ...]]]:
    """Return a query's rows grouped by their first column, which is removed."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for key, *row in connection.execute(query, values):
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
GROUP BY asn
HAVING sum(who.network NOT IN (SELECT network FROM temp.campaign WHERE network IS NOT NULL)) >= :least
"""
# An address may be in two campaigns: in its network's, and in its AS number's.
_MEMBERS = """
SELECT {of}.{id} AS campaign, who.ip, who.network, who.bans, who.first
FROM temp.who CROSS JOIN temp.{of} ON {of}.network = who.network
UNION ALL
SELECT {of}.{id}, who.ip, who.network, who.bans, who.first
FROM temp.{of} JOIN temp.place ON place.asn = {of}.asn JOIN temp.who ON who.rowid = place.who
WHERE {of}.network IS NULL AND who.network IS NOT NULL
"""
_TIGHT = """
CREATE TEMP TABLE tight AS
SELECT campaign, tightest(first) AS hours FROM ({members}) GROUP BY campaign
""".format(members=_MEMBERS.format(of="campaign", id="rowid"))
# If all addresses fall into the same hours, bans count twice. The cast takes the number that the text begins with.
_SHOWN = """
CREATE TEMP TABLE shown AS
SELECT campaign.rowid AS id, network, asn, addresses, bans, failures, uncounted, hours,
       row_number() OVER (
           ORDER BY bans * (1.0 + 1.0 * CAST(hours AS INTEGER) / addresses) DESC, addresses DESC, network, asn
       ) AS place
FROM temp.campaign JOIN temp.tight ON tight.campaign = campaign.rowid ORDER BY place LIMIT :most
"""
_OF_THE_SHOWN = f"CREATE TEMP TABLE member AS {_MEMBERS.format(of='shown', id='id')}"
# In all that follow, CROSS JOIN has SQLite go through the large table once, and look up its rows among the members.
_HOURS = """
SELECT campaign, min(address.first), max(address.last)
FROM temp.address CROSS JOIN temp.member USING (ip) GROUP BY campaign
"""
_ON_ACCOUNTS = """
SELECT campaign, count(DISTINCT member.ip)
FROM temp.tried CROSS JOIN temp.member USING (ip) JOIN temp.named USING (users)
WHERE name IN (SELECT value FROM json_each(:accounts)) GROUP BY campaign
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
