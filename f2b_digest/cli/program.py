"""What every command needs to know: the global options, the clock, this machine, and the store's owner.

Imports only click, like the entry point: `record` runs for every ban.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from f2b_digest import privileges, recorder
from f2b_digest.cli import language
from f2b_digest.cli.environment import local_language, local_zone
from f2b_digest.errors import ConfigurationError, F2bDigestError, hint

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from f2b_digest.config import Configuration
    from f2b_digest.host import Gathered
    from f2b_digest.model.host_context import HostContext

SYSTEM_CONFIGURATION = Path("/etc/f2b-digest/config.toml")
NO_BREAK = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
"""What French writes before a colon, and within numbers; str.isprintable() refuses it."""


class Program:
    """The global options, what is known of the machine, and the store's owner."""

    # A plain class: importing dataclasses would be a fifth of `record`'s start-up.
    def __init__(
        self,
        config: Path | None,
        store: str | None,
        *,
        clock: Callable[[], float],
        verbose: bool = False,
        asks_host: bool = True,
    ) -> None:
        """Take the options; `clock` returns UTC epoch seconds, and with `asks_host` commands may query this machine."""
        self.config = config
        self.store = store
        self.verbose = verbose
        self.asks_host = asks_host
        self.clock = clock
        self.gathered: Gathered | None = None

    def configuration(self) -> "Configuration":
        """Load the configuration, and print its warnings. Raises ConfigurationError."""
        loaded = self.quiet_configuration()
        for warning in loaded.warnings:
            complain(warning)
        return loaded

    def quiet_configuration(self) -> "Configuration":
        """Load the configuration without printing its warnings.

        Raises ConfigurationError; for root also if other users can change the file, or a template folder.
        """
        from f2b_digest import config
        from f2b_digest.cli import logs

        logs.keep_silent()
        privileges.refuse_changeable(self.config)
        loaded = config.load(
            self.config,
            host=os.uname().nodename,
            timezone=local_zone(),
            language=local_language(os.environ),
            environment=os.environ,
        )
        language.speak(loaded.language)
        privileges.refuse_changeable(loaded.templates, *(report.templates for report in loaded.reports.values()))
        return loaded

    def begin(self, configuration: "Configuration", *, looks: bool = False) -> Path:
        """When root and the store is another user's, switch to that user irrevocably; return the store's path.

        What only root may open is opened before: with `looks`, the information about this host. A command
        opens the store, and whatever else an attacker may have written to, after this. Raises ConfigurationError, or
        StoreError.
        """
        path = self.store_path(configuration.store)
        if looks and self.asks_host:
            from f2b_digest import host

            self.gathered = host.gather(configuration, self._oldest_login(configuration))
        if self.becomes_another(configuration):
            prepare(configuration)
        self.become_owner(path, languages_of(configuration))
        if self.gathered:
            self.gathered.database.copy()
        return path.absolute() if os.geteuid() else path

    def becomes_another(self, configuration: "Configuration") -> bool:
        """Return whether `begin` will become another user. Raises ConfigurationError or StoreError."""
        if self.is_centre(configuration.store):
            return os.geteuid() == 0
        return os.geteuid() == 0 and privileges.owner_of(self.store_path(configuration.store)) is not None

    def become_owner(self, path: Path, languages: Iterable[str] | None = None) -> None:
        """When root and the store is another user's, switch to that user irrevocably. Raises StoreError.

        The program and the given languages are loaded before; for None, nothing is.
        """
        if os.geteuid() != 0 or privileges.owner_of(path) is None:
            return
        from f2b_digest.cli import preload

        if languages is not None:
            preload.load(languages)
        preload.keep_modules_open()
        owner = privileges.become_owner(path)
        if self.verbose and owner:
            import logging

            logging.getLogger(__name__).info("switched to %s, who owns %s", owner.name, path.parent)

    def _oldest_login(self, configuration: "Configuration") -> float:
        from f2b_digest.analysis.own_addresses import LOGINS_BEFORE
        from f2b_digest.periods import DAY, seconds

        return (
            self.clock()
            - DAY
            - LOGINS_BEFORE
            - max((seconds(report.every or "week") for report in configuration.reports.values()), default=DAY)
        )

    def host_context(self, configuration: "Configuration") -> "HostContext":
        """Return what `begin` gathered of this host, and warn of unreadable address databases.

        Empty for sample bans, which are not this host's.
        """
        from f2b_digest.model.host_context import UNKNOWN_HOST

        if self.gathered is None:
            return UNKNOWN_HOST
        from f2b_digest import host

        known, notes = host.read(self.gathered, configuration, self._oldest_login(configuration), self.clock())
        for note in notes:
            complain(note)
        return known

    def is_centre(self, configured: object) -> bool:
        """Return whether the store is a fleet's centre: that of --store, else the configuration's."""
        name = self.store or configured
        return isinstance(name, str) and name.startswith(("postgresql://", "postgres://"))

    def store_path(self, configured: object) -> Path:
        """Return where the store is: --store, else the configuration's (beside it), else the default.

        Raises ConfigurationError.
        """
        name = self.store or configured
        if not name:
            return Path(recorder.DEFAULT_STORE) if os.geteuid() == 0 else _state_home() / "f2b-digest/bans.sqlite3"
        if not isinstance(name, str):  # `record` takes the configuration as it stands
            raise ConfigurationError([f"{self.config}: store: must be a string"])
        if name.startswith("sqlite:///"):
            name = name.removeprefix("sqlite:///")
        elif self.is_centre(name):
            raise ConfigurationError(
                ["the store is a fleet's centre, which has no events of this host: this command needs a host's store"]
            )
        elif "://" in name or name.startswith(("postgresql:", "postgres:")):
            scheme = name.partition(":")[0]
            raise ConfigurationError(
                [f"store {scheme}://…: a store is a path, sqlite:///path, or a fleet's postgresql://…"]
                if "://" in name
                else [f"store {scheme}:…: a fleet's centre is postgresql://…, with two slashes"]
            )
        folder = self.config.absolute().parent if self.config and not self.store else Path()
        try:
            return folder / Path(name).expanduser()
        except RuntimeError:
            raise ConfigurationError([f"store {name}: no such user"]) from None


