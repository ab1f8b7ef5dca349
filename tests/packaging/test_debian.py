"""The Debian package: reproducible, by lintian's rules, and its life on Debian 12 and 13, from install to purge."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.packaging.debian import Debian
from tests.packaging.publishing import BEFORE, Published
from tests.support.parts import program, python

pytestmark = [pytest.mark.slow, pytest.mark.alone]

OTHERS = re.compile(
    r"root/\.?recorded\.py|etc/(passwd|group|g?shadow|subuid|subgid)-?|"
    r"(run|tmp|dev|proc|sys|var/(log|mail|tmp|spool|cache)|var/lib/(apt|dbus|dpkg|postfix|systemd|private))(/.*)?|"
    r"etc/(apt|postfix|systemd/network|machine-id|resolv\.conf|hostname|fail2ban/jail\.local|ld\.so\.cache|\.pwd\.lock|\.updated)(/.*)?|"
    r"var/(\.updated|lib/fail2ban/fail2ban\.sqlite3)|usr/lib/python3.*/__pycache__(/.*)?"
)
"""What a booted system, apt and this test write, as paths below /."""


def test_two_builds_are_equal(published: Published) -> None:
    """Byte for byte, whatever the zone, the language, the home and the hash seed."""
    one, two = published.builds
    assert one.read_bytes() == two.read_bytes()


def test_lintian_has_nothing_to_say(published: Published) -> None:
    """Neither an error nor a warning; each override has its reason beside it."""
    lintian = program("lintian", "apt install lintian")
    command: list[str | Path] = [lintian, "--allow-root", "--fail-on", "error,warning", published.builds[0]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def left(machine: Debian) -> list[str]:
    """Return the files that are not as in the clean tree, but for those that other programs write."""
    # An overlay's upper layer has what changed; a character device there says that a file is gone.
    changed = (path for path in machine.changed.rglob("*") if not path.is_dir())
    names = (str(path.relative_to(machine.changed)) for path in changed)
    return sorted(name for name in names if not OTHERS.fullmatch(name))


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_life_of_the_package(published: Published, suite: str) -> None:
    """Installed, set up, upgraded with bans on the way, removed, purged: no ban is lost, and nothing is left."""
    with Debian(suite, published.repository) as machine:
        said = machine.install(f"f2b-digest={BEFORE}")
        assert "Next, as root:  f2b-digest setup" in said
        before = machine("fail2ban-client get sshd actions")
        assert "f2b-digest" not in before  # no jail was touched
        machine("f2b-digest setup --yes")
        assert "error" not in machine("f2b-digest check")
        machine.ban("203.0.113.7")
        said = machine.install()
        assert "the action changed; running jails use the earlier one until" in said
        machine.ban("203.0.113.8")  # by the action of the version before
        machine("fail2ban-client reload --restart")
        machine.ban("203.0.113.9")
        assert "0 upgraded, 0 newly" in machine.install()
        machine("systemctl start f2b-digest-send@daily.service")
        told = machine.mail("203.0.113.9")
        assert [ip for ip in ("203.0.113.7", "203.0.113.8", "203.0.113.9") if ip not in told] == []
        removed(machine)
        purged(machine)


def removed(machine: Debian) -> None:
    """Remove the package: its store and configuration stay, and fail2ban goes on without it."""
    machine("apt-get -qy remove f2b-digest")
    assert "f2b-digest" not in machine("fail2ban-client get sshd actions")
    machine("systemctl restart fail2ban && sleep 1 && fail2ban-client status sshd")
    assert "f2b-digest" not in machine("systemctl list-timers --all")
    kept = left(machine)
    assert {"etc/f2b-digest/config.toml", "var/lib/fail2ban/f2b-digest/bans.sqlite3"} <= set(kept)
    assert [name for name in kept if name.startswith("usr/")] == []


def purged(machine: Debian) -> None:
    """Purge it: of all that was there, the user is left, as Debian leaves users."""
    machine("apt-get -qy purge f2b-digest")
    assert left(machine) == []
    assert not (machine.root / "etc/f2b-digest").exists()
    assert not (machine.root / "usr/lib/f2b-digest").exists()
    assert not (machine.root / "var/lib/fail2ban/f2b-digest").exists()
    assert "f2b-digest" in machine("getent passwd f2b-digest")
    machine("systemctl restart fail2ban && sleep 1 && fail2ban-client status sshd")


def test_every_python_of_the_package_runs_it(published: Published, tmp_path: Path) -> None:
    """One tree has the compiled modules of each."""
    subprocess.run(["dpkg-deb", "-x", published.builds[0], tmp_path], check=True)
    site = tmp_path / "usr/lib/f2b-digest"
    for version in ("3.11", "3.12", "3.13"):
        code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv[1:] = ['demo']\n"
        code += "from f2b_digest.__main__ import run; run()"
        done = subprocess.run(
            [python(version), "-IBS", "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
        )
        assert (done.returncode, "bans" in done.stdout) == (0, True), done.stderr
