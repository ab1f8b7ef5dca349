"""Tests of the ntfy channel against real ntfy servers, and of the faults that only a script can play."""

import base64
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import urllib3

from f2b_digest.channels import http
from f2b_digest.channels.base import deadline
from f2b_digest.channels.ntfy import PERMANENT, Ntfy
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Stamp
from tests.support import ntfy_server, raw_server
from tests.support.ntfy_server import NtfyServer
from tests.support.raw_server import Play, WebServer, says

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="phone", host="web1", made_at=1_700_000_000.0, bans=20)
WRONG_TOKEN = "tk_" + "w" * 29
TOPIC = "f2b-web1"
PUBLISHED = json.dumps({"id": "sPs71M8A2T", "event": "message", "topic": TOPIC, "message": "hi"})


@pytest.fixture(scope="module", params=ntfy_server.VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[NtfyServer]:
    """Run a real server of each version."""
    with NtfyServer(request.param) as running:
        yield running


@pytest.fixture
def topic() -> str:
    """Return a topic that no other test uses."""
    return f"f2b-{uuid.uuid4().hex}"


def phone(url: str, topic: str = TOPIC, **settings: object) -> Ntfy:
    """Return the channel as a configuration makes it."""
    return Ntfy.model_validate({"kind": "ntfy", "url": url, "topic": topic} | settings)


def message(channel: Ntfy, text: str = "3 bans", title: str = "web1", stamp: Stamp = STAMP) -> Message:
    """Return a digest for the channel."""
    body = channel.pack(Content({"ntfy/title.txt": title, "ntfy/message.txt": text}), stamp)
    return Message(recipient=channel.topic, body=body, identity=channel.identity(stamp))


def refusal(channel: Ntfy, text: str = "3 bans") -> DeliveryError:
    """Return how a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message(channel, text))
    return caught.value


# ---- what a phone gets


def test_a_digest_arrives_with_all_that_a_phone_shows(server: NtfyServer, topic: str) -> None:
    """Title, text, priority, tags and link come back as they were configured, and the id where the server knows it."""
    link = "https://web1.example.org/digest?day=1&x=é"
    channel = phone(server.url, topic, token=server.token, priority=4, tags=["rotating_light", "web1"], click=link)
    channel.deliver(message(channel, "3 bans\n192.0.2.1 sshd"))
    [got] = server.poll(topic)
    assert got["message"] == "3 bans\n192.0.2.1 sshd"
    assert (got["title"], got["priority"], got["tags"], got["click"]) == ("web1", 4, ["rotating_light", "web1"], link)
    assert got.get("sequence_id") == (f"f2b-{STAMP.uuid}" if server.version == "new" else None)


def test_a_second_attempt_carries_the_same_sequence_id(topic: str) -> None:
    """A retry after a lost answer replaces the first copy on the screen."""
    with NtfyServer("new") as server:
        channel = phone(server.url, topic, token=server.token)
        for _ in range(2):
            channel.deliver(message(channel))
        assert len({got["sequence_id"] for got in server.poll(topic)}) == 1


@pytest.mark.parametrize("title", ["Résumé : 3 bannis à l'œuvre", "🚨 3 bans 日本", '"quotes" \\ =?utf-8?q?not=20mail'])
def test_titles_in_any_language_arrive(server: NtfyServer, topic: str, title: str) -> None:
    """French, emoji and what looks like markup read the same on the phone."""
    channel = phone(server.url, topic, token=server.token)
    channel.deliver(message(channel, title, title))
    [got] = server.poll(topic)
    assert (got["title"], got["message"]) == (title, title)


def test_hostile_text_is_still_json(server: NtfyServer, topic: str) -> None:
    """Line ends in a title and undecodable bytes in a text cost these characters, not the digest."""
    channel = phone(server.url, topic, token=server.token)
    channel.deliver(message(channel, "user \udcff, 3 bans", "web1\r\nX-Priority: 5\u2028\x07"))
    [got] = server.poll(topic)
    assert (got["title"], got["message"], got["priority"]) == ("web1 X-Priority: 5", "user ?, 3 bans", 3)


@pytest.mark.parametrize(("bans", "priority"), [(19, 2), (20, 5), (21, 5)])
def test_many_bans_are_urgent(bans: int, priority: int) -> None:
    """From `urgent_from` bans on, and not before, a digest rings through."""
    stamp = Stamp(uuid="0f" * 16, report="daily", channel="phone", host="web1", made_at=1.0, bans=bans)
    channel = phone("http://127.0.0.1", urgent_from=20, priority=2)
    assert json.loads(message(channel, stamp=stamp).body)["priority"] == priority


@pytest.mark.parametrize(("priority", "raised"), [(3, 4), (5, 5), (1, 4)])
def test_what_needs_attention_raises_the_priority(priority: int, raised: int) -> None:
    """Whatever the number of bans: one address of the admin's is worth more than a thousand strangers'."""
    stamp = Stamp("0f" * 16, "daily", "phone", "web1", 1.0, bans=1, needs_attention=True)
    assert json.loads(message(phone("http://127.0.0.1", priority=priority), stamp=stamp).body)["priority"] == raised


# ---- who may


def test_a_user_and_a_password_open_the_topic(server: NtfyServer, topic: str) -> None:
    """A password may hold a colon, blanks and accents."""
    channel = phone(server.url, topic, user=ntfy_server.USER, password=ntfy_server.PASSWORD)
    channel.deliver(message(channel))
    assert len(server.poll(topic)) == 1


def test_a_wrong_token_is_for_the_admin(server: NtfyServer, topic: str) -> None:
    """It fails for good, with the server's own message; more attempts would lock this host out."""
    error = refusal(phone(server.url, topic, token=WRONG_TOKEN))
    assert error.permanent
    assert "unauthorized (ntfy code 40101)" in error.reason
    assert topic in error.reason


def test_a_wrong_password_is_for_the_admin(server: NtfyServer, topic: str) -> None:
    """It fails for good and is not repeated in the error."""
    error = refusal(phone(server.url, topic, user=ntfy_server.USER, password="wr0ng-password"))
    assert error.permanent
    assert "40101" in error.reason
    assert "wr0ng-password" not in error.reason


def test_a_token_that_may_only_read_is_for_the_admin(server: NtfyServer, topic: str) -> None:
    """It fails for good and names the topic that the access is missing for."""
    error = refusal(phone(server.url, topic, token=server.reader_token))
    assert error.permanent
    assert "forbidden (ntfy code 40301)" in error.reason
    assert topic in error.reason


def test_a_closed_server_refuses_strangers(server: NtfyServer, topic: str) -> None:
    """Without credentials the digest fails for good, and nothing is shown to anyone."""
    error = refusal(phone(server.url, topic))
    assert error.permanent
    assert "40301" in error.reason
    assert server.poll(topic) == []


# ---- how much


@pytest.mark.parametrize("character", ["a", "\\", '"', "é", "🚨", "\x01", "\n.", "<"])
def test_the_longest_text_that_fits_arrives_whole(server: NtfyServer, topic: str, character: str) -> None:
    """What `fits` accepts is shown on the phone, never turned into an attachment or refused."""
    channel = phone(server.url, topic, token=server.token)

    def fits(count: int) -> bool:
        return channel.fits(Content({"ntfy/title.txt": '"' * 500, "ntfy/message.txt": character * count}), STAMP)

    longest = next(count for count in range(4096, 0, -1) if fits(count))
    channel.deliver(message(channel, character * longest, '"' * 500))
    [got] = server.poll(topic)
    assert got["message"] == (character * longest).strip()
    assert "attachment" not in got


def test_4095_bytes_arrive_inline(server: NtfyServer, topic: str) -> None:
    """The limit is ntfy's real one, in bytes, not a cautious guess."""
    channel = phone(server.url, topic, token=server.token)
    text = "é" * 2047 + "!"
    assert len(text.encode()) == 4095
    assert channel.fits(Content({"ntfy/title.txt": "web1", "ntfy/message.txt": text}), STAMP)
    channel.deliver(message(channel, text))
    assert server.poll(topic)[0]["message"] == text


@pytest.mark.parametrize("text", ["a" * 4096, "é" * 2048, "\\" * 4095, '"' * 4095, "\x01" * 2000])
def test_a_text_that_ntfy_would_not_show_does_not_fit(text: str) -> None:
    """Neither more bytes than it shows nor escapes that make its JSON too large."""
    assert not phone("http://127.0.0.1").fits(Content({"ntfy/title.txt": "web1", "ntfy/message.txt": text}), STAMP)


def test_a_larger_server_takes_larger_messages(topic: str) -> None:
    """`max_bytes` follows a server whose `message-size-limit` was raised."""
    with NtfyServer("2.11", message_size_limit="16k") as server:
        channel = phone(server.url, topic, token=server.token, max_bytes=16383)
        text = "a" * 16383
        assert channel.fits(Content({"ntfy/title.txt": "web1", "ntfy/message.txt": text}), STAMP)
        channel.deliver(message(channel, text))
        assert server.poll(topic)[0]["message"] == text


def test_a_text_that_is_too_long_is_not_tried_again(server: NtfyServer, topic: str) -> None:
    """One byte too many is for the admin, although newer servers call it their own fault (500)."""
    error = refusal(phone(server.url, topic, token=server.token), "a" * 4096)
    assert error.permanent
    assert ("40014" if server.version == "2.11" else "50001") in error.reason


def test_a_document_that_is_too_large_is_not_tried_again(server: NtfyServer, topic: str) -> None:
    """The limit of the whole JSON is for the admin too."""
    error = refusal(phone(server.url, topic, token=server.token), "\\" * 4095)
    assert error.permanent
    assert "41303" in error.reason


# ---- limits that pass


def test_a_spent_daily_quota_passes(topic: str) -> None:
    """The server's daily limit of messages is tried again, with its own message."""
    with NtfyServer("new", visitor_message_daily_limit=1) as server:
        channel = phone(server.url, topic, token=server.token)
        channel.deliver(message(channel))
        error = refusal(channel)
    assert not error.permanent
    assert "42908" in error.reason


@pytest.mark.parametrize("code", [42901, 42909])
def test_too_many_requests_pass(code: int) -> None:
    """Too many requests and too many failed logins are tried again."""
    words = json.dumps({"code": code, "http": 429, "error": "limit reached"})
    with WebServer(says(429, words, "application/json")) as fake:
        error = refusal(phone(fake.url))
    assert not error.permanent
    assert f"limit reached (ntfy code {code})" in error.reason


# ---- answers that are not ntfy's


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The digest is not lost on the way and no stranger sees the token."""
    with WebServer(says(200, PUBLISHED)) as stranger:
        with WebServer(says(status, "moved", "text/html", f"Location: {stranger.url}/")) as fake:
            error = refusal(phone(fake.url, token=WRONG_TOKEN))
        assert stranger.requests == []
    assert error.permanent
    assert f"redirects ({status})" in error.reason


@pytest.mark.parametrize(
    "body",
    [
        "<!doctype html><title>ntfy web</title>",
        "[]",
        "",
        "null",
        json.dumps({"id": "x", "event": "message", "topic": "another"}),
        json.dumps({"id": "x", "event": "open", "topic": TOPIC}),
        json.dumps({"event": "message", "topic": TOPIC}),
    ],
)
def test_200_is_believed_only_with_our_message(body: str) -> None:
    """A web page or another topic's message is not a delivery."""
    with WebServer(says(200, body)) as fake:
        error = refusal(phone(fake.url))
    assert error.permanent
    assert "is this an ntfy server?" in error.reason


def test_ntfys_own_answer_is_believed() -> None:
    """The faults above differ from this answer alone."""
    with WebServer(says(200, PUBLISHED)) as fake:
        channel = phone(fake.url, token=WRONG_TOKEN)
        channel.deliver(message(channel))
    [request] = fake.requests
    assert f"Authorization: Bearer {WRONG_TOKEN}\r\n".encode() in request


@pytest.mark.parametrize("status", [*sorted(PERMANENT), 408, 425, 429, 500, 502, 503, 504, 507])
@pytest.mark.parametrize("body", ["<h1>proxy</h1>", '{"code": 1, "error": ["odd"]}', "\x00"])
def test_a_status_alone_says_whether_to_try_again(status: int, body: str) -> None:
    """A proxy's page is sorted by its status; what is not the server's or the admin's fault passes."""
    with WebServer(says(status, body)) as fake:
        error = refusal(phone(fake.url))
    assert error.permanent == (status in PERMANENT)
    assert str(status) in error.reason or "odd" in error.reason


# ---- lines that break


@pytest.mark.parametrize(
    "play",
    [
        raw_server.reset,
        raw_server.raw(b""),
        raw_server.raw(b"this is no HTTP\r\n\r\n"),
        raw_server.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + PUBLISHED.encode()),
        raw_server.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n" + PUBLISHED.encode()[:20]),
        raw_server.raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
    ],
    ids=["reset", "nothing", "garbage", "half", "half a chunk", "bad gzip"],
)
def test_a_broken_answer_is_tried_again(play: Play) -> None:
    """Whether the digest was taken is not known: a second copy is better than none."""
    with WebServer(play) as fake:
        error = refusal(phone(fake.url))
    assert not error.permanent
    assert f"127.0.0.1:{fake.port}" in error.reason


