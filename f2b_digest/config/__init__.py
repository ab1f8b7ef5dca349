"""The configuration: parses TOML into one typed, frozen object, or reports all mistakes. Nothing is printed here."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, create_model

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
"""Valid names of reports and channels; they become part of Message-IDs and file names."""
FAIL2BAN_DATABASE = Path("/var/lib/fail2ban/fail2ban.sqlite3")
PACES = {"daily": "day", "weekly": "week", "monthly": "month"}
"""Default of `every`, by the report's name."""


@dataclass(frozen=True)
class Configuration:
    """A valid configuration, with defaults filled in."""

    host: str
    timezone: ZoneInfo
    store: str | None
    """A path, sqlite:///path, or a fleet's postgresql://…; None for the default path."""
    templates: Path | None
    """A folder whose templates take precedence over the built-in ones."""
    reports: Mapping[str, Report]
    """By name; there is at least one."""
    channels: Mapping[str, Channel]
    """By name."""
    keep: float = 400 * 86400.0
    """Seconds to keep reported events and sent messages."""
    fail2ban_database: Path = FAIL2BAN_DATABASE
    """fail2ban's own database; `send` compares the store with it, if it is readable."""
    friends: tuple[AnyNetwork, ...] = ()
    """The admin's own networks: a ban of one needs attention."""
    proxies: tuple[AnyNetwork, ...] = ()
    """Reverse proxies in front of this host."""
    known_quiet: tuple[str, ...] = ()
    """Jails that may be silent or stopped."""
    language: str = "en"
    """Language of reports that do not set one."""
    geography: tuple[Path, ...] = ()
    """Address databases to use instead of those found on this host."""
    warnings: tuple[str, ...] = ()
    """Problems that do not prevent delivery, one line each."""

    @property
    def jails(self) -> dict[str, tuple[str, ...]]:
        """Return the jail patterns by report."""
        return {name: report.jails for name, report in self.reports.items()}

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """Return each report's patterns of hosts."""
        return {name: report.hosts for name, report in self.reports.items()}


def load(
    path: Path | None, *, host: str, timezone: str, language: str = "en", environment: Mapping[str, str] | None = None
) -> Configuration:
    """Read a configuration file; None returns the built-in one: a report `daily` of all jails, no channels.

    `host`, `timezone` and `language` are the defaults for keys that the file does not set. Keys like token_env
    are looked up in `environment`. Raises ConfigurationError with every mistake.
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
    """Parse the content of a configuration file, which need not exist yet; the other arguments are those of `load`."""
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
    """Return whether a store is a fleet's centre rather than a file on this host."""
    return isinstance(store, str) and store.startswith(("postgresql://", "postgres://"))


def _without(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}


def _checked(
    model: type[Model], place: str, values: Mapping[str, Any], context: dict[str, Any], mistakes: list[str]
) -> Model | None:
    """Return a validated table; on mistakes, append them to `mistakes` with their place and return None."""
    made, found = check(model, values, context)
    mistakes += [f"{'.'.join(filter(None, (place, key)))}: {text}" for key, text in found]
    return made


def _channel(place: str, values: dict[str, Any], context: dict[str, Any], mistakes: list[str]) -> Channel | None:
    """Return a channel. If the kind is mistyped, check the table as the closest kind, to find its other mistakes."""
    kind = values.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return _checked(KINDS[kind], place, values, context, mistakes)
    problem = "is missing" if kind is None else f"no such kind: {kind!r}"
    mistakes.append(f"{place}.kind: {problem} ({hint('known', KINDS, kind)})")
    close = get_close_matches(kind, KINDS, 1) if isinstance(kind, str) else []
    if close:
        _checked(KINDS[close[0]], place, values | {"kind": close[0]}, context, mistakes)
    else:
        _checked(_any_kind(), place, _without(values, "kind"), context, mistakes)
    return None


def _any_kind() -> type[BaseModel]:
    """Return a model of the keys common to all kinds of channels; it accepts others."""
    common: dict[str, Any] = {
        name: (each.annotation, each) for name, each in Channel.model_fields.items() if name != "kind"
    }
    return create_model("_AnyKind", __config__=ConfigDict(extra="allow"), **common)


def _between(table: dict[str, Any], channels: Mapping[str, Channel | None], *, forwards: bool) -> list[str]:
    """Return what is wrong between the keys of a report, and between reports and channels.

    A host that `forwards` can leave all reports to its fleet's centre.
    """
    none = table.get("reports") == {} and not forwards
    mistakes = ["reports: none defined: add one like [reports.daily]"] if none else []
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
    """Return (name, table) pairs below `key`; append a mistake for each invalid name or value that is not a table."""
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
    """Return text with control characters escaped: a TOML key can contain any."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _readable_secrets(path: Path | None, tables: Iterable[Channel | Report | None]) -> list[str]:
    """Return a warning for each world-readable file with a secret."""
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
    """Return a warning for each configured language without a translation."""
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
