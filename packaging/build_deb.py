"""Builds the Debian package: `python packaging/build_deb.py [--arch arm64] [--output dist]`; prints its path and sizes.

One tree serves every Python of `PYTHONS`: their wheels differ in compiled modules only, whose names say which Python
they are for, so that the package outlives an upgrade of the system. Everything fetched is held to the hashes in
constraints.txt. Two builds of one commit are equal, byte for byte. Nothing is installed here.
"""

import argparse
import email
import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEBIAN = ROOT / "packaging/debian"
CONSTRAINTS = ROOT / "packaging/constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
"""Of Debian 12, Ubuntu 24.04 and Debian 13."""
PLATFORMS = {"amd64": "x86_64-manylinux_2_28", "arm64": "aarch64-manylinux_2_28"}
STRIP = {"amd64": "x86_64-linux-gnu-strip", "arm64": "aarch64-linux-gnu-strip"}
OF_DEBIAN = ("tzdata",)
"""What Debian's own package has, and keeps up to date."""
SOURCES = (".pyi", ".pyx", ".pxd", ".c", ".h")
"""Parts of wheels that are never run."""
OPTIONAL = ("yaml/_yaml*.so",)
"""Modules that do without; this one holds a copy of a C library that Debian keeps safe elsewhere."""
KEPT = re.compile(r"METADATA|(LICEN[CS]E|NOTICE|AUTHORS|COPYING).*")
"""Files of a wheel's description that stay."""
SITE = Path("usr/lib/f2b-digest")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/f2b-digest",
    "zsh": "usr/share/zsh/vendor-completions/_f2b-digest",
    "fish": "usr/share/fish/vendor_completions.d/f2b-digest.fish",
}
FROM_DEBIAN = {
    "launcher": "usr/bin/f2b-digest",
    "f2b-digest.sysusers": "usr/lib/sysusers.d/f2b-digest.conf",
    "f2b-digest.tmpfiles": "usr/lib/tmpfiles.d/f2b-digest.conf",
    "f2b-digest.rtupdate": "usr/share/python3/runtime.d/f2b-digest.rtupdate",
    "lintian-overrides": "usr/share/lintian/overrides/f2b-digest",
}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a program and return what it printed."""
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603 - fixed words
    return done.stdout.strip()


def main() -> None:
    """Build the package."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", choices=PLATFORMS, default="amd64", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="DIR", help="default: dist/")
    asked = parser.parse_args()
    os.umask(0o022)
    os.environ["SOURCE_DATE_EPOCH"] = epoch = str(moment())
    with tempfile.TemporaryDirectory(prefix="f2b-digest-deb-") as work:
        tree = Path(work) / "tree"
        site(tree / SITE, Path(work), asked.arch)
        files(tree, int(epoch))
        control(tree, asked.arch)
        asked.output.mkdir(parents=True, exist_ok=True)
        path = asked.output.resolve() / f"f2b-digest_{version()}_{asked.arch}.deb"
        # One thread: the bytes must not depend on how many a machine has.
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", tree, path)
        print(f"{path}\n{path.stat().st_size / 1e6:.1f} MB; installed {size(tree) / 1e3:.1f} MB")


def version() -> str:
    """Return the program's version."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "f2b_digest/__init__.py").read_text())
    return found[1] if found else sys.exit("f2b_digest/__init__.py names no version")


def moment() -> int:
    """Return the time that the files get: $SOURCE_DATE_EPOCH, else that of the last commit."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))


# ---- the program and its libraries


