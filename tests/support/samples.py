"""Digests made by hand, in which every section is filled, or none: for the golden files and the screenshots."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from f2b_digest.analysis.next_steps import with_commands
from f2b_digest.model.advice import Block, Increment, Recidive
from f2b_digest.model.digest import (
    Address,
    Bar,
    Campaign,
    Compared,
    Country,
    Digest,
    FailedJail,
    Jail,
    LeftOut,
    Lifted,
    Network,
    NeverBanned,
    Reconciliation,
    Several,
    Totals,
    Undelivered,
    User,
    Users,
    When,
    Where,
)
from f2b_digest.model.facts import (
    Concerted,
    Drop,
    Fact,
    Fail2banDown,
    FirstDigest,
    JailSilent,
    JailStopped,
    Late,
    NewJail,
    NotDelivered,
    OwnBanned,
    OwnBanOver,
    ProxyBanned,
    Restarted,
    Roaming,
    Surge,
    Targeted,
    Unrecorded,
)
from f2b_digest.model.fleet import Everywhere, Fleet, FleetHost, HostBans, Version
from f2b_digest.model.fleet import Late as LateOfHost
from f2b_digest.model.fleet_facts import (
    ClocksOff,
    HostClock,
    HostJails,
    HostLate,
    HostsBehind,
    HostsCopied,
    HostSince,
    HostsLacking,
    HostsSilent,
    HostStores,
    HostsUnheard,
    HostWaiting,
    LateBans,
)

ZONE = ZoneInfo("Europe/Paris")
END = datetime(2026, 11, 20, tzinfo=ZONE)
START = END - timedelta(days=1)
SCRIPT = '"><script>alert(1)</script>'
EXAMPLE_NET, CHEAP = (64496, "Example Net Ltd."), (64500, "Cheap & Fast <Hosting>")
HOURS = (9, 12, 14, 61, 48, 22, 9, 8, 11, 14, 12, 10, 13, 15, 17, 12, 11, 14, 16, 19, 21, 18, 14, 12)
"""Bans of each hour: 412."""


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Return a time of November 2026 in the report's zone."""
    return datetime(2026, 11, day, hour, minute, tzinfo=ZONE)


def address(ip: str, bans: int, first: datetime, last: datetime, bantime: int = 3600, **more: Any) -> Address:
    """Return an address of a jail, whose last ban began with its last failure."""
    until = None if bantime < 0 else last + timedelta(seconds=bantime)
    return replace(Address(ip, bans, 5 * bans, first, last, bantime, until), **more)


def _jails() -> tuple[Jail, ...]:
    asn, network = EXAMPLE_NET
    home: dict[str, Any] = {"country": "DE", "asn": asn, "network": network}
    return (
        Jail(
            "sshd", 300, 70, 1800,
            (
                address("203.0.113.59", 14, at(19, 0, 36), at(19, 22, 39), users=("root", "admin", SCRIPT),
                        more_users=6, known_since=at(3, 4), **home),
                address("203.0.113.139", 12, at(19, 3, 5), at(19, 21, 38), users=("root",), **home),
                address("198.51.100.23", 9, at(19, 1, 12), at(19, 23, 4), 86400, users=("postgres", "oracle"),
                        country="VN", asn=CHEAP[0], network=CHEAP[1]),
            ),
            LeftOut(addresses=67, bans=265), before=162, usual=140.0,
            samples=(
                "Nov 19 22:39:11 […] sshd[4711]: Failed password for root from 203.0.113.59 port 40022 ssh2",
                f"Nov 19 21:38:02 […] sshd[4720]: Invalid user {SCRIPT} from 203.0.113.139 port 40022",
            ),
        ),
        Jail(
            "nginx-botsearch", 80, 22, 400,
            (
                address("192.0.2.44", 8, at(19, 4, 31), at(19, 19, 22), country="US"),
                address("2001:db8:1f:9::7", 6, at(19, 6, 17), at(19, 22, 35), known_since=at(11, 9), country="NL"),
            ),
            LeftOut(addresses=20, bans=66), before=0,
            samples=('192.0.2.44 - - [19/Nov/2026:19:22:41 +0100] "GET /wp-login.php HTTP/1.1" 404 153',),
        ),
        Jail(
            "postfix-sasl", 25, 5, 160,
            (
                address("198.51.100.80", 11, at(19, 2, 50), at(19, 20, 1), users=("info@example.org",), country="BR"),
                address("192.0.2.7", 1, at(19, 8, 12), at(19, 8, 12), 86400, users=("anna",), known_since=at(2, 12)),
            ),
            LeftOut(addresses=3, bans=13), before=26, usual=28.0,
        ),
        Jail(
            "recidive", 7, 7, 50, (address("203.0.113.59", 1, at(19, 12), at(19, 12), -1, known_since=at(3, 4)),),
            LeftOut(addresses=6, bans=6), before=6, usual=6.5,
        ),
    )  # fmt: skip


