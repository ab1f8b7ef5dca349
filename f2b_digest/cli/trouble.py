"""Problems of an installation recorded in the store, one line each. Nothing is printed or changed here."""

from collections.abc import Iterator
from pathlib import Path

from f2b_digest.checks import runs
from f2b_digest.cli.console import plural
from f2b_digest.config import Configuration
from f2b_digest.store import Outbox, Store, damage


def of_deliveries(configuration: Configuration, store: Outbox) -> Iterator[str]:
    """Yield undelivered digests, and reports without a channel. Raises StoreError."""
    undelivered = store.undelivered()
    for status in ("failed", "deferred"):
        count = sum(row.status == status for row in undelivered)
        if count:
            yield f"{plural(count, 'delivery', 'deliveries')} {status}"
    mute = [name for name, report in configuration.reports.items() if not report.channels]
    if mute:
        yield f"no channel for {', '.join(mute)}"


def found(configuration: Configuration, store: Store, path: Path, now: float) -> Iterator[str]:
    """Yield all problems on a host. Raises StoreError."""
    if damage(path):
        yield "the store is damaged"
    yield from of_deliveries(configuration, store)
    for name, report in configuration.reports.items():  # as `check` says it
        run = runs.known(store, name, report)
        yield from (f"{name} {late.text}" for late in runs.examine(configuration, store, name, run, now))
