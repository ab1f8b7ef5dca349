"""The top-level keys of the configuration, and those of a report. Channels define their own in f2b_digest.channels."""

import re
from ipaddress import ip_network
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from f2b_digest.channels.keys import ConfiguredPath, Secret, WithSecrets
from f2b_digest.channels.urls import check_server
from f2b_digest.periods import PACES

EVERY = re.compile(r"[1-9][0-9]{0,3}[mh]")
AGE = re.compile(r"[1-9][0-9]{0,4}[dw]")


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # unknown, a folder of zones, or not a name
        raise ValueError(f"{name!r} is not a time zone (e.g. Europe/Paris)") from None
    return name


def _patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if all(pattern.startswith("!") for pattern in patterns):
        raise ValueError('matches nothing: start with "*" or a name')
    return patterns


def _network(text: str) -> str:
    try:
        ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network (e.g. 192.0.2.7 or 192.0.2.0/24)") from None
    return text


def _age(text: str) -> str:
    if not AGE.fullmatch(text):
        raise ValueError(f"{text!r} is not an age (e.g. 400d or 52w; at least 1d)")
    return text


def _every(text: str) -> str:
    if text not in PACES and not EVERY.fullmatch(text):
        raise ValueError(f'{text!r} is not valid: use "day", "week", "month", or a time like "5m" or "2h"')
    return text


def _ping(url: Secret) -> Secret:
    if url.inline:
        check_server(url.held.get_secret_value())
    return url


class Report(WithSecrets):
    """A report: which jails, how often, and to which channels."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    channels: tuple[str, ...] = ()
    """Names of the channels that get the digest, as in [channels.NAME]. Example: ["mail", "phone"]."""
    jails: Annotated[tuple[str, ...], AfterValidator(_patterns)] = ("*",)
    """Jails in this report, as shell patterns; a pattern that starts with "!" excludes."""
    hosts: Annotated[tuple[str, ...], AfterValidator(_patterns)] = ("*",)
    """Hosts in this report, as shell patterns, where the store has bans of several hosts (a fleet's centre or hub); "!"
    excludes, too.
    Example: ["web*", "!web9*"]."""
    quiet: Literal["skip", "send"] = "skip"
    """When nothing was banned: "skip" sends nothing, "send" sends a digest that says so."""
    min_bans: int = Field(default=1, ge=1)
    """Wait until at least this many bans are pending. Findings that need attention are sent anyway."""
    templates: ConfiguredPath | None = None
    """Folder of templates for this report; they take precedence over all others. Example: "weekly-templates"."""
    period: Literal["pending", "calendar"] = "pending"
    """What a digest covers: "pending" is all since the last digest, "calendar" is whole days, weeks or months."""
    every: Annotated[str, AfterValidator(_every)] | None = None
    """How often the report is due: "day", "week", "month", or minutes or hours like "5m". cron starts it.
    Default: taken from the names daily, weekly and monthly. Example: "day".
    """
    unbans: bool = False
    """Send a digest also when nothing was banned, but a ban was lifted by hand."""
    failures: bool = False
    """Count the addresses that failed and were never banned in the period; fail2ban must log to a file."""
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    """Time zone of this report. Default: the top-level timezone. Example: "Asia/Tokyo"."""
    language: str | None = None
    """Language of this report. Default: the top-level language. Example: "fr"."""
    addresses: int = Field(default=5, ge=0, le=50)
    """Most addresses of a jail in a message, and twice as many of all jails; the archive has every one."""
    ping: Annotated[Secret, AfterValidator(_ping)] | None = None
    """URL of a monitor that raises an alarm when pings stop or tell of a failure: healthchecks, or Uptime Kuma's push.
    Pinged after each send of this report. Example: "https://hc-ping.com/0f0f0f0f-0000-4000-8000-000000000000".
    """
    campaign: int = Field(default=5, ge=2)
    """Number of addresses of one /24 or /48 network that make a campaign; twice as many of one AS number."""


class Top(BaseModel):
    """The keys outside the tables of reports and channels."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """Name of this machine in digests. Default: the host name. Example: "web1.example.org"."""
    timezone: Annotated[str, AfterValidator(_zone)]
    """Time zone of all times in digests. Default: the system's. Example: "Europe/Paris"."""
    keep: Annotated[str, AfterValidator(_age)] = "400d"
    """How long reported events and sent messages are kept, in days (400d) or weeks (52w)."""
    store: str | None = None
    """Path of the SQLite store, the same as in the jails' action; or the address of a fleet's centre, postgresql://…
    Default: /var/lib/fail2ban/f2b-digest/bans.sqlite3 for root,
    $XDG_STATE_HOME/f2b-digest/bans.sqlite3 for other users. Example: "/var/lib/fail2ban/f2b-digest/bans.sqlite3".
    """
    templates: ConfiguredPath | None = None
    """Folder of your own templates; they take precedence over the built-in ones. Example: "templates"."""
    fail2ban_database: ConfiguredPath | None = None
    """fail2ban's own database, which each send compares with the store. Default: /var/lib/fail2ban/fail2ban.sqlite3.
    Example: "/var/lib/fail2ban/fail2ban.sqlite3".
    """
    friends: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Your own addresses and networks: a ban of one of them needs attention. Example: ["203.0.113.0/24"]."""
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Reverse proxies in front of this host, beside large CDNs and what nginx, Apache and Caddy trust: a ban of one of
    them needs attention. Example: ["198.51.100.0/24"].
    """
    known_quiet: tuple[str, ...] = ()
    """Jails that are meant to be silent or stopped: nothing is said of that. Example: ["vsftpd"]."""
    language: str
    """Of digests and commands: "en", "de" or "fr". Default: from the environment (LC_ALL, LANG). Example: "en"."""
    geography: tuple[ConfiguredPath, ...] = ()
    """Databases of countries and networks to use, instead of those found on this host.
    Example: ["/var/lib/GeoIP/GeoLite2-Country.mmdb", "/var/lib/GeoIP/GeoLite2-ASN.mmdb"].
    """
