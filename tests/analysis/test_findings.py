"""What a digest says first, and advises: each rule, by what an admin would want of it. No text, and no store, here."""

import shlex
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from f2b_digest.analysis import Inputs, OwnAddresses, Proxies, analyse
from f2b_digest.analysis.next_steps import with_commands
from f2b_digest.analysis.verdict import STANDS_OUT
from f2b_digest.model.advice import Block
from f2b_digest.model.bans import Chosen, Rebans
from f2b_digest.model.baseline import Baseline, Quiet
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import (
    Address,
    Campaign,
    Digest,
    Jail,
    Reconciliation,
    Several,
    Totals,
    Undelivered,
    User,
    Users,
)
from f2b_digest.model.document import from_json, to_json
from f2b_digest.model.facts import (
    Concerted,
    Drop,
    Fact,
    JailSilent,
    JailStopped,
    NotDelivered,
    Surge,
    Targeted,
)
from f2b_digest.model.finding import Finding
from f2b_digest.model.host_context import HostContext, Login, Proxy
from f2b_digest.model.told import Told
from tests.support import samples

START = datetime(2026, 11, 18, 6, tzinfo=UTC)
END = datetime(2026, 11, 19, 6, tzinfo=UTC)
T0, T1 = START.timestamp(), END.timestamp()
HOUR = 3600.0
STEADY = (40,) * 28


def digest(bans: int = 40, **fields: Any) -> Counts:
    """Return a day of a jail `sshd` with this many bans, the last an hour before the end."""
    end = fields.get("end", END)
    last = Address("192.0.2.1", 1, 5, end - timedelta(hours=2), end - timedelta(hours=1), 600, None)
    jails = (Jail("sshd", bans, bans, bans, worst=(last,)),) if bans else ()
    totals = Totals(bans, bans, len(jails), bans)
    return replace(Counts(START, END, totals, jails), **fields)


def baseline(*names: str, last: float = T0 - 60, daily: tuple[int, ...] = STEADY) -> Baseline:
    """Return jails that banned alike each day."""
    jails = names or ("sshd",)
    total = tuple(count * len(jails) for count in daily)
    quiet = Quiet(last, daily, (2 * 86400 / max(daily),) * 31) if last <= T1 - 20 * HOUR else None
    return Baseline(
        dict.fromkeys(jails, daily), total, dict.fromkeys(jails, quiet) if quiet else {}, dict.fromkeys(jails, last),
        dict.fromkeys(jails, daily[0]), total[0],
    )  # fmt: skip


def inputs(known: Baseline | None = None, rebans: dict[str, Any] | None = None, **fields: Any) -> Inputs:
    """Return what is known beside a digest: a jail like ever, nothing else."""
    none: dict[str, Any] = {"spared": 0, "spared_addresses": 0, "frequent": 0, "frequent_bans": 0, "prolonged": False}
    return Inputs(known or baseline(), Rebans(**none | (rebans or {})), **fields)


def facts(issue: Counts, known: Inputs) -> list[Any]:
    """Return the facts of some counts, which survive the archive."""
    judged = analyse(issue, known)
    archived = Digest("daily", "web1", "UTC", START, END, issue.totals, facts=judged.facts, advice=judged.advice)
    assert from_json(to_json(archived)) == archived
    return list(judged.facts)


def kinds(issue: Counts, known: Inputs) -> list[str]:
    """Return the facts' kinds."""
    return [fact.kind for fact in facts(issue, known)]


def test_a_usual_day_has_no_facts_and_is_compared() -> None:
    """The numbers beside it are those of the days before."""
    judged = analyse(digest(), inputs())
    assert (judged.facts, judged.advice) == ((), ())
    assert (judged.compared.before, judged.compared.usual, judged.compared.periods) == (40, 40.0, 28)
    assert judged.by_jail["sshd"] == (40, 40.0)


@pytest.mark.parametrize(
    ("bans", "own", "expected"),
    [(40, False, "quiet"), (400, False, "stands_out"), (40, True, "needs_attention"), (400, True, "needs_attention")],
)
def test_a_digest_has_a_verdict(bans: int, own: bool, expected: str) -> None:
    """An own address needs attention, whatever else there is; ten times the usual bans stand out."""
    chosen = [Chosen("sshd", "198.51.100.7", 1, T1 - 60, T1 + 3600)] if own else []
    assert analyse(digest(bans), inputs(host_context=SIDE, own_bans=chosen)).verdict == expected


def test_a_day_far_beyond_the_usual_is_never_quiet_though_it_was_no_news() -> None:
    """The second day of a flood is not a surge any more: one of the days before was as high."""
    judged = analyse(digest(140_000), inputs(baseline(daily=(140_000, *STEADY[1:]))))
    assert (judged.facts, judged.verdict) == ((), "stands_out")