def _facts() -> tuple[Fact, ...]:
    return (
        OwnBanned(
            "postfix-sasl", "192.0.2.7", 1, at(19, 8, 12), at(20, 8, 12), "login", None, "anna",
            "fail2ban-client set postfix-sasl unbanip 192.0.2.7",
            "fail2ban-client set postfix-sasl addignoreip 192.0.2.7",
        ),
        JailStopped("dovecot", at(18, 14, 2), 12.0, commands=("fail2ban-client reload --if-exists dovecot",)),
        NotDelivered(1, 0, 41, "phone", "web1", "https://ntfy.example.org: HTTP status 503: try <later>",
                     commands=("f2b-digest status",)),
        Surge("sshd", 300, 140.0, 162, commands=("f2b-digest find sshd --since 2026-11-19",)),
        Concerted(
            "203.0.113.0/24", *EXAMPLE_NET, 37, 112, ("root", "admin"), 4, 2, at(19, 1, 5), at(19, 6, 40), 31,
            at(19, 2, 10), 12, 3.0,
        ),
        Targeted("anna", 14, 22, exists=True, commands=("f2b-digest find anna",)),
        Roaming(7, "203.0.113.59", ("sshd", "nginx-botsearch"), commands=("f2b-digest find 203.0.113.59",)),
        NewJail("nginx-botsearch", 80),
        Restarted(1, at(19, 3, 0)),
    )  # fmt: skip


