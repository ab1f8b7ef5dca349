"""An ntfy server for the tests that fails once, at a given stage and in a given way; before and after that it works.

No tests here. Whatever it says beside ntfy's own answer repeats the secret that it was shown.
"""

import json
import socket
import ssl
from typing import Self

from tests.support import raw_server
from tests.support.certificates import Certificates
from tests.system.faults.door import Door, Fault, Gone, break_off

TOKEN = "tk_s3cretS3cretS3cretS3cretS3cret"
GARBAGE = b"\x00\xff Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"


class ScriptedNtfy(Door):
    """A web server; `requests` holds the body of each request that it read, `taken` those that it published.

    `behind` is one more, which always works, for the channel behind the victim; its requests are among these.
    """

    def __init__(self, fault: Fault, victim: str, certificates: Certificates, stranger: str) -> None:
        """Prepare a server that fails the first connection that is announced for the victim.

        Its redirects lead to the stranger. It speaks TLS, unless it fails at connecting.
        """
        super().__init__(fault, victim, self._session)
        self.requests: list[bytes] = []
        self.taken: list[bytes] = []
        self._topic, self._stranger = victim, stranger
        self._certificates = certificates
        self._context = None if fault.stage == "connect" else certificates.good

    def __enter__(self) -> Self:
        super().__enter__()
        if self._victim:  # the other channel's requests come at the same time
            nobody, stranger = "", self._stranger
            self.behind = ScriptedNtfy(Fault("", ""), nobody, self._certificates, stranger)
            self.behind.requests, self.behind.taken, self.behind._context = self.requests, self.taken, self._context
            self.behind.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._victim:
            self.behind.__exit__()
        super().__exit__()

    @property
    def url(self) -> str:
        """Return the address that a channel is configured with."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def _session(self, connection: socket.socket, fault: Fault | None) -> None:
        stage, way = (fault.stage, fault.way) if fault else ("", "200 right")
        if stage == "connect":
            self._connect(connection, way)
            return
        context = self._context
        if stage == "TLS":
            bad = {"expired": self._certificates.expired, "unknown": self._certificates.unknown}
            context = bad.get(way)
            if not context:
                _no_handshake(connection, self._whole(way) or GARBAGE, way)
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            body = self._read(connection)
            refused = way == "nested" or (way[0].isdigit() and way != "200 right")
            if not refused:  # a lost answer is worst where the message was taken
                self.taken.append(body)
            if stage == "headers":
                self._head(connection, way)
            elif stage == "body" and not way[0].isdigit():
                _body(connection, way)
            else:
                connection.sendall(self._whole(way, json.loads(body)["topic"]))

    # ---- stages

    def _connect(self, connection: socket.socket, way: str) -> None:
        """Speak before the client does."""
        if whole := self._whole(way):
            connection.sendall(whole)
            body = self._read(connection)
            if way == "200 right":
                self.taken.append(body)
        elif way == "garbage":
            connection.sendall(GARBAGE)
            raw_server.silent(connection)
        elif way == "endless":
            raw_server.endless(b"")(connection)
        else:
            break_off(connection, way, b"HTTP/1.1 200 OK\r\nX-A: ")

    def _head(self, connection: socket.socket, way: str) -> None:
        """Give a status and no more, or break off in the head."""
        if way == "200 right":  # with an answer on the way, and in pieces
            answer = _published(self._topic)
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer))
        elif way[0].isdigit():
            connection.sendall(self._answer(int(way[:3]), b""))
        elif way == "garbage":
            connection.sendall(GARBAGE)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
            if way == "endless":
                while True:
                    connection.sendall(b"pe: application/json\r\n" * 100)
            break_off(connection, way)

    def _whole(self, way: str, topic: str = "") -> bytes:
        """Return a whole answer with the status that begins a way, or nothing."""
        if way == "200 right":
            return self._answer(200, _published(topic or self._topic))
        if way == "200 wrong":
            return self._answer(200, f"<title>Sign in</title> {TOKEN}".encode())
        error = json.dumps({"code": f"{way}01 {TOKEN}", "error": f"refused: {TOKEN}"}).encode()
        return self._answer(int(way), error) if way.isdigit() else b""

    def _answer(self, status: int, body: bytes) -> bytes:
        head = (
            f"HTTP/1.1 {status} {TOKEN}\r\nLocation: {self._stranger}/?{TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _read(self, connection: socket.socket) -> bytes:
        """Read one request, and return its body."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += _some(connection)
        head, _, body = got.partition(b"\r\n\r\n")
        assert f"Authorization: Bearer {TOKEN}".encode() in head
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(body) < length:
            body += _some(connection)
        self.requests.append(body)
        return body


def _published(topic: str) -> bytes:
    return json.dumps({"id": "sPs71M8A2T", "event": "message", "topic": topic, "message": "hi"}).encode()


def _no_handshake(connection: socket.socket, answer: bytes, way: str) -> None:
    """Fail where the server's part of the handshake should come; `answer` is what comes if it is bytes."""
    connection.recv(1, socket.MSG_PEEK)
    if way == "endless":
        raw_server.endless(b"")(connection)
    if way == "garbage" or way[0].isdigit():
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        way = "silence"
    break_off(connection, way, b"\x16\x03\x03\x40\x00")  # a long record begins


def _body(connection: socket.socket, way: str) -> None:
    """Break off in the body of an answer that begins well."""
    if way == "garbage":  # not what the head says
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")
    elif way == "garbled":  # below HTTP: no TLS record
        assert isinstance(connection, ssl.SSLSocket)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        with socket.socket(fileno=connection.detach()) as bare:
            bare.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            raw_server.silent(bare)
    elif way == "nested":
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000)
    elif way == "endless":
        raw_server.endless(b"HTTP/1.1 200 OK\r\n\r\n")(connection)
    else:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b'{"id": "x"')
        break_off(connection, way)


def _some(connection: socket.socket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise Gone
    return got
