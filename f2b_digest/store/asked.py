"""The bans of an inquiry (`find`), looked up by index in SQLite's SQL. They are summed up in `summary`.

An address and a network are found by the index of ids, a user's name by that of the lists of names, a jail by its own:
the cost depends on the size of the answer, not of the history.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, cast

from f2b_digest import recorder
from f2b_digest.model.digest import Campaign
from f2b_digest.model.inquiry import Inquiry, Neighbours, Network
from f2b_digest.store.archive import Sealed
from f2b_digest.store.campaigns import network_of
from f2b_digest.store.hosts import is_of_a_fleet
from f2b_digest.store.last_bans import BANTIME, UNBANNED, end_of_ban, last_ban
from f2b_digest.store.selected import Wanted, jails
from f2b_digest.store.sql import Connection

MOST_ENDS, MOST_IDS = 20_000, 20_000
"""Maximum number of addresses whose active bans, and of bans whose digests, are looked up: the newest."""
MOST_LISTS = 20_000
"""Up to so many distinct name lists, the index is read by skip scan instead of completely."""
MOST_NEIGHBOURS = 5
_DIGIT4 = 0x1000
"""From here on, the first group of an IPv6 address is written with four digits, in the order of the numbers."""


class Seen(NamedTuple):
    """One ban."""

    id: int
    jail: str
    history: bool
    host: str


class End(NamedTuple):
    """When the last ban of an id in a jail ends, in UTC epoch seconds; None if never."""

    jail: str
    ip: str
    until: float | None


def gather(connection: Connection, inquiry: Inquiry, asn_of: Callable[[str], int | None]) -> Wanted:
    """Collect the requested ids or name lists in a temporary table; return the condition for their bans.

    `asn_of` returns the AS number of an id.
    """
    where, values = _GATHER[inquiry.kind](connection, inquiry, asn_of)
    conditions = ["event.kind = 'ban'", "event.jail <> :scratch", where]
    values["scratch"] = recorder.SCRATCH_JAIL
    if inquiry.since is not None:
        conditions.append("event.at >= :asked_since")
        values["asked_since"] = inquiry.since
    if inquiry.until is not None:
        conditions.append("event.at < :asked_until")
        values["asked_until"] = inquiry.until
    if inquiry.jails != ("*",):
        names = {f"asked_jail{n}": name for n, name in enumerate(jails(connection, inquiry.jails))}
        conditions.append(f"event.jail IN ({', '.join(f':{key}' for key in names)})")
        values |= names
    return Wanted(" AND ".join(conditions), values)


def is_there(connection: Connection, kind: str, text: str) -> bool:
    """Return whether any ban has this jail, or this id."""
    column = "jail" if kind == "jail" else "ip"
    query = f"SELECT EXISTS (SELECT 1 FROM event WHERE kind = 'ban' AND {column} = :text)"
    return bool(connection.scalar(query, {"text": text}))


# ---- how bans are looked up


def _of_jail(_: Connection, inquiry: Inquiry, __: object) -> Wanted:
    return Wanted("event.jail = :asked", {"asked": inquiry.text})


def _of_address(connection: Connection, inquiry: Inquiry, _: object) -> Wanted:
    """Also the banned networks that an address is in."""
    ids = [inquiry.text]
    if inquiry.network is not None:
        length, address = inquiry.network.max_prefixlen, inquiry.network.network_address
        ids = [str(address), *(str(ip_network((address, bits), strict=False)) for bits in range(length))]
    _ids(connection, [text for text in ids if is_there(connection, "ip", text)])
    return _AMONG_IDS


def _of_network(connection: Connection, inquiry: Inquiry, _: object) -> Wanted:
    assert inquiry.network is not None
    _ids(connection, _banned_in(connection, inquiry.network))
    return _AMONG_IDS


def _of_number(connection: Connection, inquiry: Inquiry, asn_of: Callable[[str], int | None]) -> Wanted:
    """One lookup per /24 or /48: routes are not smaller."""

    @cache
    def is_of_it(network: str) -> bool:
        return asn_of(network.partition("/")[0]) == inquiry.asn

    rows = connection.execute("SELECT DISTINCT ip FROM event WHERE kind = 'ban'")
    networks = ((ip, network_of(ip.encode("utf-8", "replace"))) for (ip,) in rows)
    found = [ip for ip, network in networks if network is not None and is_of_it(network)]
    _ids(connection, found)
    return _AMONG_IDS


def _of_user(connection: Connection, inquiry: Inquiry, _: object) -> Wanted:
    connection.execute("CREATE TEMP TABLE asked (users TEXT PRIMARY KEY) WITHOUT ROWID")
    few = connection.scalars(_FEW_LISTS, {"most": MOST_LISTS + 1})
    if len(few) <= MOST_LISTS:
        connection.execute("CREATE TEMP TABLE list (users TEXT PRIMARY KEY) WITHOUT ROWID")
        if few:
            connection.executemany("INSERT INTO temp.list VALUES (?)", [(users,) for users in few])
    of = "temp.list" if len(few) <= MOST_LISTS else _ALL_LISTS
    connection.execute(_LISTS.format(of=of), {"name": inquiry.text, "part": f"%{_in_json(inquiry.text)}%"})
    return Wanted("event.users IN (SELECT users FROM temp.asked)", {})


_AMONG_IDS = Wanted("event.ip IN (SELECT ip FROM temp.asked)", {})
_GATHER: dict[str, Callable[[Connection, Inquiry, Callable[[str], int | None]], Wanted]] = {
    "address": _of_address,
    "network": _of_network,
    "asn": _of_number,
    "jail": _of_jail,
    "user": _of_user,
}
# Skip scan over the index.
_FEW_LISTS = """
WITH RECURSIVE each(users) AS (
    SELECT min(users) FROM event WHERE kind = 'ban' AND users IS NOT NULL
    UNION ALL
    SELECT (SELECT min(event.users) FROM event WHERE kind = 'ban' AND event.users > each.users) FROM each
    WHERE each.users IS NOT NULL
)
SELECT users FROM each WHERE users IS NOT NULL LIMIT :most
"""
_ALL_LISTS = "(SELECT DISTINCT users FROM event WHERE kind = 'ban' AND users IS NOT NULL)"
# LIKE first: it costs a tenth of parsing the JSON.
_LISTS = """
INSERT INTO temp.asked SELECT list.users FROM {of} AS list WHERE list.users LIKE :part AND EXISTS (
    SELECT 1 FROM json_each(CASE WHEN json_valid(list.users) THEN list.users ELSE '[]' END) AS user
    WHERE user.type = 'text' AND user.value = :name
)
"""


def _in_json(name: str) -> str:
    """Return the longest part of a name that JSON does not escape, for LIKE."""
    return max("".join(c if c.isascii() and c.isalnum() else " " for c in name).split() or [""], key=len)


def _ids(connection: Connection, ids: Iterable[str]) -> None:
    """Create the temporary table `asked` of these ids."""
    connection.execute("CREATE TEMP TABLE asked (ip TEXT PRIMARY KEY) WITHOUT ROWID")
    rows = [(ip,) for ip in ids]
    if rows:
        connection.executemany("INSERT OR IGNORE INTO temp.asked VALUES (?)", rows)


# ---- networks


def _banned_in(connection: Connection, network: Network) -> Iterator[str]:
    """Yield the banned ids of a network: its addresses, and networks in it."""
    for low, high in _spans(network):
        for (ip,) in connection.execute(_IN_SPAN, {"low": low, "high": high}):
            if _is_in(ip, network):
                yield ip


_IN_SPAN = "SELECT DISTINCT ip FROM event WHERE kind = 'ban' AND ip >= :low AND ip < :high"


def _is_in(text: str, network: Network) -> bool:
    try:
        banned = ip_network(text)
    except ValueError:
        return False
    return banned.version == network.version and banned.subnet_of(network)  # type: ignore[arg-type]


def _spans(network: Network) -> Iterator[tuple[str, str]]:
    """Yield ranges (low, high) in text order that contain all ids of a network, possibly with others."""
    if isinstance(network, IPv6Network):
        yield _span_of_ipv6(network)
        return
    octets = min(-(-network.prefixlen // 8), 3) or 1
    parts = [network] if network.prefixlen > 24 else network.subnets(new_prefix=8 * octets)
    for part in parts:
        prefix = ".".join(str(part.network_address).split(".")[:octets])
        yield f"{prefix}.", f"{prefix}/"


def _span_of_ipv6(network: IPv6Network) -> tuple[str, str]:
    """All groups before the first zero are written out, and "::" may stand for any zeros."""
    groups = [int(group, 16) for group in network.network_address.exploded.split(":")][: network.prefixlen // 16]
    whole = groups[: next((n for n, group in enumerate(groups) if group == 0), len(groups))]
    if whole:
        prefix = ":".join(f"{group:x}" for group in whole)
        return f"{prefix}:", f"{prefix};"
    first, last = (int(address.exploded[:4], 16) for address in (network[0], network[-1]))
    return (f"{first:x}:", f"{last:x};") if first >= _DIGIT4 else ("", "\U0010ffff")


# ---- further queries on them


def ends(connection: Connection, now: float) -> list[End]:
    """Return the bans of the grouped ids that are active at a time, the last to end first."""
    query = _ENDS.format(last_ban=last_ban("newest", "event.kind = 'ban'", same_host=is_of_a_fleet(connection)))
    found = []
    for jail, ip, last, bantime, unbanned in connection.execute(query, {"most": MOST_ENDS}):
        until, _ = end_of_ban(last, bantime, unbanned)
        if bantime is not None and unbanned is None and (until is None or until > now):
            found.append(End(jail, ip, until))
    found.sort(key=lambda end: (end.until is not None, -(end.until or 0.0), end.ip, end.jail))
    return found


_ENDS = f"""
SELECT newest.jail, newest.ip, newest.last, {BANTIME}, {UNBANNED}
FROM (SELECT jail, ip, last FROM temp.address ORDER BY last DESC LIMIT :most) AS newest
{{last_ban}}
GROUP BY newest.jail, newest.ip
"""


def bans(connection: Connection, wanted: Wanted) -> list[Seen]:
    """Return the newest bans."""
    query = f"SELECT id, jail, history, host FROM event WHERE {wanted.where} ORDER BY id DESC LIMIT :most"
    rows = connection.execute(query, wanted.values | {"most": MOST_IDS})
    return [Seen(key, jail, bool(history), host) for key, jail, history, host in rows]


def hosts(connection: Connection, wanted: Wanted) -> list[tuple[str, int]]:
    """Return the hosts that banned, and their bans, the most first."""
    query = f"SELECT host, count(*) FROM event WHERE {wanted.where} GROUP BY host ORDER BY 2 DESC, 1"
    return [(host, count) for host, count in connection.execute(query, wanted.values)]


def is_vector(connection: Connection) -> bool:
    """Return whether digests are vectors: in a scratch store of a fleet's centre."""
    return connection.has_table("taken")


