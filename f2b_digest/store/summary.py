"""The sums of a digest, in SQLite's SQL: few passes over the events into small temporary tables. Read-only.

Everything beyond totals, jails and addresses is in the sibling modules; each reads the temporary tables
that are made here: `tried` (by jail, id and list of names), `address` (by jail and id), `who` (by id), `jail`, and
`worst` (what is shown of `address`). In a fleet's scratch store, `tried` has the hosts, too (see `hosts`).
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import tzinfo
from zoneinfo import ZoneInfo

from f2b_digest.model.bans import Banned
from f2b_digest.model.counts import CampaignRule, Counts, Most
from f2b_digest.model.digest import Address, Jail, LeftOut, Totals, moment
from f2b_digest.model.host_context import Geography
from f2b_digest.store import campaigns as store_campaigns
from f2b_digest.store import geo, hosts, timeline
from f2b_digest.store import users as store_users
from f2b_digest.store.last_bans import BANTIME, UNBANNED, end_of_ban, last_ban
from f2b_digest.store.selected import Wanted
from f2b_digest.store.sql import Connection
from f2b_digest.store.times import first_ban

ROOT = "root"
"""Tried by most addresses on most days, so it does not indicate a campaign."""
MOST_USERS = 5
"""Names of one address that are fetched; those beyond them are counted."""


def count(
    connection: Connection,
    wanted: Wanted,
    *,
    most: Most,
    zone: ZoneInfo,
    start: float | None,
    end: float,
    campaigns: CampaignRule,
    quarters: Iterable[tuple[int, int]],
    users: frozenset[str] = frozenset(),
    geography: Geography | None = None,
) -> Counts:
    """Return the sums of grouped bans, see `Source.counts`; `quarters` are those of `timeline`."""
    *totals, first = connection.execute(_TOTALS).fetchone()
    start = (end if first is None else min(first, end)) if start is None else start
    places = geo.GeoCache(geography)
    store_users.gather(connection)
    jails = _jails(connection, wanted, zone, places, most.jails)
    geo.look_up(connection, places)
    found, found_in_all = store_campaigns.find(connection, campaigns, places, zone, users - {ROOT})
    several, several_in_all = store_users.several(connection)
    new, returning = store_users.newcomers(connection)
    return Counts(
        start=moment(start, zone),
        end=moment(end, zone),
        totals=Totals(*totals),
        jails=tuple(jails),
        left_out=LeftOut(jails=totals[2] - len(jails), bans=totals[0] - sum(jail.bans for jail in jails)),
        notes=places.notes,
        new=new,
        returning=returning,
        several=several,
        several_in_all=several_in_all,
        campaigns=found,
        campaigns_in_all=found_in_all,
        users=store_users.users(connection, users),
        when=timeline.when(quarters, zone=zone, start=start, end=end) if totals[0] else None,
        where=geo.where(connection, places, zone),
    )


def group(connection: Connection, wanted: Wanted, most: Most) -> None:
    """Create the temporary tables of some bans. They are dropped by the transaction's rollback."""
    packed = ""
    if hosts.is_of_a_fleet(connection):
        hosts.add_functions(connection)
        packed = PACKED
    connection.execute(f"CREATE TEMP TABLE tried AS {TRIED.format(where=wanted.where, packed=packed)}", wanted.values)
    sum_up(connection, most)


def sum_up(connection: Connection, most: Most) -> None:
    """Create the tables that follow from `tried`, whose rows are in the order of jails and ids."""
    store_campaigns.add_functions(connection)
    for table in (_GROUP, _WHO, _JAILS):
        connection.execute(table)
    connection.execute(_WORST, {"jails": most.jails, "addresses": most.addresses})


MOST_REPORTED = 50_000
"""Number of addresses: five bulk reports to AbuseIPDB, an account's daily limit."""


