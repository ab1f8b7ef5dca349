"""Copies what `find` asks about from the centre into a scratch SQLite store, for the code of a host.

An address is found by its index at any time; whatever needs a scan is looked for since a time only.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from f2b_digest import recorder
from f2b_digest.fleet.scratch import copy_archive
from f2b_digest.store import Sealed

MOST = 200_000
"""Events: the newest."""
MOST_LISTED = 1024
"""Addresses of a network that are looked up by index, each by itself; for a larger one, all ids are read."""
MOST_DOCUMENTS = 20
_FIELDS = ", ".join("s.host" if name == "host" else f"e.{name}" for name in recorder.COLUMNS)
_FOUND = (
    f"SELECT {_FIELDS}, e.store_id, e.seq FROM f2b.event e JOIN f2b.store s USING (store_id) "
    "WHERE e.kind IN ('ban', 'unban', 'prolong') AND ({where}) "
    "ORDER BY e.arrived DESC, e.store_id, e.seq DESC LIMIT :most"
)
_SINCE = "e.arrived >= to_timestamp(:since)"
_AMONG = "e.ip = ANY(CAST(:ids AS text[]))"
_TABLES = (
    "CREATE TABLE origin (id INTEGER PRIMARY KEY, store_id INTEGER, seq INTEGER)",
    "CREATE TABLE taken (digest_id INTEGER, store_id INTEGER, after_seq INTEGER, upto_seq INTEGER)",
    "CREATE TABLE mark (report TEXT, store_id INTEGER, seq INTEGER)",
)
_TAKEN = (
    "SELECT DISTINCT t.digest_id, t.store_id, t.after_seq, t.upto_seq FROM f2b.taken t "
    "JOIN unnest(CAST(:stores AS integer[]), CAST(:seqs AS bigint[])) AS v (store_id, seq) "
    "ON v.store_id = t.store_id AND v.seq > t.after_seq AND v.seq <= t.upto_seq"
)


def fill(
    connection: sa.Connection, path: Path, words: Sequence[str], since: float, asn_of: Callable[[str], int | None]
) -> None:
    """Fill a scratch store with the events of some words, and with the digests that told them.

    A word may be an address, a network, AS and a number, a jail or a user name. `since` is in UTC epoch seconds.
    """
    with closing(recorder.connect(str(path))) as scratch:
        scratch.execute("PRAGMA synchronous=OFF")
        scratch.execute("BEGIN")
        for table in _TABLES:
            scratch.execute(table)
        rows: list[Any] = []
        for word in words:
            where, values = _condition(connection, word, since, asn_of)
            query = sa.text(_FOUND.format(where=where))
            rows += connection.execute(query, {"since": since, "most": MOST} | values).all()
        origins = []
        for *event, store_id, seq in reversed(rows):
            if scratch.execute(recorder.INSERT, event).rowcount:
                scratch.execute("INSERT INTO origin VALUES (last_insert_rowid(), ?, ?)", (store_id, seq))
                origins.append((store_id, seq))
        taken = _rows(connection, _TAKEN, stores=[each[0] for each in origins], seqs=[each[1] for each in origins])
        scratch.executemany("INSERT INTO taken VALUES (?, ?, ?, ?)", taken)
        marks = "SELECT report, store_id, seq FROM f2b.mark WHERE store_id = ANY(CAST(:stores AS integer[]))"
        found = _rows(connection, marks, stores=sorted({each[0] for each in origins}))
        scratch.executemany("INSERT INTO mark VALUES (?, ?, ?)", found)
        scratch.execute("COMMIT")
    _copy_digests(connection, path, sorted({digest for digest, *_ in taken}))


def _condition(
    connection: sa.Connection, word: str, since: float, asn_of: Callable[[str], int | None]
) -> tuple[str, dict[str, Any]]:
    """Return the condition for the events of a word, and what it binds."""
    try:
        network = ip_network(word, strict=False)
    except ValueError:
        if word[:2].upper() == "AS" and word[2:].isdecimal():
            number = int(word[2:])
            return _AMONG, {"ids": _chosen(connection, since, lambda ip: asn_of(ip) == number)}
        escaped = word.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        name = "e.jail = :word OR e.ip = :word OR e.users LIKE :part ESCAPE '!'"
        return f"{_SINCE} AND ({name})", {"word": word, "part": f"%{escaped}%"}
    if network.num_addresses > MOST_LISTED:
        return _AMONG, {"ids": _chosen(connection, since, lambda ip: _is_in(ip, network))}
    # By index: the network itself, those that it is in, and for its neighbours each address of an IPv4 /24.
    wider = [str(ip_network((network.network_address, bits), strict=False)) for bits in range(network.prefixlen)]
    around = network.supernet(new_prefix=24) if network.version == 4 and network.prefixlen > 24 else network
    return _AMONG, {"ids": [*map(str, around), str(network), *wider]}


def _is_in(ip: str, network: IPv4Network | IPv6Network) -> bool:
    try:
        banned = ip_network(ip)
    except ValueError:
        return False
    return banned.version == network.version and banned.subnet_of(network)  # type: ignore[arg-type]


def _chosen(connection: sa.Connection, since: float, holds: Callable[[str], bool]) -> list[str]:
    """Return the ids banned since a time that a function chooses: PostgreSQL would stop at one that is no address."""
    query = f"SELECT DISTINCT e.ip FROM f2b.event e WHERE e.kind = 'ban' AND {_SINCE}"
    return [ip for (ip,) in _rows(connection, query, since=since) if holds(ip)]


def _rows(connection: sa.Connection, query: str, **values: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(sa.text(query), values)]


def _copy_digests(connection: sa.Connection, path: Path, keys: Sequence[int]) -> None:
    """Copy digests with their deliveries, and the newest ones' documents."""
    names = ", ".join(field.name for field in fields(Sealed))
    found = connection.execute(
        sa.text(f"SELECT {names} FROM f2b.digest WHERE id = ANY(CAST(:keys AS bigint[])) ORDER BY id"),
        {"keys": [*keys]},
    )
    digests = [dict(row) | {"after_id": -row["id"], "first_id": 0, "last_id": 0} for row in found.mappings()]
    for row in digests[-MOST_DOCUMENTS:]:
        query = sa.text("SELECT document FROM f2b.digest WHERE id = :id")
        row["document"] = connection.scalar(query, {"id": row["id"]})
    columns = "id, digest_id, channel, recipient, identity, status, attempts, next_at, error, made_at, settled_at"
    query = sa.text(f"SELECT {columns} FROM f2b.delivery WHERE digest_id = ANY(CAST(:keys AS bigint[]))")
    deliveries = [dict(row) | {"message": b""} for row in connection.execute(query, {"keys": [*keys]}).mappings()]
    copy_archive(path, digests, deliveries)
