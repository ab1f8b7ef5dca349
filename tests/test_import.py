"""`import` and `preview --from`: what fail2ban left behind becomes history, each ban once."""

import gzip
import json
import lzma
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.fail2ban_server import VERSIONS, Fail2ban
from tests.store_making import query

TAIL = "fail2ban.actions        [20514]: NOTICE  [sshd]"
OBSERVER = "fail2ban.observer       [20514]: NOTICE  [sshd]"
LOG = f"""\
2026-11-19 03:00:00,001 fail2ban.jail           [20514]: INFO    Jail 'sshd' started
2026-11-19 03:59:58,839 fail2ban.filter         [20514]: INFO    [sshd] Found 192.0.2.1 - 2026-11-19 03:59:58
2026-11-19 04:00:00,635 {TAIL} Ban 192.0.2.1
2026-11-19 04:00:00,900 fail2ban.observer       [20514]: INFO    [sshd] IP 192.0.2.1 is bad: 1 # last x - incr 5s to 5m
2026-11-19 04:00:01,119 {OBSERVER} Increase Ban 192.0.2.1 (2 # 5m -> 2026-11-19 04:05:00)
2026-11-19 04:00:02,000 {TAIL} Restore Ban 192.0.2.2
2026-11-19 04:00:03,000 {TAIL} 192.0.2.1 already banned
2026-11-19 04:00:04,000 {TAIL} Reban 192.0.2.1, action 'fw'
2026-11-19 04:05:00,556 {TAIL} Unban 192.0.2.1
2026-11-19 04:06:00,272 {TAIL} Flush ticket(s) with iptables-multiport
2026-11-19 04:06:01,324 {TAIL} Repeal Ban 192.0.2.3
2026-11-19 04:07:00,000 {TAIL} Ban some body (and more)
2026-11-19 04:08:00,000 {OBSERVER} Increase Ban some body (and more) (3 # permanent -> infinite)
2026-11-19 04:09:00,000 {TAIL} Ignore 192.0.2.4 by ip
2026-11-19 04:10:00,000 fail2ban.jail           [20514]: INFO    Jail 'sshd' stopped
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give a log with a line of every kind."""
    path = tmp_path / "fail2ban.log"
    path.write_text(LOG)
    return path


def events(path: Path) -> list[tuple[object, ...]]:
    """Return kind, id, time of day (UTC) and ban time of every event."""
    return query(path, "SELECT kind, ip, strftime('%H:%M', at, 'unixepoch'), bantime FROM event ORDER BY id")


def test_every_kind_of_line_is_told_apart(f2b_digest: Command, config: Path, path: Path, log: Path) -> None:
    """Restored, repealed and repeated bans are no new ones; a prolongation and an unban bear their ban's time."""
    ended = f2b_digest("--config", config, "import", log)
    assert (ended.status, ended.err) == (0, "")
    assert "15 lines and rows read, 2 bans found, 2 bans added" in ended.out
    assert events(path) == [
        ("start", "", "03:00", None),
        ("ban", "192.0.2.1", "04:00", None),
        ("prolong", "192.0.2.1", "04:00", 300),
        ("unban", "192.0.2.1", "04:00", None),
        ("ban", "some body (and more)", "04:07", None),
        ("prolong", "some body (and more)", "04:07", -1),
        ("stop", "", "04:10", None),
    ]


def test_what_is_imported_is_history_unless_it_shall_be_told(
    f2b_digest: Command, config: Path, path: Path, log: Path
) -> None:
    """History is never reported; with --pending the next digest tells it."""
    f2b_digest("--config", config, "import", log)
    assert "Nothing was banned" in f2b_digest("--config", config, "preview").out
    path.unlink()
    f2b_digest("--config", config, "import", "--pending", log)
    assert "2 bans" in f2b_digest("--config", config, "preview").out


