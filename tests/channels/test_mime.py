"""Tests of a mail's bytes: whatever the text, a mail program reads what was meant, and nothing else."""

import csv
import email
import email.policy
import io
import re
from email.message import EmailMessage, Message
from email.utils import getaddresses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from f2b_digest.channels import mime
from f2b_digest.channels.base import one_line
from f2b_digest.channels.email import Email
from f2b_digest.model.bans import Banned
from f2b_digest.model.message import Content, Stamp

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="mail", host="web1.example.org", made_at=1_700_000_000.0, bans=3)
HEADERS = {
    "Content-Type", "MIME-Version", "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
    "X-Auto-Response-Suppress", "List-Id", "X-F2B-Digest",
}  # fmt: skip
SPECIALS = [
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\u2028",
    "\x85",
    "\udcff",
    "=?utf-8?q?a?=",
    "é",
    "🚨",
    "日本",
    '"',
    "\\",
    "\nBcc: eve@x\n",
]
unhurried = settings(deadline=None)  # a busy machine is not a failure
anything = st.one_of(
    st.text(st.characters()),
    st.text(st.sampled_from("é \t=?_a.,;:<>()[]\"\\'@"), min_size=60, max_size=200),
    st.lists(st.sampled_from([*SPECIALS, " ", "\t", "a", "From ", "."])).map("".join),
)


def build(
    subject: str = "3 bans",
    text: str = "text",
    html: str = "<p>",
    recipients: list[str] | None = None,
    stamp: Stamp = STAMP,
) -> bytes:
    """Return a mail."""
    return mime.build(
        sender="fail2ban@web1.example.org", recipients=recipients or ["admin@example.org"],
        subject=subject, text=text, html=html, stamp=stamp, message_id="id@web1.example.org",
    )  # fmt: skip


def channel(**more: str) -> Email:
    """Return a channel."""
    keys = {"kind": "email", "from": "fail2ban@web1.example.org", "to": ["admin@example.org"]}
    return Email.model_validate(keys | more)


def with_name(name: str, address: str) -> str:
    """Return an address with a display name, as an admin writes it."""
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>'


def read(mail: bytes) -> EmailMessage:
    """Read a mail as a mail program does."""
    message = email.message_from_bytes(mail, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def names(mail: bytes) -> list[tuple[str, str]]:
    """Return the names and addresses of To and From, as a reader without this package's help decodes them."""
    message: Message = email.message_from_bytes(mail)
    found = getaddresses([str(message["From"]), str(message["To"])])
    return [(str(email.header.make_header(email.header.decode_header(name))), address) for name, address in found]


def in_a_part(text: str) -> list[str]:
    """Return what a reader shows of a text: its lines, and escapes for what is not text."""
    return re.split(r"\r\n|\r|\n", text.encode("utf-8", "backslashreplace").decode())


def assert_travels_everywhere(mail: bytes) -> None:
    """Every server takes it as it is: 7 bits, LF, short lines, whole encoded words."""
    assert mail.isascii()
    assert b"\r" not in mail
    assert b"\0" not in mail
    assert max(map(len, mail.split(b"\n"))) <= 998
    assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?[qb]\?[^?]*\?=", mail.partition(b"\n\n")[0]))


@unhurried
@given(subject=anything, text=anything, html=anything)
@example(subject="=?utf-8?q?fake?=", text="", html="")
@example(subject="a" * 500, text="a" * 5000, html="é" * 5000)
@example(subject="Fail2ban web1 : 1 234 bannis, œuvre de 567 hôtes à l'été, sshd et nginx", text="", html="")
def test_a_mail_program_reads_what_was_meant(subject: str, text: str, html: str) -> None:
    """Hostile text changes neither headers nor parts, and nothing of it is lost."""
    mail = build(subject, text, html)
    message = read(mail)
    assert sorted(message.keys()) == sorted(HEADERS)
    assert message["Subject"] == one_line(subject, mime.SUBJECT_LIMIT)
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/alternative", "text/plain", "text/html",
    ]  # fmt: skip
    for part, meant in zip(message.iter_parts(), (text, html), strict=True):
        assert isinstance(part, EmailMessage)
        assert part.keys() == ["Content-Type", "MIME-Version", "Content-Transfer-Encoding"]
        assert re.split("\r\n|\r|\n", part.get_content()) == in_a_part(meant)
    assert (message["From"], message["To"]) == ("fail2ban@web1.example.org", "admin@example.org")
    assert_travels_everywhere(mail)


@unhurried
@given(name=anything)
@example(name="=?utf-8?q?fake?=")
@example(name="a" * 5000)
@example(name="x> <eve@example.org")
def test_a_senders_name_is_refused_or_read_back(name: str) -> None:
    """What cannot be in a header is refused when the configuration is read, the rest reads as it was written."""
    sender = with_name(name, "fail2ban@web1.example.org")
    try:
        channel = Email.model_validate({"kind": "email", "from": sender, "to": ["admin@example.org"]})
    except ValidationError:
        assert not name.isprintable()
        return
    mail = channel.pack(Content({"email/subject.txt": "", "email/body.txt": "", "email/body.html": ""}), STAMP)
    assert sorted(read(mail).keys()) == sorted(HEADERS)
    [(shown, address), _] = names(mail)
    assert " ".join(shown.split()) == one_line(name, mime.NAME_LIMIT)
    assert address == "fail2ban@web1.example.org"
    assert_travels_everywhere(mail)


