"""The images of containers, built by their recipe from a Debian that is here, and run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from f2b_digest import __version__
from tests import ROOT
from tests.support.parts import missing, program, unpacked

pytestmark = pytest.mark.slow
RECIPE = ROOT / "packaging/container/Containerfile"


class Buildah:
    """Runs buildah with images of its own, without a daemon, and without namespaces (`--isolation chroot`)."""

    def __init__(self, folder: Path) -> None:
        self._command = [program("buildah", "apt-get install buildah"), "--storage-driver", "overlay"]
        self._command += ["--root", str(folder / "images"), "--runroot", str(folder / "run")]
        tree = unpacked("debian-trixie", "trixie", "a whole system (see .ci/run)")
        base = self("from", "scratch")
        shutil.copytree(tree, self("mount", base), symlinks=True, dirs_exist_ok=True, ignore=_devices)
        self("umount", base)
        self("commit", "--quiet", "--rm", base, "localhost/debian:13")
        # The authorities that this machine trusts are those of the network that it is in.
        pip = folder / "pip.conf"
        pip.write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
        self._mounts = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-v", f"{pip}:/etc/pip.conf:ro"]

    def __call__(self, *command: str | Path, status: int = 0) -> str:
        """Run a command, which must end with a status, and return what it said."""
        done = subprocess.run(
            [*self._command, *command], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == status, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout.strip() or done.stderr.strip()

    def container(self, target: str) -> str:
        """Build one of the recipe's images, and return a container of it."""
        options = ["--isolation", "chroot", "--layers", *self._mounts, "--build-arg", "BASE=localhost/debian:13"]
        self("build", *options, "-f", RECIPE, "--target", target, "-t", f"localhost/{target}", ROOT)
        return self("from", f"localhost/{target}")


def _devices(folder: str, names: list[str]) -> list[str]:
    return names if Path(folder).name == "dev" else []


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """A builder of images, in whose store is a Debian to build from: no registry of images is asked."""
    if os.geteuid():
        missing("a builder of images", "run as root")
    folder = tmp_path_factory.mktemp("images")
    yield (build := Buildah(folder))
    build("rm", "--all")
    shutil.rmtree(folder)  # some gigabytes


def test_the_centres_image_runs_without_root(buildah: Buildah) -> None:
    """What it lacks is said; it is the user of the recipe who says it."""
    container = buildah.container("centre")
    program = "/opt/f2b-digest/bin/f2b-digest"
    assert buildah("run", "--isolation", "chroot", container, "--", "id", "-un") == "f2b-digest"
    assert __version__ in buildah("run", "--isolation", "chroot", container, "--", program, "--version")
    assert "no store at" in buildah("run", "--isolation", "chroot", container, "--", program, "status", status=1)


JAIL = "[sshd]\nenabled = true\nbackend = polling\nbanaction = dummy\nlogpath = /var/log/auth.log\n"
BAN = f"""
mkdir -p /etc/fail2ban/jail.d; echo '{JAIL}' >/etc/fail2ban/jail.d/sshd.local; : >/var/log/auth.log
fail2ban-server -xf start >/dev/null 2>&1 & timeout 30 sh -c 'until fail2ban-client ping; do sleep 0.2; done'
fail2ban-client set sshd banip 203.0.113.77
f2b-digest preview
fail2ban-client stop
"""


def test_a_ban_in_the_image_of_fail2ban_is_recorded(buildah: Buildah) -> None:
    """By its own fail2ban, with a jail that is enabled as the recipe says."""
    container = buildah.container("fail2ban")
    said = buildah("run", "--isolation", "chroot", container, "--", "sh", "-c", BAN)
    assert "203.0.113.77" in said, said
    assert "1 ban recorded, 1 in fail2ban's database" in said
