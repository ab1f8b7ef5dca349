"""The configuration: TOML to one typed, frozen object, or every mistake in it at once. Nothing is printed here."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, create_model

from f2b_digest import resources
from f2b_digest.channels import KINDS
from f2b_digest.channels.base import Channel
from f2b_digest.config.keys import Report, Top
from f2b_digest.config.mistakes import Model, check
from f2b_digest.errors import ConfigurationError, hint, unreadable
from f2b_digest.model.host_context import AnyNetwork
from f2b_digest.rendering.i18n import known, language_of

__all__ = ["Configuration", "Report", "Top", "load", "parse"]

NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")
"""Of a report or a channel: it stands in Message-IDs and file names."""
FAIL2BAN_DATABASE = Path("/var/lib/fail2ban/fail2ban.sqlite3")
PACES = {"daily": "day", "weekly": "week", "monthly": "month"}
"""What a report's name says of its `every`."""

_COMMON: dict[str, Any] = {
    name: (each.annotation, each) for name, each in Channel.model_fields.items() if name != "kind"
}
_OfAnyKind = create_model("_OfAnyKind", __config__=ConfigDict(extra="allow"), **_COMMON)
"""What every channel has, whatever its kind."""


@dataclass(frozen=True)
class Configuration:
    """What the program was told."""

    host: str
    timezone: ZoneInfo
    store: str | None
    """A path, or an SQLAlchemy URL of SQLite; None is the default place."""
    templates: Path | None
    """A folder whose templates go before the built-in ones."""
    reports: Mapping[str, Report]
    channels: Mapping[str, Channel]
    keep: float = 400 * 86400.0
    """Seconds for which events and messages stay in the store once they are reported."""
    fail2ban_database: Path = FAIL2BAN_DATABASE
    """What a send compares the store with, if it can read it."""
    friends: tuple[AnyNetwork, ...] = ()
    """Whose ban needs the admin."""
    proxies: tuple[AnyNetwork, ...] = ()
    """What passes visitors on to this host."""
    known_quiet: tuple[str, ...] = ()
    """Jails that may be silent or stopped."""
    language: str = "en"
    """Of a report that has none of its own."""
    geography: tuple[Path, ...] = ()
    """Databases of addresses to use instead of what this host has."""
    warnings: tuple[str, ...] = ()
    """What does not stop a delivery, but should be mended."""

    @property
    def jails(self) -> dict[str, tuple[str, ...]]:
        """Return each report's patterns of jails."""
        return {name: report.jails for name, report in self.reports.items()}

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """Return each report's patterns of hosts."""
        return {name: report.hosts for name, report in self.reports.items()}


def load(
    path: Path | None, *, host: str, timezone: str, language: str = "en", environment: Mapping[str, str] | None = None
) -> Configuration:
    """Read a configuration, or the built-in one (a report `daily` of all jails, no channels) for None.

    `host`, `timezone` and `language` hold where the file says nothing; `environment` is where keys like token_env look.
    Raises ConfigurationError with every mistake.
    """
    content = b"" if path is None else _read(path)
    return parse(content, path, host=host, timezone=timezone, language=language, environment=environment)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError([unreadable(path, error)]) from None


