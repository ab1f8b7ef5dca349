"""Single bans in detail, as plain values. Nothing is redacted here."""

from dataclasses import dataclass
from typing import NamedTuple

ROUNDED, LATER = 1.0, 30.0
"""Seconds by which an unban's time may be before and after its ban's."""
IN_TIME = 30.0
"""Seconds: an unban this close to a ban's end counts as its end; log times lag behind fail2ban's own."""


class Sample(NamedTuple):
    """The last ban of an address that has log lines."""

    ip: str
    matches: str
    """The lines as fail2ban passed them: partly written by an attacker, unredacted."""
    users: tuple[str, ...]
    """User names in this ban's lines."""


class Banned(NamedTuple):
    """The bans of one address in one jail. Times are UTC epoch seconds."""

    jail: str
    ip: str
    bans: int
    failures: int | None
    """Of the bans whose failures are known; None if none are."""
    uncounted: int
    """Bans whose failures are unknown."""
    first: float
    last: float
    lifted: bool
    """Whether the last ban was ended early."""
    users: tuple[str, ...]
    """User names in the last ban's log lines."""
    matches: str | None
    """The last ban's log lines, unredacted."""


class Chosen(NamedTuple):
    """The bans of one id in one jail. Times are UTC epoch seconds."""

    jail: str
    ip: str
    bans: int
    last: float
    until: float | None
    """When the last ban ends, or was ended by an unban; None if never or unknown."""
    unbanned: bool = False
    """Whether fail2ban reported its end."""
    permanent: bool = False
    """Whether the last ban has no end, and was not lifted."""
    host: str | None = None
    """Of a fleet, where it was banned; None on a single host."""


@dataclass(frozen=True)
class Rebans:
    """Repeat bans of addresses."""

    spared: int
    """Bans, of the addresses that the digest may show, that happened while a ban time doubling with each ban would
    still have held: the time that bantime.increment gives without a factor or formula."""
    spared_addresses: int
    """Whose bans these were."""
    frequent: int
    """Addresses with at least the requested number of bans, over all jails."""
    frequent_bans: int
    """Theirs."""
    prolonged: bool
    """Whether fail2ban prolonged a ban: some jail has bantime.increment."""
