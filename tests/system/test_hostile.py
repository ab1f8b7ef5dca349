"""Hostile text through the whole program: recorded by a door, told by every command, delivered by every channel."""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import recorder
from f2b_digest.text.visible import HIDDEN
from tests.support.figures import Keep
from tests.support.hostile import HOSTILE, Page
from tests.support.program import Command
from tests.support.raw_server import WebServer, says
from tests.support.store_making import NOON, event, fill, query

CORPUS = {name: text for name, text in HOSTILE.items() if text} | {
    "printf": "%b%s%n\\n\\x41\\0101",
    "a shell": "`id`$(id);id|id&&id>x\n'\"",
    "SQL": "'); DROP TABLE event; --",
    "a mail's end": "x\n.\nMAIL FROM:<a@evil.example>\r\n.\r\n",
    "a MIME boundary": "--=_uuid\nContent-Type: text/html\n\n<b>x</b>\n--=_uuid--",
    "an encoded word": "=?utf-8?q?=0d=0aBcc:_x=40evil.example?=",
    "an mbox line": "\nFrom x@evil.example\n",
    "CSV": '=HYPERLINK("http://evil.example","x")\t@SUM(A1)+1-1',
    "four bytes": "😀𐍈\U0010fffd" * 40,
    "combining": "e" + "\u0301" * 200,
    "JSON": '","topic":"other","x":"\\u0000\\',
    "long": "x" * 70_000,
    "long and wide": "😀" * 70_000,
    "a line of the digest": "1 ban\n\nsshd: 9 bans\n  192.0.2.1   9 bans",
}
SAFE = "harmless"
FIELDS = ("jail", "ip", "user", "matches", "host")
COMMANDS = (
    ["status"], ["history"], ["show", "1"], ["show", "1", "--format", "ntfy"], ["show", "1", "--format", "html"],
    ["show", "1", "--format", "json"], ["preview", "--since", "1d"], ["history", "--json"], ["status", "--json"],
)  # fmt: skip


@dataclass
class Told:
    """What the program made of one ban."""

    terminal: str
    """All that was printed by any command."""
    mail: EmailMessage
    raw: bytes
    notification: dict[str, Any]

    @property
    def headers(self) -> list[str]:
        """Return the names of the mail's headers, and of its parts' headers, in order."""
        return [name for part in self.mail.walk() for name in part.keys()]  # noqa: SIM118 - a mail is not a dict

    def part(self, subtype: str) -> str:
        """Return a part of the mail."""
        (part,) = [part for part in self.mail.walk() if part.get_content_subtype() == subtype]
        content = part.get_content()
        assert isinstance(content, str)
        return content


TWINS: dict[tuple[str, ...], Told] = {}


class Program:
    """The program with a file channel and an ntfy channel."""

    def __init__(self, command: Command, folder: Path, server: WebServer) -> None:
        """Keep where things go."""
        self._command, self._folder, self._server = command, folder, server

    def tell_twin(self, *fields: str) -> Told:
        """Return what becomes of a harmless ban with these fields, made once for all tests."""
        if fields not in TWINS:
            TWINS[fields] = self.tell("harmless", **dict.fromkeys(fields, SAFE))
        return TWINS[fields]

    def tell(self, name: str, host: str = "web1", **fields: str) -> Told:
        """Record a ban through the door, send it, and ask every command."""
        folder = self._folder / name
        folder.mkdir()
        config = folder / "config.toml"
        config.write_text(
            f'store = "bans.sqlite3"\nhost = {toml(host)}\ntimezone = "UTC"\n'
            f'[reports.daily]\nchannels = ["box", "phone"]\n[channels.box]\nkind = "file"\nfolder = "box"\n'
            f'[channels.phone]\nkind = "ntfy"\nurl = "{self._server.url}"\ntopic = "alerts"\n'
        )
        options = [f"--{key}={value}" for key, value in ({"jail": SAFE, "ip": SAFE} | fields).items()]
        arguments = (["record", "--failures=5", "--at", str(NOON), *options], ["preview"], ["-v", "send"], *COMMANDS)
        ends = [self._command("--config", config, *each) for each in arguments]
        assert [ended.status for ended in ends] == [0] * len(ends)
        assert [bool(ended.err) for ended in ends] == ["-v" in each for each in arguments]
        (file,) = (folder / "box").iterdir()
        raw = file.read_bytes()
        body = self._server.requests[-1].partition(b"\r\n\r\n")[2]
        mail = message_from_bytes(raw, policy=default)
        assert isinstance(mail, EmailMessage)
        return Told("".join(ended.out + ended.err for ended in ends), mail, raw, json.loads(body))


