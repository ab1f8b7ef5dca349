"""Single bans, in SQLite's SQL: their log lines, and repeat bans. Nothing is redacted here."""

import json
from collections.abc import Callable, Mapping, Sequence

from f2b_digest.model.bans import Chosen, Rebans, Sample
from f2b_digest.model.digest import PERMANENT
from f2b_digest.store.hosts import is_of_a_fleet
from f2b_digest.store.last_bans import BANTIME, UNBANNED, end_of_ban, last_ban
from f2b_digest.store.selected import Wanted
from f2b_digest.store.sql import Connection


def samples(connection: Connection, wanted: Wanted, worst: Mapping[str, Sequence[str]]) -> dict[str, list[Sample]]:
    """Return by jail the last ban in the selection of each of these ids that has log lines, in their order."""
    where, values = wanted
    found: dict[str, list[Sample]] = {}
    for jail, ips in worst.items():
        for ip in ips:
            row = connection.execute(_SAMPLE.format(where=where), values | {"of_jail": jail, "of_ip": ip}).fetchone()
            if row:
                found.setdefault(jail, []).append(Sample(ip, row[0], _names(row[1])))
    return found


_SAMPLE = """
SELECT event.matches, event.users FROM event INDEXED BY sqlite_autoindex_event_1
WHERE event.jail = :of_jail AND event.ip = :of_ip AND event.matches IS NOT NULL AND {where}
ORDER BY event.at DESC, event.id DESC LIMIT 1
"""


def _names(users: str | None) -> tuple[str, ...]:
    try:
        names = json.loads(users or "[]")
    except ValueError:
        return ()
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def choose(connection: Connection, holds: Callable[[str], bool]) -> None:
    """Create the temporary table `picked`: the ids that a function chooses."""
    connection.create_function(
        "chosen", 1, lambda ip: holds(bytes(ip).decode("utf-8", "backslashreplace")), deterministic=True
    )
    connection.execute("DROP TABLE IF EXISTS temp.picked")
    connection.execute(_PICKED)


# As bytes, because a text need not be UTF-8.
_PICKED = "CREATE TEMP TABLE picked AS SELECT ip FROM temp.who WHERE chosen(CAST(ip AS BLOB))"


def chosen(connection: Connection, wanted: Wanted, *, by_host: bool = False) -> list[Chosen]:
    """Return the bans of the ids in `picked`, by jail; or by host and jail."""
    where, values = wanted
    if by_host:
        joins = last_ban("own", f"event.host = own.host AND {where}", same_host=True)
        query = _CHOSEN.format(host="own.host", table=_BY_HOST.format(where=where), last_ban=joins)
    else:
        query = _CHOSEN.format(
            host="NULL", table="temp.address", last_ban=last_ban("own", where, same_host=is_of_a_fleet(connection))
        )
    return [
        Chosen(
            jail,
            ip,
            bans,
            last,
            end_of_ban(last, bantime, unbanned)[0],
            unbanned is not None,
            permanent=bantime == PERMANENT and unbanned is None,
            host=host,
        )
        for host, jail, ip, bans, last, bantime, unbanned in connection.execute(query, values)
    ]


_BY_HOST = """
(
    SELECT host, jail, ip, count(*) AS bans, max(at) AS last FROM event
    WHERE ip IN (SELECT ip FROM temp.picked) AND {where} GROUP BY host, jail, ip
)
"""
_CHOSEN = f"""
SELECT {{host}} AS host, own.jail, own.ip, own.bans, own.last, {BANTIME}, {UNBANNED}
FROM (SELECT * FROM {{table}} WHERE ip IN (SELECT ip FROM temp.picked)) AS own
{{last_ban}}
GROUP BY {{host}}, own.jail, own.ip ORDER BY {{host}}, own.jail, own.ip
"""


def rebans(connection: Connection, spared: Mapping[str, int], frequent_from: int, *, was_prolonged: bool) -> Rebans:
    """Return how often addresses were banned again; frequent are those with so many bans.

    `spared` and `was_prolonged` are what `spared` and `prolonged` return.
    """
    frequent, frequent_bans = connection.execute(_FREQUENT, {"least": frequent_from}).fetchone()
    return Rebans(sum(spared.values()), len(spared), frequent, frequent_bans, was_prolonged)


def spared(connection: Connection, wanted: Wanted) -> dict[str, int]:
    """Return by id, of those in `worst`, how many bans of a selection longer bans would have spared."""
    return dict(connection.execute(_SPARED.format(where=wanted.where), wanted.values))


def prolonged(connection: Connection, prolongs: Wanted) -> bool:
    """Return whether any ban of a selection was prolonged."""
    return bool(connection.scalar(_PROLONGED.format(where=prolongs.where), prolongs.values))


_SPARED = """
SELECT ip, count(*) FROM (
    SELECT event.ip, event.at, event.bantime, lead(event.at) OVER bans AS next, row_number() OVER bans AS place
    FROM temp.worst CROSS JOIN event ON event.jail = worst.jail AND event.ip = worst.ip AND {where}
    WINDOW bans AS (PARTITION BY event.jail, event.ip, event.host ORDER BY event.at)
) WHERE bantime > 0 AND next - at < bantime * (1 << (min(place, 20) - 1)) GROUP BY ip
"""
_FREQUENT = "SELECT count(*), coalesce(sum(bans), 0) FROM temp.who WHERE bans >= :least"
_PROLONGED = "SELECT EXISTS (SELECT 1 FROM event WHERE {where})"
