"""Who may do what: all but the append without root, no secret in sight, templates boxed in, links not followed."""

import base64
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from f2b_digest import recorder, resources
from tests import ROOT
from tests.support.program import Command, Ended
from tests.support.raw_server import RawServer, WebServer, says, silent
from tests.support.smtp_server import USER, SmtpServer
from tests.support.store_making import event, fill, query

NOBODY = 65534
DOOR = ROOT / "action.d/f2b-digest.py"
AS_NOBODY = """
import contextlib, io, json, os, sys, zoneinfo
from f2b_digest import host
from f2b_digest.cli import COMMANDS, cli, main

demo, config, commands = sys.argv[1:]
for name in COMMANDS:  # every module and codec is loaded first, for nobody may not be able to read them
    cli.get_command(None, name)
with contextlib.redirect_stdout(io.StringIO()):
    cli.main(["demo", "--folder", demo], standalone_mode=False)
zoneinfo.ZoneInfo("UTC"), "example.org".encode("idna"), list(host.own_networks())
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
ends = []
for arguments in json.loads(commands):
    sys.argv = ["f2b-digest", "--config", config, *arguments]
    status = 0
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    ends.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(ends))
"""
SECRETS = ("hunter2-inline", "hunter2-in-a-file", "tk_inline_secret", "tk_secret_in_a_file")


@pytest.fixture
def shared() -> Iterator[Path]:
    """Provide a folder that everybody may enter; pytest's own are closed."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=[0o2750, 0o750], ids=oct)
def folder(shared: Path, request: pytest.FixtureRequest) -> Path:
    """Provide the store's folder and a configuration, both owned by the user nobody."""
    folder = shared / "f2b-digest"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    folder.chmod(request.param)
    shutil.copytree(resources.folder("templates"), shared / "templates")  # nobody may not be able to read the checkout
    (shared / "config.toml").write_text(
        f'store = "{folder}/bans.sqlite3"\nhost = "web1"\ntimezone = "UTC"\ntemplates = "templates"\n'
        f'[reports.daily]\nchannels = ["out"]\n[channels.out]\nkind = "file"\nfolder = "{folder}/out"\n'
    )
    return folder


def nobody(folder: Path, *commands: list[str]) -> list[Ended]:
    """Run the program's commands as nobody, one after the other."""
    here = folder.parent
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, here / "demo", here / "config.toml", json.dumps(commands)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Ended(*end) for end in json.loads(done.stdout)]


def root_records(folder: Path, ip: str) -> Ended:
    """Append a ban as root, with fail2ban's umask."""
    done = subprocess.run(
        [sys.executable, DOOR, f"--store={folder}/bans.sqlite3", "--jail=sshd", f"--ip={ip}"],
        capture_output=True, text=True, check=False, umask=0o077,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def owners_and_modes(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Return each file's owner, group and mode."""
    return {
        file.name: (status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode)))
        for file in folder.iterdir()
        if file.is_file()
        for status in [file.stat()]
    }


# ---- without root


def test_what_root_makes_belongs_to_the_folders_owner(folder: Path) -> None:
    """The store, SQLite's files beside it and the spool, whatever fail2ban's umask is."""
    before = os.umask(0o077)
    try:
        store = str(folder / "bans.sqlite3")
        with closing(recorder.connect(store)) as connection:
            connection.execute(recorder.INSERT, event())
            connection.execute("BEGIN IMMEDIATE")
            assert recorder.append(store, event(ip="192.0.2.8"), 0)
            names = {f"bans.sqlite3{end}" for end in ("", "-wal", "-shm", ".spool")}
            assert owners_and_modes(folder) == dict.fromkeys(names, (NOBODY, NOBODY, "0o640"))
    finally:
        os.umask(before)


