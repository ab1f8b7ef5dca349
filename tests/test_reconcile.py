"""Comparison with fail2ban's own database: missing bans are added, without false alarms."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from f2b_digest import recorder
from tests.support.fail2ban_server import Fail2ban
from tests.support.program import Command
from tests.support.store_making import NOON, fill, make_fail2ban_database, query

Ban = tuple[str, str, float]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second look follow at once."""
    monkeypatch.setattr("f2b_digest.reconcile.ON_ITS_WAY", 0.0)


def record(path: Path, bans: Iterable[Ban], source: str = "action", host: str = "web1", **more: bool) -> None:
    """Append bans as the action does, after the start of its jails."""
    rows = [recorder.event("start", "sshd", "", NOON - 7200, host, "action", recorded_at=NOON - 7200)]
    rows += [recorder.event("ban", *ban, host, source, recorded_at=ban[2], **more) for ban in bans]
    fill(path, rows)


def know(config: Path, bans: Iterable[Ban]) -> Path:
    """Create fail2ban's database with these bans, and set it in the configuration."""
    file = config.parent / "fail2ban.sqlite3"
    make_fail2ban_database(file, bans)
    if "fail2ban_database" not in config.read_text():
        config.write_text(f'fail2ban_database = "fail2ban.sqlite3"\n{config.read_text()}')
    return file


def sent(f2b_digest: Command, config: Path, out: Path | None = None) -> str:
    """Send, quietly; return the text of the new digest, with each white space as one blank."""
    out = out or config.parent / "out"
    before = set(out.glob("*"))
    config.write_text(config.read_text().replace('kind = "file"\nfolder', 'kind = "file"\nformat = "text"\nfolder'))
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    (new,) = set(out.glob("*")) - before
    return " ".join(new.read_text().split())


A, B, C = ("sshd", "192.0.2.1", NOON + 0.4), ("sshd", "192.0.2.2", NOON + 60.6), ("sshd", "192.0.2.3", NOON + 90)


def test_all_is_there(f2b_digest: Command, config: Path, path: Path) -> None:
    """Times are rounded in the database, and its host has no name."""
    record(path, [A, B], host="another name")
    know(config, [A, B])
    assert "2 bans recorded, 2 in fail2ban's database" in sent(f2b_digest, config)
    assert len(query(path, "SELECT 1 FROM event WHERE kind = 'ban'")) == 2


def test_what_is_missing_is_added_once(f2b_digest: Command, config: Path, path: Path) -> None:
    """It is in this digest, and in no other."""
    record(path, [A])
    fill(path, [recorder.event("unban", *A, "web1", "action", recorded_at=NOON + 600)])
    know(config, [A, B, C])
    text = sent(f2b_digest, config)
    assert "3 bans 3 addresses" in text
    assert "3 bans recorded, 3 in fail2ban's database; 2 missed bans recovered" in text
    assert "without the f2b-digest action" not in text  # it told of an unban since
    record(path, [("sshd", "192.0.2.9", NOON + 1800)])
    assert "1 ban recorded, 0 of them still in" in sent(f2b_digest, config)
    assert query(path, "SELECT source, history FROM event WHERE ip = '192.0.2.2'") == [("database", 0)]


def test_a_jail_without_our_action_is_named(f2b_digest: Command, config: Path, path: Path) -> None:
    """Its bans are reported all the same; a jail in no report is ignored."""
    record(path, [A, C])
    know(config, [A, ("web", "192.0.2.7", NOON), ("recidive", "192.0.2.7", NOON)])
    config.write_text(config.read_text().replace("[channels.out]", 'jails = ["*", "!recidive"]\n[channels.out]'))
    text = sent(f2b_digest, config)
    assert "Jail web bans without the f2b-digest action." in text
    assert "recidive" not in text
    assert "sshd seems" not in text


def test_a_jail_that_lost_our_action_is_named(f2b_digest: Command, config: Path, path: Path) -> None:
    """A reload that dropped it, say: two bans, and nothing since."""
    record(path, [A])
    know(config, [A, B, C])
    assert "Jail sshd bans without the f2b-digest action" in sent(f2b_digest, config)


def test_a_database_that_forgot_is_no_fault(f2b_digest: Command, config: Path, path: Path) -> None:
    """It purges after a day, and at each unban by hand."""
    record(path, [A, B, C])
    know(config, [B])
    text = sent(f2b_digest, config)
    assert "3 bans recorded, 1 of them still in fail2ban's database" in text
    assert "missing" not in text


def test_what_was_before_our_action_is_history(f2b_digest: Command, config: Path, path: Path) -> None:
    """Bans from before the first event, imported or not, are none of the digest's business; neither are the newest."""
    record(path, [A])
    record(path, [B], source="database", history=True)
    know(config, [("sshd", "192.0.2.8", NOON - 9000), A, B, ("sshd", "192.0.2.9", NOON + 3590)])
    text = sent(f2b_digest, config)
    assert "1 ban recorded, 1 in fail2ban's database" in text
    assert "missing" not in text