# ---- an own address

SIDE = HostContext(
    own=(ip_network("198.51.100.7"), ip_network("10.0.0.0/8")),
    friends=(ip_network("2001:db8:1::/48"),),
    ignored=(ip_network("127.0.0.0/8"), ip_network("203.0.113.9"), ip_network("2001:db8:9::1"), ip_network("::1")),
    logins=(
        Login("192.0.2.44", "ann", T0 + 60),
        Login("192.0.2.45", "bob", T0 - 60),
        Login("192.0.2.46", "old", T0 - 4 * 86400),
        Login("10.1.1.1", "eve", T0),
        Login("203.0.113.77", "zoe", T0),
    ),
)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("198.51.100.7", ("own", "198.51.100.7", None)),
        ("10.1.1.1", ("own", "10.0.0.0/8", None)),
        ("198.51.100.0/24", ("own", "198.51.100.7", None)),
        ("196.0.0.0/6", ("own", "198.51.100.7", None)),
        ("203.0.113.77", ("login", None, "zoe")),
        ("2001:db8:1:2::3", ("friend", "2001:db8:1::/48", None)),
        ("192.0.2.44", ("login", None, "ann")),
        ("::ffff:192.0.2.44", ("login", None, "ann")),
        ("203.0.113.9", ("ignored", "203.0.113.9", None)),
        ("203.0.113.200", ("ignored", "203.0.113.9", None)),
        ("2001:db8:9::abcd", ("ignored", "2001:db8:9::1", None)),
        ("127.0.0.1", ("ignored", "127.0.0.0/8", None)),
        ("::2", None),
        ("192.0.2.45", ("login", None, "bob")),  # a period may begin with its first ban
        ("192.0.2.46", None),
        ("198.51.100.8", None),
        ("2001:db8:2::1", None),
        ("ann", None),
        ("", None),
        ("198.51.100.7; reboot", None),
        ("1/2/3", None),
    ],
)
def test_whose_address_it_is(ip: str, expected: tuple[str, ...] | None) -> None:
    """Own, a friend's, somebody's who logged in, beside an ignored one; the quick answer agrees with the long one."""
    side = OwnAddresses(SIDE, T0, T1)
    assert side.find(ip) == expected
    assert side.holds(ip) == (expected is not None)


def test_a_wide_network_of_ones_own_is_not_lost_in_the_quick_answer() -> None:
    """Whatever the first number."""
    side = OwnAddresses(HostContext(friends=(ip_network("0.0.0.0/0"), ip_network("::/3"))), T0, T1)
    assert side.holds("203.0.113.1")
    assert side.holds("1fff::1")
    assert not side.holds("2001:db8::1")


def test_an_own_address_that_is_banned_is_told_with_what_unbans_it() -> None:
    """Once per jail, the newest first, and quoted for a shell: a jail's name may be anything."""
    jail = "x'; touch /tmp/pwned #"
    rows = [
        Chosen("sshd", "192.0.2.44", 2, T0 + 60, T1 + HOUR),
        Chosen(jail, "198.51.100.7", 1, T0 + 3600, None),
        Chosen("sshd", "192.0.2.44", 1, T0, T1),
        Chosen("sshd", "192.0.2.99", 1, T0, None),
    ]
    first, second = facts(digest(), inputs(host_context=SIDE, own_bans=rows))
    assert first.kind == second.kind == "own"
    assert shlex.split(first.unban) == ["fail2ban-client", "set", jail, "unbanip", "198.51.100.7"]
    assert (second.ip, second.why, second.user, second.bans) == ("192.0.2.44", "login", "ann", 2)
    assert second.until == END + timedelta(hours=1)


def test_a_ban_of_ones_own_that_is_over_is_news() -> None:
    """It ended in the period, by its time or by an unban; one of unknown length may hold still."""
    over = Chosen("sshd", "198.51.100.7", 1, T0 + 3600, T0 + 4200)
    lifted = Chosen("postfix", "198.51.100.7", 1, T0 + 3600, T0 + 4000, unbanned=True)
    unknown = Chosen("web", "198.51.100.7", 1, T0 + 3600, None)
    told = facts(digest(), inputs(host_context=SIDE, own_bans=[over, lifted, unknown]))
    assert [(fact.kind, fact.jail) for fact in told] == [("own", "web"), ("own_over", "sshd"), ("own_over", "postfix")]
    assert told[1].until == START + timedelta(seconds=4200)


