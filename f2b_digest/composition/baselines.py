"""What a digest is compared with: the earlier periods of all hosts, and of each of a fleet. Nothing is judged."""

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from f2b_digest import periods
from f2b_digest.analysis import SHORTEST_SILENCE, known_until, outages
from f2b_digest.config import Report
from f2b_digest.model.baseline import Baseline, HostActivity
from f2b_digest.model.fleet import HostState
from f2b_digest.model.told import Told
from f2b_digest.store import Source

A_WEEK = 7 * 86400.0
"""Seconds that an outage may last longer than it was told."""


class Baselines:
    """The earlier periods of one digest, over all hosts and, at a fleet's centre, of each."""

    def __init__(
        self, source: Source, report: Report, zone: ZoneInfo, start: float, end: float, until: float,
        told: Sequence[Told], *, most: int,
    ) -> None:  # fmt: skip
        """Take what `Source.baseline` needs; of the windows, `most` count, those without an outage."""
        hosts = {str(fact["host"]) for each in told for fact in each.facts if fact.get("host")}
        self._down = {host: outages(told, host) for host in (None, *hosts)}
        downs = [each for of_host in self._down.values() for each in of_host.values()]
        lost = max((sum(back - since for since, back in each.items()) + A_WEEK for each in downs), default=0.0)
        calendar = report.period == "calendar"
        self._windows = periods.previous(start, end, report.every, zone, calendar, more=lost)
        self._source, self._jails, self._start, self._until, self._most = source, report.jails, start, until, most
        self._end = end

    def of(self, end: float, host: str | None = None) -> Baseline:
        """Return the baseline of all hosts, or of one, whose bans are known up to an end (UTC epoch seconds)."""
        down = self._down.get(host, {})
        return self._source.baseline(
            self._windows, self._jails, before=self._start, end=end, until=self._until, quiet_for=SHORTEST_SILENCE,
            outages={jail: tuple(each) for jail, each in down.items()}, most=self._most, host=host,
        )  # fmt: skip

    def by_host(self, states: Sequence[HostState]) -> dict[str, HostActivity]:
        """Return what each enrolled host banned, and its baseline."""
        activity, known = self._source.by_host(), set(self._source.hosts())
        return {
            state.host: replace(
                activity.get(state.host, HostActivity()), baseline=self.of(known_until(state, self._end), state.host)
            )
            for state in states
            if state.host in known or state.silence
        }
