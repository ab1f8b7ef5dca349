"""Recipes for systems that are not here, as far as their own tools read them."""

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
    assert set(re.findall(r"depends = python-(\S+)", done.stdout)) >= {"babel", "jinja", "pydantic", "urllib3"}


def test_the_recipes_have_this_version() -> None:
    """A release changes them."""
    for name in ("arch/PKGBUILD", "nixos/package.nix"):
        text = (PACKAGING / name).read_text()
        assert re.search(rf'(pkgver=|version = "){re.escape(__version__)}\b', text), name
