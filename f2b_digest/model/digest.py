"""The digest, as plain values: made from the store, shown by the templates. No SQL, no text."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from f2b_digest.model.advice import Advice
from f2b_digest.model.facts import Fact, Verdict
from f2b_digest.model.fleet import Fleet

PERMANENT = -1
"""fail2ban's ban time for a ban without an end."""
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Totals:
    """The counts of a whole digest."""

    bans: int = 0
    addresses: int = 0
    """Distinct banned ids, whatever their jails."""
    jails: int = 0
    failures: int | None = 0
    """Those that are known; None where they are of no ban."""
    uncounted: int = 0
    """Bans whose failures are unknown."""


@dataclass(frozen=True)
class LeftOut:
    """Counts of what was cut."""

    jails: int = 0
    addresses: int = 0
    """Within one jail; not counted where whole jails were left out."""
    bans: int = 0
    banned: int | None = None
    """Of the addresses, those that are banned beyond the period; None if that was not counted."""


@dataclass(frozen=True)
class Address:
    """What one banned id did in one jail."""

    ip: str
    """fail2ban's id: mostly an address, but a network or any text as well."""
    bans: int
    failures: int | None
    """Those that are known; None where they are of no ban."""
    first: datetime
    last: datetime
    """The time of the last failure before the first and the last ban."""
    bantime: int | None
    """Seconds of the last ban, as finally prolonged; -1 is permanent; None if unknown."""
    until: datetime | None
    """When the last ban ends, or was ended by an unban; None if never or unknown."""
    users: tuple[str, ...] = ()
    """User names tried, the most frequent first."""
    more_users: int = 0
    known_since: datetime | None = None
    """Its first ban in the store, in any jail, if before the period; None for a new address."""
    country: str | None = None
    """ISO 3166-1 alpha-2, where the address is registered; None if unknown."""
    asn: int | None = None
    network: str | None = None
    """The name of the AS number's holder."""
    uncounted: int = 0
    """Bans whose failures are unknown."""
    lifted: bool = False
    """Whether it was unbanned early: `until` says when."""
    hosts: int | None = None
    """Of a fleet: how many hosts banned it in this jail; None on a single host."""


@dataclass(frozen=True)
class Jail:
    """What one jail banned, the worst addresses first."""

    name: str
    bans: int
    addresses: int
    failures: int | None
    """Those that are known; None where they are of no ban."""
    worst: tuple[Address, ...] = ()
    left_out: LeftOut = LeftOut()
    before: int | None = None
    """Bans of the period before; None where the store does not reach so far back."""
    usual: float | None = None
    """Bans: the median of the periods that this one is compared with; None where there are too few."""
    samples: tuple[str, ...] = ()
    """Log lines that led to the last bans of the worst addresses, shortened and redacted."""
    uncounted: int = 0
    """Bans whose failures are unknown."""
    hosts: int | None = None
    """Of a fleet: how many hosts banned in it; None on a single host."""


@dataclass(frozen=True)
class Compared:
    """The digest compared with earlier periods, over the report's jails."""

    before: int | None = None
    """Bans of the period before, of the same length; None where the store does not reach so far back."""
    usual: float | None = None
    """Bans: the median of `periods`; None where there are too few."""
    periods: int = 0
    """How many whole periods of the last four weeks (at least four) the store knows."""
    new: int = 0
    """Addresses that were never banned before, in any jail."""
    returning: int = 0
    """The others."""


@dataclass(frozen=True)
class Several:
    """An id that was banned in more than one jail."""

    ip: str
    jails: tuple[str, ...]
    bans: int


@dataclass(frozen=True)
class Campaign:
    """A campaign: at least k addresses of one /24 (IPv4) or /48 (IPv6), or 2k others of one AS number.

    A campaign of an AS number has all of its addresses, including those of such a network.
    """

    network: str | None
    """None for a campaign of an AS number."""
    asn: int | None
    """Like `name` and `country`, of the address with the most bans."""
    name: str | None
    """Of the AS number's holder."""
    country: str | None
    addresses: int
    bans: int
    failures: int | None
    """Those that are known; None where they are of no ban."""
    jails: tuple[str, ...]
    """The one with the most bans first."""
    users: tuple[str, ...]
    """User names tried, the most frequent first."""
    more_users: int
    cidrs: tuple[str, ...]
    """What to block: the network itself; for an AS number, the /24s and /48s that its addresses are in, those with
    the most addresses first, at most 256."""
    uncounted: int = 0
    """Bans whose failures are unknown."""
    first: datetime | None = None
    last: datetime | None = None
    """The times of its first and last ban."""
    tight: int = 0
    """The largest number of addresses first banned within three hours."""
    tight_from: datetime | None = None
    """When these hours began."""
    on_accounts: int = 0
    """Addresses that tried an account, other than root, that can log in here."""
    hosts: int | None = None
    """Of a fleet: how many hosts banned its addresses; None on a single host."""


@dataclass(frozen=True)
class User:
    """A user name that was tried, over all jails."""

    name: str
    bans: int
    """That named it."""
    addresses: int
    exists: bool
    """Whether this host has such a user."""
    hosts: int | None = None
    """Of a fleet: on how many hosts it was tried; None on a single host."""


