"""Single bans that a digest looks at more closely, as plain values. Nothing is masked here."""

from dataclasses import dataclass
from typing import NamedTuple


class Sample(NamedTuple):
    """The last ban of an address that has log lines."""

    ip: str
    matches: str
    """The lines as fail2ban handed them over: an attacker wrote parts of them, and nothing is masked."""
    users: tuple[str, ...]
    """Names that this ban's lines tried."""


class Banned(NamedTuple):
    """The bans of one address in one jail. Times are UTC epoch seconds."""

    jail: str
    ip: str
    bans: int
    failures: int | None
    """Of the bans whose failures are known; None where none are."""
    uncounted: int
    """Bans whose failures are unknown."""
    first: float
    last: float
    lifted: bool
    """Whether the last ban was ended before its time."""
    users: tuple[str, ...]
    """Names that the last ban's log lines tried."""
    matches: str | None
    """The last ban's log lines; nothing is masked."""


class Chosen(NamedTuple):
    """The bans of one id in one jail. Times are UTC epoch seconds."""

    jail: str
    ip: str
    bans: int
    last: float
    until: float | None
    """When the last ban ends, or was ended by an unban; None if never or unknown."""
    unbanned: bool = False
    """Whether fail2ban told that it is over."""
    permanent: bool = False
    """Whether the last ban has no end, and was not lifted."""


@dataclass(frozen=True)
class Rebans:
    """How often addresses were banned again."""

    spared: int
    """Bans of the addresses that the digest may show that came while a ban time doubling from ban to ban would still
    have held: the time that bantime.increment gives without a factor or formula."""
    spared_addresses: int
    """Whose bans these were."""
    frequent: int
    """Addresses with at least as many bans as was asked for, over all jails."""
    frequent_bans: int
    """Theirs."""
    prolonged: bool
    """Whether fail2ban prolonged a ban: some jail has bantime.increment."""
