"""The owner of the store's folder against root, who runs every command there: each way that is laid must lead nowhere.

A way succeeds if one of root's files is read out, written, made or taken away, if anything of the owner's runs as root,
or if a command of root's hangs.
"""

import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from f2b_digest import recorder
from tests.support.figures import Keep
from tests.support.program import Command, Ended
from tests.support.store_making import event

pytestmark = pytest.mark.slow
SIDE_BY_SIDE = 3
"""Commands at once: sqlite, forks and waits leave a core idle."""
OWNER = 65534
SECRET = "$6$the-hash-of-roots-password"
COMMANDS = (
    ["status"], ["history"], ["show", "1"], ["show", "1", "--format", "raw"], ["preview"], ["retry"], ["send"],
    ["resend", "1"], ["prune"], ["check"], ["recover"], ["-vv", "send"], ["find", "192.0.2.1"],
    ["record", "--jail", "sshd", "--ip", "192.0.2.9"],
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """Root's files, the owner's folder, and what the owner's programs leave behind."""

    root: Path
    folder: Path
    loot: Path
    config: Path

    @property
    def store(self) -> Path:
        """The store's path."""
        return self.folder / "bans.sqlite3"

    def forge(self, channel: str, **values: object) -> "Field":
        """Make a delivery due again by this channel, with these values, as the owner can."""
        values = {"channel": channel, "status": "pending", "attempts": 0, "next_at": 0.0, "in_doubt": 0} | values
        with closing(sqlite3.connect(self.store)) as store:
            columns = ", ".join(f"{name} = ?" for name in values)
            store.execute(f"UPDATE delivery SET {columns} WHERE id = 1", tuple(values.values()))
            store.commit()
        return self

    def link(self, name: str, target: Path) -> "Field":
        """Lay a link in the owner's folder."""
        with suppress(FileNotFoundError):
            (self.folder / name).unlink()
        (self.folder / name).symlink_to(target)
        return self

    def pipe(self, name: str) -> "Field":
        """Lay a pipe that nobody reads from."""
        with suppress(FileNotFoundError):
            (self.folder / name).unlink()
        os.mkfifo(self.folder / name)
        return self

    def write(self, name: str, content: bytes) -> "Field":
        """Write a file in the owner's folder."""
        (self.folder / name).write_bytes(content)
        return self

    def move(self, name: str) -> "Field":
        """Move a file away."""
        (self.folder / name).rename(self.folder / f"{name}.moved")
        return self

    def mkdir(self, name: str) -> "Field":
        """Make a folder."""
        (self.folder / name).mkdir()
        return self


def as_owner(work: Callable[[], object]) -> None:
    """Do something as the owner, in its own process."""
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(OWNER, OWNER, OWNER)
            os.setresuid(OWNER, OWNER, OWNER)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the trap could not be laid"


@pytest.fixture
def field(apart: Command) -> Iterator[Field]:
    """Provide a store of nobody's with one digest told, by way of every kind of channel that writes on this host."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        here = Field(Path(name, "root"), Path(name, "f2b"), Path(name, "loot"), Path(name, "config.toml"))
        Path(name).chmod(0o755)
        for folder, mode in ((here.root, 0o700), (here.folder, 0o750), (here.loot, 0o777)):
            folder.mkdir()
            folder.chmod(mode)
        os.chown(here.folder, OWNER, OWNER)
        (here.root / "shadow").write_text(f"root:{SECRET}:19000:0:99999:7:::\n")
        (here.root / "shadow").chmod(0o600)
        (here.root / "empty").touch()
        recorder.append(str(here.root / "store"), event(ip=SECRET))
        (here.root / "Maildir").mkdir()
        here.config.write_text(
            f'store = "{here.store}"\nhost = "web1"\ntimezone = "UTC"\n'
            '[reports.daily]\nchannels = ["file", "maildir", "command", "syslog"]\n'
            f'[channels.file]\nkind = "file"\nfolder = "{here.folder}/out"\n'
            f'[channels.maildir]\nkind = "file"\nmaildir = "{here.folder}/Maildir"\n'
            f'[channels.command]\nkind = "command"\ncommand = ["/bin/sh", "-c", "id -u >> {here.loot}/ids; id -u"]\n'
            f'[channels.syslog]\nkind = "syslog"\nsocket = "{here.folder}/log"\n'
        )
        recorder.append(str(here.store), event(ip="192.0.2.1"))
        apart("--config", here.config, "send")
        yield here


def images(here: Field) -> dict[str, tuple[bytes, os.stat_result]]:
    """Return root's files, with all that may not change."""
    return {
        str(file): (file.read_bytes() if file.is_file() else b"", _lasting(file))
        for file in sorted(here.root.rglob("*"))
    }


def _lasting(file: Path) -> os.stat_result:
    found = list(file.lstat())
    found[7] = 0  # when it was read
    return os.stat_result(found[:10])


def preload(here: Field) -> str:
    """Make a program that a forged PATH would find before the real one."""
    trap = here.loot / "bin"
    trap.mkdir()
    (trap / "id").write_text(f"#!/bin/sh\n/usr/bin/id -u >> {here.loot}/ids\n")
    (trap / "id").chmod(0o755)
    return str(trap)


def swap(here: Field) -> None:
    """Exchange the store for a link to root's, and back, as fast as it goes, while root works."""
    shutil.copy(here.store, here.folder / "kept")
    for _ in range(2000):
        with suppress(OSError):
            (here.folder / "way").symlink_to(here.root / "store")
            (here.folder / "way").rename(here.store)
            shutil.copy(here.folder / "kept", here.folder / "back")
            (here.folder / "back").rename(here.store)


def trigger(here: Field) -> Field:
    """Let the store's own statements do more: a trigger that forges the next delivery."""
    with closing(sqlite3.connect(here.store)) as store:
        store.execute(
            "CREATE TRIGGER t AFTER UPDATE ON delivery WHEN NEW.channel = 'file' BEGIN UPDATE delivery SET "
            f"identity = '../../{here.root.name}/evil' WHERE id = NEW.id; END"
        )
        store.commit()
    return here


def forged_program(here: Field) -> None:
    """Put variables before a command's text that would make it another program."""
    here.forge("command", message=f"PATH={preload(here)}\nENV={here.loot}/bin/id\nLD_PRELOAD=/x.so\n\n".encode())


WAYS: dict[str, Callable[[Field], object]] = {
    "a file's name that leads out": lambda f: f.forge("file", identity=f"../../{f.root.name}/evil"),
    "a file's absolute name": lambda f: f.forge("file", identity=str(f.root / "empty"), message=b"evil"),
    "a mail's name that leads out": lambda f: f.forge("maildir", identity=f"../../../{f.root.name}/evil"),
    "a mail's absolute name": lambda f: f.forge("maildir", identity=str(f.root / "empty"), message=b"evil"),
    "another folder as recipient": lambda f: f.forge("file", recipient=str(f.root)),
    "variables of a command": forged_program,
    "a command as recipient": lambda f: f.forge("command", recipient=f"{f.loot}/bin/id"),
    "root's socket": lambda f: f.forge("syslog", recipient=str(f.root / "socket")),
    "rows of a trigger": lambda f: trigger(f).forge("file"),
    "the folder of files as a link": lambda f: f.move("out").link("out", f.root),
    "the Maildir as a link": lambda f: f.move("Maildir").link("Maildir", f.root),
    "the store as a link": lambda f: f.link("bans.sqlite3", f.root / "store"),
    "the store as a link to nothing": lambda f: f.link("bans.sqlite3", f.root / "new"),
    "the store as a pipe": lambda f: f.pipe("bans.sqlite3"),
    "the store as a folder": lambda f: f.move("bans.sqlite3").mkdir("bans.sqlite3"),
    "a store exchanged while root works": lambda f: None,
    "a mark as a link": lambda f: f.link("bans.sqlite3.damaged", f.root / "shadow"),
    "a mark as a pipe": lambda f: f.pipe("bans.sqlite3.damaged"),
    "a damaged store and a mark as a link to nothing": lambda f: f.write(
        "bans.sqlite3", f.store.read_bytes()[:4096] + b"\xff" * 8192
    ).link("bans.sqlite3.damaged", f.root / "new"),
    "a spool as a link": lambda f: f.link("bans.sqlite3.spool", f.root / "shadow"),
    "a spool as a pipe": lambda f: f.pipe("bans.sqlite3.spool"),
    "a taken spool as a link": lambda f: f.link("bans.sqlite3.spool.taken", f.root / "shadow"),
    "torn lines as a link": lambda f: f.write("bans.sqlite3.spool", b'{"torn\n').link(
        "bans.sqlite3.spool.torn", f.root / "empty"
    ),
    "torn lines as a pipe": lambda f: f.write("bans.sqlite3.spool", b'{"torn\n').pipe("bans.sqlite3.spool.torn"),
    "a WAL as a link": lambda f: f.link("bans.sqlite3-wal", f.root / "shadow"),
    "a shared memory as a link": lambda f: f.link("bans.sqlite3-shm", f.root / "empty"),
    "a journal as a link": lambda f: f.link("bans.sqlite3-journal", f.root / "shadow"),
}


TITLE = "the owner of the folder against root"


@pytest.mark.parametrize("way", WAYS)
def test_the_owner_of_the_folder_gets_nothing_from_root(way: str, field: Field, apart: Command, figures: Keep) -> None:
    """Root runs every command where the owner has laid a trap, with their rows, links, pipes and exchanges."""
    figures(TITLE, counts={"ways tried": 1, "succeeded": 1})  # until the end of this test
    as_owner(lambda: WAYS[way](field))
    before = images(field)
    racer = threading.Thread(target=as_owner, args=(lambda: swap(field),))
    if "exchanged" in way:
        racer.start()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        ends = list(pool.map(lambda command: apart("--config", field.config, *command), COMMANDS))
    if racer.ident:
        racer.join()
    as_fail2ban(field)
    assert_nothing_gained(field, before, ends)
    figures(TITLE, counts={"succeeded": -1})


def as_fail2ban(here: Field, *, locked: bool = True) -> None:
    """Record as the action does: as root, who stays root, and quickly; `locked`, into the spool, too."""
    begun = time.monotonic()
    with suppress(recorder.NotStored):
        recorder.append(str(here.store), event(ip="192.0.2.77"), 0.1)
    if locked and here.store.is_file() and not here.store.is_symlink():
        with closing(sqlite3.connect(here.store)) as somebody, suppress(sqlite3.Error, recorder.NotStored):
            somebody.execute("BEGIN IMMEDIATE")
            recorder.append(str(here.store), event(ip="192.0.2.78"), 0.1)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("whose", [0, 1000])
@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal", ".spool", ".spool.torn", ".damaged"])
def test_root_writes_to_no_strangers_file_by_another_name(
    whose: int, end: str, field: Field, apart: Command, figures: Keep
) -> None:
    """As an owner can give it one where `fs.protected_hardlinks` is off."""
    figures(TITLE, counts={"ways tried": 1, "succeeded": 1})
    victim, name = field.config.parent / "victim", Path(f"{field.store}{end}")
    victim.write_text(f"{SECRET}\n")
    victim.chmod(0o600)
    os.chown(victim, whose, whose)
    locked = end not in ("-wal", "-shm", "-journal")  # the test's own lock would write there
    name.unlink(missing_ok=True)
    os.link(victim, name)
    as_fail2ban(field, locked=locked)
    said = [apart("--config", field.config, *command) for command in COMMANDS]
    as_fail2ban(field, locked=locked)
    status = victim.stat()
    assert (victim.read_text(), status.st_uid, status.st_mode & 0o777) == (f"{SECRET}\n", whose, 0o600)
    assert not [ended for ended in said if SECRET in ended.out + ended.err or "Traceback" in ended.err]
    figures(TITLE, counts={"succeeded": -1})


def assert_nothing_gained(here: Field, before: dict[str, tuple[bytes, os.stat_result]], ends: list[Ended]) -> None:
    """Root's files are as they were, and are told nowhere; nothing ran as root; every end is one that is meant."""
    assert images(here) == before
    for command, ended in zip(COMMANDS, ends, strict=True):
        assert SECRET not in ended.out + ended.err, command
        assert ended.status in (0, 1, 2, 3, 75, 78), command
        assert "Traceback" not in ended.err, (command, ended)
    for file in (*here.folder.rglob("*"), *here.loot.rglob("*")):
        assert file.lstat().st_uid == OWNER, f"root made {file}"
        if file.is_file() and not file.is_symlink() and SECRET.encode() in file.read_bytes():
            pytest.fail(f"{file} holds root's secret")
    ran = here.loot / "ids"
    assert not ran.exists() or set(ran.read_text().split()) == {str(OWNER)}


# ---- what root itself uses


@pytest.mark.parametrize("what", ["config.toml", "templates", "templates/email/body.txt", "."])
@pytest.mark.parametrize("how", ["another's", "writable"])
def test_root_refuses_what_others_may_change(field: Field, apart: Command, what: str, how: str) -> None:
    """The configuration, its folder, the templates: each command ends with 78 and a line that says what to do."""
    here = field.config.parent
    (here / "templates/email").mkdir(parents=True)
    (here / "templates/email/body.txt").write_text("{{ host }}")
    field.config.write_text('templates = "templates"\n' + field.config.read_text())
    assert apart("--config", field.config, "preview").status == 0
    if how == "writable":
        (here / what).chmod(0o777)
    else:
        os.chown(here / what, OWNER, OWNER)
    idle = [] if what.startswith("templates") else [["retry"]]  # with nothing due it reads no template
    for command in (["send"], ["preview"], *idle, ["status"]):
        ended = apart("--config", field.config, *command)
        assert (ended.status, ended.out) == (78, ""), (command, ended)
        assert "root does not use files that others can change" in ended.err
        assert f"{'chmod go-w' if how == 'writable' else 'chown root'} {(here / what)}" in ended.err
        assert ended.err.count("\n") == 1
    ended = apart("--config", field.config, "check")
    assert ended.status == 78
    assert "error   configuration: root does not use files that others can change" in ended.out


def test_there_is_no_way_back(field: Field, apart: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by user, not by group, not by a group that root was in; and the command's own programs are the owner's."""
    apart("--config", field.config, "resend", "1", "--channel", "command")
    assert set((field.loot / "ids").read_text().split()) == {str(OWNER)}

    def look(*_: object) -> None:
        status = Path("/proc/self/status").read_text()
        (field.loot / "status").write_text(status)

    monkeypatch.setattr("f2b_digest.store.Store.close", look)
    apart("--config", field.config, "status")
    lines = dict(line.split(":", 1) for line in (field.loot / "status").read_text().splitlines() if ":" in line)
    assert lines["Uid"].split() == lines["Gid"].split() == [str(OWNER)] * 4
    assert set(lines["Groups"].split()) <= {str(OWNER)}
    assert {int(lines[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")} == {0}
    assert lines["NoNewPrivs"].strip() == "0", "postdrop has to become its group"


def test_a_folder_that_others_may_write_to_is_refused(field: Field, apart: Command) -> None:
    """A store of root's in /tmp, in a group's folder, or below a folder of another user."""
    for folder in ("sticky", "group"):
        (field.config.parent / folder).mkdir()
    (field.config.parent / "sticky").chmod(0o1777)
    os.chown(field.config.parent / "group", 0, OWNER)
    (field.config.parent / "group").chmod(0o770)
    (field.folder / "roots").mkdir(mode=0o755)
    for store, advice in (
        (field.config.parent / "sticky/b", "choose a folder that only one user may write to"),
        (field.config.parent / "group/b", "chmod go-w"),
        (field.folder / "roots/b", "chown nobody"),
    ):
        for command in (["status"], ["send"], ["record", "--jail", "sshd", "--ip", "192.0.2.9"]):
            ended = apart("--config", field.config, "--store", store, *command)
            assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1), ended
            assert advice in ended.err
        assert list(store.parent.iterdir()) == []


def test_the_field_is_as_the_ways_need_it(field: Field) -> None:
    """One digest, told by three channels, and by a fourth to be tried again."""
    with closing(sqlite3.connect(field.store)) as store:
        rows = dict(store.execute("SELECT channel, status FROM delivery"))
    assert rows == {"file": "sent", "maildir": "sent", "command": "sent", "syslog": "deferred"}