CDN = Proxy(ip_network("162.158.0.0/15"), "Cloudflare", "CF-Connecting-IP")
TRUSTED = Proxy(ip_network("10.7.0.0/16"), "nginx", "X-Forwarded-For", own=True)


@pytest.mark.parametrize(
    ("addresses", "bans", "of", "told"),
    [(5, 5, 1000, True), (4, 4, 1000, False), (1, 3, 60, True), (1, 2, 60, False), (1, 1, 1, False), (2, 2, 40, True)],
)
def test_a_jail_that_bans_a_cdn_is_told(addresses: int, bans: int, of: int, told: bool) -> None:
    """Five of its addresses, or two bans that are a twentieth of the jail's."""
    rows = [Chosen("sshd", f"162.158.7.{n}", 1 + (bans - addresses if n == 0 else 0), T0, T1) for n in range(addresses)]
    known = inputs(baseline(daily=(of,) * 28), host_context=HostContext(proxies=(CDN,)), proxy_bans=rows)
    assert kinds(digest(of), known) == ["proxy"] * told


def test_a_ban_of_what_the_web_server_trusts_is_told_with_what_mends_it() -> None:
    """Once is enough; what fail2ban ignores already stays in its line."""
    context = HostContext(proxies=(TRUSTED, CDN), ignored=(ip_network("203.0.113.9"), ip_network("127.0.0.0/8")))
    rows = [Chosen("sshd", "10.7.0.1", 1, T0, T1), Chosen("sshd", "162.158.7.1", 1, T0, T1)]
    (fact,) = facts(digest(), inputs(host_context=context, proxy_bans=rows))
    assert (fact.kind, fact.jail, fact.name, fact.addresses, fact.of) == ("proxy", "sshd", "nginx", 1, 40)
    assert (fact.header, fact.line) == ("X-Forwarded-For", "ignoreip = 127.0.0.1/8 ::1 203.0.113.9/32 10.7.0.0/16")


@pytest.mark.parametrize(
    ("ip", "name"),
    [("162.159.255.255", "Cloudflare"), ("162.160.0.1", None), ("10.7.3.4", "nginx"), ("162.158.0.0/24", None),
     ("x", None), ("::ffff:162.158.0.1", "Cloudflare")],
)  # fmt: skip
def test_whose_proxy_it_is(ip: str, name: str | None) -> None:
    """An address of a network; a network that is banned by hand may hold others."""
    found = Proxies(HostContext(proxies=(TRUSTED, CDN))).find(ip)
    assert (found and found.name) == name


def test_a_banned_office_does_not_fill_the_digest() -> None:
    """Twenty of two hundred."""
    rows = [Chosen("sshd", f"10.0.0.{last}", 1, T0 + last, None) for last in range(200)]
    told = facts(digest(), inputs(host_context=SIDE, own_bans=rows))
    assert [fact.ip for fact in told if fact.kind == "own"] == [f"10.0.0.{last}" for last in range(199, 179, -1)]


# ---- silent, stopped, down


def test_a_silent_jail_is_told_while_another_bans() -> None:
    """With its last ban."""
    (fact,) = facts(digest(), inputs(baseline("sshd", "postfix")))
    assert (fact.kind, fact.jail, fact.usual, fact.last) == ("silent", "postfix", 40.0, START - timedelta(minutes=1))


def test_one_jail_that_is_silent_is_not_fail2ban_that_is_down() -> None:
    """Nobody knows more than that, with a single jail."""
    assert kinds(digest(0), inputs()) == ["silent"]


def test_a_night_without_bans_is_no_silence() -> None:
    """Of an hourly report, ten hours after the last ban of a jail that has hundreds a day."""
    known = baseline("sshd", "postfix", last=T1 - 10 * HOUR, daily=(400,) * 28)
    assert kinds(digest(start=END - timedelta(hours=1)), inputs(replace(known, windows={}, all=()))) == []


def test_a_silence_after_hours_without_fail2ban_is_not_told() -> None:
    """The host was off for a day; a restart of a minute excuses nothing."""
    known = baseline("sshd", "postfix", last=T0 - 60)
    off = {"postfix": (("start", T0 - 9e5), ("stop", T0), ("start", T1 - 2 * HOUR))}
    assert kinds(digest(), inputs(known, starts_and_stops=off | {"a": (), "b": ()})) == []
    night = {"postfix": (("start", T0 - 9e5), ("stop", T1 - 2 * HOUR), ("start", T1 - 2 * HOUR + 60))}
    assert kinds(digest(), inputs(known, starts_and_stops=night | {"a": (), "b": ()})) == ["silent"]


def told(days: float, **fact: Any) -> Told:
    """Return a daily digest of this many days before, with one fact."""
    return Told("daily", T1 - days * 24 * HOUR, [fact])


