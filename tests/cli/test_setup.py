"""`setup`: into a tree, and on its own machine with a real fail2ban of each version, which bans nobody."""

import hashlib
import io
import json
import os
import py_compile
import re
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from f2b_digest import config, recorder, resources
from f2b_digest.cli.setup.machine import own_path
from f2b_digest.fail2ban import jails as fail2ban_jails
from tests.support.fail2ban_server import VERSIONS
from tests.support.machine import Machine
from tests.support.parts import program
from tests.support.program import Command, Ended

pytestmark = pytest.mark.slow

Setup = Callable[..., Ended]
SNIPPET = f"etc/fail2ban/{fail2ban_jails.SNIPPET}"
ACTION = "etc/fail2ban/action.d/f2b-digest.py"
CRON = "etc/cron.d/f2b-digest"
CONFIGURATION = "etc/f2b-digest/config.toml"
LINE = fail2ban_jails.action_line(recorder.DEFAULT_STORE)
JAILS = """
[DEFAULT]
destemail = admin@example.org
[sshd]
enabled = true
[recidive]
enabled = true
action = dummy[actname=one]
         dummy[actname=two, target="/run/%%x"]
[apache-auth]
enabled = false
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Provide a tree with fail2ban's stock configuration and a few jails, on a system with cron and a sendmail."""
    program("fail2ban-client", "apt install fail2ban")
    tree = tmp_path / "tree"
    shutil.copytree("/etc/fail2ban", tree / "etc/fail2ban")
    (tree / "etc/fail2ban/jail.local").write_text(JAILS)
    (tree / "usr/sbin").mkdir(parents=True)
    for name in ("cron", "sendmail"):
        (tree / "usr/sbin" / name).touch()
    return tree


@pytest.fixture
def setup(f2b_digest: Command, tree: Path) -> Setup:
    """Provide `setup` into the tree as a function of its other arguments."""
    return lambda *arguments: f2b_digest("setup", "--root", tree, "--program", "/opt/f2b-digest", *arguments)


def files(tree: Path) -> dict[str, tuple[int, float, bytes]]:
    """Return mode, time and content of all that is in a tree."""
    return {
        str(path.relative_to(tree)): (path.stat().st_mode, path.stat().st_mtime, path.read_bytes())
        for path in tree.rglob("*")
        if path.is_file()
    } | {str(path.relative_to(tree)): (path.stat().st_mode, 0, b"") for path in tree.rglob("*") if path.is_dir()}


def actions(tree: Path) -> dict[str, list[str]]:
    """Return the names of each enabled jail's actions, as fail2ban reads them."""
    jails = fail2ban_jails.effective(tree / "etc/fail2ban")
    return {jail: [command[3] for command in jails[jail] if command[2:3] == ["addaction"]] for jail in jails}


def add_jail(tree: Path, text: str, name: str = "jail.d/mine.local") -> None:
    """Add lines of the admin's to fail2ban's jails."""
    (tree / "etc/fail2ban" / name).write_text(text)


# ---- into a tree


def test_every_enabled_jail_keeps_its_actions_and_gets_ours(setup: Setup, tree: Path) -> None:
    """The jails that are enabled do what they did, and then record; the others are not touched."""
    before = actions(tree)
    assert setup().status == 0
    assert actions(tree) == {jail: [*names, "f2b-digest"] for jail, names in before.items()}
    assert before == {"sshd": ["iptables-multiport"], "recidive": ["one", "two"]}
    assert "apache-auth" not in (tree / SNIPPET).read_text()


def test_a_jail_that_records_already_is_left_alone(setup: Setup, tree: Path) -> None:
    """By the Python action, by the shell one, or by an action of the admin's that calls the program."""
    (tree / "etc/fail2ban/action.d/mine.conf").write_text("[Definition]\nactionban = f2b-digest record --ip=<ip>\n")
    shutil.copy(resources.folder("action.d") / "f2b-digest.conf", tree / "etc/fail2ban/action.d")
    add_jail(
        tree, f"[sshd]\naction = {LINE}\n[recidive]\naction = f2b-digest\n[apache-auth]\nenabled = true\naction=mine"
    )
    before = actions(tree)
    assert setup().status == 0
    assert actions(tree) == before == {"sshd": ["f2b-digest"], "recidive": ["f2b-digest"], "apache-auth": ["mine"]}
    assert not (tree / SNIPPET).exists()


def test_a_jail_that_cannot_be_added_to_is_left_as_it_is(setup: Setup, tree: Path) -> None:
    """fail2ban follows known/action one step only, and a later file has the last word: others get their line."""
    add_jail(tree, "[sshd]\naction = %(known/action)s\n         dummy\n")
    add_jail(tree, "[recidive]\naction = dummy\n", "jail.d/zzz.local")
    add_jail(tree, "[apache-auth]\nenabled = true\n", "jail.d/web.local")
    assert setup().status == 0
    assert actions(tree) == {
        "sshd": ["iptables-multiport", "dummy"],
        "recidive": ["dummy"],
        "apache-auth": ["iptables-multiport", "f2b-digest"],
    }


