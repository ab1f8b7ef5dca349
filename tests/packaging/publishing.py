"""What a maintainer publishes, made for a test: the package, a version before it, a signed apt repository."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

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
