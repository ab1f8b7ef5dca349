"""Tests of the file channel: a mail program opens what it wrote, and a half-written digest is never seen."""

import email
import email.policy
import os
import pwd
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from f2b_digest.channels.file import File
from f2b_digest.errors import DeliveryError
from f2b_digest.message import Message, Stamp

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="archive", host="web1", made_at=1_700_000_000.0, bans=3)
NAME = f"{STAMP.uuid}.archive.eml"


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


def archive(folder: Path) -> File:
    """Return the channel as a configuration makes it."""
    return File.model_validate({"kind": "file", "folder": str(folder)})


def message(channel: File, text: str = "192.0.2.1 sshd") -> Message:
    """Return a digest for the folder."""
    parts = {"email/subject.txt": "3 bannis à l'œuvre", "email/body.txt": text, "email/body.html": "<p>"}
    [folder] = channel.recipients
    return Message(recipient=folder, body=channel.pack(parts, STAMP), identity=channel.identity(STAMP))


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
    """Whoever watches the folder finds a whole file under the name, at any time."""
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
