"""A server for the tests that misbehaves byte by byte, as real servers do not on request.

No tests here. A play gets each connection and does with it what it wants.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

PATIENCE = 10.0  # seconds until a test gives up waiting
Play = Callable[[socket.socket], None]


class RawServer:
    """A listener on loopback that plays with each connection; `with` ends it.

    Its end waits until the client has closed every connection, and fails if it never does.
    """

    def __init__(self, play: Play) -> None:
        """Listen; connections are taken from `with` on."""
        self._play = play
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads), "a client left its connection open"

    def _accept(self) -> None:
        with suppress(OSError):  # the end
            while True:
                thread = threading.Thread(target=self._one, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):  # the client went away
            self._play(connection)


class WebServer(RawServer):
    """A RawServer that reads and keeps each HTTP request before it plays."""

    def __init__(self, play: Play) -> None:
        """Listen; connections are taken from `with` on."""
        super().__init__(self._after_request)
        self._answer = play
        self.requests: list[bytes] = []

    def _after_request(self, connection: socket.socket) -> None:
        self.requests.append(_read_request(connection))
        self._answer(connection)


def _read_request(connection: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65536)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


# ---- plays


def says(status: int, body: str, kind: str = "text/html", *headers: str) -> Play:
    """Give one HTTP answer."""
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}", *headers]
    return raw("\r\n".join([*head, "", body]).encode())


def raw(answer: bytes) -> Play:
    """Send these bytes and hang up."""
    return lambda connection: connection.sendall(answer)


def silent(connection: socket.socket) -> None:
    """Say nothing until the client gives up."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """Break the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def endless(start: bytes) -> Play:
    """Send as much as the client takes."""

    def play(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x" * 65536)

    return play


def dripping(start: bytes) -> Play:
    """Send a byte now and then, for ever."""

    def play(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return play
