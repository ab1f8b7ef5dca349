"""Events, and what digests told of them, read in the caller's transaction. The counts of a digest are in `report`."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from f2b_digest.model.selection import Selection
from f2b_digest.model.told import Told
from f2b_digest.store import baseline, selected
from f2b_digest.store.archive import Archive
from f2b_digest.store.selected import Pending
from f2b_digest.store.sql import Connection

OURS = ("action", "shell")
"""Sources of events that fail2ban recorded itself while it banned."""
MOST_TOLD = 500
"""Number of digests whose facts are considered: more than a daily and a weekly report have in a year."""
LATELY = 1000
"""Number of newest events among which one is from fail2ban if it feeds the store."""
_TOLD = f"""
SELECT report, period_end, json_extract(document, '$.facts'), json_extract(document, '$.advice') FROM digest
WHERE (report = :report OR period_end - period_start >= :shortest) AND period_end >= :since AND json_valid(document)
ORDER BY id DESC LIMIT {MOST_TOLD}
"""


class Reads(Archive):
    """Queries of a SQLite store that need only a transaction. All of them raise StoreError if it cannot be read."""

    RECORDED = "SELECT id, recorded_at AS moment, history FROM event"
    BY_OUR_CLOCK = "SELECT id, coalesce(moment, recorded_at) AS moment, history FROM event LEFT JOIN origin USING (id)"
    """When events of a fleet's scratch store were recorded by the centre's clock, whatever that of a host says."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """Yield a connection in a transaction."""

    def last_event(self) -> int:
        """Return the id of the newest event, or 0."""
        with self._reading() as connection:
            return connection.scalar("SELECT max(id) FROM event") or 0

    def bans_by_jail(self) -> dict[str, int]:
        """Count the bans in the store by jail; it reads an index of all events."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT jail, count(*) FROM event WHERE kind = 'ban' GROUP BY jail"))

    def pending(self, selection: Selection) -> Pending:
        """Count the bans of a selection."""
        with self._reading() as connection:
            return selected.pending(connection, selection)

    def jails(self) -> list[str]:
        """Return the jails of any event."""
        with self._reading() as connection:
            return selected.jails(connection, ("*",))

    def is_fed(self) -> bool:
        """Return whether fail2ban's action records here.

        That is: one of the newest thousand events is from it, and a start or stop of a jail, which is never manual.
        """
        newest = "SELECT source FROM event ORDER BY id DESC LIMIT :most"
        with self._reading() as connection:
            recorded = not set(OURS).isdisjoint(connection.scalars(newest, {"most": LATELY}))
        return recorded and bool(self.starts_and_stops(("*",), 0.0))

    def first_recorded(self, first_id: int, since: float, until: float) -> int | None:
        """Return the id of the first event, from an id on, that was recorded in a time; both ends are included.

        Imported history is excluded: no digest reports it. The times are in UTC epoch seconds.
        """
        query = (
            f"SELECT id FROM ({self.RECORDED}) WHERE id >= :first AND history = 0 AND moment BETWEEN :since AND :until "
            "ORDER BY id LIMIT 1"
        )
        with self._reading() as connection:
            found: int | None = connection.scalar(query, {"first": first_id, "since": since, "until": until})
        return found

    def starts_and_stops(self, patterns: Sequence[str], since: float) -> Mapping[str, tuple[tuple[str, float], ...]]:
        """Return by jail the kind and time of its starts and stops since a time, and of the last one before.

        Oldest first, in UTC epoch seconds. Hosts are not distinguished.
        """
        with self._reading() as connection:
            return baseline.starts_and_stops(connection, patterns, since)

    def told(self, report: str, since: float, shortest: float) -> list[Told]:
        """Return the facts of digests whose periods ended since a time (UTC epoch seconds), the newest first.

        Those of a report, and those of others whose periods are not shorter than so many seconds; at most `MOST_TOLD`.
        """
        values = {"report": report, "since": since, "shortest": shortest}
        with self._reading() as connection:
            rows = connection.execute(_TOLD, values).fetchall()
        return [
            Told(name, at, json.loads(facts or "[]"), json.loads(advice or "[]")) for name, at, facts, advice in rows
        ]