@dataclass(frozen=True)
class Users:
    """The user names tried."""

    names: int
    """Distinct ones."""
    bans: int
    """Bans with a user name."""
    most: tuple[User, ...]
    """Those of the most bans."""
    existing: tuple[User, ...]
    """This host's users among them, the most bans first."""


@dataclass(frozen=True)
class Bar:
    """The bans of an hour, a day or a week."""

    start: datetime
    bans: int


@dataclass(frozen=True)
class When:
    """When the bans happened, in the report's zone."""

    unit: str
    """hour, day or week: what each of `bars` stands for; the first and the last may be shorter."""
    bars: tuple[Bar, ...]
    heat: tuple[tuple[int, ...], ...] = ()
    """Seven rows, Monday first, of 24 hours each; empty where the period has no whole week."""


@dataclass(frozen=True)
class Country:
    """A country of registration."""

    code: str
    addresses: int
    bans: int


@dataclass(frozen=True)
class Network:
    """An AS number."""

    asn: int
    name: str | None
    addresses: int
    bans: int


@dataclass(frozen=True)
class Where:
    """Where the addresses are registered, by a database of this host."""

    source: str
    """The database's name."""
    made_at: datetime
    licence: str
    """The attribution that its licence requires."""
    looked_up: int
    """Addresses, those with the most bans first."""
    unknown: int
    """Of these."""
    countries: tuple[Country, ...]
    networks: tuple[Network, ...]
    """Empty where the database knows countries only."""


@dataclass(frozen=True)
class Lifted:
    """A ban that was lifted early."""

    jail: str
    ip: str
    banned_at: datetime
    lifted_at: datetime


@dataclass(frozen=True)
class FailedJail:
    """What failed in one jail."""

    name: str
    addresses: int
    """That failed there, and that no jail banned."""


@dataclass(frozen=True)
class NeverBanned:
    """Addresses that failed and were never banned in the period, by fail2ban's log."""

    addresses: int
    """Distinct ones, of all jails."""
    jails: tuple[FailedJail, ...]
    """The one with the most first."""
    since: datetime
    """From when on the log tells: the period's start, or later."""


@dataclass(frozen=True)
class Undelivered:
    """What an earlier digest of the report could not deliver."""

    digest: int
    """Its number, for `f2b-digest show` and `resend`."""
    sealed_at: datetime
    channel: str
    recipient: str
    status: str
    """deferred: will be retried; failed: will not."""
    reason: str


@dataclass(frozen=True)
class Reconciliation:
    """What fail2ban's own database says of a digest's bans."""

    recorded: int
    """Bans of the digest."""
    known: int
    """Of these, how many the database still has; it forgets after a day, and at a manual unban."""
    added: int
    """Of these, how many were missing, and were recovered from there."""
    jails: tuple[str, ...] = ()
    """Jails in which fail2ban bans, but the f2b-digest action does not seem to record."""


@dataclass(frozen=True)
class Digest:
    """One issue of a report."""

    report: str
    host: str
    timezone: str
    start: datetime
    end: datetime
    totals: Totals
    jails: tuple[Jail, ...] = ()
    """The one with the most bans first."""
    left_out: LeftOut = LeftOut()
    """Whole jails."""
    undelivered: tuple[Undelivered, ...] = ()
    notes: tuple[str, ...] = ()
    """Errors while this digest was made."""
    reconciliation: Reconciliation | None = None
    """None where that database could not be read, and in a preview."""
    unseen: tuple[str, ...] = ()
    """What this host has and could not be looked at: server (fail2ban's), logins (sshd's), database (fail2ban's),
    addresses and users (this host's), log (fail2ban's, where the report has `failures`)."""
    verdict: Verdict = "stands_out"
    """A digest that was not analysed is not called quiet."""
    facts: tuple[Fact, ...] = ()
    """The findings: those that need attention, then the news, each the most urgent first."""
    compared: Compared = Compared()
    several: tuple[Several, ...] = ()
    """The ids in the most jails."""
    several_in_all: int = 0
    campaigns: tuple[Campaign, ...] = ()
    """The one with the most bans first; one concentrated in time counts up to double."""
    campaigns_in_all: int = 0
    campaign_from: int = 5
    """Number of addresses that form a campaign."""
    shown: int | None = 5
    """Maximum number of addresses per jail in a message, twice as many over all jails; None for all."""
    users: Users | None = None
    when: When | None = None
    where: Where | None = None
    """None if this host has no address database."""
    never_banned: NeverBanned | None = None
    """None where the report does not ask for it, and where fail2ban's log cannot be read."""
    lifted: tuple[Lifted, ...] = ()
    """Bans that were lifted manually in this period, the latest first."""
    lifted_in_all: int = 0
    advice: tuple[Advice, ...] = ()
    fleet: Fleet | None = None
    """The hosts, at a fleet's centre; None on a host."""


def moment(at: float, zone: tzinfo) -> datetime:
    """Return epoch seconds as a time in a zone, at the latest the end of the year 9999."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND - 86400), zone)
