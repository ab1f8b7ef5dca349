"""Attempts: channels in parallel, a dead one tried once, forged rows, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from f2b_digest.channels import KINDS
from f2b_digest.channels.base import Channel
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.config import Report
from f2b_digest.delivery import attempts
from tests.support import raw_server
from tests.support.office import DAY, Office, Recording, later
from tests.support.program import Command
from tests.support.raw_server import RawServer
from tests.support.store_making import event, fill, query

PEOPLE = tuple(f"{name}@example.org" for name in ("ann", "bob", "cat", "dan", "eve"))


def mail(port: int, *to: str) -> Channel:
    """Return a channel to an SMTP server on loopback."""
    settings = {"kind": "email", "from": "f2b@example.org", "to": to, "smtp": f"smtp://127.0.0.1:{port}"}
    return KINDS["email"].model_validate(settings)


def office(path: Path, channels: dict[str, Channel]) -> Office:
    """Return an office with one report by all of these channels, with the built-in templates and a pending ban."""
    here = Office(path, channels, {"daily": Report(channels=tuple(channels))})
    (here.templates / "email").mkdir()
    for name in ("subject.txt", "body.txt", "body.html"):
        (here.templates / "email" / name).write_text("{{ totals.bans }}")
    here.ban("192.0.2.1")
    return here


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """End each attempt after three seconds, and the channel's own deadline half a second before."""
    monkeypatch.setattr(attempts, "DEADLINE", 3.0)
    monkeypatch.setattr(attempts, "GRACE", 0.5)


# ---- side by side


@pytest.mark.alone
@pytest.mark.usefixtures("impatient")
def test_dead_channels_cost_the_others_nothing(path: Path) -> None:
    """Three servers that never answer, with five recipients each: the good one is done within 2 s."""
    done = path.parent / "done"
    good = Recording(meanwhile=lambda: done.write_text(str(time.monotonic())))
    with ExitStack() as stack:
        ports = [stack.enter_context(RawServer(raw_server.silent)).port for _ in range(3)]
        channels: dict[str, Channel] = {f"dead-{port}": mail(port, *PEOPLE) for port in ports}
        here = office(path, channels | {"good": good})
        begun = time.monotonic()
        outcomes = here.send()
        ended = time.monotonic()
    assert [outcome.status for outcome in outcomes] == ["deferred"] * 15 + ["sent"]
    assert float(done.read_text()) - begun < 2
    assert ended - begun < 6
    assert len({outcome.reason for outcome in outcomes[:5]}) == 1
    tried = query(path, "SELECT channel, sum(attempts), sum(in_doubt) FROM delivery WHERE channel <> 'good' GROUP BY 1")
    assert [row[1:] for row in tried] == [(1, 0)] * 3


def test_who_was_not_tried_is_tried_first(path: Path) -> None:
    """One recipient whose attempts hang does not block the others for ever, and no attempt is wasted."""
    dead = later("no route")
    dead.unreachable = True
    channel = Recording(to=("hangs", "fine", "well"), trouble={"hangs": dead})
    here = Office(path, {"out": channel}, {"daily": Report(channels=("out",))})
    here.ban("192.0.2.1")
    assert [outcome.status for outcome in here.send()] == ["deferred"] * 3
    assert query(path, "SELECT attempts, in_doubt, error FROM delivery ORDER BY id") == [
        (1, 0, "no route"), (0, 0, "no route"), (0, 0, "no route"),
    ]  # fmt: skip
    here.now += 300
    assert [(outcome.recipient, outcome.status) for outcome in here.retry()] == [
        ("hangs", "deferred"), ("fine", "sent"), ("well", "sent"),
    ]  # fmt: skip


