"""What a report's next digest needs of a centre's earlier digests and deliveries. Read-only."""

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from f2b_digest.store import OPEN, Sealed

DAY = 86400.0
SENT_LATELY = 3600.0
"""Seconds for which sent bodies are in a scratch store: some channels do not report an address twice in a while."""
TOLD, MOST_TOLD = 160, 500
"""Days, and number, of the digests whose facts the next one needs: what was told, and which outages."""
A_DAY = 20 * 3600.0
"""Seconds of a digest whose facts concern other reports too."""
_TOLD = (
    "CAST(json_build_object('facts', CAST(g.document AS json)->'facts', 'advice', CAST(g.document AS json)->'advice') "
    "AS text) AS document"
)


def archive(
    connection: sa.Connection, report: str, before: int, now: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of digests and deliveries that a report's next digest needs, the documents cut to facts."""
    names = ", ".join(f"g.{field.name}" for field in fields(Sealed))
    mine = sa.text(f"SELECT {names}, {_TOLD} FROM f2b.digest g WHERE report = :report ORDER BY id DESC LIMIT 20")
    digests = [dict(row) for row in connection.execute(mine, {"report": report}).mappings()]
    for place, row in enumerate(digests):
        row |= {"after_id": digests[place + 1]["id"] if place + 1 < len(digests) else 0, "first_id": 0}
        row["last_id"] = before
    told = sa.text(
        "SELECT d.* FROM f2b.delivery d JOIN f2b.digest g ON g.id = d.digest_id WHERE g.report = :report "
        "AND (d.status = ANY(:open) OR d.status = 'failed' OR (d.status = 'sent' AND d.settled_at >= :lately))"
    )
    values = {"report": report, "open": [*OPEN], "lately": now - SENT_LATELY}
    deliveries = [dict(row) for row in connection.execute(told, values).mappings()]
    older = sa.text(
        f"SELECT {names}, {_TOLD} FROM f2b.digest g WHERE id <> ALL(:known) AND (id = ANY(:ids) OR id IN ("
        "SELECT id FROM f2b.digest WHERE (report = :report OR period_end - period_start >= :shortest) "
        "AND period_end >= :since ORDER BY id DESC LIMIT :most))"
    )
    values = {
        "known": [row["id"] for row in digests], "ids": sorted({row["digest_id"] for row in deliveries}),
        "report": report, "shortest": A_DAY, "since": now - TOLD * DAY, "most": MOST_TOLD,
    }  # fmt: skip
    found = connection.execute(older, values).mappings()
    digests += [dict(row) | {"after_id": -row["id"], "first_id": 0, "last_id": 0} for row in found]
    return sorted(digests, key=lambda row: row["id"]), deliveries