SILENT = {"kind": "silent", "jail": "postfix", "last": (START - timedelta(minutes=1)).isoformat()}


@pytest.mark.parametrize(
    ("days", "again"),
    [
        ((), True),
        ((1,), True),
        ((1, 2), True),
        ((1, 2, 3), False),
        ((6, 7, 8), False),
        ((7, 8, 9), True),
        ((0.2,), False),
    ],
)
def test_a_silence_is_told_for_three_days_and_then_by_the_week(days: tuple[float, ...], again: bool) -> None:
    """By what the report itself told of this silence; a report of each hour tells it by the day, too."""
    earlier = [told(day, **SILENT) for day in days]
    others = [replace(told(1, **SILENT), report="weekly"), told(1, **SILENT | {"last": "2026-10-01T00:00:00+00:00"})]
    known = inputs(baseline("sshd", "postfix"), report="daily", told=[*earlier, *others])
    assert kinds(digest(), known) == ["silent"] * again


def test_a_jail_that_is_known_to_be_quiet_is_taken_out_by_the_line_of_the_digest() -> None:
    """The line is TOML, and holds those that are taken out already."""
    known = inputs(baseline("sshd", 'post"fix'), known_quiet=frozenset({"old"}))
    (fact,) = facts(digest(), known)
    assert tomllib.loads(fact.line) == {"known_quiet": ["old", 'post"fix']}
    assert kinds(digest(), replace(known, known_quiet=frozenset({"old", 'post"fix'}))) == []


def test_a_jail_that_comes_back_has_no_drop() -> None:
    """It had few bans because it was silent, which was reported."""
    silent = {"kind": "silent", "jail": "sshd", "last": (START - timedelta(minutes=1)).isoformat()}
    assert kinds(digest(4), inputs()) == ["drop"]
    assert kinds(digest(4), inputs(report="daily", told=[told(1, **silent)])) == []


STOPPED = {"sshd": (("start", T0 - 9e5),), "postfix": (("start", T0 - 9e5), ("stop", T0 + HOUR))}


def test_a_stopped_jail_is_told_once() -> None:
    """In the digest of the stop; the next one is silent about it, in both senses."""
    known = baseline("sshd", "postfix")
    (fact,) = facts(digest(), inputs(known, starts_and_stops=STOPPED))
    assert (fact.kind, fact.jail, fact.since) == ("stopped", "postfix", START + timedelta(hours=1))
    day = timedelta(days=1)
    later = digest(start=START + day, end=END + day)
    assert kinds(later, inputs(known, starts_and_stops=STOPPED)) == []


@pytest.mark.parametrize(
    ("events", "running"),
    [
        ((("start", T0 - 9e5), ("stop", T1 - 60)), None),
        ((("stop", T0 + HOUR), ("start", T0 + HOUR + 5)), None),
        ((("start", T0 - 9e5), ("stop", T1 - 2 * HOUR)), ("sshd", "postfix")),
    ],
    ids=["a minute ago", "started again", "runs"],
)
def test_a_restart_is_no_stop(events: tuple[tuple[str, float], ...], running: tuple[str, ...] | None) -> None:
    """Under way, done, or done without a word."""
    known = baseline("sshd", "postfix", last=T1 - 3 * HOUR)
    told = inputs(
        known, starts_and_stops={"sshd": (), "postfix": events, "c": ()}, host_context=HostContext(running=running)
    )
    assert kinds(digest(), told) == []


def test_a_stop_minutes_before_a_digest_is_told_by_the_next() -> None:
    """What may be a restart that is under way, and was none, is not lost between two digests."""
    stopped = STOPPED | {"postfix": (("stop", T0 - 60),)}
    assert kinds(digest(), inputs(baseline("sshd", "postfix"), starts_and_stops=stopped)) == ["stopped"]


def test_a_jail_that_fail2ban_does_not_run_any_more_is_stopped() -> None:
    """It was started, and its end was not recorded: fail2ban crashed, and came back without it."""
    told = inputs(
        baseline("sshd", "vsftpd", daily=(1,) * 28),
        starts_and_stops={"sshd": (("start", T0 - 9e5),), "vsftpd": (("start", T0 - 9e5),)},
        host_context=HostContext(running=("sshd",)),
    )
    assert kinds(digest(bans=1), told) == ["stopped"]
    assert kinds(digest(bans=1), replace(told, complete=False)) == []


@pytest.mark.parametrize("bans", [0, 40])
def test_fail2ban_that_does_not_answer_is_down(bans: int) -> None:
    """One fact for all jails, whatever was banned before."""
    told = inputs(baseline("sshd", "postfix"), host_context=HostContext(running=()))
    (fact,) = facts(digest(bans), told)
    assert (fact.kind, fact.jails) == ("down", 2)
    assert kinds(digest(40), replace(told, complete=False)) == ["silent"]