def site(folder: Path, work: Path, architecture: str) -> None:
    """Lay the program and all that it imports into a folder."""
    uv = Path(sys.executable).with_name("uv")
    run(uv, "build", "--quiet", "--wheel", "--require-hashes", "--build-constraints",
        ROOT / "packaging/build-constraints.txt", "--out-dir", work / "wheel", ROOT)  # fmt: skip
    for python in PYTHONS:
        target = work / python
        options = ("--quiet", "--no-deps", "--python-version", python, "--python-platform", PLATFORMS[architecture],
                   "--no-config", "--link-mode=copy", "--target", target)  # fmt: skip
        run(uv, "pip", "install", *options, "--require-hashes", "--only-binary", ":all:", "-r", CONSTRAINTS)
        run(uv, "pip", "install", *options, "--no-index", *(work / "wheel").glob("*.whl"))
        prune(target)
        merge(target, folder)
    for library in folder.rglob("*.so"):
        run(STRIP[architecture], "--strip-unneeded", library)
        library.chmod(0o644)
    (folder / "f2b_digest/data/package").write_text("deb\n")
    # Apprise's requests then trusts what this system trusts.
    bundle = folder / "certifi/cacert.pem"
    bundle.unlink()
    bundle.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def prune(target: Path) -> None:
    """Take away what is never read: the locales of languages that no digest has, sources, what installers leave."""
    languages = {
        "root",
        "en",
        *(path.name for path in (ROOT / "f2b_digest/rendering/locale").iterdir() if path.is_dir()),
    }
    for path in (target / "babel/locale-data").glob("*.dat"):
        if path.stem.partition("_")[0] not in languages:
            path.unlink()
    for path in [*target.rglob("*")]:
        described = path.parent.suffix == ".dist-info" and path.is_file()
        if path.suffix in SOURCES or (described and not KEPT.fullmatch(path.name)):
            path.unlink()
    for path in (path for pattern in OPTIONAL for path in target.glob(pattern)):
        path.unlink()
    for name in (*OF_DEBIAN, *(f"{name}-*.dist-info" for name in OF_DEBIAN), "bin", "share", "*.dist-info/sboms"):
        for path in target.glob(name):
            shutil.rmtree(path)
    for name in (".lock", ".gitignore"):
        (target / name).unlink(missing_ok=True)


def merge(target: Path, folder: Path) -> None:
    """Add one Python's files; the others have the same ones, but for compiled modules."""
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        place = folder / path.relative_to(target)
        if place.exists() and place.read_bytes() != path.read_bytes():
            sys.exit(f"{path.relative_to(target)} is not the same for every Python: one tree cannot serve them")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


# ---- the files around it


def files(tree: Path, epoch: int) -> None:
    """Lay out what the system finds by itself: program, action, units, manual, completions, documents."""
    for name, place in FROM_DEBIAN.items():
        put(tree / place, (DEBIAN / name).read_bytes())
    for name in ("usr/bin/f2b-digest", "usr/share/python3/runtime.d/f2b-digest.rtupdate"):
        (tree / name).chmod(0o755)
    for path in sorted((ROOT / "action.d").glob("f2b-digest.*")):
        put(tree / "etc/fail2ban/action.d" / path.name, path.read_bytes())
    for path in sorted(path for path in (ROOT / "cron").rglob("f2b-digest-*") if path.is_file()):
        text = path.read_text().replace("/usr/local/bin/f2b-digest ", "/usr/bin/f2b-digest ")
        put(tree / "usr/lib/systemd/system" / path.name, text.encode())
    sandbox = "f2b-digest-.service.d/sandbox.conf"
    put(tree / "usr/lib/systemd/system" / sandbox, (ROOT / "cron" / sandbox).read_bytes())
    put(tree / "usr/share/man/man1/f2b-digest.1.gz", zipped((ROOT / "f2b_digest/man/f2b-digest.1").read_bytes()))
    for shell, place in COMPLETIONS.items():
        put(tree / place, completion(shell).encode())
    documents(tree, epoch)


