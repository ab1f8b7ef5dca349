"""The house's own rules: format, lint, types, import contracts, and that no module forgets to say what it is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
MODULES = sorted([*(ROOT / "f2b_digest").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("lint-imports",),
        ("vermin", "-q", "--no-tips", "-t=3.7-", "--violations", "action.d/f2b-digest.py"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_linters_are_content(command: tuple[str, ...]) -> None:
    """Format, lint, types, the floors, and Python 3.7 for the file that runs inside fail2ban."""
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_lives_in_it(module: Path) -> None:
    """The first line of every module is its docstring."""
    assert ast.get_docstring(ast.parse(module.read_text()))


def test_the_cron_file_is_silent_and_has_a_user_and_a_path() -> None:
    """cron.d wants a user in each line; a program that cron cannot find is a digest that never comes."""
    lines = [line for line in (ROOT / "cron/f2b-digest").read_text().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    jobs = [line.split() for line in lines if "=" not in line]
    assert "/usr/local/bin" in settings["PATH"].split(":")
    assert [job[-3:] for job in jobs] == [["f2b-digest", "send", "daily"], ["root", "f2b-digest", "retry"]]
    assert jobs[0][-4] == "root"
    assert not os.access(ROOT / "cron/f2b-digest", os.X_OK)