def test_fail2ban_that_bans_just_now_is_not_down() -> None:
    """It may run in a container, which the program that asks it does not look into."""
    told = inputs(baseline("sshd", last=T1 - 600), host_context=HostContext(running=()))
    assert "down" not in kinds(digest(0), told)


def test_fail2ban_is_down_where_all_jails_were_stopped() -> None:
    """Also after a day with bans; not while it restarts."""
    stops = {"sshd": (("stop", T1 - HOUR / 2),), "postfix": (("stop", T1 - HOUR / 2),)}
    known = baseline("sshd", "postfix")
    assert kinds(digest(), inputs(known, starts_and_stops=stops)) == ["down"]
    removed = replace(known, last={**known.last, "old": T0 - 3e7})
    assert kinds(digest(), inputs(removed, starts_and_stops=stops)) == ["down"]
    restarting = {**stops, "sshd": (("stop", T1 - 10),)}
    assert "down" not in kinds(digest(), inputs(known, starts_and_stops=restarting))


def test_quiet_jails_that_are_silent_together_are_down() -> None:
    """None of six is busy enough to be missed alone."""
    names = ("a", "b", "c", "d", "e", "f")
    quiet = baseline(*names, daily=(6,) * 28)
    assert kinds(digest(0), inputs(quiet)) == ["down"]
    assert kinds(digest(0), inputs(baseline("a", daily=(6,) * 28))) == []


def test_a_removed_jail_does_not_keep_the_others_from_being_missed() -> None:
    """It banned a year ago for the last time."""
    known = baseline("a", "b", "c", "d", "e", "f", daily=(6,) * 28)
    known = replace(known, last={**known.last, "old": T0 - 3e7})
    (fact,) = facts(digest(0), inputs(known))
    assert (fact.kind, fact.jails) == ("down", 6)


# ---- the other calls


def test_what_was_not_recorded_not_delivered_and_late_is_told_in_this_order() -> None:
    """After the bans of one's own and the silence, before the news."""
    row = Undelivered(7, START, "mail", "ann@example.org", "failed", "550 no such user")
    known = inputs(
        waits_since=T0 - 2 * 86400,
        every=86400.0,
        reconciliation=Reconciliation(500, 40, 3, ("postfix",)),
        undelivered=(replace(row, digest=9, status="deferred"), row),
    )
    told = facts(digest(500), known)
    assert [fact.kind for fact in told] == ["unrecorded", "undelivered", "late", "surge"]
    assert (told[1].deliveries, told[1].failed, told[1].digest) == (2, 1, 7)
    assert kinds(digest(), inputs(reconciliation=Reconciliation(40, 40, 0))) == []


@pytest.mark.parametrize(("hours", "late"), [(24, False), (36, False), (48, True)])
def test_a_daily_digest_is_late_after_a_day_that_was_left_out(hours: int, late: bool) -> None:
    """A morning run by hand, or an hour's delay, is not lateness."""
    known = inputs(waits_since=T1 - hours * HOUR, every=86400.0)
    assert kinds(digest(), known) == ["late"] * late
    assert kinds(digest(), replace(known, complete=False)) == []


# ---- news


def test_a_jail_that_surges_is_told_instead_of_the_total() -> None:
    """And the total where no jail is to blame."""
    (fact,) = facts(digest(400), inputs())
    assert (fact.kind, fact.jail, fact.bans, fact.usual, fact.before) == ("surge", "sshd", 400, 40.0, 40)
    new = tuple(Jail(f"jail{number}", 50, 50, 50) for number in range(4))
    issue = digest(40)
    issue = replace(issue, jails=(*issue.jails, *new), totals=Totals(240, 240, 5, 0))
    known = baseline()
    known = replace(known, last={**known.last, **{jail.name: T0 - 9e6 for jail in new}})
    (fact,) = facts(issue, inputs(known))
    assert (fact.kind, fact.jail, fact.bans) == ("surge", None, 240)


def test_a_new_jail_is_news_but_not_in_the_first_digest() -> None:
    """Nor is one that last banned a year ago."""
    issue = replace(digest(), jails=(*digest().jails, Jail("nginx", 2, 2, 2)))
    assert kinds(issue, inputs()) == ["new_jail"]
    assert kinds(issue, inputs(replace(baseline(), last={"sshd": T0 - 60, "nginx": T0 - 3e7}))) == []
    assert kinds(issue, inputs(Baseline({}, (), {}, {}), first=True)) == ["first"]
    assert kinds(issue, inputs(Baseline({}, (17,), {}, {}, {"sshd": 17}, 17), first=True)) == []
    assert kinds(issue, inputs(first=True)) == []


