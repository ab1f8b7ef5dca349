"""Tests of the webhook channel against a local server: what arrives, who it is from, and what is believed."""

import functools
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme
from pydantic import ValidationError

from f2b_digest import delivery, resources
from f2b_digest.channels.webhook import Webhook
from f2b_digest.errors import DeliveryError
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import document, schema, to_json
from f2b_digest.model.message import Message, Stamp
from f2b_digest.rendering.renderer import Renderer
from tests.channels.http_service import Answer, HttpService, Request, saved, says
from tests.support import samples
from tests.support.program import Command
from tests.support.store_making import event, fill
from tests.tools.readme import sample_digest

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="chat", host="web1", made_at=1_700_000_000.0, bans=20)
CHATS = ("slack.json", "discord.json", "teams.json")


@functools.cache
def sample() -> Digest:
    """Return the sample digest."""
    return sample_digest()


@pytest.fixture
def service() -> Iterator[HttpService]:
    """Run a server that takes everything."""
    with HttpService(says(204)) as running:
        yield running


def chat(url: str = "http://127.0.0.1:1/hook", **settings: Any) -> Webhook:
    """Return the channel as a configuration makes it."""
    return Webhook.model_validate({"kind": "webhook", "url": url} | settings)


def message(body: bytes = b'{"x": 1}', **more: Any) -> Message:
    """Return a digest for the channel."""
    return Message(recipient="127.0.0.1", body=body, identity=STAMP.identity, **more)


def refusal(channel: Webhook) -> DeliveryError:
    """Return how a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message())
    return caught.value


def packed(digest: Digest, channel: Webhook) -> bytes:
    """Return the body of a digest, made as `send` makes it."""
    renderer = Renderer(resources.folder("templates"))
    content, _ = delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, STAMP))
    return channel.pack(content, STAMP)


def configured(path: Path, settings: str) -> Path:
    """Write a configuration for the program."""
    config = path.parent / "config.toml"
    head = f'store = "{path}"\nhost = "web1"\ntimezone = "UTC"\n[reports.daily]\nchannels = ["chat"]\n'
    config.write_text(f'{head}[channels.chat]\nkind = "webhook"\n{settings}\n')
    config.chmod(0o600)
    return config


# ---- the document


def test_the_digest_as_json_is_what_preview_shows(f2b_digest: Command, service: HttpService, path: Path) -> None:
    """One document for programs, whichever way they get it, and the schema describes it."""
    config = configured(path, f'url = "{service.url}/hook"')
    fill(path, [event(ip=f"192.0.2.{n}", failures=5, bantime=600, users=["root"]) for n in range(9)])
    preview = json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)
    printed = json.loads(f2b_digest("preview", "--format", "schema").out)
    assert f2b_digest("--config", config, "send").status == 0
    (request,) = service.requests
    assert json.loads(request.body) == preview
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert preview["version"] == printed["properties"]["version"]["const"] == 1
    assert printed == schema()
    jsonschema.validate(preview, printed)


@pytest.mark.parametrize("change", [{"version": 2}, {"totals": {}}, {"jails": [{"name": 1}]}, {"notes": None}])
def test_the_schema_tells_another_document_from_ours(change: dict[str, Any]) -> None:
    """A schema that takes anything would promise nothing; a new key is not a fault."""
    good = json.loads(to_json(sample())) | {"a new key": 1}
    jsonschema.validate(good, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(good | change, schema())


def test_the_schema_has_every_key_of_the_document() -> None:
    """And no key that the document lacks."""
    assert set(schema()["properties"]) == set(schema()["required"]) == set(document(sample()))


def test_a_document_that_is_too_large_loses_rows_and_counts_them() -> None:
    """`max_bytes` is kept as with any other channel."""
    body = packed(sample(), chat(max_bytes=2000))
    assert len(body) <= 2000
    assert json.loads(body)["left_out"]["bans"] + sum(jail["bans"] for jail in json.loads(body)["jails"]) == 118


# ---- who it is from


def test_the_signature_can_be_verified_in_a_few_lines(service: HttpService) -> None:
    """By any receiver: HMAC-SHA256 over the attempt's time, a dot and the body."""
    chat(f"{service.url}/hook", secret="s3cret é").deliver(message(at=1_700_000_300.9))
    (request,) = service.requests
    time, signature = (request.headers[f"f2b-digest-{name}"] for name in ("timestamp", "signature"))
    expected = hmac.digest("s3cret é".encode(), time.encode() + b"." + request.body, "sha256").hex()
    assert (time, signature) == ("1700000300", f"sha256={expected}")


