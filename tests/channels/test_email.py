"""Tests of the email channel against a real SMTP server on loopback, real msmtp and Postfix, and sendmail scripts."""

import base64
import email
import email.policy
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from f2b_digest.channels import email as email_channel
from f2b_digest.channels import smtp
from f2b_digest.channels.base import deadline
from f2b_digest.channels.email import Email
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Stamp
from tests.support import parts, raw_server
from tests.support.postfix_server import Postfix
from tests.support.raw_server import RawServer
from tests.support.smtp_server import HANG_UP, PASSWORD, TLS, USER, SmtpServer

STAMP = Stamp(uuid="0f" * 16, report="daily", channel="mail", host="web1", made_at=1_700_000_000.0, bans=3)
PARTS = {
    "email/subject.txt": "3 bannis à l'œuvre",
    "email/body.txt": "192.0.2.1 sshd\n.\n..\nFrom here: é " + "x" * 2000 + "\n",
    "email/body.html": "<p>192.0.2.1 — sshd</p>\n",
}
SENDER = "fail2ban@web1.example.org"
ADMIN = "admin@example.org"
OTHERS = ("bob@example.org", "eve@example.org")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a private authority."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the file that makes it trusted."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def mail(**settings: object) -> Email:
    """Return the channel as a configuration makes it."""
    return Email.model_validate({"kind": "email", "from": f"Fail2ban <{SENDER}>", "to": [ADMIN]} | settings)


def by_smtp(port: int, scheme: str = "smtp", user: str = USER, password: str = PASSWORD, **settings: object) -> Email:
    """Return a channel that logs in to a server on loopback."""
    return mail(smtp=f"{scheme}://{user}@127.0.0.1:{port}", password=password, **settings)


def message(channel: Email, recipient: str = ADMIN) -> Message:
    """Return a digest for one recipient."""
    return Message(recipient=recipient, body=channel.pack(Content(PARTS), STAMP), identity=channel.identity(STAMP))


def refusal(channel: Email, recipient: str = ADMIN) -> DeliveryError:
    """Return how a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message(channel, recipient))
    return caught.value


def assert_is_the_digest(data: bytes) -> None:
    """Read what arrived as a mail program does."""
    read = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(read, email.message.EmailMessage)
    text, html = read.iter_parts()
    assert read["Subject"] == PARTS["email/subject.txt"]
    assert read["Message-ID"] == f"<{STAMP.uuid}.mail@web1.example.org>"
    assert text.get_content().split() == PARTS["email/body.txt"].split()
    assert html.get_content().split() == PARTS["email/body.html"].split()


# ---- SMTP that works


@pytest.mark.parametrize(("tls", "scheme"), [("starttls", "smtp"), ("implicit", "smtps")])
def test_a_digest_goes_out_with_tls_and_a_login(authority: trustme.CA, ca_file: str, tls: TLS, scheme: str) -> None:
    """It arrives whole, dots and long lines included, and bounces go to the bare sender."""
    with SmtpServer(tls, authority=authority) as server:
        channel = by_smtp(server.port, scheme, ca_file=ca_file)
        channel.deliver(message(channel))
    [got] = server.received
    assert (got.sender, got.recipients) == (SENDER, (ADMIN,))
    assert_is_the_digest(got.data)


def test_a_relay_without_a_login_gets_none(authority: trustme.CA, ca_file: str) -> None:
    """Without a user in `smtp`, no AUTH is tried, and the server's demand for one is for the admin."""
    with SmtpServer(authority=authority) as server:
        error = refusal(mail(smtp=f"smtp://127.0.0.1:{server.port}", ca_file=ca_file))
    assert error.permanent
    assert "MAIL FROM: 530 5.7.0 Authentication required" in error.reason
    assert b"AUTH" not in server.wire


def test_a_user_name_with_an_at_sign_is_written_percent_encoded(authority: trustme.CA, ca_file: str) -> None:
    """Many providers' user names are addresses."""
    with SmtpServer(authority=authority) as server:
        refusal(by_smtp(server.port, user="f2b%40example.org", ca_file=ca_file))
    assert base64.b64encode(f"\0f2b@example.org\0{PASSWORD}".encode()) in server.wire