@unhurried
@given(
    given_names=st.lists(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=70), max_size=8)
)
@example(given_names=["Gérard, chef des serveurs à l'œuvre depuis très longtemps à Besançon", "a, b", "x@y", "(c)"] * 3)
@example(given_names=["=?utf-8?q?fake?=", "\\", '"'])
@example(given_names=["00𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀00𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀𐀀"])
def test_names_in_any_language_keep_their_addresses(given_names: list[str]) -> None:
    """Each recipient is read back with the name that the admin wrote."""
    addresses = [f"admin{number}@example.org" for number in range(len(given_names))]
    recipients = [with_name(name, address) for name, address in zip(given_names, addresses, strict=True)]
    mail = build(recipients=recipients)
    if recipients:
        got = names(mail)[1:]
        assert [address for _, address in got] == addresses
        assert [" ".join(name.split()) for name, _ in got] == [" ".join(name.split()) for name in given_names]
        assert [address.addr_spec for address in read(mail)["To"].addresses] == addresses
    assert_travels_everywhere(mail)


@unhurried
@given(host=anything, report=anything)
def test_a_host_or_report_name_cannot_break_a_header(host: str, report: str) -> None:
    """What is in our own headers is a word."""
    stamp = Stamp(uuid="0f" * 16, report=report, channel="mail", host=host, made_at=1.0, bans=3)
    mail = build(stamp=stamp)
    assert sorted(read(mail).keys()) == sorted(HEADERS)
    assert_travels_everywhere(mail)


def test_the_same_digest_is_the_same_bytes() -> None:
    """A preview, a retry and a second recipient show one mail."""
    assert build("é", "é", "é") == build("é", "é", "é")


def test_the_headers_say_that_a_program_wrote_it() -> None:
    """No vacation program answers, filters find it, and the date is that of the digest, in UTC."""
    message = read(build())
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["List-Id"] == "<f2b-digest.web1.example.org>"
    assert message["Message-ID"] == "<id@web1.example.org>"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert f"run={STAMP.uuid}; report=daily; host=web1.example.org" in message["X-F2B-Digest"]


def test_domains_in_any_language_are_written_in_ascii() -> None:
    """No server needs to know SMTPUTF8."""
    mail = build(recipients=["Zoë <zoe@bücher.example>", "admin@пример.example"])
    assert names(mail)[1:] == [("Zoë", "zoe@xn--bcher-kva.example"), ("", "admin@xn--e1afmkfd.example")]
    assert mail.isascii()


@pytest.mark.parametrize("subject", ["x" * 121, "é" * 121])
def test_a_long_subject_is_cut_visibly(subject: str) -> None:
    """The limit counts characters, and an ellipsis says that there was more."""
    assert read(build(subject))["Subject"] == subject[:119] + "…"


def test_encoded_words_stand_apart() -> None:
    """Some servers refuse a subject in which two encoded words touch, as newer Pythons write them."""
    subject = "Résumé : 1 234 bannis, œuvre de 567 hôtes à l'été, prisons sshd et nginx, depuis hier à l'aube"
    head = build(subject).partition(b"\n\n")[0]
    assert head.count(b"?utf-8?") >= 2
    assert b"?==?" not in head
    assert b"?q??=" not in head
    assert b"?b??=" not in head
    assert max(map(len, head.split(b"\n"))) <= 76


def test_every_address_is_attached_as_a_table() -> None:
    """Beside the two alternatives; no cell is a formula, a line or a quote that an attacker chose."""
    rows = [
        Banned("sshd", "203.0.113.7", 3, 15, 0, 1.0, 90000.0, False, ("root", "=1+1"), None),
        Banned('=HYPERLINK("http://evil.example")', "a\r\nb,c", 1, None, 1, 1.0, 1.0, True, (), None),
    ]
    mail = channel(attach="csv")
    parts = dict.fromkeys(mail.needs.templates, "x")
    read_back = read(mail.pack(Content(parts, addresses=rows), STAMP))
    assert mail.needs.addresses
    assert read_back.get_content_type() == "multipart/mixed"
    (file,) = read_back.iter_attachments()
    assert (file.get_filename(), file.get_content_type()) == ("daily.csv", "text/csv")
    table = list(csv.reader(io.StringIO(file.get_content())))
    assert table[1] == [
        "sshd", "203.0.113.7", "3", "15", "1970-01-01T00:00:01+00:00", "1970-01-02T01:00:00+00:00", "no", "root =1+1",
    ]  # fmt: skip
    assert table[2][0].startswith("'=HYPERLINK")
    assert table[2][1:4] == ["a b,c", "1", ""]
    body = read_back.get_body(("html",))
    assert body
    assert body.get_content().strip() == "x"


def test_a_page_with_every_address_is_attached() -> None:
    """The archive's template makes it."""
    mail = channel(attach="html")
    assert mail.needs.templates[-1] == mime.PAGE
    parts = dict.fromkeys(mail.needs.templates, "x") | {mime.PAGE: "<p>every one</p>"}
    (file,) = read(mail.pack(Content(parts), STAMP)).iter_attachments()
    assert (file.get_filename(), file.get_content().strip()) == ("daily.html", "<p>every one</p>")
