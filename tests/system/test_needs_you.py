"""What needs attention, from this host to the mail: asked, judged, told, and lifted by the very line of the mail."""

import re
import shlex
import time
from pathlib import Path

import pytest

from tests.support.fail2ban_server import Fail2ban
from tests.support.program import Command, Ended, forked
from tests.support.store_making import event, fill
from tests.system.scenarios.world import read


@pytest.mark.slow
def test_the_line_in_the_digest_lifts_the_ban(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague is locked out; the admin copies one line of the mail, and the colleague is back."""
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", tmp_path / "none.sqlite3")
    with Fail2ban("1.0") as server:
        server.jail("mail&in", bantime="86400")
        server.start()
        for address in ("203.0.113.77", "198.51.100.1"):
            server.log("mail&in", f'FAIL user="anna" from {address}')
        server.wait_until(lambda: len(server.events()) == 2, "both bans recorded")
        config = tmp_path / "config.toml"
        config.write_text(
            f'store = "{server.store}"\nfriends = ["203.0.113.0/24"]\nlanguage = "en"\n'
            '[reports.daily]\nchannels = ["box"]\n[channels.box]\nkind = "file"\nfolder = "'
            f'{server.store.parent}/box"\n'
        )
        assert forked("--config", config, "send") == Ended(0, "", "")
        (file,) = (server.store.parent / "box").iterdir()
        mail = read(file)
        assert "203.0.113.77" in mail.subject
        assert "198.51.100.1 " not in mail.head
        line = re.search(r"^ *(fail2ban-client .*)$", mail.text, re.MULTILINE)
        assert line, mail.text
        program, *words = shlex.split(line[1])
        assert program == "fail2ban-client"
        assert "203.0.113.77" in server.client("get", "mail&in", "banip")
        server.client(*words)
        banned = server.client("get", "mail&in", "banip")
        assert "203.0.113.77" not in banned
        assert "198.51.100.1" in banned


def test_a_judgement_that_fails_costs_its_facts_only(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bans go out, and the digest says that nothing was judged, and where; not with what."""

    def fail(*_: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr("f2b_digest.composition.analyse", fail)
    fill(path, [event(ip="198.51.100.9")])
    ended = f2b_digest("--config", config, "send")
    (file,) = (config.parent / "out").iterdir()
    mail = read(file)
    assert (ended.status, ended.out) == (0, "")
    assert "198.51.100.9" in mail.text
    for said in (mail.text, ended.err):
        assert "the analysis failed" in said
        assert "ValueError" in said
        assert "hunter2" not in said


def test_a_database_of_addresses_that_cannot_be_read_is_told_and_stops_nothing(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line of trouble for cron's mail; the digest goes out without countries."""
    monkeypatch.undo()
    monkeypatch.setattr("f2b_digest.config.FAIL2BAN_DATABASE", config.parent / "none.sqlite3")
    config.write_text(f'geography = ["{config.parent}/none.mmdb"]\n' + config.read_text())
    fill(path, [event(ip="198.51.100.9", at=time.time() - 60)])
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.out, ended.err.count("\n")) == (0, "", 1)
    assert "none.mmdb: No such file" in ended.err
    assert len(list((config.parent / "out").iterdir())) == 1


def test_the_demo_does_not_ask_the_host(f2b_digest: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bans are made up: who is banned there is nobody's friend, and no jail of it has to run here."""
    monkeypatch.setattr("f2b_digest.host.gather", lambda *_: pytest.fail("it asked"))
    ended = f2b_digest("demo", "--folder", tmp_path / "demo")
    assert ended.status == 0
    said = ended.err.splitlines()  # by its `send -v`
    assert all(line.startswith("f2b-digest: delivery 1: ") for line in said), said
    assert "attention" not in ended.out
