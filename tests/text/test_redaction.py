"""Tests of redacted log lines: what happened stays, secrets and own addresses do not."""

import string
import time
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from f2b_digest.model.host_context import AnyNetwork
from f2b_digest.text.redaction import SAMPLE_LIMIT, samples
from tests.support.parts import unpacked
from tests.support.program import Command
from tests.support.store_making import event, fill

IP = "203.0.113.5"
SECRET = "Sup3r!Secret9"
OWN: tuple[AnyNetwork, ...] = tuple(
    map(ip_network, ("198.51.100.9/32", "192.168.1.0/24", "2001:db8:1::5/128", "fd00:1::/64", "::1/128"))
)


def sample(line: str, *users: str, private: tuple[str, ...] = ()) -> str:
    """Return what is shown of one line."""
    (shown,) = samples([(IP, line, users)], private, OWN)
    return shown


# ---- which lines


def test_the_last_line_of_the_two_worst_addresses_is_shown() -> None:
    """One of each, without duplicates; none if there are none."""
    lines: list[tuple[str, str, list[str]]] = [
        ("203.0.113.1", "first\nlast of 1", []),
        ("203.0.113.1", "again", []),
        ("203.0.113.2", "", []),
        ("203.0.113.3", "last of 1\n", []),
        ("203.0.113.4", "last of 4\n\n", []),
        ("203.0.113.5", "last of 5", []),
    ]
    assert samples(lines, [], []) == ("last of 1", "last of 4")
    assert samples([], [], []) == ()


def test_a_long_line_is_cut() -> None:
    """The cut is marked."""
    assert sample("word " * 100) == ("word " * 100)[:159] + "…"
    assert sample("x " * 79 + "xx") == "x " * 79 + "xx"


# ---- what stays

KEPT = [
    "Nov 19 12:00:01 web1 sshd[4711]: Failed password for root from 203.0.113.5 port 4242 ssh2",
    "2026-11-19T12:00:01.123456+01:00 web1 sshd[4711]: Invalid user admin from 203.0.113.5 port 4242",
    "sshd[1]: Failed password for invalid user admin from 203.0.113.5 port 4242 ssh2",
    "sshd[1]: Disconnected from authenticating user root 203.0.113.5 port 4242 [preauth]",
    "sshd[1]: pam_unix(sshd:auth): authentication failure; logname= uid=0 tty=ssh ruser= rhost=203.0.113.5 user=root",
    "sshd[1]: Invalid user admin from 2001:db8:2::7 port 4242",
    "dovecot: imap-login: Aborted login (auth failed): user=<bob@example.org>, method=PLAIN, rip=203.0.113.5",
    "dovecot: auth: passwd-file(admin,203.0.113.5): unknown user",
    "postfix/smtpd[1]: warning: unknown[203.0.113.5]: SASL LOGIN authentication failed: authentication failure",
    "postfix/smtpd[1]: NOQUEUE: reject: RCPT from mail.example.org[203.0.113.5]: 554 5.7.1 Relay access denied",
    '*1 user "admin" was not found in "/etc/nginx/.htpasswd", client: 203.0.113.5, request: "GET / HTTP/1.1"',
    '203.0.113.5 - - [20/Nov/2026:10:30:00 +0100] "GET /phpMyAdmin-2.8.2/scripts/setup.php HTTP/1.1" 404 162 "x/8.1"',
    '203.0.113.5 - - [20/Nov/2026:10:30:00 +0100] "GET /wp-login.php HTTP/1.1" 404 162 "-" "Mozilla/5.0"',
    "[client 203.0.113.5:4242] AH01618: user admin not found: /basic/file",
    '[pid 27202] [admin] FAIL LOGIN: Client "203.0.113.5"',
    "proftpd[1] ftp.example.org (203.0.113.5[203.0.113.5]): USER admin: no such user found from 203.0.113.5",
]


@pytest.mark.parametrize("line", KEPT)
def test_what_happened_stays(line: str) -> None:
    """The time, the address, the name that was tried, the path, the program, the host."""
    assert sample(line, "root", "admin", "bob@example.org") == line


# ---- what goes

