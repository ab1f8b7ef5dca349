"""The data of one digest, read in one transaction. Analysed and rendered elsewhere; read-only."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from f2b_digest.model.bans import Banned, Chosen, Rebans, Sample
from f2b_digest.model.baseline import Baseline, HostActivity, NetworkKey, Window
from f2b_digest.model.counts import CampaignRule, Counts, Most
from f2b_digest.model.digest import Campaign, Lifted
from f2b_digest.model.host_context import Geography
from f2b_digest.model.inquiry import Inquiry, Neighbours, Network
from f2b_digest.model.selection import Selection
from f2b_digest.store import asked, bans, baseline, geo, hosts, lifted, selected, summary, timeline
from f2b_digest.store import campaigns as store_campaigns
from f2b_digest.store.archive import Sealed
from f2b_digest.store.asked import End, Seen
from f2b_digest.store.hosts import Late
from f2b_digest.store.reads import Reads
from f2b_digest.store.selected import Wanted, wanted
from f2b_digest.store.sql import Connection


class Bans(Reads):
    """Some bans, grouped. The temporary tables that the queries share are dropped with the transaction."""

    def __init__(self, path: Path, connection: Connection, wanted: Wanted, most: Most) -> None:
        """Group the bans of a condition."""
        self.path = path
        self._connection = connection
        self._wanted = wanted
        self._most = most
        self._group()

    def _group(self) -> None:
        summary.group(self._connection, self._wanted, self._most)

    def _quarters(self) -> Iterable[tuple[int, int]]:
        """Return the number of bans in each quarter hour since the epoch that has some."""
        return timeline.quarters(self._connection, self._wanted)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        yield self._connection

    def counts(
        self, *, zone: ZoneInfo, start: float | None, end: float, campaigns: CampaignRule,
        users: frozenset[str] = frozenset(), geography: Geography | None = None,
    ) -> Counts:  # fmt: skip
        """Return the sums of the bans, worst first.

        Without `start` (UTC epoch seconds, as `end`), the period begins with the first ban. `users` are this host's;
        `geography` says where addresses are registered, and if it fails, there is a note.
        """
        return summary.count(
            self._connection, self._wanted, most=self._most, zone=zone, start=start, end=end, campaigns=campaigns,
            quarters=self._quarters(), users=users, geography=geography,
        )  # fmt: skip


class Source(Bans):
    """Yielded by `Store.report`."""

    def __init__(
        self, path: Path, connection: Connection, selection: Selection, most: Most, *, packed: bool = False
    ) -> None:
        """Group the selection's bans; `packed`: of rows whose times are among the packed ones, too."""
        self.selection = selection
        super().__init__(path, connection, wanted(connection, selection, packed=packed), most)

    def lifted(self, zone: tzinfo) -> tuple[tuple[Lifted, ...], int]:
        """Return the bans that were lifted by hand, the latest first, of which some are fetched, and their number."""
        return lifted.lifted(self._connection, self.selection, zone)

    def addresses(self) -> list[Banned]:
        """Return every address of the selection, the worst first, with times in UTC epoch seconds."""
        return summary.addresses(self._connection)

    def samples(self, worst: Mapping[str, Sequence[str]]) -> dict[str, list[Sample]]:
        """Return by jail the last log lines of some of its ids, unredacted."""
        return bans.samples(self._connection, self._wanted, worst)

    def chosen(self, holds: Callable[[str], bool], *, by_host: bool = False) -> list[Chosen]:
        """Return the bans of those ids that a function chooses; of a fleet by host."""
        bans.choose(self._connection, holds)
        return bans.chosen(self._connection, self._wanted, by_host=by_host)

    def spread(self, counts: Counts, least: int) -> Counts:
        """Return this selection's counts with on how many hosts each was; and the ids that were on `least` or more.

        Once, after `counts`, and only in a fleet's scratch store.
        """
        self._group_hosts()
        return hosts.spread(self._connection, counts, least)

    def _group_hosts(self) -> None:
        hosts.group(self._connection, self._wanted)

    def _late(self) -> Iterable[Late]:
        return hosts.late(self._connection, self.selection.last_id)

    def by_host(self) -> dict[str, HostActivity]:
        """Return what each host of a fleet banned, after `spread`."""
        return hosts.activity(self._connection, self.selection, self._late())

    def hosts(self) -> list[str]:
        """Return the hosts of any ban, in order."""
        return hosts.hosts(self._connection)

    def rebans(self, frequent_from: int) -> Rebans:
        """Return how often addresses were banned again; frequent are those with so many bans."""
        return bans.rebans(self._connection, self._spared(), frequent_from, was_prolonged=self._was_prolonged())

    def _spared(self) -> Mapping[str, int]:
        """Return by id, of the worst, how many bans longer bans would have spared."""
        return bans.spared(self._connection, self._wanted)

    def _was_prolonged(self) -> bool:
        return bans.prolonged(self._connection, wanted(self._connection, self.selection, kind="prolong"))

    def networks_before(
        self, campaigns: Sequence[Campaign], windows: Sequence[Window], patterns: Sequence[str],
        geography: Geography | None,
    ) -> dict[NetworkKey, tuple[int, ...]]:  # fmt: skip
        """Return how many addresses of each campaign's network were banned in each window, the newest first.

        Only windows covered by the `REMEMBERED` events before the selection are returned.
        """
        first = selected.first(self._connection, self._wanted)
        if first is None:
            return {}
        return store_campaigns.before(self._connection, first, windows, patterns, campaigns, geo.GeoCache(geography))

    def baseline(
        self, windows: Sequence[Window], patterns: Sequence[str], *, before: float, end: float, until: float,
        quiet_for: float, outages: Mapping[str, Sequence[float]] | None = None, most: int | None = None,
        host: str | None = None,
    ) -> Baseline:  # fmt: skip
        """Count the bans of each window (UTC epoch seconds, the end excluded) in the jails that patterns take in.

        Of one host with `host`, in a fleet's scratch store.

        See `store.baseline`.
        """
        return baseline.baseline(
            self._connection, windows, patterns, before, end=end, until=until, quiet_for=quiet_for, outages=outages,
            most=most, host=host,
        )  # fmt: skip