def telling() -> Digest:
    """Return a day of every section, whose numbers add up, and with an attacker's text in names."""
    return Digest(
        "daily", "web1.example.org", "Europe/Paris", START, END, Totals(412, 97, 4, 2410), _jails(),
        undelivered=(
            Undelivered(41, at(19, 0), "phone", "web1", "deferred",
                        "https://ntfy.example.org: HTTP status 503: try <later>"),
        ),
        reconciliation=Reconciliation(412, known=408, added=0),
        verdict="needs_attention",
        facts=_facts(),
        compared=Compared(before=194, usual=174.5, periods=28, new=60, returning=37),
        several=(
            Several("203.0.113.59", ("sshd", "nginx-botsearch"), 16),
            Several("203.0.113.139", ("sshd", "nginx-botsearch"), 13),
        ),
        several_in_all=7,
        campaigns=(
            Campaign("203.0.113.0/24", *EXAMPLE_NET, "DE", 37, 112, 560, ("sshd", "recidive"), ("root", "admin"), 4,
                     ("203.0.113.0/24",)),
            Campaign(None, *CHEAP, "VN", 12, 31, 155, ("sshd",), ("postgres", SCRIPT), 0,
                     ("198.18.4.0/24", "198.18.9.0/24", "198.19.3.0/24")),
        ),
        campaigns_in_all=2,
        users=Users(
            41, 231,
            (User("root", 96, 48, exists=True), User("admin", 60, 33, exists=False),
             User("postgres", 31, 12, exists=False), User("anna", 22, 14, exists=True),
             User(SCRIPT, 9, 4, exists=False)),
            (User("root", 96, 48, exists=True), User("anna", 22, 14, exists=True)),
        ),
        lifted=(Lifted("sshd", "192.0.2.77", at(18, 9), at(18, 21, 5)),),
        lifted_in_all=1,
        never_banned=NeverBanned(1204, (FailedJail("sshd", 1100), FailedJail("nginx-http-auth", 110)), at(17, 6, 25)),
        when=When("hour", tuple(Bar(START + timedelta(hours=hour), bans) for hour, bans in enumerate(HOURS))),
        where=Where(
            "DB-IP Lite", at(1, 0), "IP Geolocation by DB-IP (CC BY 4.0)", 97, 3,
            (Country("DE", 40, 124), Country("VN", 21, 96), Country("US", 18, 88), Country("BR", 9, 55),
             Country("NL", 6, 42)),
            (Network(*EXAMPLE_NET, 37, 112), Network(*CHEAP, 12, 31), Network(64511, None, 4, 12)),
        ),
        advice=(
            Increment(140, 31, 412, ("[DEFAULT]", "bantime.increment = true")),
            Block("203.0.113.0/24", 37, 112, ("fail2ban-client set recidive banip 203.0.113.0/24",)),
        ),
    )  # fmt: skip


def telling_week() -> Digest:
    """Return the same as a week, with each hour of it."""
    heat = [[0] * 24 for _ in range(7)]
    for hour, bans in enumerate(HOURS):
        for ban in range(bans):
            heat[(ban * ban + hour) % 7][hour] += 1
    days = [END - timedelta(days=ago) for ago in range(7, 0, -1)]
    bars = tuple(Bar(day, sum(heat[day.weekday()])) for day in days)
    return replace(
        telling(),
        report="weekly", start=days[0],
        when=When("day", bars, tuple(map(tuple, heat))), verdict="stands_out", facts=telling().facts[3:],
        undelivered=(),
    )  # fmt: skip


def quiet() -> Digest:
    """Return a day on which nothing was banned, and nothing is wrong."""
    return Digest(
        "daily", "web1.example.org", "Europe/Paris", START, END, Totals(), reconciliation=Reconciliation(0, 0, 0),
        verdict="quiet", compared=Compared(before=2, usual=1.0, periods=28),
    )  # fmt: skip


def facts_of_hosts() -> tuple[Fact, ...]:
    """Return a fact of each kind that names hosts, of one host and of several."""
    line = 'f2b-digest.py[dbpath="/var/lib/fail2ban/f2b-digest/bans.sqlite3"]'
    silent = tuple(HostSince(f"web{number}.example.org", at(number, 3, 10)) for number in range(3, 9))
    lacking = (HostJails("web3", ("dovecot", "exim"), 2), HostJails(SCRIPT, ("sshd",), 0))
    late = (HostLate("web7", 2310, at(12, 4), at(18, 23)), HostLate("db2", 3, at(17, 4), at(17, 5)))
    clocks = (HostClock("web5", 95), HostClock("db1", -7260))
    return (
        HostsSilent(silent[:1], "f2b-digest fleet retire web3.example.org"),
        HostsSilent(silent, "f2b-digest fleet retire web3.example.org"),
        HostsUnheard(silent[:1], "f2b-digest fleet retire web3.example.org"),
        HostsUnheard(silent, "f2b-digest fleet retire web3.example.org"),
        HostsLacking(lacking[:1], line, 'known_quiet = ["dovecot", "exim"]'),
        HostsLacking(lacking, line),
        HostsCopied((HostStores("web1", 2),)),
        HostsCopied((HostStores("web1", 2), HostStores("web2", 3))),
        HostsBehind((HostWaiting("web5", 12310, at(18, 3, 10)),)),
        HostsBehind((HostWaiting("web5", 12310, at(18, 3, 10)), HostWaiting("web6", 1, at(19, 3)))),
        ClocksOff(clocks[:1]),
        ClocksOff(clocks),
        LateBans(2313, late),
        LateBans(3, late[1:]),
    )