@pytest.mark.slow
def test_nobody_is_given_up_earlier_for_being_put_off(path: Path) -> None:
    """Each of three recipients of a server that is gone for good has its five attempts, and its five days."""
    gone = later("no route")
    gone.unreachable = True
    channel = Recording(to=("a", "b", "c"), trouble={"a": gone, "b": gone, "c": gone})
    here = Office(path, {"out": channel}, {"daily": Report(channels=("out",))})
    here.ban("192.0.2.1")
    begun = here.now
    here.send()
    ends: dict[str, float] = {}
    while len(ends) < 3:
        here.now = query(path, "SELECT min(next_at) FROM delivery WHERE status = 'deferred'")[0][0]
        ends |= {outcome.recipient: here.now for outcome in here.retry() if outcome.status == "failed"}
    assert min(query(path, "SELECT attempts FROM delivery"))[0] >= attempts.FEWEST_ATTEMPTS
    assert all(5 * DAY - 4 * 3600 < at - begun < 6 * DAY for at in ends.values())


# ---- rows that nobody here made

HEX = "0f" * 16
# A victim is a file of the test's own: a program that fails the test must not harm the machine that runs it.
FORGED = {
    "file: a path as identity": ("file", "identity", "../victims/new"),
    "file: an absolute identity": ("file", "identity", "HERE/victims/file"),
    "file: a NUL": ("file", "identity", f"{HEX}.out\0.eml"),
    "file: another folder": ("file", "recipient", "HERE/victims"),
    "maildir: an absolute identity": ("maildir", "identity", "HERE/victims/file"),
    "maildir: a line end": ("maildir", "identity", f"{HEX}.out\n.eml"),
    "command: LD_PRELOAD": ("command", "message", b"LD_PRELOAD=/tmp/x.so\n\nhi"),
    "command: one of ours, and PATH": ("command", "message", b"F2B_DIGEST_ID=1\nPATH=/tmp\n\nhi"),
    "command: no variables": ("command", "message", b"\n\nhi"),
    "syslog: another socket": ("syslog", "recipient", "/run/other.sock"),
    "email: an option": ("email", "recipient", "-OQueueDirectory=/tmp"),
    "email: two addresses": ("email", "recipient", "a@example.org, b@example.org"),
    "email: a line end": ("email", "recipient", "a@example.org\nRCPT TO:<b@example.org>"),
    "ntfy: another topic": ("ntfy", "message", b'{"topic": "other", "message": "hi"}'),
    "ntfy: thousands deep": ("ntfy", "message", b"[" * 100_000),
    "abuseipdb: no report": ("abuseipdb", "message", b'{"rows": [["9.9.9.9"]], "left_out": {}}'),
    "apprise: no notification": ("apprise", "message", b"hi"),
    "webhook: a header": ("webhook", "identity", f"{HEX}\r\nX-Evil: 1"),
}


