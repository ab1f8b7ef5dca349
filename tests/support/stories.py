"""The stories that a digest tells: each lived through by the real store and sender, for the golden pages.

A story is made once a run. Its digest is what `send` sealed.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from f2b_digest.model.digest import Digest
from f2b_digest.model.document import from_json
from f2b_digest.model.host_context import Geography, HostContext, Login, Place
from f2b_digest.store import Store
from tests.support.hostile import HOSTILE
from tests.support.store_making import Row
from tests.system.scenarios.world import DAY, World, network

NOW = datetime(2026, 11, 21, tzinfo=ZoneInfo("Europe/Paris")).timestamp()
HOUR = 3600.0
HOME = {"sshd": 21.0, "nginx-botsearch": 5.0, "postfix-sasl": 3.0}
BUSY = {
    "sshd": 200.0, "wordpress": 175.0, "nginx-botsearch": 82.0, "postfix-sasl": 62.0, "dovecot": 24.0,
    "nginx-http-auth": 15.0, "recidive": 12.0, "proftpd": 12.0, "phpmyadmin-syslog": 5.0, "mysqld-auth": 3.0,
}  # fmt: skip
"""Bans a day."""
NAMES = (*("root",) * 9, *("admin",) * 4, *("postgres", "user", "ubuntu", "test") * 2, "oracle", "git", "dev", "es",
         "hadoop", "zabbix", "pi", "ftpuser")  # fmt: skip
NAMELESS = ("nginx-botsearch", "wordpress", "recidive", "phpmyadmin-syslog")
COUNTRIES = (*("US",) * 12, *("CN",) * 6, "BR", "BR", "MX", "VN", "VN", "IN", "ES", "EE", "NL", "DE", "RU", "JP")
NETWORKS = ((4134, "CHINANET-BACKBONE"), (749, None), (7922, "COMCAST-7922"), (14061, "DIGITALOCEAN-ASN"),
            (3352, "TELEFONICA DE ESPANA S.A.U."), (4766, "Korea Telecom"), (9299, "PLDT"), (21506, None),
            (701, "UUNET"), (4538, "China Education and Research Network Center"))  # fmt: skip


def place(ip: str) -> Place:
    """Return a made-up place, the same each time for an address."""
    if ip.startswith("203.0.113."):
        return Place("NL", 64500, "Example Hosting B.V.")
    hashed = sha256(ip.encode()).digest()
    number, name = NETWORKS[hashed[1] % len(NETWORKS)]
    return Place(COUNTRIES[hashed[0] % len(COUNTRIES)], number, name)


class Host(World):
    """A host with a name, its own usual days, and addresses that come back."""

    def __init__(self, folder: Path, host: str, rates: dict[str, float], name: str = "daily") -> None:
        """Begin at midnight in Paris, 21 November 2026."""
        super().__init__(folder, name)
        self.now, self.rates = NOW, rates
        self.top = f'host = "{host}"\ntimezone = "Europe/Paris"\n'
        self.report = 'quiet = "send"\n'
        self.host_context = HostContext(
            users=frozenset(("root", "anna")), running=tuple(rates), increments=True,
            geography=Geography("DB-IP Lite", NOW - 20 * DAY, "IP Geolocation by DB-IP (CC BY 4.0)", place),
        )  # fmt: skip
        self._known = [self.stranger() for _ in range(40)]

    def usual(self, since: float, until: float, without: tuple[str, ...] = (), times: float = 1.0) -> None:
        """Record usual days, a third of their addresses known ones."""
        rows = []
        for jail, rate in self.rates.items():
            start = since
            while start < until and jail not in without:
                count = rate * times * self.chance.uniform(0.8, 1.25)
                for _ in range(int(count + self.chance.random())):
                    known = self.chance.random() < 0.3
                    ip = self.chance.choice(self._known) if known else self.stranger()
                    users = () if jail in NAMELESS else (self.chance.choice(NAMES),)
                    at = start + min(self.chance.betavariate(2, 1.6), 0.9999) * min(DAY, until - start)
                    more: dict[str, Any] = {"failures": self.chance.randrange(5, 9), "users": users}
                    rows.append(self.row(ip, jail, at, bantime=7 * 86400 if jail == "recidive" else 600, **more))
                start += DAY
        self.plant(sorted(rows, key=lambda row: row[4]))

    def row(self, ip: str, jail: str, at: float, kind: str = "ban", **more: Any) -> Row:
        """Return an event."""
        return super().row(ip, jail, float(int(at)), kind, **more)

    def tell(self) -> Digest:
        """Send, and return the digest that was sealed."""
        self.send()
        with Store(self.store, read_only=True) as store:
            last = store.last_digest(self.name)
            document = store.document(last.id) if last else None
        assert document is not None, "nothing was sent"
        digest = from_json(document)
        zone = ZoneInfo("Europe/Paris")  # JSON has the offset only
        return replace(digest, start=digest.start.astimezone(zone), end=digest.end.astimezone(zone))


@dataclass(frozen=True)
class Story:
    """A host's day, week or month, and how long its mail may be."""

    name: str
    play: Callable[[Path], Digest]
    height: int
    """Pixels of the page in a window 640 pixels wide."""
    lines: int
    """Lines of the text."""
    language: str = "en"


