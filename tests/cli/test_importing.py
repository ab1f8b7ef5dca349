"""`import` and `preview --from`: what fail2ban left behind becomes history, each ban once."""

import gzip
import io
import json
import lzma
import re
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from f2b_digest import recorder
from f2b_digest.fail2ban import history as fail2ban_history
from tests.support.fail2ban_history import AGAIN, BY_HAND, FAILED, LIFTED, PARDONED, USERS, history
from tests.support.fail2ban_server import VERSIONS
from tests.support.program import Command, program
from tests.support.store_making import NOON, make_fail2ban_database, query

DATE = "Fri Nov 20 04:17:33 UTC 2026"

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
    """Provide a log with a line of every kind."""
    path = tmp_path / "fail2ban.log"
    path.write_text(LOG)
    return path


def events(path: Path) -> list[tuple[object, ...]]:
    """Return kind, id, time of day (UTC) and ban time of every event."""
    return query(path, "SELECT kind, ip, strftime('%H:%M', at, 'unixepoch'), bantime FROM event ORDER BY id")


def test_every_kind_of_line_is_told_apart(f2b_digest: Command, config: Path, path: Path, log: Path) -> None:
    """Restored, repealed and repeated bans are not new ones; a prolongation and an unban bear their ban's time."""
    ended = f2b_digest("--config", config, "import", log)
    assert (ended.status, ended.err) == (0, "")
    assert "15 lines and rows read, 2 bans found, 2 bans added" in ended.out
    assert "1 failure in the logs, 1 of them belong to one of these bans" in ended.out
    assert "1 ban restored at a start of fail2ban not counted again" in ended.out
    assert events(path) == [
        ("start", "", "03:00", None),
        ("ban", "192.0.2.1", "04:00", 300),
        ("prolong", "192.0.2.1", "04:00", 300),
        ("unban", "192.0.2.1", "04:00", None),
        ("ban", "some body (and more)", "04:07", -1),
        ("prolong", "some body (and more)", "04:07", -1),
        ("stop", "", "04:10", None),
    ]


def test_what_is_imported_is_history_unless_it_shall_be_told(
    f2b_digest: Command, config: Path, path: Path, log: Path
) -> None:
    """History is never reported; with --pending the next digest tells it."""
    f2b_digest("--config", config, "import", log)
    assert "2 bans" not in f2b_digest("--config", config, "preview").out
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
    assert f"2 lines that look like a ban could not be parsed; the first: {tmp_path}/torn.log: '2026" in ended.err
    assert "04:00:0\\x1b[2J" in ended.err
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


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_database_gives_what_the_action_recorded(
    version: str, f2b_digest: Command, config: Path, path: Path
) -> None:
    """Failures, names, lines, ban time and count of each ban, whoever was banned; not what was lifted."""
    past = history(version)
    ended = f2b_digest("--config", config, "import", past.database)
    assert (ended.status, ended.err) == (0, "")
    columns = ("failures", "bantime", "users", "matches")
    for ip in (*FAILED, *BY_HAND):
        (row,) = query(path, f"SELECT {', '.join(columns)} FROM event WHERE ip = ?", ip)
        (recorded,) = past.recorded(ip)
        assert row == tuple(recorded[column] for column in columns)
        users = USERS.get(ip)
        assert row[::2] == (2 if ip in FAILED else 0, None if users is None else json.dumps(users, ensure_ascii=False))
        assert (FAILED[ip].split()[0] in row[3]) if ip in FAILED else row[3] is None
    again = query(path, "SELECT bantime, bancount, failures FROM event WHERE ip = ? ORDER BY at", AGAIN)
    assert again == [(4, 1, 1), (8, 2, 1)]
    assert query(path, "SELECT 1 FROM event WHERE ip = ?", LIFTED) == []


