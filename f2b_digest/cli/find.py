"""`find`: looks up an address, a network, a user name or a jail. Opens the store read-only."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

import click

from f2b_digest import geoip, inquiry
from f2b_digest.cli import centre, completion, console, times
from f2b_digest.cli.program import Program, complain
from f2b_digest.config import Configuration
from f2b_digest.errors import F2bDigestError
from f2b_digest.fail2ban import server
from f2b_digest.fail2ban.client import CRON, Client
from f2b_digest.model.inquiry import Answer, Inquiry
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.resources import folder
from f2b_digest.store import Store

if TYPE_CHECKING:
    from f2b_digest.rdap import Registries

TEMPLATE = "terminal/find.txt"
LOOKED_BACK = 31 * 86400.0
"""Seconds that a fleet's centre looks through, without --since, for what no index has: names, jails, networks."""


@click.command()
@click.argument(
    "what", nargs=-1, required=True, metavar="WHAT...", shell_complete=completion.completes(completion.jails)
)
@click.option(
    "--jail",
    "jails",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.completes(completion.jails),
    help="Only this jail, or jails matching a pattern.",
)
@times.options("Start time.", "End time, excluded. Default: now.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="Maximum number of addresses per jail, and of digests.")  # fmt: skip  # noqa: E501
@click.option("--rdap", "asks_registry", is_flag=True, help="Ask the registry who holds an address or network, and where to report abuse. Uses the network, for up to 10 seconds.")  # fmt: skip  # noqa: E501
@click.option("--json", "as_json", is_flag=True, help="JSON output.")
@console.options
@click.pass_obj
def command(
    program: Program, what: tuple[str, ...], jails: tuple[str, ...], since: str | None, until: str | None, limit: int,
    asks_registry: bool, as_json: bool, colour: console.Colour, no_pager: bool,
) -> None:  # fmt: skip
    """Look up an address, network, user name or jail.

    WHAT is an address, a network (203.0.113.0/24), a user name, a jail, or the number of a network (AS64500, which
    needs an address database). Shows its bans, whether it is banned now, which digests reported it and to whom, and
    the commands that unban, ignore or block it. In a fleet also the hosts that banned it; its centre looks for
    names, jails and large networks in the last 31 days, or since --since. TIME is a date (2026-11-17), a day
    (yesterday, monday) or an age (7d); a day means its start. Works offline, except with --rdap.

    \b
    Examples:  f2b-digest find 203.0.113.59
               f2b-digest find sshd --since yesterday
               f2b-digest find anna --json
    """  # noqa: D301 - click wants the character, not its name
    configuration = program.configuration()
    now = program.clock()
    start, end = times.bounds(since, until, now, configuration.timezone)
    bounds = Inquiry("user", "", since=start, until=end, jails=jails or ("*",))
    ips = list(inquiry.addresses(what))
    renderer = Renderer(folder("templates"), configuration.templates, language=configuration.language)
    at_centre = program.is_centre(configuration.store)
    said = server.ask_banned(Client(environment=CRON), ips) if program.asks_host and not at_centre else None
    registries = _registries() if asks_registry else None
    geography, notes = geoip.find(configuration.geography)
    for note in notes:
        complain(note)
    host = inquiry.Host(geography, None if said is None else server.banned(said, ips))
    with _opened(program, configuration, what, bounds, host) as (store, where):
        found = _answers(configuration, store, what, bounds, now=now, host=host, most=limit)
    answers = _worth_telling(found)
    if registries:
        with console.working("Asking the registry"):
            answers = _registered(answers, registries())
    if as_json:
        click.echo(json.dumps([_document(each) for each in answers], default=_plain, indent=2))
        return
    layout = console.layout_of(sys.stdout, os.environ, colour)
    shown = renderer.with_layout(layout)
    texts = [shown.render([TEMPLATE], _variables(each, where, configuration))[TEMPLATE].strip("\n") for each in answers]
    console.put("\n\n".join(texts) + "\n", colour=layout.colour, pager=not no_pager)


@contextmanager
def _opened(
    program: Program, configuration: Configuration, what: Sequence[str], bounds: Inquiry, host: inquiry.Host
) -> Iterator[tuple[Store, str]]:
    """Open the store to look in, and return its name; of a fleet, a scratch store with what is asked about."""
    if not program.is_centre(configuration.store):
        path = program.begin(configuration)
        with Store(path, read_only=True) as store:
            yield store, str(path)
        return
    since = program.clock() - LOOKED_BACK if bounds.since is None else bounds.since

    def asn_of(ip: str) -> int | None:
        place = host.geography.find(ip) if host.geography else None
        return place.asn if place else None

    with ExitStack() as stack:
        fleet = stack.enter_context(centre.opened(program, configuration))
        with console.working("Looking up"):
            store = stack.enter_context(fleet.found(what, since, asn_of))
        yield store, fleet.name


def _answers(
    configuration: Configuration, store: Store, what: Sequence[str], bounds: Inquiry, *, now: float,
    host: inquiry.Host, most: int,
) -> list[Answer]:  # fmt: skip
    """Look all words up in the store."""
    asked = [each for word in what for each in inquiry.understood(store, word, bounds)]
    if host.geography is None and any(each.kind == "asn" for each in asked):
        raise F2bDigestError("an AS number needs an address database on this host: see the key geography")
    with console.working("Looking up"):
        return [inquiry.answer(configuration, store, each, now=now, host=host, most=most) for each in asked]


def _worth_telling(answers: Sequence[Answer]) -> list[Answer]:
    """Drop the empty answer for a user name that is also a jail or an id."""
    known = {each.inquiry.text for each in answers if each.inquiry.kind != "user"}
    return [
        each
        for each in answers
        if each.inquiry.kind != "user" or each.counts.totals.bans or each.inquiry.text not in known
    ]


def _registries() -> "Callable[[], Registries] | None":
    """Load what asking takes, while root can; the clock begins at the call. None, and a line, where that fails."""
    from f2b_digest import rdap

    try:
        rdap.prepare()
    except rdap.RdapError as error:
        complain(str(error))
        return None
    return rdap.Registries


def _registered(answers: Sequence[Answer], registries: "Registries") -> list[Answer]:
    """Add what the registry says to the answers on addresses and networks; complain where it says nothing."""
    found = []
    for answer in answers:
        registered, trouble = None, "registries are asked about addresses and networks only"
        if answer.inquiry.network is not None:
            try:
                registered, trouble = registries.ask(answer.inquiry.network), ""
            except F2bDigestError as error:
                trouble = str(error)
        if trouble:
            complain(f"--rdap: {answer.inquiry.text}: {trouble}")
        found.append(replace(answer, registered=registered))
    return found


def _variables(answer: Answer, where: str, configuration: Configuration) -> dict[str, Any]:
    return {
        **asdict(answer.counts), **asdict(answer), "asked_who": answer.asked, "store": where,
        "timezone": str(configuration.timezone),
    }  # fmt: skip


def _document(answer: Answer) -> dict[str, Any]:
    return asdict(answer)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, IPv4Network | IPv6Network):
        return str(value)
    raise TypeError(type(value).__name__)