CAMPAIGN = Campaign("203.0.113.0/24", 64500, "Example", "FR", 40, 90, 450, ("sshd",), ("root",), 0, ("203.0.113.0/26",))


@pytest.mark.parametrize(
    ("addresses", "before", "told"),
    [
        (40, (0,) * 28, True),
        (9, (0,) * 28, False),
        (40, (25,) * 28, False),
        (50, (25,) * 28, True),
        (50, (25,) * 27 + (32,), False),
        (40, (0,) * 3, False),
        (40, (0, 21, 0, 0), False),
        (40, (0, 20, 0, 0), True),
    ],
)
def test_a_campaign_is_news_where_it_is_unusual_for_its_network(
    addresses: int, before: tuple[int, ...], told: bool
) -> None:
    """Ten addresses, twice the median and 1.6 times the highest of 28 periods; of few periods, twice the highest."""
    campaign = replace(CAMPAIGN, addresses=addresses)
    known = inputs(networks={("203.0.113.0/24", None): before})
    assert kinds(digest(campaigns=(campaign,)), known) == ["campaign"] * told


def test_a_campaign_of_a_fleet_must_be_further_away() -> None:
    """As surges: by half with ten times the jails, or a fleet's digest would have such news by chance."""
    known = inputs(networks={("203.0.113.0/24", None): (20,) * 27 + (25,)})
    for addresses, judged, told in ((45, 10, True), (45, 100, False), (61, 100, True)):
        campaign = replace(CAMPAIGN, addresses=addresses)
        assert kinds(digest(campaigns=(campaign,)), replace(known, judged=judged)) == ["campaign"] * told


def test_a_campaign_is_news_where_it_is_tight_in_time_or_tries_accounts() -> None:
    """Whatever is usual: twenty addresses of a network within three hours, or ten that try who can log in here."""
    known = inputs(networks={("203.0.113.0/24", None): (40,) * 28})
    for more in ({"tight": 20, "tight_from": START}, {"on_accounts": 10}):
        campaign = replace(CAMPAIGN, first=START, last=END, **more)
        (fact,) = facts(digest(campaigns=(CAMPAIGN, campaign), campaigns_in_all=9), known)
        assert (fact.kind, fact.network, fact.addresses, fact.campaigns) == ("campaign", "203.0.113.0/24", 40, 9)
        assert (fact.first, fact.last, fact.usual) == (START, END, 40.0)
    number = replace(CAMPAIGN, network=None, tight=90)
    assert kinds(digest(campaigns=(number,)), known) == []


@pytest.mark.parametrize(("size", "days", "again"), [(40, 1, False), (24, 1, True), (40, 29, False), (40, 31, True)])
def test_a_campaign_that_was_told_is_news_again_when_it_has_grown(size: int, days: float, again: bool) -> None:
    """By 1.6 times, or after a month."""
    campaign = replace(CAMPAIGN, tight=20)
    earlier = told(days, kind="campaign", network="203.0.113.0/24", asn=64500, addresses=size)
    assert kinds(digest(campaigns=(campaign,)), inputs(report="daily", told=[earlier])) == ["campaign"] * again


@pytest.mark.parametrize(
    ("name", "addresses", "of", "exists", "told"),
    [
        ("backoffice7", 500, 600, False, True),
        ("root", 60, 100, True, False),
        ("root", 500, 500, True, False),
        ("admin", 30, 100, False, False),
        ("admin", 500, 600, False, True),
        ("alice", 12, 200, True, True),
        ("alice", 12, 2000, True, True),
        ("solana7", 30, 2000, False, False),
        ("alice", 9, 20, True, False),
    ],
)
def test_one_name_that_many_addresses_try_is_news(name: str, addresses: int, of: int, exists: bool, told: bool) -> None:
    """Not what everybody tries everywhere: root, and the lists that guessers go through."""
    user = User(name, addresses, addresses, exists)
    issue = digest(of, users=Users(40, of, (user,), (user,) if exists else ()))
    known = inputs(baseline(daily=(of,) * 28))
    assert kinds(issue, known) == ["target"] * told


