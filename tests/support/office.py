"""A fake channel, and a store with reports that use it, at a time that the test sets."""

import mmap
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, PrivateAttr

from f2b_digest import delivery
from f2b_digest.channels.base import Channel
from f2b_digest.config import Configuration, Report
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.errors import DeliveryError
from f2b_digest.model.message import Content, Message, Needs, Stamp
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.support.store_making import NOON, event, fill, query

DAY = 86400.0
TEMPLATE = """{# Every address: jails. #}
{% for jail in jails %}{% for address in jail.worst %}{{ jail.name }} {{ address.ip }} {{ address.bans }}
{% endfor %}{% endfor %}"""


class Recording(Channel):
    """A channel that records attempts and arrivals, and fails on request.

    The record is in shared memory, because each attempt runs in its own process.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["recording"] = "recording"
    to: tuple[str, ...] = ("admin",)
    trouble: dict[str, Exception] = Field(default_factory=dict)
    """What to raise, by recipient."""
    meanwhile: Callable[[], object] | None = None
    """Called during a delivery."""
    _journal: mmap.mmap = PrivateAttr(default_factory=lambda: mmap.mmap(-1, 1 << 20))

    @property
    def needs(self) -> Needs:
        """One list."""
        return Needs(("list.txt",))

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the configured recipients."""
        return self.to

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the list."""
        return content.parts["list.txt"].encode()

    def deliver(self, message: Message) -> None:
        """Record the message."""
        self._write("tried", message)
        if self.meanwhile:
            self.meanwhile()
        if message.recipient in self.trouble:
            raise self.trouble[message.recipient]
        self._write("arrived", message)

    def _write(self, what: str, message: Message) -> None:
        content = pickle.dumps((*self._entries(), (what, message)))
        self._journal[: len(content)] = content

    def _entries(self) -> tuple[tuple[str, Message], ...]:
        return pickle.loads(self._journal[:]) if self._journal[:1] != b"\0" else ()

    def _read(self, what: str) -> list[Message]:
        return [message for kind, message in self._entries() if kind == what]

    @property
    def tried(self) -> list[Message]:
        """Return each message that was tried."""
        return self._read("tried")

    @property
    def arrived(self) -> list[tuple[str, str]]:
        """Return each message that arrived as (recipient, text)."""
        return [(message.recipient, message.body.decode()) for message in self._read("arrived")]


@dataclass
class Office:
    """A store, a configuration and a clock that the test sets."""

    path: Path
    channels: dict[str, Channel]
    reports: dict[str, Report]
    now: float = NOON
    templates: Path = field(init=False)

    def __post_init__(self) -> None:
        """Write the one template."""
        self.templates = self.path.parent / "templates"
        self.templates.mkdir()
        (self.templates / "list.txt").write_text(TEMPLATE)

    @property
    def configuration(self) -> Configuration:
        """Return the configuration, as from a file."""
        return Configuration("web1", ZoneInfo("UTC"), None, None, self.reports, self.channels)

    def ban(self, *ips: str, jail: str = "sshd", **more: Any) -> None:
        """Ban addresses now."""
        fill(self.path, [event(ip=ip, jail=jail, at=self.now, **{"recorded_at": self.now} | more) for ip in ips])

    def send(self, *names: str) -> list[Outcome]:
        """Send some reports, or all."""
        with Store(self.path, read_only=False) as store:
            renderer = Renderer(self.templates)
            return delivery.send(self.configuration, store, renderer, names or list(self.reports), lambda: self.now)

    def retry(self) -> list[Outcome]:
        """Retry what is due."""
        with Store(self.path, read_only=False) as store:
            return delivery.retry(self.configuration, store, lambda: self.now)

    def statuses(self) -> list[tuple[str, str]]:
        """Return each delivery's recipient and status."""
        return [(row[0], row[1]) for row in query(self.path, "SELECT recipient, status FROM delivery ORDER BY id")]


def office(path: Path, channel: Channel, **report: Any) -> Office:
    """Return an office with one report by one channel."""
    return Office(path, {"out": channel}, {"daily": Report(channels=("out",), **report)})


def later(reason: str = "450 busy") -> DeliveryError:
    """Return a temporary failure."""
    return DeliveryError(reason, permanent=False)
