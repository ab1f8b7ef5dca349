"""Where the real parts for the tests are found: other fail2ban versions, ntfy servers, programs of the system.

Folders of unpacked Debian packages stand under $F2B_DIGEST_PARTS (default: /var/tmp/f2b-digest-parts); `.ci/run`
fills it. Nothing is started here.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

PARTS = Path(os.environ.get("F2B_DIGEST_PARTS", "/var/tmp/f2b-digest-parts"))


def missing(what: str, how: str) -> NoReturn:
    """Skip the test, saying how to get the part; in CI, where all parts must be installed, fail."""
    text = f"{what} is missing: {how}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def program(name: str, how: str) -> str:
    """Return the path of a program of the system."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return path or missing(name, how)


def unpacked(folder: str, suite: str, package: str) -> Path:
    """Return the folder of an unpacked Debian package."""
    path = PARTS / folder
    return path if path.is_dir() else missing(f"{package} of Debian {suite}", f"unpack it (dpkg-deb -x) into {path}")


def python(version: str) -> str:
    """Return the path of a Python, from PATH or pyenv's folder."""
    folders = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"{version}.*/bin")
    for folder in (*sorted(folders), *map(Path, os.environ["PATH"].split(":"))):
        path = folder / f"python{version}"
        if path.exists() and not subprocess.run([path, "-V"], check=False, capture_output=True).returncode:
            return str(path)
    return missing(f"Python {version}", "put its folder into PATH")