def test_addresses_in_several_jails_are_news_where_they_are_many_or_one_roams_far() -> None:
    """Five that are a tenth of all, or three jails; and not again within a month."""
    three = Several("192.0.2.1", ("sshd", "postfix", "nginx"), 9)
    (fact,) = facts(digest(several=(three,), several_in_all=1), inputs())
    assert (fact.kind, fact.jails) == ("roaming", ("sshd", "postfix", "nginx"))
    pair = Several("192.0.2.1", ("sshd", "postfix"), 9)
    assert kinds(digest(several=(pair,), several_in_all=4), inputs()) == []
    assert kinds(digest(200, several=(pair,), several_in_all=19), inputs(baseline(daily=(200,) * 28))) == []
    issue = digest(several=(pair, pair, pair), several_in_all=7)
    (fact,) = facts(issue, inputs())
    assert (fact.kind, fact.addresses) == ("roaming", 7)
    assert kinds(issue, inputs(report="daily", told=[told(9, kind="roaming", addresses=5)])) == []


def test_a_restart_of_all_jails_is_one_and_that_of_one_jail_is_none() -> None:
    """Three jails start within seconds, after a crash and after an hour's downtime; one of them alone once more."""
    starts: dict[str, tuple[tuple[str, float], ...]] = {
        jail: (("start", T0 - 9e5), ("start", T0 + at), ("stop", T0 + 60), ("start", T0 + HOUR + at))
        for at, jail in enumerate("abc")
    }
    starts["a"] += (("start", T0 + 3 * HOUR),)
    known = replace(baseline(), last={"sshd": T0 - 60})
    (fact,) = facts(digest(), inputs(known, starts_and_stops=starts))
    assert (fact.kind, fact.times, fact.last) == ("restart", 2, START + timedelta(seconds=3602))


@pytest.mark.parametrize(
    "events",
    [
        (("start", T0 + HOUR),),
        (("start", T0 - 9e5), ("stop", T0 + HOUR), ("start", T0 + HOUR + 20)),
        (("stop", T0 + HOUR), ("stop", T0 + HOUR + 1), ("start", T0 + HOUR + 2), ("start", T0 + HOUR + 3)),
    ],
    ids=["the first start of all", "a stop and a start", "told by the action and by the log"],
)
def test_a_restart_by_setup_or_by_hand_is_no_news(events: tuple[tuple[str, float], ...]) -> None:
    """Who restarts it knows that: neither a restart nor a stop is reported."""
    known = baseline("sshd")
    told = inputs(known, starts_and_stops={"sshd": events[1:] or (), "a": events, "b": events, "c": events})
    assert kinds(digest(), told) == []


# ---- advice


def test_longer_bans_are_advised_where_they_would_spare_many() -> None:
    """Not where ban times grow already, nor for a handful."""
    rebans = {"spared": 25, "spared_addresses": 4}
    (advice,) = analyse(digest(), inputs(rebans=rebans)).advice
    assert (advice.kind, advice.lines) == ("increment", ("[DEFAULT]", "bantime.increment = true"))
    assert analyse(digest(), inputs(rebans=rebans | {"prolonged": True})).advice == ()
    assert analyse(digest(), inputs(rebans=rebans, host_context=HostContext(increments=True))).advice == ()
    assert analyse(digest(), inputs(rebans=rebans | {"spared": 19})).advice == ()
    assert analyse(digest(300), inputs(rebans=rebans)).advice == ()


def test_a_recidive_jail_is_advised_where_there_is_none() -> None:
    """Neither in the digest, nor before, nor running."""
    rebans = {"frequent": 3, "frequent_bans": 18}
    (advice,) = analyse(digest(), inputs(rebans=rebans)).advice
    assert (advice.kind, advice.bans) == ("recidive", 18)
    running = HostContext(running=("sshd", "recidive"))
    assert analyse(digest(), inputs(rebans=rebans, host_context=running)).advice == ()
    known = replace(baseline(), last={"sshd": T0 - 60, "recidive-long": T0 - 9e6})
    assert analyse(digest(), inputs(known, rebans)).advice == ()
    assert analyse(digest(200), inputs(baseline(daily=(200,) * 28), rebans)).advice == ()


@pytest.mark.parametrize(("days", "again"), [(1, False), (29, False), (31, True)])
def test_an_advice_is_given_once_a_month(days: float, again: bool) -> None:
    """Whatever else the report told meanwhile."""
    earlier = [Told("daily", T1 - days * 24 * HOUR, (), ({"kind": "recidive"},)), Told("weekly", T1 - HOUR, (), ())]
    known = inputs(rebans={"frequent": 3, "frequent_bans": 18}, report="daily", told=earlier)
    assert [advice.kind for advice in analyse(digest(), known).advice] == ["recidive"] * again


