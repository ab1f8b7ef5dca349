"""A damaged store is left alone, `recover` restores its content, and upgrades are atomic."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from f2b_digest import recorder
from f2b_digest.errors import StoreError
from f2b_digest.model.message import Message, Stamp
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store, migrations
from f2b_digest.store.sql import Connection
from tests.support.damage import (
    INDEX_LEAF,
    PAGE,
    TABLE_LEAF,
    break_events,
    break_header,
    break_index,
    break_many,
    fingerprint,
    overwrite,
    pages,
    truncate,
)
from tests.support.program import Command
from tests.support.store_making import NOON, Row, event, fill, query

BANS = 1500
RECORD = ("record", "--jail", "sshd", "--ip", "203.0.113.99")
DAMAGES = {"events": break_events, "index": break_index, "header": break_header, "truncated": truncate}


@pytest.fixture
def full(path: Path, config: Path, f2b_digest: Command) -> Path:
    """Provide a store whose bans are all reported, and that nobody has open."""
    line = "Failed password for root from 192.0.2.1 port 22 ssh2"
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n, matches=line) for n in range(BANS)])
    assert f2b_digest("--config", config, "send").status == 0
    assert not Path(f"{path}-wal").exists()
    return path


def digests(config: Path) -> str:
    """Return the text of all that was delivered."""
    return "".join(file.read_text() for file in (config.parent / "out").iterdir())


# ---- left alone


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_set_aside_and_never_written_to_again(
    f2b_digest: Command, config: Path, full: Path, damage: Callable[[Path], None]
) -> None:
    """Writers print one line and exit with 1, bans go to the spool, and status says why and what to do."""
    damage(full)
    before = fingerprint(full)
    for command in ("send", "send", "retry", "prune"):
        ended = f2b_digest("--config", config, command)
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "run f2b-digest recover" in ended.err
        assert Path(f"{full}.damaged").read_text().strip()
    ended = f2b_digest("--config", config, *RECORD)
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert f"{full}.spool" in ended.err
    ended = f2b_digest("--config", config, "status")
    if ended.status == 0:
        assert re.search(r"DAMAGED  set aside: .*run f2b-digest recover", ended.out)
        assert "1 event waits" in ended.out
    else:  # not a word can be read
        assert "damaged" in ended.err
    assert fingerprint(full) == before


@pytest.mark.parametrize("damage", [break_events, break_index])
def test_the_spool_does_not_go_into_a_store_that_is_found_damaged(
    f2b_digest: Command, config: Path, full: Path, damage: Callable[[Path], None]
) -> None:
    """The store is read before anything is written to it, also what waits beside it."""
    with closing(recorder.connect(str(full))) as somebody:
        somebody.execute("BEGIN EXCLUSIVE")
        assert recorder.append(str(full), event(ip="203.0.113.1"), 0)
    damage(full)
    before = fingerprint(full)
    assert f2b_digest("--config", config, "send").status == 1
    assert recorder.spooled(str(full)) == 1
    assert fingerprint(full) == before


def test_damage_that_is_met_on_the_way_sets_the_store_aside(f2b_digest: Command, config: Path, full: Path) -> None:
    """`retry` does not read all of the store first; when SQLite meets a broken page, that is enough."""
    overwrite(full, pages(full, INDEX_LEAF, b"sent")[0] * PAGE, b"\xff" * 2000)
    before = fingerprint(full)
    ended = f2b_digest("--config", config, "retry")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "malformed" in Path(f"{full}.damaged").read_text()
    assert fingerprint(full) == before


def test_a_store_that_cannot_be_marked_is_one_line(f2b_digest: Command, config: Path, full: Path) -> None:
    """A symlink in place of the marker is not followed, without a traceback."""
    break_events(full)
    Path(f"{full}.damaged").symlink_to(config.parent / "victim")
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert f"{full} was set aside as damaged (its damage marker cannot be read" in ended.err
    assert not (config.parent / "victim").exists()


def test_a_file_without_sqlites_first_bytes_is_left_alone(f2b_digest: Command, config: Path, full: Path) -> None:
    """It may be anything, so that it is not even set aside; bans go to the spool by themselves."""
    overwrite(full, 0, b"\0" * 16)
    before = fingerprint(full)
    for command in ("send", "status", "preview", "prune"):
        ended = f2b_digest("--config", config, command)
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "damaged or not an SQLite database" in ended.err
    assert "in " + f"{full}.spool" in f2b_digest("--config", config, *RECORD).err
    assert fingerprint(full) == before


def test_no_reader_writes_to_a_damaged_store(f2b_digest: Command, config: Path, full: Path) -> None:
    """Preview, history and show may fail in it, in one line; they neither change nor mark it."""
    break_events(full)
    before = fingerprint(full)
    for arguments in (["preview", "--since", "2d"], ["history"], ["show", "1"], ["status"]):
        ended = f2b_digest("--config", config, *arguments)
        assert ended.status in (0, 1)
        assert ended.err.count("\n") == ended.status
    assert fingerprint(full) == before
    assert not Path(f"{full}.damaged").exists()


# ---- brought back


def recover(f2b_digest: Command, path: Path) -> str:
    """Run `recover` on a store; return what it said."""
    ended = f2b_digest("--store", path, "recover")
    assert (ended.status, ended.err) == (0, "")
    assert "all digests delivered" in f2b_digest("--store", path, "status").out
    return ended.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (break_events, BANS // 20),  # those of a page
        (break_many, BANS // 3),
        (break_index, 0),
        (break_header, 0),
        (truncate, BANS * 2 // 3),
    ],
)
def test_recover_brings_back_what_can_be_read(
    f2b_digest: Command, config: Path, full: Path, damage: Callable[[Path], None], lost: int
) -> None:
    """Events, marks and archive; the next send imports the spool, and reports nothing twice."""
    damage(full)
    assert f2b_digest("--config", config, "send").status == 1
    f2b_digest("--config", config, *RECORD)
    said = recover(f2b_digest, full)
    assert "1 event waits in the spool" in said
    assert BANS - lost <= len(query(full, "SELECT id FROM event")) <= BANS
    assert query(full, "PRAGMA integrity_check") == [("ok",)]
    assert query(full, "PRAGMA journal_mode") == [("wal",)]
    assert query(full, "PRAGMA auto_vacuum") == [(2,)]
    assert full.stat().st_mode & 0o777 == 0o640
    assert (full.parent / "bans.sqlite3.damaged-1/bans.sqlite3").exists()
    assert not Path(f"{full}.damaged").exists()
    marks = 0 if damage is truncate else 1  # where the mark is lost, all is reported again
    assert len(query(full, "SELECT id FROM digest")) == marks
    shutil.rmtree(config.parent / "out")
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err) == (0, "")
    if marks:
        assert query(full, "SELECT bans FROM digest ORDER BY id") == [(BANS,), (1,)]
    newest = query(full, "SELECT max(id) FROM digest")[0][0]
    told = json.loads(f2b_digest("--config", config, "show", str(newest), "--format", "json").out)
    assert "203.0.113.99" in [address["ip"] for jail in told["jails"] for address in jail["worst"]]
    if marks:  # else it is among more than a mail lists
        assert "203.0.113.99" in digests(config)
    else:
        assert told["totals"]["bans"] == len(query(full, "SELECT id FROM event"))
        assert re.search(rf"^ +{told['totals']['bans']:,} bans", digests(config), re.MULTILINE)
    assert recorder.spooled(str(full)) == 0
    f2b_digest("--config", config, "record", "--jail", "sshd", "--ip", "203.0.113.100")
    assert "1 ban pending" in f2b_digest("--config", config, "status").out


@pytest.mark.slow
def test_a_recovered_store_gives_no_new_ban_an_id_that_was_reported(
    f2b_digest: Command, config: Path, full: Path
) -> None:
    """Where SQLite's own count is lost with the newest bans, the marks say where the ids go on."""
    query(full, "DELETE FROM event WHERE id > 10")  # by prune
    overwrite(full, pages(full, TABLE_LEAF, b"delivery")[-1] * PAGE, b"\xff" * 2000)
    assert f2b_digest("--config", config, "send").status == 1
    recover(f2b_digest, full)
    f2b_digest("--config", config, *RECORD)
    assert "1 ban pending" in f2b_digest("--config", config, "status").out


