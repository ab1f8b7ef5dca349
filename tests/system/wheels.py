"""The program as wheels, and how it comes onto a server of the tests. No test stands here."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tests import ROOT
from tests.system.day import Server

NEWER = "99.0"
SOURCES = ("f2b_digest", "action.d", "cron", "templates", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")


def present_and_newer(folder: Path) -> tuple[Path, Path]:
    """Build the program as it stands, and a newer version of it whose action is another file."""
    newer = folder / "newer"
    newer.mkdir()
    for name in SOURCES:
        subprocess.run(["cp", "-a", ROOT / name, newer], check=True)
    (newer / "f2b_digest/__init__.py").write_text(f'"""Newer."""\n\n__version__ = "{NEWER}"\n')
    with (newer / "action.d/f2b-digest.py").open("a") as action:
        action.write("# newer\n")
    return _build(ROOT, folder / "present"), _build(newer, folder / "built")


def _build(source: Path, folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "build", "-q", "--wheel", "--outdir", folder, source], check=True)
    return next(folder.glob("*.whl"))


def install(server: Server, wheel: Path) -> None:
    """Install the program as the README says, but for the network, which pip has none of there."""
    libraries = sysconfig.get_path("purelib")
    (server.root / "opt" / wheel.name).write_bytes(wheel.read_bytes())
    server.well(
        "sh", "-ec",
        f"""mkdir /opt/libraries  # what the tests' own environment has
        for each in {libraries}/*; do case $each in *f2b*) ;; *) ln -s "$each" /opt/libraries/;; esac; done
        {sys.base_prefix}/bin/python3 -m venv --without-pip /opt/f2b-digest
        for folder in /opt/f2b-digest/lib/python*/site-packages; do echo /opt/libraries >$folder/libraries.pth; done
        /opt/f2b-digest/bin/python3 -m pip install -q --no-index /opt/{wheel.name}
        ln -sf /opt/f2b-digest/bin/f2b-digest /usr/local/bin/""",
    )  # fmt: skip


def upgrade(server: Server, wheel: Path) -> None:
    """Install another version over it."""
    (server.root / "opt" / wheel.name).write_bytes(wheel.read_bytes())
    pip = ("/opt/f2b-digest/bin/python3", "-m", "pip")
    server.well(*pip, "install", "-q", "--no-index", "--upgrade", f"/opt/{wheel.name}")
