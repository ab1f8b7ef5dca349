"""A host that lives through a scenario: its store, its report, what surrounds it, and the mail of its last digest."""

import email.policy
import json
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from email.parser import BytesParser
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from f2b_digest import config, delivery, recorder, resources
from f2b_digest.model.host_context import AnyNetwork, HostContext
from f2b_digest.reconcile import Known
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.support.store_making import NOON, Row, fill

DAY = 86400.0
USUAL = {"sshd": 60.0, "postfix-sasl": 25.0, "nginx-botsearch": 15.0, "dovecot": 8.0}
"""Bans a day."""
NAMES = ("root", "admin", "ubuntu", "test", "oracle", "postgres", "git", "pi", "user", "guest")
LINES = 5


@dataclass(frozen=True)
class Mail:
    """What the admin sees."""

    subject: str
    text: str

    @property
    def head(self) -> str:
        """Return the subject and the first five lines that are not empty, a finding with its commands being one."""
        verdict, _, rest = self.text.partition("\n\n")
        lines = [*re.sub(r"\n +", " ", verdict).split("\n"), *filter(str.strip, rest.splitlines())][:LINES]
        return " ".join(" ".join([self.subject, *lines]).split())


class World:
    """A host named web1, at noon of a Thursday."""

    def __init__(self, folder: Path, name: str = "daily") -> None:
        """Begin with an empty store and a report of that name, whose digests become files."""
        self.folder, self.name, self.now = folder, name, NOON
        self.store = folder / "bans.sqlite3"
        self.top = 'host = "web1"\ntimezone = "UTC"\n'
        self.report = ""
        self.others = ""
        self.host_context = HostContext()
        self.known: Known | None = None
        self.source = "action"
        self.chance = random.Random(name)
        self.channels: tuple[str, ...] = ("box",)

    @property
    def period(self) -> float:
        """Return the report's pace in seconds."""
        return {"weekly": 7 * DAY, "monthly": 30 * DAY}.get(self.name, DAY)

    # ---- what happens

    def plant(self, rows: Iterable[Row]) -> None:
        """Record events."""
        fill(self.store, rows)

    def ban(self, ip: str, jail: str = "sshd", ago: float = 3600.0, **more: Any) -> None:
        """Record a ban some seconds ago, for a day."""
        self.plant([self.row(ip, jail, self.now - ago, **{"bantime": 86400, **more})])

    def row(self, ip: str, jail: str, at: float, kind: str = "ban", **more: Any) -> Row:
        """Return an event that was recorded when it happened."""
        sort: dict[str, Any] = {"failures": 5, "bantime": 600, "users": ("root",)} if kind == "ban" else {}
        row: Row = recorder.event(kind, jail, ip, at, "web1", self.source, **{"recorded_at": at + 0.1, **sort, **more})
        return row

    def stranger(self) -> str:
        """Return an address that nobody knows."""
        while True:
            ip = ip_address(self.chance.getrandbits(32))
            if ip.is_global and not ip.is_multicast:
                return str(ip)

    def usual(self, since: float, until: float, without: tuple[str, ...] = (), times: float = 1.0) -> None:
        """Record what the jails usually ban, each day a little more or less."""
        rows = []
        for jail, rate in USUAL.items():
            start = since
            while start < until and jail not in without:
                length = min(DAY, until - start)
                count = round(rate * times * length / DAY * self.chance.uniform(0.8, 1.2))
                for _ in range(count):
                    at = start + self.chance.random() * length
                    rows.append(self.row(self.stranger(), jail, at, users=(self.chance.choice(NAMES),)))
                start += length
        self.plant(sorted(rows, key=lambda row: row[4]))

    def past(self, days: float = 35.0, **more: Any) -> None:
        """Live through some usual weeks, the last digest of which was sent one period ago."""
        now = self.now
        began = now - self.period - days * DAY
        if self.source == "action":  # which tells of its jails' starts
            self.plant([self.row("", jail, began, "start") for jail in USUAL])
        self.usual(began, now - self.period, **more)
        self.now = now - self.period
        self.send()
        self.now = now

    def today(self, **more: Any) -> None:
        """Live through a usual period."""
        self.usual(self.now - self.period, self.now, **more)

    # ---- what the admin sees

    def send(self) -> Mail | None:
        """Send the report's digest; return the mail, or None if there was nothing to tell."""
        file = self.folder / "config.toml"
        file.write_text(
            f"{self.top}\n[reports.{self.name}]\nchannels = {json.dumps(self.channels)}\n{self.report}\n"
            f'[channels.box]\nkind = "file"\nfolder = "box"\n{self.others}\n'
        )
        configuration = config.load(file, host="web1", timezone="UTC")
        host_context = replace(self.host_context, friends=configuration.friends)
        box = self.folder / "box"
        before = set(box.iterdir()) if box.exists() else set()
        with Store(self.store, read_only=False) as store:
            delivery.send(
                configuration, store, Renderer(resources.folder("templates")), [self.name], lambda: self.now,
                known=self.known, host_context=host_context,
            )  # fmt: skip
        new = set(box.iterdir()) - before if box.exists() else set()
        if not new:
            return None
        (path,) = new
        return read(path)


def read(path: Path) -> Mail:
    """Return a mail that is in a file."""
    message = BytesParser(policy=email.policy.default).parsebytes(path.read_bytes())
    body = message.get_body(("plain",))
    assert body
    return Mail(str(message["Subject"]), body.get_content())


def network(text: str) -> AnyNetwork:
    """Return a network, or a single address as one."""
    return ip_network(text, strict=False)