MASKED = [
    f"sshd[1]: Invalid user {SECRET} from 203.0.113.5 port 4242",
    f"sshd[1]: Failed password for invalid user {SECRET} from 203.0.113.5 port 4242 ssh2",
    f"sshd[1]: Failed password for invalid user my {SECRET} pass from 203.0.113.5 port 4242 ssh2",
    f"sshd[1]: Disconnected from invalid user my {SECRET} 203.0.113.5 port 4242 [preauth]",
    f"dovecot: pop3-login: Aborted login: user=<{SECRET}>, method=PLAIN, rip=203.0.113.5",
    f"dovecot: pop3-login: Aborted login: user=<a>{SECRET}>, method=PLAIN, rip=203.0.113.5",
    f"dovecot: auth: sql({SECRET},203.0.113.5): unknown user",
    f'*1 user "{SECRET}" was not found in "/etc/nginx/.htpasswd", client: 203.0.113.5',
    f'*1 user "a"{SECRET}"b": password mismatch, client: 203.0.113.5',
    f"[client 203.0.113.5] user my {SECRET} not found: /basic/file",
    f'[pid 27202] [{SECRET}] FAIL LOGIN: Client "203.0.113.5"',
    f"USER {SECRET}: no such user found from 203.0.113.5",
    f"203.0.113.5 password={SECRET}",
    f'203.0.113.5 {{"user":"root","passwd" : "a\\"b {SECRET}", "x": 1}}',
    f"203.0.113.5 pwd: {SECRET}",
    f"203.0.113.5 GET /x?a=1&t={SECRET}&b=2 HTTP/1.1",
    f'203.0.113.5 "GET /x?q=my {SECRET} HTTP/1.1" 404',
    f"203.0.113.5 GET http://root:{SECRET}@example.org/",
    f"203.0.113.5 GET http://root:{SECRET}@x@example.org/",
    f"203.0.113.5 Authorization: Basic {SECRET} and more",
    f"203.0.113.5 Cookie: a=1; b={SECRET}",
    f"203.0.113.5 api_key={SECRET} done",
    f"203.0.113.5 session=<{SECRET}> x",
    f"203.0.113.5 Bearer {SECRET}",
]


@pytest.mark.parametrize("line", MASKED)
@pytest.mark.parametrize("users", [(), (SECRET,)], ids=["unknown", "tried"])
def test_a_secret_is_masked(line: str, users: tuple[str, ...]) -> None:
    """Also a password typed as a user name, whether or not the filter reported it."""
    shown = sample(line, *users)
    assert "ecret" not in shown
    assert "[…]" in shown
    if "203.0.113.5" in line and "HTTP" not in line:
        assert "203.0.113.5" in shown


@pytest.mark.parametrize(
    "token",
    ["5f4dcc3b5aa765d61d8327deb882cf99", "ZXlKaGJHY2lPaUpJVXpJMU5pSjk", "abcdefghijklmnopqrstuvwxyz", "UGFzc3dvcmQ6",
     "tk_3fa85f6457174562b3fc", "A1B2C3D4E5F6A7B8C9D0", "Tr0ub4dor&3x", "aB3dE5fA"],
)  # fmt: skip
def test_what_looks_like_a_token_is_masked_wherever_it_stands(token: str) -> None:
    """Hex, base64, or a mixture of small and large letters and digits."""
    for line in (f"{IP} /reset/{token}/ x", f"{IP} {token}", f"{IP} (x:{token}).", f"{IP} <{token}>"):
        assert token not in sample(line)


def test_a_name_that_nobody_is_known_to_have_tried_is_masked() -> None:
    """The filter reports the names; any other word may be a secret."""
    assert sample("Invalid user hunter2 from 203.0.113.5", "root") == "Invalid user […] from 203.0.113.5"
    assert sample("RCPT to=<victim@example.org> from=<x@example.net>") == "RCPT to=<[…]> from=<[…]>"


def test_private_words_are_masked() -> None:
    """Case-insensitively."""
    assert sample("Acme's web1 of ACME: acmes", private=("acme", "")) == "[…]'s web1 of […]: acmes"


OWN_TEXTS = ["198.51.100.9", "192.168.1.77", "2001:db8:1::5", "2001:0DB8:1:0::5", "fd00:1::77", "::1",
             "::ffff:198.51.100.9", "::ffff:c633:6409"]  # fmt: skip


@pytest.mark.parametrize("own", OWN_TEXTS)
def test_an_address_of_ones_own_is_masked(own: str) -> None:
    """Anywhere in the line; the other address stays."""
    for line in (f"rip={IP}, lip={own}", f"{IP} [{own}]:443", f"{IP} addr:{own}: x", f"{own}", f"{IP} -> {own}:22,"):
        shown = sample(line)
        assert own.removeprefix("::ffff:") not in shown
        assert IP in shown or IP not in line
    assert sample("198.51.100.90 198.51.100.8 1198.51.100.9 2001:db8:1::55 12:30:00 192.168.2.1") == (
        "198.51.100.90 198.51.100.8 1198.51.100.9 2001:db8:1::55 12:30:00 192.168.2.1"
    )


@pytest.mark.slow
def test_a_megabyte_is_masked_at_once() -> None:
    """An attacker chooses the text of a log line, and the user name."""
    started = time.monotonic()
    for text in ("a" * 10**6, "a@" * 500_000, "1.1." * 250_000, "::" * 500_000, "user=" * 200_000, "a.b " * 250_000,
                 '"' * 10**6, "for from " * 100_000, "?" * 10**6, 'user "' * 100_000, "key=\\" * 200_000):  # fmt: skip
        for shown in samples([(IP, text, [text[:50_000], "root"])], ["web1"], OWN):
            assert len(shown) <= SAMPLE_LIMIT
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    "service", ["sshd", "dovecot", "postfix", "nginx-http-auth", "apache-auth", "vsftpd", "proftpd"]
)
def test_lines_of_real_services_stay_readable(service: str) -> None:
    """From fail2ban's own tests, with unknown user names: most words stay, and no name does."""
    logs = unpacked("fail2ban-1.1.0", "13", "fail2ban") / "usr/lib/python3/dist-packages/fail2ban/tests/files/logs"
    lines = [line for line in (logs / service).read_text(errors="replace").splitlines() if line and line[0] != "#"]
    assert lines
    kept = 0.0
    for line in lines:
        words = [word for word in line[:SAMPLE_LIMIT].split()[:-1] if len(line) > SAMPLE_LIMIT] or line.split()
        shown = set(sample(line).split())
        kept += sum(word in shown for word in words) / max(len(words), 1)
    assert kept / len(lines) > 0.8


