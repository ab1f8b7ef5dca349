"""`setup --root` into trees with the layouts of other distributions: what stands where, and what starts the digests.

The trees are laid out by hand after these distributions; fail2ban's configuration is the real one of its newest
version, and the real fail2ban reads it. No program of the distributions runs here.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from f2b_digest.checks import schedule
from f2b_digest.fail2ban import jails
from tests.support.parts import program, unpacked
from tests.support.program import Command, Ended

pytestmark = pytest.mark.slow
Setup = Callable[..., Ended]


CRON = ("etc/cron.d/f2b-digest",)


@dataclass(frozen=True)
class Layout:
    """A distribution's tree."""

    paths: str
    """fail2ban's file of log paths; Alpine has its default."""
    programs: tuple[str, ...]
    links: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()
    scheduled: tuple[str, ...] = CRON
    """What must start the digests."""


MERGED = (("bin", "usr/bin"), ("sbin", "usr/sbin"), ("usr/sbin", "bin"))
"""Links of a system with one folder of programs."""
UNITS = tuple(f"etc/systemd/system/f2b-digest-{name}" for name in ("send@.timer", "retry.timer"))
PERIODIC = tuple(f"etc/periodic/{often}/f2b-digest" for often in ("daily", "weekly", "15min"))
FOLDERS = tuple(f"etc/periodic/{name}" for name in ("15min", "hourly", "daily", "weekly", "monthly"))
BUSYBOX = ("usr/sbin/crond", "/bin/busybox")
FEDORA = """[INCLUDES]
before = paths-common.conf
[DEFAULT]
syslog_authpriv = /var/log/secure
syslog_mail = /var/log/maillog
syslog_mail_warn = /var/log/maillog
sshd_backend = systemd
"""
"""Debian's package lacks the real paths-fedora.conf."""
LAYOUTS = {
    "Fedora": Layout("paths-fedora.conf", ("systemctl", "crond", "sendmail"), MERGED, ("etc/cron.d",)),
    "Fedora without cronie": Layout("paths-fedora.conf", ("systemctl", "sendmail"), MERGED, scheduled=UNITS),
    "Arch": Layout("paths-arch.conf", ("systemctl", "crond"), MERGED, ("etc/cron.d",)),
    "Arch without cronie": Layout("paths-arch.conf", ("systemctl",), MERGED, scheduled=UNITS),
    "Alpine": Layout("paths-debian.conf", (), (BUSYBOX,), FOLDERS, scheduled=PERIODIC),
    "Alpine with cronie": Layout("paths-debian.conf", ("crond",), (), ("etc/cron.d", *FOLDERS)),
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    """Give each layout."""
    return LAYOUTS[request.param]


@pytest.fixture
def tree(layout: Layout, tmp_path: Path) -> Path:
    """Give the tree of a layout."""
    program("fail2ban-client", "apt install fail2ban")
    tree = tmp_path / "tree"
    for folder in ("usr/bin", *layout.folders):
        (tree / folder).mkdir(parents=True)
    for link, target in layout.links:
        (tree / link).parent.mkdir(parents=True, exist_ok=True)
        (tree / link).symlink_to(target)
    for name in layout.programs:
        (tree / "usr/bin" / name).touch()
    of_fail2ban = unpacked("fail2ban-new", "sid", "fail2ban") / "etc/fail2ban"
    shutil.copytree(of_fail2ban, tree / "etc/fail2ban", ignore=shutil.ignore_patterns("defaults-debian.conf"))
    jail_conf = tree / "etc/fail2ban/jail.conf"
    jail_conf.write_text(
        jail_conf.read_text().replace("paths-debian.conf", layout.paths).replace("#banaction", "banaction")
    )
    if layout.paths == "paths-fedora.conf":
        (tree / "etc/fail2ban/paths-fedora.conf").write_text(FEDORA)
        (tree / "etc/fail2ban/jail.d/00-firewalld.conf").write_text("[DEFAULT]\nbanaction = firewallcmd-rich-rules\n")
    (tree / "etc/fail2ban/jail.local").write_text("[sshd]\nenabled = true\n[recidive]\nenabled = true\n")
    return tree


@pytest.fixture
def setup(f2b_digest: Command, tree: Path) -> Setup:
    """Give `setup` into the tree."""
    return lambda *arguments: f2b_digest("setup", "--root", tree, "--program", "/usr/bin/f2b-digest", *arguments)


def files(tree: Path) -> dict[str, bytes]:
    """Return all that is in a tree."""
    return {
        str(path.relative_to(tree)): path.read_bytes() if path.is_file() else b""
        for path in tree.rglob("*")
        if not path.is_symlink()
    }


def test_setup_and_uninstall(setup: Setup, tree: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every jail records, one scheduler starts all, `check` finds it, a second setup changes nothing; away again."""
    (tree / "usr/bin/f2b-digest").touch()
    (tree / "etc/f2b-digest").mkdir()
    (tree / "etc/f2b-digest/config.toml").write_text("[reports.daily]\n[reports.weekly]\n")
    before = files(tree)
    ended = setup()
    assert (ended.status, ended.err) == (0, "")
    new = set(files(tree)) - set(before)
    assert set(layout.scheduled) <= new
    starters = (CRON[0], UNITS[0], PERIODIC[0])
    assert [path for path in starters if path in new] == [path for path in starters if path in layout.scheduled]
    recording = jails.effective(tree / "etc/fail2ban")
    assert {name for name, commands in recording.items() if jails.records(commands)} == {"sshd", "recidive"}
    monkeypatch.setattr(schedule, "ROOT", tree)
    assert started(tree, layout) == [("retry", ()), ("send", ("daily",)), ("send", ("weekly",))]
    after = files(tree)
    assert setup().out == "all files are up to date\n"
    assert files(tree) == after
    setup("--uninstall")
    kept = {"var", "var/lib", "var/lib/fail2ban", "var/lib/fail2ban/f2b-digest"}
    assert {path: content for path, content in files(tree).items() if path not in kept} == before


def started(tree: Path, layout: Layout) -> list[tuple[str, tuple[str, ...]]]:
    """Return what the tree's schedulers start as root, as `check` finds it."""
    if layout.scheduled == UNITS:
        wants = tree / "etc/systemd/system/timers.target.wants"
        wants.mkdir()
        for report in ("daily", "weekly"):  # as `systemctl enable` does
            (wants / f"f2b-digest-send@{report}.timer").symlink_to("/etc/systemd/system/f2b-digest-send@.timer")
    found, faults, _ = schedule.read()
    shutil.rmtree(tree / "etc/systemd/system/timers.target.wants", ignore_errors=True)
    assert [finding.text for finding in faults] == []
    assert {each.job.user for each in found} == {"root"}
    return sorted((each.job.verb, each.job.reports) for each in found)