def test_a_network_is_blocked_by_a_line_that_is_safe_to_type() -> None:
    """Unless somebody of one's own is in it, or it is none."""
    hostile = replace(CAMPAIGN, jails=("-h; reboot",))
    (advice,) = analyse(digest(campaigns=(hostile,)), inputs()).advice
    assert advice.kind == "block"
    assert shlex.split(advice.lines[0]) == ["fail2ban-client", "set", "-h; reboot", "banip", "203.0.113.0/24"]
    assert advice.lines[1] == "ip route add blackhole 203.0.113.0/24"
    (advice,) = analyse(digest(campaigns=(CAMPAIGN,)), inputs()).advice
    assert isinstance(advice, Block)
    assert advice.bantime == 600
    assert analyse(digest(campaigns=(CAMPAIGN,)), inputs(host_context=SIDE)).advice == ()
    for campaign in (replace(CAMPAIGN, addresses=15), replace(CAMPAIGN, bans=47), replace(CAMPAIGN, network=None)):
        assert analyse(digest(campaigns=(campaign,)), inputs()).advice == ()


# ---- hostile numbers


@pytest.mark.parametrize("number", [0, 1, 2**62, 2**70])
@pytest.mark.parametrize("at", [0.0, -1e9, 9e18, float("inf")])
def test_no_number_ends_the_judgement(number: int, at: float) -> None:
    """Counts beyond what SQLite sums, and times before and after the calendar."""
    quiet = {jail: Quiet(at, (number, 0, 1) * 9, (abs(at), *(60.0,) * 30)) for jail in ("sshd", "x")}
    known = Baseline({"sshd": (number, 0) * 14}, (number, 0) * 14, quiet, {"sshd": at, "x": at}, {"sshd": number}, 1)
    told = inputs(
        known,
        starts_and_stops={"sshd": (("start", at), ("stop", at)), "x": (("start", at),)},
        own_bans=[Chosen("sshd", "10.0.0.1", number, at, at)],
        host_context=SIDE,
        waits_since=at,
        every=at,
    )
    for bans in (0, number):
        issue = digest(bans)
        assert analyse(issue, told)
        assert analyse(replace(issue, start=END), told)


@pytest.mark.parametrize("fact", samples.every_fact())
def test_no_finding_without_a_consequence(fact: Fact) -> None:
    """Each that needs attention or stands out has a line to act on; what is reported in passing needs none."""
    lines = (*getattr(fact, "commands", ()), getattr(fact, "unban", ""), getattr(fact, "line", ""))
    assert any(lines) == (fact.needs_you or fact.kind in STANDS_OUT)


NAME = "x; rm -rf 'y'"
COMMANDS: list[tuple[Fact, list[str]]] = [
    (JailStopped(NAME, START, None), ["fail2ban-client", "reload", "--if-exists", NAME]),
    (JailSilent(NAME, 40.0, None), ["fail2ban-client", "status", NAME]),
    (Drop(NAME, 1, 40.0, None), ["fail2ban-client", "status", NAME]),
    (Drop(None, 1, 40.0, None), ["fail2ban-client", "status"]),
    (Surge(NAME, 400, 40.0, None), ["f2b-digest", "find", NAME, "--since", "2026-11-18"]),
    (Surge(None, 400, 40.0, None), ["f2b-digest", "history", "daily"]),
    (NotDelivered(2, 0, 41, NAME, "x", "y"), ["f2b-digest", "status"]),
    (NotDelivered(2, 1, 41, NAME, "x", "y"), ["f2b-digest", "resend", "41", "--channel", NAME]),
    (Targeted(NAME, 9, 9, exists=True), ["f2b-digest", "find", NAME]),
    (Targeted("--json", 9, 9, exists=True), ["f2b-digest", "find", "--", "--json"]),
    (Concerted(None, 64500, None, 9, 9, (), 0, 1), ["f2b-digest", "find", "AS64500"]),
    (Concerted("203.0.113.0/24", None, None, 9, 9, (), 0, 1), ["f2b-digest", "find", "203.0.113.0/24"]),
]


@pytest.mark.parametrize(("fact", "words"), COMMANDS)
def test_a_command_is_quoted_for_a_shell(fact: Fact, words: list[str]) -> None:
    """An attacker's name is one word, and no option."""
    found = with_commands(fact, start=START, report="daily")
    assert isinstance(found, Finding)
    assert [shlex.split(line) for line in found.commands] == [words]


def test_a_delivery_that_was_given_up_is_the_one_to_send_again() -> None:
    """Although an older one is still being tried."""
    rows = (
        Undelivered(3, START, "phone", "nas", "deferred", "refused"),
        Undelivered(4, START, "mail", "anna", "failed", "unknown user"),
    )
    (fact,) = facts(digest(), inputs(undelivered=rows))
    assert (fact.digest, fact.commands) == (4, ("f2b-digest resend 4 --channel mail",))
