"""Tests of the apprise channel through the real package, whose version 1 the last test runs them all with again."""

import json
import os
import socket
import ssl
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import trustme

from f2b_digest.channels.apprise import Apprise
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Stamp
from tests.support import parts
from tests.support.raw_server import Play, RawServer, WebServer, reset, says

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="elsewhere", host="web1", made_at=1_700_000_000.0, bans=118)
PARTS = {"apprise/title.txt": "web1: 118\nbans\n", "apprise/body.txt": "\n  sshd é <b>\\n\n\nrecidive *1*\n"}
MAJOR = os.environ.get("TESTED_APPRISE", "2")
PASSWORD = "hunter2 s3cret"


def channel_to(url: str, **settings: object) -> Apprise:
    """Return the channel as a configuration makes it."""
    return Apprise.model_validate({"kind": "apprise", "url": url} | settings)


def to(server: WebServer, path: str = "/hook") -> Apprise:
    """Return a channel that posts JSON to a server on loopback, with a password."""
    return channel_to(f"json://admin:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{server.port}{path}")


def deliver(channel: Apprise, stamp: Stamp = STAMP) -> None:
    """Hand a digest over."""
    channel.deliver(Message(channel.recipients[0], channel.pack(Content(PARTS), stamp), channel.identity(stamp)))


def refusal(channel: Apprise) -> DeliveryError:
    """Return how a delivery fails: never for good, for Apprise does not say why."""
    with pytest.raises(DeliveryError) as caught:
        deliver(channel)
    assert not caught.value.permanent
    return caught.value


def test_this_is_the_version_that_is_meant() -> None:
    """The tests below say nothing of another one."""
    assert import_module("apprise").__version__.startswith(f"{MAJOR}.")


@pytest.mark.parametrize(("urgent_from", "kind"), [(118, "warning"), (119, "info")])
def test_a_service_gets_title_body_and_kind(urgent_from: int, kind: str) -> None:
    """The title is one line, the body is text as it is, and a heavy digest is a warning."""
    with WebServer(says(200, "{}")) as server:
        deliver(channel_to(f"json://127.0.0.1:{server.port}/hook", urgent_from=urgent_from))
    [request] = server.requests
    got = json.loads(request.partition(b"\r\n\r\n")[2])
    assert (got["title"], got["message"], got["type"]) == (
        "web1: 118 bans", "sshd é <b>\\n\n\nrecidive *1*", kind,
    )  # fmt: skip


def test_the_services_own_words_are_told_without_the_secret() -> None:
    """Whatever it repeats of the address; Apprise's own result lacks the message, in either version."""
    said = f"your password {PASSWORD} is out of date, and so is hook77"
    with WebServer(says(403, said)) as server:
        error = refusal(to(server, "/hook77"))
    assert error.in_doubt
    assert "error=403" in error.reason
    assert "your password *** is out of date, and so is ***" in error.reason


@pytest.mark.parametrize("play", [says(500, "busy"), reset], ids=["500", "reset"])
def test_a_failure_is_tried_again_and_may_have_arrived(play: Play) -> None:
    """It was asked once: its own retries would be blind."""
    with WebServer(play) as server:
        assert refusal(to(server)).in_doubt
    assert len(server.requests) == 1


def test_no_redirect_is_followed() -> None:
    """It would show the digest, and the password, to a stranger."""
    with (
        WebServer(says(200, "{}")) as stranger,
        WebServer(says(307, "", "text/plain", f"Location: {stranger.url}/")) as server,
    ):
        refusal(to(server))
        refusal(to(server, "/hook?redirect=yes"))
    assert stranger.requests == []


def test_a_certificate_is_verified() -> None:
    """A server with an unknown certificate gets no data, even if the address disables verification."""
    context, got = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), []
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def read(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            got.append(secured.recv(65536))

    with RawServer(read) as server:
        address = f"jsons://127.0.0.1:{server.port}/hook"
        assert "certificate verify failed" in refusal(channel_to(address)).reason
        assert "certificates are always verified" in refusal(channel_to(f"{address}?verify=no")).reason
    assert got == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ntfy://topic", "ntfy"), ("ntfys://user:pw@ntfy.example.org/topic", "ntfy"), ("NTFY://topic", "ntfy"),
        ("freemobile://123456@key", "free-mobile"),
    ],
)  # fmt: skip
def test_what_we_do_better_is_refused(url: str, kind: str) -> None:
    """With a hint to our own kind, before the first ban."""
    with pytest.raises(ValueError, match=f'use kind = "{kind}"'):
        channel_to(url)


def test_what_we_do_better_is_found_out_behind_an_address_of_the_web(tmp_path: Path) -> None:
    """Apprise knows a page of ntfy.sh as ntfy; and a file is not read before the delivery."""
    assert 'kind = "ntfy"' in refusal(channel_to("https://ntfy.sh/topic")).reason
    (tmp_path / "url").write_text("ntfy://topic\n")
    assert 'kind = "ntfy"' in refusal(
        Apprise.model_validate({"kind": "apprise", "url_file": str(tmp_path / "url")})
    ).reason  # fmt: skip


@pytest.mark.parametrize("url", ["nothing-like-it", " json://localhost", "s3cret:/hook", "js\non://localhost"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """And not shown: it may hold a secret."""
    with pytest.raises(ValueError, match="must look like service://") as caught:
        channel_to(url)
    assert url not in str(caught.value)


def test_a_service_that_apprise_does_not_know_is_named_without_its_address() -> None:
    """It may be known to the next version of Apprise."""
    error = refusal(channel_to("carrierpigeon://s3cret@loft"))
    assert error.reason == "the url is not a valid carrierpigeon address for Apprise"


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest waits until it is installed."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert 'pip install "f2b-digest[apprise]"' in refusal(channel_to("json://localhost")).reason


def test_apprise_is_loaded_by_its_channel_only() -> None:
    """It would cost each command a fifth of a second."""
    code = "import sys, f2b_digest.config; sys.exit('apprise' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_failure_prints_nothing_of_its_own() -> None:
    """A cron job mails what a program prints: Apprise's own log stays in the outcome."""
    with WebServer(says(500, "busy")) as server:
        code = f"""
from f2b_digest.channels.apprise import Apprise
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message
try:
    Apprise(kind="apprise", url="json://127.0.0.1:{server.port}").deliver(Message("json", b"info\\nt\\nb", "x"))
except DeliveryError:
    print("deferred")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("deferred\n", "")


@pytest.mark.slow
@pytest.mark.skipif(MAJOR != "2", reason="the run with Apprise 1 itself")
def test_all_this_holds_for_apprise_1() -> None:
    """Which Debian has until 2027, and whose results are True, False and None."""
    folder = parts.PARTS / "apprise-1"
    if not folder.is_dir():
        parts.missing("Apprise 1", f'python -m pip install --target {folder} "apprise<2"')
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environment = os.environ | {"PYTHONPATH": str(folder), "TESTED_APPRISE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
