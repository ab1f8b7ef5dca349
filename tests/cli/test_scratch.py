"""Commands that need a temporary folder, where there is none with room: one line, and what to do."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.program import Ended

LOG = "2026-11-20 12:00:00,000 fail2ban.actions [1]: NOTICE [sshd] Ban 192.0.2.1\n"
READ_ONLY = """
mount --make-rprivate / && mount --bind / / && mount -o remount,ro,bind / && cd /
for folder in /tmp /var/tmp; do ! mountpoint -q $folder || mount -o remount,ro,bind $folder; done
exec "$@"
"""
FULL = """
mount --make-rprivate / && mount -t tmpfs -o size=16k,mode=1777 none "$TMPDIR" && exec "$@"
"""


def run_in(prepare: str, words: Sequence[str | Path], **environment: str) -> Ended:
    """Run the program on a machine whose mounts were changed, in its own namespace."""
    command = ["unshare", "-m", "sh", "-c", prepare, "sh", sys.executable, "-m", "f2b_digest", *words]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "F2B_DIGEST_CONFIG": "",
        **environment,
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change mounts")
@pytest.mark.parametrize("words", [["demo"], ["preview", "--from"]])
@pytest.mark.parametrize("prepare", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_without_a_temporary_folder_one_line_says_what_to_do(tmp_path: Path, words: list[str], prepare: str) -> None:
    """As on an appliance with everything mounted read-only, or a full /tmp."""
    log = tmp_path / "fail2ban.log"
    log.write_text(LOG)
    (tmp_path / "room").mkdir()
    where = {"TMPDIR": str(tmp_path / "room")} if prepare == FULL else {"TMPDIR": ""}
    ended = run_in(prepare, [*words, log] if "--from" in words else words, **where)
    lines = ended.err.splitlines()
    assert ended.status == 1
    assert len(lines) == 1
    assert lines[0].startswith("f2b-digest: ")
    if words == ["demo"] and prepare == FULL:
        assert "cannot hold the sample bans" in lines[0]
    else:
        assert "no usable temporary folder" in lines[0]
        assert lines[0].endswith("set TMPDIR to a folder with room")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change mounts")
def test_with_room_elsewhere_tmpdir_is_all_it_needs(tmp_path: Path) -> None:
    """What the line says to do works."""
    log = tmp_path / "fail2ban.log"
    log.write_text(LOG)
    prepare = 'mount -t tmpfs none /run && exec "$@"'
    ended = run_in(prepare, ["preview", "--from", log, "--no-pager"], TMPDIR="/run")
    assert ended.status == 0
    assert "192.0.2.1" in ended.out