def test_a_second_setup_changes_nothing(setup: Setup, tree: Path) -> None:
    """No file is written again, and the snippet does not take itself for somebody else's action."""
    setup()
    before = files(tree)
    assert setup() == Ended(0, "all files are up to date\n", "")
    assert files(tree) == before


def test_a_jail_that_was_enabled_since_is_added(setup: Setup, tree: Path) -> None:
    """Setup again, and the new jail records; one that was disabled loses its lines."""
    setup()
    add_jail(tree, "[apache-auth]\nenabled = true\n[sshd]\nenabled = false\n")
    setup()
    assert actions(tree) == {
        "apache-auth": ["iptables-multiport", "f2b-digest"],
        "recidive": ["one", "two", "f2b-digest"],
    }


def test_uninstall_leaves_the_tree_as_it_was(setup: Setup, tree: Path) -> None:
    """All but the configuration goes, also the folders that setup made."""
    before = files(tree)
    setup()
    assert setup("--uninstall").status == 0
    left = files(tree)
    assert {name for name in left if name not in before} == {"etc/f2b-digest", CONFIGURATION}
    assert {name: left[name] for name in before} == before


def test_uninstall_takes_what_fail2ban_compiled_of_our_action(setup: Setup, tree: Path) -> None:
    """The code that Python keeps beside a file that it imports; that of an action of the admin's stays."""
    before = files(tree)
    setup()
    compiled = Path(py_compile.compile(str(tree / ACTION), doraise=True) or "")
    setup("--uninstall")
    assert not compiled.parent.exists()
    setup()
    py_compile.compile(str(tree / ACTION), doraise=True)
    mine = compiled.with_name(compiled.name.replace("f2b-digest", "f2b-digest-mine"))
    mine.write_bytes(b"mine")
    setup("--uninstall")
    left = set(files(tree)) - set(before)
    assert left == {str(path.relative_to(tree)) for path in (compiled.parent, mine)} | {"etc/f2b-digest", CONFIGURATION}


def test_uninstall_leaves_the_store(setup: Setup, tree: Path) -> None:
    """Bans outlive the program that told them."""
    setup()
    store = tree / recorder.DEFAULT_STORE[1:]
    store.write_bytes(b"bans")
    setup("--uninstall")
    assert store.read_bytes() == b"bans"


@pytest.mark.parametrize("name", [SNIPPET, CRON, ACTION])
def test_a_file_that_a_person_changed_survives(setup: Setup, tree: Path, name: str) -> None:
    """What is different is named, once and again; nothing is laid beside it, and uninstall lets the person's stay."""
    setup()
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    (tree / name).write_text((tree / name).read_text() + "\nmine = 1\n")
    before[tree / name] = (tree / name).read_bytes()
    for _ in range(2):
        ended = setup()
        assert ended.err == f"f2b-digest: {tree / name} was edited and is kept; it has `mine = 1`\n"
        assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before
    ended = setup("--uninstall")
    assert "\nmine = 1\n" in (tree / name).read_text()
    if name == CRON:
        assert "its f2b-digest lines are turned off" in ended.out
    else:
        assert "was edited and is kept" in ended.err


def cron_lines(tree: Path) -> list[str]:
    """Return the lines of cron's file that start something."""
    return [line for line in (tree / CRON).read_text().splitlines() if line.startswith(("@", "*", "0", "3"))]


def test_a_changed_time_is_the_admins(setup: Setup, tree: Path) -> None:
    """The first edit that anybody makes: setup again has nothing to say of it, and leaves nothing in cron.d."""
    setup()
    (tree / CRON).write_text(re.sub("^@daily ", "30 6 * * 1-5", (tree / CRON).read_text(), flags=re.MULTILINE))
    before = files(tree)
    for _ in range(2):
        assert setup() == Ended(0, "all files are up to date\n", "")
    assert files(tree) == before
    assert [path.name for path in (tree / CRON).parent.iterdir()] == ["f2b-digest"]


OLD_CRON = """\
# f2b-digest: copy this file to /etc/cron.d/f2b-digest (owner root, mode 0644).
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
MAILTO=root

{daily}         f2b-digest  /opt/old/f2b-digest send daily
#@weekly       f2b-digest  /opt/old/f2b-digest send weekly
*/10 * * * *   f2b-digest  /opt/old/f2b-digest retry
"""


