"""Tests of the free-mobile channel against a local server that speaks Free Mobile's protocol, by TLS."""

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from f2b_digest import delivery, resources
from f2b_digest.channels.free_mobile import GSM_7, GSM_7_TWICE, FreeMobile, length, to_gsm_7
from f2b_digest.errors import DeliveryError
from f2b_digest.model.digest import Digest
from f2b_digest.model.message import Content, Message, Stamp
from f2b_digest.rendering.renderer import Renderer
from tests.channels.http_service import Answer, HttpService, Request, saved, says
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill
from tests.tools.readme import sample_digest

USER, KEY = "12345678", "Ab3dEf6hIj9kLm"
STAMP = Stamp(uuid="0f" * 16, report="daily", channel="sms", host="web1", made_at=1_700_000_000.0, bans=20)
AUTHORITY = trustme.CA()
SMS = "free-mobile/sms.txt"


def speaks(request: Request) -> Answer:
    """Answer as Free Mobile documents it: a status, and no words."""
    said = json.loads(request.body)
    if not all(said.get(name) for name in ("user", "pass", "msg")):
        return Answer(400)
    return Answer(200 if (said["user"], said["pass"]) == (USER, KEY) else 403)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """Provide the authority that the server's certificate is from."""
    return saved(AUTHORITY, tmp_path)


@pytest.fixture
def service() -> Iterator[HttpService]:
    """Run a server that speaks the protocol."""
    with HttpService(speaks, AUTHORITY) as running:
        yield running


def sms(service: HttpService, ca_file: Path, **settings: Any) -> FreeMobile:
    """Return the channel as a configuration makes it."""
    given_key = {} if {"key", "key_file", "key_env"} & set(settings) else {"key": KEY}
    least = {"kind": "free-mobile", "user": USER, "url": f"{service.url}/sendmsg", "ca_file": str(ca_file)}
    return FreeMobile.model_validate(least | given_key | settings)


def local(**settings: Any) -> FreeMobile:
    """Return a channel that nothing is sent by."""
    least = {"kind": "free-mobile", "user": USER, "key": KEY, "url": "https://127.0.0.1:1"}
    return FreeMobile.model_validate(least | settings)


def message(channel: FreeMobile, text: str = "web1: 3 bans") -> Message:
    """Return a digest for the channel."""
    return Message(recipient=USER, body=channel.pack(Content({SMS: text}), STAMP), identity="x")


def refusal(channel: FreeMobile) -> DeliveryError:
    """Return how a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message(channel))
    return caught.value


def rendered(digest: Digest, channel: FreeMobile) -> str:
    """Return the SMS of a digest, made as `send` makes it."""
    renderer = Renderer(resources.folder("templates"))

    content, _ = delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, STAMP))
    return channel.pack(content, STAMP).decode()


@functools.cache
def sample() -> Digest:
    """Return the sample digest."""
    return sample_digest()


# ---- what the service gets


def test_the_key_goes_in_the_body_and_never_in_the_address(service: HttpService, ca_file: Path) -> None:
    """One POST of JSON; no log of a proxy or of the service holds the key."""
    channel = sms(service, ca_file)
    channel.deliver(message(channel))
    (request,) = service.requests
    assert request.path == "/sendmsg"
    assert json.loads(request.body) == {"user": USER, "pass": KEY, "msg": "web1: 3 bans"}
    assert KEY not in f"{request.path} {request.headers}"


@pytest.mark.parametrize("way", ["value", "file", "environment"])
def test_the_key_stands_in_the_configuration_a_file_or_the_environment(
    f2b_digest: Command, service: HttpService, ca_file: Path, path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The whole way from a ban to the phone, and the key is in no byte of the store."""
    (path.parent / "free.key").write_text(f"{KEY}\n")
    monkeypatch.setenv("FREE_KEY", KEY)
    key = {"value": f'key = "{KEY}"', "file": 'key_file = "free.key"', "environment": 'key_env = "FREE_KEY"'}[way]
    config = configured(path, service, key)
    fill(path, [event()])
    assert f2b_digest("--config", config, "send").status == 0
    assert json.loads(service.requests[0].body)["msg"] == "1 ban: 192.0.2.7 in sshd - web1"
    assert KEY.encode() not in b"".join(file.read_bytes() for file in path.parent.glob("bans.sqlite3*"))