def parse(
    content: bytes,
    path: Path | None,
    *,
    host: str,
    timezone: str,
    language: str = "en",
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """Return what a configuration's file says that holds, or is to hold, some bytes; all else is as for `load`."""
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from None
    context = {"folder": path.absolute().parent if path else None, "environment": environment or {}}
    return _build(table, path, {"host": host, "timezone": timezone, "language": language}, context)


def _build(
    table: dict[str, Any], path: Path | None, defaults: dict[str, Any], context: dict[str, Any]
) -> Configuration:
    mistakes: list[str] = []
    top = _checked(Top, "", defaults | _without(table, "reports", "channels"), context, mistakes)
    channels = {
        name: _channel(f"channels.{name}", values, context, mistakes)
        for name, values in _tables(table, "channels", mistakes)
    }
    reports = {
        name: _checked(Report, f"reports.{name}", {"every": PACES.get(name)} | values, context, mistakes)
        for name, values in _tables({"reports": {"daily": {}}} | table, "reports", mistakes)
    }
    mistakes += _between(table, channels, forwards=path is not None and path.with_name(resources.CREDENTIAL).exists())
    if mistakes or top is None:
        raise ConfigurationError([_one_line(f"{path}: {mistake}") for mistake in mistakes])
    return Configuration(
        host=top.host,
        timezone=ZoneInfo(top.timezone),
        store=top.store,
        keep=int(top.keep[:-1]) * (604800.0 if top.keep[-1] == "w" else 86400.0),
        templates=top.templates,
        fail2ban_database=top.fail2ban_database or FAIL2BAN_DATABASE,
        friends=tuple(ip_network(text, strict=False) for text in top.friends),
        proxies=tuple(ip_network(text, strict=False) for text in top.proxies),
        known_quiet=top.known_quiet,
        language=top.language,
        geography=top.geography,
        reports={name: report for name, report in reports.items() if report},
        channels={name: channel for name, channel in channels.items() if channel},
        warnings=(*_readable_secrets(path, [*channels.values(), *reports.values()]), *_foreign(table, reports)),
    )


def is_centre(store: object) -> bool:
    """Return whether a store is a fleet's centre, and no file of this host."""
    return isinstance(store, str) and store.startswith(("postgresql://", "postgres://"))


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _checked(
    model: type[Model], place: str, values: Mapping[str, Any], context: dict[str, Any], mistakes: list[str]
) -> Model | None:
    """Return a table as an object, or None, and its mistakes among the others."""
    made, found = check(model, values, context)
    mistakes += [f"{'.'.join(filter(None, (place, key)))}: {text}" for key, text in found]
    return made


def _channel(place: str, values: dict[str, Any], context: dict[str, Any], mistakes: list[str]) -> Channel | None:
    """Return a channel; one of a mistyped kind is checked as what was meant, for its other mistakes."""
    kind = values.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return _checked(KINDS[kind], place, values, context, mistakes)
    problem = "is missing" if kind is None else f"no such kind: {kind!r}"
    mistakes.append(f"{place}.kind: {problem} ({hint('known', KINDS, kind)})")
    close = get_close_matches(kind, KINDS, 1) if isinstance(kind, str) else []
    if close:
        _checked(KINDS[close[0]], place, values | {"kind": close[0]}, context, mistakes)
    else:
        _checked(_OfAnyKind, place, _without(values, "kind"), context, mistakes)
    return None


def _between(table: dict[str, Any], channels: Mapping[str, Channel | None], *, forwards: bool) -> list[str]:
    """Return what is wrong between the keys of a report, and between reports and channels.

    A host that `forwards` can leave all reports to its fleet's centre.
    """
    mistakes = []
    if table.get("reports") == {} and not forwards:
        mistakes.append("reports: none defined: add one like [reports.daily], or join a fleet first")
    for name, values in _tables(table, "reports", []):
        if values.get("period") == "calendar" and values.get("every", PACES.get(name)) not in PACES.values():
            mistakes.append(f'reports.{name}.every: "calendar" needs "day", "week" or "month"')
        if values.get("failures") is True and is_centre(table.get("store")):
            mistakes.append(f"reports.{name}.failures: is for a host's own store, a fleet's centre reads no log")
        wanted = values.get("channels", ())
        for channel in wanted if isinstance(wanted, list) else ():
            if isinstance(channel, str) and channel not in channels:
                there_is = hint("known", channels, channel) or "no channels defined"
                mistakes.append(f"reports.{name}.channels: no channel {channel!r} ({there_is})")
    return mistakes


def _tables(table: dict[str, Any], key: str, mistakes: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return the named tables below `key`; what is no table is a mistake, and a name that cannot be used is another."""
    tables = table.get(key, {})
    if not isinstance(tables, dict):
        mistakes.append(f"{key}: must be tables like [{key}.name]")
        return []
    found = []
    for name, values in tables.items():
        if not isinstance(values, dict):
            mistakes.append(f"{key}.{name}: must be a table like [{key}.name]")
            continue
        if not NAME.fullmatch(name):
            mistakes.append(f"{key}.{name}: names have up to 40 letters, digits, '-', '_' and '.'")
        found.append((name, values))
    return found


def _one_line(text: str) -> str:
    """Return text with its line ends and control characters as escapes: a key of TOML can hold any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _readable_secrets(path: Path | None, tables: Iterable[Channel | Report | None]) -> list[str]:
    """Return a line for each file with a secret that everybody on this host may read."""
    files = set()
    for table in filter(None, tables):
        held = [secret for name in table.secrets if (secret := getattr(table, name))]
        if path and (getattr(table, "headers", None) or any(secret.inline for secret in held)):
            files.add(path)
        files |= {secret.file for secret in held if secret.file}
    return [
        f"{file} contains a secret and is world-readable: chmod o-r {file}" for file in sorted(files) if _is_open(file)
    ]


def _foreign(table: dict[str, Any], reports: Mapping[str, Report | None]) -> list[str]:
    """Return a line for each language that the file names, and that there are no words for."""
    named = {"language": table.get("language")}
    named |= {f"reports.{name}.language": report.language for name, report in reports.items() if report}
    return [
        _one_line(f"{place}: {name!r} is not supported (known: {', '.join(known())}); using English")
        for place, name in named.items()
        if name is not None and language_of(name) is None
    ]


def _is_open(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & 0o004)
    except OSError:  # the channel says so when it reads the file
        return False