@pytest.mark.parametrize("daily", ["@daily", "0 7 * * *"])
def test_an_installation_of_the_old_kind_is_moved_over(setup: Setup, tree: Path, daily: str) -> None:
    """Cron's lines run as root, and call the program that is there; the admin's times stay."""
    setup()
    old = OLD_CRON.format(daily=daily)
    (tree / CRON).write_text(old)
    if daily == "@daily":  # nobody changed it
        manifest = tree / "etc/f2b-digest/setup.json"
        known = json.loads(manifest.read_text())
        known["files"][f"/{CRON}"] = hashlib.sha256(old.encode()).hexdigest()
        manifest.write_text(json.dumps(known))
    ended = setup()
    assert ended.err == ""
    assert str(tree / CRON) in ended.out
    daily_line, retry_line = cron_lines(tree)
    assert daily_line.split() == [*daily.split(), "root", "/opt/f2b-digest", "send", "daily"]
    assert retry_line.split() == ["*/10", "*", "*", "*", "*", "root", "/opt/f2b-digest", "retry"]
    assert setup().out == "all files are up to date\n"


def test_only_what_must_be_is_changed_in_an_admins_cron_file(setup: Setup, tree: Path) -> None:
    """A program that is there, an option, a pipe and the spaces stay; what else is different is reported in a line."""
    setup()
    (tree / "opt").mkdir()
    (tree / "opt/mine-f2b-digest").touch()
    own = "30 6 * * *\tmail nice /opt/mine-f2b-digest --config /x send  daily 2>&1 | logger # mine\n@hourly root true\n"
    (tree / CRON).write_text(own)
    ended = setup()
    assert (tree / CRON).read_text() == own.replace("\tmail ", "\troot ")
    assert f"{tree / CRON} was edited and is kept; it lacks `SHELL=/bin/sh` and `PATH=" in ended.err
    assert "and has `@hourly root true`" in ended.err


def test_what_an_earlier_setup_laid_beside_a_file_goes(setup: Setup, tree: Path) -> None:
    """Some crons run a file of any name."""
    setup()
    beside, manifest = tree / f"{CRON}.new", tree / "etc/f2b-digest/setup.json"
    beside.write_text("@daily f2b-digest /opt/f2b-digest send daily\n")
    known = json.loads(manifest.read_text())
    known["files"][f"/{CRON}.new"] = hashlib.sha256(beside.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(known))
    assert f"remove {beside}" in setup().out
    assert [path.name for path in (tree / CRON).parent.iterdir()] == ["f2b-digest"]


def test_systemds_times_are_the_admins_too(setup: Setup, tree: Path) -> None:
    """And a unit of the old kind runs as root."""
    setup("--scheduler", "systemd")
    timer, service = (tree / f"etc/systemd/system/f2b-digest-send@.{kind}" for kind in ("timer", "service"))
    timer.write_text(timer.read_text().replace("OnCalendar=%i", "OnCalendar=Mon *-*-* 07:00:00"))
    service.write_text(service.read_text().replace("User=root", "User=f2b-digest\nNice=19"))
    ended = setup("--scheduler", "systemd")
    assert ended.err == f"f2b-digest: {service} was edited and is kept; it has `Nice=19`\n"
    assert "\nUser=root\nNice=19\n" in service.read_text()
    assert "OnCalendar=Mon" in timer.read_text()
    assert "systemctl daemon-reload" in ended.out
    before = files(tree)
    setup("--scheduler", "systemd")
    assert files(tree) == before
    assert "systemctl disable --now f2b-digest-send@daily.timer" in setup("--uninstall").out


def test_uninstall_leaves_no_cron_line_that_fails(setup: Setup, tree: Path) -> None:
    """A file that the admin changed stays, and starts nothing of ours any more; the rest of it does."""
    setup()
    text = (tree / CRON).read_text().replace("@daily ", "0 7 * * *") + "@hourly root true\n"
    (tree / CRON).write_text(text)
    ended = setup("--uninstall", "--dry-run")
    assert (tree / CRON).read_text() == text
    assert f"would change {tree / CRON}" in ended.out
    ended = setup("--uninstall")
    assert f"change {tree / CRON}  (edited by hand: only its f2b-digest lines are turned off" in ended.out
    assert cron_lines(tree) == ["@hourly root true"]
    assert "#off# 0 7 * * *" in (tree / CRON).read_text()
    ended = setup()
    assert f"change {tree / CRON}\n" in ended.out
    assert (tree / CRON).read_text() == text


def test_purge_after_uninstall_leaves_nothing(setup: Setup, tree: Path) -> None:
    """What uninstall kept goes: the store, its folder, the configuration, the cron lines that it turned off."""
    setup()
    (tree / CRON).write_text((tree / CRON).read_text().replace("@daily ", "0 7 * * *"))
    store_with_all_beside_it(tree)
    setup("--uninstall")
    ended = setup("--purge", "--yes")
    assert (ended.status, ended.err) == (0, "")
    assert [name for name in files(tree) if "f2b-digest" in name] == []
    for option in ("--purge", "--uninstall"):
        ended = setup(option, "--yes")
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith(("nothing left", "only the program is left to remove"))
        assert "stay" not in ended.out