def test_importing_again_doubles_nothing(f2b_digest: Command, config: Path, path: Path, log: Path) -> None:
    """Rotated, packed or the same file: an event that is there stays one."""
    packed = log.with_name("fail2ban.log.1.gz")
    packed.write_bytes(gzip.compress(LOG.encode()))
    more = log.with_name("fail2ban.log.2.xz")
    more.write_bytes(lzma.compress(LOG.encode()))
    f2b_digest("--config", config, "import", log)
    before = events(path)
    assert "0 bans added" in f2b_digest("--config", config, "import", packed, more, log).out
    assert events(path) == before


@pytest.mark.parametrize(
    "line",
    [
        "2013-01-02 03:04:05,678 fail2ban.actions: WARNING [ssh] Ban 192.0.2.1",
        "2015-01-02 03:04:05,678 fail2ban.actions        [123]: NOTICE  [ssh] Ban 192.0.2.1",
        "2019-01-02 03:04:05,678 fail2ban.actions[123]: NOTICE [ssh] Ban 192.0.2.1",
    ],
    ids=["0.8", "0.9", "without padding"],
)
def test_older_wordings_are_understood(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path, line: str
) -> None:
    """A log outlives the version that wrote it."""
    (tmp_path / "old.log").write_text(line + "\n")
    f2b_digest("--config", config, "import", tmp_path / "old.log")
    assert events(path) == [("ban", "192.0.2.1", "03:04", None)]