def without_ban_times(database: Path, path: Path) -> Path:
    """Return a copy of a real database in the schema of fail2ban 0.9 and 0.10, which had no columns for them."""
    shutil.copy(database, path)
    for column in ("bantime", "bancount"):
        query(path, f"ALTER TABLE bans DROP COLUMN {column}")
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_database_and_log_are_merged(
    version: str, f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """A ban that both tell is there once, with what the database knows of it, in whichever order they are given.

    What was lifted is only in the log: with an unban, and the failures that the log tells. A stop ends no ban.
    """
    past = history(version)
    ended = f2b_digest("--config", config, "import", past.log, past.database)
    assert (ended.status, ended.err) == (0, "")
    bans = query(path, "SELECT ip, count(*) FROM event WHERE kind = 'ban' GROUP BY ip")
    assert dict(bans) == {**dict.fromkeys((*FAILED, *BY_HAND, LIFTED, PARDONED), 1), AGAIN: 2}
    assert query(path, "SELECT failures, source FROM event WHERE ip = '192.0.2.1' AND kind = 'ban'") == [
        (2, "database")
    ]
    assert query(path, "SELECT failures, source FROM event WHERE ip = ? AND kind = 'ban'", LIFTED) == [(None, "log")]
    unbanned = {ip for (ip,) in query(path, "SELECT ip FROM event WHERE kind = 'unban'")}
    assert {LIFTED, PARDONED} <= unbanned <= {LIFTED, PARDONED, AGAIN}
    path.unlink()
    older = without_ban_times(past.database, tmp_path / "older.sqlite3")
    f2b_digest("--config", config, "import", older, past.log)
    row = "SELECT failures, bantime, bancount, users FROM event WHERE ip = '192.0.2.1' AND kind = 'ban'"
    assert query(path, row) == [(2, None, None, '["root"]')]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_logs_failures_are_counted_by_what_was_found(
    version: str, f2b_digest: Command, config: Path, path: Path
) -> None:
    """By address and jail, from one ban to the next; nobody knows them of a ban by hand."""
    past = history(version)
    f2b_digest("--config", config, "import", past.log)
    counted = query(path, "SELECT ip, failures FROM event WHERE kind = 'ban' ORDER BY at")
    assert {ip: failures for ip, failures in counted if ip in FAILED} == dict.fromkeys(FAILED, 2)
    assert [failures for ip, failures in counted if ip == AGAIN] == [1, 1]
    assert {failures for ip, failures in counted if ip in (*BY_HAND, LIFTED)} == {None}


def test_what_was_found_before_the_log_was_rotated_counts(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path
) -> None:
    """A ban's failures may be in the file before; those before an earlier ban are that one's."""
    found = "fail2ban.filter         [20514]: INFO    [sshd] Found 192.0.2.1 - 2026-11-18 03:59:58"
    (tmp_path / "log.1").write_text("".join(f"2026-11-18 04:00:0{n},000 {found}\n" for n in range(3)))
    (tmp_path / "log").write_text(
        f"2026-11-18 05:00:00,000 {found}\n2026-11-18 05:00:01,000 {TAIL} Ban 192.0.2.1\n"
        f"2026-11-18 06:00:00,000 {found}\n2026-11-18 06:00:01,000 {TAIL} Ban 192.0.2.1\n"
        f"2026-11-18 07:00:01,000 {TAIL} Ban 192.0.2.1\n"
    )
    f2b_digest("--config", config, "import", tmp_path / "log", tmp_path / "log.1")
    assert query(path, "SELECT failures FROM event ORDER BY at") == [(4,), (1,), (None,)]


def test_our_scratch_jail_is_nobodys(f2b_digest: Command, config: Path, path: Path, tmp_path: Path) -> None:
    """Setup's try is in fail2ban's log, and may be in its database: the import of either tells nothing of it."""
    lines = LOG.replace("[sshd]", f"[{recorder.SCRATCH_JAIL}]").replace("'sshd'", f"'{recorder.SCRATCH_JAIL}'")
    (tmp_path / "fail2ban.log").write_text(lines)
    make_fail2ban_database(tmp_path / "fail2ban.sqlite3", [(recorder.SCRATCH_JAIL, "192.0.2.1", NOON)])
    (tmp_path / "tmp-mail.txt").write_text(f"{DATE}: {recorder.SCRATCH_JAIL} ban 192.0.2.1 after 1 failure(s)\n")
    files = [tmp_path / name for name in ("fail2ban.log", "fail2ban.sqlite3", "tmp-mail.txt")]
    assert "0 bans added" in f2b_digest("--config", config, "import", *files).out
    assert query(path, "SELECT * FROM event") == []


def test_a_file_that_holds_nothing_of_fail2bans_is_refused(
    f2b_digest: Command, config: Path, path: Path, log: Path, tmp_path: Path
) -> None:
    """One line names it and what is known, but none of its words; nothing is imported of the others either."""
    (tmp_path / "passwd").write_text("admin:x:0:0:admin:/home:/bin/bash\nsecret:y\n")
    for command in ("import", ("preview", "--from")):
        words = (command,) if isinstance(command, str) else command
        ended = f2b_digest("--config", config, *words, log, tmp_path / "passwd")
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.count("\n") == 1
        for expected in (f"{tmp_path}/passwd", "fail2ban.sqlite3", "NOTICE [sshd] Ban", "(3 failures)", "failure(s)"):
            assert expected in ended.err
        assert "admin" not in ended.err
    assert not path.exists()


def test_a_log_that_was_just_rotated_is_no_mistake(f2b_digest: Command, config: Path, log: Path) -> None:
    """Neither is one without a ban."""
    (log.parent / "empty.log").write_text("")
    (log.parent / "quiet.log").write_text(LOG.splitlines()[1] + "\n")
    ended = f2b_digest("--config", config, "import", log.parent / "empty.log", log.parent / "quiet.log")
    assert (ended.status, ended.err) == (0, "")
    assert "1 lines and rows read, 0 bans found" in ended.out


def test_a_log_of_which_no_ban_is_understood_is_refused(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """A form that is not known loses no ban without a word."""
    line = "3. November 14:23:01 web1 fail2ban.actions[1234]: NOTICE [sshd] Ban 192.0.2.7"
    start = "Nov  3 14:23:00 web1 fail2ban.server[1234]: INFO Starting"
    (tmp_path / "syslog").write_text(f"{start}\n{line}\n{line}\n")
    ended = f2b_digest("--config", config, "import", tmp_path / "syslog")
    assert ended.status == 1
    assert f"2 lines that look like a ban could not be parsed; the first: {tmp_path}/syslog: '{line}'" in ended.err
    assert "Known formats: " in ended.err


@pytest.mark.parametrize("command", ["import", "preview"])
def test_a_torn_archive_is_one_line(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path, command: str
) -> None:
    """The disk was full when the log was packed: what stands before the tear is read, and the other files are."""
    (tmp_path / "fail2ban.log.2.gz").write_bytes(gzip.compress(LOG.encode())[:-12])
    (tmp_path / "fail2ban.log").write_text(f"2026-11-19 05:00:00,635 {TAIL} Ban 192.0.2.20\n")
    words = ("import",) if command == "import" else ("preview", "--from")
    ended = f2b_digest("--config", config, *words, tmp_path / "fail2ban.log.2.gz", tmp_path / "fail2ban.log")
    assert ended.status == 1
    assert f"{tmp_path}/fail2ban.log.2.gz: " in ended.err
    assert ended.err.count("\n") == 1
    if command == "import":
        assert ("ban", "192.0.2.1", "04:00", 300) in events(path)
        assert ("ban", "192.0.2.20", "05:00", None) in events(path)
    else:
        assert re.search(r"3 bans\s+3 addresses", ended.out)


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
    "date",
    [
        DATE, "Fri Nov 20 04:17:33 AM UTC 2026", "Fri 20 Nov 2026 04:17:33 AM UTC", "Fri, 20 Nov 2026 04:17:33 +0000",
        "2026-11-20 04:17:33", "2026-11-20T05:17:33+01:00",
    ],
)  # fmt: skip
def test_what_sendmail_buffered_has_not_mailed_is_not_lost(
    f2b_digest: Command, config: Path, path: Path, tmp_path: Path, date: str
) -> None:
    """Its file has no jail, but the address, the time and the failures; a home-made action for cron names the jail."""
    lines = ("192.0.2.1 (3 failures)", "sshd ban 2001:db8::1 after 4 failure(s)")
    (tmp_path / "tmp-mail.txt").write_text("".join(f"{date}: {line}\n" for line in lines))
    ended = f2b_digest("--config", config, "import", "--pending", tmp_path / "tmp-mail.txt")
    assert (ended.status, ended.err) == (0, "")
    assert query(path, "SELECT jail, ip, failures FROM event") == [
        ("unknown", "192.0.2.1", 3),
        ("sshd", "2001:db8::1", 4),
    ]
    assert {row[2] for row in events(path)} == {"04:17"}


def test_a_first_look_needs_no_store_and_leaves_none(f2b_digest: Command, path: Path, config: Path, log: Path) -> None:
    """`preview --from` shows logs as a digest; a shell's pattern gives it several files."""
    packed = log.with_name("fail2ban.log.1.gz")
    packed.write_bytes(gzip.compress(LOG.replace("192.0.2.1", "192.0.2.11").encode()))
    ended = f2b_digest("--config", config, "preview", "--from", log, packed)
    assert (ended.status, ended.err) == (0, "")
    assert re.search(r"3 bans\s+3 addresses", ended.out)
    assert "The first digest" not in ended.out
    assert not path.exists()


def long_log(path: Path, days: int = 30) -> Path:
    """Make a log of this many days with twenty bans each. Its last line is a failure, 8 hours after the last ban."""
    with path.open("w") as file:
        for day in range(days):
            for number in range(20):
                at = f"{datetime.fromtimestamp(1_600_000_000 + day * 86400 + number * 600, UTC):%Y-%m-%d %H:%M:%S}"
                file.write(f"{at},000 {TAIL} Ban 10.0.{day}.{number}\n")
        last = f"{datetime.fromtimestamp(1_600_000_000 + (days - 1) * 86400 + 40_000, UTC):%Y-%m-%d %H:%M:%S}"
        file.write(f"{last},000 fail2ban.filter [1]: INFO [sshd] Found 10.0.0.1 - {last}\n")
    return path


def test_a_first_look_ends_with_the_log_and_is_judged_by_it(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """Of old logs too: the last day, whatever the time is now; the rest is what it is compared with."""
    path = long_log(tmp_path / "fail2ban.log")
    ended = f2b_digest("--config", config, "preview", "--from", path)
    assert ended.status == 0
    assert "showing the last day of the input, from 2020-09-13; use --since all for everything" in ended.err
    text = " ".join(ended.out.split())
    assert "20 bans: usually 20; 20 the day before 20 addresses" in text
    assert "12 Oct 2020" in text
    assert "f2b-digest show" not in text, "nothing is stored that could be shown"
    assert "2026" not in text


@pytest.mark.slow
def test_a_first_look_shows_what_is_asked_for(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """All of it, an age that counts from the log's end, or another report's period."""
    path = long_log(tmp_path / "fail2ban.log")
    config.write_text(config.read_text() + '[reports.weekly]\nchannels = ["out"]\n')
    for words, bans in ((("--since", "all"), 600), (("--since", "2d"), 40), (("--since", "2020-10-01"), 240)):
        ended = f2b_digest("--config", config, "preview", "--from", path, *words)
        assert (ended.status, ended.err) == (0, "")
        assert f"{bans} bans" in ended.out
    weekly = f2b_digest("--config", config, "preview", "weekly", "--from", path)
    assert "140 bans" in weekly.out
    assert "the last week of the input" in weekly.err


@pytest.mark.slow
def test_what_a_pipe_brings_is_read(config: Path) -> None:
    """As `journalctl -u fail2ban | f2b-digest preview --from -`."""
    ended = program("--config", config, "preview", "--from", "-", stdin=gzip.compress(LOG.encode()))
    assert (ended.status, ended.err) == (0, "")
    assert re.search(r"2 bans\s+2 addresses", ended.out)


def test_what_is_held_can_be_read_when_it_cannot_be_opened(log: Path, tmp_path: Path) -> None:
    """Who opened log, archive and database as root reads them as another user: here they are gone meanwhile."""
    packed, base = tmp_path / "fail2ban.log.2.gz", tmp_path / "fail2ban.sqlite3"
    packed.write_bytes(gzip.compress(LOG.encode()))
    make_fail2ban_database(base, [("sshd", "192.0.2.9", NOON)])
    paths = [log, packed, base]
    fail2ban_history.hold(paths, io.BytesIO)
    for path in paths:
        path.unlink()
    tally = fail2ban_history.Tally()
    rows = list(fail2ban_history.read(paths, "web1", ZoneInfo("UTC"), tally, history=True))
    assert [row.ip for row in rows if row.kind == "ban"].count("192.0.2.1") == 2
    assert [row.ip for row in rows if row.source == "database"] == ["192.0.2.9"]


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
