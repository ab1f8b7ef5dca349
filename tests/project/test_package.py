"""Wheel and sdist: reproducible, described, installed by every tool and on every Python; their files are found."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

import f2b_digest
from tests import ROOT
from tests.support.parts import python

FILES = ("templates/email/body.html", "templates/ntfy/message.txt", "cron/f2b-digest", "action.d/f2b-digest.py")
PROBE = """
from f2b_digest import recorder, resources
for name in %r:
    folder, _, rest = name.partition("/")
    text = (resources.folder(folder) / rest).read_text()
    assert text, name
print(recorder.__file__, resources.folder("templates"))
"""


def build(folder: Path, **environment: str) -> dict[str, Path]:
    """Build the sdist, and the wheel from the sdist, as `python -m build` does."""
    command: list[str | Path] = [sys.executable, "-m", "build", "-q", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, env=os.environ | {"SOURCE_DATE_EPOCH": "1800000000"} | environment)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Provide the built distributions."""
    return build(tmp_path_factory.mktemp("dist"))


def found(python: Path | str, folder: Path) -> str:
    """Run the probe with an interpreter, away from the checkout."""
    command = [python, "-I", "-c", PROBE % (FILES,)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_files_are_found_from_the_checkout(tmp_path: Path) -> None:
    """A checkout that is only on the path works."""
    command = [sys.executable, "-c", PROBE % (FILES,)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    )
    assert str(ROOT / "templates") in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_files_are_found_when_installed(kind: str, distributions: dict[str, Path], tmp_path: Path) -> None:
    """Each way of installing leaves a program that finds its templates, its cron file and its action."""
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    # The dependencies are those of the environment that runs the tests: a venv of a venv sees only the system's.
    what = ["-e", str(ROOT)] if kind == "editable" else [str(distributions[kind])]
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *what], check=True)
    assert str(ROOT / "templates" if kind == "editable" else tmp_path) in found(python, tmp_path)


@pytest.mark.slow
def test_the_wheel_carries_the_action_twice_as_files_and_the_sdist_once(distributions: dict[str, Path]) -> None:
    """The recorder is one file: a link in a checkout and in the sdist, two equal files in the wheel."""
    action = (ROOT / "action.d/f2b-digest.py").read_bytes()
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        assert wheel.read("f2b_digest/recorder.py") == action
        assert wheel.read("f2b_digest/data/action.d/f2b-digest.py") == action
        assert json.loads(wheel.read("f2b_digest/digest.schema.json"))["title"] == "Digest"
        assert not [name for name in wheel.namelist() if name.startswith("tests")]
    with tarfile.open(distributions["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {*FILES, "LICENSE", "README.md", "CHANGELOG.md", "f2b_digest/recorder.py"} <= names


TOOLS = Path(sys.executable).parent


@pytest.mark.slow
def test_two_builds_are_equal(distributions: dict[str, Path], tmp_path: Path) -> None:
    """Byte for byte, whatever the zone, the language, the umask and the hash seed."""
    before = os.umask(0o077)
    try:
        again = build(tmp_path / "again", TZ="Asia/Tokyo", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    finally:
        os.umask(before)
    assert {kind: path.read_bytes() for kind, path in again.items()} == {
        kind: path.read_bytes() for kind, path in distributions.items()
    }


@pytest.mark.slow
def test_the_description_is_complete(distributions: dict[str, Path]) -> None:
    """It renders, by the index's own check, and no link or picture in it needs a file beside it."""
    subprocess.run([TOOLS / "twine", "check", "--strict", *distributions.values()], check=True)
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
    assert "fail2ban" in re.findall(r"^Keywords: (.+)$", metadata, re.MULTILINE)[0].split(",")
    assert [link for link in re.findall(r"\]\(([^)]*)\)", metadata) if not link.startswith("http")] == []
    assert "<img" not in metadata


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_it_runs_on_every_python_with_the_locked_libraries(
    version: str, distributions: dict[str, Path], tmp_path: Path
) -> None:
    """packaging/constraints.txt has all that the wheel asks for, with hashes, for each Python."""
    uv, folder = TOOLS / "uv", tmp_path / "venv"
    make: list[str | Path] = [uv, "venv", "--quiet", "--no-config", "--python", python(version), folder]
    subprocess.run(make, check=True)
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--no-config", "--python", folder / "bin/python"]
    subprocess.run([*install, "--require-hashes", "-r", ROOT / "packaging/constraints.txt"], check=True)
    subprocess.run([*install, "--no-index", distributions["wheel"]], check=True)
    command: list[str | Path] = [folder / "bin/python", "-m", "f2b_digest", "demo"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "bans" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["pipx", "uv"])
def test_tools_install_the_wheel(tool: str, distributions: dict[str, Path], tmp_path: Path) -> None:
    """In one line, with the program on the path."""
    folders = {
        "PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man",
        "UV_TOOL_DIR": "uv", "UV_TOOL_BIN_DIR": "bin",
    }  # fmt: skip
    environment = os.environ | {name: str(tmp_path / folder) for name, folder in folders.items()}
    words = ["pipx", "install"] if tool == "pipx" else ["uv", "tool", "install", "--no-config"]
    command: list[str | Path] = [TOOLS / words[0], *words[1:], distributions["wheel"]]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    done = subprocess.run(
        [tmp_path / "bin/f2b-digest", "demo"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "bans" in done.stdout


def test_a_tag_names_the_version_and_the_changelog_has_it() -> None:
    """A tagged commit is a release: version, tag and changelog agree."""
    command = ["git", "describe", "--exact-match", "--tags", "--match", "v*"]
    tag = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()
    if not tag:
        pytest.skip("this commit has no tag")
    version = f2b_digest.__version__
    assert tag == f"v{version}"
    assert re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


@pytest.mark.slow
def test_the_bill_of_materials_names_every_library(tmp_path: Path) -> None:
    """CycloneDX, with a hash of each file that may be installed."""
    locked = ROOT / "packaging/constraints.txt"
    command: list[str | Path] = [TOOLS / "cyclonedx-py", "requirements", locked, "--pyproject", ROOT / "pyproject.toml"]
    command += ["--output-reproducible", "--output-file", tmp_path / "bom.json"]
    subprocess.run(command, check=True, capture_output=True)
    bom = json.loads((tmp_path / "bom.json").read_text())
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)", locked.read_text(), re.MULTILINE))
    assert {part["name"]: part["version"] for part in bom["components"]} == wanted
    assert all(part["externalReferences"][0]["hashes"] for part in bom["components"])


def test_no_library_has_a_known_fault() -> None:
    """Neither the locked version nor the lowest that pyproject.toml admits, by packaging/advisories.txt."""
    lines = (ROOT / "packaging/advisories.txt").read_text().splitlines()
    fixed = [(name, Version(first)) for name, first, *_ in (line.split() for line in lines if not line.startswith("#"))]
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "packaging/constraints.txt").read_text(), re.MULTILINE)
    lowest = re.findall(r'^    "([\w.-]+) >= ([\d.]+)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    versions = [(name.lower(), Version(version)) for name, version in (*locked, *lowest)]
    assert {name for name, _ in fixed} <= {name for name, _ in versions}
    assert [(name, have) for name, have in versions for other, first in fixed if name == other and have < first] == []
