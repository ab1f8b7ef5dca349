"""`fleet list`: the hosts of a centre or a hub, with what to do about each."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import click

from f2b_digest import __version__
from f2b_digest.analysis import LATELY, is_off, is_silent
from f2b_digest.cli.console import plural
from f2b_digest.cli.fleet.hosts import administration, centre_option
from f2b_digest.cli.program import Program, say
from f2b_digest.model.fleet import HostState
from f2b_digest.store import Life, state_of
from f2b_digest.text.visible import visible

MOST_WELL = 20
"""So many hosts without problems are listed; of more, only their number is."""


class _Host(NamedTuple):
    stores: list[Life]
    """The most recent contact first."""
    state: HostState
    troubles: list[str]
    note: str
    """What is no problem."""

    @property
    def name(self) -> str:
        return self.state.host

    @property
    def retired(self) -> bool:
        return self.stores[0].retired_at is not None


@click.command("list")
@click.option("--all", "everyone", is_flag=True, help="List every host, however many there are.")
@click.option("--json", "as_json", is_flag=True, help="JSON output, of every host; times are UTC epoch seconds.")
@centre_option
@click.pass_obj
def list_command(program: Program, everyone: bool, as_json: bool, centre: str | None) -> None:
    """List the hosts with their last contact and problems.

    Those with problems come first: silent, never heard, behind with their uploads, with jails that do not record, with
    a wrong clock, with more than one store in use. More than twenty without problems are only counted.

    \b
    Exit status, for monitoring: 0 all is well; 3 some host needs somebody.
    """  # noqa: D301 - click wants the character, not its name
    lives = administration(program, centre).lives()
    hosts = _grouped(lives, program.clock())
    if as_json:
        listed = [
            {
                "host": host.name,
                "troubles": host.troubles,
                "note": host.note,
                "stores": [asdict(life) for life in host.stores if life.life],
            }
            for host in hosts
        ]
        click.echo(json.dumps(listed, indent=2))
    else:
        for line in _lines(hosts, program.clock(), everyone=everyone):
            say(line)
    sys.exit(3 if any(host.troubles for host in hosts) else 0)


def _grouped(lives: Sequence[Life], now: float) -> list[_Host]:
    stores: dict[str, list[Life]] = {}
    for life in lives:
        stores.setdefault(life.host, []).append(life)
    return [
        _Host(of_host, state_of(of_host), list(_troubles(of_host, now)), _version(of_host))
        for of_host in stores.values()
    ]


def _version(stores: Sequence[Life]) -> str:
    """Return what is to be said of a host's version; the centre is upgraded first, so that it is no problem."""
    version = state_of(stores).version
    return f"runs f2b-digest {version}, and this is {__version__}" if version not in (__version__, None) else ""


def _lines(hosts: Sequence[_Host], now: float, *, everyone: bool) -> Iterator[str]:
    """Yield the hosts with problems, then the others, or their number."""
    if not hosts:
        yield "no host is enrolled: f2b-digest fleet add HOST"
    for host in hosts:
        if host.troubles:
            yield from _host_lines(host, now)
    well = [host for host in hosts if not host.troubles]
    if everyone or len(well) <= MOST_WELL:
        for host in well:
            yield from _host_lines(host, now)
        return
    retired = sum(host.retired for host in well)
    versions = Counter(host.state.version for host in well if host.note)
    if len(well) > retired:
        yield f"{plural(len(well) - retired, 'host', 'hosts')} without problems (--all lists them)"
    for version, count in versions.most_common():
        yield f"    {plural(count, 'of them runs', 'of them run')} f2b-digest {version}, and this is {__version__}"
    if retired:
        yield f"{plural(retired, 'host', 'hosts')} retired"


def _host_lines(host: _Host, now: float) -> Iterator[str]:
    words = visible({"host": host.name, "troubles": [*host.troubles, *filter(None, [host.note])]}, 4096)
    if host.retired:
        yield f"{words['host']}: retired"
        return
    heard = host.state.heard_at
    seen = f"heard {_ago(now, heard)}" if heard else "never heard"
    last = _number((host.stores[0].state or {}).get("last_ban"))
    yield f"{words['host']}: {seen}" + (f", last ban {_ago(now, last)}" if last else "")
    for line in words["troubles"]:
        yield f"    {line}"


def _troubles(stores: Sequence[Life], now: float) -> Iterator[str]:
    """Yield the problems of a host to act on, given its stores, the most recent contact first."""
    if stores[0].retired_at is not None:
        return
    host = state_of(stores)
    if host.heard_at is None:
        yield f"never heard since it was enrolled {_ago(now, host.enrolled_at)}: run fleet join there"
        return
    if host.left:
        yield f"left the fleet {_ago(now, host.heard_at)}: f2b-digest fleet retire {host.host}, or let it join again"
        return
    if is_silent(host, now, LATELY):
        yield f"silent since {_ago(now, host.heard_at)}: check that it is up and that cron runs f2b-digest forward"
    if host.stores > 1:
        yield f"{host.stores} stores report as this host: a clone? run fleet leave on it, and enrol it by its own name"
    if host.backlog > 0:
        yield f"{plural(host.backlog, 'event is', 'events are')} not uploaded yet"
    if is_off(host):
        yield f"its clock is {abs(host.skew):,.0f} s {'ahead' if host.skew > 0 else 'behind'}: set it by NTP"
    if (replaced := _number((stores[0].state or {}).get("replaced"))) > 0:
        yield f"{plural(int(replaced), 'event', 'events')} uploaded without log lines and names"
    yield from _jail_troubles(host)


def _jail_troubles(host: HostState) -> Iterator[str]:
    if host.silence:
        yield f"fail2ban: {host.silence}"
    if host.lacking:
        jails = ", ".join((*host.lacking, *("…",) * bool(host.lacking_more)))
        yield f"jails without the f2b-digest action: {jails}; add to each: {host.line}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _ago(now: float, at: Any) -> str:
    seconds = max(now - _number(at), 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{plural(int(seconds // length), unit, unit + 's')} ago"
    return "a moment ago"
