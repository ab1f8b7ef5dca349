"""The package, built twice, and a signed apt repository that has it and a version before it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.parts import missing, program

BEFORE = "0.0.9"
"""A version before the first: the same but for its action's last line."""


@dataclass(frozen=True)
class Published:
    """What a maintainer uploads."""

    builds: tuple[Path, Path]
    """The package, built in two ways that must not matter."""
    repository: Path


def build(folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """Begin to build the package."""
    command: list[str | Path] = [sys.executable, ROOT / "packaging/build_deb.py", "--output", folder]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    """Build the package and the repository."""
    for name, how in (("dpkg-deb", "dpkg"), ("apt-ftparchive", "apt-utils"), ("gpg", "gnupg"), ("strip", "binutils")):
        program(name, f"apt install {how}")
    if not Path(sys.executable).with_name("uv").exists():
        missing("uv", 'pip install -e ".[dev]"')
    folder = tmp_path_factory.mktemp("published")
    begun = [
        build(folder / "one", TZ="UTC", LC_ALL="C"),
        build(folder / "two", TZ="Asia/Tokyo", LC_ALL="C.UTF-8", HOME=str(folder), PYTHONHASHSEED="1"),
    ]
    said = [process.communicate()[0] for process in begun]
    assert not any(process.returncode for process in begun), said
    one, two = (next((folder / name).glob("*.deb")) for name in ("one", "two"))
    repository = folder / "repository"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNUPGHOME", str(folder / "gpg"))
        (folder / "gpg").mkdir(mode=0o700)
        gpg = ["gpg", "--batch", "--quiet", "--passphrase", ""]
        subprocess.run([*gpg, "--quick-gen-key", "test", "ed25519", "sign", "never"], check=True)
        make: list[str | Path] = [sys.executable, ROOT / "packaging/build_repository.py", repository]
        subprocess.run([*make, older(one, folder), one, "--key", "test"], check=True)
        subprocess.run(["gpgconf", "--kill", "all"], check=True)
    yield Published((one, two), repository)


def python(version: str) -> str:
    """Return the path of a Python, from PATH or pyenv's folder."""
    folders = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"{version}.*/bin")
    for folder in (*sorted(folders), *map(Path, os.environ["PATH"].split(":"))):
        path = folder / f"python{version}"
        if path.exists() and not subprocess.run([path, "-V"], check=False, capture_output=True).returncode:
            return str(path)
    return missing(f"Python {version}", "put its folder into PATH")


def older(package: Path, folder: Path) -> Path:
    """Return the version before a package."""
    tree = folder / "older"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .+$", f"Version: {BEFORE}", control.read_text()))
    for name in ("etc/fail2ban", "usr/lib/f2b-digest/f2b_digest/data"):
        with (tree / name / "action.d/f2b-digest.py").open("a") as action:
            action.write("# The version before.\n")
    path = folder / f"f2b-digest_{BEFORE}_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, path], check=True)
    return path