class Asked(Bans):
    """Yielded by `Store.asked`: the bans of an inquiry, reported or not."""

    def __init__(
        self, path: Path, connection: Connection, inquiry: Inquiry, most: Most, asn_of: Callable[[str], int | None]
    ) -> None:
        """Find and group the bans. `asn_of` returns the AS number of an id."""
        super().__init__(path, connection, asked.gather(connection, inquiry, asn_of), most)

    def ends(self, now: float) -> list[End]:
        """Return the bans that are active now (UTC epoch seconds) as recorded, the last to end first."""
        return asked.ends(self._connection, now)

    def bans(self) -> list[Seen]:
        """Return the bans, the newest first, at most `asked.MOST_IDS`."""
        return asked.bans(self._connection, self._wanted)

    def hosts(self) -> list[tuple[str, int]]:
        """Return the hosts that banned, and their bans, the most first."""
        return asked.hosts(self._connection, self._wanted)

    def among(self, digest: Sealed, ids: Sequence[int]) -> int:
        """Return how many of some ids, in order, a digest has told."""
        if asked.is_vector(self._connection):
            return len(asked.taken(self._connection, digest.id).intersection(ids))
        return bisect_right(ids, digest.last_id) - bisect_left(ids, digest.first_id)

    def waits(self, report: str, ids: Sequence[int], last_id: int) -> bool:
        """Return whether some of these ids, in order, are still to be told by a report that has come to an id."""
        if asked.is_vector(self._connection):
            return not asked.reported(self._connection, report).issuperset(ids)
        return bool(ids) and ids[-1] > last_id

    def last(self) -> float | None:
        """Return when the last ban was, in UTC epoch seconds."""
        return asked.last(self._connection)

    def neighbours(self, network: Network) -> Neighbours | None:
        """Return the other banned addresses of an address's /24 or /48; None where there is none."""
        return asked.neighbours(self._connection, network)

    def members(self, sealed: Sealed, campaign: Campaign, besides: Network) -> list[tuple[str, int]]:
        """Return the worst other addresses of a campaign in a digest, as (address, bans)."""
        return asked.members(self._connection, sealed, campaign, besides)

    def oldest(self) -> float | None:
        """Return when the first ban of the whole store was, in UTC epoch seconds."""
        return asked.oldest(self._connection)