def prepare(configuration: "Configuration") -> None:
    """Let the channels, and the pings of reports, load what they need; failures are reported at delivery."""
    import logging

    if any(report.ping for report in configuration.reports.values()):
        from f2b_digest.channels import http  # noqa: F401
    for name, channel in configuration.channels.items():
        try:
            channel.prepare()
        except Exception:
            logging.getLogger(__name__).info("channel %s could not be prepared", name, exc_info=True)


def languages_of(configuration: "Configuration") -> set[str]:
    """Return the languages of the reports."""
    return {configuration.language, *filter(None, (report.language for report in configuration.reports.values()))}


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")


def system_configuration() -> Path | None:
    """Return the system's configuration where there is one, or where this user may not see: reading it says so."""
    try:
        there = SYSTEM_CONFIGURATION.exists()
    except PermissionError:
        there = True
    return SYSTEM_CONFIGURATION if there else None


def ended(work: Callable[[], object]) -> int:
    """Do something; expected errors become one line and an exit status, which is returned."""
    try:
        work()
    except F2bDigestError as error:
        for line in str(error).splitlines():
            complain(line)
        return error.exit_status
    except OSError as error:  # out of file descriptors, disk errors: possibly temporary
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or type(error).__name__}: interrupted by a system error; try again")
        return 75
    return 0


def complain(line: str) -> None:
    """Print a one-line message on standard error, in the language, with control characters escaped."""
    complain_as_is(language.told(line))


def complain_as_is(line: str) -> None:
    """Print a one-line message on standard error, with control characters escaped; the log of -v is English."""
    visible = "".join(c if c.isprintable() or c in NO_BREAK else repr(c)[1:-1] for c in line)
    click.echo(f"f2b-digest: {visible}", err=True)


def say(line: str) -> None:
    """Print a line in the language, and empty ones after it as they are."""
    text = line.rstrip("\n")
    click.echo(language.told(text) + line[len(text) :])


def report_named(configuration: "Configuration", name: str) -> str:
    """Return a report's name. Raises UsageError with the known names."""
    if name not in configuration.reports:
        raise click.UsageError(f"no report {name!r} ({hint('there is', configuration.reports, name)})")
    return name


def zone_of(configuration: "Configuration", report: str) -> "ZoneInfo":
    """Return the zone of a report's times; the configuration's if the report is gone."""
    from f2b_digest import composition

    return composition.zone_of(configuration, report) if report in configuration.reports else configuration.timezone