def test_damaged_lines_are_counted_and_the_first_is_shown(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """A torn line loses itself only, and hostile bytes do not reach the terminal."""
    torn = f"2026-11-19 04:00:0\x1b[2J {TAIL} Ban 192.0.2.1\n2026-13-19 04:00:00,1 {TAIL} Ban 192.0.2.1\n"
    (tmp_path / "torn.log").write_text(torn + f"2026-11-19 04:00:00,1 {TAIL} Ban 192.0.2.9\n")
    ended = f2b_digest("--config", config, "import", tmp_path / "torn.log")
    assert "1 bans added" in ended.out
    assert "2 damaged lines were left out; the first: '2026-11-19 04:00:0\\x1b[2J" in ended.err
    assert "\x1b" not in ended.err


def test_the_hour_that_comes_twice_is_told_by_the_order_of_the_lines(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """In the night in which the clocks go back, a log has no zone, but it goes on."""
    config.write_text(config.read_text().replace('"UTC"', '"Europe/Paris"'))
    times = ("02:30:00", "02:59:00", "02:10:00", "02:45:00", "03:00:00")
    lines = [f"2026-10-25 {time},0 {TAIL} Ban 192.0.2.{number}" for number, time in enumerate(times)]
    (tmp_path / "night.log").write_text("\n".join(lines) + "\n")
    f2b_digest("--config", config, "import", tmp_path / "night.log")
    assert [row[2] for row in events(path)] == ["00:30", "00:59", "01:10", "01:45", "02:00"]


def make_database(path: Path, version: int) -> None:
    """Make a database as fail2ban of some schema leaves it, with the log's first ban in it."""
    extra = ", bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1" if version >= 4 else ""
    data = {"matches": [["", "1", " FAIL root"], "line"], "failures": 3, "user": "root", "users": ["bob"]}
    at = datetime(2026, 11, 19, 3, 59, 58, tzinfo=UTC).timestamp()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE bans (jail TEXT, ip TEXT, timeofban INTEGER, data JSON{extra})")
        values = ["sshd", "192.0.2.1", int(at), json.dumps(data), *([600, 2] if version >= 4 else [])]
        connection.execute(f"INSERT INTO bans VALUES ({', '.join('?' * len(values))})", values)
        connection.commit()


@pytest.mark.parametrize("version", [2, 4])
def test_database_and_log_are_merged(
    f2b_digest: Command, config: Path, path: Path, log: Path, tmp_path: Path, version: int
) -> None:
    """A ban that both tell is there once, with what the database knows of it, in whichever order they are given."""
    make_database(tmp_path / "fail2ban.sqlite3", version)
    ended = f2b_digest("--config", config, "import", log, tmp_path / "fail2ban.sqlite3")
    assert "3 bans found, 2 bans added" in ended.out
    (row,) = query(
        path, "SELECT failures, bantime, bancount, users, matches FROM event WHERE ip='192.0.2.1' AND kind='ban'"
    )
    assert row == (
        3,
        600 if version == 4 else None,
        2 if version == 4 else None,
        '["bob", "root"]',
        "1 FAIL root\nline",
    )


def test_another_programs_database_and_a_missing_file_are_refused(
    f2b_digest: Command, config: Path, tmp_path: Path
) -> None:
    """One line that names the file."""
    with closing(sqlite3.connect(tmp_path / "other.sqlite3")) as connection:
        connection.execute("CREATE TABLE bookmarks (x)")
    for name, words in (("other.sqlite3", "not fail2ban's"), ("none.log", "No such file")):
        ended = f2b_digest("--config", config, "import", tmp_path / name)
        assert ended.status == 1
        assert words in ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "date", ["Fri Nov 20 04:17:33 UTC 2026", "Fri Nov 20 04:17:33 AM UTC 2026", "Fri 20 Nov 2026 04:17:33 AM UTC"]
)
def test_what_sendmail_buffered_has_not_mailed_is_not_lost(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path, date: str
) -> None:
    """Its file has no jail, but the address, the time and the failures."""
    (tmp_path / "tmp-mail.txt").write_text(f"{date}: 192.0.2.1 (3 failures)\n")
    f2b_digest("--config", config, "import", "--pending", tmp_path / "tmp-mail.txt")
    assert query(path, "SELECT jail, ip, failures FROM event") == [("unknown", "192.0.2.1", 3)]
    assert events(path)[0][2] == "04:17"


def test_a_first_look_needs_no_store_and_leaves_none(f2b_digest: Command, path: Path, config: Path, log: Path) -> None:
    """`preview --from` shows logs as a digest; a shell's pattern gives it several files."""
    packed = log.with_name("fail2ban.log.1.gz")
    packed.write_bytes(gzip.compress(LOG.replace("192.0.2.1", "192.0.2.11").encode()))
    ended = f2b_digest("--config", config, "preview", "--from", log, packed)
    assert (ended.status, ended.err) == (0, "")
    assert "3 bans, 3 addresses, 1 jail" in ended.out
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_fail2bans_log_and_database_tell_what_its_action_recorded(
    version: str, f2b_digest: Command, config: Path, path: Path
) -> None:
    """Each version's own words: the import of what a server left is what our action saw, ban by ban."""
    with Fail2ban(version) as server:
        server.jail("ssh", server.python_action())
        server.start()
        server.client("set", "ssh", "banip", "192.0.2.1", "2001:db8::1", "198.51.100.0/24")
        server.wait_until(lambda: len(server.events()) == 3, "three bans")
        server.client("set", "ssh", "unbanip", "2001:db8::1")
        server.wait_until(lambda: server.events("unban"), "the unban")
        server.stop()
        recorded = sorted((event["jail"], event["ip"]) for event in server.events())
        ended = f2b_digest("--config", config, "import", server.folder / "fail2ban.log", server.dbfile)
    assert (ended.status, ended.err) == (0, "")
    assert sorted(query(path, "SELECT jail, ip FROM event WHERE kind = 'ban'")) == recorded


@pytest.mark.slow
def test_a_log_of_a_million_lines_is_read_to_its_end(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """Every ban of a large log arrives, once."""
    with (tmp_path / "large.log").open("w") as file:
        for number in range(100_000):
            at = f"2026-11-{1 + number // 8000:02} {number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02},000"
            file.write(f"{at} fail2ban.filter         [1]: INFO    [sshd] Found 192.0.2.1 - {at}\n" * 9)
            file.write(f"{at} {TAIL} Ban 10.{number >> 16}.{number >> 8 & 255}.{number & 255}\n")
    ended = f2b_digest("--config", config, "import", tmp_path / "large.log")
    assert "1,000,000 lines and rows read, 100,000 bans found, 100,000 bans added" in ended.out
    assert ended.err == ""
    assert query(path, "SELECT count(*) FROM event WHERE kind = 'ban'") == [(100_000,)]