@pytest.mark.slow
def test_a_store_that_was_never_sent_from_can_be_recovered(f2b_digest: Command, config: Path, path: Path) -> None:
    """There are no marks yet; all that can be read is pending."""
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n, matches="Failed password " * 9) for n in range(BANS)])
    break_events(path)
    assert f2b_digest("--config", config, "send").status == 1
    recover(f2b_digest, path)
    assert re.search(r"1,4\d\d bans pending", f2b_digest("--config", config, "status").out)


@pytest.mark.slow
def test_an_older_store_is_recovered_as_one_of_today(f2b_digest: Command, config: Path, path: Path) -> None:
    """Its rows go into the tables of this version."""
    make_version_3(path, *(event(ip=f"192.0.2.{n}", at=NOON + n, matches="Failed password " * 9) for n in range(BANS)))
    query(path, "UPDATE delivery SET status = 'sent'")
    break_events(path)
    assert f2b_digest("--config", config, "send").status == 1
    recover(f2b_digest, path)
    assert query(path, "PRAGMA user_version") == [(recorder.SCHEMA_VERSION,)]
    assert f2b_digest("--config", config, "send").status == 0
    assert query(path, "PRAGMA user_version") == [(recorder.SCHEMA_VERSION,)]


@pytest.mark.parametrize("content", [b"", b"\xff" * 8192], ids=["the mark only", "no page is right"])
def test_a_store_that_needs_no_recovery_or_has_nothing_left_stays(
    f2b_digest: Command, config: Path, full: Path, content: bytes
) -> None:
    """`recover` leaves an intact store alone, and one of which nothing is readable."""
    if content:
        overwrite(full, 100, content * 1000)
    before = fingerprint(full)
    ended = f2b_digest("--config", config, "recover")
    assert ended.status == (1 if content else 0)
    assert ("nothing can be read" in ended.err) if content else ("is not damaged" in ended.out)
    assert fingerprint(full) == before


