"""Every way in which a mail server can fail at every stage, through the whole pipeline: sealed, sent, tried again.

The expectations were written down from RFC 5321 and the promises of the design before anything ran.
"""

import email
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import PrivateAttr

from f2b_digest.channels import smtp
from f2b_digest.channels.email import Email
from f2b_digest.config import Report
from f2b_digest.delivery import attempts
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Message
from f2b_digest.resources import folder
from tests.support.certificates import Certificates
from tests.support.figures import Keep
from tests.support.office import DAY, Office
from tests.support.store_making import query
from tests.system.faults.door import Fault
from tests.system.faults.smtp_script import ANSWERS, GARBAGE, PASSWORD, SECRETS, USER, Copy, ScriptedServer

BEFORE, VICTIM, BEHIND = RECIPIENTS = ("ann@example.org", "bob@example.org", "eve@example.org")
"""The server fails the second connection; the mails before and behind it must not notice."""
SOON, DEADLINE = 0.3, 0.6
"""Seconds in place of smtp.TIMEOUT where the server is silent, and of attempts.DEADLINE where it drips."""


@dataclass(frozen=True)
class Expected:
    """What becomes of the victim's mail."""

    first: str
    """The status after the first attempt; "deferred" is tried again, and the server works by then."""
    copies: tuple[int, int]
    """Taken by the server in the first attempt, and in all."""
    marked: bool = False
    """Whether the second attempt says Possible-Duplicate: yes."""


OUTCOMES = {
    "sent": Expected("sent", (1, 1)),
    "never": Expected("failed", (0, 0)),
    "later": Expected("deferred", (0, 1)),
    # The end of the message went out and no answer came back. Whether the server took it, only the server knows.
    "maybe": Expected("deferred", (0, 1), marked=True),
    "twice": Expected("deferred", (1, 2), marked=True),
}

# connect: TCP itself says "reset" (a closed port) and "silence" (a full queue). The others come as the first bytes, and
# the server hangs up behind them, as one with too many connections does; at "banner" it stays for the QUIT
# (RFC 5321, 3.1).
# certificate: "4xx" is one that expired, which its owner's next renewal fixes, as it fixes a clock that is wrong here.
# "5xx" is one of an unknown authority: the admin has to act.
# mid-body: the message fits into one TLS record, so its end always went out before the server fails: the client cannot
# know that the server never read it. A refusal that comes early is a refusal all the same.
# after the dot: the worst case, in which the server took the message before its answer got lost.
# QUIT: the server has said its yes; nothing that comes then can take it back.
TABLE = """
               4xx    5xx    reset  close  silence  garbage  drip
connect        later  never  later  later  later    later    later
banner         later  never  later  later  later    later    later
EHLO           later  never  later  later  later    later    later
STARTTLS       later  never  later  later  later    later    later
certificate    later  never  later  later  later    later    later
AUTH           later  never  later  later  later    later    later
MAIL           later  never  later  later  later    later    later
RCPT           later  never  later  later  later    later    later
DATA           later  never  later  later  later    later    later
mid-body       later  never  maybe  maybe  maybe    maybe    maybe
after_the_dot  later  never  twice  twice  twice    twice    twice
QUIT           sent   sent   sent   sent   sent     sent     sent
"""
WAYS, *ROWS = (line.split() for line in TABLE.strip().splitlines())
CELLS = {
    Fault(stage.replace("_", " "), way): word for stage, *words in ROWS for way, word in zip(WAYS, words, strict=True)
}
STAGES = tuple(dict.fromkeys(fault.stage for fault in CELLS))


class Announced(Email):
    """The email channel, which tells the server whose mail comes next."""

    _server: ScriptedServer = PrivateAttr()

    def deliver(self, message: Message) -> None:
        """Deliver as ever."""
        with self._server.visit(message.recipient):
            super().deliver(message)


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    """Return what the server can show."""
    return Certificates()


@pytest.fixture
def ca_file(certificates: Certificates, tmp_path: Path) -> Path:
    """Return the file that makes its authority trusted."""
    certificates.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