def fleet() -> Digest:
    """Return a day of a fleet of 48 hosts, with something to tell of some of them."""
    own = OwnBanned(
        "postfix-sasl", "192.0.2.7", 1, at(19, 8, 12), at(20, 8, 12), "login", None, "anna",
        "fail2ban-client set postfix-sasl unbanip 192.0.2.7",
        "fail2ban-client set postfix-sasl addignoreip 192.0.2.7", host="web3.example.org",
    )  # fmt: skip
    since, users = at(18, 3, 10), telling().users
    assert users is not None
    line = 'f2b-digest.py[dbpath="/var/lib/fail2ban/f2b-digest/bans.sqlite3"]'
    facts = (
        own,
        HostsSilent((HostSince("web7", since),), "f2b-digest fleet retire web7"),
        HostsUnheard((HostSince("web9", at(10, 9)),), "f2b-digest fleet retire web9"),
        HostsLacking((HostJails("web3.example.org", ("dovecot", "exim"), 2),), line),
        HostsCopied((HostStores("web1", 2),)),
        HostsBehind((HostWaiting("web5", 12310, since),)),
        Fail2banDown(3, 40.0, at(18, 3), host="mail1"),
        JailSilent("sshd", 40.0, at(17, 3), 'known_quiet = ["sshd"]', host="web4"),
        ClocksOff((HostClock(SCRIPT, -7260), HostClock("web5", 95))),
        LateBans(2310, (HostLate("web7", 2310, at(12, 4), at(18, 3, 5)),)),
        *_facts()[3:7],
    )
    return replace(
        telling(),
        host="fleet.example.org", undelivered=(), lifted=(), lifted_in_all=0, reconciliation=None, never_banned=None,
        facts=tuple(with_commands(fact, start=START, report="daily", fleet=True) for fact in facts),
        jails=tuple(
            replace(jail, hosts=12 - 3 * place, worst=tuple(replace(each, hosts=9) for each in jail.worst))
            for place, jail in enumerate(_jails())
        ),
        campaigns=tuple(replace(each, hosts=9) for each in telling().campaigns),
        users=replace(users, most=tuple(replace(user, hosts=12 - place) for place, user in enumerate(users.most))),
        fleet=Fleet(
            48,
            (
                FleetHost("web3.example.org", 61, own=("192.0.2.7",), lacking=("dovecot", "exim"), lacking_more=2),
                FleetHost("web7", 0, silent_since=since, late=LateOfHost(2310, at(12, 4), at(18, 3, 5))),
                FleetHost("web9", 0, enrolled=at(10, 9)),
                FleetHost("mail1", 0, down=True),
                FleetHost("web4", 12, silent_jails=("sshd",)),
                FleetHost("web1", 80, stores=2),
                FleetHost("web5", 3, waiting=12310, waiting_since=since, clock_off=95),
                FleetHost(SCRIPT, 1, clock_off=-7260),
            ),
            0, (HostBans("shop1", 140), HostBans("shop2", 71), HostBans("db1", 22)), 9, 31, (Version("0.9", 3),), "1.0",
            (Everywhere("203.0.113.59", 12, 31, ("sshd", "recidive")),
             Everywhere("2001:db8:1f:9::7", 3, 6, ("nginx-botsearch",))), 9,
            ("fail2ban-client set sshd banip 203.0.113.59 2001:db8:1f:9::7",),
        ),
    )  # fmt: skip


