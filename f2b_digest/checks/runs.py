"""Whether reports are late, by the runs recorded in the store. Nothing else is read."""

from collections.abc import Iterator
from dataclasses import dataclass

from f2b_digest.checks.finding import Finding, ago, due, error
from f2b_digest.composition import pending
from f2b_digest.config import Configuration, Report
from f2b_digest.periods import DAY, HOUR, PACES, pace
from f2b_digest.store import Outbox, Pending, Store

LATE = 1.5
"""A report is late after this multiple of its interval (at least a day), plus an hour."""


@dataclass(frozen=True)
class Run:
    """A report's runs, as recorded in the store."""

    noted: bool
    """Whether runs are recorded; an upgraded store may have none yet."""
    last: float | None
    """The last run, or digest, in UTC epoch seconds."""
    every: float | None
    """Usual seconds between two runs, or by the report's name."""

    def told(self, now: float) -> str:
        """Return it in words."""
        if self.last is None:
            return "not sent yet"
        return f"last sent {ago(now - self.last)}" + (f" (usually {due(self.every)})" if self.every else "")


def known(store: Outbox | None, name: str, report: Report) -> Run:
    """Return a report's runs; empty if there is no store. Raises StoreError."""
    sent = store.runs(name) if store else []
    digest = store.last_digest(name) if store else None
    times = [*sent, *([digest.sealed_at] if digest else [])]
    return Run(bool(sent), max(times, default=None), pace(report.every, sent))


def examine(configuration: Configuration, store: Store, name: str, run: Run, now: float) -> Iterator[Finding]:
    """Return whether a report is late. Raises StoreError."""
    return late(configuration, name, run, store.pending(pending(store, name, configuration.reports[name])), now)


def late(configuration: Configuration, name: str, run: Run, waiting: Pending, now: float) -> Iterator[Finding]:
    """Return the same, of the bans that wait."""
    report = configuration.reports[name]
    if run.noted:
        since, every = run.last, run.every
    else:
        since, every = waiting.since if waiting.bans >= report.min_bans else None, run.every or PACES["week"]
    if since is None or every is None or now - since <= LATE * max(every, DAY) + HOUR:
        return
    what = "was never sent" if run.last is None else f"was last sent {ago(now - run.last)}"
    wait = f"; bans pending: {waiting.bans}, the oldest {ago(now - waiting.since)}" if waiting.since else ""
    todo = "run f2b-digest send by hand, and check the log of cron or systemd"
    yield error(f"report {name}", f"{what}, but is due {due(every)}{wait}", todo)
