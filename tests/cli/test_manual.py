"""The manual page and the shell's completion say what the program says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from f2b_digest.cli import COMMANDS
from tests.tools import manual


def test_the_manual_page_says_what_the_commands_say() -> None:
    """`python -m tests.tools.manual` renews it; it holds every command, and groff reads it without a word."""
    assert manual.PAGE.read_text(encoding="utf-8") == manual.page()
    assert all(f".SS {name}\n" in manual.page() for name in COMMANDS)
    groff = shutil.which("groff")
    if groff:
        done = subprocess.run([groff, "-man", "-ww", "-Tutf8", manual.PAGE], capture_output=True, text=True, check=True)
        assert done.stderr == ""


def test_a_shell_completes_commands() -> None:
    """As the documentation tells to set it up."""
    environment = os.environ | {
        "_F2B_DIGEST_COMPLETE": "bash_complete",
        "COMP_WORDS": "f2b-digest pre",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "f2b-digest"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["plain,preview"]
