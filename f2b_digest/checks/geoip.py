"""Checks of the address database: which one a digest uses, and its age."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from f2b_digest import geoip
from f2b_digest.checks.finding import Finding, ok, warning
from f2b_digest.config import Configuration

ROOT = Path("/")
OLD = 2 * 365 * 86400.0
"""Seconds: networks are sold, and move to other countries."""


def examine(configuration: Configuration, now: float) -> Iterator[Finding]:
    """Yield unreadable databases, and the one in use; having none is ok."""
    found, notes = geoip.find(configuration.geography, ROOT)
    for note in notes:
        yield warning("countries", note, "fix or remove it")
    if found is None:
        yield ok("countries", "no address database: not shown (to add: apt install tor-geoipdb)")
        return
    line = f"{found.source} of {datetime.fromtimestamp(found.made_at, UTC):%Y-%m-%d}"
    if now - found.made_at > OLD:
        yield warning("countries", f"{line}: more than 2 years old", "fetch a newer one")
    else:
        yield ok("countries", line)