def configured(path: Path, service: HttpService, key: str) -> Path:
    """Write a configuration for the program."""
    config = path.parent / "config.toml"
    config.write_text(
        f"""
store = "{path}"
host = "web1"
timezone = "UTC"
[reports.daily]
channels = ["sms"]
[channels.sms]
kind = "free-mobile"
user = "{USER}"
url = "{service.url}/sendmsg"
ca_file = "ca.pem"
{key}
"""
    )
    config.chmod(0o600)
    return config


def test_a_variable_that_is_not_set_is_named_and_tried_again(
    f2b_digest: Command, service: HttpService, ca_file: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest waits until cron has its environment."""
    monkeypatch.delenv("FREE_KEY", raising=False)
    config = configured(path, service, 'key_env = "FREE_KEY"')
    fill(path, [event()])
    ended = f2b_digest("--config", config, "send")
    assert ended.status == 75
    assert "FREE_KEY" in ended.err
    assert "deferred" in f2b_digest("--config", config, "status").out
    assert service.requests == []


def test_small_digests_are_left_out(f2b_digest: Command, service: HttpService, ca_file: Path, path: Path) -> None:
    """With min_bans = 2 the first ban waits for the second: an SMS rings."""
    config = configured(path, service, f'key = "{KEY}"\nmin_bans = 2')
    for number, sent in ((1, 0), (2, 1)):
        fill(path, [event(ip=f"192.0.2.{number}")])
        assert f2b_digest("--config", config, "send").status == 0
        assert len(service.requests) == sent


# ---- what the service says


@pytest.mark.parametrize(
    ("status", "permanent", "words"),
    [
        (400, True, "parameter is missing"),
        (402, False, "too many SMS"),
        (403, True, "not enabled, or wrong user or key"),
        (404, True, "404"),
        (429, False, "429"),
        (500, False, "server error"),
        (502, False, "502"),
    ],
)
def test_a_status_says_who_can_mend_it(ca_file: Path, status: int, permanent: bool, words: str) -> None:
    """402 and 500 pass; 400 and 403 are for the admin."""
    with HttpService(says(status), AUTHORITY) as service:
        error = refusal(sms(service, ca_file))
    assert (error.permanent, words in error.reason) == (permanent, True)


def test_a_wrong_key_is_for_the_admin(service: HttpService, ca_file: Path) -> None:
    """And it is not repeated in the error."""
    error = refusal(sms(service, ca_file, key="wr0ng-key"))
    assert error.permanent
    assert "wr0ng-key" not in error.reason


@pytest.mark.parametrize("status", [200, 502])
def test_a_proxys_page_is_no_success(ca_file: Path, status: int) -> None:
    """Its words are shown without its tags; a web page with 200 is not believed."""
    page = "<!doctype html><title>Sign in</title><script>alert(1)</script>"
    with HttpService(says(status, page), AUTHORITY) as service:
        error = refusal(sms(service, ca_file))
    assert error.permanent == (status == 200)
    assert "page" in error.reason or "Sign in" in error.reason
    assert "alert" not in error.reason


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(ca_file: Path, status: int) -> None:
    """No stranger gets the key."""
    with HttpService(says(200), AUTHORITY) as stranger:
        with HttpService(says(status, Location=stranger.url), AUTHORITY) as service:
            error = refusal(sms(service, ca_file))
        assert stranger.requests == []
    assert error.permanent
    assert str(status) in error.reason


@pytest.mark.parametrize("key", [KEY, 'a"b\\c&d/e', "clé€"])
@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_a_service_that_repeats_our_request_does_not_bring_the_key_out(ca_file: Path, status: int, key: str) -> None:
    """Neither as it is nor as JSON wrote it."""

    def echo(request: Request) -> Answer:
        return Answer(status, b"you said " + request.body)

    with HttpService(echo, AUTHORITY) as service:
        channel = sms(service, ca_file, key=key)
        error = refusal(channel)
    assert "you said" in error.reason
    assert "***" in error.reason
    assert key not in error.reason
    assert json.dumps(key)[1:-1] not in error.reason
    assert key not in f"{channel} {channel!r}"


def test_a_service_that_is_not_of_the_authority_is_shown_nothing(tmp_path: Path) -> None:
    """`ca_file` pins: a certificate of another authority ends it for good before the key is sent."""
    with HttpService(speaks, trustme.CA()) as service:
        error = refusal(sms(service, saved(AUTHORITY, tmp_path)))
    assert error.permanent
    assert "certificate" in error.reason.lower()
    assert service.requests == []


def test_the_key_is_never_sent_in_clear() -> None:
    """An address without TLS is refused with the configuration."""
    with pytest.raises(ValidationError, match="https://"):
        local(url="http://127.0.0.1:1")


# ---- the text


def test_the_sms_tells_host_totals_and_the_worst_jails() -> None:
    """One line, the worst first, and how many jails it has no room for."""
    text = rendered(sample(), local())
    assert text == (
        "Attack from 203.0.113.0/24: 42 addresses - web1. 118 bans: "
        "sshd 84, nginx-botsearch 26, postfix-sasl 7, recidive 1"
    )
    short = rendered(sample(), local(max_chars=len(text) - 1))
    assert short == text.replace(", recidive 1", " and 1 more")


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("œuvre d’été à l'hôtel", "oeuvre d'été à l'hotel"),
        ("“ça” – où… ï", '"ca" - où... i'),
        ("e\u0301te\u0302 x\u0301", "éte x"),
        ("ﬁn ① n°", "fin 1 n?"),
        ("ban 🚨 日", "ban ? ?"),
        ("a\r\n\tb\x00c\u2028d", "a b?c?d"),
        ("[€]", "[€]"),
    ],
)
def test_text_becomes_gsm_7(text: str, instead: str) -> None:
    """What GSM-7 has stays; the rest becomes what looks like it, or a question mark."""
    got = " ".join(to_gsm_7(text).split())
    assert got == instead


@pytest.mark.slow
@given(st.text())
def test_any_text_becomes_gsm_7(text: str) -> None:
    """One other character would more than double the price of the SMS."""
    assert set(to_gsm_7(text)) <= GSM_7 | GSM_7_TWICE


@given(st.text(min_size=1, max_size=9).map(lambda text: text * 200), st.integers(40, 999))
def test_no_sms_is_longer_than_max_chars(text: str, most: int) -> None:
    """As the network counts: brackets and the euro are two."""
    assert length(local(max_chars=most).pack(Content({SMS: text}), STAMP).decode()) <= most


@pytest.mark.slow
def test_a_megabyte_is_cut_at_once() -> None:
    """A template of the admin's may say anything."""
    text = local(max_chars=999).pack(Content({SMS: "[€" * 500_000}), STAMP).decode()
    assert 996 <= length(text) <= 999


HOSTILE = ["a\r\nb", 'q"\\', "\x00", "🚨" * 70, "=HYPERLINK(1)", "@everyone", "<!channel>", "{{ 1 }}", "[]{}^~|€" * 40]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_one_line_of_gsm_7(service: HttpService, ca_file: Path, name: str) -> None:
    """Whatever jails are called, the JSON is valid and the SMS is short."""
    digest = sample()
    digest = replace(digest, host=name, jails=tuple(replace(jail, name=name) for jail in digest.jails))
    channel = sms(service, ca_file, max_chars=160)
    text = rendered(digest, channel)
    channel.deliver(replace(message(channel), body=text.encode()))
    got = json.loads(service.requests[0].body)["msg"]
    assert got == text
    assert length(got) <= 160
    assert set(got) <= (GSM_7 | GSM_7_TWICE) - {"\n", "\r"}
    assert "118" in got or length(name) > 100


@pytest.mark.parametrize("status", [402, 500])
def test_what_passes_goes_out_with_the_next_retry(
    f2b_digest: Command, ca_file: Path, path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same SMS, five minutes later and not before."""
    fill(path, [event()])
    with HttpService(says(status), AUTHORITY) as service:
        config = configured(path, service, f'key = "{KEY}"')
        assert f2b_digest("--config", config, "send").status == 75
        service.script = speaks
        assert f2b_digest("--config", config, "retry").status == 0
        assert len(service.requests) == 1
        monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 3600 + 301))
        assert f2b_digest("--config", config, "retry").status == 0
        first, second = service.requests
    assert first.body == second.body
