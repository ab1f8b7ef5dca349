"""The configuration: what loads, what is refused, and that mistakes are reported with their place, without secrets."""

import json
import os
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from f2b_digest import config
from f2b_digest.channels import KINDS
from f2b_digest.channels.email import Email
from f2b_digest.channels.file import File
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.config import Configuration
from f2b_digest.errors import ConfigurationError
from tests.support.fail2ban_server import as_the_server
from tests.support.program import Command
from tests.support.store_making import event, fill

FULL = """
host = "web1.example.org"
timezone = "Europe/Paris"
store = "bans.sqlite3"
templates = "own"

[reports.daily]
channels = ["mail", "phone"]

[reports.weekly]
channels = ["files"]
jails = ["*", "!recidive"]
quiet = "send"
min_bans = 5

[channels.mail]
kind = "email"
from = "fail2ban@web1.example.org"
to = ["admin@example.org", "Second <second@example.org>"]
smtp = "smtp://user@mail.example.org:587"
password_file = "smtp.password"

[channels.phone]
kind = "ntfy"
url = "https://ntfy.example.org"
topic = "Alertes_web1"
token_file = "ntfy.token"

[channels.files]
kind = "file"
folder = "digests"
"""
CHANNEL = '[channels.out]\nkind = "file"\nfolder = "out"\n'
Load = Callable[[str], Configuration]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Provide the path of the configuration."""
    return tmp_path / "config.toml"


@pytest.fixture
def load(file: Path) -> Load:
    """Provide a function that loads a configuration from its text, as the owner alone may read it."""

    def from_text(text: str) -> Configuration:
        file.write_text(text)
        file.chmod(0o600)
        return config.load(file, host="this-machine", timezone="Asia/Kolkata")

    return from_text


def mistakes(load: Load, text: str) -> list[str]:
    """Return the mistakes of a configuration, without the file's name in front."""
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert caught.value.exit_status == 78
    assert all(": " in mistake and mistake.isprintable() for mistake in caught.value.mistakes)
    return [mistake.partition(": ")[2] for mistake in caught.value.mistakes]


# ---- what loads


def test_a_full_configuration_loads(load: Load, tmp_path: Path) -> None:
    """Every table and key of the documentation is known, and paths are relative to the file."""
    loaded = load(FULL)
    assert (loaded.host, str(loaded.timezone), loaded.warnings) == ("web1.example.org", "Europe/Paris", ())
    assert loaded.templates == tmp_path / "own"
    mail, phone, files = (loaded.channels[name] for name in ("mail", "phone", "files"))
    assert isinstance(mail, Email)
    assert isinstance(phone, Ntfy)
    assert isinstance(files, File)
    assert mail.recipients == ("admin@example.org", "second@example.org")
    assert mail.password
    assert phone.token
    assert (mail.password.file, phone.token.file) == (tmp_path / "smtp.password", tmp_path / "ntfy.token")
    assert files.folder == tmp_path / "digests"
    daily, weekly = loaded.reports["daily"], loaded.reports["weekly"]
    assert (daily.channels, daily.jails, daily.quiet, daily.min_bans) == (("mail", "phone"), ("*",), "skip", 1)
    assert (weekly.jails, weekly.quiet, weekly.min_bans) == (("*", "!recidive"), "send", 5)


def test_without_a_file_there_is_a_daily_report_of_all_jails() -> None:
    """A first preview needs no configuration."""
    loaded = config.load(None, host="this-machine", timezone="Asia/Kolkata")
    assert (loaded.host, str(loaded.timezone), loaded.store) == ("this-machine", "Asia/Kolkata", None)
    assert [(name, report.jails, report.channels) for name, report in loaded.reports.items()] == [("daily", ("*",), ())]


def test_a_file_without_reports_has_the_daily_one(load: Load) -> None:
    """A host name alone is a configuration."""
    assert list(load('host = "web1"').reports) == ["daily"]


