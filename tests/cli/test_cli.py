"""The command line: exit statuses, silence under cron, hostile arguments, and what each command may load."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from f2b_digest import recorder
from f2b_digest.channels import KINDS
from f2b_digest.cli import COMMANDS, cli
from tests.support.program import Command, Ended, as_nobody, let_everybody_enter, program
from tests.support.store_making import NOON, event, fill, query

HEAVY = ("sqlalchemy", "jinja2", "pydantic", "urllib3")
HOURS = 3600.0


# ---- exit statuses


@pytest.mark.slow
def test_status_0_and_silence_when_all_went_well(config: Path, path: Path) -> None:
    """Cron mails whatever is printed: a send, a send of nothing and a retry print nothing."""
    fill(path, [event()])
    for command in ("send", "send", "retry"):
        assert program("--config", config, command) == Ended(0, "", "")
    assert len(list((config.parent / "out").iterdir())) == 1


@pytest.mark.slow
def test_status_1_when_a_delivery_failed_for_good(config: Path, path: Path) -> None:
    """One line says which, to whom, and why."""
    fill(path, [event()])
    mail = 'kind = "email"\nfrom = "a@example.org"\nto = ["b@example.org"]\nsendmail = "/nowhere/sendmail"\n'
    config.write_text(config.read_text().partition("[channels.out]")[0] + f"[channels.out]\n{mail}")
    ended = program("--config", config, "send")
    assert (ended.status, ended.out) == (1, "")
    assert re.fullmatch(r"f2b-digest: daily: out to b@example\.org: FAILED, .*/nowhere/sendmail.*\n", ended.err)


@pytest.mark.slow
def test_status_2_for_a_mistake_on_the_command_line(config: Path, path: Path) -> None:
    """The usage error goes to stderr."""
    fill(path, [event()])
    ended = program("--config", config, "send", "dayly")
    assert (ended.status, ended.out) == (2, "")
    assert "no report 'dayly' (did you mean daily?)" in ended.err


@pytest.mark.slow
def test_status_75_when_a_delivery_will_be_tried_again(config: Path, path: Path) -> None:
    """A full disk passes: one line says which, and retry is silent until it is due."""
    fill(path, [event()])
    (config.parent / "out").write_text("a file where the folder should be")
    ended = program("--config", config, "send")
    assert (ended.status, ended.out, ended.err.count("\n")) == (75, "", 1)
    assert "daily: out to " in ended.err
    assert program("--config", config, "retry") == Ended(0, "", "")  # not due yet


def test_retry_is_silent_when_it_delivers(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble that passed needs no further word."""
    fill(path, [event()])
    (config.parent / "out").write_text("a file where the folder should be")
    assert f2b_digest("--config", config, "send").status == 75
    (config.parent / "out").unlink()
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 2 * HOURS))
    assert f2b_digest("--config", config, "retry") == Ended(0, "", "")
    assert len(list((config.parent / "out").iterdir())) == 1


def test_a_torn_line_of_the_spool_is_kept_and_told_once(f2b_digest: Command, config: Path, path: Path) -> None:
    """What a crash cut in two cannot be stored; the events around it are, and the digest goes out."""
    whole = json.dumps(dict(zip(recorder.COLUMNS, event(ip="192.0.2.1"), strict=True)))
    Path(f"{path}.spool").write_text(f'{{"kind": "ban", "ho\n{whole}\n')
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert f"{path}.spool.torn holds 1 " in ended.err
    assert Path(f"{path}.spool.torn").read_text() == '{"kind": "ban", "ho\n'
    assert query(path, "SELECT bans FROM digest") == [(1,)]
    assert f2b_digest("--config", config, "send") == Ended(0, "", "")


def test_a_spool_that_cannot_be_taken_in_holds_back_no_digest(f2b_digest: Command, config: Path, path: Path) -> None:
    """The spool stays for the next send, one line says why, and what is in the store goes out."""
    fill(path, [event(ip="192.0.2.1")])
    query(path, "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'disk full'); END")
    Path(f"{path}.spool").write_text(json.dumps(dict(zip(recorder.COLUMNS, event(at=1), strict=True))) + "\n")
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert "disk full" in ended.err
    assert recorder.spooled(str(path)) == 1
    assert query(path, "SELECT bans FROM digest") == [(1,)]


