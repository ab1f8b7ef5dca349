"""The Ansible role: run twice against a tree, by the real ansible-playbook; and what ansible-lint says of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.parts import PARTS, missing, program

pytestmark = pytest.mark.slow
FOLDER = ROOT / "packaging/ansible"
PLAY = [{"name": "Test", "hosts": "localhost", "connection": "local", "gather_facts": False, "roles": ["f2b_digest"]}]
CONFIGURATION = """timezone = "UTC"
[reports.daily]
channels = ["mail"]
[channels.mail]
kind = "email"
from = "fail2ban@web1.example.org"
to = ["admin@example.org"]
smtp = "smtp://user@mail.example.org:587"
password_file = "smtp.password"
"""


def ansible(name: str) -> str:
    """Return the path of one of Ansible's programs."""
    path = PARTS / "ansible/bin" / name
    return (
        str(path) if path.exists() else missing(name, f"pip install ansible-core ansible-lint, into {path.parents[1]}")
    )


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible's with a home of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"HOME": str(folder), "ANSIBLE_ROLES_PATH": str(FOLDER / "roles"), "ANSIBLE_NOCOLOR": "1",
                    "LC_ALL": "C.UTF-8", "PATH": f"{PARTS / 'ansible/bin'}:{os.environ['PATH']}"}  # fmt: skip
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """The first installs, with the secret in a file of root's; another configuration changes that file alone."""
    program("fail2ban-client", "apt install fail2ban")
    playbook, tree = ansible("ansible-playbook"), tmp_path / "tree"
    shutil.copytree("/etc/fail2ban", tree / "etc/fail2ban")
    (tree / "etc/fail2ban/jail.local").write_text("[sshd]\nenabled = true\n")
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    values: dict[str, object] = {
        "ansible_python_interpreter": sys.executable,
        "f2b_digest_program": str(Path(sys.executable).with_name("f2b-digest")), "f2b_digest_root": str(tree),
        "f2b_digest_config": CONFIGURATION, "f2b_digest_secrets": {"smtp.password": "s3cret-of-mail"},
    }  # fmt: skip
    changed = []
    for configuration in (CONFIGURATION, CONFIGURATION, CONFIGURATION + "min_bans = 5\n"):
        (tmp_path / "values.json").write_text(json.dumps(values | {"f2b_digest_config": configuration}))
        done = run(tmp_path, playbook, "-v", "-i", "localhost,", "-e", "@values.json", "play.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "s3cret-of-mail" not in done.stdout
        changed.append(int(re.findall(r"changed=(\d+)", done.stdout)[0]))
    assert changed == [4, 0, 1]
    assert (tree / "etc/f2b-digest/smtp.password").read_text() == "s3cret-of-mail\n"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tree / "etc/f2b-digest").iterdir()}
    assert (modes["smtp.password"], modes["config.toml"]) == (0o600, 0o600)
    assert (tree / "etc/fail2ban/jail.d/zz-f2b-digest.local").exists()
    assert (tree / "etc/cron.d/f2b-digest").exists()


def test_ansible_lint_has_nothing_to_say(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """By its strictest profile; with --all-suites, because it takes as long as all that is tested here."""
    if not request.config.getoption("--all-suites"):
        pytest.skip("--all-suites")
    shutil.copytree(FOLDER, tmp_path / "ansible")
    done = run(tmp_path / "ansible", ansible("ansible-lint"), "--offline", "--nocolor", "--profile", "production")
    assert done.returncode == 0, done.stdout + done.stderr
