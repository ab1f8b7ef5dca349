"""Names that a shell completes, in the real shells; and `help`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from f2b_digest.cli import COMMANDS
from tests.support.program import Command
from tests.support.store_making import event, fill

PROGRAM = Path(sys.executable).parent / "f2b-digest"


@pytest.fixture
def filled(f2b_digest: Command, config: Path, path: Path) -> Path:
    """Provide a configuration with two reports and a digest; a jail's name is hostile."""
    fill(path, [event(), event(jail="web"), event(jail="x$(touch owned)"), event(jail="two words")])
    assert f2b_digest("--config", config, "send").status == 0
    config.write_text(config.read_text() + '[reports.weekly]\nchannels = ["out"]\n')
    return config


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("send ", {"daily", "weekly"}), ("send w", {"weekly"}), ("preview ", {"daily", "weekly"}),
        ("preview --channel ", {"out"}), ("preview --jail ", {"sshd", "web"}), ("find s", {"sshd"}),
        ("find --jail ", {"sshd", "web"}), ("resend ", {"1"}), ("show y", {"yesterday"}), ("show 1", {"1"}),
        ("show d", {"daily"}), ("history ", {"daily", "weekly"}), ("fi", {"find"}), ("find --js", {"--json"}),
    ],
)  # fmt: skip
def test_names_are_completed(filled: Path, words: str, found: set[str]) -> None:
    """Those that begin as what was typed, and none that a shell would run or split."""
    line = ["f2b-digest", "--config", str(filled), *words.split(" ")]
    done = subprocess.run(
        [PROGRAM], capture_output=True, text=True, check=False,
        env={**os.environ, "_F2B_DIGEST_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line),
             "COMP_CWORD": str(len(line) - 1)},
    )  # fmt: skip
    assert {each.partition(",")[2] for each in done.stdout.split()} == found
    assert done.stderr == ""


def test_without_a_store_or_a_configuration_nothing_is_said(tmp_path: Path) -> None:
    """The tab key prints no error."""
    for config in ("none.toml", "broken.toml"):
        (tmp_path / "broken.toml").write_text("no = [toml")
        line = ["f2b-digest", "--config", str(tmp_path / config), "--store", str(tmp_path / "x"), "find", ""]
        done = subprocess.run(
            [PROGRAM], capture_output=True, text=True, check=False,
            env={**os.environ, "_F2B_DIGEST_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line),
                 "COMP_CWORD": str(len(line) - 1)},
        )  # fmt: skip
        assert (done.stdout.strip(), done.stderr) == ("", "")


BASH = """
source <({program} completion bash)
COMP_WORDS=(f2b-digest send w); COMP_CWORD=2
_f2b_digest_completion f2b-digest; echo "${{COMPREPLY[@]}}"
"""
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=; autoload -Uz compinit; compinit -u -d {folder}/dump; source {folder}/_f2b-digest; echo READY'
until zpty -r shell line && [[ $line == *READY* && $line != *echo* ]]; do :; done
zpty -w -n shell $'f2b-digest send w\\t'
repeat 40; do
  sleep 1; zpty -r -t shell line && seen+=$line; [[ $seen == *weekly* ]] && break
done
print -r -- $seen
"""
FISH = "source {folder}/f2b-digest.fish; complete -C 'f2b-digest send w'"


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "script"), [("bash", BASH), ("fish", FISH)])
def test_a_real_shell_completes_a_report(filled: Path, tmp_path: Path, shell: str, script: str) -> None:
    """By what `completion` prints."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is missing: apt-get install {shell}")
    environment = {**os.environ, "F2B_DIGEST_CONFIG": str(filled), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
                   "HOME": str(tmp_path)}  # fmt: skip
    made = subprocess.run([PROGRAM, "completion", shell], capture_output=True, text=True, check=True, env=environment)
    (tmp_path / "f2b-digest.fish").write_text(made.stdout)
    line = script.format(program=PROGRAM, folder=tmp_path)
    done = subprocess.run([shell, "-c", line], capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.stdout.split() == ["weekly"], done.stderr


@pytest.mark.slow
def test_zsh_completes_a_report(filled: Path, tmp_path: Path) -> None:
    """At its own terminal, for zsh completes nowhere else."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is missing: apt-get install zsh")
    environment = {**os.environ, "F2B_DIGEST_CONFIG": str(filled), "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
                   "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path)}  # fmt: skip
    made = subprocess.run([PROGRAM, "completion", "zsh"], capture_output=True, text=True, check=True, env=environment)
    (tmp_path / "_f2b-digest").write_text(made.stdout)
    done = subprocess.run(
        ["zsh", "-c", ZSH.format(folder=tmp_path)], capture_output=True, text=True, check=False, env=environment,
        timeout=60,
    )  # fmt: skip
    assert "send weekly" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "help"])
def test_help_says_what_a_commands_own_help_says(f2b_digest: Command, name: str) -> None:
    """The same text, by the word that many try first."""
    ended = f2b_digest("help", name)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == f2b_digest(name, "--help").out


def test_help_of_what_there_is_not(f2b_digest: Command) -> None:
    """Without a command it is the program's; of a mistake, what may be meant."""
    assert f2b_digest("help").out == f2b_digest("--help").out
    ended = f2b_digest("help", "fnd")
    assert (ended.status, ended.out) == (2, "")
    assert "did you mean find?" in ended.err
    assert "has no subcommands" in f2b_digest("help", "find", "x").err