def every_fact() -> tuple[Fact, ...]:
    """Return a fact of each kind, and of each way to say it."""
    own = OwnBanned("sshd", "192.0.2.7", 3, at(19, 8), None, "own", "192.0.2.0/24", None, "fail2ban-client unban x")
    every: tuple[Fact, ...] = (
        own,
        replace(own, why="friend", until=at(19, 9)),
        replace(own, why="ignored", near="192.0.2.8/32", until=at(21, 8)),
        replace(own, why="login", near=None, user="anna"),
        OwnBanOver("sshd", "192.0.2.7", 1, at(19, 8), at(19, 9), "friend", "192.0.2.0/24", None),
        OwnBanOver("sshd", "192.0.2.7", 3, at(19, 8), at(19, 9), "login", None, "anna"),
        *(
            ProxyBanned("web", cdn, count, 12, 40, header, ("198.51.100.0/24",), "ignoreip = ::1 198.51.100.0/24")
            for cdn, header in (
                ("Cloudflare", "CF-Connecting-IP"), ("nginx", "X-Forwarded-For"), ("proxies", "X-Forwarded-For"),
            )
            for count in (1, 6)
        ),
        JailSilent("sshd", 40.0, at(17, 3), 'known_quiet = ["sshd"]'),
        JailSilent("sshd", 40.5, None),
        JailStopped("sshd", at(18, 3), None),
        JailStopped("sshd", at(18, 3), 40.0),
        Fail2banDown(4, 412.0, at(18, 3)),
        Fail2banDown(1, None, None),
        Unrecorded(2, ()),
        Unrecorded(0, ("dovecot",)),
        Unrecorded(1, ("dovecot", "exim")),
        NotDelivered(1, 0, 41, "mail", "admin@example.org", "connection refused"),
        NotDelivered(3, 2, 41, "mail", "admin@example.org", "connection refused"),
        Late(at(17, 0), 86400.0),
        Surge("sshd", 400, 40.0, 38),
        Surge("sshd", 400, 40.0, None),
        Surge(None, 1400, 140.0, 138),
        Drop("sshd", 4, 40.0, 38),
        Drop("sshd", 4, 40.0, None),
        Drop(None, 14, 140.0, 138),
        NewJail("exim", 1),
        Concerted(None, 64500, "Cheap", 9, 31, (), 0, 1),
        Concerted("203.0.113.0/24", None, None, 37, 112, ("root",), 4, 2),
        Targeted("root", 48, 96, exists=True),
        Targeted("oracle", 48, 96, exists=False),
        Roaming(1, "192.0.2.1", ("sshd", "exim")),
        Roaming(5, "192.0.2.1", ("sshd", "exim", "recidive")),
        Restarted(2, at(19, 4)),
        FirstDigest(),
        replace(own, host="web3"),
        replace(own, why="login", near=None, user="anna", host="web3"),
        OwnBanOver("sshd", "192.0.2.7", 1, at(19, 8), at(19, 9), "friend", "192.0.2.0/24", None, host="web3"),
        JailSilent("sshd", 40.0, at(17, 3), 'known_quiet = ["sshd"]', host="web3"),
        Fail2banDown(4, 412.0, at(18, 3), host="web3"),
        Surge("sshd", 400, 40.0, 38, host="web3"),
        Drop("sshd", 4, 40.0, 38, host="web3"),
        *facts_of_hosts(),
        Concerted("203.0.113.0/24", None, None, 37, 112, ("root",), 4, 2, hosts=9),
        Targeted("oracle", 48, 96, exists=False, hosts=9),
    )  # fmt: skip
    return tuple(with_commands(fact, start=START, report="daily") for fact in every)


def every_advice() -> tuple[Increment | Recidive | Block, ...]:
    """Return an advice of each kind."""
    return (
        Increment(140, 31, 412, ("[DEFAULT]", "bantime.increment = true")),
        Recidive(12, 5, 96, ("[recidive]", "enabled = true")),
        Block("203.0.113.0/24", 37, 112, ("fail2ban-client set recidive banip 203.0.113.0/24",)),
    )
