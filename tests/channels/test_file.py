"""Tests of the file channel: a mail program opens what it wrote, and a half-written digest is never seen."""

import email
import email.policy
import json
import mailbox
import os
import pwd
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from f2b_digest.channels.file import File
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Stamp
from tests.support.program import as_nobody

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="archive", host="web1", made_at=1_700_000_000.0, bans=3)
NAME = f"{STAMP.uuid}.archive.eml"
PARTS = {
    "email/subject.txt": "3 bannis à l'œuvre", "email/body.txt": "\n3 bans é\n\n", "email/body.html": "<p>3 bans</p>\n",
}  # fmt: skip
TINY = 256 * 1024


@contextmanager
def anyone() -> Iterator[None]:
    """Do without root's right to write everywhere, where the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """Provide a folder on its own disk that holds 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    folder = tmp_path / "tiny"
    folder.mkdir()
    command: list[str | Path] = ["mount", "-t", "tmpfs", "-o", f"size={TINY}", "tmpfs", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def channel_to(**settings: object) -> File:
    """Return the channel as a configuration makes it."""
    return File.model_validate({"kind": "file"} | settings)


def archive(folder: Path) -> File:
    """Return a channel with a file per digest."""
    return channel_to(folder=str(folder))


def made_of(channel: File, parts: Mapping[str, str] = PARTS) -> Content:
    """Return what the channel needs."""
    needs = channel.needs
    return Content({name: parts[name] for name in needs.templates}, '{"bans": 3}' if needs.document else "")


def message(channel: File, text: str = "192.0.2.1 sshd", stamp: Stamp = STAMP) -> Message:
    """Return a digest for the channel."""
    parts = PARTS | {"email/body.txt": text}
    [place] = channel.recipients
    return Message(recipient=place, body=channel.pack(made_of(channel, parts), stamp), identity=channel.identity(stamp))


def test_a_mail_program_opens_the_file(tmp_path: Path) -> None:
    """It holds the whole mail, under the digest's name, closed to other users."""
    channel = archive(tmp_path)
    digest = message(channel)
    before = os.umask(0)
    try:
        channel.deliver(digest)
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == digest.body
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o640
    read = email.message_from_bytes(digest.body, policy=email.policy.default)
    assert read["Subject"] == "3 bannis à l'œuvre"


def test_a_retry_replaces_its_file(tmp_path: Path) -> None:
    """There is one file per digest, however often it was tried."""
    channel = archive(tmp_path)
    for text in ("first", "second"):
        channel.deliver(message(channel, text))
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert b"second" in (tmp_path / NAME).read_bytes()


def test_a_reader_never_sees_half_a_digest(tmp_path: Path) -> None:
    """The file of that name is complete at any time."""
    channel = archive(tmp_path)
    digest = message(channel, "192.0.2.1 sshd\n" * 4000)
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(path.read_bytes() for path in tmp_path.glob("*.eml"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(50):
            channel.deliver(digest)
    finally:
        done.set()
        watcher.join()
    assert seen == {digest.body}


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    """With its parents, and closed to other users."""
    folder = tmp_path / "new" / "digests"
    channel = archive(folder)
    channel.deliver(message(channel))
    assert (folder / NAME).is_file()
    assert folder.stat().st_mode & 0o007 == 0


def test_a_folder_that_may_not_be_written_is_tried_again(tmp_path: Path) -> None:
    """The error names the place and the reason."""
    channel = archive(tmp_path / "digests")
    tmp_path.chmod(0o500)
    with anyone(), pytest.raises(DeliveryError, match="Permission denied") as caught:
        channel.deliver(message(channel))
    tmp_path.chmod(0o700)
    assert not caught.value.permanent
    assert str(tmp_path) in caught.value.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="closes a folder to another user")
def test_a_folder_that_cannot_even_be_seen_is_no_bug(tmp_path: Path) -> None:
    """As the sender, whom root's folder shuts out: `check` says so."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    channel = File.model_validate({"kind": "file", "folder": str(closed / "digests/new")})
    with pytest.raises(DeliveryError, match="not writable by this user"):
        as_nobody(channel.check)


def test_a_file_in_the_folders_place_is_tried_again(tmp_path: Path) -> None:
    """It is not overwritten."""
    (tmp_path / "digests").write_text("precious")
    channel = archive(tmp_path / "digests")
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message(channel))
    assert not caught.value.permanent
    assert (tmp_path / "digests").read_text() == "precious"


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The copy of an earlier attempt stays, and retries do not fill the disk further."""
    channel = archive(tmp_path)
    channel.deliver(message(channel, "first"))
    large = message(channel, "x" * 50_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(DeliveryError) as caught:
            channel.deliver(large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not caught.value.permanent
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert b"first" in (tmp_path / NAME).read_bytes()


def test_a_delivered_digest_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its content nor its name waits in memory for a power loss once the delivery counts as done."""
    synced: list[tuple[str, bool]] = []
    final = tmp_path / NAME
    sync = os.fsync

    def recording(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), final.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    channel = archive(tmp_path)
    channel.deliver(message(channel))
    (content, content_was_named), (names, names_were_final) = synced
    assert Path(content).parent == tmp_path
    assert not content_was_named
    assert (names, names_were_final) == (str(tmp_path), True)


# ---- formats


@pytest.mark.parametrize(
    ("form", "ending", "content"),
    [("text", "txt", "3 bans é\n"), ("html", "html", "<p>3 bans</p>\n"), ("json", "json", '{"bans": 3}\n')],
)
def test_each_format_is_what_its_name_says(form: str, ending: str, content: str, tmp_path: Path) -> None:
    """A file per digest that a browser, an editor or a program opens by its ending."""
    channel = channel_to(folder=str(tmp_path), format=form)
    channel.deliver(Message(str(tmp_path), channel.pack(made_of(channel), STAMP), channel.identity(STAMP)))
    assert (tmp_path / f"{STAMP.uuid}.archive.{ending}").read_text() == content


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "set exactly one of folder"),
        ({"folder": "a", "append": "b"}, "set exactly one of folder"),
        ({"maildir": "a", "format": "json"}, "maildir needs format"),
        ({"append": "a", "format": "eml"}, "append needs format"),
        ({"folder": "a", "format": "pdf"}, "'eml', 'text', 'html' or 'json'"),
        ({"folder": "a\0b"}, "must not contain a NUL byte"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, str], words: str) -> None:
    """With a message that says what to do."""
    with pytest.raises(ValueError, match=words):
        channel_to(**settings)


# ---- a file that grows


def test_digests_follow_each_other_in_a_file_that_grows(tmp_path: Path) -> None:
    """Each is appended, existing content stays, and a new file is closed to other users."""
    channel = channel_to(append=str(tmp_path / "log" / "digests.txt"))
    for text in ("first", "second"):
        channel.deliver(message(channel, text))
    assert (tmp_path / "log" / "digests.txt").read_text() == "first\nsecond\n"
    assert (tmp_path / "log" / "digests.txt").stat().st_mode & 0o007 == 0


def test_json_digests_are_a_line_each(tmp_path: Path) -> None:
    """As programs read them."""
    channel = channel_to(append=str(tmp_path / "digests"), format="json")
    for _ in range(2):
        channel.deliver(message(channel))
    assert [json.loads(line) for line in (tmp_path / "digests").read_text().splitlines()] == [{"bans": 3}] * 2


def test_a_torn_last_line_spoils_no_digest(tmp_path: Path) -> None:
    """What a power cut in the middle of another write left is ended first."""
    (tmp_path / "digests").write_text('{"bans": 3}\n{"ba')
    channel = channel_to(append=str(tmp_path / "digests"), format="json")
    channel.deliver(message(channel))
    assert (tmp_path / "digests").read_text() == '{"bans": 3}\n{"ba\n{"bans": 3}\n'


def test_a_full_disk_appends_nothing(tiny: Path) -> None:
    """No torn digest is in the file; the next attempt, with room, appends it whole and once."""
    channel = channel_to(append=str(tiny / "digests"))
    channel.deliver(message(channel, "first"))
    ballast = tiny / "ballast"
    ballast.write_bytes(b"x" * (TINY - 20_000))
    large = message(channel, "x" * 50_000)
    with pytest.raises(DeliveryError, match=r"digests: [Nn]o space") as caught:
        channel.deliver(large)
    assert not caught.value.permanent
    assert (tiny / "digests").read_text() == "first\n"
    ballast.unlink()
    channel.deliver(large)
    assert (tiny / "digests").read_text() == "first\n" + "x" * 50_000 + "\n"


def test_an_append_that_does_not_reach_the_disk_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and must not be there twice."""
    channel = channel_to(append=str(tmp_path / "digests"))

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(DeliveryError, match="Input/output error"):
            channel.deliver(message(channel))
    channel.deliver(message(channel))
    assert (tmp_path / "digests").read_text() == "192.0.2.1 sshd\n"


# ---- a Maildir


def test_a_mail_reader_finds_a_new_mail(tmp_path: Path) -> None:
    """Python's own reader of Maildirs sees one that nobody has read, with both alternatives."""
    channel = channel_to(maildir=str(tmp_path / "home" / "Maildir"))
    channel.deliver(message(channel, "192.0.2.1 sshd"))
    box = mailbox.Maildir(tmp_path / "home" / "Maildir", create=False)
    [mail] = list(box)
    assert (mail.get_subdir(), mail.get_flags()) == ("new", "")
    read = email.message_from_bytes(mail.as_bytes(), policy=email.policy.default)
    assert read["Subject"] == "3 bannis à l'œuvre"
    body = read.get_body(("plain",))
    assert body
    assert body.get_content() == "192.0.2.1 sshd"
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home" / "Maildir").iterdir()} == {
        "cur": 0o700, "new": 0o700, "tmp": 0o700,
    }  # fmt: skip


def test_a_maildir_that_is_in_use_keeps_its_mails(tmp_path: Path) -> None:
    """A second digest is a second mail, a retry of the first is not a third."""
    box = mailbox.Maildir(tmp_path / "Maildir")
    box.add(b"Subject: private\n\nhello\n")
    channel = channel_to(maildir=str(tmp_path / "Maildir"))
    for uuid in ("a" * 32, "b" * 32, "a" * 32):
        channel.deliver(message(channel, stamp=Stamp(uuid, "daily", "box", "web1", 0.0, 3)))
    assert sorted(str(mail["Message-ID"]) for mail in box if mail["Message-ID"]) == [
        f"<{'a' * 32}.box@localhost>", f"<{'b' * 32}.box@localhost>",
    ]  # fmt: skip
    assert len(box) == 3


def test_a_full_disk_leaves_nothing_in_a_maildir(tiny: Path) -> None:
    """Neither half a mail in `new` nor, at each attempt, one more file in `tmp`."""
    channel = channel_to(maildir=str(tiny / "Maildir"))
    (tiny / "ballast").write_bytes(b"x" * (TINY - 20_000))
    for _ in range(3):
        with pytest.raises(DeliveryError, match="No space left") as caught:
            channel.deliver(message(channel, "x" * 50_000))
        assert not caught.value.permanent
    assert [path for path in (tiny / "Maildir").rglob("*") if path.is_file()] == []


def test_root_delivers_as_the_reader_and_follows_no_link_of_theirs(tmp_path: Path) -> None:
    """The mail belongs to the Maildir's owner, who cannot redirect root's writes."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    nobody = pwd.getpwnam("nobody").pw_uid
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, nobody, -1)
    channel = channel_to(maildir=str(home / "Maildir"))
    channel.deliver(message(channel))
    assert {path.stat().st_uid for path in home.rglob("*")} == {nobody}
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (home / "Maildir" / "tmp" / NAME).symlink_to(precious)
    with pytest.raises(DeliveryError):
        channel.deliver(message(channel))
    (home / "Maildir" / "tmp").rmdir()
    (home / "Maildir" / "tmp").symlink_to(tmp_path)
    with pytest.raises(DeliveryError):
        channel.deliver(message(channel))
    assert precious.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "precious"}