def test_a_retry_is_signed_anew_and_has_the_same_key(service: HttpService) -> None:
    """A receiver may refuse old signatures, and drop a copy by its Idempotency-Key."""
    channel = chat(f"{service.url}/hook", secret="s3cret")
    for at in (1.0, 301.0):
        channel.deliver(message(at=at))
    first, second = (request.headers for request in service.requests)
    assert first["f2b-digest-signature"] != second["f2b-digest-signature"]
    assert first["idempotency-key"] == second["idempotency-key"] == STAMP.identity


def test_without_a_secret_nothing_is_signed(service: HttpService) -> None:
    """No header says more than is known."""
    chat(f"{service.url}/hook").deliver(message())
    assert not {"f2b-digest-signature", "f2b-digest-timestamp", "authorization"} & set(service.requests[0].headers)


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"token": "t0ken"}, "Bearer t0ken"),
        ({"user": "admin", "password": "a b:é"}, "Basic YWRtaW46YSBiOsOp"),
    ],
)
def test_bearer_and_basic_open_the_door(service: HttpService, settings: dict[str, str], header: str) -> None:
    """And headers of the admin's go along."""
    chat(f"{service.url}/hook", headers={"X-Team": "ops"}, **settings).deliver(message())
    assert service.requests[0].headers["authorization"] == header
    assert service.requests[0].headers["x-team"] == "ops"