def addresses(connection: Connection) -> list[Banned]:
    """Return the grouped addresses by jail, the worst first."""
    query = _REPORTED.format(
        last_ban=last_ban("address", "event.kind = 'ban'", same_host=hosts.is_of_a_fleet(connection))
    )
    rows = connection.execute(query, {"most": MOST_REPORTED})
    return [
        Banned(
            jail, ip, bans, failures, uncounted, first, last, end_of_ban(last, bantime, unbanned)[1],
            tuple(json.loads(users or "[]")), matches,
        )
        for jail, ip, bans, failures, uncounted, first, last, users, matches, bantime, unbanned in rows
    ]  # fmt: skip


# total(), not sum(), which fails beyond 64 bits: one absurd row must not stop every digest. A ban whose
# failures are unknown is NULL: the sum is that of the others, and unknown if there are none.
FAILURES = "CASE WHEN count(failures) THEN CAST(total(failures) AS INTEGER) END"
# The one pass that a million bans pay for. Most addresses try one list of names, so that there are few more rows than
# of `address`, which the list's grouping then spares a second pass.
TRIED = f"""
SELECT jail, ip, users, count(*) AS bans, {FAILURES} AS failures, count(*) - count(failures) AS uncounted,
       min(at) AS first, max(at) AS last{{packed}}
FROM event WHERE {{where}} GROUP BY jail, ip, users
"""
PACKED = ", packed(host) AS hosts"
"""A fleet's last column of `TRIED`."""
# `lists_from` and `lists_to` are between which rows of `tried` an address' are.
_GROUP = f"""
CREATE TEMP TABLE address AS
SELECT jail, ip, sum(bans) AS bans, {FAILURES} AS failures, sum(uncounted) AS uncounted,
       min(first) AS first, max(last) AS last, min(rowid) AS lists_from, max(rowid) AS lists_to
FROM temp.tried GROUP BY jail, ip
"""
# An id has a network only if it is an address: as bytes, because a text need not be UTF-8.
_WHO = f"""
CREATE TEMP TABLE who AS
SELECT ip, count(*) AS jails, sum(bans) AS bans, {FAILURES} AS failures, sum(uncounted) AS uncounted,
       min(first) AS first, network_of(CAST(ip AS BLOB)) AS network
FROM temp.address GROUP BY ip
"""
_TOTALS = f"""
SELECT coalesce(sum(bans), 0), (SELECT count(*) FROM temp.who), count(*),
       CASE WHEN count(*) THEN {FAILURES} ELSE 0 END, coalesce(sum(uncounted), 0), min(first)
FROM temp.jail
"""
# `low` and `high` are between which rows of `address` a jail's are: these are in the order of jails.
_JAILS = f"""
CREATE TEMP TABLE jail AS
SELECT jail, sum(bans) AS bans, count(*) AS addresses, {FAILURES} AS failures, sum(uncounted) AS uncounted,
       min(first) AS first, min(rowid) AS low, max(rowid) AS high
FROM temp.address GROUP BY jail ORDER BY bans DESC, jail
"""
_WORST_JAILS = "SELECT * FROM temp.jail ORDER BY bans DESC, jail LIMIT :jails"
_ORDER = "bans DESC, coalesce(failures, 0) DESC, last DESC, ip"
# Sorted within a LIMIT, a jail's addresses are only compared with its worst ones so far.
_WORST = f"""
CREATE TEMP TABLE worst AS
SELECT address.*, row_number() OVER (PARTITION BY jail ORDER BY {_ORDER}) AS place
FROM temp.address WHERE rowid IN (
    SELECT worst.rowid FROM ({_WORST_JAILS}) AS each CROSS JOIN temp.address AS worst WHERE worst.rowid IN (
        SELECT rowid FROM temp.address AS one
        WHERE one.rowid BETWEEN each.low AND each.high AND one.jail = each.jail ORDER BY {_ORDER} LIMIT :addresses
    )
)
"""
_ADDRESSES = f"""
SELECT worst.jail, worst.ip, worst.bans, worst.failures, worst.uncounted, worst.first, worst.last, {BANTIME},
       {UNBANNED}, known.since
FROM temp.worst
JOIN (
    SELECT ip, CASE WHEN since < first THEN since END AS since FROM (
        SELECT who.ip, who.first, {{known_since}} AS since
        FROM temp.who WHERE who.ip IN (SELECT ip FROM temp.worst)
    )
) AS known ON known.ip = worst.ip
{{last_ban}}
GROUP BY worst.jail, worst.ip ORDER BY worst.jail, place
"""
_MOST_BANNED = "ORDER BY address.bans DESC, coalesce(address.failures, 0) DESC, address.ip LIMIT :most"
WORST_OF_ALL = f"SELECT jail, ip, last FROM temp.address {_MOST_BANNED}"
_REPORTED = f"""
SELECT address.jail, address.ip, address.bans, address.failures, address.uncounted, address.first, address.last,
       CASE WHEN json_valid(event.users) THEN event.users END AS users, event.matches, {BANTIME} AS bantime,
       {UNBANNED} AS unbanned
FROM temp.address
{{last_ban}}
GROUP BY address.jail, address.ip {_MOST_BANNED}
"""
_USERS = """
SELECT jail, ip, name, names FROM (
    SELECT worst.jail, worst.ip, name, count(*) OVER (PARTITION BY worst.jail, worst.ip) AS names,
           row_number() OVER (PARTITION BY worst.jail, worst.ip ORDER BY sum(tried.bans) DESC, name) AS place
    FROM temp.worst
    CROSS JOIN temp.tried
      ON tried.rowid BETWEEN lists_from AND lists_to AND tried.jail = worst.jail AND tried.ip = worst.ip
    CROSS JOIN temp.named ON named.users = tried.users
    GROUP BY worst.jail, worst.ip, name
) WHERE place <= :most ORDER BY jail, ip, place
"""


