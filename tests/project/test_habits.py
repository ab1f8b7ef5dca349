"""The project's own rules: what a commit runs, what a quick run leaves out, the cron file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from noxfile import LINTERS
from tests import ROOT
from tests.tools import mark_slow


def test_a_commit_runs_the_linters_that_ci_runs() -> None:
    """The hooks of .pre-commit-config.yaml are the commands of `nox -s lint`, from .venv: nothing is fetched."""
    hooks = [
        hook
        for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repository["hooks"]
    ]
    assert [hook["entry"].split() for hook in hooks] == [[f".venv/bin/{name}", *rest] for name, *rest in LINTERS]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in hooks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"), [((), 1, 1), (("--slow",), 2, 0), (("checks/test_two.py",), 2, 0)]
)
def test_a_quick_run_leaves_out_slow_tests_and_says_so(
    arguments: tuple[str, ...], passed: int, left_out: int, tmp_path: Path
) -> None:
    """With this project's own conftest.py; a file that is named runs whole."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = checks\nmarkers = slow\n")
    (tmp_path / "checks").mkdir()
    tests = "import pytest\n\ndef test_quick(): pass\n\n@pytest.mark.slow\ndef test_slow(): pass\n"
    (tmp_path / "checks/test_two.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{passed} passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert (f"slow tests left out: {left_out}" in done.stdout) == bool(left_out)


def test_slow_tests_are_found_in_a_log_of_durations() -> None:
    """One that takes long, and one whose parameters do together; a mark that is there is not set again."""
    log = """
0.80s call     tests/test_a.py::test_long
1.90s call     tests/test_a.py::test_many[a b]
1.10s setup    tests/test_a.py::test_many[c]
0.40s call     tests/test_a.py::test_short
"""
    assert mark_slow.slow_functions(log) == {"tests/test_a.py": {"test_long", "test_many"}}
    source = '"""A."""\n\nimport os\n\n\n@os.register\ndef test_long(): ...\n'
    expected = source.replace("import os\n", "import pytest\nimport os\n").replace("@os", "@pytest.mark.slow\n@os")
    assert mark_slow.marked(source, {"test_long"}) == expected
    assert mark_slow.marked(expected, {"test_long"}) == expected


def test_the_cron_file_is_silent_and_has_a_user_and_a_path() -> None:
    """cron.d wants a user in each line; a program that cron cannot find is a digest that never comes."""
    lines = [line for line in (ROOT / "cron/f2b-digest").read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    jobs = [line.split() for line in lines if "=" not in line]
    assert "/usr/local/bin" in settings["PATH"].split(":")
    assert [job[-3:] for job in jobs] == [["f2b-digest", "send", "daily"], ["root", "f2b-digest", "retry"]]
    assert jobs[0][-4] == "root"
    assert not os.access(ROOT / "cron/f2b-digest", os.X_OK)