# ---- whatever comes

MIXED = st.text(string.ascii_letters + string.digits + "!#$%*+-_.:", min_size=12, max_size=40).filter(
    lambda text: any(map(str.islower, text)) and any(map(str.isupper, text)) and any(map(str.isdigit, text))
    and text.strip(".:-_") == text and ".." not in text
)  # fmt: skip
AROUND = st.text(st.characters(codec="utf-8"), max_size=60)
PLACES = [
    "password={}", "passwd: {}", "token={} x", '{{"secret": "{}"}}', "GET /a?x={} HTTP/1.1", "GET /a?{}&b=1",
    "Invalid user {} from 203.0.113.5 port 22", "Failed password for {} from 203.0.113.5 port 22 ssh2",
    "user=<{}>, method=PLAIN, rip=203.0.113.5", 'user "{}": password mismatch', "user=({})", "Authorization: Bearer {}",
    "https://a:{}@example.org/",
]  # fmt: skip


@settings(deadline=None)
@given(MIXED, st.sampled_from(PLACES), AROUND, AROUND, st.booleans())
@example("Abcdefghijk1", PLACES[6], "for ", " from x", True)
def test_no_planted_secret_is_left(secret: str, place: str, before: str, after: str, tried: bool) -> None:
    """Anywhere, whatever an attacker put around it."""
    assume(secret.lower() not in (before + after).lower())
    line = f"{before} {place.format(secret)} {after}"
    for shown in samples([(IP, line.replace("\n", " "), [secret] if tried else [])], [], OWN):
        assert secret not in shown


@settings(deadline=None)
@given(st.sampled_from(OWN), st.integers(0, 2**70), AROUND, AROUND, st.lists(AROUND, max_size=3))
def test_no_address_of_ones_own_is_left(
    network: AnyNetwork, number: int, before: str, after: str, users: list[str]
) -> None:
    """Nor is it one that an attacker can read out of the digest."""
    own = str(network[number % network.num_addresses])
    line = f"{before} {own} {after}".replace("\n", " ")
    for shown in samples([(IP, line, users)], [], OWN):
        assert own not in shown.split()


@settings(deadline=None)
@given(st.lists(st.tuples(AROUND, st.text(max_size=400), st.lists(AROUND, max_size=3)), max_size=5), st.lists(AROUND))
def test_a_sample_is_one_short_line(lines: list[tuple[str, str, list[str]]], private: list[str]) -> None:
    """Of characters that can be printed."""
    shown = samples(lines, private, OWN)
    assert len(shown) <= 2
    for each in shown:
        assert 0 < len(each) <= SAMPLE_LIMIT
        assert each.isprintable()
        assert len(each.splitlines()) == 1


# ---- who sees them

LINE = "Nov 19 12:00:00 web1 sshd[9]: Failed password for root from 203.0.113.9 port 22 ssh2"


def test_a_preview_shows_log_lines_where_a_channel_would(f2b_digest: Command, config: Path, path: Path) -> None:
    """What is previewed is what is sent."""
    fill(path, [event(ip="203.0.113.9", matches=LINE, users=["root"])])
    seen = {
        form: "Failed password" in f2b_digest("--config", config, "preview", "--format", form).out
        for form in ("text", "html", "ntfy", "json")
    }
    assert seen == {"text": True, "html": True, "ntfy": False, "json": True}


@pytest.mark.parametrize("asked", [None, True, False])
def test_log_lines_are_in_a_mail_and_on_a_phone_if_asked_for(
    f2b_digest: Command, config: Path, path: Path, asked: bool | None
) -> None:
    """A lock screen shows what it is sent to everybody; a mail is opened. Either can be told otherwise."""
    said = "" if asked is None else f"samples = {str(asked).lower()}\n"
    config.write_text(
        config.read_text()
        + said
        + f'[channels.phone]\nkind = "ntfy"\nurl = "https://ntfy.example.org"\ntopic = "t"\n{said}'
        + f'[channels.log]\nkind = "syslog"\n{said}'
        + f'[channels.hook]\nkind = "webhook"\nurl = "https://chat.example.org/x"\n{said}'
    )
    fill(path, [event(ip="203.0.113.9", matches=LINE, users=["root"])])
    seen = {}
    for name in ("out", "phone", "log", "hook"):
        file = path.parent / name
        assert f2b_digest("--config", config, "preview", "--channel", name, "--output", file).status == 0
        seen[name] = b"Failed password" in file.read_bytes()
    usual = {"out": True, "phone": False, "log": False, "hook": True}
    assert seen == (usual if asked is None else dict.fromkeys(usual, asked))
