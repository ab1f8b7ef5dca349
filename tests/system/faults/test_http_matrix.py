"""Every way in which a web server can fail at every stage, through the whole pipeline: sealed, sent, tried again.

The expectations were written down from HTTP's own words and the promises of the design before anything ran.
"""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3
from pydantic import PrivateAttr

from f2b_digest.channels import http
from f2b_digest.channels.base import Channel
from f2b_digest.channels.ntfy import Ntfy
from f2b_digest.config import Report
from f2b_digest.delivery import attempts
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.model.message import Message
from f2b_digest.resources import folder
from tests.support.certificates import Certificates
from tests.support.figures import Keep
from tests.support.office import DAY, Office
from tests.support.raw_server import RawServer
from tests.support.store_making import query
from tests.system.faults.door import Fault
from tests.system.faults.http_script import TOKEN, ScriptedNtfy

VICTIM, BEHIND = "phone", "spare"
"""Topics of two channels to one server; it fails the first, and the one behind must not notice."""
SOON, DEADLINE = 0.3, 0.6
"""Seconds in place of http.TIMEOUT where the server is silent, and of attempts.DEADLINE where it drips."""


@dataclass(frozen=True)
class Expected:
    """What becomes of the message."""

    first: str
    """The status after the first attempt; "deferred" is tried again, and the server works by then."""
    copies: tuple[int, int]
    """Published in the first attempt, and in all."""
    doubt: bool = False
    """Whether the store knows that the first may have arrived."""


OUTCOMES = {
    "sent": Expected("sent", (1, 1)),
    "never": Expected("failed", (0, 0)),
    "later": Expected("deferred", (0, 1)),
    "maybe": Expected("deferred", (0, 1), doubt=True),
    "twice": Expected("deferred", (1, 2), doubt=True),
}

# connect: "reset" is a closed port and "silence" a full queue. The others come as the first bytes, before the request:
# a whole answer is an answer, at whatever time it comes.
# TLS: in place of the handshake. The client's library does not say whether its request was out already: doubt is the
# safe side. Certificates have tests of their own.
# headers: a status with an empty body, or a loss within the head. "200 right" comes in pieces, behind a 100.
# body: a whole response of that status, or a loss within the body of a 200; without a length or an end it is none.
# Both: the worst case, in which the server published the message before its answer got lost.
TABLE = """
           connect  TLS    headers  body
200_right  sent     maybe  sent     sent
200_wrong  never    maybe  never    never
301        never    maybe  never    never
302        never    maybe  never    never
303        never    maybe  never    never
307        never    maybe  never    never
308        never    maybe  never    never
400        never    maybe  never    never
401        never    maybe  never    never
403        never    maybe  never    never
404        never    maybe  never    never
408        later    maybe  later    later
413        never    maybe  never    never
425        later    maybe  later    later
429        later    maybe  later    later
500        later    maybe  later    later
502        later    maybe  later    later
503        later    maybe  later    later
504        later    maybe  later    later
507        later    maybe  later    later
reset      later    maybe  twice    twice
close      maybe    maybe  twice    twice
silence    later    maybe  twice    twice
garbage    maybe    maybe  twice    twice
drip       maybe    maybe  twice    twice
endless    maybe    maybe  twice    twice
"""
STAGES, *ROWS = (line.split() for line in TABLE.strip().splitlines())
CELLS = {
    Fault(stage, way.replace("_", " ")): word for way, *words in ROWS for stage, word in zip(STAGES, words, strict=True)
}


class Announced(Ntfy):
    """The ntfy channel, which tells the server that it comes."""

    _server: ScriptedNtfy = PrivateAttr()

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


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """Provide the address that redirects lead to, and see that nobody went there."""
    visits: list[object] = []
    with RawServer(visits.append) as server:
        yield server.url
    assert visits == []


@contextmanager
def impatient(way: str) -> Iterator[None]:
    """Shorten the one time limit that ends a wait of this kind."""
    with pytest.MonkeyPatch.context() as patch:
        if way == "silence":
            patch.setattr(http, "TIMEOUT", urllib3.Timeout(connect=SOON, read=SOON))
        elif way == "drip":
            patch.setattr(attempts, "DEADLINE", attempts.GRACE + DEADLINE)
        yield


def office(path: Path, server: ScriptedNtfy, ca_file: Path) -> Office:
    """Return a report by the channel, with another one behind it, and a ban to tell."""
    channels: dict[str, Channel] = {}
    for topic in (VICTIM, BEHIND):
        its_server = server if topic == VICTIM else server.behind
        channels[topic] = channel = Announced.model_validate(
            {"kind": "ntfy", "url": its_server.url, "topic": topic, "token": TOKEN, "ca_file": ca_file}
        )
        channel._server = its_server
    here = Office(path, channels, {"daily": Report(channels=(VICTIM, BEHIND))})
    here.templates = folder("templates")
    here.ban("192.0.2.1")
    return here


def note(file: Path, seconds: float | None) -> None:
    """Keep what was asked for, from whatever process."""
    with file.open("a") as notes:
        notes.write(f"{seconds}\n")


def of(topic: str, bodies: list[bytes]) -> list[bytes]:
    """Return the requests that name a topic."""
    return [body for body in bodies if json.loads(body)["topic"] == topic]


