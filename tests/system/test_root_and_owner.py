"""Root at work on a store of another user's: what it does before it becomes that user, and what works after it."""

import os
import shutil
import site
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from f2b_digest import privileges, recorder
from f2b_digest.errors import StoreError
from tests import ROOT
from tests.support.program import BECOME, Command
from tests.support.raw_server import WebServer, says
from tests.support.smtp_server import PASSWORD, USER, SmtpServer
from tests.support.store_making import NOON, event, query

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = 65534
ACCEPTED = '{"id": "x", "time": 1, "event": "message", "topic": "alerts"}'


@pytest.fixture
def here() -> Iterator[Path]:
    """Provide a folder that everybody may enter, with nobody's store of one ban in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "store").mkdir(mode=0o750)
        os.chown(Path(name) / "store", NOBODY, NOBODY)
        recorder.append(f"{name}/store/bans.sqlite3", event())
        yield Path(name)


def in_child(work: object) -> int:
    """Return the exit status of a child that does some work: 0, or 9 where it raised StoreError."""
    child = os.fork()
    if not child:
        try:
            work()  # type: ignore[operator]
        except StoreError:
            os._exit(9)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("gid", [NOBODY, 0])
def test_an_owner_may_be_in_group_0(gid: int) -> None:
    """That group is no way back to root; where it is not the owner's, it is none to go to."""
    owner = privileges.Owner(NOBODY, gid, "nobody", "/", (gid,))
    assert in_child(lambda: BECOME(owner)) == 0


def test_whoever_can_be_root_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By user or by group, whatever the system says of having changed them."""
    owner = privileges.Owner(NOBODY, NOBODY, "nobody", "/", (NOBODY,))
    monkeypatch.setattr(os, "setresuid", lambda *_: None)
    assert in_child(lambda: BECOME(owner)) == 9
    monkeypatch.undo()
    monkeypatch.setattr(os, "setresgid", lambda *_: None)
    assert in_child(lambda: BECOME(owner)) == 9


def test_the_way_to_the_owner_loads_next_to_nothing() -> None:
    """Each ban by the shell action pays for it."""
    code = "import sys; from f2b_digest import cli, privileges; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"dataclasses", "tempfile", "logging", "random", "sqlite3", "jinja2"}.isdisjoint(loaded)


# ---- retry


def configured(here: Path, url: str) -> Path:
    """Write a configuration with a token that only root can read."""
    (here / "token").write_text("tk_only_roots\n")
    (here / "token").chmod(0o600)
    file = here / "config.toml"
    file.write_text(
        f'store = "{here}/store/bans.sqlite3"\nhost = "web1"\ntimezone = "UTC"\n[reports.daily]\nchannels = ["phone"]\n'
        f'[channels.phone]\nkind = "ntfy"\nurl = "{url}"\ntopic = "alerts"\ntoken_file = "token"\n'
    )
    file.chmod(0o600)
    return file


def test_an_idle_retry_asks_as_the_owner_and_does_no_more(
    here: Path, apart: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root opens nothing of the store: whether something is due, a child asks that has become its owner."""
    config, asked = configured(here, "http://127.0.0.1:9"), here / "asked"
    asked.touch()
    asked.chmod(0o666)

    def answer(*_: object) -> bool:
        with asked.open("a") as file:
            file.write(f"{os.getresuid()} {os.getgroups()}\n")
        return True

    monkeypatch.setattr("f2b_digest.cli.retry.is_idle", answer)
    monkeypatch.setattr("f2b_digest.cli.retry.is_check_due", lambda *_: not answer())
    monkeypatch.setattr("f2b_digest.cli.Program.begin", lambda *_: pytest.fail("it is not idle"))
    ended = apart("--config", config, "retry")
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert asked.read_text() == f"{(NOBODY,) * 3} [{NOBODY}]\n" * 2


def test_a_retry_that_is_due_has_roots_secret(here: Path, apart: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration and its token are closed to the owner, and are read before root becomes it."""
    answers = iter([says(503, "later"), says(200, ACCEPTED, "application/json")])

    def play(connection: socket.socket) -> None:
        next(answers)(connection)

    with WebServer(play) as server:
        config = configured(here, server.url)
        assert apart("--config", config, "send").status == 75
        assert apart("--config", config, "retry").status == 0
        assert len(server.requests) == 1, "it was not due"
        monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 7200))
        ended = apart("--config", config, "retry")
        assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert len(server.requests) == 2
    assert b"tk_only_roots" in server.requests[1]
    assert query(here / "store/bans.sqlite3", "SELECT status FROM delivery") == [("sent",)]


# ---- a program that is closed to the owner


@pytest.fixture
def closed(here: Path) -> Path:
    """Install the program, and reach its libraries, below a folder of root's that nobody else may enter."""
    folder = here / "closed"
    folder.mkdir(mode=0o700)
    for name in ("f2b_digest", "templates", "cron", "action.d"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "libraries").symlink_to(sysconfig.get_path("purelib"))
    return folder


def run(closed: Path, config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run the closed program with cron's environment."""
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run(
        [python, "-s", "-m", "f2b_digest", "--config", config, *words], cwd="/", capture_output=True, text=True,
        check=False, timeout=120, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{closed}:{closed}/libraries"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not site.getsitepackages(), reason="needs the folder of the libraries")
def test_every_kind_delivers_from_a_closed_folder(here: Path, closed: Path) -> None:
    """In French, in a report's own time zone, with a secret of root's, after root has become the owner."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(here / "ca.pem"))
    (here / "password").write_text(PASSWORD)
    (here / "password").chmod(0o600)
    with (
        WebServer(says(200, ACCEPTED, "application/json")) as web,
        SmtpServer("implicit", authority=authority) as mail,
    ):
        config = configured(here, web.url)
        at = web.url.removeprefix("http://")
        channels = {
            "file": f'kind = "file"\nfolder = "{here}/store/out"',
            "maildir": f'kind = "file"\nmaildir = "{here}/store/Maildir"',
            "command": f'kind = "command"\ncommand = ["/bin/sh", "-c", "id -u > {here}/store/id"]',
            "hook": f'kind = "webhook"\nurl = "{web.url}/hook"',
            "mail": f'kind = "email"\nfrom = "f2b@example.org"\nto = ["a@example.org"]\n'
            f'smtp = "smtps://{USER}@127.0.0.1:{mail.port}"\nca_file = "ca.pem"\npassword_file = "password"',
            "others": f'kind = "apprise"\nurl = "json://{at}/other"',
        }  # fmt: skip
        text = config.read_text().replace('channels = ["phone"]', (
            f"channels = {['phone', *channels]}\nlanguage = \"fr\"\ntimezone = \"Asia/Kathmandu\""))  # fmt: skip
        config.write_text(text + "".join(f"[channels.{name}]\n{keys}\n" for name, keys in channels.items()))
        for words in (["preview"], ["send"], ["status"], ["resend", "1"], ["retry"], ["history"], ["prune"]):
            ended = run(closed, config, *words)
            assert (ended.returncode, ended.stderr) == (0, ""), (words, ended.stderr)
        assert len(mail.received) == 2
        paths = [request.split()[1] for request in web.requests]
    assert paths.count(b"/hook") == paths.count(b"/other") == 2
    assert (here / "store/id").read_text() == f"{NOBODY}\n"
    (file, *_) = (here / "store/out").iterdir()
    assert file.stat().st_uid == NOBODY
    assert "adresse" in file.read_text()
    assert set(query(here / "store/bans.sqlite3", "SELECT status FROM delivery")) == {("sent",)}