def test_one_refused_recipient_costs_the_others_nothing(authority: trustme.CA, ca_file: str) -> None:
    """Each recipient has its own outcome."""
    bob, eve = OTHERS
    with SmtpServer(authority=authority, answers={bob: "550 5.1.1 No such user here"}) as server:
        channel = by_smtp(server.port, to=[ADMIN, bob, eve], ca_file=ca_file)
        error = refusal(channel, bob)
        for recipient in (ADMIN, eve):
            channel.deliver(message(channel, recipient))
    assert error.permanent
    assert "RCPT TO: 550 5.1.1 No such user here" in error.reason
    assert [got.recipients for got in server.received] == [(ADMIN,), (eve,)]


def test_each_copy_is_the_same_mail(authority: trustme.CA, ca_file: str) -> None:
    """A retry and another recipient get the same bytes, with all recipients in To."""
    with SmtpServer(authority=authority) as server:
        channel = by_smtp(server.port, to=[ADMIN, *OTHERS], ca_file=ca_file)
        for recipient in (ADMIN, ADMIN, *OTHERS):
            channel.deliver(message(channel, recipient))
    assert len(server.received) == 4
    assert len({got.data for got in server.received}) == 1
    assert all(address.encode() in server.received[0].data for address in (ADMIN, *OTHERS))


# ---- what servers answer


@pytest.mark.parametrize("step", ["MAIL", ADMIN, "DATA"])
@pytest.mark.parametrize(
    ("answer", "permanent"),
    [
        ("421 4.3.2 Closing", False),
        ("450 4.7.1 Greylisted", False),
        ("451 4.3.0 Local error", False),
        ("452 4.2.2 Mailbox full", False),
        ("530 5.7.0 Authentication required", True),
        ("550 5.7.1 Spam", True),
        ("552 5.3.4 Too big", True),
        ("554 5.7.1 No", True),
    ],
)
def test_4xx_is_tried_again_and_5xx_is_not(
    authority: trustme.CA, ca_file: str, step: str, answer: str, permanent: bool
) -> None:
    """At every step, with the server's own message."""
    with SmtpServer(authority=authority, answers={step: answer}) as server:
        error = refusal(by_smtp(server.port, ca_file=ca_file))
    full_in_old_servers = step == ADMIN and answer.startswith("552")
    assert error.permanent == (permanent and not full_in_old_servers)
    assert answer in error.reason
    assert server.received == []


def test_a_wrong_password_is_for_the_admin(authority: trustme.CA, ca_file: str) -> None:
    """It fails for good with the server's message, without the password."""
    with SmtpServer(authority=authority) as server:
        error = refusal(by_smtp(server.port, password="wr0ng-password", ca_file=ca_file))
    assert error.permanent
    assert "535" in error.reason
    assert "wr0ng-password" not in error.reason


@pytest.mark.parametrize(
    "shown", [PASSWORD, base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()], ids=["plain", "as sent"]
)
def test_a_server_that_repeats_the_password_is_not_quoted(authority: trustme.CA, ca_file: str, shown: str) -> None:
    """The rest of its words is."""
    with SmtpServer(authority=authority, answers={"MAIL": f"500 What is {shown} supposed to be"}) as server:
        channel = by_smtp(server.port, ca_file=ca_file)
        error = refusal(channel)
    assert "500 What is *** supposed to be" in error.reason
    assert PASSWORD not in f"{error!r} {channel} {channel!r}"


def test_a_password_that_smtplib_cannot_send_is_for_the_admin(authority: trustme.CA, ca_file: str) -> None:
    """It says why, without the password."""
    with SmtpServer(authority=authority) as server:
        error = refusal(by_smtp(server.port, password="pässword", ca_file=ca_file))
    assert error.permanent
    assert "ASCII" in error.reason
    assert "ssword" not in error.reason.replace("user and password", "")