def test_purge_keeps_what_the_admin_added_to_cron(setup: Setup, tree: Path) -> None:
    """And says that the file is still there."""
    setup()
    (tree / CRON).write_text((tree / CRON).read_text() + "@hourly root true\n")
    for _ in range(2):
        ended = setup("--purge", "--yes")
        assert cron_lines(tree) == ["@hourly root true"]
        assert f"{tree / CRON} is kept: it also starts something else" in ended.err


def store_with_all_beside_it(tree: Path) -> Path:
    """Make every file that a store can have beside it, and return the store."""
    store = tree / recorder.DEFAULT_STORE[1:]
    for end in ("", "-wal", "-shm", ".spool", ".spool.taken", ".spool.torn", ".damaged"):
        Path(f"{store}{end}").write_bytes(b"bans")
    return store


def test_purge_leaves_nothing(setup: Setup, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store, configuration, manifest and a cron file with another time, too; only what was listed, and with --yes."""
    before = files(tree)
    setup()
    store = store_with_all_beside_it(tree)
    (tree / CRON).write_text((tree / CRON).read_text().replace("@daily ", "0 7 * * *"))
    installed = files(tree)
    dry = setup("--purge", "--dry-run")
    assert files(tree) == installed
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = setup("--purge")
    assert "nothing was removed" in asked.out
    assert files(tree) == installed
    ended = setup("--purge", "--yes")
    assert (ended.status, ended.err) == (0, "")
    assert files(tree) == before
    gone = {str(tree / name) for name, (_, _, content) in installed.items() if content and name not in before}
    for text in (dry.out, asked.out, ended.out):
        assert {path for path in gone if path not in text} == set()
    assert not store.parent.exists()


def test_purge_follows_no_link_and_keeps_what_is_not_ours(setup: Setup, tree: Path, tmp_path: Path) -> None:
    """The store's owner can lay links there; a folder with a file of somebody's stays, and is named."""
    setup()
    (tmp_path / "shadow").write_text("root:x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/bans.sqlite3").write_text("somebody's")
    store = store_with_all_beside_it(tree)
    Path(f"{store}.damaged").unlink()
    Path(f"{store}.damaged").symlink_to(tmp_path / "shadow")
    store.with_name("notes").write_text("mine")
    (tree / "etc/f2b-digest/smtp.password").write_text("secret")
    ended = setup("--purge", "--yes")
    assert (tmp_path / "shadow").read_text() == "root:x"
    assert [path.name for path in store.parent.iterdir()] == ["notes"]
    assert [path.name for path in (tree / "etc/f2b-digest").iterdir()] == ["smtp.password"]
    assert f"{store.parent} is kept: it contains files that setup did not create: notes" in ended.err
    assert f"{tree}/etc/f2b-digest is kept: it contains files that setup did not create: smtp.password" in ended.err
    setup()
    shutil.rmtree(store.parent)
    store.parent.symlink_to(tmp_path / "folder")
    setup("--purge", "--yes")
    assert (tmp_path / "folder/bans.sqlite3").read_text() == "somebody's"


def test_purge_waits_until_no_jail_records(setup: Setup, tree: Path) -> None:
    """The store would be made again at the next ban; and fail2ban would not start without the action."""
    setup()
    add_jail(tree, f"[apache-auth]\naction = dummy\n         {LINE}\n")
    before = files(tree)
    ended = setup("--purge", "--yes")
    assert ended.status == 1
    assert "jail.d/mine.local: remove the lines of f2b-digest, then run this again" in ended.err
    assert files(tree) == before


def test_a_file_that_was_there_before_survives(setup: Setup, tree: Path) -> None:
    """What setup did not write is never overwritten, and not taken back even where it is the same."""
    (tree / "etc/cron.d").mkdir()
    (tree / CRON).write_text("# mine\n")
    shutil.copy(resources.folder("action.d") / "f2b-digest.py", tree / ACTION)
    setup()
    setup("--uninstall")
    assert (tree / CRON).read_text() == "# mine\n"
    assert (tree / ACTION).exists()


def test_a_newer_version_replaces_what_setup_wrote(setup: Setup, tree: Path) -> None:
    """A file that nobody changed since setup wrote it is the program's to renew."""
    setup()
    for name in (ACTION, CRON):
        (tree / name).write_text("# an older version\n")
    manifest = tree / "etc/f2b-digest/setup.json"
    known = json.loads(manifest.read_text())
    older = hashlib.sha256(b"# an older version\n").hexdigest()
    known["files"] |= {f"/{ACTION}": older, f"/{CRON}": older}
    manifest.write_text(json.dumps(known))
    assert setup().err == ""
    assert (tree / ACTION).read_bytes() == (resources.folder("action.d") / "f2b-digest.py").read_bytes()


def test_the_action_stays_while_a_jail_names_it(setup: Setup, tree: Path) -> None:
    """fail2ban would start no jail at all without the file, so that uninstall leaves it, and says so."""
    setup()
    add_jail(tree, f"[apache-auth]\naction = dummy\n         {LINE}\n")
    ended = setup("--uninstall")
    assert "jail.d/mine.local uses the f2b-digest action" in ended.err
    assert (tree / ACTION).exists()
    add_jail(tree, f"# {LINE}\n")
    assert setup("--uninstall").err == ""
    assert not (tree / ACTION).exists()


def test_a_dry_run_shows_all_and_changes_nothing(setup: Setup, tree: Path) -> None:
    """Every file with its content, every command; and not a byte is written."""
    before = files(tree)
    ended = setup("--dry-run", "--scheduler", "systemd")
    assert files(tree) == before
    assert f"would write  {tree / SNIPPET}" in ended.out
    assert f"         {LINE}" in ended.out
    assert "would run  systemctl enable --now f2b-digest-send@daily.timer f2b-digest-retry.timer" in ended.out
    setup()
    before = files(tree)
    assert f"would remove {tree / SNIPPET}" in setup("--uninstall", "--dry-run").out
    assert files(tree) == before


def test_the_first_configuration_is_what_the_machine_says(setup: Setup, tree: Path) -> None:
    """fail2ban's destemail, a sendmail, the store; only root may read it. Then it is the admin's."""
    setup()
    path = tree / CONFIGURATION
    loaded = config.load(path, host="web1", timezone="UTC")
    assert loaded.store == recorder.DEFAULT_STORE
    assert loaded.channels["mail"].recipients == ("admin@example.org",)
    assert list(loaded.reports["daily"].channels) == ["mail"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(path.read_text() + '[reports.weekly]\nchannels = ["mail"]\n')
    assert setup().err == ""
    assert "[reports.weekly]" in path.read_text()
    assert "\n@weekly       root  /opt/f2b-digest send weekly\n" in (tree / CRON).read_text()


@pytest.mark.parametrize("destemail", ['"; rm -rf /', "root", "%(nothing)s", "a@b\x1b.org"])
def test_an_address_that_is_none_gives_way(setup: Setup, tree: Path, destemail: str) -> None:
    """A configuration that the program refuses is never written."""
    add_jail(tree, f"[DEFAULT]\ndestemail = {destemail}\n")
    setup()
    loaded = config.load(tree / CONFIGURATION, host="web1", timezone="UTC")
    assert loaded.channels["mail"].recipients == ("root@localhost",)


@pytest.mark.parametrize(
    ("locale", "language"), [("fr_CH.UTF-8", "fr"), ("de_AT.UTF-8", "de"), ("C.UTF-8", "en"), ("xx_XX", "en")]
)
def test_the_digest_speaks_the_language_of_who_set_it_up(
    setup: Setup, tree: Path, monkeypatch: pytest.MonkeyPatch, locale: str, language: str
) -> None:
    """Cron's environment has none: it is in the configuration."""
    monkeypatch.setenv("LC_ALL", locale)
    setup()
    assert config.load(tree / CONFIGURATION, host="web1", timezone="UTC", language="xx").language == language


def test_without_a_sendmail_the_configuration_says_what_is_missing(setup: Setup, tree: Path) -> None:
    """It loads, has no channel, and shows where the mail server's name goes."""
    (tree / "usr/sbin/sendmail").unlink()
    setup()
    assert not config.load(tree / CONFIGURATION, host="web1", timezone="UTC").channels
    assert '# smtp = "smtp://' in (tree / CONFIGURATION).read_text()


def test_cron_calls_this_program_as_root(setup: Setup, tree: Path) -> None:
    """Every line has root and the absolute path, whoever owns the store."""
    setup("--user", "mail")
    jobs = [line for line in (tree / CRON).read_text().splitlines() if line.startswith(("@", "*"))]
    assert [line.split()[-4:-1] for line in jobs[:1]] == [["root", "/opt/f2b-digest", "send"]]
    assert len(jobs) == 2
    assert all("  root  /opt/f2b-digest " in line for line in jobs)
    assert os.access(own_path(), os.X_OK)


def test_without_cron_systemd_gets_timers_that_catch_up(setup: Setup, tree: Path) -> None:
    """Debian 13 installs no cron; and where cron comes later, the timers go."""
    (tree / "usr/sbin/cron").unlink()
    (tree / "usr/bin").mkdir()
    (tree / "usr/bin/systemctl").touch()
    units = tree / "etc/systemd/system"
    assert "systemctl enable --now f2b-digest-send@daily.timer f2b-digest-retry.timer" in setup().out
    assert "\nPersistent=true\n" in (units / "f2b-digest-send@.timer").read_text()
    service = (units / "f2b-digest-send@.service").read_text()
    assert "\nUser=root\nExecStart=/opt/f2b-digest send %i\n" in service
    assert not (tree / CRON).exists()
    analyze = shutil.which("systemd-analyze")
    if analyze:  # what it says of other units, or of a program that is not there, is no fault of ours
        daily = shutil.copy(units / "f2b-digest-send@.timer", tree / "f2b-digest-send@daily.timer")
        words = [analyze, "verify", daily, *units.glob("*[!@].*")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert "Unknown" not in done.stderr
        assert "Failed to parse" not in done.stderr
    assert "systemctl disable --now" in setup("--scheduler", "cron").out
    assert (tree / CRON).exists()
    assert not list(units.glob("f2b-digest*"))


def test_a_tree_without_fail2ban_gets_the_rest(f2b_digest: Command, tmp_path: Path) -> None:
    """A packager's build root has no jails."""
    ended = f2b_digest("setup", "--root", tmp_path, "--scheduler", "cron")
    assert (ended.status, ended.err) == (0, "")
    assert (tmp_path / CRON).exists()
    assert not (tmp_path / "etc/fail2ban").exists()


# ---- what cannot be


def test_a_configuration_that_fail2ban_cannot_read_is_named(setup: Setup, tree: Path) -> None:
    """With fail2ban's own words; and nothing is written."""
    add_jail(tree, "[sshd]\naction = %(nosuch)s\n")
    before = files(tree)
    ended = setup()
    assert ended.status == 1
    assert "nosuch" in ended.err
    assert files(tree) == before


@pytest.mark.parametrize("when", ["-t", "write"])
def test_what_fail2ban_refuses_is_taken_back(
    setup: Setup, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """If the result does not pass fail2ban's test, or a file cannot be written, every file is as it was."""
    real = program("fail2ban-client", "apt install fail2ban")
    client = tmp_path / "bin/fail2ban-client"
    client.parent.mkdir()
    refusal = f'[ "$3" = -t ] && [ -e "$2/{fail2ban_jails.SNIPPET}" ] && exit 255\n[ "$3" = -t ] && exit 0'
    client.write_text(f'#!/bin/sh\n{refusal}\nexec {real} "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    if when == "write":
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    before = files(tree)
    ended = setup()
    assert ended.status == 1
    assert "nothing was installed: every file is as it was" in ended.err
    assert files(tree) == before


def test_setup_without_root_is_refused(f2b_digest: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ended = f2b_digest("setup")
    assert ended.status == 1
    assert "needs root" in ended.err


def test_a_machine_without_fail2ban_is_told(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client is not in the PATH."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert (
        setup().err
        == "f2b-digest: fail2ban is not installed (fail2ban-client is not in the PATH): install fail2ban first\n"
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("store = 3", "store: must be a string"),
        ("store", "config.toml:"),
        ("x = 1\nstore='/s'", "x: unknown key"),
    ],
)
def test_a_configuration_that_does_not_fit_stops_setup(setup: Setup, tree: Path, text: str, word: str) -> None:
    """Cron would only meet the same mistake at night."""
    (tree / CONFIGURATION).parent.mkdir()
    (tree / CONFIGURATION).write_text(text)
    before = files(tree)
    ended = setup()
    assert ended.status == 78
    assert word in ended.err
    assert files(tree) == before


def test_without_a_temporary_folder(setup: Setup, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that says what to do."""
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    before = files(tree)
    ended = setup()
    assert ended.status == 1
    assert "cannot create a temporary folder (/nonexistent/" in ended.err
    assert "set TMPDIR to a folder with room" in ended.err
    assert files(tree) == before


def test_a_damaged_manifest_is_named(setup: Setup, tree: Path) -> None:
    """Rather than to take a person's files for our own."""
    setup()
    (tree / "etc/f2b-digest/setup.json").write_text("{")
    assert "setup.json is damaged" in setup().err


def test_another_store_goes_everywhere(f2b_digest: Command, tree: Path) -> None:
    """--store reaches the jails and the configuration, also where its path has a percent sign."""
    f2b_digest("--store", "/srv/50%/bans.sqlite3", "setup", "--root", tree)
    assert config.load(tree / CONFIGURATION, host="web1", timezone="UTC").store == "/srv/50%/bans.sqlite3"
    jails = fail2ban_jails.effective(tree / "etc/fail2ban")
    assert all(fail2ban_jails.records_to(commands, "/srv/50%/bans.sqlite3") for commands in jails.values())
    assert f2b_digest("--store", "/else.sqlite3", "setup", "--root", tree).status == 78
    assert f2b_digest("--store", "/srv/a;b", "setup", "--root", tree).status == 78


# ---- on a machine


def bans(machine: Machine) -> list[tuple[str, str]]:
    """Return jail and address of the bans in the machine's store."""
    with closing(sqlite3.connect(machine.folder / "lib/f2b-digest/bans.sqlite3")) as connection:
        return connection.execute("SELECT jail, ip FROM event WHERE kind = 'ban' ORDER BY id").fetchall()


def ours(name: str) -> bool:
    """Return whether uninstall leaves a file, with our name on it."""
    return name.startswith("f2b-digest") or name.split("-", maxsplit=1)[0] in (
        "passwd", "group", "shadow", "gshadow", "subuid", "subgid", ".pwd.lock"
    )  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS if os.environ.get("CI") else ("1.0", "new"))
def test_the_first_ban_after_setup_is_recorded(version: str) -> None:
    """A machine whose fail2ban runs is set up, and again, and taken back."""
    with Machine(version) as machine:
        before = machine.files()
        machine("fail2ban-client", "start")
        done = machine.setup("--yes", "--scheduler", "cron")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "a ban of 192.0.2.1 in a scratch jail of the running fail2ban was recorded" in done.stdout
        assert "the daily digest is sent at midnight (/etc/cron.d/f2b-digest) if anything was banned" in done.stdout
        machine("fail2ban-client", "set", "sshd", "banip", "192.0.2.7")
        machine("fail2ban-client", "set", "own", "banip", "192.0.2.8")
        assert bans(machine) == [("sshd", "192.0.2.7"), ("own", "192.0.2.8")]
        assert "192.0.2.7" in (machine.folder / "run/fail2ban/fail2ban.dummy").read_text()
        assert "192.0.2.8" in (machine.folder / "run/second").read_text()
        installed = machine.files()
        done = machine.setup("--scheduler", "cron")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "all files are up to date" in done.stdout
        assert "reload" not in done.stdout
        assert machine.files() == installed
        assert "jail own: records; " in machine(machine.program, "check").stdout
        assert " ERROR " not in (machine.folder / "log/fail2ban.log").read_text()
        assert {path.name for path in (machine.folder / "lib/f2b-digest").iterdir()} >= {"bans.sqlite3"}
        owners = {path.stat().st_uid for path in (machine.folder / "lib/f2b-digest").iterdir()}
        assert owners == {int(machine("id", "-u", "f2b-digest").stdout)}
        done = machine.setup("--uninstall", "--yes")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        machine("fail2ban-client", "set", "sshd", "banip", "192.0.2.9")
        assert len(bans(machine)) == 2
        left = machine.files()
        assert {name for name in left if not ours(name)} == {name for name in before if not ours(name)}
        assert all(left[name] == before[name] for name in before if not ours(name))


def test_a_ban_that_does_not_arrive_takes_setup_back() -> None:
    """The trial comes before fail2ban is restarted: its jails go on as they were, without a file of ours."""
    with Machine("1.0") as machine:
        client = machine.folder / "bin/fail2ban-client"
        client.rename(client.with_name("real-client"))
        refusal = '[ "$2" = f2b-digest-setup ] && [ "$3" = banip ] && exit 0'
        client.write_text(f'#!/bin/sh\n{refusal}\nexec real-client "$@"\n')
        client.chmod(0o755)
        before = machine.files("etc/fail2ban")
        machine("fail2ban-client", "start")
        done = machine.setup("--yes")
        assert done.returncode == 1
        assert "a test ban in a scratch jail did not reach" in done.stderr
        assert "every file is as it was" in done.stderr
        assert machine.files("etc/fail2ban") == before
        assert "f2b-digest" not in machine("fail2ban-client", "get", "sshd", "actions").stdout
        client.write_text('#!/bin/sh\nexec real-client "$@"\n')
        done = machine.setup()  # nobody to ask
        assert "not recording yet: sshd, own; when you are ready, run:  fail2ban-client reload --restart" in done.stdout


def test_a_fail2ban_that_does_not_run_is_tried_in_a_scratch_server() -> None:
    """The machine's own stays as it is, and records once it starts. What cron could not do is said today."""
    with Machine("1.0") as machine:
        folder = machine.folder / "lib/f2b-digest"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        done = machine.setup("--scheduler", "cron")
        assert done.returncode == 1
        assert "/var/lib/fail2ban/f2b-digest belongs to nobody: run `setup --user nobody`" in done.stderr
        assert not (machine.folder / SNIPPET).exists()
        os.chown(folder, 0, 0)
        done = machine.setup("--scheduler", "cron")
        assert "a ban of 192.0.2.1 in a scratch fail2ban was recorded" in done.stdout
        assert "fail2ban is not running: it loads the action when it starts" in done.stdout
        machine("fail2ban-client", "start")
        machine("fail2ban-client", "set", "sshd", "banip", "192.0.2.7")
        assert bans(machine) == [("sshd", "192.0.2.7")]
        done = machine.setup("--scheduler", "cron", "--program", "/root/f2b-digest")
        assert done.returncode == 1
        assert "root cannot run `/root/f2b-digest status`, so cron could not send:" in done.stderr


def checked(machine: Machine, start: str) -> list[str]:
    """Return what `check` warns of, or calls an error, in lines that begin so."""
    found = [line.split(None, 1) for line in machine(machine.program, "check").stdout.splitlines()]
    return [text for state, text in found if state != "ok" and text.startswith(start)]


def test_a_machine_of_the_old_kind_is_moved_over() -> None:
    """The sender was the store's owner, who could read the configuration; the admin had changed the time."""
    with Machine("1.0") as machine:
        machine("fail2ban-client", "start")
        assert machine.setup("--yes", "--scheduler", "cron").returncode == 0
        cron, configuration = machine.folder / CRON, machine.folder / CONFIGURATION
        group = int(machine("id", "-g", "f2b-digest").stdout)
        os.chown(configuration, 0, group)
        configuration.chmod(0o640)
        cron.write_text(cron.read_text().replace("  root ", "  f2b-digest ").replace("@daily ", "30 6 * * *"))
        (line,) = checked(machine, "cron: /etc/cron.d/f2b-digest: f2b-digest runs send")
        assert "(f2b-digest setup (starts as root, then switches to that user))" in line
        planned = machine.setup("--scheduler", "cron", "--dry-run").stdout
        assert "would chmod  /etc/f2b-digest/config.toml" in planned
        assert "would change /etc/cron.d/f2b-digest" in planned
        done = machine.setup("--scheduler", "cron")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        at = configuration.stat()
        assert (stat.S_IMODE(at.st_mode), at.st_gid) == (0o600, 0)
        assert f"30 6 * * *        root  {machine.program} send daily\n" in cron.read_text()
        assert "the daily digest is sent at `30 6 * * *`" in done.stdout
        assert checked(machine, "cron: /etc") == []


def test_an_upgrade_under_a_running_fail2ban() -> None:
    """The action's older file is named, and then that the jails still run what it was; not what is not known."""
    with Machine("1.0") as machine:
        machine("fail2ban-client", "start")
        machine.setup("--yes", "--scheduler", "cron")
        assert checked(machine, "action") == []
        action, manifest = machine.folder / ACTION, machine.folder / "etc/f2b-digest/setup.json"
        action.write_text(action.read_text() + "# an earlier version\n")
        known = json.loads(manifest.read_text())
        known["files"][f"/{ACTION}"] = hashlib.sha256(action.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(known))
        machine("fail2ban-client", "reload", "--restart")
        (line,) = checked(machine, "action")
        assert line.startswith(f"action: /{ACTION} is from another version of f2b-digest (f2b-digest setup, then")
        done = machine.setup("--scheduler", "cron")
        assert "the jails still run the earlier action; when you are ready, run:  fail2ban-client reload" in done.stdout
        (line,) = checked(machine, "action")
        assert f"own, sshd started before /{ACTION} was updated and may run the old version" in line
        machine("fail2ban-client", "reload", "--restart")
        assert checked(machine, "action") == []


def test_purge_removes_all_that_setup_made() -> None:
    """User, store, configuration and all: what is left of it is nothing."""
    with Machine("1.0") as machine:
        before, library = machine.files(), machine.files("lib")
        machine("fail2ban-client", "start")
        machine.setup("--yes", "--scheduler", "cron")
        machine("fail2ban-client", "set", "sshd", "banip", "192.0.2.7")
        assert machine.setup("--purge").returncode == 0  # nobody to ask
        assert bans(machine) == [("sshd", "192.0.2.7")]
        crontab = machine.write("etc/crontab", "0 5 * * * root /opt/f2b-digest send daily\n")
        done = machine.setup("--purge", "--yes")
        assert done.returncode == 0, done.stderr
        assert (
            done.stderr
            == "f2b-digest: /etc/crontab still starts f2b-digest: remove its line, or it will fail each time\n"
        )
        assert "run    userdel f2b-digest" in done.stdout
        machine("fail2ban-client", "set", "sshd", "banip", "192.0.2.8")
        left = machine.files()
        assert {name for name in left if "f2b-digest" in name} == set()
        assert {name for name in machine.files("lib") if "f2b" in name} == set(library)
        assert machine("id", "f2b-digest").returncode == 1
        assert left["passwd"] == before["passwd"]
        assert crontab.exists()
        assert " ERROR " not in (machine.folder / "log/fail2ban.log").read_text()
