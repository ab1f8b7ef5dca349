"""The news: surges, drops, new jails, campaigns. Counts are compared in `statistics`."""

from collections.abc import Iterator, Mapping

from f2b_digest.analysis.inputs import Inputs
from f2b_digest.analysis.repeats import came_back
from f2b_digest.analysis.statistics import BEYOND, BEYOND_FEW, MANY, TIMES, times_further, unusual, usual
from f2b_digest.model.baseline import key_of
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Campaign, Jail, User
from f2b_digest.model.facts import Concerted, Drop, Fact, NewJail, Roaming, Surge, Targeted

MOST = 3
"""Surges, drops, or new jails in one digest."""
SHARE_OF_A_JAIL = 0.5
"""Share of the deviation from which on one jail is reported instead of the total."""
FEWEST_OF_A_NETWORK = 10
"""Addresses of a campaign that may be unusual for its network."""
TIGHT = 20
"""Addresses of one /24 or /48 first banned within three hours that are never a coincidence."""
FEWEST_TRYING = 10
"""Addresses that must try a name before it is news; twice the campaign's minimum, if that is more."""
SHARE, SHARE_OF_A_COMMON_NAME = 0.2, 0.5
"""Share of the digest's addresses that must try a name; the second for a name that is tried everywhere."""
MANY_TRYING = 50
"""Addresses that must try a name that is tried everywhere."""
COMMON = frozenset(
    """
    admin administrator ansible apache backup centos contact debian demo deploy dev developer docker elastic es ftp
    ftpuser git gitlab guest hadoop info jenkins mail minecraft mysql nagios nginx nobody odoo operator oracle pi
    postgres postmaster sales server solana steam student sshd support svn sysadmin system teamspeak temp test test1
    tester testuser tomcat ubnt ubuntu user user1 vagrant validator web webmaster www www-data zabbix
    """.split()  # noqa: SIM905 - a list of seventy quoted words reads no better
)
"""Names tried every week on any host with an open port."""
ROOT = "root"
"""Tried by most addresses on most days: never news."""
RECIDIVE = "recidive"
"""Name prefixes of jails that ban addresses banned elsewhere."""
SEVERAL, SHARE_IN_SEVERAL, IN_MANY_JAILS = 5, 0.1, 3
"""Thresholds for news: addresses in several jails, their share of all, or jails of one address."""


def surges(counts: Counts, inputs: Inputs) -> Iterator[Surge]:
    """Yield the jails with far more bans than usual, those with the most bans beyond it first; or the total."""
    baseline, total = inputs.baseline, counts.totals.bans
    found = [
        Surge(jail.name, jail.bans, median, baseline.before.get(jail.name))
        for jail, median in _usual(counts, inputs, "surge")
    ]
    found.sort(key=lambda fact: fact.bans - fact.usual, reverse=True)
    median = usual(baseline.all)
    if median is not None and unusual(total, baseline.all) == "surge":
        beyond = sum(fact.bans - fact.usual for fact in found)
        if beyond < SHARE_OF_A_JAIL * (total - median):
            yield Surge(None, total, median, baseline.before_all)
    yield from found[:MOST]


def drops(counts: Counts, inputs: Inputs) -> Iterator[Drop]:
    """Yield the jails with far fewer bans than usual, those with the most bans missing first; or the total.

    The total is not reported if one jail explains it: such a jail, or one without a ban. A jail that is back
    from a reported outage explains it too.
    """
    baseline, total, back = inputs.baseline, counts.totals.bans, came_back(inputs)
    found = [
        Drop(jail.name, jail.bans, median, baseline.before.get(jail.name))
        for jail, median in _usual(counts, inputs, "drop")
        if jail.name not in back
    ]
    found.sort(key=lambda fact: fact.usual - fact.bans, reverse=True)
    median = usual(baseline.all)
    if median is not None and not back and unusual(total, baseline.all) == "drop":
        banned = {jail.name for jail in counts.jails if jail.bans}
        missing = sum(fact.usual - fact.bans for fact in found) + sum(
            usual(windows) or 0.0 for jail, windows in baseline.windows.items() if jail not in banned
        )
        if missing < SHARE_OF_A_JAIL * (median - total):
            yield Drop(None, total, median, baseline.before_all)
    yield from found[:MOST]