def test_a_password_file_is_read_with_the_configuration(authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    """A missing file is tried again, and one that was put right counts for the next run."""
    file = tmp_path / "smtp.password"
    with SmtpServer(authority=authority) as server:
        settings = {"smtp": f"smtp://{USER}@127.0.0.1:{server.port}", "password_file": str(file), "ca_file": ca_file}
        error = refusal(mail(**settings))
        file.write_text(f"{PASSWORD}\n")
        channel = mail(**settings)
        file.unlink()  # whoever delivers may be unable to read it
        channel.deliver(message(channel))
    assert not error.permanent
    assert str(file) in error.reason
    assert len(server.received) == 1


# ---- TLS


@pytest.mark.parametrize(("tls", "scheme"), [("starttls", "smtp"), ("implicit", "smtps")])
def test_an_unknown_certificate_is_refused(authority: trustme.CA, tls: TLS, scheme: str) -> None:
    """The password is not shown to whoever answers, and the admin is told that it is the certificate."""
    with SmtpServer(tls, authority=authority) as server:
        error = refusal(by_smtp(server.port, scheme))
    assert error.permanent
    assert "certificate" in error.reason
    assert b"AUTH" not in server.wire


def test_a_server_without_starttls_gets_neither_password_nor_digest() -> None:
    """An attacker in between cannot take TLS away."""
    with SmtpServer("none") as server:
        error = refusal(by_smtp(server.port))
    assert error.permanent
    assert "STARTTLS" in error.reason
    assert bytes(server.wire).upper().replace(b"QUIT\r\n", b"") == b"EHLO WEB1.EXAMPLE.ORG\r\n"


@pytest.mark.parametrize(
    ("tls", "scheme", "words"),
    [("starttls", "smtp", "No suitable authentication"), ("implicit", "smtps", "AUTH extension not supported")],
)
def test_a_server_without_logins_is_for_the_admin(
    authority: trustme.CA, ca_file: str, tls: TLS, scheme: str, words: str
) -> None:
    """Without a common login mechanism, or any, TLS is not blamed."""
    with SmtpServer(tls, authority=authority) as server:
        server.login = False
        error = refusal(by_smtp(server.port, scheme, ca_file=ca_file))
    assert error.permanent
    assert words in error.reason
    assert "STARTTLS" not in error.reason


def test_an_unusable_ca_file_is_named(tmp_path: Path) -> None:
    """It is tried again, since the file can be put right meanwhile."""
    error = refusal(by_smtp(1, ca_file=str(tmp_path / "ca.pem")))
    assert not error.permanent
    assert str(tmp_path / "ca.pem") in error.reason


# ---- lines that break


def test_a_server_that_hangs_up_after_the_digest_is_tried_again(authority: trustme.CA, ca_file: str) -> None:
    """Whether it was taken is not known: a second copy is better than none."""
    with SmtpServer(authority=authority, answers={"DATA": HANG_UP}) as server:
        error = refusal(by_smtp(server.port, ca_file=ca_file))
    assert not error.permanent
    assert f"127.0.0.1:{server.port}" in error.reason


def test_a_server_that_hangs_up_after_its_yes_has_the_digest(authority: trustme.CA, ca_file: str) -> None:
    """What happens at QUIT makes no second copy."""
    with SmtpServer(authority=authority, answers={"QUIT": HANG_UP}) as server:
        channel = by_smtp(server.port, ca_file=ca_file)
        channel.deliver(message(channel))
    assert len(server.received) == 1


def test_a_server_that_is_down_is_tried_again() -> None:
    """The error names the server and says why."""
    with RawServer(raw_server.silent) as server:
        pass
    error = refusal(by_smtp(server.port))
    assert not error.permanent
    assert f"127.0.0.1:{server.port}" in error.reason
    assert "refused" in error.reason


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_silence_is_tried_again(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Before the greeting or in the middle of the handshake."""
    monkeypatch.setattr(smtp, "TIMEOUT", 0.2)
    with RawServer(raw_server.silent) as server:
        error = refusal(by_smtp(server.port, scheme))
    assert not error.permanent


@pytest.mark.parametrize("greeting", [b"", b"554 5.7.1 Your address is listed\r\n", b"nonsense\r\n", b"220 ok\r\n"])
def test_an_odd_greeting_is_an_error_of_this_server(greeting: bytes) -> None:
    """Only a 5xx is for the admin."""
    with RawServer(raw_server.raw(greeting)) as server:
        error = refusal(by_smtp(server.port))
    assert error.permanent == greeting.startswith(b"554")
    assert f"127.0.0.1:{server.port}" in error.reason


@pytest.mark.alone
def test_a_dripping_server_meets_the_deadline() -> None:
    """A byte now and then keeps every read alive, but not the delivery."""
    started = time.monotonic()
    with RawServer(raw_server.dripping(b"220-")) as server, deadline(0.3):
        error = refusal(by_smtp(server.port))
    assert (error.permanent, error.in_doubt, error.unreachable) == (False, False, True)
    assert time.monotonic() - started < 2


# ---- sendmail


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Return what makes a sendmail program of shell lines."""

    def write(lines: str) -> str:
        path = tmp_path / "send mail"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return f"'{path}'"

    return write


def test_sendmail_gets_the_recipient_after_its_options(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own options come first; the digest has LF line ends; the environment holds nothing of ours."""
    log = tmp_path / "log"
    program = script(f'{{ printf "%s\\n" "$@"; /usr/bin/env; }} > "{log}"; cat > "{tmp_path}/mail"')
    channel = mail(sendmail=f"{program} -C '{tmp_path}/my conf'")
    monkeypatch.setenv("F2B_SECRET", "s3cret")
    channel.deliver(message(channel))
    lines = log.read_text().splitlines()
    assert lines[:7] == ["-C", f"{tmp_path}/my conf", "-i", "-f", SENDER, "--", ADMIN]
    names = {line.partition("=")[0] for line in lines[7:]}
    assert {"PATH", "LANG", "HOME"} <= names <= {"PATH", "LANG", "HOME", "PWD", "OLDPWD", "SHLVL", "_"}
    assert (tmp_path / "mail").read_bytes() == channel.pack(Content(PARTS), STAMP)
    assert b"\r" not in (tmp_path / "mail").read_bytes()


@pytest.mark.parametrize(
    ("status", "permanent"),
    [
        *((status, True) for status in (64, 65, 66, 67, 70, 72, 73, 76, 77, 78, 126, 127)),
        *((status, False) for status in (1, 2, 68, 69, 71, 74, 75)),
    ],
)
def test_an_exit_status_says_whether_to_try_again(script: Callable[[str], str], status: int, permanent: bool) -> None:
    """With the program's own message."""
    error = refusal(mail(sendmail=script(f"echo 'cannot send: é' >&2; exit {status}")))
    assert error.permanent == permanent
    assert f"exit status {status}: cannot send: é" in error.reason


def test_a_missing_program_is_for_the_admin(tmp_path: Path) -> None:
    """The error names it."""
    error = refusal(mail(sendmail=f"{tmp_path}/sendmail"))
    assert error.permanent
    assert f"{tmp_path}/sendmail: No such file" in error.reason


def test_a_program_that_may_not_run_is_for_the_admin(tmp_path: Path) -> None:
    """The error says so."""
    (tmp_path / "sendmail").touch(mode=0o644)
    error = refusal(mail(sendmail=f"{tmp_path}/sendmail"))
    assert error.permanent
    assert "Permission denied" in error.reason


def test_a_host_short_of_resources_is_tried_again(script: Callable[[str], str]) -> None:
    """A program that cannot be started today can be tomorrow."""
    channel = mail(sendmail=script("cat > /dev/null"))
    digest = message(channel)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno(), hard))
        try:
            with pytest.raises(DeliveryError, match="Too many open files") as caught:
                channel.deliver(digest)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not caught.value.permanent


def test_a_program_that_hangs_is_ended_with_its_children(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and no child of it keeps sending."""
    monkeypatch.setattr(email_channel, "SENDMAIL_TIMEOUT", 0.3)
    error = refusal(mail(sendmail=script(f"sleep 60 & echo $! > '{tmp_path}/child'; wait")))
    assert not error.permanent
    assert "timed out after 0.3 s" in error.reason
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "status"
    until = time.monotonic() + 5
    while child.exists() and "zombie" not in child.read_text():
        assert time.monotonic() < until, "the child still runs"
        time.sleep(0.01)


def test_a_program_that_ends_well_has_the_digest(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child of it that stays behind makes no second copy."""
    monkeypatch.setattr(email_channel, "SENDMAIL_TIMEOUT", 0.3)
    channel = mail(sendmail=script(f"cat > {tmp_path}/mail; sleep 1 &"))
    channel.deliver(message(channel))
    assert (tmp_path / "mail").stat().st_size > 0


def test_a_killed_program_is_tried_again(script: Callable[[str], str]) -> None:
    """The error says by which signal."""
    error = refusal(mail(sendmail=script("kill -9 $$")))
    assert not error.permanent
    assert "killed by signal 9" in error.reason


def test_a_program_that_does_not_read_is_judged_by_its_status(script: Callable[[str], str]) -> None:
    """A broken pipe is not a crash."""
    channel = mail(sendmail=script("exec <&-; exit 75"))
    large = Message(recipient=ADMIN, body=b"x\n" * 500_000, identity="")
    with pytest.raises(DeliveryError, match="exit status 75") as caught:
        channel.deliver(large)
    assert not caught.value.permanent


# ---- real sendmail programs


def msmtp(folder: Path, port: int) -> str:
    """Return a command of real msmtp that hands over to a server on loopback."""
    program = parts.program("msmtp", "apt install msmtp")
    configuration = folder / "msmtprc"
    configuration.write_text(f"account default\nhost 127.0.0.1\nport {port}\ntls off\nauth off\ntimeout 5\n")
    configuration.chmod(0o600)
    return f"{program} -C {configuration}"


def test_real_msmtp_takes_the_digest(tmp_path: Path) -> None:
    """Envelope and content arrive as we gave them."""
    with SmtpServer("none") as server:
        channel = mail(sendmail=msmtp(tmp_path, server.port))
        channel.deliver(message(channel))
    [got] = server.received
    assert (got.sender, got.recipients) == (SENDER, (ADMIN,))
    assert_is_the_digest(got.data)


def test_real_msmtp_without_a_server_is_tried_again(tmp_path: Path) -> None:
    """Its status for a refused connection is a temporary one."""
    with RawServer(raw_server.silent) as server:
        pass
    error = refusal(mail(sendmail=msmtp(tmp_path, server.port)))
    assert not error.permanent
    assert "exit status 75" in error.reason


@pytest.mark.parametrize(("answer", "permanent"), [("550 5.1.1 No such user", True), ("450 4.2.0 Greylisted", False)])
def test_real_msmtp_shows_what_the_server_said(tmp_path: Path, answer: str, permanent: bool) -> None:
    """Its status for a refused recipient does not tell for how long; the server's message does."""
    with SmtpServer("none", answers={ADMIN: answer}) as server:
        error = refusal(mail(sendmail=msmtp(tmp_path, server.port)))
    assert answer in error.reason
    assert error.permanent == permanent


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts for root only")
def test_real_postfix_takes_the_digest() -> None:
    """What it relays has our envelope, our content and our Message-ID."""
    with SmtpServer("none") as relay, Postfix(relay.port) as postfix:
        channel = mail(sendmail=postfix.sendmail, to=[ADMIN, *OTHERS])
        channel.deliver(message(channel, OTHERS[0]))
        until = time.monotonic() + 10
        while not relay.received:
            assert time.monotonic() < until, "Postfix relays nothing"
            time.sleep(0.02)
    [got] = relay.received
    assert (got.sender, got.recipients) == (SENDER, (OTHERS[0],))
    assert_is_the_digest(got.data)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts for root only")
def test_real_postfix_without_a_queue_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for its queue to come back; we do not wait with it."""
    monkeypatch.setattr(email_channel, "SENDMAIL_TIMEOUT", 1)
    with RawServer(raw_server.silent) as relay, Postfix(relay.port) as postfix:
        (postfix.folder / "queue/maildrop").rename(postfix.folder / "queue/gone")
        error = refusal(mail(sendmail=postfix.sendmail))
        (postfix.folder / "queue/gone").rename(postfix.folder / "queue/maildrop")
    assert not error.permanent
