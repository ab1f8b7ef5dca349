"""The syslog channel: a line of totals and a line per jail to the local syslog or journal."""

import errno
import socket
from typing import Literal

from pydantic import Field

from f2b_digest.channels.base import Channel, Health, cut, one_line
from f2b_digest.channels.keys import ConfiguredPath
from f2b_digest.errors import DeliveryError, PartlyDeliveredError
from f2b_digest.model.message import Content, Message, Needs, Stamp

FACILITIES = {
    "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "news": 7, "cron": 9, "authpriv": 10,
    "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
LEVELS = {"emerg": 0, "alert": 1, "crit": 2, "err": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
"""The numbers of RFC 5424."""
LINE_LIMIT = 900
"""Maximum bytes of a line: old daemons cut at 1,024, including their prefix."""
TIMEOUT = 5
"""Seconds for a daemon that does not read."""

Facility = Literal[
    "user", "mail", "daemon", "auth", "syslog", "news", "cron", "authpriv",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
]  # fmt: skip
Level = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]


class Syslog(Channel):
    """Log a line of totals and a line per jail to the local syslog or journal."""

    kind: Literal["syslog"]
    samples: bool = False
    facility: Facility = "daemon"
    """Syslog facility."""
    level: Level = "notice"
    """Syslog level."""
    urgent_from: int | None = Field(default=None, ge=1)
    """From this many bans on, the level is urgent_level. Example: 100."""
    urgent_level: Level = "warning"
    """Syslog level where something needs attention, and from urgent_from bans on."""
    socket: ConfiguredPath = Field(default="/dev/log", validate_default=True)
    """Socket of the syslog daemon."""

    @property
    def needs(self) -> Needs:
        """The lines."""
        return Needs(("syslog/lines.txt",))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the socket."""
        return (str(self.socket),)

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the datagrams, one a line."""
        urgent = stamp.needs_attention or (self.urgent_from is not None and stamp.bans >= self.urgent_from)
        priority = 8 * FACILITIES[self.facility] + LEVELS[self.urgent_level if urgent else self.level]
        lines = (cut(one_line(line, LINE_LIMIT), LINE_LIMIT) for line in content.parts["syslog/lines.txt"].splitlines())
        return b"".join(f"<{priority}>f2b-digest: ".encode() + line + b"\n" for line in lines if line)

    def accept(self, message: Message) -> None:
        """Raise ValueError if the store's path differs from the configuration's."""
        super().accept(message)
        if message.recipient not in self.recipients:
            raise ValueError(f"recipient {one_line(message.recipient, 80)!r} does not match {self.recipients[0]!r}")

    def deliver(self, message: Message) -> None:
        """Send each line; a daemon's socket takes datagrams, or a stream."""
        rest = message.body.splitlines(keepends=True)
        try:
            with _connected(str(self.socket)) as daemon:
                while rest:
                    daemon.sendall(rest[0].rstrip(b"\n") if daemon.type == socket.SOCK_DGRAM else rest[0])
                    del rest[0]
        except OSError as error:
            reason = f"{self.socket}: {error.strerror or error}"
            raise PartlyDeliveredError(DeliveryError(reason, permanent=False), b"".join(rest)) from None

    def check(self) -> Health:
        """Connect to the daemon's socket."""
        try:
            _connected(str(self.socket)).close()
        except OSError as error:
            raise DeliveryError(f"{self.socket}: {error.strerror or error}", permanent=False) from None
        return Health(f"{self.socket} is reachable")


def _connected(path: str) -> socket.socket:
    try:
        return _connect(path, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
        return _connect(path, socket.SOCK_STREAM)


def _connect(path: str, kind: socket.SocketKind) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX, kind)
    daemon.settimeout(TIMEOUT)
    try:
        daemon.connect(path)
    except OSError:
        daemon.close()
        raise
    return daemon