@pytest.mark.parametrize("how", ["none", "another program's", "no database"])
def test_a_database_that_cannot_be_read_is_passed_over(f2b_digest: Command, config: Path, path: Path, how: str) -> None:
    """The digest says so, unless there is none; `check` says why."""
    record(path, [A])
    file = know(config, [])
    if how == "none":
        file.unlink()
    elif how == "no database":
        file.write_text("words" * 1000)
    else:
        query(file, "DROP TABLE bans")
    text = sent(f2b_digest, config)
    assert ("Not checked: fail2ban's database; f2b-digest check says why." in text) == (how != "none")
    assert "warning fail2ban's database: " in f2b_digest("--config", config, "check").out


def test_check_tells_what_the_next_send_will_add(f2b_digest: Command, config: Path, path: Path) -> None:
    """And adds nothing itself."""
    record(path, [A])
    know(config, [A, B])
    said = f2b_digest("--config", config, "check").out
    assert "1 ban of sshd missing from the store (the next send adds them" in said
    assert len(query(path, "SELECT 1 FROM event WHERE kind = 'ban'")) == 1
    know(config, [A])
    assert "all 1 bans recorded" in f2b_digest("--config", config, "check").out


def previewed(f2b_digest: Command, config: Path) -> tuple[str, str]:
    """Return a preview's text, white space as one blank, and what it said on standard error."""
    ended = f2b_digest("--config", config, "preview")
    assert ended.status == 0
    return " ".join(ended.out.split()), ended.err


def test_a_preview_says_what_the_mail_will_say(f2b_digest: Command, config: Path, path: Path) -> None:
    """The line of the comparison, what would be added, and that it needs attention; nothing is added."""
    record(path, [A])
    know(config, [A, B, C])
    line = "3 bans recorded, 3 in fail2ban's database; 2 missed bans recovered"
    text, trouble = previewed(f2b_digest, config)
    assert line in text
    assert "2 missed bans were recovered" in text
    assert trouble == "f2b-digest: 2 more bans in fail2ban's database were not recorded; the next send adds them\n"
    assert len(query(path, "SELECT 1 FROM event WHERE kind = 'ban'")) == 1
    mail = sent(f2b_digest, config)
    assert line in mail
    assert "2 missed bans were recovered" in mail


def test_a_preview_of_what_is_all_recorded(f2b_digest: Command, config: Path, path: Path) -> None:
    """It has the mail's line, and no trouble."""
    record(path, [A, B])
    know(config, [A, B])
    text, trouble = previewed(f2b_digest, config)
    assert ("2 bans recorded, 2 in fail2ban's database" in text, trouble) == (True, "")


def test_a_ban_in_the_spool_is_not_missing_in_a_preview(f2b_digest: Command, config: Path, path: Path) -> None:
    """The next send takes it in before it compares."""
    record(path, [A])
    know(config, [A, B])
    row = recorder.event("ban", *B, "web1", "action", recorded_at=B[2])
    Path(f"{path}.spool").write_text(json.dumps(dict(zip(recorder.COLUMNS, row, strict=True))) + "\n")
    text, trouble = previewed(f2b_digest, config)
    assert "not recorded" not in text + trouble
    assert "1 more events are in" in trouble


def test_it_stands_in_the_html_and_in_the_json(f2b_digest: Command, config: Path, path: Path) -> None:
    """The archive shows it too."""
    record(path, [A])
    know(config, [A, B])
    sent(f2b_digest, config)
    document = json.loads(f2b_digest("--config", config, "show", "1", "--format", "json").out)
    assert document["reconciliation"] == {"recorded": 2, "known": 2, "added": 1, "jails": []}
    assert "1 missed ban recovered" in f2b_digest("--config", config, "show", "1", "--format", "html").out


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "new"])
def test_a_real_fail2bans_database_is_what_its_action_recorded(
    version: str, apart: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ban of a jail with our action is found again; the jail without one is named, and its bans are added."""
    with Fail2ban(version) as server:
        server.jail("ssh")
        server.jail("web", "none")
        server.write("conf/action.d/none.conf", "[Definition]\nactionban = true\n")
        server.start()
        time.sleep(1)  # the database rounds to seconds, and what is older than our action is not missed
        server.client("set", "ssh", "banip", "192.0.2.1", "2001:db8::1", "198.51.100.0/24")
        server.client("set", "web", "banip", "192.0.2.4")
        server.wait_until(lambda: len(server.events()) == 3, "three bans")
        server.wait_until(lambda: len(server.known_bans("ssh") + server.known_bans("web")) == 4, "four bans known")
        server.stop()
        now = server.events()[-1]["at"] + 3600
        monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: now))
        text = config.read_text().replace(str(config.parent / "bans.sqlite3"), str(server.store))
        config.write_text(f'fail2ban_database = "{server.dbfile}"\n{text}')
        out = server.store.parent / "out"  # the store's owner writes there
        config.write_text(config.read_text().replace('"out"\n', f'"{out}"\n', 2).replace(f'["{out}"]', '["out"]'))
        said = sent(apart, config, out)
    assert "4 bans recorded, 4 in fail2ban's database; 1 missed ban recovered" in said
    assert "Jail web bans without the f2b-digest action" in said
    assert "ssh seems" not in said
