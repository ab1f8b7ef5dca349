"""Recipes for systems that are not here: as far as their own tools read them, and containers where they are built."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from f2b_digest import __version__
from tests import ROOT
from tests.support.parts import program

pytestmark = pytest.mark.slow
PACKAGING = ROOT / "packaging"


@pytest.mark.parametrize("name", ["module.nix", "package.nix"])
def test_nix_reads_the_module(name: str) -> None:
    """Its syntax."""
    command = [program("nix-instantiate", "apt-get install nix-bin"), "--parse", str(PACKAGING / "nixos" / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_makepkg_reads_the_pkgbuild() -> None:
    """With every library that the wheel asks for. makepkg refuses root, and wants a pacman."""
    makepkg = program("makepkg", "apt-get install makepkg")
    who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to other users
        Path(folder).chmod(0o777)
        shutil.copy(PACKAGING / "arch/PKGBUILD", folder)
        environment = os.environ | {"HOME": folder, "PACMAN": "true"}
        done = subprocess.run(
            [*who, makepkg, "--printsrcinfo"], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"depends = python-(\S+)", done.stdout)) >= {"babel", "jinja", "pydantic", "sqlalchemy"}


def test_the_recipes_have_this_version() -> None:
    """A release changes them."""
    for name in ("arch/PKGBUILD", "nixos/package.nix"):
        text = (PACKAGING / name).read_text()
        assert re.search(rf'(pkgver=|version = "){re.escape(__version__)}\b', text), name


def test_the_containers_copy_what_there_is() -> None:
    """Each file that an image takes from the checkout."""
    text = (PACKAGING / "container/Containerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for word in line.split()]
    assert {name for name in sources if not (ROOT / name).exists()} == set()
    assert len(sources) >= 4


@pytest.mark.alone
@pytest.mark.parametrize("target", ["centre", "fail2ban"])
def test_a_container_is_built_and_runs(target: str) -> None:
    """Where a builder works."""
    builders = [name for name in ("podman", "docker") if shutil.which(name)]
    works = [
        name for name in builders if not subprocess.run([name, "info"], check=False, capture_output=True).returncode
    ]
    if not works:
        pytest.skip("neither podman nor docker works here")
    image = f"f2b-digest-test-{target}"
    file = str(PACKAGING / "container/Containerfile")
    subprocess.run([works[0], "build", "-f", file, "--target", target, "-t", image, str(ROOT)], check=True)
    command = [works[0], "run", "--rm", "--entrypoint", "/opt/f2b-digest/bin/f2b-digest", image, "--version"]
    assert __version__ in subprocess.run(command, check=True, capture_output=True, text=True).stdout
