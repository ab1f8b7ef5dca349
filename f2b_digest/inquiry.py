"""Looks up an address, network, user name or jail. Nothing is opened, printed or rendered here."""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from f2b_digest.analysis import campaign_rule
from f2b_digest.composition import zone_of
from f2b_digest.config import Configuration, Report
from f2b_digest.model.counts import Most
from f2b_digest.model.digest import moment
from f2b_digest.model.document import campaigns_of
from f2b_digest.model.host_context import Geography, Place
from f2b_digest.model.inquiry import Answer, Inquiry, Members, Network, Recipient, Standing, Told
from f2b_digest.model.selection import matches
from f2b_digest.store import Asked, Delivery, Store

_NUMBER = re.compile(r"AS(\d{1,10})", re.IGNORECASE)
LINES = 5
"""Maximum number of jails with a command to unban, ignore or block."""
LOOKED = 5
"""Maximum number of digests searched for a campaign: the newest that reported the address."""
NOWHERE = Place(None, None, None)


class Host(NamedTuple):
    """Information on this host that is not in the store."""

    geography: Geography | None = None
    banned: Mapping[str, tuple[str, ...]] | None = None
    """By address, the jails in which fail2ban currently bans it; None if fail2ban did not answer."""


def understood(store: Store, text: str, bounds: Inquiry) -> list[Inquiry]:
    """Return the possible meanings of a word, as inquiries with the bounds of another one.

    A word that is not an address, network or AS number may be a jail or a fail2ban id, if any ban has it; and always
    a user name.
    """
    asked = replace(bounds, text=text)
    network = network_of(text)
    if network is not None:
        asked = replace(asked, network=network, text=_text(network))
        return [replace(asked, kind="address" if network.num_addresses == 1 else "network")]
    number = _NUMBER.fullmatch(text)
    if number and not store.has_bans("jail", text):
        return [replace(asked, kind="asn", asn=int(number[1]), text=f"AS{int(number[1])}")]
    found = [replace(asked, kind="jail")] if store.has_bans("jail", text) else []
    found += [replace(asked, kind="address")] if store.has_bans("ip", text) else []
    return [*found, replace(asked, kind="user")]


