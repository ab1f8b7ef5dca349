"""What is installed: the files beside the code are found from a checkout, an editable install, wheel and sdist."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

FILES = ("templates/email/body.html", "templates/ntfy/message.txt", "cron/f2b-digest", "action.d/f2b-digest.py")
PROBE = """
from f2b_digest import recorder, resources
for name in %r:
    folder, _, rest = name.partition("/")
    text = (resources.folder(folder) / rest).read_text()
    assert text, name
print(recorder.__file__, resources.folder("templates"))
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build the sdist, and the wheel from the sdist, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "-q", "--outdir", folder, ROOT], check=True)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


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
