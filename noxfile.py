"""What one does every day, and what CI does; `nox -l` lists it.

Sessions use the environment that nox runs in: `.venv/bin/nox`.
"""

import datetime as dt
import re
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

sys.path.insert(0, str(Path(__file__).parent))  # nox has its own folder there
from tests.support.parts import python

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "all"]

TOOLS = Path(sys.executable).parent
LINTERS = (
    ("ruff", "format", "--check", "."),
    ("ruff", "check", "."),
    ("mypy",),
    ("lint-imports",),
    ("vermin", "-q", "--no-tips", "-t=3.7-", "--violations", "action.d/f2b-digest.py"),
)
"""Format, lint, types, import contracts, and Python 3.7 for the file that runs inside fail2ban."""
GENERATED = ("README.md", "docs/commands.md", "docs/configuration.md")
"""Pages with parts that cog makes."""
PASSES = (("-n", "3", "--dist", "worksteal", "-m", "not alone"), ("-m", "alone"))
"""All tests: three processes share those that can run side by side (many mostly wait), then the others follow."""
NONE_COLLECTED = 5
"""pytest's exit status."""


def _run(session: nox.Session, *command: str, success_codes: tuple[int, ...] = (0,)) -> None:
    session.run(str(TOOLS / command[0]), *command[1:], external=True, success_codes=success_codes)


@nox.session
def lint(session: nox.Session) -> None:
    """Run all linters; .pre-commit-config.yaml has the same."""
    for command in LINTERS:
        _run(session, *command)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types only."""
    _run(session, "mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link or anchor fails (not with --quiet, which silences --strict)."""
    _run(session, "mkdocs", "build", "--strict")


@nox.session
def quick(session: nox.Session) -> None:
    """Run the tests that are not slow; arguments after -- go to pytest."""
    _run(session, "pytest", *session.posargs)


@nox.session(name="all")
def all_tests(session: nox.Session) -> None:
    """Run all tests, in two passes; arguments after -- go to pytest, and then a pass may have none to run."""
    _passes(session, *(mark for *_, mark in PASSES))


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that the quick run leaves out, in two passes; arguments after -- go to pytest."""
    _passes(session, "slow and not alone", "alone")


def _passes(session: nox.Session, *marks: str) -> None:
    good = (0, NONE_COLLECTED) if session.posargs else (0,)
    failed = 0
    for (*options, _), mark in zip(PASSES, marks, strict=True):
        try:
            _run(session, "pytest", "--slow", *options, mark, *session.posargs, success_codes=good)
        except CommandFailed:
            failed += 1
    if failed:
        session.error(f"{failed} of {len(PASSES)} passes failed")


@nox.session
def pythons(session: nox.Session) -> None:
    """Run the quick tests on the other Pythons that are supported (their environments: .nox/); some minutes each.

    Arguments after -- go to pytest, as CI gives some tests that see much of the program in little time.
    """
    for version in ("3.12", "3.13"):
        folder = Path(".nox") / f"python{version}"
        _run(session, "uv", "venv", "--quiet", "--clear", "--python", python(version), str(folder))
        _run(session, "uv", "pip", "install", "--quiet", "--python", str(folder), "-e", ".[dev]")
        session.run(str(folder / "bin/pytest"), *session.posargs, external=True)


@nox.session
def dist(session: nox.Session) -> None:
    """Build what is published into dist/: sdist, wheel, Debian package, bill of materials (CycloneDX)."""
    session.env["SOURCE_DATE_EPOCH"] = str(
        session.run("git", "log", "-1", "--format=%ct", external=True, silent=True)
    ).strip()
    _run(session, "python", "-m", "build", "--quiet", "--outdir", "dist", ".")
    _run(session, "python", "packaging/build_deb.py")
    _run(session, "cyclonedx-py", "requirements", "packaging/constraints.txt", "--pyproject", "pyproject.toml",
         "--output-reproducible", "--output-file", "dist/f2b-digest.cdx.json")  # fmt: skip


@nox.session
def lock(session: nox.Session) -> None:
    """Renew packaging/*constraints.txt: the newest libraries, with the hashes of every file of theirs."""
    options = ("--quiet", "--upgrade", "--universal", "--python-version", "3.11", "--generate-hashes",
               "--no-annotate", "--no-header")  # fmt: skip
    libraries = ("pyproject.toml", "packaging/deb-requirements.txt", "--extra", "apprise")
    for sources, place in (
        (libraries, "constraints.txt"),
        (("packaging/build-requirements.txt",), "build-constraints.txt"),
    ):
        _run(session, "uv", "pip", "compile", *sources, *options, "--output-file", f"packaging/{place}")


@nox.session
def audit(session: nox.Session) -> None:
    """Ask the package index for known vulnerabilities of the locked libraries."""
    options = ("--strict", "--require-hashes", "--disable-pip", "--progress-spinner", "off")
    _run(session, "pip-audit", *options, "--requirement", "packaging/constraints.txt")


@nox.session
def release(session: nox.Session) -> None:
    """Prepare a release: `nox -s release -- 0.2.0` sets version and CHANGELOG.md, and says what to do next."""
    if len(session.posargs) != 1 or not re.fullmatch(r"\d+\.\d+\.\d+", session.posargs[0]):
        session.error("say which version: nox -s release -- 0.2.0")
    if session.run("git", "status", "--porcelain", external=True, silent=True):
        session.error("commit first: what is released is a commit")
    version, today = session.posargs[0], dt.datetime.now(tz=dt.UTC).date()
    if f"\n## [{version}]" in Path("CHANGELOG.md").read_text(encoding="utf-8"):
        session.error(f"CHANGELOG.md has {version} already")
    for path, pattern, text in (
        ("f2b_digest/__init__.py", r'(?<=__version__ = ").+(?=")', version),
        ("packaging/arch/PKGBUILD", r"(?<=^pkgver=).+$", version),
        ("packaging/nixos/package.nix", r'(?<=version = ").+(?=")', version),
        ("CHANGELOG.md", r"(?<=^## \[Unreleased\]\n)", f"\n## [{version}] - {today}\n"),
    ):
        file = Path(path)
        changed, count = re.subn(pattern, text, file.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
        if not count:
            session.error(f"{path} is not as expected")
        file.write_text(changed, encoding="utf-8")
    renew(session)
    session.log(f"next: git commit -am 'Release {version}' && git tag -a v{version} -m 'f2b-digest {version}'; "
                "then `pytest tests/project/test_package.py -k tag`, and `nox -s dist`")  # fmt: skip


@nox.session
def renew(session: nox.Session) -> None:
    """Renew what is generated: pages, manual page, catalogues."""
    _run(session, "python", "-m", "cogapp", "-r", *GENERATED)
    _run(session, "python", "-m", "tests.tools.manual")
    _run(session, "python", "-m", "tests.tools.catalogues")
