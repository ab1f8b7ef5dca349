"""What a digest says, as plain values: made by the store, cut to size here, shown by the templates. No SQL, no text."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any

from pydantic import TypeAdapter

DOCUMENT_VERSION = 1
"""Of the JSON form; a reader of an older one need not fear a new key."""
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
    failures: int = 0


@dataclass(frozen=True)
class LeftOut:
    """What a cut took away, counted."""

    jails: int = 0
    addresses: int = 0
    """Within one jail; not counted where whole jails were left out."""
    bans: int = 0


@dataclass(frozen=True)
class Address:
    """What one banned id did in one jail."""

    ip: str
    """fail2ban's id: mostly an address, but a network or any text as well."""
    bans: int
    failures: int
    first: datetime
    last: datetime
    """The time of the last failure before the first and the last ban."""
    bantime: int | None
    """Seconds of the last ban, as finally prolonged; -1 is permanent; None where nobody said."""
    until: datetime | None
    """When the last ban ends; None if never or unknown."""
    users: tuple[str, ...] = ()
    """Names that were tried, the most frequent first."""
    more_users: int = 0


@dataclass(frozen=True)
class Jail:
    """What one jail banned, the worst addresses first."""

    name: str
    bans: int
    addresses: int
    failures: int
    worst: tuple[Address, ...] = ()
    left_out: LeftOut = LeftOut()


@dataclass(frozen=True)
class Undelivered:
    """What an earlier digest of the report could not deliver."""

    digest: int
    """Its number, for `f2b-digest show` and `resend`."""
    sealed_at: datetime
    channel: str
    recipient: str
    status: str
    """deferred: will be tried again; failed: will not."""
    reason: str


@dataclass(frozen=True)
class CrossCheck:
    """What fail2ban's own database says of a digest's bans."""

    recorded: int
    """Bans of the digest."""
    known: int
    """Of these, how many the database still has; it forgets in a day, and what is unbanned by hand."""
    added: int
    """Of these, how many were missing, and were taken from there."""
    jails: tuple[str, ...] = ()
    """Where fail2ban bans, and our action does not seem to record."""


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
    """What went wrong in the making of this digest."""
    crosscheck: CrossCheck | None = None
    """None where that database could not be read, and in a preview."""


def cut(digest: Digest, jails: int, addresses: int) -> Digest:
    """Return the digest with at most so many jails, and addresses of each; what goes is counted in `left_out`."""
    gone = digest.jails[jails:]
    return replace(
        digest,
        jails=tuple(_cut_jail(jail, addresses) for jail in digest.jails[:jails]),
        left_out=LeftOut(
            jails=digest.left_out.jails + len(gone), bans=digest.left_out.bans + sum(jail.bans for jail in gone)
        ),
    )


def _cut_jail(jail: Jail, addresses: int) -> Jail:
    gone = jail.worst[addresses:]
    left_out = LeftOut(
        addresses=jail.left_out.addresses + len(gone), bans=jail.left_out.bans + sum(address.bans for address in gone)
    )
    return replace(jail, worst=jail.worst[:addresses], left_out=left_out)


def document(digest: Digest) -> dict[str, Any]:
    """Return the digest as nested dicts and lists: what templates and JSON readers get."""
    return {"version": DOCUMENT_VERSION, **asdict(digest)}


def to_json(digest: Digest, indent: int | None = None) -> str:
    """Return the digest as a JSON text, times in ISO 8601."""
    return json.dumps(document(digest), default=datetime.isoformat, indent=indent)


def from_json(text: str) -> Digest:
    """Return the digest that `to_json` wrote; its times keep their offsets and lose their zone's name."""
    return TypeAdapter(Digest).validate_json(text)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of what `to_json` writes."""
    made = TypeAdapter(Digest).json_schema(mode="serialization")
    made["properties"] = {"version": {"const": DOCUMENT_VERSION}, **made["properties"]}
    for each in (made, *made["$defs"].values()):  # a default is written too
        each["required"] = list(each["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def moment(at: float, zone: tzinfo) -> datetime:
    """Return epoch seconds as a time in a zone, at the latest the end of the year 9999."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND - 86400), zone)


def ban_end(last: float, bantime: int | None, zone: tzinfo) -> datetime | None:
    """Return when a ban ends, as fail2ban reckons: so many seconds after the last failure."""
    return None if bantime is None or bantime < 0 else moment(last + bantime, zone)
