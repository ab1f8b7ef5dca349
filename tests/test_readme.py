"""README.md is true: what it shows is what the program says, and its examples load."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from f2b_digest.channels import KINDS
from f2b_digest.cli import COMMANDS
from f2b_digest.config import load
from tests import manual

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_what_the_readme_shows_is_what_the_program_says() -> None:
    """The sample digest and every --help are the present ones; `cog -r README.md` renews them."""
    done = subprocess.run(
        [sys.executable, "-m", "cogapp", "--check", "--diff", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_manual_page_says_what_the_commands_say() -> None:
    """`python -m tests.manual` renews it; it holds every command, and groff reads it without a word."""
    assert manual.PAGE.read_text(encoding="utf-8") == manual.page()
    assert all(f".SS {name}\n" in manual.page() for name in COMMANDS)
    groff = shutil.which("groff")
    if groff:
        done = subprocess.run([groff, "-man", "-ww", "-Tutf8", manual.PAGE], capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_a_shell_completes_commands() -> None:
    """As the README tells to set it up."""
    environment = os.environ | {
        "_F2B_DIGEST_COMPLETE": "bash_complete",
        "COMP_WORDS": "f2b-digest pre",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "f2b-digest"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plain,preview"]


def test_every_command_is_documented() -> None:
    """A command that the README does not show does not exist for its reader."""
    assert all(f"$ f2b-digest {name} --help" in README for name in COMMANDS)


def test_the_example_configuration_loads(tmp_path: Path) -> None:
    """The README's configuration is one that the program takes, with every key that it names."""
    example = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert example
    path = tmp_path / "config.toml"
    path.write_text(example[1])
    loaded = load(path, host="ignored", timezone="UTC")
    assert loaded.host == "web1.example.org"
    assert set(loaded.reports) == {"daily", "weekly"}
    assert {channel.kind for channel in loaded.channels.values()} == set(KINDS)


def test_every_channel_kind_stands_in_the_example() -> None:
    """A channel is documented where people copy from."""
    example = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert example
    kinds = {channel["kind"] for channel in tomllib.loads(example[1])["channels"].values()}
    assert kinds == set(KINDS)


def test_the_readme_names_no_command_line_that_is_not_there() -> None:
    """Its two commands for a fresh machine are the ones that CI runs."""
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert [command.split(" && ")[-1] for command in commands[:2]] == [".venv/bin/f2b-digest demo", ".venv/bin/pytest"]
