"""Checks of the upload to a fleet's centre, by its recorded state. No connection is made."""

from collections.abc import Iterator
from pathlib import Path

from f2b_digest.checks.finding import Finding, ago, error, ok, warning
from f2b_digest.errors import StoreError
from f2b_digest.store import progress

LATE = 15 * 60.0
"""Seconds without contact after which a warning is due: three runs of cron."""
LOST = 86400.0
"""Seconds without contact after which it is an error."""


def examine(path: Path, now: float) -> Iterator[Finding]:
    """Check the upload of a store that joined a fleet; nothing for any other."""
    try:
        known = progress(path)
    except StoreError as refused:
        yield error("fleet", str(refused))
        return
    if known is None:
        return
    waits = f"{known.backlog.events} events are not there"
    if known.backlog.oldest is not None:
        waits += f", the oldest recorded {ago(now - known.backlog.oldest)}"
    if known.reached_at is None or now - known.reached_at > LATE:
        since = "never" if known.reached_at is None else f"last {ago(now - known.reached_at)}"
        text = f"the centre was {since} reached; {waits}{f': {known.reason}' if known.reason else ''}"
        todo = "run f2b-digest forward to see why; f2b-digest setup schedules it"
        lost = known.reached_at is None or now - known.reached_at > LOST
        yield error("fleet", text, todo) if lost else warning("fleet", text, todo)
    elif known.backlog.oldest is not None and now - known.backlog.oldest > LATE:
        yield warning("fleet", waits, "f2b-digest forward")
    else:
        yield ok("fleet", f"the centre was reached {ago(now - known.reached_at)}")