@pytest.mark.slow
def test_status_78_for_a_mistake_in_the_configuration(config: Path) -> None:
    """Nothing is opened or sent."""
    config.write_text("hots = 1\n")
    ended = program("--config", config, "send")
    assert (ended.status, ended.out) == (78, "")
    assert ended.err == f"f2b-digest: {config}: hots: unknown key (did you mean host?)\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="closes a folder to another user")
def test_a_configuration_behind_a_closed_door_is_told_and_no_help_needs_it(
    f2b_digest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not passed over: the system's store is meant, and this user cannot read where it is."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("f2b_digest.cli.program.SYSTEM_CONFIGURATION", closed / "config.toml")
    f2b_digest("help", "find"), f2b_digest("status")  # what they load may stand in a folder of root's
    assert as_nobody(lambda: f2b_digest("help", "find")).status == 0
    told = as_nobody(lambda: f2b_digest("status"))
    assert (told.status, told.err) == (
        78, f"f2b-digest: {closed}/config.toml: Permission denied: run this as root\n"
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="closes a folder to another user")
def test_a_credential_behind_a_closed_door_is_told(f2b_digest: Command, tmp_path: Path) -> None:
    """Not as an error that goes away, which cron would try again for ever."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    f2b_digest("help", "forward")  # what it loads may stand in a folder of root's
    told = as_nobody(lambda: f2b_digest("--config", str(closed / "config.toml"), "forward"))
    assert (told.status, told.err) == (
        78, f"f2b-digest: {closed}/fleet.toml: Permission denied: run this as root\n"
    )  # fmt: skip


def test_verbose_says_what_was_sent(f2b_digest: Command, config: Path, path: Path) -> None:
    """With -v a person sees each delivery."""
    fill(path, [event()])
    assert f2b_digest("-v", "--config", config, "send").out == f"daily: out to {config.parent / 'out'}: sent\n"


def test_what_is_logged_is_silent_but_for_a_person_who_asks(config: Path, path: Path) -> None:
    """A warning of the package's own log is in no mail of cron's; -v shows it in a line, -vv with the way there."""
    fill(path, [event()])
    code = (
        "import sys\nfrom f2b_digest.rendering import i18n\nfrom f2b_digest.cli import main\n"
        "def odd(language): raise RuntimeError('odd')\ni18n._catalogue = odd\nmain()"
    )
    config.write_text('language = "fr"\n' + config.read_text())
    said = {}
    for option in ("", "-v", "-vv"):
        command = [sys.executable, "-c", code, *([option] if option else []), "--config", str(config), "preview"]
        said[option] = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert said[""] == ""
    assert "f2b-digest: language fr cannot be read; using English\n" in said["-v"]
    assert "Error" not in said["-v"]
    assert "  RuntimeError\n" in said["-vv"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["sned"], 2, "no command 'sned' (did you mean send?)"),
        (["x\x1b[2J"], 2, r"no command 'x\x1b[2J' (there is: record, preview, send,"),
        (["send", "--verbos"], 2, "No such option '--verbos'"),
        (["preview", "wekly"], 2, "no report 'wekly' (did you mean weekly?)"),
        (["history", "dally"], 2, "no report 'dally' (did you mean daily?)"),
        (["show", "1", "--format", "raw", "--channel", "oout"], 1, "by channel 'oout' is stored (did you mean out?)"),
        (["resend", "1", "--channel", "uot"], 1, "digest 1 by channel 'uot' is stored (did you mean out?)"),
        (["resend", "9", "--channel", "out"], 1, "(`f2b-digest history` lists digests)"),
    ],
)
def test_a_name_that_is_not_there_tells_which_is_meant(
    f2b_digest: Command, config: Path, path: Path, words: list[str], status: int, said: str
) -> None:
    """Of commands, reports and channels, wherever one can be typed."""
    fill(path, [event()])
    assert f2b_digest("--config", config, "send").status == 0
    config.write_text(config.read_text() + "[reports.weekly]\n")
    ended = f2b_digest("--config", config, *words)
    assert (ended.status, ended.out) == (status, "")
    assert said in ended.err


@pytest.mark.parametrize("option", ["--config", "--store"])
def test_an_option_behind_the_command_is_told_where_it_stands(f2b_digest: Command, path: Path, option: str) -> None:
    """Who knows other programs writes it there."""
    ended = f2b_digest("record", option, path, "--jail", "sshd", "--ip", "192.0.2.1")
    assert (ended.status, ended.out) == (2, "")
    assert f"{option} goes before the command: f2b-digest {option} … record" in ended.err
    assert not path.exists()


def test_no_configuration_at_all_can_be_asked_for(f2b_digest: Command, path: Path) -> None:
    """As other programs take it: /dev/null, which everybody may write to, and which holds nothing."""
    fill(path, [event()])
    ended = f2b_digest("--config", "/dev/null", "--store", path, "status")
    assert (ended.status, ended.err) == (0, "")


# ---- what loads


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["record", "--jail", "sshd", "--ip", "192.0.2.1"]])
def test_help_and_record_load_no_library_but_click(path: Path, arguments: list[str]) -> None:
    """A shell action pays for every import at every ban."""
    code = (
        "import sys\nfrom f2b_digest.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"sys.stderr.write(' '.join(name for name in {HEAVY} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, "--store", path, *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


SPARED = {
    *("sqlalchemy", "urllib3", "requests", "apprise", "httpx", "whoisit", "psycopg"),
    *("f2b_digest.rdap", "f2b_digest.checks"),
    *(f"f2b_digest.channels.{kind.replace('-', '_')}" for kind in KINDS if kind != "file"),
    *(f"f2b_digest.cli.{name}" for name in ("check", "find", "setup", "preview", "show")),
}
RENDERS = {"jinja2", "f2b_digest.rendering.environment"}


@pytest.mark.slow
@pytest.mark.parametrize("afterwards", ["", "from f2b_digest.cli import preload; preload.load(['en'])"])
def test_a_quiet_send_loads_no_other_channel_and_no_other_command(path: Path, config: Path, afterwards: str) -> None:
    """A small machine pays for each; as root, too, who loads what is needed before becoming the store's owner."""
    fill(path, [event(kind="start")])
    spared = SPARED if afterwards else SPARED | RENDERS
    code = (
        "import sys\nfrom f2b_digest.cli import main\n"
        f"try: main()\nexcept SystemExit: pass\n{afterwards}\n"
        f"sys.stderr.write(' '.join(name for name in {sorted(spared)} if name in sys.modules))"
    )
    command = [sys.executable, "-c", code, "--config", str(config), "send"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_list_of_commands_says_what_their_own_help_says() -> None:
    """The one line in the list is the first line of each command's help."""
    context = click.Context(cli)
    assert list(COMMANDS) == cli.list_commands(context)
    for name, line in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command
        assert (command.help or "").splitlines()[0] == line


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_is_readable(f2b_digest: Command, name: str) -> None:
    """No mark-up for click's eyes is left, and examples keep their lines."""
    ended = f2b_digest(*[name] * bool(name), "--help")
    assert ended.status == 0
    assert "\\b" not in ended.out
    for line in re.findall(r"^.*(?:Examples?[:,]|At any time:).*$", ended.out, re.MULTILINE):
        assert line.count(" f2b-digest ") == 1


# ---- record


def test_record_keeps_everything_it_was_told(path: Path) -> None:
    """Each option is a column, users may be many, and the matched lines can come by a pipe."""
    ended = program(
        "--store", path, "record", "--jail", "sshd", "--ip", "2001:db8::1", "--kind", "prolong", "--at", "1795089600.5",
        "--failures", "5", "--bantime", "-1", "--bancount", "3", "--user", "root", "--user", "ünal", "--host", "web9",
        "--matches", "-", stdin=b"line one\nline two \xff\n",
    )  # fmt: skip
    assert ended == Ended(0, "", "")
    columns = "jail, ip, kind, at, failures, bantime, bancount, users, host, matches, source, history"
    assert query(path, f"SELECT {columns} FROM event") == [(
        "sshd", "2001:db8::1", "prolong", 1795089600.5, 5, -1, 3, '["root", "ünal"]', "web9",
        "line one\nline two \\udcff\n", "record", 0,
    )]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (b"\xff\xfe", "\\udcff\\udcfe"),
        (b"two\nlines", "two\nlines"),
        (b"-x", "-x"),
        (b"--jail=y", "--jail=y"),
        (b"\x1b[2J", "\x1b[2J"),
        ("ж😀\u202e".encode(), "ж😀\u202e"),
        (b"'; DROP TABLE event; --", "'; DROP TABLE event; --"),
        (b"$(id) `id` %s {{ 7*7 }}", "$(id) `id` %s {{ 7*7 }}"),
    ],
)
def test_record_takes_any_bytes_as_text(config: Path, path: Path, text: bytes, stored: str) -> None:
    """Whatever an attacker made of a name is recorded, never obeyed, and can be shown."""
    options = [b"--" + option + b"=" + text for option in (b"jail", b"ip", b"user", b"matches", b"host")]
    assert program("--store", path, "record", *options) == Ended(0, "", "")
    ((jail, ip, users, matches, host),) = query(path, "SELECT jail, ip, users, matches, host FROM event")
    assert [jail, ip, *json.loads(users), matches, host] == [stored] * 5
    preview = program("--config", config, "preview")
    assert (preview.status, preview.err) == (0, "")
    assert "1 ban" in preview.out
    assert re.search(r"[^\n\x20-\x7e\x80-\U0010ffff]", preview.out) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ip", "192.0.2.1"],
        ["--jail", "sshd"],
        ["--jail", "sshd", "--ip", "192.0.2.1", "--failures", "many"],
        ["--jail", "sshd", "--ip", "192.0.2.1", "--bantime", "1h"],
        ["--jail", "sshd", "--ip", "192.0.2.1", "--at", "yesterday"],
        ["--jail", "sshd", "--ip", "192.0.2.1", "--kind", "bann"],
        ["--jail", "sshd", "--ip", "192.0.2.1", "surplus"],
    ],
)
def test_record_refuses_what_it_does_not_understand(f2b_digest: Command, path: Path, arguments: list[str]) -> None:
    """A mistake in a script is status 2, and stores nothing."""
    ended = f2b_digest("--store", path, "record", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert not path.exists()


def test_record_says_when_it_took_the_spool(f2b_digest: Command, path: Path) -> None:
    """A store that is another program's is left alone; the ban is kept beside it, and one line says so."""
    query(path, "CREATE TABLE theirs (x)")
    ended = f2b_digest("--store", path, "record", "--jail", "sshd", "--ip", "192.0.2.1")
    assert (ended.status, ended.out, ended.err.count("\n")) == (0, "", 1)
    assert f"{path}.spool" in ended.err
    assert recorder.spooled(str(path)) == 1


def test_record_fails_loudly_where_nothing_can_be_kept(f2b_digest: Command, tmp_path: Path) -> None:
    """Neither store nor spool: status 1 and the ban in the line, for the log of whoever called."""
    (tmp_path / "file").write_text("")
    ended = f2b_digest("--store", tmp_path / "file/bans.sqlite3", "record", "--jail", "sshd", "--ip", "192.0.2.1")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "NOT RECORDED" in ended.err
    assert "192.0.2.1" in ended.err


# ---- which store


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_store_is_a_path_or_an_sqlite_url(f2b_digest: Command, path: Path, form: str) -> None:
    """Both name the same file."""
    assert f2b_digest("--store", form.format(path), "record", "--jail", "sshd", "--ip", "192.0.2.1").status == 0
    assert path.exists()
    assert "1 ban" in f2b_digest("--store", form.format(path), "preview").out


def test_a_path_that_no_file_can_have_is_one_line(f2b_digest: Command, tmp_path: Path) -> None:
    """Whatever the system says of a path, it is not a traceback."""
    ended = f2b_digest("--store", tmp_path / ("x" * 300), "preview")
    assert (ended.status, ended.err.count("\n")) == (1, 1)


def test_another_database_is_refused(f2b_digest: Command) -> None:
    """Status 78, and the URL's password is not repeated."""
    ended = f2b_digest("--store", "mysql://user:hunter2@db/bans", "preview")
    assert (ended.status, ended.err.count("\n")) == (78, 1)
    assert "hunter2" not in ended.err


def test_a_user_has_a_store_of_their_own(f2b_digest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without configuration a person who is not root writes below their own state folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert f2b_digest("record", "--jail", "sshd", "--ip", "192.0.2.1").status == 0
    assert (tmp_path / "state/f2b-digest/bans.sqlite3").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_store_that_is_closed_itself_is_blamed_and_not_its_folder(f2b_digest: Command, path: Path) -> None:
    """The folder may be open to this user, and the file may not."""
    fill(path, [event()])
    let_everybody_enter(path)
    path.parent.chmod(0o777)
    path.chmod(0o600)
    code = (
        "import os; from pathlib import Path; from f2b_digest.store import Store, connection\n"
        "os.setresuid(65534, 65534, 65534)\n"
        f"print(connection.explain(Path({str(path)!r}), 'unable to open database file'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{path} cannot be opened by this user: run this as root\n"


# ---- preview


@pytest.fixture
def four_days(f2b_digest: Command, config: Path, path: Path) -> Path:
    """Provide a configuration whose store has a ban at noon of each of four days, all of them reported."""
    fill(path, [event(ip=f"192.0.2.{day}", at=NOON - day * 24 * HOURS) for day in range(4)])
    assert f2b_digest("--config", config, "send").status == 0
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "days"),
    [
        ([], []),
        (["--since", "2h"], [0]),
        (["--since", "2d"], [0, 1]),
        (["--since", "1w"], [0, 1, 2, 3]),
        (["--since", "2026-11-18"], [0, 1]),
        (["--since", "2026-11-17 12:00", "--until", "2026-11-18 12:00"], [2]),
        (["--since", "yesterday"], [0, 1]),
        (["--since", "tuesday", "--until", "Wed"], [2]),
        (["--since", "2026-11-17T12:00", "--until", "2026-11-18T12:00:01"], [1, 2]),
        (["--since", "2026-11-18T14:00+02:00", "--until", "1h"], [1]),
        (["--until", "2026-11-17"], [3]),
        (["--since", "0001-01-01", "--until", "9999-12-31"], [0, 1, 2, 3]),
    ],
)
def test_a_preview_of_any_past_period(
    f2b_digest: Command, four_days: Path, options: list[str], days: list[int]
) -> None:
    """--since and --until take dates, times and ages, the end excluded, whether reported or not."""
    ended = f2b_digest("--config", four_days, "preview", *options)
    assert (ended.status, ended.err) == (0, "")
    assert sorted(re.findall(r"192\.0\.2\.(\d)", ended.out)) == [str(day) for day in days]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "yesterdy"], "yesterday, monday"),
        (["--since", "7"], "7d"),
        (["--until", "2026-13-01"], "invalid time"),
        (["--since", "1h", "--until", "2h"], "not before"),
        (["--format", "pdf"], "html"),
        (["dayly"], "did you mean daily?"),
        (["urgent"], "there is: daily"),
        (["--channel", "oot"], "no channel 'oot' (did you mean out?)"),
        (["--channel", "x"], "no channel 'x' (there is: out)"),
    ],
)
def test_a_preview_of_what_is_not_there_tells_what_is(
    f2b_digest: Command, four_days: Path, arguments: list[str], words: str
) -> None:
    """A mistake is status 2 with the forms or names that exist."""
    ended = f2b_digest("--config", four_days, "preview", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in ended.err


def test_a_preview_can_go_into_a_file(f2b_digest: Command, config: Path, path: Path, tmp_path: Path) -> None:
    """--output writes what would be shown, and shows nothing."""
    fill(path, [event()])
    shown = f2b_digest("--config", config, "preview", "--format", "html").out
    assert f2b_digest("--config", config, "preview", "--format", "html", "--output", tmp_path / "x.html") == Ended(
        0, "", ""
    )
    assert (tmp_path / "x.html").read_text() == shown


def test_a_preview_into_a_folder_that_is_not_there_is_one_line(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """The line names the file and the reason."""
    fill(path, [event()])
    ended = f2b_digest("--config", config, "preview", "--output", tmp_path / "no/x.html")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert str(tmp_path / "no/x.html") in ended.err
    assert "No such file or directory" in ended.err


def test_a_preview_tells_of_the_spool(f2b_digest: Command, config: Path, path: Path) -> None:
    """What waits beside the store is not in the preview, and stderr says so."""
    fill(path, [event()])
    Path(recorder.spool_path(str(path))).write_text('{"an": "event"}\n' * 2)
    ended = f2b_digest("--config", config, "preview")
    assert ended.status == 0
    assert ended.err == f"f2b-digest: 2 more events are in {path}.spool for the next send\n"


@pytest.mark.slow
def test_a_zone_that_the_machine_made_up_stops_nothing(path: Path) -> None:
    """A broken TZ costs the local times, not the digest."""
    fill(path, [event()])
    for zone in ("Nowhere/Else", "CET-1CEST", ":/nowhere", ""):
        assert program("--store", path, "preview", TZ=zone).status == 0


# ---- status


def test_status_tells_what_is_pending_and_what_was_not_delivered(f2b_digest: Command, config: Path, path: Path) -> None:
    """The admin reads the whole reason, when the next attempt is, and what waits where."""
    fill(path, [event(ip="192.0.2.1")])
    (config.parent / "out").write_text("a file where the folder should be")
    f2b_digest("--config", config, "send")
    fill(path, [event(ip="192.0.2.2"), event(ip="192.0.2.3")])
    Path(recorder.spool_path(str(path))).write_text('{"an": "event"}\n')
    ended = f2b_digest("--config", config, "status")
    assert (ended.status, ended.err) == (0, "")
    assert str(path) in ended.out
    assert "1 event waits" in ended.out
    assert re.search(r"daily +2 bans pending since .*; last digest Thu 19 Nov 2026 13:00, 1 ban", ended.out)
    assert re.search(r"deferred daily of Thu 19 Nov 2026 13:00: out to .*, 1 attempt, next attempt .* 13:05", ended.out)
    assert f"{config.parent / 'out'}: " in ended.out


def test_status_for_programs(f2b_digest: Command, config: Path, path: Path) -> None:
    """--json has the same in numbers, times as UTC epoch seconds."""
    fill(path, [event(ip="192.0.2.1", recorded_at=NOON)])
    (config.parent / "out").write_text("a file where the folder should be")
    f2b_digest("--config", config, "send")
    fill(path, [event(ip="192.0.2.2", recorded_at=NOON + 60)])
    state = json.loads(f2b_digest("--config", config, "status", "--json").out)
    assert (state["store"], state["spooled"]) == (str(path), 0)
    assert state["bytes"] >= path.stat().st_size
    assert state["reports"]["daily"] == {
        "pending_bans": 1, "pending_since": NOON + 60, "last_digest": {"sealed_at": NOON + HOURS, "bans": 1},
        "channels": ["out"],
    }  # fmt: skip
    (undelivered,) = state["undelivered"]
    assert (undelivered["status"], undelivered["next_at"]) == ("deferred", NOON + HOURS + 300)


def test_status_shows_no_control_characters(f2b_digest: Command, config: Path, path: Path) -> None:
    """What a server answered, or a folder is called, does not reach the terminal as it is."""
    config.write_text(config.read_text().replace('"out"\n', '"o\\u001b]0;x\\u0007ut"\n'))
    fill(path, [event()])
    (config.parent / "o\x1b]0;x\x07ut").write_text("")
    f2b_digest("--config", config, "send")
    out = f2b_digest("--config", config, "status").out
    assert "deferred" in out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)