def toml(text: str) -> str:
    """Return a text as TOML writes it."""
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


@pytest.fixture
def program(f2b_digest: Command, tmp_path: Path) -> Iterator[Program]:
    """Provide the program, with a phone that takes everything."""
    with WebServer(says(200, '{"event":"message","topic":"alerts","id":"x"}', "application/json")) as server:
        yield Program(f2b_digest, tmp_path, server)


def assert_harmless(told: Told, twin: Told) -> None:
    """Compare what became of a hostile ban with what became of a harmless one."""
    assert hidden(told.terminal) <= {"\n"}
    assert told.headers == twin.headers
    assert [told.mail[name] for name in ("From", "To", "Bcc", "Content-Type")] == [
        twin.mail["From"], twin.mail["To"], None, told.mail["Content-Type"],
    ]  # fmt: skip
    assert not any(part.defects for part in told.mail.walk())
    assert len(list(told.mail.iter_parts())) == 2
    assert all(byte < 0x80 for byte in told.raw)
    assert max(map(len, told.raw.split(b"\n"))) <= 998
    assert b"\r" not in told.raw
    assert str(told.mail["Subject"]).isprintable()
    assert Page(told.part("html")).shape == Page(twin.part("html")).shape
    for text in (told.part("plain"), told.part("html"), told.notification["message"], told.notification["title"]):
        assert hidden(text) <= {"\n"}
        assert len(text.encode()) <= 80_000
    assert told.notification.keys() == twin.notification.keys()
    same = ("topic", "priority")
    assert [told.notification[key] for key in same] == [twin.notification[key] for key in same]
    assert len(told.notification["message"].encode()) <= 4095
    for text, other in ((told.notification["message"], twin.notification["message"]), (told.notification["title"], "")):
        assert text.count("\n") == other.count("\n")


def hidden(text: str) -> set[str]:
    """Return the characters of a text that a terminal obeys or a reader cannot see."""
    return {character for character in text if unicodedata.category(character) in HIDDEN}


@pytest.mark.slow
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_a_ban_of_nothing_but_hostile_text(program: Program, text: str, figures: Keep) -> None:
    """As jail, id, user, matched lines and host at once: no header, element, line or control character is added."""
    short = text[:200]
    try:
        short.encode()
    except UnicodeEncodeError:
        short = "web1"  # no TOML can hold it
    fields = {
        "jail": text,
        "ip": text,
        "user": text,
        "matches": f"sshd: {text}",
    }
    figures("hostile texts", counts={"texts": 1, "harmful": 1})  # until the end of this test
    told = program.tell("hostile", host=short, **fields)
    assert_harmless(told, program.tell_twin("host", *fields))
    figures("hostile texts", counts={"harmful": -1})


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_hostile_text_in_one_field(program: Program, field: str) -> None:
    """In each place by itself: what one escapes, another may not."""
    twin = program.tell_twin("host", "jail", "ip", "user", "matches")
    others = {"user": SAFE, "matches": SAFE, "host": SAFE}
    for number, text in enumerate(("\r\nBcc: x@evil.example\r\n\r\n<script>\x1b[2J", "</td></table>\u202e\0--=_")):
        assert_harmless(program.tell(f"hostile{number}", **{**others, field: text}), twin)


