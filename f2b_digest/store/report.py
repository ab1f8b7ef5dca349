"""All that one digest is made of, read in one transaction. Judged and rendered elsewhere; nothing is changed here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from f2b_digest.model.bans import Chosen, Rebans, Sample
from f2b_digest.model.baseline import Baseline, Window
from f2b_digest.model.counts import CampaignRule, Counts
from f2b_digest.model.host_context import Geography
from f2b_digest.model.selection import Selection
from f2b_digest.store import bans, baseline, summary
from f2b_digest.store.reads import Reads


class Source(Reads):
    """What `Store.report` gives. The temporary tables that its queries share go with its transaction."""

    def __init__(self, reads: Reads, connection: sa.Connection, selection: Selection) -> None:
        """Group the selection's bans."""
        self.path = reads.path
        self.selection = selection
        self._connection = connection
        summary.group(connection, selection)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        yield self._connection

    def counts(
        self, *, zone: ZoneInfo, start: float | None, end: float, campaigns: CampaignRule,
        users: frozenset[str] = frozenset(), geography: Geography | None = None,
    ) -> Counts:  # fmt: skip
        """Return what the selection's bans amount to, worst first, summed in SQL.

        Without `start` (UTC epoch seconds, as `end`), the period begins with the first ban. `users` are this host's;
        `geography` says where addresses are registered, and if it fails, there is a note.
        """
        return summary.count(
            self._connection, self.selection, zone=zone, start=start, end=end, campaigns=campaigns, users=users,
            geography=geography,
        )  # fmt: skip

    def addresses(self) -> list[dict[str, Any]]:
        """Return every address of the selection, the worst first, with times in UTC epoch seconds."""
        return summary.addresses(self._connection)

    def samples(self, worst: Mapping[str, Sequence[str]]) -> dict[str, list[Sample]]:
        """Return by jail the last log lines of some of its ids, nothing masked."""
        return bans.samples(self._connection, self.selection, worst)

    def chosen(self, wanted: Callable[[str], bool]) -> list[Chosen]:
        """Return the bans of those ids that a function chooses."""
        return bans.chosen(self._connection, self.selection, wanted)

    def rebans(self, frequent_from: int) -> Rebans:
        """Return how often addresses were banned again; frequent are those with so many bans."""
        return bans.rebans(self._connection, self.selection, frequent_from)

    def baseline(
        self, windows: Sequence[Window], patterns: Sequence[str], *, before: float, end: float, until: float,
        quiet_for: float, outages: Mapping[str, Sequence[float]] | None = None, most: int | None = None,
    ) -> Baseline:  # fmt: skip
        """Count the bans of each window (UTC epoch seconds, the end excluded) in the jails that patterns take in.

        See `store.baseline`.
        """
        return baseline.baseline(
            self._connection, windows, patterns, before, end=end, until=until, quiet_for=quiet_for, outages=outages,
            most=most,
        )  # fmt: skip