@contextmanager
def impatient(way: str) -> Iterator[None]:
    """Shorten the one time limit that ends a wait of this kind."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "silence":
            patch.setattr(smtp, "TIMEOUT", SOON)
        elif way == "drip":
            patch.setattr(attempts, "DEADLINE", attempts.GRACE + DEADLINE)
        yield


def channel_to(server: ScriptedServer, ca_file: Path) -> Announced:
    """Return an email channel with three recipients."""
    address = f"smtp://{USER}@127.0.0.1:{server.port}"
    channel = Announced.model_validate(
        {
            "kind": "email",
            "from": "f2b@example.org",
            "to": RECIPIENTS,
            "smtp": address,
            "password": PASSWORD,
            "ca_file": ca_file,
        }
    )
    channel._server = server
    return channel


def office(path: Path, server: ScriptedServer, ca_file: Path) -> Office:
    """Return a report by that channel, with a ban to tell."""
    here = Office(path, {"mail": channel_to(server, ca_file)}, {"daily": Report(channels=("mail",))})
    here.templates = folder("templates")
    here.ban("192.0.2.1")
    return here


def note(file: Path, seconds: float | None) -> None:
    """Keep what was asked for, from whatever process."""
    with file.open("a") as notes:
        notes.write(f"{seconds}\n")


def is_silence(fault: Fault) -> bool:
    """Return whether a fault is of a server that does not answer: nobody else's mail is tried in that run."""
    lost = fault.way in ("silence", "drip") or fault == Fault("connect", "reset")
    return lost and fault.stage != "QUIT"


def to(recipient: str, taken: list[Copy]) -> list[bytes]:
    """Return the copies for one recipient."""
    return [copy.data for copy in taken if copy.recipient == recipient]


def live(here: Office, server: ScriptedServer, fault: Fault, expected: Expected) -> Outcome:
    """Let a digest live through a fault, with every expectation on the way; return the victim's first outcome."""
    with impatient(fault.way):
        first = here.send()
    behind = "deferred" if is_silence(fault) else "sent"
    assert [outcome.status for outcome in first] == ["sent", expected.first, behind]
    assert here.statuses() == list(zip(RECIPIENTS, ("sent", expected.first, behind), strict=True))
    copies_behind = int(behind == "sent")
    assert [len(to(recipient, server.taken)) for recipient in RECIPIENTS] == [1, expected.copies[0], copies_behind]
    assert query(here.path, "SELECT attempts, in_doubt FROM delivery WHERE recipient = ?", BEHIND) == [
        (copies_behind, 0)
    ]
    assert not any(secret in first[1].reason for secret in SECRETS)
    assert bool(first[1].reason) == (expected.first != "sent")

    again = [(VICTIM, "sent")] if expected.first == "deferred" else []
    again += [(BEHIND, "sent")] if behind == "deferred" else []
    here.now += 299
    assert here.retry() == []
    here.now += 1
    assert [(outcome.recipient, outcome.status) for outcome in here.retry()] == again
    here.now += 30 * DAY
    assert here.retry() == []

    assert [len(to(recipient, server.taken)) for recipient in RECIPIENTS] == [1, expected.copies[1], 1]
    stored: dict[str, tuple[bytes, str]] = {
        row[0]: row[1:] for row in query(here.path, "SELECT recipient, message, identity FROM delivery")
    }
    for recipient, (body, identity) in stored.items():
        copies = to(recipient, server.taken)
        plain = 0 if recipient == VICTIM and expected.marked else len(copies)
        first_copies = copies[: plain or expected.copies[0]]
        assert all(copy == body for copy in first_copies)
        assert all(copy == b"Possible-Duplicate: yes\n" + body for copy in copies[len(first_copies) :])
        assert {email.message_from_bytes(copy)["Message-ID"] for copy in copies} <= {f"<{identity}>"}
    return first[1]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "word"), CELLS.items(), ids=[f"{fault.stage}: {fault.way}" for fault in CELLS])
def test_a_cell(path: Path, certificates: Certificates, ca_file: Path, fault: Fault, word: str, figures: Keep) -> None:
    """State, retry, copies, bytes and names are as the table says; who stands behind waits if there is no answer."""
    expected = OUTCOMES[word]
    with ScriptedServer(fault, VICTIM, certificates) as server:
        outcome = live(office(path, server, ca_file), server, fault, expected)
    if fault.way in ("4xx", "5xx") and fault.stage not in ("certificate", "QUIT"):
        words = ANSWERS[fault.stage][fault.way == "5xx"].decode()
        assert words.replace(PASSWORD, "***") in outcome.reason  # the server's own
    copies = expected.copies[1]
    figures("SMTP faults", counts={word: 1, "cells": 1, "copies": copies + 2, "second copies": copies > 1})


