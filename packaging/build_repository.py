"""Makes an apt repository of Debian packages: `python packaging/build_repository.py FOLDER DEB... [--key ID]`.

The folder can be served by any web server, or used as file:. Needs apt-utils, and gpg for a signature. Versions that
are in the folder already stay, so that a machine can go back to one.
"""

import argparse
import gzip
import shutil
import subprocess
from pathlib import Path

SUITE, COMPONENT = "stable", "main"


def run(*command: str | Path, folder: Path) -> str:
    """Run a program in a folder and return what it printed."""
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - fixed words


def main() -> None:
    """Make the repository."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("packages", type=Path, nargs="+", metavar="DEB")
    parser.add_argument("--key", help="gpg's name of the key that signs; without one, apt needs [trusted=yes]")
    asked = parser.parse_args()
    pool = asked.folder / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for package in asked.packages:
        shutil.copy(package, pool)
    architectures = sorted({package.stem.rpartition("_")[2] for package in pool.glob("*.deb")})
    index(asked.folder, architectures)
    if asked.key:
        sign(asked.folder, asked.key)


def index(folder: Path, architectures: list[str]) -> None:
    """Write what apt reads: the packages of each architecture, and the sums of those lists."""
    release = folder / "dists" / SUITE
    for architecture in architectures:
        place = release / COMPONENT / f"binary-{architecture}"
        place.mkdir(parents=True, exist_ok=True)
        packages = run("apt-ftparchive", "--arch", architecture, "packages", "pool", folder=folder)
        (place / "Packages").write_text(packages)
        (place / "Packages.gz").write_bytes(gzip.compress(packages.encode(), mtime=0))
    about = {"Origin": "f2b-digest", "Label": "f2b-digest", "Suite": SUITE, "Codename": SUITE,
             "Components": COMPONENT, "Architectures": " ".join(architectures)}  # fmt: skip
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in about.items()]
    for name in ("Release", "InRelease", "Release.gpg"):
        (release / name).unlink(missing_ok=True)
    (release / "Release").write_text(run("apt-ftparchive", *options, "release", ".", folder=release))


def sign(folder: Path, key: str) -> None:
    """Sign the sums, and lay the public key beside them."""
    release = folder / "dists" / SUITE
    gpg = ("gpg", "--batch", "--yes", "--local-user", key)
    run(*gpg, "--clearsign", "--output", "InRelease", "Release", folder=release)
    run(*gpg, "--armor", "--detach-sign", "--output", "Release.gpg", "Release", folder=release)
    (folder / "f2b-digest.asc").write_text(run("gpg", "--armor", "--export", key, folder=folder))


if __name__ == "__main__":
    main()