def network_of(text: str) -> Network | None:
    """Parse a network, or an address as a network of one; return None for other text.

    IPv4-mapped IPv6 addresses become IPv4, as in fail2ban.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network.network_address, IPv6Address) else None
    return ip_network(mapped) if mapped and network.num_addresses == 1 else network


def _text(network: Network) -> str:
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def answer(
    configuration: Configuration, store: Store, inquiry: Inquiry, *, now: float, host: Host, most: int
) -> Answer:
    """Answer an inquiry; `now` is in UTC epoch seconds.

    `most` limits the addresses per jail, the active bans and the digests.
    """
    places, zone = host.geography, configuration.timezone

    def place(ip: str) -> Place | None:
        return places.find(ip) if places else None

    with store.asked(inquiry, lambda ip: getattr(place(ip), "asn", None), Most(addresses=most)) as found:
        last, oldest = found.last(), found.oldest()
        rule = campaign_rule(next(iter(configuration.reports.values()), Report()).campaign)
        counts = found.counts(zone=zone, start=None, end=now, campaigns=rule, geography=places)
        standing, asked = _standing(found, inquiry, now, host)
        told, waiting = _told(configuration, found)
        network = inquiry.network
        single = network if inquiry.kind == "address" else None
        of = (place(str(network.network_address)) if network else None) or NOWHERE
        made = Answer(
            inquiry=inquiry,
            counts=counts,
            last=_moment(last, zone),
            known_since=_moment(oldest, zone),
            standing=tuple(Standing(each.jail, each.ip, _moment(each.until, zone)) for each in standing[:most]),
            standing_in_all=len(standing),
            asked=asked,
            country=of.country,
            asn=of.asn,
            name=of.name,
            neighbours=found.neighbours(single) if single is not None else None,
            campaign=_campaign(found, told[:LOOKED], single) if single is not None else None,
            told=tuple(told[:most]),
            told_in_all=len(told),
            waiting=waiting,
            history=sum(ban.history for ban in found.bans()),
            hosts=_hosts(configuration, found),
        )
    return _with_commands(made, standing) if network else made


def _moment(at: float | None, zone: ZoneInfo) -> datetime | None:
    return None if at is None else moment(at, zone)


def _with_commands(made: Answer, standing: Sequence["_Ban"]) -> Answer:
    """Return the answer on an address or network with the commands that unban, ignore or block it."""
    jails, text = [jail.name for jail in made.counts.jails][:LINES], made.inquiry.text
    return replace(
        made,
        unban=tuple(_line(each.jail, "unbanip", each.ip) for each in standing[:LINES]),
        ignore=tuple(_line(jail, "addignoreip", text) for jail in jails),
        block=() if standing else tuple(_line(jail, "banip", text) for jail in jails[:1]),
    )


def _line(jail: str, what: str, ip: str) -> str:
    return f"fail2ban-client set {shlex.quote(jail)} {what} {shlex.quote(ip)}"


def _hosts(configuration: Configuration, found: Asked) -> tuple[tuple[str, int], ...]:
    """Return the hosts that banned, unless that is this one alone."""
    hosts = found.hosts()
    return () if [host for host, _ in hosts] in ([], [configuration.host]) else tuple(hosts)


class _Ban(NamedTuple):
    jail: str
    ip: str
    until: float | None


def _standing(
    found: Asked, inquiry: Inquiry, now: float, host: Host
) -> tuple[Sequence[_Ban], Literal["fail2ban", "store"]]:
    """Return the active bans and their source: fail2ban if it was asked about this address, else the store."""
    recorded = [_Ban(*end) for end in found.ends(now)]
    if inquiry.kind != "address" or host.banned is None or inquiry.text not in host.banned:
        return recorded, "store"
    until = {ban.jail: ban.until for ban in recorded if ban.ip == inquiry.text}
    inside = [ban for ban in recorded if ban.ip != inquiry.text]  # banned networks that contain the address
    return [*(_Ban(jail, inquiry.text, until.get(jail)) for jail in host.banned[inquiry.text]), *inside], "fail2ban"


def _told(configuration: Configuration, found: Asked) -> tuple[list[Told], tuple[str, ...]]:
    """Return the digests that reported these bans, newest first, and the reports in which some are still pending."""
    bans = [ban for ban in found.bans() if not ban.history]
    if not bans:
        return [], ()
    digests = found.digests()
    hosts = configuration.hosts
    of_report = {
        name: sorted(
            ban.id for ban in bans if matches(ban.jail, patterns) and matches(ban.host, hosts.get(name, ("*",)))
        )
        for name, patterns in {**{digest.report: ("*",) for digest in digests}, **configuration.jails}.items()
    }
    counted = [(digest, found.among(digest, of_report[digest.report])) for digest in digests]
    counted = [(digest, count) for digest, count in counted if count]
    recipients = _by_digest(found.deliveries(digests=[digest.id for digest, _ in counted[:100]]) if counted else ())
    newest = {digest.report: digest.last_id for digest in reversed(digests)}
    waiting = tuple(name for name in configuration.reports if found.waits(name, of_report[name], newest.get(name, 0)))
    told = [
        Told(
            digest.id, digest.report, moment(digest.sealed_at, _zone(configuration, digest.report)), count,
            tuple(recipients.get(digest.id, ())),
        )
        for digest, count in counted
    ]  # fmt: skip
    return told, waiting


def _campaign(found: Asked, told: Sequence[Told], network: Network) -> Members | None:
    """Return the newest campaign of an AS number in some digests that contains an address; None if there is none."""
    sealed = {digest.id: digest for digest in found.digests()}
    for each in told:
        document = found.document(each.digest)
        for campaign in campaigns_of(document) if document else ():
            if campaign.network is None and any(_holds(cidr, network) for cidr in campaign.cidrs):
                worst = found.members(sealed[each.digest], campaign, network)
                return Members(
                    each.digest, campaign.asn, campaign.name, campaign.addresses, campaign.bans, tuple(worst)
                )  # fmt: skip
    return None


def _holds(cidr: str, network: Network) -> bool:
    around = ip_network(cidr)
    return around.version == network.version and network.network_address in around


def _zone(configuration: Configuration, report: str) -> ZoneInfo:
    return zone_of(configuration, report) if report in configuration.reports else configuration.timezone


def _by_digest(deliveries: Iterable[Delivery]) -> Mapping[int, Sequence[Recipient]]:
    found: dict[int, list[Recipient]] = {}
    for row in deliveries:
        found.setdefault(row.digest, []).append(Recipient(row.channel, row.recipient, row.status))
    return found


def addresses(words: Iterable[str]) -> Iterator[str]:
    """Yield the words that are single addresses, as fail2ban writes them."""
    for word in words:
        network = network_of(word)
        if network is not None and network.num_addresses == 1:
            yield str(ip_address(network.network_address))
