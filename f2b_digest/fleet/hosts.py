"""The hosts of a centre in PostgreSQL: a query. What each said is typed in `store.host_states`."""

import sqlalchemy as sa

from f2b_digest.store import Life, life_of

_LIVES = """
SELECT h.host, extract(epoch FROM h.enrolled_at)::float8 AS enrolled_at, NULL AS retired_at, s.life::text AS life,
       extract(epoch FROM s.began_at)::float8 AS began_at, extract(epoch FROM s.seen_at)::float8 AS seen_at,
       s.skew, s.state, s.complete_until
FROM f2b.host h LEFT JOIN f2b.store s USING (host)
WHERE h.retired_at IS NULL ORDER BY h.host, s.seen_at DESC
"""


def lives(connection: sa.Connection) -> list[Life]:
    """Return the enrolled hosts in order, each with its stores, the most recent contact first."""
    return [life_of(row) for row in connection.execute(sa.text(_LIVES))]
