"""`preview --from`: a scratch store of bans from fail2ban's files, and the period to show. Prints no digest."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from f2b_digest import composition, periods
from f2b_digest.cli import scratch
from f2b_digest.cli.importing import fill
from f2b_digest.cli.program import complain
from f2b_digest.config import Configuration
from f2b_digest.errors import StoreError
from f2b_digest.fail2ban.files import Tally
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store

FEWEST = 3
"""Bans: a day with fewer is not a useful sample."""


def fill_scratch(path: Path, sources: Sequence[Path], configuration: Configuration) -> Tally:
    """Create a store of the bans in files. Raises SourceError, or F2bDigestError if there is no space for it."""
    try:
        return fill(path, sources, configuration)
    except StoreError as error:
        raise scratch.no_room(str(error).partition(";")[0]) from None


def end_of(tally: Tally, now: float) -> float:
    """Return the end of the input in UTC epoch seconds: its last line, or `now` if there is none."""
    return now if tally.last is None else math.floor(tally.last) + 1.0


def last_period(configuration: Configuration, store: Store, name: str, tally: Tally, end: float) -> Selection:
    """Return the report's last complete period, and print it on standard error; everything if the input is shorter.

    A report without a calendar shows a day. If the last day has too few bans, the last week or month is shown.
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