def taken(connection: Connection, digest: int) -> set[int]:
    """Return the ids here of the events that a fleet's digest took."""
    query = (
        "SELECT origin.id FROM taken JOIN origin USING (store_id) "
        "WHERE digest_id = :digest AND seq > after_seq AND seq <= upto_seq"
    )
    return set(connection.scalars(query, {"digest": digest}))


def reported(connection: Connection, report: str) -> set[int]:
    """Return the ids here of the events that a fleet's report has told."""
    query = "SELECT origin.id FROM mark JOIN origin USING (store_id) WHERE report = :report AND origin.seq <= mark.seq"
    return set(connection.scalars(query, {"report": report}))


def last(connection: Connection) -> float | None:
    """Return the time of the last ban of the grouped ids, in UTC epoch seconds."""
    found: float | None = connection.scalar("SELECT max(last) FROM temp.address")
    return found


def neighbours(connection: Connection, network: Network) -> Neighbours | None:
    """Return the other banned addresses of an address's /24 or /48; None if there are none."""
    text = network_of(str(network.network_address).encode())
    if text is None:
        return None
    around = ip_network(text)
    counted: Counter[str] = Counter()
    for low, high in _spans(around):
        for ip, bans in connection.execute(_COUNTED_IN_SPAN, {"low": low, "high": high}):
            if _is_in(ip, around) and "/" not in ip and ip != str(network.network_address):
                counted[ip] += bans
    worst = sorted(counted.items(), key=lambda each: (-each[1], _order(each[0])))[:MOST_NEIGHBOURS]
    return Neighbours(text, len(counted), counted.total(), tuple(worst)) if counted else None


