"""Tests of what the channels' settings refuse, and in which words."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from f2b_digest.channels import KINDS
from f2b_digest.channels.email import Email
from f2b_digest.errors import DeliveryError
from tests.channels.kinds import GOOD

REQUIRED = [("email", "from"), ("email", "to"), ("ntfy", "url"), ("ntfy", "topic"), ("command", "command"),
            ("free-mobile", "user")]  # fmt: skip
SMTP = "smtp://f2b@mail.example.org:587"


def mistakes(kind: str, settings: dict[str, Any]) -> str:
    """Return what an admin is told of wrong settings: the dotted place and the words of each mistake."""
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate({"kind": kind} | GOOD[kind] | settings)
    found = caught.value.errors(include_url=False, include_input=False, include_context=False)
    return "\n".join(".".join(map(str, each["loc"])) + ": " + each["msg"] for each in found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_settings_are_enough(kind: str) -> None:
    """The tests below start from these."""
    assert KINDS[kind].model_validate({"kind": kind} | GOOD[kind]).recipients


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_named(kind: str) -> None:
    """A misspelt key is not silently without effect."""
    assert mistakes(kind, {"pasword_file": "x"}) == "pasword_file: Extra inputs are not permitted"


@pytest.mark.parametrize(("kind", "key"), REQUIRED)
def test_a_missing_key_is_named(kind: str, key: str) -> None:
    """Under the name that it has in the configuration."""
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate({"kind": kind} | {each: GOOD[kind][each] for each in GOOD[kind] if each != key})
    [mistake] = caught.value.errors()
    assert (mistake["loc"], mistake["msg"]) == ((key,), "Field required")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "s3cret"}, "password, password_file and ca_file need smtp"),
        ({"password_file": "smtp.password"}, "password, password_file and ca_file need smtp"),
        ({"ca_file": "ca.pem"}, "password, password_file and ca_file need smtp"),
        ({"smtp": SMTP}, "set password_file or password"),
        ({"smtp": "smtp://mail.example.org", "password": "s3cret"}, "password needs a user in smtp"),
        ({"smtp": SMTP, "password": "s3cret", "password_file": "x"}, "set only one of password and password_file"),
        ({"smtp": SMTP, "password": "s3cret", "sendmail": "/usr/bin/msmtp"}, "set either smtp or sendmail, not both"),
        ({"smtp": "smtp://f2b:s3cret@mail.example.org"}, "smtp must not contain a password: use password_file"),
        ({"smtp": "mail.example.org:25"}, "must look like smtp://user@mail.example.org:587"),
        ({"smtp": "https://mail.example.org"}, "must look like smtp://"),
        ({"smtp": "smtp://"}, "must look like smtp://"),
        ({"smtp": "smtp://mail.example.org:99999"}, "Port out of range"),
        ({"smtp": "smtp://[::1"}, "Invalid IPv6 URL"),
        ({"sendmail": ""}, "sendmail is empty"),
        ({"sendmail": "/usr/bin/msmtp 'x"}, "No closing quotation"),
        ({"to": []}, "to: "),
        ({"to": "admin@example.org"}, "to: "),
    ],
)
def test_settings_of_mail_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    """Each is refused with a message that says what to do, without secrets."""
    told = mistakes("email", settings)
    assert words in told
    assert "s3cret" not in told


@pytest.mark.parametrize("key", ["from", "to"])
@pytest.mark.parametrize(
    "address",
    [
        "admin",
        "",
        "@example.org",
        "admin@",
        "admin@example.org\nBcc: eve@example.org",
        "Admin\r\nBcc: eve@example.org <admin@example.org>",
        "Admin\u2028 <admin@example.org>",
        "ad min@example.org",
        "élise@example.org",
        "admin@example..org",
        "admin@" + "x" * 64 + ".org",
    ],
)
def test_what_is_no_address_or_more_than_one_is_refused(key: str, address: str) -> None:
    """No header can be brought in, and what no server takes is reported before the first ban."""
    told = mistakes("email", {key: address if key == "from" else ["bob@example.org", address]})
    assert told.startswith("from: " if key == "from" else "to.1: ")
    assert "address" in told or "must be ASCII" in told


@pytest.mark.parametrize(
    "address",
    ["admin@example.org", "Admin <admin@example.org>", '"Doe, Zoë" <zoe+f2b@bücher.example>', "root@localhost"],
)
def test_usual_addresses_are_taken(address: str) -> None:
    """With names, plus signs, and domains in any language."""
    assert Email.model_validate({"kind": "email", "from": address, "to": [address]}).recipients[0].isascii()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topic": "a b"}, "topic: "),
        ({"topic": "bans/web1"}, "topic: "),
        ({"topic": ""}, "topic: "),
        ({"topic": "x" * 65}, "topic: "),
        ({"topic": "x\n"}, "topic: "),
        ({"topic": "app"}, "'app' is reserved by ntfy: choose another topic"),
        ({"priority": 6}, "priority: Input should be less than or equal to 5"),
        ({"priority": 0}, "priority: Input should be greater than or equal to 1"),
        ({"priority": "loud"}, "priority: Input should be a valid integer"),
        ({"urgent_from": 0}, "urgent_from: Input should be greater than or equal to 1"),
        ({"tags": ["rotating,light"]}, "tags.0: "),
        ({"tags": ["ok", ""]}, "tags.1: "),
        ({"token": "s3cret", "token_file": "x"}, "set only one of token and token_file"),
        ({"token": "s3cret", "user": "f2b", "password": "s3cret"}, "set either a token or a user, not both"),
        ({"user": "f2b"}, "user needs password or password_file, and the reverse"),
        ({"password": "s3cret"}, "user needs password or password_file, and the reverse"),
        ({"user": "f2b", "password": "s3cret", "password_file": "x"}, "set only one of password and password_file"),
    ],
)
def test_settings_of_ntfy_that_cannot_work(settings: dict[str, Any], words: str) -> None:
    """Each is refused with a message that says where and what, without secrets."""
    told = mistakes("ntfy", settings)
    assert words in told
    assert "s3cret" not in told


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ntfy.example.org", "must look like https://example.org"),
        ("ftp://ntfy.example.org", "must look like https://"),
        ("https://", "must look like https://"),
        ("https://:443", "must look like https://"),
        ("https://ntfy.example.org\n", "must look like https://"),
        ("https://ntfy example.org", "must look like https://"),
        ("https://ntfy.example.org:99999", "Port out of range"),
        ("https://ntfy.example.org:x", "Port"),
        ("https://[::1", "Invalid IPv6 URL"),
        ("https://ntfy.example.org/Alertes_web1", "set the topic with the key topic"),
        ("https://ntfy.example.org?auth=s3cret", "must end after the host"),
        ("https://f2b:s3cret@ntfy.example.org", "must not contain credentials: use user and password"),
        ("https://éxample.org", "must name the host in ASCII"),
    ],
)
def test_an_address_that_is_not_a_servers_is_refused(url: str, words: str) -> None:
    """With a path, ntfy would take the digest and show raw JSON."""
    told = mistakes("ntfy", {"url": url})
    assert told.startswith("url: ")
    assert words in told
    assert "s3cret" not in told


def test_a_link_may_lead_anywhere_on_the_web() -> None:
    """But not start a script."""
    assert "click: " in mistakes("ntfy", {"click": "javascript:alert(1)"})
    ntfy = KINDS["ntfy"].model_validate({"kind": "ntfy", "click": "https://é.example/a?b#c"} | GOOD["ntfy"])
    assert ntfy.recipients == ("Alertes_web1",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_never_shows_a_secret_nearby(kind: str) -> None:
    """Not even where the whole error is printed."""
    with pytest.raises(ValidationError) as caught:
        KINDS[kind].model_validate({"kind": kind, "password": "s3cret", "smtp": "smtp://u:s3cret@h"} | GOOD[kind])
    assert "s3cret" not in str(caught.value)


def test_a_file_is_looked_for_beside_the_configuration() -> None:
    """A relative path means the same from cron as from a shell."""
    settings = {"kind": "email", "smtp": SMTP, "password_file": "smtp.password", "ca_file": "/etc/ca.pem"} | GOOD[
        "email"
    ]
    channel = Email.model_validate(settings, context={"folder": Path("/etc/f2b-digest")})
    assert channel.password
    assert channel.ca_file
    assert (channel.password.file, channel.ca_file.path) == (
        Path("/etc/f2b-digest/smtp.password"),
        Path("/etc/ca.pem"),
    )


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    """Where the unit has it, its first line is the secret; elsewhere only this channel fails, and says why."""
    (tmp_path / "smtp").write_text("s3cret\n")
    settings = {"kind": "email", "smtp": SMTP, "password_file": "$CREDENTIALS_DIRECTORY/smtp"} | GOOD["email"]
    context = {"folder": Path("/etc/f2b-digest"), "environment": {"CREDENTIALS_DIRECTORY": str(tmp_path)}}
    channel = Email.model_validate(settings, context=context)
    assert channel.password
    assert channel.password.reveal() == "s3cret"
    channel = Email.model_validate(settings, context={"environment": {}})
    assert channel.password
    with pytest.raises(DeliveryError, match=r"is a credential, which only the unit that loads it can read"):
        channel.password.reveal()