def new_jails(counts: Counts, inputs: Inputs) -> Iterator[NewJail]:
    """Yield the jails that never banned before, if there is any history."""
    baseline = inputs.baseline
    if inputs.first or not baseline.last:
        return
    fresh = (jail for jail in counts.jails if jail.name not in baseline.last and not any(_windows(inputs, jail)))
    for _, jail in zip(range(MOST), fresh, strict=False):
        yield NewJail(jail.name, jail.bans)


def concerted(counts: Counts, inputs: Inputs) -> Iterator[Concerted]:
    """Yield the campaigns that are news, those with the most bans first."""
    news = (campaign for campaign in counts.campaigns if _is_news(campaign, inputs))
    for _, campaign in zip(range(MOST), news, strict=False):
        yield Concerted(
            network=campaign.network,
            asn=campaign.asn,
            name=campaign.name,
            addresses=campaign.addresses,
            bans=campaign.bans,
            users=campaign.users,
            more_users=campaign.more_users,
            campaigns=counts.campaigns_in_all,
            first=campaign.first,
            last=campaign.last,
            tight=campaign.tight,
            tight_from=campaign.tight_from,
            on_accounts=campaign.on_accounts,
            usual=usual(inputs.networks.get(key_of(campaign), ())),
            hosts=campaign.hosts,
        )


def _is_news(campaign: Campaign, inputs: Inputs) -> bool:
    """Return whether a campaign is unusual for its network, concentrated in time, or tries accounts of this host."""
    if campaign.network is not None and campaign.tight >= TIGHT:
        return True
    if campaign.on_accounts >= FEWEST_TRYING:
        return True
    before = inputs.networks.get(key_of(campaign), ())
    middle = usual(before)
    beyond = (BEYOND if len(before) >= MANY else BEYOND_FEW) * times_further(inputs.judged)
    return middle is not None and campaign.addresses >= max(FEWEST_OF_A_NETWORK, TIMES * middle, beyond * max(before))


def targeted(counts: Counts, inputs: Inputs) -> Targeted | None:
    """Return the user name that most addresses tried, of those that are not tried everywhere and always.

    There is no history of names, so their share of the addresses decides: guessing goes through a list, and each
    name comes from few addresses. A name that can log in here is reported whatever the share.
    """
    if counts.users is None:
        return None
    named = {user.name: user for user in (*counts.users.existing, *counts.users.most)}
    found = [user for user in named.values() if _is_target(user, counts, inputs)]
    if not found:
        return None
    most = max(found, key=lambda user: (user.addresses, user.bans))
    return Targeted(most.name, most.addresses, most.bans, most.exists, hosts=most.hosts)


def roaming(counts: Counts) -> Roaming | None:
    """Return the addresses banned in several jails (without recidive), if many, or if one is in many jails."""
    if not counts.several:
        return None
    most, addresses = counts.several[0], counts.several_in_all
    many = max(SEVERAL, SHARE_IN_SEVERAL * counts.totals.addresses)
    return Roaming(addresses, most.ip, most.jails) if addresses >= many or len(most.jails) >= IN_MANY_JAILS else None


def only(*facts: Fact | None) -> Iterator[Fact]:
    """Yield the values that are not None."""
    yield from (fact for fact in facts if fact is not None)


def _usual(counts: Counts, inputs: Inputs, what: str) -> Iterator[tuple[Jail, float]]:
    """Yield the jails with an unusual count, and the usual count."""
    for jail in counts.jails:
        windows = _windows(inputs, jail)
        median = usual(windows)
        if median is not None and unusual(jail.bans, windows, inputs.judged) == what:
            yield jail, median


def _windows(inputs: Inputs, jail: Jail) -> tuple[int, ...]:
    windows: Mapping[str, tuple[int, ...]] = inputs.baseline.windows
    return windows.get(jail.name, ())


def _is_target(user: User, counts: Counts, inputs: Inputs) -> bool:
    fewest = max(FEWEST_TRYING, 2 * inputs.campaign_from)
    if user.name == ROOT or user.exists:
        return user.exists and user.name != ROOT and user.addresses >= fewest
    if user.name.lower() in COMMON:
        return user.addresses >= max(fewest, MANY_TRYING, SHARE_OF_A_COMMON_NAME * counts.totals.addresses)
    return user.addresses >= max(fewest, SHARE * counts.totals.addresses)