# ---- what the table does not tell


@pytest.mark.slow
@pytest.mark.parametrize("shape", [shape for shape in GARBAGE if shape != "noise"])
@pytest.mark.parametrize("stage", STAGES)
def test_garbage_of_any_shape_is_garbage(
    path: Path, certificates: Certificates, ca_file: Path, stage: str, shape: str
) -> None:
    """What is not an answer is never taken for a yes or for a refusal for good."""
    fault = Fault(stage, "garbage")
    with ScriptedServer(fault, VICTIM, certificates, GARBAGE[shape]) as server:
        live(office(path, server, ca_file), server, fault, OUTCOMES[CELLS[fault]])


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_hello_within_tls_is_as_the_first(path: Path, certificates: Certificates, ca_file: Path, way: str) -> None:
    """The client greets a second time once it talks in secret."""
    fault = Fault("EHLO again", way)
    with ScriptedServer(fault, VICTIM, certificates) as server:
        live(office(path, server, ca_file), server, fault, OUTCOMES[CELLS[Fault("EHLO", way)]])


def test_a_doubt_outlives_a_refusal(path: Path, certificates: Certificates, ca_file: Path) -> None:
    """The answer got lost, the second attempt was greylisted: what the third sends may still be a second copy."""
    lost, greylisted = Fault("after the dot", "reset"), Fault("RCPT", "4xx")
    with ScriptedServer(lost, VICTIM, certificates) as server:
        here = office(path, server, ca_file)
        here.send()
        server.fail(greylisted)
        here.now += 300
        assert [outcome.status for outcome in here.retry()] == ["deferred"]
        here.now += 600
        assert [outcome.status for outcome in here.retry()] == ["sent"]
    first, second = to(VICTIM, server.taken)
    assert second == b"Possible-Duplicate: yes\n" + first


def test_a_message_that_was_cut_is_no_doubt(certificates: Certificates, ca_file: Path) -> None:
    """Its end never went out, so nobody can have taken it: the next copy is the first."""
    cut = Fault("mid-body", "reset")
    with ScriptedServer(cut, VICTIM, certificates) as server, pytest.raises(DeliveryError) as caught:
        channel_to(server, ca_file).deliver(Message(VICTIM, b"x\n" * 10_000_000, "large"))
    assert (caught.value.permanent, caught.value.in_doubt, server.taken) == (False, False, [])


@pytest.mark.slow
@pytest.mark.parametrize("way", ["silence", "drip"])
@pytest.mark.parametrize("stage", ["banner", "certificate", "after the dot"])
def test_the_real_time_limits_go_the_same_way(
    path: Path, certificates: Certificates, ca_file: Path, monkeypatch: pytest.MonkeyPatch, stage: str, way: str
) -> None:
    """The cells above shorten two constants; here they are as they are shipped, and the clock runs faster instead."""
    asked = path.parent / "asked"
    wait, ring = socket.socket.settimeout, signal.setitimer

    def settimeout(self: socket.socket, seconds: float | None) -> None:
        note(asked, seconds)
        wait(self, SOON if seconds == smtp.TIMEOUT and way == "silence" else seconds)

    def setitimer(which: int, seconds: float) -> None:
        note(asked, seconds)
        ring(which, DEADLINE if seconds == 115 and way == "drip" else seconds)

    fault = Fault(stage, way)
    with ScriptedServer(fault, VICTIM, certificates) as server:
        here = office(path, server, ca_file)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "settimeout", settimeout)
            patch.setattr(signal, "setitimer", setitimer)
            first = here.send()
    assert [outcome.status for outcome in first] == ["sent", "deferred", "deferred"]
    assert first[2].reason == first[1].reason
    assert {"30", "115.0"} <= set(asked.read_text().splitlines())
    assert ("timed out" if way == "silence" else "timed out after 115 s") in first[1].reason
    ((in_doubt,),) = query(path, "SELECT in_doubt FROM delivery WHERE recipient = ?", VICTIM)
    assert bool(in_doubt) == OUTCOMES[CELLS[fault]].marked


def test_every_cell_is_there() -> None:
    """Every fault of every stage."""
    assert len(CELLS) == 84
