"""The project's own rules: what a commit runs, what a quick run leaves out, the cron file."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from f2b_digest import recorder
from noxfile import LINTERS, PASSES
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


def pytest_of(folder: Path, tests: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a small suite with this project's conftest.py."""
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = checks\nmarkers =\n    slow\n    alone\n")
    (folder / "checks").mkdir()
    (folder / "checks/test_two.py").write_text(f"import pytest\n{tests}")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("-n", "2")])
@pytest.mark.parametrize(
    ("arguments", "passed", "left_out"), [((), 1, 2), (("--slow",), 3, 0), (("checks/test_two.py",), 3, 0)]
)
def test_a_quick_run_leaves_out_slow_tests_and_says_so(
    arguments: tuple[str, ...], passed: int, left_out: int, processes: tuple[str, ...], tmp_path: Path
) -> None:
    """A file that is named runs whole; with two processes as with one."""
    tests = "def test_quick(): pass\n" + "".join(
        f"\n@pytest.mark.{mark}\ndef test_{mark}(): pass\n" for mark in ("slow", "alone")
    )
    done = pytest_of(tmp_path, tests, *processes, *arguments)
    assert (done.returncode, f"{passed} passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert (f"slow tests left out: {left_out}" in done.stdout) == bool(left_out)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("-n", "2", "--dist", "worksteal")])
def test_figures_are_printed_at_the_end(processes: tuple[str, ...], tmp_path: Path) -> None:
    """Lines as they came, numbers added up over all tests, also of a test that fails."""
    tests = """
@pytest.mark.parametrize("number", range(4))
def test_four(number, figures):
    figures("fours", f"line {number}")
    figures("fours", counts={"tried": 1, "failed": 1})
    assert number < 3
    figures("fours", counts={"failed": -1})
"""
    done = pytest_of(tmp_path, tests, *processes)
    assert done.returncode == 1
    [section] = re.findall(r"=== fours ===+\n((?:(?!=).*\n)*)", done.stdout)
    *lines, sums = section.splitlines()
    assert (sorted(lines), sums) == ([f"line {number}" for number in range(4)], "4 tried, 1 failed")


def test_all_tests_are_in_one_of_two_passes() -> None:
    """What may run beside others, and what may not; a pass that finds no test is an error, unless tests were named."""
    marks = [options[options.index("-m") + 1] for options in PASSES]
    assert marks == ["not alone", "alone"]


def test_whatever_is_caught_is_logged() -> None:
    """A probe that fails silently kills an alarm unnoticed: a handler for everything logs or raises."""
    silent = []
    for file in (ROOT / "f2b_digest").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())) if file.name != "recorder.py" else ():
            broad, words = False, ""
            if isinstance(node, ast.ExceptHandler):
                broad = not node.type or bool(re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
                words = "".join(map(ast.unparse, node.body))
            elif isinstance(node, ast.Call):
                broad = bool(re.match(r"(contextlib\.)?suppress\(.*\b(Base)?Exception\b", ast.unparse(node)))
            if broad and not re.search(r"\blog\.|getLogger|\braise\b", words):
                silent.append(f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert silent == []


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


PACKAGE = ROOT / "f2b_digest"


def test_sql_stands_in_the_store_only() -> None:
    """Exceptions: the recorder, which has the INSERT, fail2ban's own database, and a fleet's centre.

    And where fail2ban's log is counted, in its own temporary database. What an administrator is told to type is text.
    """
    statement = re.compile(r"\b(SELECT\s|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE|PRAGMA \w)|\.execute\w*\(")
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.parent.name not in ("store", "fleet", "spoken") and statement.search(path.read_text())
    }
    assert found == {"recorder.py", "fail2ban/database.py", "fail2ban/failures.py"}


def test_a_column_of_events_is_listed_in_two_files() -> None:
    """A new column touches these files and the source that knows it, as CONTRIBUTING.md says."""
    listing = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if all(re.search(rf"\b{column}\b", path.read_text()) for column in recorder.COLUMNS)
    }
    assert listing == {"recorder.py", "model/event.py"}


def test_no_event_is_read_by_number() -> None:
    """A column inserted in between must not shift what others read; rows of a channel are not events."""
    by_number = re.compile(r"\b(row|event|ban)\[\d")
    found = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if path.parent.name not in ("store", "channels") and by_number.search(path.read_text())
    ]
    assert found == ["recorder.py"], "the recorder makes them"


def test_test_modules_do_not_import_each_other() -> None:
    """Shared code is in tests/support, or in a module without tests beside them."""
    importing = re.compile(r"^from tests.*\b(test_\w+|conftest)\b", re.MULTILINE)
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for name in importing.findall(path.read_text())
        if name != path.stem
    }
    assert not found