STORIES: dict[str, Story] = {}


def story(
    height: int, lines: int, language: str = "en"
) -> Callable[[Callable[[Path], Digest]], Callable[[Path], Digest]]:
    """Register a story with its budget."""

    def register(play: Callable[[Path], Digest]) -> Callable[[Path], Digest]:
        STORIES[play.__name__] = Story(play.__name__, play, height, lines, language)
        return play

    return register


@cache
def told(name: str) -> Digest:
    """Return a story's digest."""
    with tempfile.TemporaryDirectory() as folder:
        return STORIES[name].play(Path(folder))


def _home(folder: Path, **more: str) -> Host:
    host = Host(folder, "nas.example.org", HOME, **more)
    host.past(28 if host.name == "daily" else 5 * host.period / DAY)
    return host


@story(400, 25)
def quiet(folder: Path) -> Digest:
    """Nothing was banned, on a host where that is usual."""
    host = Host(folder, "nas.example.org", {"sshd": 0.4})
    host.past(28)
    return host.tell()


@story(1000, 60)
def home(folder: Path) -> Digest:
    """An ordinary day of a home server: some 37 bans in three jails."""
    host = _home(folder)
    host.today(times=1.2)
    return host.tell()


@story(1500, 90)
def busy(folder: Path) -> Digest:
    """A thousand bans in ten jails; among them 61 addresses of one /24 within three hours, on a real account."""
    host = Host(folder, "web3.example.com", BUSY)
    host.past(28)
    host.today()
    attack(host)
    return host.tell()


def attack(host: Host) -> None:
    """Plant the attack: 61 addresses of 203.0.113.0/24 from 03:00 to 06:00, on root, admin and anna."""
    start = host.now - DAY + 3 * HOUR
    host.plant(
        host.row(f"203.0.113.{4 * n + 2}", "sshd", start + (n * 177 + turn * 2100) % (3 * HOUR), failures=5,
                 users=("root", "admin", "anna")[(n + turn) % 3 :][:1])
        for n in range(61) for turn in range(5)
    )  # fmt: skip


@story(1500, 90)
def flood(folder: Path) -> Digest:
    """A thousand times the usual."""
    host = _home(folder)
    host.today()
    host.plant(host.row(host.stranger(), "sshd", host.now - DAY + n * 2.0, users=("root",)) for n in range(30000))
    return host.tell()


@story(1000, 60)
def first(folder: Path) -> Digest:
    """The first day after the installation."""
    host = Host(folder, "nas.example.org", HOME)
    host.today()
    return host.tell()