def live(here: Office, server: ScriptedNtfy, fault: Fault, expected: Expected) -> Outcome:
    """Let a digest live through a fault, with every expectation on the way; return the first outcome."""
    with impatient(fault.way):
        first = here.send()
    assert [outcome.status for outcome in first] == [expected.first, "sent"]
    assert here.statuses() == [(VICTIM, expected.first), (BEHIND, "sent")]
    ((body, in_doubt),) = query(here.path, "SELECT message, in_doubt FROM delivery WHERE recipient = ?", VICTIM)
    assert bool(in_doubt) == expected.doubt
    asked = fault.stage in ("headers", "body") or (fault.stage == "connect" and fault.way[0].isdigit())
    assert len(of(VICTIM, server.requests)) == asked
    assert len(of(VICTIM, server.taken)) == expected.copies[0]
    assert TOKEN not in first[0].reason
    assert bool(first[0].reason) == (expected.first != "sent")

    again = [(VICTIM, "sent")] if expected.first == "deferred" else []
    here.now += 299
    assert here.retry() == []
    here.now += 1
    assert [(outcome.recipient, outcome.status) for outcome in here.retry()] == again
    here.now += 30 * DAY
    assert here.retry() == []
    assert len(of(VICTIM, server.requests)) == asked + len(again)
    assert len(of(VICTIM, server.taken)) == expected.copies[1]
    assert set(of(VICTIM, server.requests)) <= {body}  # every attempt the same, its sequence id included
    assert len(of(BEHIND, server.requests)) == len(of(BEHIND, server.taken)) == 1
    assert json.loads(body)["sequence_id"].startswith("f2b-")
    return first[0]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "word"), CELLS.items(), ids=[f"{fault.stage}: {fault.way}" for fault in CELLS])
def test_a_cell(
    path: Path, certificates: Certificates, ca_file: Path, stranger: str, fault: Fault, word: str, figures: Keep
) -> None:
    """State, retry, requests and bytes are what the table says, and the channel behind never notices."""
    with ScriptedNtfy(fault, VICTIM, certificates, stranger) as server:
        outcome = live(office(path, server, ca_file), server, fault, OUTCOMES[word])
    assert fault.stage == "TLS" or fault.way[:1] not in "345" or fault.way in outcome.reason
    requests, copies = len(of(VICTIM, server.requests)), len(of(VICTIM, server.taken))
    figures("HTTP faults", counts={word: 1, "cells": 1, "requests": requests, "second copies": copies > 1})


# ---- what the table does not tell


@pytest.mark.parametrize(("shown", "word"), [("expired", "later"), ("unknown", "never")])
def test_a_certificate_that_is_refused(
    path: Path, certificates: Certificates, ca_file: Path, stranger: str, shown: str, word: str
) -> None:
    """Its owner's next renewal fixes the dates; an authority that is not trusted is for the admin."""
    fault = Fault("TLS", shown)
    with ScriptedNtfy(fault, VICTIM, certificates, stranger) as server:
        outcome = live(office(path, server, ca_file), server, fault, OUTCOMES[word])
    assert "certificate" in outcome.reason


def test_an_answer_garbled_below_http_leaves_a_doubt(
    path: Path, certificates: Certificates, ca_file: Path, stranger: str
) -> None:
    """TLS broke behind the request: the message may have been published."""
    garbled = Fault("body", "garbled")
    with ScriptedNtfy(garbled, VICTIM, certificates, stranger) as server:
        live(office(path, server, ca_file), server, garbled, OUTCOMES["twice"])


def test_an_answer_nested_thousands_deep_is_sorted_by_its_status(
    path: Path, certificates: Certificates, ca_file: Path, stranger: str
) -> None:
    """It ends no parser of ours."""
    nested = Fault("body", "nested")
    with ScriptedNtfy(nested, VICTIM, certificates, stranger) as server:
        outcome = live(office(path, server, ca_file), server, nested, OUTCOMES["later"])
    assert "HTTP status 503" in outcome.reason


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "way", "limit"), [
    ("connect", "silence", 10), ("TLS", "silence", 10), ("headers", "silence", 30), ("body", "silence", 30),
    ("TLS", "drip", 115), ("headers", "drip", 115), ("body", "drip", 115),
])  # fmt: skip
def test_the_real_time_limits_go_the_same_way(
    path: Path, certificates: Certificates, ca_file: Path, stranger: str, monkeypatch: pytest.MonkeyPatch,
    stage: str, way: str, limit: float,
) -> None:  # fmt: skip
    """The cells above shorten three constants; here they are as they are shipped, and the clock runs faster instead."""
    asked = path.parent / "asked"
    wait, ring = socket.socket.settimeout, signal.setitimer

    def settimeout(self: socket.socket, seconds: float | None) -> None:
        note(asked, seconds)
        wait(self, SOON if way == "silence" and seconds == limit else seconds)

    def setitimer(which: int, seconds: float) -> None:
        note(asked, seconds)
        ring(which, DEADLINE if way == "drip" and seconds == limit else seconds)

    fault = Fault(stage, way)
    with ScriptedNtfy(fault, VICTIM, certificates, stranger) as server:
        here = office(path, server, ca_file)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "settimeout", settimeout)
            patch.setattr(signal, "setitimer", setitimer)
            first = here.send()
    assert [outcome.status for outcome in first] == ["deferred", "sent"]
    assert {"10.0", "30", "115.0"} <= set(asked.read_text().splitlines())
    ((in_doubt,),) = query(path, "SELECT in_doubt FROM delivery WHERE recipient = ?", VICTIM)
    assert bool(in_doubt) == OUTCOMES[CELLS[fault]].doubt


def test_every_cell_is_there() -> None:
    """Every fault of every stage."""
    assert len(CELLS) == 104