@pytest.mark.slow
def test_everything_but_the_append_works_without_root(folder: Path) -> None:
    """Root's appends and nobody's commands work in parallel; both can use every file."""
    assert root_records(folder, "192.0.2.1") == Ended(0, "", "")
    commands = (["status"], ["preview"], ["send"], ["retry"], ["prune"], ["history"], ["show", "1"], ["resend", "1"])
    ends = nobody(folder, *commands)
    assert {(ended.status, ended.err) for ended in ends} == {(0, "")}
    assert "1 ban pending" in ends[0].out
    assert "192.0.2.1" in ends[1].out
    with closing(recorder.connect(str(folder / "bans.sqlite3"))) as somebody:
        somebody.execute("BEGIN EXCLUSIVE")
        assert root_records(folder, "192.0.2.2").err.startswith(f"f2b-digest: in {folder}/bans.sqlite3.spool")
    with (folder / "bans.sqlite3.spool").open("r+b") as spool:
        spool.write(b"{torn\n" + spool.read().rstrip(b"\0"))
    (ended,) = nobody(folder, ["send"])
    assert (ended.status, ended.err.count("\n")) == (0, 1)  # the torn line
    assert root_records(folder, "192.0.2.3") == Ended(0, "", "")
    assert query(folder / "bans.sqlite3", "SELECT bans FROM digest") == [(1,), (1,)]
    for name, (uid, gid, mode) in owners_and_modes(folder).items():
        assert (name, uid, gid) == (name, NOBODY, NOBODY)
        assert mode in ("0o640", "0o600"), name
    assert all(file.stat().st_mode & 0o007 == 0 for file in (folder / "out").iterdir())


@pytest.mark.slow
def test_a_store_that_roots_send_set_aside_is_explained_to_its_owner(folder: Path) -> None:
    """The folder's owner can read and remove the marker."""
    root_records(folder, "192.0.2.1")
    with (folder / "bans.sqlite3").open("r+b") as store:
        store.seek(4096 * 2)
        store.write(b"\xff" * 4096)
    subprocess.run(
        [sys.executable, "-m", "f2b_digest", "--config", folder.parent / "config.toml", "send"],
        cwd=ROOT, capture_output=True, check=False, umask=0o077,
    )  # fmt: skip
    (ended,) = nobody(folder, ["send"])
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "set aside as damaged" in ended.err
    assert "Permission denied" not in ended.err


# ---- links in a folder that is not root's


@pytest.fixture
def trap(shared: Path) -> Path:
    """Provide a folder owned by nobody, beside one owned by root."""
    (shared / "root").mkdir(mode=0o700)
    folder = shared / "f2b-digest"
    folder.mkdir(mode=0o750)
    os.chown(folder, NOBODY, NOBODY)
    return folder


def lay(link: Path, target: Path) -> None:
    """Create a symlink as nobody."""
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)