def test_a_server_that_is_down_is_tried_again() -> None:
    """The error names the server and says why."""
    with WebServer(raw_server.silent) as fake:
        pass
    error = refusal(phone(fake.url))
    assert not error.permanent
    assert f"127.0.0.1:{fake.port}" in error.reason
    assert "refused" in error.reason


@pytest.mark.parametrize(
    "play", [raw_server.silent, raw_server.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nx")]
)
def test_silence_is_tried_again(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    """A server that takes the digest and says nothing does not hold the run up."""
    monkeypatch.setattr(http, "TIMEOUT", urllib3.Timeout(connect=1, read=0.2))
    with WebServer(play) as fake:
        error = refusal(phone(fake.url))
    assert not error.permanent


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 99999999999\r\n\r\n"]
)
def test_an_endless_answer_is_cut(head: bytes) -> None:
    """Only its beginning is read: it fills neither memory nor time."""
    started = time.monotonic()
    with WebServer(raw_server.endless(head)) as fake:
        error = refusal(phone(fake.url))
    assert not error.permanent
    assert "502" in error.reason
    assert time.monotonic() - started < 5


@pytest.mark.alone
@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: "])
def test_a_dripping_answer_meets_the_deadline(start: bytes) -> None:
    """A byte now and then keeps every read alive, but not the delivery."""
    started = time.monotonic()
    with WebServer(raw_server.dripping(start)) as fake, pytest.raises(DeliveryError) as error, deadline(0.3):
        refusal(phone(fake.url))
    assert not error.value.permanent
    assert time.monotonic() - started < 2


# ---- TLS


def test_a_server_with_an_unknown_certificate_is_refused(server: NtfyServer, topic: str) -> None:
    """The token is not shown to whoever answers, and the admin is told that it is the certificate."""
    error = refusal(phone(server.tls_url, topic, token=server.token))
    assert error.permanent
    assert "certificate" in error.reason.lower()
    assert server.poll(topic) == []


def test_a_private_authority_is_trusted_by_ca_file(server: NtfyServer, topic: str) -> None:
    """A self-hosted server with a private authority works with verified TLS."""
    channel = phone(server.tls_url, topic, token=server.token, ca_file=str(server.ca_file))
    channel.deliver(message(channel))
    assert len(server.poll(topic)) == 1


def test_another_authority_is_not_enough(server: NtfyServer, topic: str, tmp_path: Path) -> None:
    """`ca_file` replaces the trusted authorities, it does not switch verification off."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    error = refusal(phone(server.tls_url, topic, token=server.token, ca_file=str(tmp_path / "other.pem")))
    assert error.permanent


def test_a_name_that_the_certificate_does_not_hold_is_refused(server: NtfyServer, topic: str) -> None:
    """The right authority does not make another host ours."""
    url = server.tls_url.replace("127.0.0.1", "localhost")
    assert refusal(phone(url, topic, token=server.token, ca_file=str(server.ca_file))).permanent


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_unusable_ca_file_is_named(tmp_path: Path, content: str | None) -> None:
    """It is tried again, since the file can be put right meanwhile."""
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    error = refusal(phone("https://127.0.0.1:1", ca_file=str(ca_file)))
    assert not error.permanent
    assert str(ca_file) in error.reason


# ---- secrets


def test_a_token_file_is_read_with_the_configuration(server: NtfyServer, topic: str, tmp_path: Path) -> None:
    """A missing or empty file is tried again, and one that was put right counts for the next run."""
    token_file = tmp_path / "ntfy.token"
    for content in (None, "", "\n", "\xff"):
        if content is not None:
            token_file.write_text(content, encoding="latin-1")
        error = refusal(phone(server.url, topic, token_file=str(token_file)))
        assert not error.permanent
        assert str(token_file) in error.reason
    token_file.write_text(f"{server.token}\n")
    channel = phone(server.url, topic, token_file=str(token_file))
    token_file.unlink()  # whoever delivers may be unable to read it
    channel.deliver(message(channel))
    assert len(server.poll(topic)) == 1


@pytest.mark.parametrize("secret", ["tk_s3cret\n", "tk_s3cret\nX-Injected: yes", "tk_s3cret€", "tk_s3cret\x00"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(secret: str) -> None:
    """It fails for good with a message that does not contain it, and no request goes out."""
    with WebServer(says(200, PUBLISHED)) as fake:
        error = refusal(phone(fake.url, token=secret))
    assert error.permanent
    assert "token" in error.reason
    assert "s3cret" not in error.reason
    assert fake.requests == []


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"token": "tk_s3cret"}, "tk_s3cret"),
        ({"user": "admin", "password": "s3cret"}, base64.b64encode(b"admin:s3cret").decode()),
    ],
    ids=["token", "password"],
)
def test_secrets_stay_out_of_errors(settings: dict[str, str], sent: str) -> None:
    """Not even a server that repeats our request brings a secret into the store or the mail that cron sends."""
    with WebServer(says(400, json.dumps({"code": 40000, "error": "x" * 240 + f" bad header: {sent}"}))) as fake:
        channel = phone(fake.url, **settings)
        error = refusal(channel)
    assert sent.encode() in fake.requests[0]
    assert "bad header: *" in error.reason
    assert sent[:3] not in f"{error.reason} {error!r}"
    assert "s3cret" not in f"{channel} {channel!r}"


def test_a_password_that_a_server_decodes_and_repeats_is_masked() -> None:
    """A proxy's log line in its error is no reason to show the password."""
    with WebServer(says(400, json.dumps({"code": 40000, "error": "login of admin:s3cret"}))) as fake:
        assert "s3cret" not in refusal(phone(fake.url, user="admin", password="s3cret")).reason
