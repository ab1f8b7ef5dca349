"""`preview --from`: a scratch store of what fail2ban's files tell, and which period is shown. Prints no digest."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from f2b_digest import composition, periods
from f2b_digest.cli import complain, scratch
from f2b_digest.cli.importing import fill
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban.files import Tally
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store

FEWEST = 3
"""Bans: a day with fewer shows nobody what a digest is."""


def fill_scratch(path: Path, sources: Sequence[Path], configuration: Configuration) -> Tally:
    """Make a store of what files tell. Raises SourceError, or F2bDigestError where there is no room for it."""
    try:
        return fill(path, sources, configuration)
    except StoreError as error:
        raise scratch.no_room(str(error).partition(";")[0]) from None


def end_of(tally: Tally, now: float) -> float:
    """Return when what was read ends, in UTC epoch seconds: with its last line, and `now` where there is none."""
    return now if tally.last is None else math.floor(tally.last) + 1.0


def last_period(configuration: Configuration, store: Store, name: str, tally: Tally, end: float) -> Selection:
    """Return the report's last whole period, and say on standard error which it is; all there is if that is no longer.

    A report without a calendar shows a day. Where the last one has hardly a ban, the last week or month is shown.
    """
    report, zone = configuration.reports[name], composition.zone_of(configuration, name)
    usual = report.every if report.every in periods.PACES else "day"
    for every, fewest in ((usual or "day", FEWEST), ("week", 1), ("month", 1)):
        start = end - periods.PACES[every]
        selection = Selection(since=start, until=end, jails=report.jails)
        if tally.first is not None and tally.first < start and store.pending(selection).bans >= fewest:
            begun = f"{datetime.fromtimestamp(tally.first, zone):%Y-%m-%d}"
            complain(f"showing the last {every} of the input, from {begun}; use --since all for everything")
            return selection
    return Selection(since=tally.first, until=end, jails=report.jails)