@story(1800, 90)
def week(folder: Path) -> Digest:
    """A week of a home server."""
    host = _home(folder, name="weekly")
    host.usual(host.now - host.period, host.now)
    return host.tell()


@story(1800, 90)
def month(folder: Path) -> Digest:
    """A month of a home server, which begins and ends within a week."""
    host = _home(folder, name="monthly")
    host.usual(host.now - host.period, host.now)
    return host.tell()


@story(1200, 70)
def own(folder: Path) -> Digest:
    """A colleague's address is banned."""
    host = _home(folder)
    host.today()
    address = "2001:db8:77:1::42"
    host.host_context = replace(host.host_context, logins=(Login(address, "anna", host.now - 9 * HOUR),))
    host.ban(address, "postfix.sasl", ago=7 * HOUR, bantime=86400, users=("anna",))
    return host.tell()


@story(1200, 70)
def own_permanently(folder: Path) -> Digest:
    """The office is banned without an end."""
    host = _home(folder)
    host.today()
    host.host_context = replace(host.host_context, friends=(network("198.51.100.0/24"),))
    host.top += 'friends = ["198.51.100.0/24"]\n'
    host.ban("198.51.100.7", "recidive", ago=5 * HOUR, bantime=-1, users=())
    return host.tell()


@story(1200, 70)
def down(folder: Path) -> Digest:
    """fail2ban does not answer."""
    host = _home(folder)
    host.usual(host.now - DAY, host.now - DAY + 8 * HOUR)
    host.host_context = replace(host.host_context, running=())
    return host.tell()


@story(1200, 70)
def silent(folder: Path) -> Digest:
    """The jail sshd stops banning."""
    host = _home(folder)
    host.today(without=("sshd",))
    return host.tell()


@story(1200, 80)
def failed(folder: Path) -> Digest:
    """The phone's server is away since six days: some are tried again, one was given up."""
    host = Host(folder, "nas.example.org", HOME)
    host.others = '[channels.phone]\nkind = "ntfy"\nurl = "http://127.0.0.1:9"\ntopic = "nas"\n'
    end = host.now
    host.now -= 7 * DAY
    host.past(28)
    host.channels = ("box", "phone")
    host.now = end - 7 * DAY
    for _ in range(6):
        host.now += DAY
        host.today()
        host.send()
    host.now = end
    host.today()
    return host.tell()


@story(1500, 90)
def ipv6(folder: Path) -> Digest:
    """IPv6 addresses as long as they get, and jails with long names."""
    names = ("apache-wordpress-xmlrpc-and-login-of-customers", "postfix-sasl-submission-with-a-very-long-name", "sshd")
    host = Host(folder, "a-host-with-a-rather-long-name.customers.example.org", dict.fromkeys(names, 9.0))
    host.past(28)
    host.today()
    rows = [
        host.row(f"2001:db8:1234:5678:9abc:def0:{n:x}234:5678", jail, host.now - 3600 - turn * 5000 - n,
                 users=("a-user-name-that-is-longer-than-columns@customers.example.org", "root"), bantime=86400)
        for jail in names for n in range(1, 5) for turn in range(4)
    ]  # fmt: skip
    host.plant(rows)
    return host.tell()


@story(1500, 90)
def hostile(folder: Path) -> Digest:
    """All text that an attacker can choose is hostile."""
    texts = [text for text in HOSTILE.values() if text]
    host = Host(folder, "nas.example.org", HOME)
    host.past(28)
    host.today()
    for number, text in enumerate(texts):
        ip = text if number % 2 else f"198.51.100.{number}"
        host.ban(ip, text if number % 3 == 0 else "sshd", ago=60.0 * number, users=(text,))
    return host.tell()


@story(1250, 75, "fr")
def french(folder: Path) -> Digest:
    """A colleague's address is banned, for an admin who reads French."""
    return own(folder)


@story(1250, 75, "de")
def german(folder: Path) -> Digest:
    """A colleague's address is banned, for an admin who reads German."""
    return own(folder)