def test_a_recovery_that_is_interrupted_can_be_run_again(
    f2b_digest: Command, config: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged store stays, with its mark, until the whole one is in its place."""
    break_events(full)
    assert f2b_digest("--config", config, "send").status == 1
    before = fingerprint(full)
    with monkeypatch.context() as patch:
        patch.setattr("f2b_digest.store.recovery._replace", later)
        assert f2b_digest("--config", config, "recover").status == 1
    assert fingerprint(full) == before
    assert Path(f"{full}.damaged").exists()
    recover(f2b_digest, full)
    assert (full.parent / "bans.sqlite3.damaged-2").exists()


def test_a_mark_that_is_no_file_does_not_stop_a_recovery(f2b_digest: Command, config: Path, full: Path) -> None:
    """A FIFO with the marker's name has no reason, and is removed."""
    break_events(full)
    os.mkfifo(f"{full}.damaged")
    recover(f2b_digest, full)
    assert not Path(f"{full}.damaged").exists()
    assert f2b_digest("--config", config, "send").status == 0


def test_a_recovery_that_cannot_begin_leaves_nothing(
    f2b_digest: Command, config: Path, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the copy finds no room, that is said, and no half of it stays."""
    break_events(full)
    monkeypatch.setattr("f2b_digest.store.recovery._copy", later)
    ended = f2b_digest("--config", config, "recover")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "No space left on device: nothing was changed" in ended.err
    assert list(full.parent.glob("*.damaged-*")) == []


def test_a_preview_says_that_nothing_is_sent_from_a_damaged_store(
    f2b_digest: Command, config: Path, full: Path
) -> None:
    """It shows what can be read, and with it why no mail will come, and what to do."""
    Path(f"{full}.damaged").write_text("page 3 is malformed\n")
    ended = f2b_digest("--config", config, "preview")
    assert ended.status == 0
    assert "set aside as damaged (page 3 is malformed), and nothing is sent from it" in ended.err
    assert "run f2b-digest recover" in ended.err


def later(*_: object) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ---- gone


@pytest.mark.parametrize("what", ["removed", "emptied"])
def test_a_store_that_is_gone_is_made_anew(f2b_digest: Command, config: Path, full: Path, what: str) -> None:
    """A send says so in a line, the next ban makes a new one, and the reports begin with it."""
    full.unlink() if what == "removed" else full.write_bytes(b"")
    for command in ("send", "status"):
        ended = f2b_digest("--config", config, command)
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert "no store at" in ended.err
    assert f2b_digest("--config", config, *RECORD).err == ""
    shutil.rmtree(config.parent / "out")
    assert f2b_digest("--config", config, "send").status == 0
    assert "1 ban: 203.0.113.99 in sshd" in digests(config)


def test_a_folder_that_is_not_there_is_told_as_a_missing_store(f2b_digest: Command, config: Path) -> None:
    """Before fail2ban's first ban there is none; root is not told to become root."""
    ended = f2b_digest("--config", config, "--store", config.parent / "no/bans.sqlite3", "send")
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "no store at" in ended.err


# ---- an older store


COLUMNS_OF_VERSION_3 = (
    "kind", "host", "jail", "ip", "at", "recorded_at", "failures", "bantime", "bancount", "users", "matches", "source",
    "history",
)  # fmt: skip


def make_version_3(path: Path, *rows: Row) -> None:
    """Make a store of the oldest version that is upgraded: a digest of one ban, and one pending ban (or `rows`)."""
    fill(path, [event(ip="192.0.2.200")])
    with Store(path, read_only=False) as store:
        told = Selection(first_id=1, last_id=1)
        stamp = Stamp("1" * 32, "daily", "", "web1", NOON, 1)
        messages = [("out", Message(f"{path.parent}/out", b"the bytes", "0123456789abcdef0123456789abcdef.out"))]
        assert store.seal(told, stamp=stamp, document="{}", start=NOON, end=NOON, messages=messages)
    fill(path, rows or [event(ip="192.0.2.201")])
    query(path, "DROP INDEX event_age")
    for column in recorder.COLUMNS[len(COLUMNS_OF_VERSION_3) :]:
        query(path, f"ALTER TABLE event DROP COLUMN {column}")
    query(path, f"PRAGMA user_version={migrations.OLDEST}")


def schema(path: Path) -> list[tuple[str, ...]]:
    """Return a store's tables with their columns, its indexes, and its version.

    Not the tables' SQL: a column that a step added stands after the constraints there.
    """
    columns = "SELECT group_concat(name || ' ' || type || ' ' || \"notnull\") FROM pragma_table_info(item.name)"
    items = (
        f"SELECT name, CASE type WHEN 'table' THEN ({columns}) ELSE sql END FROM sqlite_master AS item ORDER BY name"
    )
    return query(path, items) + query(path, "PRAGMA user_version")


def later_step(connection: Connection) -> None:
    """A later version's step."""
    connection.execute("CREATE TABLE later (x)")


def last_step(connection: Connection) -> None:
    """A step that needs the one before."""
    connection.execute("INSERT INTO later VALUES (1)")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make this program one of two versions later; return its version."""
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, later_step, last_step))
    monkeypatch.setattr(recorder, "SCHEMA_VERSION", recorder.SCHEMA_VERSION + 2)
    return recorder.SCHEMA_VERSION


def test_every_version_has_its_step() -> None:
    """The steps lead from the oldest version to this one without a gap."""
    assert migrations.OLDEST + len(migrations.STEPS) == recorder.SCHEMA_VERSION


def test_no_step_of_an_upgrade_is_skipped_or_repeated(path: Path, newer: int) -> None:
    """From the oldest version, each step runs once, in its order."""
    make_version_3(path)
    Store(path, read_only=False).close()
    names = {name for (name,) in query(path, "SELECT name FROM sqlite_master")}
    assert {"event_age", "later", "digest", "delivery"} <= names
    assert query(path, "SELECT x FROM later") == [(1,)]
    assert query(path, "PRAGMA user_version") == [(newer,)]
    before = schema(path)
    Store(path, read_only=False).close()
    assert schema(path) == before


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_upgrade_that_is_interrupted_goes_on_where_it_was(
    path: Path, newer: int, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """The step that fails leaves nothing, those before it are kept, and the next send does the rest."""
    make_version_3(path)
    good = migrations.STEPS

    def broken(connection: Connection) -> None:
        good[failing](connection)
        connection.execute("SELECT * FROM a_table_that_is_not_there")

    monkeypatch.setattr(migrations, "STEPS", (*good[:failing], broken, *good[failing + 1 :]))
    for _ in range(2):
        with pytest.raises(StoreError):
            Store(path, read_only=False)
        assert query(path, "PRAGMA user_version") == [(migrations.OLDEST + failing,)]
        assert query(path, "SELECT count(*) FROM sqlite_master WHERE name = 'event_age'") == [(min(failing, 1),)]
    monkeypatch.setattr(migrations, "STEPS", good)
    Store(path, read_only=False).close()
    assert query(path, "SELECT x FROM later") == [(1,)]
    assert query(path, "PRAGMA user_version") == [(newer,)]


def test_an_upgraded_store_delivers_what_was_pending(f2b_digest: Command, config: Path, path: Path) -> None:
    """The first send upgrades it, sends the stored bytes, and continues from the old mark."""
    make_version_3(path)
    assert f2b_digest("--config", config, "send").status == 0
    assert query(path, "PRAGMA user_version") == [(recorder.SCHEMA_VERSION,)]
    assert "the bytes" in digests(config)
    assert query(path, "SELECT first_id, last_id, bans FROM digest WHERE id = 2") == [(2, 2, 1)]
    fresh = path.parent / "fresh.sqlite3"
    fill(fresh, [event()])
    Store(fresh, read_only=False).close()
    assert set(schema(fresh)) <= set(schema(path))


@pytest.mark.parametrize("command", [["preview"], ["status"], ["history"], ["show", "1", "--format", "raw"]])
def test_an_older_store_can_be_read(f2b_digest: Command, config: Path, path: Path, command: list[str]) -> None:
    """After an upgrade of the program every reader works, and the store stays what it was until the next send."""
    make_version_3(path)
    before = schema(path)
    if command[0] == "show":
        command = [*command, "--output", str(path.parent / "shown")]
    ended = f2b_digest("--config", config, *command)
    assert (ended.status, ended.err) == (0, "")
    assert schema(path) == before


@pytest.mark.parametrize("command", ["preview", "send", "retry"])
def test_a_store_of_before_the_first_release_is_refused(
    f2b_digest: Command, config: Path, path: Path, command: str
) -> None:
    """In one line that says what to do; nothing of it is changed."""
    make_version_3(path)
    query(path, f"PRAGMA user_version={migrations.OLDEST - 1}")
    before = fingerprint(path)
    ended = f2b_digest("--config", config, command)
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "made by an unreleased" in ended.err
    assert "move it away" in ended.err
    assert fingerprint(path) == before


def test_an_older_recorder_goes_on_writing_to_an_upgraded_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fail2ban keeps the recorder that it loaded until it is restarted."""
    make_version_3(path)
    Store(path, read_only=False).close()
    monkeypatch.setattr(recorder, "SCHEMA_VERSION", migrations.OLDEST)
    assert recorder.append(str(path), event(ip="192.0.2.202")) == ""
    assert query(path, "SELECT count(*) FROM event") == [(3,)]
