"""Every number of a digest can be found again by one SQL query over the table of events, on stores made by chance."""

import itertools
import json
import random
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from f2b_digest.analysis import campaign_rule
from f2b_digest.model.bans import Rebans
from f2b_digest.model.baseline import Baseline, NetworkKey, key_of
from f2b_digest.model.counts import Counts, Most
from f2b_digest.model.digest import Campaign
from f2b_digest.model.host_context import Geography, Place
from f2b_digest.model.selection import Selection
from f2b_digest.store import Store, campaigns
from f2b_digest.store import users as store_users
from tests.support.store_making import Row, event, fill

MOST = {"jails": 4, "addresses": 5}
CAMPAIGN = 3
NIGHT = datetime(2026, 10, 25, 1, tzinfo=ZoneInfo("UTC")).timestamp()
"""Paris sets its clocks back."""
HOUR, DAY = 3600.0, 86400.0
ZONES = ("UTC", "Europe/Paris", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York")
JAILS = ("sshd", "sshd-ddos", "web", "postfix", "it's; --", "ж")
HOSTILE = ("192.0.2.x", "192.0.2.0/24", "192.0.2.300", "192.0.2.07", "192.0.2.1.1", "2001:db8:a1:1::1%eth0",
           "::ffff:192.0.2.9", "2001:db8:a1::/48", "'; DROP TABLE event", "")  # fmt: skip
NAMES = ("root", "admin", "oracle", '"], ["', "ж", "'--")
USERS = frozenset({"root", "'--", "nobody"})


@dataclass(frozen=True)
class Case:
    """A store, a selection of it, what was made of it, and the same selection as SQL."""

    path: Path
    digest: Counts
    baseline: Baseline
    networks: Mapping[NetworkKey, tuple[int, ...]]
    rebans: Rebans
    starts: dict[str, tuple[tuple[str, float], ...]]
    since: float
    windows: list[tuple[float, float]]
    taken: str
    """A condition on a jail's name."""
    values: dict[str, Any]

    def one(self, sql: str, **values: Any) -> tuple[Any, ...]:
        """Return the one row of a query."""
        (row,) = self.all(sql, **values)
        return row

    def all(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        """Run a query over the table `event`; `ban` in it is short for the bans of the selection."""
        ban = (
            f"WITH ban AS (SELECT * FROM event WHERE kind = 'ban' AND history = 0 AND {self.taken} "
            "AND id BETWEEN :first_id AND :last_id AND at >= :since AND at < :until) "
        )
        with closing(sqlite3.connect(self.path)) as connection:
            connection.create_function("local_hour", 1, self._local_hour)
            return connection.execute(ban + sql, {"octets": OCTETS} | self.values | values).fetchall()

    def _local_hour(self, at: float) -> int:
        local = datetime.fromtimestamp(at, self.digest.end.tzinfo)
        return local.weekday() * 24 + local.hour


def rows(chance: random.Random, span: float, prolong: bool) -> Iterator[Row]:
    """Yield events of a period that ends on `NIGHT`, and of the time before, as fail2ban and others leave them."""
    ips = [f"192.0.{n % 3}.{n}" for n in range(30)] + [f"198.51.{n}.7" for n in range(9)]
    ips += [f"2001:db8:a{n % 2}:{n:x}::{n:x}" for n in range(12)] + list(HOSTILE)
    for jail, kind in itertools.product(JAILS[:4], ("start", "stop", "start")):
        yield event(kind, jail=jail, ip="", at=NIGHT - chance.random() * 3 * span)
    for _ in range(400):
        kind = chance.choice(("ban",) * 9 + ("unban", "prolong" if prolong else "unban"))
        history = chance.random() < 0.15
        at = NIGHT - chance.random() * span * (3 if history else 1.1) // 60 * 60
        at += 2 * span * (chance.random() < 0.02)
        jail, ip = chance.choice(JAILS[: chance.randint(1, 6)]), ips[int(chance.random() ** 2 * len(ips))]
        row = event(
            kind, jail=jail, ip=ip, at=at, host=chance.choice(("web1", "web1", "web2")),
            failures=chance.choice((None, 1, 5)), history=history,
            bantime=chance.choice((None, -1, 0, 600, int(span / 4))), users=chance.sample(NAMES, chance.randint(0, 3)),
        )  # fmt: skip
        yield row
        if prolong and kind == "ban" and chance.random() < 0.2:
            yield ("prolong", *row[1:7], int(span), *row[8:])


def make(folder: Path, seed: int) -> Case:
    """Return the case of a seed."""
    chance, path = random.Random(seed), folder / f"{seed}.sqlite3"
    span = (20 * HOUR, 9 * DAY, 60 * DAY, 900 * DAY)[seed % 4]
    fill(path, rows(chance, span, prolong=seed % 7 > 1))
    with closing(sqlite3.connect(path)) as connection:  # what no recorder writes
        connection.execute("""UPDATE event SET users = '["root", "root", 7, null]' WHERE id % 17 = 0""")
        connection.execute("""UPDATE event SET users = '["root"' WHERE id % 23 = 0""")
        connection.commit()
    past, patterns = seed % 3 == 2, (("*",), ("ssh*", "web", "!sshd-ddos"))[seed // 4 % 2]
    selection = Selection(first_id=30, last_id=380, jails=patterns)
    values = {"first_id": 30, "last_id": 380, "since": -9e99, "until": 9e99}
    if past:
        selection = Selection(since=NIGHT - span, until=NIGHT - span / 9, jails=patterns)
        values = {"first_id": 0, "last_id": 10**9, "since": NIGHT - span, "until": NIGHT - span / 9}
    start = None if seed % 5 == 4 else NIGHT - span
    windows = [(NIGHT - (n + 2) * span / 2, NIGHT - (n + 1) * span / 2) for n in range(5)]
    with (
        Store(path, read_only=True) as store,
        store.report(selection, Most(MOST["jails"], MOST["addresses"])) as source,
    ):
        digest = source.counts(
            zone=ZoneInfo(chance.choice(ZONES)), start=start, end=NIGHT, campaigns=campaign_rule(CAMPAIGN),
            users=USERS, geography=Geography("atlas", NIGHT, "free", place),
        )  # fmt: skip
        return Case(
            path, digest,
            source.baseline(windows, patterns, before=NIGHT - span, end=NIGHT, until=NIGHT, quiet_for=0.0),
            source.networks_before(digest.campaigns, windows, patterns, Geography("atlas", NIGHT, "free", place)),
            source.rebans(5),
            dict(source.starts_and_stops(patterns, NIGHT - span)), NIGHT - span, windows,
            "1" if patterns == ("*",) else "(jail GLOB 'ssh*' OR jail = 'web') AND jail <> 'sshd-ddos'", values,
        )  # fmt: skip


def place(ip: str) -> Place | None:
    """Return where an id is registered: 198.51 has one AS number, as has a network that attacks by itself."""
    if ip.startswith(("198.51.", "192.0.1.")):
        return Place("FR", 64500, "Réseau")
    return Place("DE", 64501, None) if ip.startswith("192.0.") else None


@pytest.fixture(scope="module", params=range(16))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Provide one case after the other, of few rows so that some are left out."""
    yield make(tmp_path_factory.mktemp("numbers"), request.param)


KNOWN = "CASE WHEN count(failures) OR NOT count(*) THEN CAST(total(failures) AS INTEGER) END"
SUMS = f"count(*), count(DISTINCT ip), {KNOWN}, count(*) - count(failures)"
NAMED = """EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(users) THEN users ELSE '[]' END) AS user
                   WHERE user.type = 'text' AND user.value = :name)"""
EACH_NAME = "JOIN json_each(CASE WHEN json_valid(users) THEN users ELSE '[]' END) AS user ON user.type = 'text'"


def test_the_totals(case: Case) -> None:
    """Bans, addresses, failures, jails; those who are new, and those who are not."""
    totals, compared = case.digest.totals, case.digest
    seen = (totals.bans, totals.addresses, totals.failures, totals.uncounted)
    assert seen == case.one(f"SELECT {SUMS} FROM ban")
    assert (totals.jails,) == case.one("SELECT count(DISTINCT jail) FROM ban")
    returning = """SELECT count(DISTINCT ip) FROM ban WHERE EXISTS (
        SELECT 1 FROM event WHERE event.kind = 'ban' AND event.ip = ban.ip
        AND event.at < (SELECT min(at) FROM ban AS its WHERE its.ip = ban.ip))"""
    assert (compared.returning,) == case.one(returning)
    assert compared.new + compared.returning == totals.addresses


def test_the_jails_and_what_is_left_out(case: Case) -> None:
    """Each jail's totals, most bans first, and the totals beyond the limits."""
    jails = case.all(f"SELECT jail, {SUMS} FROM ban GROUP BY jail ORDER BY 2 DESC, jail LIMIT :jails", **MOST)
    seen = [(jail.name, jail.bans, jail.addresses, jail.failures, jail.uncounted) for jail in case.digest.jails]
    assert seen == jails
    beyond = """SELECT count(*), coalesce(sum(bans), 0) FROM (
        SELECT count(*) AS bans FROM ban GROUP BY jail ORDER BY bans DESC, jail LIMIT -1 OFFSET :jails)"""
    assert (case.digest.left_out.jails, case.digest.left_out.bans) == case.one(beyond, **MOST)
    within = """SELECT count(*), coalesce(sum(bans), 0) FROM (
        SELECT count(*) AS bans FROM ban WHERE jail = :jail GROUP BY ip
        ORDER BY bans DESC LIMIT -1 OFFSET :addresses)"""
    for jail in case.digest.jails:
        assert (jail.left_out.addresses, jail.left_out.bans) == case.one(within, jail=jail.name, **MOST)


def test_the_addresses(case: Case) -> None:
    """Each shown address's sums, times and names, and since when it is known."""
    for jail in case.digest.jails:
        worst = case.all(
            "SELECT ip FROM ban WHERE jail = :jail GROUP BY ip ORDER BY count(*) DESC, total(failures) DESC, "
            "max(at) DESC, ip LIMIT :addresses", jail=jail.name, **MOST
        )  # fmt: skip
        assert [(address.ip,) for address in jail.worst] == worst
        for address in jail.worst:
            its = {"jail": jail.name, "ip": address.ip}
            sums = f"""SELECT count(*), {KNOWN}, min(at), max(at)
                      FROM ban WHERE jail = :jail AND ip = :ip"""
            seen = (address.bans, address.failures, address.first.timestamp(), address.last.timestamp())
            assert seen == case.one(sums, **its)
            final = """SELECT max(coalesce(
                (SELECT longer.bantime FROM event AS longer WHERE longer.kind = 'prolong' AND longer.jail = ban.jail
                 AND longer.ip = ban.ip AND longer.at = ban.at AND longer.host = ban.host), bantime))
                FROM ban WHERE jail = :jail AND ip = :ip AND at = :last"""
            assert (address.bantime,) == case.one(final, last=address.last.timestamp(), **its)
            names = f"SELECT count(DISTINCT user.value) FROM ban {EACH_NAME} WHERE jail = :jail AND ip = :ip"
            assert (len(address.users) + address.more_users,) == case.one(names, **its)
            assert (address.country, address.asn, address.network) == (place(address.ip) or (None, None, None))
            known = """SELECT min(at) FROM event WHERE kind = 'ban' AND ip = :ip
                       AND at < (SELECT min(at) FROM ban WHERE ip = :ip)"""
            assert (address.known_since and address.known_since.timestamp(),) == case.one(known, **its)


def test_the_ids_of_several_jails(case: Case) -> None:
    """How many there are, and the worst with their jails and bans."""
    rows = case.all("SELECT ip, count(DISTINCT jail) AS jails, count(*) AS bans FROM ban GROUP BY ip HAVING jails > 1 "
                    "ORDER BY jails DESC, bans DESC, ip")  # fmt: skip
    assert case.digest.several_in_all == len(rows)
    assert [(each.ip, len(each.jails), each.bans) for each in case.digest.several] == rows[: store_users.MOST_SEVERAL]
    for each in case.digest.several:
        jails = "SELECT jail FROM ban WHERE ip = :ip GROUP BY jail ORDER BY count(*) DESC, jail"
        assert [(jail,) for jail in each.jails] == case.all(jails, ip=each.ip)


OCTETS = json.dumps([str(n) for n in range(256)])
# In SQL's own words, for the ids of these tests: digits and dots, or the hexadecimal ones below 2001:db8.
PLAIN = """(
    SELECT *, rtrim(ip, '0123456789') || '0/24' AS network FROM ban
    WHERE length(ip) - length(replace(ip, '.', '')) = 3 AND ip NOT GLOB '*[^0-9.]*'
    AND substr(ip, length(rtrim(ip, '0123456789')) + 1) IN (SELECT value FROM json_each(:octets))
    UNION ALL
    SELECT *, substr(ip, 1, 12) || ':/48' FROM ban WHERE ip GLOB '2001:db8:??:*' AND ip NOT GLOB '*[^0-9a-f:]*'
)"""
OF_A_NETWORK = f"SELECT network FROM {PLAIN} GROUP BY network HAVING count(DISTINCT ip) >= :least"
NUMBER = """CASE WHEN ip GLOB '198.51.*' OR ip GLOB '192.0.1.*' THEN 64500 WHEN ip GLOB '192.0.*' THEN 64501 END"""
OTHERS = f"(SELECT *, {NUMBER} AS asn FROM {PLAIN} WHERE network NOT IN ({OF_A_NETWORK}))"
WITH_NUMBER = f"(SELECT *, {NUMBER} AS asn FROM {PLAIN})"
OF_A_NUMBER = f"SELECT asn FROM {OTHERS} WHERE asn IS NOT NULL GROUP BY asn HAVING count(DISTINCT ip) >= 2 * :least"


def test_the_campaigns(case: Case) -> None:
    """All that the rule finds, and of those that are shown everything that is said of them."""
    found = case.digest.campaigns
    all_of_them = f"SELECT count(*) FROM (SELECT * FROM ({OF_A_NETWORK}) UNION ALL SELECT * FROM ({OF_A_NUMBER}))"
    assert (case.digest.campaigns_in_all,) == case.one(all_of_them, least=CAMPAIGN)
    assert len(found) == min(case.digest.campaigns_in_all, campaigns.MOST_CAMPAIGNS)
    ranks = [each.bans * (1 + each.tight / each.addresses) for each in found]
    assert ranks == sorted(ranks, reverse=True)
    for campaign in found:
        of_it, values = members(campaign)
        seen = (campaign.bans, campaign.addresses, campaign.failures, campaign.uncounted)
        assert seen == case.one(f"SELECT {SUMS} FROM {of_it}", **values)
        assert campaign.first
        assert campaign.last
        hours = (campaign.first.timestamp(), campaign.last.timestamp())
        assert hours == case.one(f"SELECT min(at), max(at) FROM {of_it}", **values)
        firsts = [at for (at,) in case.all(f"SELECT min(at) FROM {of_it} GROUP BY ip", **values)]
        within = {at: sum(at <= each <= at + 3 * HOUR for each in firsts) for at in firsts}
        assert campaign.tight == max(within.values())
        assert campaign.tight_from
        assert campaign.tight_from.timestamp() == min(at for at in firsts if within[at] == campaign.tight)
        on_accounts = f"""SELECT count(DISTINCT ip) FROM {of_it} AS ban {EACH_NAME}
            WHERE user.value IN (SELECT value FROM json_each(:accounts))"""
        assert (campaign.on_accounts,) == case.one(on_accounts, accounts=json.dumps(sorted(USERS - {"root"})), **values)
        worst = f"SELECT ip FROM {of_it} GROUP BY ip ORDER BY count(*) DESC, ip LIMIT 1"
        its_place = place(case.one(worst, **values)[0]) or (None, None, None)
        assert (campaign.country, campaign.asn, campaign.name) == its_place
        of_jails = f"SELECT jail FROM {of_it} GROUP BY jail ORDER BY count(*) DESC, jail"
        assert [(jail,) for jail in campaign.jails] == case.all(of_jails, **values)
        cidrs = f"SELECT network FROM {of_it} GROUP BY network ORDER BY count(DISTINCT ip) DESC, network"
        assert [(cidr,) for cidr in campaign.cidrs] == case.all(cidrs, **values)
        names = f"SELECT count(DISTINCT user.value) FROM {of_it} AS ban {EACH_NAME}"
        assert (len(campaign.users) + campaign.more_users,) == case.one(names, **values)
        bans = [case.one(f"SELECT count(*) FROM {of_it} AS ban WHERE {NAMED}", name=name, **values)
                for name in campaign.users]  # fmt: skip
        assert bans == sorted(bans, reverse=True)


def members(campaign: Campaign) -> tuple[str, dict[str, Any]]:
    """Return SQL for a campaign's bans."""
    if campaign.network is None:
        return f"(SELECT * FROM {WITH_NUMBER} WHERE asn = :asn)", {"asn": campaign.asn}
    return f"(SELECT * FROM {PLAIN} WHERE network = :network)", {"network": campaign.network}


def test_what_the_campaigns_networks_had_before(case: Case) -> None:
    """Addresses of each period that all events reach back to, those of other digests and of none."""
    end = max(until for _, until in case.windows)
    (oldest,) = case.one(f"SELECT min(at) FROM event WHERE kind = 'ban' AND at < :end AND {case.taken}", end=end)
    windows = [window for window in case.windows if oldest is not None and window[0] >= oldest]
    everything = f"""(SELECT * FROM {PLAIN.replace("FROM ban", "FROM event")}
        WHERE kind = 'ban' AND {case.taken} AND at >= :low AND at < :high)"""
    for campaign in case.digest.campaigns:
        of_it = "asn = :asn" if campaign.network is None else "network = :network"
        query = f"SELECT count(DISTINCT ip) FROM (SELECT *, {NUMBER} AS asn FROM {everything}) WHERE {of_it}"
        values = {"network": campaign.network, "asn": campaign.asn}
        counted = [case.one(query, low=low, high=high, **values)[0] for low, high in windows]
        assert list(case.networks[key_of(campaign)]) == counted


def test_the_names(case: Case) -> None:
    """How many there are, how many bans have any, and of each shown one its bans and addresses."""
    users = case.digest.users
    assert users is not None
    assert (users.names,) == case.one(f"SELECT count(DISTINCT user.value) FROM ban {EACH_NAME}")
    assert (users.bans,) == case.one(f"SELECT count(DISTINCT ban.id) FROM ban {EACH_NAME}")
    for user in (*users.most, *users.existing):
        named = f"SELECT count(*), count(DISTINCT ip) FROM ban WHERE {NAMED}"
        assert (user.bans, user.addresses) == case.one(named, name=user.name)
        assert user.exists == (user.name in USERS)
    assert {user.name for user in users.existing} == {user.name for user in users.most if user.exists}
    assert [user.bans for user in users.most] == sorted((user.bans for user in users.most), reverse=True)


def test_the_bars_and_the_heat(case: Case) -> None:
    """The bans between a bar's beginning and the next one's; those of each hour of the week."""
    when = case.digest.when
    assert when is not None
    starts = [bar.start.timestamp() for bar in when.bars]
    assert starts == sorted(set(starts))
    whole = starts[0] <= case.digest.start.timestamp()
    for bar, since, until in zip(
        when.bars, [-9e99 if whole else starts[0], *starts[1:]], [*starts[1:], 9e99], strict=True
    ):
        count = "SELECT count(*) FROM ban WHERE at >= :low AND at < :high"
        assert (bar.bans,) == case.one(count, low=since, high=until)
    assert whole or len(when.bars) == 60
    if when.heat:
        period = {"low": case.digest.start.timestamp(), "high": case.digest.end.timestamp() - 1}
        cells = dict(case.all("SELECT local_hour(min(max(at, :low), :high)), count(*) FROM ban GROUP BY 1", **period))
        assert [cell for row in when.heat for cell in row] == [cells.get(hour, 0) for hour in range(168)]


def test_the_places(case: Case) -> None:
    """Addresses and bans by country and by AS number."""
    where = case.digest.where
    assert where is not None
    known = f"SELECT count(DISTINCT ip), count(DISTINCT ip) - count(DISTINCT CASE WHEN {NUMBER} THEN ip END) FROM ban"
    assert (where.looked_up, where.unknown) == case.one(known)
    sums = (
        f"SELECT {NUMBER} AS asn, count(DISTINCT ip), count(*) FROM ban GROUP BY 1 HAVING asn ORDER BY 2 DESC, 3 DESC"
    )
    assert [(each.asn, each.addresses, each.bans) for each in where.networks] == case.all(sums)
    assert [(each.addresses, each.bans) for each in where.countries] == [row[1:] for row in case.all(sums)]


def test_what_it_is_compared_with(case: Case) -> None:
    """Each jail's bans in each window and day that began after its first, whether they were reported or not."""
    baseline, count = case.baseline, "FROM event WHERE kind = 'ban' AND jail = :jail"
    jails = dict(case.all(f"SELECT jail, min(at) FROM event WHERE kind = 'ban' AND {case.taken} GROUP BY jail"))
    last = f"SELECT jail, max(at) FROM event WHERE kind = 'ban' AND at < :before AND {case.taken} GROUP BY jail"
    assert baseline.last == dict(case.all(last, before=case.since))
    assert baseline.windows.keys() == jails.keys()
    for jail, first in jails.items():
        query = f"SELECT count(*) {count} AND at >= :low AND at < :high"
        bans = [case.one(query, jail=jail, low=low, high=high)[0] for low, high in case.windows if low >= first]
        assert list(baseline.windows[jail]) == bans
    first = min(jails.values())
    query = f"SELECT count(*) FROM event WHERE kind = 'ban' AND {case.taken} AND at >= :low AND at < :high"
    together = [case.one(query, low=low, high=high)[0] for low, high in case.windows if low >= first]
    assert list(baseline.all) == together


def test_the_starts_and_stops(case: Case) -> None:
    """Those since a time, and the last one before."""
    query = f"""SELECT jail, kind, at FROM event WHERE kind IN ('start', 'stop') AND {case.taken}
        AND at >= coalesce((SELECT max(at) FROM event AS its WHERE its.kind IN ('start', 'stop')
                            AND its.jail = event.jail AND its.at < :low), -9e99)"""
    rows = case.all(query, low=case.since)
    assert sorted((jail, *each) for jail, those in case.starts.items() for each in those) == sorted(rows)
    assert all(list(those) == sorted(those, key=lambda each: each[1]) for those in case.starts.values())


def test_how_the_quiet_jails_banned(case: Case) -> None:
    """Up to each jail's last ban: what each day had, and the longest times between two bans in these days."""
    quiet = case.baseline.quiet
    query = f"SELECT jail, min(at), max(at) FROM event WHERE kind = 'ban' AND at <= :end AND {case.taken} GROUP BY jail"
    rows = case.all(query, end=NIGHT)
    assert {jail: each.last for jail, each in quiet.items()} == {jail: last for jail, _, last in rows}
    for jail, first, last in rows:
        days = min(28, int((last - first) // DAY))
        of_jail = "SELECT at FROM event WHERE kind = 'ban' AND jail = :jail AND at > :low AND at <= :high ORDER BY at"
        each = [case.all(of_jail, jail=jail, low=last - (n + 1) * DAY, high=last - n * DAY) for n in range(days)]
        assert quiet[jail].daily == tuple(map(len, each))
        times = [at for (at,) in case.all(of_jail, jail=jail, low=last - days * DAY, high=last)]
        gaps = sorted((later - earlier for earlier, later in itertools.pairwise(times)), reverse=True)
        assert list(quiet[jail].gaps) == gaps[:31]


def test_the_bans_that_came_again(case: Case) -> None:
    """Those that a doubling ban time would have spared, addresses with five and more, and whether any was prolonged."""
    rebans = case.rebans
    spared = """SELECT count(*), count(DISTINCT ip) FROM ban AS later WHERE EXISTS (
        SELECT 1 FROM json_each(:shown) AS shown
        WHERE json_extract(shown.value, '$[0]') = later.jail AND json_extract(shown.value, '$[1]') = later.ip
    ) AND EXISTS (
        SELECT 1 FROM ban AS before WHERE before.jail = later.jail AND before.ip = later.ip
        AND before.host = later.host AND before.bantime > 0
        AND before.at = (SELECT max(at) FROM ban AS its WHERE its.jail = later.jail AND its.ip = later.ip
                         AND its.host = later.host AND its.at < later.at)
        AND later.at - before.at < before.bantime * (1 << min(19, (
            SELECT count(*) - 1 FROM ban AS its WHERE its.jail = later.jail AND its.ip = later.ip
            AND its.host = later.host AND its.at <= before.at))))"""
    shown = json.dumps([(jail.name, address.ip) for jail in case.digest.jails for address in jail.worst])
    assert (rebans.spared, rebans.spared_addresses) == case.one(spared, shown=shown)
    frequent = (
        "SELECT count(*), coalesce(sum(bans), 0) FROM (SELECT count(*) AS bans FROM ban GROUP BY ip) WHERE bans >= 5"
    )
    assert (rebans.frequent, rebans.frequent_bans) == case.one(frequent)
    prolonged = f"""SELECT count(*) > 0 FROM event WHERE kind = 'prolong' AND history = 0 AND {case.taken}
        AND id BETWEEN :first_id AND :last_id AND at >= :since AND at < :until"""
    assert (rebans.prolonged,) == case.one(prolonged)
