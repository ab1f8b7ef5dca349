"""New ids, ids in several jails, and user names tried, in SQLite's SQL, from the tables of `summary`."""

import json

from f2b_digest.model.digest import Several, User, Users
from f2b_digest.store.sql import Connection
from f2b_digest.store.times import first_ban

MOST_SEVERAL, MOST_NAMES, MOST_EXISTING = 5, 10, 5
"""Rows that are fetched; what is beyond them is counted."""


def newcomers(connection: Connection) -> tuple[int, int]:
    """Return (new, returning): how many ids had no ban in any jail before this selection, and how many had."""
    known, addresses = connection.execute(_KNOWN.format(known_since=first_ban(connection))).fetchone()
    return addresses - known, known


_KNOWN = """
SELECT coalesce(sum(first > {known_since}), 0), count(*)
FROM temp.who
"""


def several(connection: Connection) -> tuple[tuple[Several, ...], int]:
    """Return the ids banned in the most jails, and how many ids were banned in more than one.

    Jails that ban addresses banned elsewhere (recidive) do not count.
    """
    connection.execute(_ELSEWHERE)
    found: dict[tuple[str, int], list[str]] = {}
    for ip, bans, jail in connection.execute(_SEVERAL, {"most": MOST_SEVERAL}):
        found.setdefault((ip, bans), []).append(jail)
    in_all = connection.scalar("SELECT count(*) FROM temp.elsewhere")
    return tuple(Several(ip, tuple(jails), bans) for (ip, bans), jails in found.items()), in_all


_ELSEWHERE = """
CREATE TEMP TABLE elsewhere AS
SELECT ip, count(*) AS jails, sum(bans) AS bans FROM temp.address
WHERE ip IN (SELECT ip FROM temp.who WHERE jails > 1) AND substr(jail, 1, 8) <> 'recidive'
GROUP BY ip HAVING count(*) > 1
"""
_SEVERAL = """
SELECT most.ip, most.bans, address.jail
FROM (SELECT ip, jails, bans FROM temp.elsewhere ORDER BY jails DESC, bans DESC, ip LIMIT :most) AS most
JOIN temp.address ON address.ip = most.ip AND substr(address.jail, 1, 8) <> 'recidive'
ORDER BY most.jails DESC, most.bans DESC, most.ip, address.bans DESC, address.jail
"""


def gather(connection: Connection) -> None:
    """Create the temporary table `named`: the distinct names of each list in `tried`.

    Most bans share a few lists, so each distinct list is parsed once instead of once per ban.
    """
    connection.execute(_NAMED_TABLE)
    connection.execute(_NAMED)


_NAMED_TABLE = "CREATE TEMP TABLE named (users TEXT, name TEXT, PRIMARY KEY (users, name)) WITHOUT ROWID"
_NAMED = """
INSERT INTO temp.named
SELECT DISTINCT list.users, user.value
FROM (SELECT DISTINCT users FROM temp.tried WHERE users IS NOT NULL) AS list
CROSS JOIN json_each(CASE WHEN json_valid(list.users) THEN list.users ELSE '[]' END) AS user
WHERE user.type = 'text'
"""


def users(connection: Connection, existing: frozenset[str]) -> Users | None:
    """Return the names tried, and those of accounts on this host (`existing`); None if no ban has a user name."""
    connection.execute(_NAMES, {"existing": json.dumps(sorted(existing))})
    names = connection.scalar("SELECT count(*) FROM temp.name")
    if not names:
        return None
    most = connection.execute(_MOST, {"least": 0, "most": MOST_NAMES})
    of_this_host = connection.execute(_MOST, {"least": 1, "most": MOST_EXISTING})
    return Users(
        names=names,
        bans=connection.scalar(_NAMING),
        most=tuple(User(name, bans, addresses, bool(exists)) for name, bans, addresses, exists in most),
        existing=tuple(User(name, bans, addresses, bool(exists)) for name, bans, addresses, exists in of_this_host),
    )


_NAMES = """
CREATE TEMP TABLE name AS
SELECT name, sum(bans) AS bans, count(DISTINCT ip) AS addresses,
       name IN (SELECT value FROM json_each(:existing)) AS existing
FROM temp.named JOIN temp.tried USING (users) GROUP BY name
"""
_MOST = """
SELECT name, bans, addresses, existing FROM temp.name WHERE existing >= :least
ORDER BY bans DESC, addresses DESC, name LIMIT :most
"""
_NAMING = "SELECT sum(bans) FROM temp.tried WHERE users IN (SELECT users FROM temp.named)"