def test_the_same_text_reads_the_same_everywhere(program: Program) -> None:
    """A reader of the text, the HTML and the phone sees one spelling of a control character."""
    told = program.tell("hostile", jail="a\x1b[31m\u202eb", ip="192.0.2.1")
    shown = "a\\x1b[31m\\u202eb"
    assert shown in told.part("plain")
    assert shown in Page(told.part("html")).text
    assert shown in told.notification["message"]
    assert shown in told.terminal


@pytest.mark.slow
def test_a_megabyte_of_matched_lines_costs_64_k(f2b_digest: Command, config: Path, path: Path) -> None:
    """An attacker chooses how long a line is; the store keeps its beginning, and a digest is as short as ever."""
    for number in range(20):
        fill(path, [event(jail="j" * 10**6, ip=f"{number}" * 10**6, users=["u" * 10**6] * 3, matches="m" * 10**6)])
    lengths = query(
        path, "SELECT max(length(jail)), max(length(ip)), max(length(users)), max(length(matches)) FROM event"
    )
    assert lengths == [(65536, 65536, 65536 + 4, 65536)]
    assert f2b_digest("--config", config, "send").status == 0
    (file,) = (config.parent / "out").iterdir()
    assert file.stat().st_size < 100_000


# ---- trouble that tells of hostile text


@pytest.mark.slow
@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_a_servers_hostile_words_stay_words(
    f2b_digest: Command, config: Path, path: Path, text: str, figures: Keep
) -> None:
    """What it answers is one line for stderr, status and history, and text in the next digest."""
    figures("hostile texts", counts={"servers' words": 1, "harmful": 1})
    pages = []
    for words in (text, "short and harmless words"):
        with WebServer(says(401, json.dumps({"code": 1, "error": words}), "application/json")) as server:
            config.write_text(
                f'store = "{path}"\nhost = "web1"\ntimezone = "UTC"\n[reports.daily]\nchannels = ["phone"]\n'
                f'[channels.phone]\nkind = "ntfy"\nurl = "{server.url}"\ntopic = "alerts"\n'
            )
            fill(path, [event()])
            ended = f2b_digest("--config", config, "send")
        assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
        assert hidden(ended.err) == {"\n"}
        for command in (["status"], ["history"], ["preview"], ["preview", "--format", "ntfy"]):
            ended = f2b_digest("--config", config, *command)
            assert (ended.status, ended.err) == (0, "")
            assert hidden(ended.out) == {"\n"}
        pages.append(Page(f2b_digest("--config", config, "preview", "--format", "html").out).shape)
        for file in path.parent.glob("bans.sqlite3*"):
            file.unlink()
    assert pages[0] == pages[1]
    figures("hostile texts", counts={"harmful": -1})


@pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)
def test_a_door_that_fails_names_the_ban_in_one_harmless_line(
    f2b_digest: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Neither in the spool's words nor in those of a lost ban does a name move the cursor or add a line."""
    (tmp_path / "file").touch()
    query(tmp_path / "foreign.sqlite3", "CREATE TABLE theirs (x)")
    for store in ("file/bans.sqlite3", "foreign.sqlite3"):
        ended = f2b_digest("--store", tmp_path / store, "record", f"--jail={text}", f"--ip={text}", f"--user={text}")
        assert (ended.out, ended.err.count("\n")) == ("", 1)
        assert hidden(ended.err) == {"\n"}
        assert recorder.main([f"--store={tmp_path / store}", f"--jail={text}", f"--ip={text}"]) in (0, 1)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert hidden(said) == {"\n"}


@pytest.mark.parametrize("option", ["--jail", "--ip", "--user", "--kind", "--host", "--unknown"])
def test_an_option_that_the_shell_door_does_not_know_is_one_harmless_line(
    path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """Whatever is in it: a jail's configuration may hand an attacker's text over as its own option."""
    assert recorder.main([f"--store={path}", option + "\x1b[2J\r\n\u202e", f"{option}=\x1b[2J\r\n"]) == 0
    said = capsys.readouterr().err
    assert hidden(said) == {"\n"}
    assert 1 <= said.count("\n") <= 2
