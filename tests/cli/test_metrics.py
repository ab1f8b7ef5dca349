"""Metrics of `status`: names and text as Prometheus has them, the file written whole and by whom it must be."""

import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from f2b_digest.cli import metrics
from tests import ROOT
from tests.support.parts import unpacked
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill


def promtool(text: str) -> subprocess.CompletedProcess[str]:
    """Return what Prometheus's own linter says of metrics."""
    program = unpacked("prometheus", "12", "prometheus") / "usr/bin/promtool"
    return subprocess.run([program, "check", "metrics"], input=text, text=True, capture_output=True, check=False)


def values(text: str) -> dict[str, float]:
    """Return each sample's value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def test_the_metrics_say_what_status_says(f2b_digest: Command, config: Path, path: Path) -> None:
    """Bans by jail, what is pending, undelivered and spooled, and when a report was last sent."""
    fill(path, [event(ip="192.0.2.1", at=NOON), event(ip="192.0.2.2", at=NOON), event(ip="192.0.2.2", jail="recidive")])
    (config.parent / "out").write_text("a file where the folder should be")
    assert f2b_digest("--config", config, "send").status == 75
    fill(path, [event(ip="192.0.2.3", at=NOON + 60)])
    ended = f2b_digest("--config", config, "status", "--format", "prometheus")
    got = values(ended.out)
    assert got['f2b_digest_bans_total{jail="sshd"}'] == 3
    assert got['f2b_digest_bans_total{jail="recidive"}'] == 1
    assert got['f2b_digest_pending_bans{report="daily"}'] == 1
    assert got['f2b_digest_undelivered_messages{report="daily",channel="out",status="deferred"}'] == 1
    assert got['f2b_digest_last_run_timestamp_seconds{report="daily"}'] == NOON + 3600
    assert got["f2b_digest_spooled_events"] == 0
    assert got["f2b_digest_store_size_bytes"] > 1000
    assert got["f2b_digest_store_damaged"] == 0


def test_prometheus_own_linter_finds_nothing(f2b_digest: Command, config: Path, path: Path) -> None:
    """Names, types, help and escapes, also of a jail whose name holds what the format uses."""
    fill(path, [event(ip="192.0.2.1"), event(ip="192.0.2.2", jail='a"b\\c\nd é')])
    f2b_digest("--config", config, "send")
    checked = promtool(f2b_digest("--config", config, "status", "--format", "prometheus").out)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert promtool("# TYPE bad_total gauge\nbad_total 1\n").returncode, "the linter lints"


def test_the_file_is_replaced_whole_and_others_can_read_it(f2b_digest: Command, config: Path, path: Path) -> None:
    """Collectors read it at any moment as their own user; nothing is printed and nothing is left beside it."""
    fill(path, [event(ip="192.0.2.1")])
    folder = path.parent / "metrics"
    folder.mkdir()
    file = folder / "f2b-digest.prom"
    file.write_text("old")
    before = file.stat().st_ino
    old_mask = os.umask(0o077)
    try:
        ended = f2b_digest("--config", config, "status", "--textfile", file)
    finally:
        os.umask(old_mask)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert file.read_text().startswith("# HELP f2b_digest_bans_total")
    assert file.stat().st_ino != before
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(folder.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(f2b_digest: Command, config: Path, path: Path) -> None:
    """One line, status 1."""
    fill(path, [event(ip="192.0.2.1")])
    ended = f2b_digest("--config", config, "status", "--textfile", path.parent / "none/x.prom")
    assert ended.status == 1
    assert re.search(r"none/x\.prom.*No such file", ended.err)


def test_formats_that_do_not_go_together_are_refused(f2b_digest: Command, config: Path, path: Path) -> None:
    """A usage error, before anything is read."""
    assert f2b_digest("--config", config, "status", "--json", "--textfile", path.parent / "x.prom").status == 2


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Provide a folder that other users reach: pytest's own, above tmp_path, is closed again by each run."""
    with tempfile.TemporaryDirectory(prefix="f2b-metrics-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_root_writes_the_file_and_the_store_is_read_as_its_owner(open_folder: Path) -> None:
    """The collector's folder is root's, the store is a user's: neither has to be opened to the other."""
    owner = pwd.getpwnam("daemon")
    mine, theirs = open_folder / "mine", open_folder / "theirs"
    mine.mkdir(0o755)
    theirs.mkdir(0o750)
    store = theirs / "bans.sqlite3"
    fill(store, [event(ip="192.0.2.1")])
    for file in (theirs, *theirs.iterdir()):
        os.chown(file, owner.pw_uid, owner.pw_gid)
    config = open_folder / "config.toml"
    config.write_text(f'store = "{store}"\n')
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "f2b_digest",
        "--config",
        config,
        "status",
        "--textfile",
        mine / "x.prom",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert 'f2b_digest_bans_total{jail="sshd"} 1' in (mine / "x.prom").read_text()
    assert (mine / "x.prom").stat().st_uid == 0
    (theirs / "bans.sqlite3").write_text("no store")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert 'bans_total{jail="sshd"} 1' in (mine / "x.prom").read_text(), "the last good metrics stay"


def test_an_endless_jail_name_is_one_label() -> None:
    """A lone surrogate, which UTF-8 has not, does not stop the metrics."""
    state = metrics.State({"\ud800x": 1}, {}, (), 0, 0, damaged=False)
    assert 'bans_total{jail="?x"} 1' in metrics.exposition(state)