_COUNTED_IN_SPAN = "SELECT ip, count(*) FROM event WHERE kind = 'ban' AND ip >= :low AND ip < :high GROUP BY ip"


def members(connection: Connection, sealed: Sealed, campaign: Campaign, besides: Network) -> list[tuple[str, int]]:
    """Return the worst other addresses of a campaign in a digest, as (address, bans)."""
    counted: Counter[str] = Counter()
    values = {"first": sealed.first_id, "last": sealed.last_id, "jails": json.dumps(campaign.jails)}
    for network in map(ip_network, campaign.cidrs):
        for low, high in _spans(network):
            for ip, bans in connection.execute(_COUNTED_OF_DIGEST, {"low": low, "high": high} | values):
                if _is_in(ip, network) and "/" not in ip and ip != str(besides.network_address):
                    counted[ip] += bans
    return sorted(counted.items(), key=lambda each: (-each[1], _order(each[0])))[:MOST_NEIGHBOURS]


_COUNTED_OF_DIGEST = """
SELECT ip, count(*) FROM event
WHERE kind = 'ban' AND ip >= :low AND ip < :high AND id BETWEEN :first AND :last
  AND jail IN (SELECT value FROM json_each(:jails))
GROUP BY ip
"""


def _order(ip: str) -> int:
    address: IPv4Address | IPv6Address = ip_address(ip)
    return int(address)


def oldest(connection: Connection) -> float | None:
    """Return the time of the store's first ban in UTC epoch seconds: the earliest of the jails' first ones."""
    firsts = [
        connection.scalar("SELECT min(at) FROM event WHERE kind = 'ban' AND jail = :jail", {"jail": jail})
        for jail in jails(connection, ("*",))
    ]
    return min((cast("Any", first) for first in firsts if first is not None), default=None)