@pytest.mark.parametrize("way", ["value", "file", "environment"])
def test_every_secret_stands_in_the_configuration_a_file_or_the_environment(
    f2b_digest: Command, service: HttpService, path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """All are used, and none is in the store, in status, or on the terminal, although the server repeats them."""
    secrets = {"url": f"{service.url}/services/T0SECRETPATH", "token": "t0ken-s3cret", "secret": "hm4c-s3cret"}
    lines = []
    for name, value in secrets.items():
        (path.parent / f"{name}.txt").write_text(value)
        monkeypatch.setenv(f"HOOK_{name}".upper(), value)
        lines.append(
            {
                "value": f'{name} = "{value}"',
                "file": f'{name}_file = "{name}.txt"',
                "environment": f'{name}_env = "HOOK_{name.upper()}"',
            }[way]
        )
    service.script = echo
    config = configured(path, "\n".join(lines))
    fill(path, [event()])
    ended = f2b_digest("--config", config, "-v", "send")
    shown = ended.out + ended.err + f2b_digest("--config", config, "status").out
    stored = b"".join(file.read_bytes() for file in path.parent.glob("bans.sqlite3*"))
    (request,) = service.requests
    assert (ended.status, "you asked" in shown) == (75, True)
    assert (request.path, request.headers["authorization"]) == ("/services/T0SECRETPATH", "Bearer t0ken-s3cret")
    for secret in ("T0SECRETPATH", "t0ken-s3cret", "hm4c-s3cret"):
        assert secret not in shown
        assert secret.encode() not in stored


def echo(request: Request) -> Answer:
    """Repeat what a careless server would."""
    return Answer(503, f"you asked POST {request.path} {request.headers}".encode())


def test_a_variable_that_is_not_set_is_named_and_tried_again(
    f2b_digest: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest waits until cron has its environment."""
    monkeypatch.delenv("HOOK_URL", raising=False)
    fill(path, [event()])
    ended = f2b_digest("--config", configured(path, 'url_env = "HOOK_URL"'), "send")
    assert (ended.status, "HOOK_URL" in ended.err) == (75, True)


@pytest.mark.parametrize("secret", ["t0ken\nX-Injected: yes", "t0ken€", "t0ken\x00"])
def test_a_token_that_no_header_can_carry_is_refused_unseen(service: HttpService, secret: str) -> None:
    """It fails for good with a message that does not contain it, and no request goes out."""
    error = refusal(chat(f"{service.url}/hook", token=secret))
    assert error.permanent
    assert "t0ken" not in error.reason
    assert service.requests == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"headers": {"Authorization": "x"}}, "set from other keys"),
        ({"headers": {"X-A": "b\r\nX-B: c"}}, "printable ASCII"),
        ({"headers": {"X A": "b"}}, "is not a valid header name"),
        ({"content_type": "text/plain\r\nX: y"}, "pattern"),
        ({"url": "https://user:s3cret@example.org/"}, "must not contain credentials"),
        ({"url": "https://bob:s3cret/"}, "Port is not a number"),
        ({"template": "../../etc/passwd"}, "pattern"),
        ({"token": "a", "user": "b", "password": "c"}, "set either a token or a user"),
    ],
)
def test_settings_that_would_do_harm_are_refused(settings: dict[str, Any], words: str) -> None:
    """In words that do not repeat them."""
    with pytest.raises(ValidationError, match=words) as caught:
        chat(**settings)
    assert "s3cret" not in str(caught.value)


# ---- what the server says


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    """Whatever a service says with it."""
    with HttpService(says(status, "<h1>thanks</h1>" if status != 204 else "")) as service:
        chat(service.url).deliver(message())
    assert len(service.requests) == 1


@pytest.mark.parametrize("status", [300, 400, 401, 402, 403, 404, 405, 410, 413, 422, 408, 425, 429, 500, 502, 503])
def test_a_status_says_who_can_mend_it(status: int) -> None:
    """With the service's own message, a page's without its tags."""
    with HttpService(says(status, "<html><style>x</style><b>invalid_payload</b>")) as service:
        error = refusal(chat(service.url))
    assert error.permanent == (status < 500 and status not in (408, 425, 429))
    assert error.reason == f"{service.netloc}: HTTP status {status}: invalid_payload"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """No stranger gets the digest or the token."""
    with HttpService(says(200)) as stranger:
        with HttpService(says(status, Location=stranger.url)) as service:
            error = refusal(chat(service.url, token="t0ken"))
        assert stranger.requests == []
    assert error.permanent


def test_a_private_authority_is_trusted_by_ca_file(tmp_path: Path) -> None:
    """And only with it."""
    authority = trustme.CA()
    with HttpService(says(200), authority) as service:
        chat(service.url, ca_file=str(saved(authority, tmp_path))).deliver(message())
        assert refusal(chat(service.url)).permanent
    assert len(service.requests) == 1


# ---- chats


NAMES = [
    "a\r\nb", 'q"\\', "\x00", "🚨", "=HYPERLINK(1)", "@everyone @here @channel", "<!channel> <@U123>", "</script>",
    "*b* _i_ `c` ~s~ ||x||", "[click](http://evil.example)", "![x](https://evil.example/p.png)", "# h", '"}, {"x": "',
    "{{ 7 * 7 }}{% raw %}", "x" * 1_000_000, "https://evil.example", "<at>all</at>", "&lt;!here&gt;",
]  # fmt: skip


CUT = ("jails", "facts", "several", "campaigns", "users", "when", "where", "advice")


def named(name: str) -> Digest:
    """Return the sample digest with everything that a template shows under a hostile name."""
    jails = tuple(replace(jail, name=name) for jail in sample().jails)
    return replace(sample(), host=name, jails=jails)


@pytest.mark.parametrize("template", [*CHATS, None])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_hostile_names_leave_the_json_whole(template: str | None, name: str) -> None:
    """Same keys, same structure, whatever a jail is called."""
    channel = chat(template=template)
    assert shape(json.loads(packed(named(name), channel))) == shape(json.loads(packed(named("sshd"), channel)))


def shape(value: Any) -> Any:
    """Return a JSON value without its texts and numbers; a document's jails and sections may be cut."""
    if isinstance(value, dict):
        return {key: "" if key in CUT else shape(item) for key, item in value.items() if key != "until"}
    return [shape(item) for item in value] if isinstance(value, list) else ""


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_slack_and_mattermost_ring_for_nobody(name: str) -> None:
    """Slack wants <, > and & escaped; Mattermost rings for a bare @channel and shows pictures of strangers."""
    body = json.loads(packed(named(name), chat(template="slack.json")))
    assert body["mrkdwn"] is False
    assert not {"<", ">"} & set(body["text"])
    assert "@e" not in body["text"]
    assert "@c" not in body["text"]
    assert "](" not in body["text"]
    assert "://" not in body["text"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_discord_rings_for_nobody_and_shows_no_mark_up(name: str) -> None:
    """No mention is allowed, no page is looked up, and every character of a name that means something is escaped."""
    body = json.loads(packed(named(name), chat(template="discord.json")))
    assert body["allowed_mentions"] == {"parse": []}
    assert body["flags"] & 4
    assert len(body["content"]) <= 2000
    bare = body["content"].replace("\\\\", "")
    for mark in "*_~`|<>[]()#@":
        assert mark not in bare.replace(f"\\{mark}", "").replace("**", "")


def test_teams_shows_names_as_they_are() -> None:
    """Rich text knows no Markdown: no text block and no fact set, which do, holds a name."""
    body = json.loads(packed(named("[click](http://evil.example)"), chat(template="teams.json")))
    blocks = body["attachments"][0]["content"]["body"]
    assert {block["type"] for block in blocks} == {"RichTextBlock"}
    texts = [run["text"] for block in blocks for run in block["inlines"]]
    assert any(text.startswith("[click](http://evil.example)") for text in texts)


@pytest.mark.parametrize("template", CHATS)
def test_chats_tell_totals_and_jails(service: HttpService, template: str) -> None:
    """What a person wants to know is in each."""
    channel = chat(f"{service.url}/hook", template=template)
    channel.deliver(message(packed(sample(), channel)))
    text = service.requests[0].body.decode()
    assert "118 bans, " in text
    assert "addresses" in text
    assert "postfix-sasl" in text


@pytest.mark.parametrize("template", CHATS)
def test_chats_tell_what_needs_somebody_before_the_jails(template: str) -> None:
    """Who reads the beginning on a phone knows whether to get up."""
    text = packed(samples.telling(), chat(template=template)).decode()
    places_of = [
        text.index(words) for words in ("192.0.2.7", "3 items need attention", "dovecot has been stopped", "nginx-bot")
    ]
    assert places_of == sorted(places_of)


def test_a_template_of_the_admins_makes_any_text(f2b_digest: Command, service: HttpService, path: Path) -> None:
    """With its own content type."""
    own = path.parent / "own/webhook"
    own.mkdir(parents=True)
    (own / "plain.txt").write_text("{{ totals.bans }} on {{ host }}\n")
    config = configured(path, f'url = "{service.url}"\ntemplate = "plain.txt"\ncontent_type = "text/plain"')
    config.write_text('templates = "own"\n' + config.read_text())
    fill(path, [event()])
    assert f2b_digest("--config", config, "send").status == 0
    (request,) = service.requests
    assert (request.body, request.headers["content-type"]) == (b"1 on web1", "text/plain")


@pytest.mark.parametrize("template", [None, "{{ no_such_name }}", "{% if %}", "{{ 1 / 0 }}"])
def test_a_template_without_a_stand_in_costs_its_looks_not_the_digest(
    f2b_digest: Command, service: HttpService, path: Path, template: str | None
) -> None:
    """A misspelt or broken one is named, the digest goes out as JSON, and no other channel waits."""
    own = path.parent / "own/webhook"
    own.mkdir(parents=True)
    if template:
        (own / "mine.json").write_text(template)
    config = configured(
        path, f'url = "{service.url}"\ntemplate = "mine.json"\n[channels.out]\nkind = "file"\nfolder = "out"'
    )
    config.write_text('templates = "own"\n' + config.read_text().replace('["chat"]', '["chat", "out"]'))
    fill(path, [event()])
    ended = f2b_digest("--config", config, "send")
    assert (ended.status, ended.err.count("\n")) == (0, 1)
    assert "webhook/mine.json" in ended.err
    (request,) = service.requests
    jsonschema.validate(json.loads(request.body), schema())
    assert len(list((path.parent / "out").iterdir())) == 1