@pytest.mark.parametrize(("kind", "column", "value"), FORGED.values(), ids=FORGED)
def test_a_forged_row_is_named_and_the_others_go_on(
    path: Path, tmp_path: Path, kind: str, column: str, value: Any
) -> None:
    """Nothing is written, run or connected to for it."""
    witness = tmp_path / "witness"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {witness}\n")
    program.chmod(0o755)
    victims = tmp_path / "victims"
    victims.mkdir()
    (victims / "file").write_text("untouched")
    value = value.replace("HERE", str(tmp_path)) if isinstance(value, str) else value
    with RawServer(lambda _: witness.touch()) as server:
        settings: dict[str, dict[str, Any]] = {
            "file": {"kind": "file", "folder": str(tmp_path / "digests")},
            "maildir": {"kind": "file", "maildir": str(tmp_path / "maildir")},
            "command": {"kind": "command", "command": [str(program)]},
            "syslog": {"kind": "syslog", "socket": str(tmp_path / "log.sock")},
            "email": {"kind": "email", "from": "f@example.org", "to": ["a@example.org"], "sendmail": str(program)},
            "webhook": {"kind": "webhook", "url": server.url},
            "ntfy": {"kind": "ntfy", "url": server.url, "topic": "admin"},
            "abuseipdb": {"kind": "abuseipdb", "url": server.url, "key": "k"},
            "apprise": {"kind": "apprise", "url": f"json://127.0.0.1:{server.port}/"},
        }
        keys = settings[kind]
        recording = Recording(trouble={"admin": later()})
        here = Office(path, {"forged": recording, "good": recording}, {"daily": Report(channels=("forged", "good"))})
        here.ban("192.0.2.1")
        here.send()
        here.channels = {"forged": KINDS[keys["kind"]].model_validate(keys), "good": Recording()}
        right = {"identity": f"{HEX}.forged", "recipient": here.channels["forged"].recipients[0]} | {column: value}
        for name, content in right.items():
            query(path, f"UPDATE delivery SET {name} = ? WHERE channel = 'forged'", content)
        here.now += 300
        forged, good = here.retry()
    assert good.status == "sent"
    assert forged.status == "deferred"
    assert "row 1 of the store's table delivery" in forged.reason
    assert not witness.exists()
    assert [(file.name, file.read_text()) for file in victims.iterdir()] == [("file", "untouched")]
    ours = {"program", "templates", "victims", path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {entry.name for entry in tmp_path.iterdir()} <= ours


# ---- a sender that is killed


def test_a_program_never_takes_a_part_for_the_whole(path: Path, tmp_path: Path, f2b_digest: Command) -> None:
    """Its standard input is a whole file: `send` may be killed while the program reads."""
    got, config = tmp_path / "got", tmp_path / "config.toml"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nhead -c 100 > {got}.new\ntouch {got}.begun\nsleep 0.5\ncat >> {got}.new\n"
                       f"mv {got}.new {got}\n")  # fmt: skip
    program.chmod(0o755)
    config.write_text(
        f'store = "{path}"\n[reports.daily]\nchannels = ["out"]\n'
        f'[channels.out]\nkind = "command"\ncommand = ["{program}"]\n'
    )
    fill(path, [event(ip=f"192.0.2.{n % 250}", jail=f"jail-{n}" * 20, at=n) for n in range(2000)])
    with subprocess.Popen([sys.executable, "-m", "f2b_digest", "--config", config, "send"]) as sender:
        _wait_for(Path(f"{got}.begun"))
        os.kill(sender.pid, signal.SIGKILL)
    _wait_for(got)
    ((message, status, in_doubt),) = query(path, "SELECT message, status, in_doubt FROM delivery")
    assert got.read_bytes() == message.partition(b"\n\n")[2]
    assert (status, in_doubt) == ("deferred", 1)


def _wait_for(file: Path) -> None:
    until = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


# ---- secrets


def test_a_secret_that_cannot_be_read_costs_its_channel_alone(path: Path, tmp_path: Path, f2b_digest: Command) -> None:
    """A FIFO, a missing file, a huge one: `status` and `preview` work, `send` says it in a line, at once."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "huge").write_bytes(b"x" * 100_000)
    config = tmp_path / "config.toml"
    files = ("fifo", "huge", "missing")
    channels = "".join(
        f'[channels.{name}]\nkind = "ntfy"\nurl = "http://127.0.0.1:9"\ntopic = "t"\ntoken_file = "{name}"\n'
        for name in files
    )
    config.write_text(f'store = "{path}"\n[reports.daily]\nchannels = ["fifo", "huge", "missing"]\n{channels}')
    fill(path, [event()])
    begun = time.monotonic()
    assert f2b_digest("--config", config, "status").status == 0
    assert f2b_digest("--config", config, "preview").status == 0
    ended = f2b_digest("--config", config, "send")
    assert time.monotonic() - begun < 20
    assert ended.status == 75
    reasons = [line.partition("retried: ")[2] for line in ended.err.splitlines() if "deferred" in line]
    assert reasons == [
        f"secret file {tmp_path}/fifo: is not a regular file",
        f"secret file {tmp_path}/huge: is larger than 64 KiB",
        f"secret file {tmp_path}/missing: No such file or directory",
    ]


def test_a_secret_shows_in_no_repr(tmp_path: Path) -> None:
    """Neither the channel's nor an error's."""
    (tmp_path / "token").write_text("hunter2\n")
    settings = {"kind": "ntfy", "url": "https://h", "topic": "t", "token_file": str(tmp_path / "token")}
    channel = Ntfy.model_validate(settings)
    assert channel.token and channel.token.reveal() == "hunter2"
    assert "hunter2" not in repr(channel) + str(channel)