def contents(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return what root's files hold, and whose they are."""
    return {
        file.name: (file.read_bytes(), file.stat().st_uid, file.stat().st_mode)
        for file in (folder.parent / "root").iterdir()
    }


def make_victims(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Make files of root's that an append could harm: an empty one, a text, a store; the fourth is not there."""
    (folder.parent / "root/empty").touch()
    (folder.parent / "root/text").write_text("PATH=/usr/bin\n")
    fill(folder.parent / "root/store", [event()])
    return contents(folder)


@pytest.mark.parametrize("target", ["empty", "text", "store", "profile.sh"])
@pytest.mark.parametrize("name", ["", "-wal", "-shm", "-journal", ".spool", ".spool.taken", ".spool.torn", ".damaged"])
@pytest.mark.parametrize("there", [False, True], ids=["no store", "a store"])
def test_root_writes_to_no_file_behind_a_link(trap: Path, apart: Command, name: str, target: str, there: bool) -> None:
    """Whatever the folder's owner puts there, an append and a send by root leave root's files alone."""
    before = make_victims(trap)
    store = trap / "bans.sqlite3"
    if there and name:
        fill(store, [event(ip="192.0.2.1")])
    if name != ".spool":
        Path(f"{store}.spool").write_bytes(b'{"torn\n')
    lay(Path(f"{store}{name}"), trap.parent / "root" / target)
    text = "x\nrm -rf /\n"
    try:
        recorder.append(str(store), event(jail=text, ip=text, matches=text), 0.1)
    except recorder.NotStored as error:
        assert name == ".spool", error
    apart("--store", store, "send")
    assert contents(trap) == before


def test_a_ban_is_not_lost_to_a_link(trap: Path) -> None:
    """Where the store is none that root may write to, the spool takes it."""
    make_victims(trap)
    lay(trap / "bans.sqlite3", trap.parent / "root/profile.sh")
    assert "is a symlink of user 65534" in recorder.append(str(trap / "bans.sqlite3"), event())
    assert recorder.spooled(str(trap / "bans.sqlite3")) == 1


def test_a_link_that_root_made_is_followed(trap: Path) -> None:
    """An admin may keep the store on another disk."""
    (trap / "bans.sqlite3").symlink_to(trap / "elsewhere.sqlite3")
    fill(trap / "elsewhere.sqlite3", [])
    assert recorder.append(str(trap / "bans.sqlite3"), event()) == ""
    assert query(trap / "elsewhere.sqlite3", "SELECT count(*) FROM event") == [(1,)]


@pytest.mark.alone
@pytest.mark.parametrize("name", ["", ".spool"])
def test_no_pipe_holds_an_append_up(trap: Path, name: str) -> None:
    """A FIFO without a reader is refused like any other file that is not a store."""
    os.mkfifo(trap / f"bans.sqlite3{name}")
    started = time.monotonic()
    refused = recorder.append(str(trap / "bans.sqlite3"), event(), 0.1)
    assert bool(refused) == (not name)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "name", ["bans?.sqlite3", "bans#1.sqlite3", "100%25.sqlite3", "a b.sqlite3", "b\udcff.sqlite3", "ж"]
)
def test_a_store_may_have_any_name(tmp_path: Path, name: str) -> None:
    """The file that is written is the one that is named, and no other is made."""
    assert recorder.append(str(tmp_path / name), event()) == ""
    assert [file for file in os.listdir(tmp_path) if not file.endswith((".spool", "-wal", "-shm"))] == [name]


# ---- secrets


@pytest.fixture
def secretive(path: Path, tmp_path: Path) -> Iterator[Path]:
    """Provide a configuration with four secrets, whose servers refuse them, and repeat what they can."""
    (tmp_path / "password").write_text(SECRETS[1] + "\n")
    (tmp_path / "token").write_text(SECRETS[3] + "\n")
    for name in ("password", "token"):
        (tmp_path / name).chmod(0o600)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ExitStack() as stack:
        mail = stack.enter_context(SmtpServer("implicit", authority=authority))
        web = stack.enter_context(WebServer(lambda connection: refuse(web, connection)))
        address = f'smtp = "smtps://{USER}@127.0.0.1:{mail.port}"\nca_file = "ca.pem"\n'
        email = f'kind = "email"\nfrom = "f2b@example.org"\nto = ["a@example.org"]\n{address}'
        ntfy = f'kind = "ntfy"\nurl = "{web.url}"\ntopic = "alerts"\n'
        file = tmp_path / "secret.toml"
        file.write_text(
            f'store = "{path}"\nhost = "web1"\n[reports.daily]\nchannels = ["a", "b", "c", "d"]\n'
            f'[channels.a]\n{email}password = "{SECRETS[0]}"\n[channels.b]\n{email}password_file = "password"\n'
            f'[channels.c]\n{ntfy}token = "{SECRETS[2]}"\n[channels.d]\n{ntfy}token_file = "token"\n'
        )
        file.chmod(0o600)
        fill(path, [event()])
        yield file


def refuse(server: WebServer, connection: socket.socket) -> None:
    """Answer that the token is wrong, and repeat it."""
    token = re.search(rb"(?i)authorization: \w+ (.*)\r", server.requests[-1])
    assert token
    says(401, json.dumps({"code": 40101, "error": f"not welcome: {token[1].decode()}"}), "application/json")(connection)


def forms(secret: str) -> list[str]:
    """Return a secret as it is, and as it goes over a wire."""
    return [secret, *(base64.b64encode(text.encode()).decode()[:-4] for text in (f"\0{USER}\0{secret}", secret))]


def assert_no_secret(*texts: str | bytes) -> None:
    """Look for every form of every secret."""
    for text in texts:
        content = text if isinstance(text, bytes) else text.encode()
        assert [form for secret in SECRETS for form in forms(secret) if form.encode() in content] == []


COMMANDS = (
    ["-v", "send"], ["-v", "retry"], ["status"], ["status", "--json"], ["history"], ["history", "--json"],
    ["show", "1"], ["show", "1", "--format", "json"], ["-v", "resend", "1"], ["preview"],
    ["preview", "--format", "html"], ["send"],
)  # fmt: skip


def test_no_secret_is_ever_shown_or_stored(f2b_digest: Command, secretive: Path, path: Path) -> None:
    """Refused by every server: nothing on the terminal, and nothing in any file of the store."""
    for command in COMMANDS:
        ended = f2b_digest("--config", secretive, *command)
        assert_no_secret(ended.out, ended.err)
    assert query(path, "SELECT count(*) FROM delivery WHERE status IN ('failed', 'deferred')") == [(8,)]
    assert_no_secret(*(file.read_bytes() for file in path.parent.glob("bans.sqlite3*")))


@pytest.mark.parametrize("place", ["f2b_digest.channels.http.post", "f2b_digest.channels.smtp.transact"])
def test_a_bug_shows_no_secret(
    f2b_digest: Command, secretive: Path, path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The text of an unexpected exception may contain anything, so it is not shown."""

    def bug(*arguments: object, **options: object) -> None:
        raise RuntimeError(f"{arguments} {options} {SECRETS}")

    monkeypatch.setattr(place, bug)
    ended = f2b_digest("-v", "--config", secretive, "send")
    assert "a bug in f2b-digest: RuntimeError at " in ended.err
    assert_no_secret(ended.err, ended.out, f2b_digest("--config", secretive, "status").out)
    assert_no_secret(*(file.read_bytes() for file in path.parent.glob("bans.sqlite3*")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "email"', 'kind = "emial"'),
        ("password = ", "pasword = "),
        ("token = ", "tokken = "),
        ('password = "', 'password = 5 # "'),
        ('token = "', 'token = ["", "'),
        ('smtp = "smtps://f2b@', f'smtp = "smtps://f2b:{SECRETS[0]}@'),
        ('url = "http://', f'url = "http://f2b:{SECRETS[0]}@'),
        ('topic = "alerts"', f'topic = "{SECRETS[0]} and more"'),
        ('token = "', 'user = "x"\npassword = "'),
    ],
)
def test_no_mistake_in_the_configuration_shows_a_secret(
    f2b_digest: Command, secretive: Path, old: str, new: str
) -> None:
    """The lines name the place, never its content."""
    text = secretive.read_text()
    assert old in text
    secretive.write_text(text.replace(old, new))
    ended = f2b_digest("-v", "--config", secretive, "send")
    assert ended.status in (1, 75, 78)
    assert_no_secret(ended.err, ended.out)


@pytest.mark.slow
def test_no_process_has_a_secret_in_its_arguments_or_environment(secretive: Path) -> None:
    """`ps` shows none while the program waits for a slow server."""
    with RawServer(silent) as slow, ExitStack() as stack:
        text = secretive.read_text().replace("https://", "http://")
        start, web = text.index('url = "http://'), f'url = "{slow.url}"\ntopic'
        secretive.write_text(text[:start] + text[start:].replace(text[start:].partition("\ntopic")[0] + "\ntopic", web))
        sender = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "f2b_digest", "--config", secretive, "send"],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        stack.callback(sender.kill)
        until = time.monotonic() + 20
        while not connected(sender.pid, slow.port) and time.monotonic() < until:
            time.sleep(0.02)
        assert connected(sender.pid, slow.port)
        seen = [
            read(file)
            for process in Path("/proc").glob("[0-9]*")
            for file in (process / "cmdline", process / "environ")
        ]
        assert any(b"secret.toml" in text for text in seen)
        assert_no_secret(*seen)


def connected(process: int, port: int) -> bool:
    """Return whether a process of ours has a connection to a port of this host."""
    table = read(Path(f"/proc/{process}/net/tcp")).decode().splitlines()
    return any(line.split()[2:4] == [f"0100007F:{port:04X}", "01"] for line in table)


def read(file: Path) -> bytes:
    """Read a file of /proc; nothing where its process has ended."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


# ---- the sandbox

TRICKS = {
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a class by a filter": "{{ (host | attr('__class__')).__mro__ }}",
    "a class by map": "{{ [host] | map(attribute='__class__') | first }}",
    "a class by format": "{{ '{0.__class__.__init__.__globals__}'.format(host) }}",
    "a class by format_map": "{{ '{x.__class__}'.format_map({'x': host}) }}",
    "globals of a function": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "globals of a class": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "globals of the template": "{{ self.__init__.__globals__ }}",
    "a generator's frame": "{{ (jails | map('upper')).gi_frame.f_globals }}",
    "an import": "{% import 'os' as os %}{{ os.popen('id').read() }}",
    "an import from": "{% from 'subprocess' import run %}{{ run(['id']) }}",
    "eval": "{{ eval('1') }}",
    "a changed list": "{{ jails.clear() }}",
    "a changed dict": "{{ totals.update({'bans': 0}) }}",
    "a popped dict": "{{ totals.pop('bans') }}",
    "a file": "{% include '/etc/passwd' %}",
    "a file above": "{% include '../../../../../../etc/passwd' %}",
    "a file by a link": "{% include 'email/link.txt' %}",
    "a folder by a link": "{% include 'linked/passwd' %}",
    "a parent": "{% extends '/etc/passwd' %}",
    "a module's file": "{{ url_for.__globals__ }}",
    "itself": "{% include 'email/body.txt' %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "powers": "{{ 9 ** 9 ** 9 }}",
    "a huge range": "{% for i in range(999999999) %}{% endfor %}",
    "a huge text": "{{ 'x' * 1000000000000000000 }}",
    "a huge width": "{{ '%1000000000000000000d' | format(1) }}",
    "an endless loop": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "an endless filter": "{{ range(99999) | map('string') | map('center', 99999) | map('upper') | join }}",
    "nothing readable": "\0\x1b]0;pwned\x07{{ }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_no_template_gets_out_of_its_sandbox(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    """It is refused or ended, one line says so, and the digest goes out with the built-in one, whole."""
    monkeypatch.setattr("f2b_digest.rendering.renderer.RENDERING", 0.5)
    own = config.parent / "own"
    (own / "email").mkdir(parents=True)
    (own / "email/link.txt").symlink_to("/etc/passwd")
    (own / "linked").symlink_to("/etc")
    (own / "email/body.txt").write_text(trick)
    config.write_text('templates = "own"\n' + config.read_text())
    fill(path, [event(ip="192.0.2.1"), event(ip="192.0.2.2")])
    started = time.monotonic()
    ended = f2b_digest("--config", config, "send")
    assert time.monotonic() - started < 10
    assert (ended.status, ended.out, ended.err.count("\n")) == (0, "", 1)
    links = {
        "a file by a link": "own/email/link.txt",
        "a folder by a link": "own/linked",
    }  # told instead of who takes it in
    guilty = next((place for name, place in links.items() if TRICKS[name] == trick), "email/body.txt")
    assert re.search(rf"template \S*{re.escape(guilty)}\b", ended.err)
    (file,) = (config.parent / "out").iterdir()
    for text in (ended.err, file.read_text()):
        assert "root:x:" not in text
        assert "uid=" not in text
        assert not any(character in text for character in "\0\x07\x1b")
    assert "192.0.2.2" in file.read_text()
    assert re.search(r"^ +2 bans\n +2 addresses$", file.read_text(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "{{ x['\x1b]0;pwned\x07'] }}",
        "{% include '\x1b[2J\u202e' %}",
        "{{ host.x\n }}",
        "{{ {}['\r\nf2b-digest: all is well'] }}",
    ],
)
def test_a_templates_own_words_do_not_reach_the_terminal_as_they_are(
    f2b_digest: Command, config: Path, path: Path, text: str
) -> None:
    """Its error is one line in which control characters are escapes, for preview and for send."""
    own = config.parent / "own/email"
    own.mkdir(parents=True)
    (own / "body.txt").write_text(text, newline="")
    config.write_text('templates = "own"\n' + config.read_text())
    fill(path, [event()])
    for command in ("preview", "send"):
        ended = f2b_digest("--config", config, command)
        assert (ended.status, ended.err.count("\n")) == (0, 1)
        assert all(character.isprintable() or character == "\n" for character in ended.err + ended.out)
