"""A mail server for the tests that fails once, at a given stage and in a given way; before and after that it works.

No tests here. It speaks SMTP with STARTTLS and a login, byte by byte, because no real server fails on request.
"""

import base64
import socket
from dataclasses import dataclass

from tests.support.certificates import Certificates
from tests.system.faults.door import Door, Fault, Gone, break_off

USER, PASSWORD = "f2b", "s3cret: with spaces"
SECRETS = (PASSWORD, base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode())

ANSWERS = {
    "connect": (b"421 4.7.0 Too many connections", b"521 5.3.2 No mail here"),
    "banner": (b"421 4.3.2 Shutting down", b"554 5.7.1 No SMTP service for you"),
    "EHLO": (b"451 4.3.0 Try again", b"550 5.7.1 Not with that name"),
    "EHLO again": (b"451 4.3.0 Try again", b"550 5.7.1 Not with that name"),
    "STARTTLS": (b"454 4.7.0 TLS not available at the moment", b"502 5.5.1 No TLS"),
    "AUTH": (b"454 4.7.0 Temporary authentication failure", b"535 5.7.8 Wrong password " + PASSWORD.encode()),
    "MAIL": (b"451 4.3.0 Local error", b"550 5.7.1 Sender refused"),
    "RCPT": (b"450 4.7.1 Greylisted", b"550 5.1.1 No such user"),
    "DATA": (b"451 4.3.0 Local error", b"554 5.5.1 No"),
    "mid-body": (b"452 4.3.1 Disk full", b"552 5.3.4 Too big"),
    "after the dot": (b"451 4.3.0 Cannot queue it", b"554 5.7.1 Spam"),
    "QUIT": (b"421 4.3.2 Shutting down", b"500 5.5.1 What?"),
}
"""What the server says at a stage in place of its yes: a refusal for now, and one for good."""

ECHO = b"<what the client said>"
GARBAGE = {
    "noise": b"\x00\xff\x16\x03 \x80\xfe",
    "a line without end": b"A" * 10_000,
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3",
    "an echo": ECHO,
    "no code of SMTP's": b"999 what",
    "half a code": b"55",
    "a challenge": b"334 ",
}
"""What no server says: the answer to each line, as bytes."""


@dataclass(frozen=True)
class Copy:
    """A message that the server took responsibility for."""

    recipient: str
    data: bytes
    """As it was before it went over the wire: LF line ends, no doubled dots."""


class ScriptedServer(Door):
    """A mail server; `taken` holds each copy that it took."""

    def __init__(
        self, fault: Fault, victim: str, certificates: Certificates, garbage: bytes = GARBAGE["noise"]
    ) -> None:
        """Prepare a server that fails the first connection that is announced for the victim."""
        super().__init__(fault, victim, self._session)
        self.certificates, self.garbage = certificates, garbage
        self.taken: list[Copy] = []

    def _session(self, connection: socket.socket, fault: Fault | None) -> None:
        session = _Session(self, connection, fault)
        try:
            session.run()
        finally:
            session.close()


class _Session:
    """One connection, from the greeting to its end."""

    def __init__(self, server: ScriptedServer, connection: socket.socket, fault: Fault | None) -> None:
        self._server, self._connection, self._fault = server, connection, fault
        self._buffer = b""
        self._said = b""
        self._greeted = "EHLO"

    def close(self) -> None:
        """Close the connection, in TLS or not."""
        self._connection.close()

    def run(self) -> None:
        """Talk until the client says QUIT."""
        if self._way("connect"):
            # What cannot be told by TCP is told by the first bytes, and the connection ends without a QUIT.
            self._fail(b"220 ")
            raise Gone
        self._say("banner", b"220 mx.example.org ESMTP")
        recipient = ""
        while True:
            verb, _, rest = self._line().decode().partition(" ")
            match verb.upper():
                case "EHLO":
                    self._say(self._greeted, b"250-mx.example.org\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS")
                case "STARTTLS":
                    self._say("STARTTLS", b"220 go on")
                    self._handshake()
                    self._greeted = "EHLO again"
                case "AUTH":
                    self._say("AUTH", b"235 welcome" if rest == f"PLAIN {SECRETS[1]}" else b"535 wrong")
                case "MAIL":
                    self._say("MAIL", b"250 ok")
                case "RCPT":
                    recipient = rest.partition("<")[2].partition(">")[0]
                    self._say("RCPT", b"250 ok")
                case "DATA" if self._say("DATA", b"354 go on"):
                    self._data(recipient)
                case "QUIT":
                    self._say("QUIT", b"221 bye")
                    raise Gone
                case "HELO":  # also where EHLO fails: whoever tries HELO then loses STARTTLS
                    self._send(b"250 mx.example.org")
                case _:
                    self._send(self._server.garbage if self._fault else b"500 what")

    def _data(self, recipient: str) -> None:
        """Take a message, or break off in it or behind it."""
        while not self._buffer:
            self._receive()
        broken = self._way("mid-body")
        if broken:
            self._fail(b"250-")
        while b"\r\n.\r\n" not in self._buffer:
            self._receive()
        if broken:  # it was refused while the client still sent: the rest is thrown away
            self._buffer = b""
            return
        data, _, self._buffer = self._buffer.partition(b"\r\n.\r\n")
        lines = [line.removeprefix(b".") for line in data.split(b"\r\n")]
        copy = Copy(recipient, b"\n".join(lines) + b"\n")
        if self._way("after the dot") not in ("4xx", "5xx"):
            self._server.taken.append(copy)  # a lost answer is worst where the message was taken
        self._say("after the dot", b"250 queued")

    def _handshake(self) -> None:
        certificates = self._server.certificates
        self._connection.recv(1, socket.MSG_PEEK)  # the client's part of the handshake has begun
        match self._way("certificate"):
            case None:
                context = certificates.good
            case "4xx":
                context = certificates.expired
            case "5xx":
                context = certificates.unknown
            case "garbage":
                self._send(self._server.garbage)
                self._connection.shutdown(socket.SHUT_WR)  # or too few bytes would be silence
                break_off(self._connection, "silence")
            case way:
                break_off(self._connection, way, b"\x16\x03\x03\x40\x00")  # a long record begins
        self._connection = context.wrap_socket(self._connection, server_side=True)

    # ---- lines

    def _way(self, stage: str) -> str | None:
        """Return the way to fail at a stage, or None."""
        return self._fault.way if self._fault and self._fault.stage == stage else None

    def _say(self, stage: str, good: bytes) -> bool:
        """Give the good answer, or fail if the script says so; return whether it was the good one."""
        if self._way(stage):
            self._fail(good[:3] + b"-")
            return False
        self._send(good)
        return True

    def _fail(self, start: bytes) -> None:
        assert self._fault is not None
        match self._fault.way:
            case "4xx":
                self._send(ANSWERS[self._fault.stage][0])
            case "5xx":
                self._send(ANSWERS[self._fault.stage][1])
            case "garbage":
                self._send(self._server.garbage)
            case way:
                break_off(self._connection, way, start)

    def _send(self, line: bytes) -> None:
        self._connection.sendall((self._said if line == ECHO else line) + b"\r\n")

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        self._said, _, self._buffer = self._buffer.partition(b"\r\n")
        return self._said

    def _receive(self) -> None:
        got = self._connection.recv(65536)
        if not got:
            raise Gone
        self._buffer += got