def test_a_relative_store_stands_beside_the_configuration(
    f2b_digest: Command, file: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cron job runs in another folder than the admin; all commands use the same store."""
    file.write_text(f'store = "{path.name}"\n')
    folder = path.parent / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert f2b_digest("--config", "../config.toml", "record", "--jail", "sshd", "--ip", "192.0.2.1").status == 0
    assert "1 ban" in f2b_digest("--config", file, "preview").out
    assert path.exists()
    assert list(folder.iterdir()) == []


# ---- what is refused

EVERYTHING_WRONG = """
hots = "web1"
timezone = "Europe/Pari"
store = 5

[reports.daily]
channels = ["mial", "mail"]
quiet = "loud"
min_bans = 0
jail = ["*"]

[reports."no name"]

[channels.mail]
kind = "email"
from = "nobody"
to = []

[channels.phone]
kind = "nfty"

[channels.box]
folder = "x"
"""


def test_every_mistake_is_listed_at_once_with_its_place(load: Load) -> None:
    """The admin can fix all of them at once."""
    places = [mistake.partition(":")[0] for mistake in mistakes(load, EVERYTHING_WRONG)]
    assert sorted(places) == sorted([
        "hots", "timezone", "store", "reports.daily.quiet", "reports.daily.min_bans", "reports.daily.jail",
        "reports.daily.channels", "reports.no name", "channels.mail.from", "channels.mail.to", "channels.phone.kind",
        "channels.phone.url", "channels.phone.topic", "channels.box.kind",
    ])  # fmt: skip


PLANTED: dict[str, tuple[str, object, str]] = {
    # where it is, the value, and the place that the mistake names
    "an unknown key": ("hots", "web1", "hots"),
    "a zone": ("timezone", "Europe/Pari", "timezone"),
    "an age": ("keep", "soon", "keep"),
    "an empty host": ("host", "", "host"),
    "a friend": ("friends.1", "192.0.2", "friends.1"),
    "a report's zone": ("reports.daily.timezone", "Mars", "reports.daily.timezone"),
    "a jail": ("reports.daily.jails", ["!sshd"], "reports.daily.jails"),
    "quiet": ("reports.daily.quiet", "loud", "reports.daily.quiet"),
    "a number": ("reports.daily.min_bans", 0, "reports.daily.min_bans"),
    "a type": ("reports.weekly.campaign", "many", "reports.weekly.campaign"),
    "a channel that is not there": ("reports.daily.channels", ["mial", "files"], "reports.daily.channels"),
    "another in its list": ("reports.weekly.channels", ["fils"], "reports.weekly.channels"),
    "a calendar without its pace": ("reports.noon.period", "calendar", "reports.noon.every"),
    "a report that is no table": ("reports.odd", 5, "reports.odd"),
    "a report's name": ("reports.no name.jails", ["*"], "reports.no name"),
    "a report of that name": ("reports.no name.quiet", 1, "reports.no name.quiet"),
    "a kind": ("channels.files.kind", "flie", "channels.files.kind"),
    "a channel's number": ("channels.files.min_bans", -1, "channels.files.min_bans"),
    "two places": ("channels.files.maildir", "Maildir", "channels.files"),
    "two secrets": ("channels.phone.token", "hunter2", "channels.phone.token"),
    "a login of two kinds": ("channels.hook.user", "me", "channels.hook"),
    "two secrets of a hook": ("channels.hook.secret_file", "x", "channels.hook.secret"),
    "an address": ("channels.hook.url", "nowhere", "channels.hook.url"),
    "a priority": ("channels.phone.priority", "high", "channels.phone.priority"),
    "a recipient": ("channels.mail.to.1", "nobody", "channels.mail.to.1"),
    "a sender": ("channels.mail.from", "nobody", "channels.mail.from"),
    "sendmail and smtp": ("channels.mail.sendmail", "/usr/sbin/sendmail", "channels.mail"),
    "a user without a password": ("channels.second.smtp", "smtp://user@mail.example.org", "channels.second"),
    "a server that is no text": ("channels.mail.smtp", 5, "channels.mail.smtp"),
    "a format": ("channels.files.format", "pdf", "channels.files.format"),
    "a folder that is no text": ("channels.files.folder", [], "channels.files.folder"),
    "a missing key": ("channels.phone.topic", None, "channels.phone.topic"),
}


def whole() -> dict[str, Any]:
    """Return a configuration without a mistake, as a table."""
    table = tomllib.loads(FULL)
    table |= {"keep": "400d", "friends": ["192.0.2.1", "192.0.2.0/24"]}
    table["reports"]["noon"] = {}
    table["channels"]["second"] = {"kind": "email", "from": "a@b.org", "to": ["a@b.org"], "smtp": "smtp://b.org"}
    table["channels"]["hook"] = {"kind": "webhook", "url": "https://b.org", "token": "hunter2", "secret": "hunter2"}
    return table


def written(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def plant(table: Any, place: str, value: object) -> None:
    """Set a value in a table by its dotted place; None removes the key."""
    *above, last = (int(word) if word.isdigit() else word for word in place.split("."))
    for key in above:
        table = table.setdefault(key, {}) if isinstance(table, dict) else table[key]
    if value is None:
        del table[last]
    else:
        table[last] = value


def test_the_configuration_in_which_mistakes_are_planted_has_none(load: Load) -> None:
    """Otherwise the next test would prove nothing."""
    load("\n".join(f"{key} = {written(value)}" for key, value in whole().items()))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from(sorted(PLANTED)), min_size=1))
def test_no_mistake_hides_another(planted: set[str]) -> None:
    """Any combination gives one line per mistake, each with its place."""
    table = whole()
    for name in sorted(planted):
        plant(table, *PLANTED[name][:2])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text("\n".join(f"{key} = {written(value)}" for key, value in table.items()))
        with pytest.raises(ConfigurationError) as caught:
            config.load(file, host="this-machine", timezone="Asia/Kolkata")
    places = Counter(mistake.removeprefix(f"{file}: ").partition(":")[0] for mistake in caught.value.mistakes)
    expected = Counter(PLANTED[name][2] for name in planted)
    if {"a report's name", "a report of that name"} & planted:
        expected["reports.no name"] = 1
    assert places == expected
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('hots = "web1"', "hots: unknown key (did you mean host?)"),
        ('[reports.daily]\njail = ["*"]', "reports.daily.jail: unknown key (did you mean jails?)"),
        (
            '[channels.m]\nkind = "email"\nfrm = "a@b.org"\nto = ["a@b.org"]\nfrom = "a@b.org"',
            "channels.m.frm: unknown key (did you mean from?)",
        ),
        (
            '[channels.m]\nkind = "nfty"\nurl = "https://ntfy.example.org"\ntopic = "x"',
            "channels.m.kind: no such kind: 'nfty' (did you mean ntfy?)",
        ),
        (
            "[channels.m]\nfolder = 'x'",
            f"channels.m.kind: is missing (known: {', '.join(KINDS)})",
        ),
        (f'{CHANNEL}[reports.r]\nchannels = ["oot"]', "reports.r.channels: no channel 'oot' (did you mean out?)"),
        ('[reports.r]\nchannels = ["out"]', "reports.r.channels: no channel 'out' (no channels defined)"),
        (f'{CHANNEL}min_bans = "many"', "channels.out.min_bans: must be an integer"),
        (f"{CHANNEL}min_bans = -1", "channels.out.min_bans: must be at least 0"),
        (f"{CHANNEL}samples = 1.5", "channels.out.samples: must be true or false"),
        (
            '[channels.m]\nkind = "email"\nfrom = "a@b.org"\nto = "a@b.org"',
            'channels.m.to: must be a list like ["…", "…"]',
        ),
        ('[channels.m]\nkind = "email"\nfrom = "a@b.org"\nto = []', "channels.m.to: must not be empty"),
        ('[channels.m]\nkind = "email"\nto = ["a@b.org"]', "channels.m.from: is missing"),
        (
            '[channels.m]\nkind = "ntfy"\nurl = "https://b.org"\ntopic = "a b"',
            'channels.m.topic: must be letters, digits, "-" and "_" only, at most 64',
        ),
        (
            '[channels.m]\nkind = "free-mobile"\nuser = 12345678\nkey = "x"',
            'channels.m.user: must be a string like "…"',
        ),
        ('[reports.r]\nquiet = "loud"', "reports.r.quiet: must be one of 'skip', 'send'"),
        ("host = 5", 'host: must be a string like "…"'),
        ('timezone = "Mars/Base"', "timezone: 'Mars/Base' is not a time zone (e.g. Europe/Paris)"),
        ('timezone = "../etc/passwd"', "timezone: '../etc/passwd' is not a time zone (e.g. Europe/Paris)"),
        ("[reports]", "reports: none defined: add one like [reports.daily]"),
        ("reports = 5", "reports: must be tables like [reports.name]"),
        ("[reports]\ndaily = 5", "reports.daily: must be a table like [reports.name]"),
        ('[reports.r]\njails = ["!sshd"]', 'reports.r.jails: matches nothing: start with "*" or a name'),
        ("[reports.r]\njails = []", 'reports.r.jails: matches nothing: start with "*" or a name'),
    ],
)
def test_a_mistake_is_told_with_what_would_be_right(load: Load, text: str, mistake: str) -> None:
    """One line: the dotted place, the mistake, and a suggestion."""
    assert mistakes(load, text) == [mistake]


@pytest.mark.parametrize("name", ["a b", "a/b", "ü", "a\\nb", "", "x" * 41, "\\u001b]0;x"])
@pytest.mark.parametrize("table", ["reports", "channels"])
def test_names_that_could_not_stand_in_a_file_name_or_a_message_id_are_refused(
    load: Load, name: str, table: str
) -> None:
    """Reports and channels have plain names."""
    (mistake,) = mistakes(load, f'[{table}."{name}"]\n' + CHANNEL.partition("\n")[2] * (table == "channels"))
    assert "names have up to 40 letters" in mistake


@pytest.mark.parametrize("value", ["5", '"out"', '[["out"]]', "[5]", "[{}]", "true", "1979-05-27"])
def test_a_value_of_another_type_is_a_mistake_and_no_crash(load: Load, value: str) -> None:
    """Any TOML value is refused with its place."""
    for text in (f"[reports.r]\nchannels = {value}", f"[reports.r]\njails = {value}", f"timezone = {value}"):
        assert mistakes(load, text)


def test_no_mistake_repeats_a_secret(load: Load) -> None:
    """Mistakes end up in cron's mail and in support requests."""
    text = """
[channels.mail]
kind = "email"
from = "a@example.org"
to = ["b@example.org"]
smtp = "smtp://user:hunter2@mail.example.org"
password = "hunter2"
password_file = "x"
[channels.phone]
kind = "ntfy"
url = "https://user:hunter2@ntfy.example.org"
topic = "a b"
token = ["hunter2"]
pasword = "hunter2"
"""
    told = mistakes(load, text)
    assert len(told) >= 4
    assert "hunter2" not in "\n".join(told)


def test_a_syntax_error_is_told_with_file_and_line(f2b_digest: Command, file: Path) -> None:
    """Invalid TOML ends with status 78 and the line number, for `record` too."""
    file.write_text('host = "web1"\nstore = \n')
    for command in (["preview"], ["record", "--jail", "sshd", "--ip", "192.0.2.1"]):
        ended = f2b_digest("--config", file, *command)
        assert (ended.status, ended.err.count("\n")) == (78, 1)
        assert f"{file}: " in ended.err
        assert "line 2" in ended.err


@pytest.mark.parametrize("command", [["preview"], ["record", "--jail", "sshd", "--ip", "192.0.2.1"]])
def test_a_configuration_that_is_not_there_is_named(f2b_digest: Command, file: Path, command: list[str]) -> None:
    """A missing --config file is not ignored."""
    ended = f2b_digest("--config", file, *command)
    assert (ended.status, ended.err) == (78, f"f2b-digest: {file}: No such file or directory\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("command", [["preview"], ["check"], ["record", "--jail", "sshd", "--ip", "192.0.2.1"]])
def test_who_may_not_read_the_configuration_is_told_who_may(
    f2b_digest: Command, file: Path, command: list[str]
) -> None:
    """`setup` makes it readable for root only, and users start with a preview."""
    file.write_text("")
    import_module(f"f2b_digest.cli.{command[0]}")  # while this user may
    with as_the_server():
        ended = f2b_digest("--config", file, *command)
    assert ended.status == 78
    assert f"{file}: Permission denied: run this as root" in ended.out + ended.err


def test_a_configuration_that_is_no_text_is_named(f2b_digest: Command, file: Path) -> None:
    """A file in another encoding, or a binary one, gives one line."""
    file.write_bytes(b'host = "caf\xe9"\n')
    ended = f2b_digest("--config", file, "preview")
    assert (ended.status, ended.err.count("\n")) == (78, 1)


@pytest.mark.parametrize("store", ["5", '"mysql://user:hunter2@db/bans"', '"~nobody-of-that-name/bans.sqlite3"'])
@pytest.mark.parametrize("command", [["preview"], ["record", "--jail", "sshd", "--ip", "192.0.2.1"]])
def test_a_store_that_cannot_be_one_is_refused(f2b_digest: Command, file: Path, store: str, command: list[str]) -> None:
    """Every command exits with 78, and shows no password of a URL."""
    file.write_text(f"store = {store}\n")
    ended = f2b_digest("--config", file, *command)
    assert (ended.status, ended.err.count("\n")) == (78, 1)
    assert "store" in ended.err
    assert "hunter2" not in ended.err


# ---- secrets that others can read

SECRET = """
[reports.daily]
channels = ["phone"]
[channels.phone]
kind = "ntfy"
url = "https://ntfy.example.org"
topic = "alerts"
"""


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
@pytest.mark.parametrize("inline", [True, False])
def test_a_secret_that_everybody_can_read_draws_a_warning(
    f2b_digest: Command, file: Path, path: Path, mode: int, warned: bool, inline: bool
) -> None:
    """One line names the file and the command that fixes it, and the command goes on."""
    fill(path, [event()])
    token = file.parent / "ntfy.token"
    token.write_text("tk_hunter2\n")
    file.write_text(SECRET + ('token = "tk_hunter2"' if inline else 'token_file = "ntfy.token"'))
    bearer = file if inline else token
    for each in (file, token):
        each.chmod(0o600)
    bearer.chmod(mode)
    ended = f2b_digest("--config", file, "--store", path, "preview")
    assert ended.status == 0
    assert ended.err == (
        f"f2b-digest: {bearer} contains a secret and is world-readable: chmod o-r {bearer}\n" if warned else ""
    )


def test_a_secret_file_that_cannot_be_looked_at_is_no_crash(f2b_digest: Command, file: Path, path: Path) -> None:
    """A preview needs no secrets; its user may be unable to read the file."""
    fill(path, [event()])
    file.write_text(SECRET + f'token_file = "{"x" * 300}"')
    assert f2b_digest("--config", file, "--store", path, "preview").status == 0


def test_a_readable_file_without_secrets_is_fine(f2b_digest: Command, config: Path, path: Path) -> None:
    """No warning without a secret."""
    fill(path, [event()])
    config.chmod(0o644)
    assert f2b_digest("--config", config, "preview").err == ""