def _jails(connection: Connection, wanted: Wanted, zone: tzinfo, places: geo.GeoCache, most: int) -> list[Jail]:
    """Return the worst jails with their worst addresses."""
    users: dict[tuple[str, str], list[str]] = {}
    names: dict[tuple[str, str], int] = {}
    for jail, ip, name, distinct in connection.execute(_USERS, {"most": MOST_USERS}):
        users.setdefault((jail, ip), []).append(name)
        names[jail, ip] = distinct
    worst: dict[str, list[Address]] = {}
    for jail, ip, bans, failures, uncounted, first, last, bantime, unbanned, since in connection.execute(
        _ADDRESSES.format(
            last_ban=last_ban("worst", wanted.where, same_host=hosts.is_of_a_fleet(connection)),
            known_since=first_ban(connection),
        ),
        wanted.values,
    ):
        tried, place = tuple(users.get((jail, ip), ())), places.find(ip)
        until, lifted = end_of_ban(last, bantime, unbanned)
        address = Address(
            ip=ip, bans=bans, failures=failures, first=moment(first, zone), last=moment(last, zone), bantime=bantime,
            until=None if until is None else moment(until, zone), users=tried,
            more_users=names.get((jail, ip), 0) - len(tried),
            known_since=None if since is None else moment(since, zone), country=place.country, asn=place.asn,
            network=place.name, uncounted=uncounted, lifted=lifted,
        )  # fmt: skip
        worst.setdefault(jail, []).append(address)
    return [
        _jail(Jail(name, bans, addresses, failures, tuple(worst.get(name, ())), uncounted=uncounted))
        for name, bans, addresses, failures, uncounted, *_ in connection.execute(_WORST_JAILS, {"jails": most})
    ]


def _jail(jail: Jail) -> Jail:
    """Return a jail with `left_out` counting what its worst addresses do not."""
    named = sum(address.bans for address in jail.worst)
    return replace(jail, left_out=LeftOut(addresses=jail.addresses - len(jail.worst), bans=jail.bans - named))