def completion(shell: str) -> str:
    """Return what click makes for a shell."""
    variables = {"_F2B_DIGEST_COMPLETE": f"{shell}_source", "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    script = "import sys; sys.argv = ['f2b-digest']; from f2b_digest.cli import main; main()"
    return run(sys.executable, "-c", script, environment=variables) + "\n"


def documents(tree: Path, epoch: int) -> None:
    """Write changelogs, and the licences of all that is in the package."""
    folder = tree / "usr/share/doc/f2b-digest"
    entry = (
        f"f2b-digest ({version()}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n"
        f" -- {maintainer()}  {formatdate(epoch)}\n"
    )
    put(folder / "changelog.gz", zipped(entry.encode()))
    put(folder / "CHANGELOG.md.gz", zipped((ROOT / "CHANGELOG.md").read_bytes()))
    put(folder / "README.md.gz", zipped((ROOT / "README.md").read_bytes()))
    licence = (ROOT / "LICENSE").read_text()
    texts = "".join(f" {line}\n" if line else " .\n" for line in licence.splitlines())
    libraries = "".join(bundled(tree / SITE, folder / "licenses"))
    put(
        folder / "copyright",
        (DEBIAN / "copyright").read_text().replace("@MIT@", texts).replace("@BUNDLED@", libraries).encode(),
    )


def bundled(site: Path, licences: Path) -> Iterator[str]:
    """Yield what the copyright file says of each library, and move its licences out of the tree that is run."""
    for metadata in sorted(site.glob("*.dist-info/METADATA")):
        about = email.message_from_string(metadata.read_text())
        name = about["Name"]
        if name == "f2b-digest":
            continue
        named = ""
        for path in sorted(path for path in metadata.parent.rglob("*") if path.is_file() and path != metadata):
            if path.name.startswith("LICENSE"):  # whoisit's metadata names none: its licence begins with its name
                named = path.read_text().strip().partition("\n")[0]
            put(licences / name / f"{path.name}.gz", zipped(path.read_bytes()))
            path.unlink()
        shutil.rmtree(metadata.parent / "licenses", ignore_errors=True)
        classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if "License ::" in line]
        licence = (
            about["License-Expression"] or (about["License"] or "").partition("\n")[0] or ", ".join(classified) or named
        )
        yield f" {name} {about['Version']}: {licence or sys.exit(f'{name} names no licence')}\n"


def put(path: Path, content: bytes) -> None:
    """Write a file of the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def zipped(content: bytes) -> bytes:
    """Return a file as Debian wants its documents: compressed, without a time."""
    return gzip.compress(content, 9, mtime=0)


# ---- what dpkg reads


def control(tree: Path, architecture: str) -> None:
    """Write the package's own description, its scripts and the sums of its files."""
    folder = tree / "DEBIAN"
    configuration = sorted(path for path in (tree / "etc").rglob("*") if path.is_file())
    put(folder / "conffiles", "".join(f"/{path.relative_to(tree)}\n" for path in configuration).encode())
    contents = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = [
        (md5(path), path.relative_to(tree))
        for path in contents
        if folder not in path.parents and path not in configuration
    ]
    put(folder / "md5sums", "".join(f"{sum_}  {path}\n" for sum_, path in sums).encode())
    text = (DEBIAN / "control").read_text()
    for word, value in (("VERSION", version()), ("ARCHITECTURE", architecture), ("SIZE", str(size(tree)))):
        text = text.replace(f"@{word}@", value)
    put(folder / "control", text.encode())
    action = md5(tree / "etc/fail2ban/action.d/f2b-digest.py")
    for name in SCRIPTS:
        put(folder / name, (DEBIAN / name).read_text().replace("@ACTION@", action).encode())
        (folder / name).chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink() and path.is_file() and not path.stat().st_mode & stat.S_IXUSR:
            path.chmod(0o644)


def maintainer() -> str:
    """Return who is named in the control file."""
    found = re.search(r"^Maintainer: (.+)$", (DEBIAN / "control").read_text(), re.MULTILINE)
    return found[1] if found else sys.exit("packaging/debian/control names no maintainer")


def md5(path: Path) -> str:
    """Return the sum that dpkg compares a file with."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def size(tree: Path) -> int:
    """Return what the tree takes on a disk, in KiB, counted as dpkg-gencontrol does."""
    return sum(1 if not path.is_file() or path.is_symlink() else -(-path.stat().st_size // 1024)
               for path in tree.rglob("*") if tree / "DEBIAN" not in path.parents)  # fmt: skip


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
