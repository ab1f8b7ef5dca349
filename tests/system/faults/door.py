"""A port on loopback that works for every visitor but one, and fails that one in a given stage and way, once.

No tests here. What all the scripted servers have in common does: the port itself, and the ways to fail that know
no protocol.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, NoReturn, Self

from tests.support import raw_server

PATIENCE = 10.0  # seconds until a test gives up waiting


@dataclass(frozen=True)
class Fault:
    """Where a server fails, and how."""

    stage: str
    way: str


Play = Callable[[socket.socket, Fault | None], None]


class Gone(OSError):
    """The connection is to be closed now."""


class Door:
    """One port; `with` opens and shuts it. `visit` announces each connection, one after the other."""

    def __init__(self, fault: Fault, victim: str, play: Play) -> None:
        """Prepare; `play` gets each connection, with the fault if it is to fail there."""
        self.port = 0
        self._victim = victim
        self._play = play
        self._current: Fault | None = None
        self.fail(fault)

    def __enter__(self) -> Self:
        self._open()
        self._reception = socket.create_server(("127.0.0.1", 0))
        self._desk = self._reception.getsockname()
        self._receptionist = threading.Thread(target=self._receive_visitors, args=(self._reception,))
        self._receptionist.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reception.shutdown(socket.SHUT_RDWR)
        self._receptionist.join(PATIENCE)
        self._reception.close()
        self._shut()

    def fail(self, fault: Fault) -> None:
        """Fail at the victim's next visit."""
        self._fault: Fault | None = fault

    @contextmanager
    def visit(self, visitor: str) -> Iterator[None]:
        """Announce a visitor, from whatever process, and come when it is its turn; the visit ends with the block."""
        with socket.create_connection(self._desk) as bell:
            bell.sendall(visitor.encode() + b"\n")
            bell.recv(1)
            yield

    def _receive_visitors(self, desk: socket.socket) -> None:
        with suppress(OSError):  # shut
            while True:
                with desk.accept()[0] as bell, bell.makefile("rb") as said, suppress(ConnectionError):
                    self._serve_visitor(bell, said)

    def _serve_visitor(self, bell: socket.socket, said: BinaryIO) -> None:
        with self._awaiting(said.readline().decode().strip()):
            bell.sendall(b"!")
            said.read()  # until the visitor has gone

    @contextmanager
    def _awaiting(self, visitor: str) -> Iterator[None]:
        """Let one visitor come: the victim's first visit meets the fault."""
        self._current = None
        if visitor == self._victim:
            self._current, self._fault = self._fault, None
        if self._current == Fault("connect", "reset"):
            with self._refusing():
                yield
        elif self._current == Fault("connect", "silence"):
            with self._jammed():
                yield
        else:
            yield

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Answer a SYN with a reset: nobody listens."""
        self._shut()
        try:
            yield
        finally:
            self._open()

    @contextmanager
    def _jammed(self) -> Iterator[None]:
        """Answer no SYN: the listener's queue is full."""
        self._shut()
        address = ("127.0.0.1", self.port)
        try:
            with socket.create_server(address, backlog=0), socket.create_connection(address):
                with suppress(TimeoutError), socket.create_connection(address, timeout=0.05):
                    raise AssertionError("the queue takes another connection")
                yield
        finally:
            self._open()

    def _open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._listener,))
        self._thread.start()

    def _shut(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive(), "a client left its connection open"

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):  # shut
            while True:
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no waits that are not in the script
                with suppress(OSError), connection:  # the client went away
                    self._play(connection, self._current)


def break_off(connection: socket.socket, way: str, start: bytes = b"") -> NoReturn:
    """Fail in one of the ways that hold for every protocol; `start` is what a drip begins with."""
    if way == "reset":
        raw_server.reset(connection)
    elif way == "silence":
        raw_server.silent(connection)
    elif way == "drip":
        connection.sendall(start)
        while True:
            time.sleep(0.05)
            connection.sendall(b"x")
    else:
        assert way == "close", way
    raise Gone
