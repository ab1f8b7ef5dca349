"""Checks at a fleet's centre: what it says of itself and its hosts, and what a host's check has for reports."""

from collections.abc import Iterator, Mapping, Sequence

from f2b_digest.checks import channels, geoip, runs, schedule, templates
from f2b_digest.checks.finding import Finding, error, ok, warning
from f2b_digest.config import Configuration
from f2b_digest.delivery.attempts import Clock
from f2b_digest.model.selection import matches
from f2b_digest.periods import DAY
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Outbox, Pending


def examine(
    configuration: Configuration, outbox: Outbox, name: str, hosts: Mapping[str, int], enrolled: Sequence[str],
    pending: Mapping[str, Pending], renderer: Renderer, schedules: schedule.Schedules, clock: Clock,
) -> Iterator[Finding]:  # fmt: skip
    """Yield the findings. `name` says which database it is, `hosts` how many are heard, silent or never heard.

    `enrolled` are the hosts' names; `pending` has each report's pending bans. Raises CentreError.
    """
    now = clock()
    yield ok("centre", f"{name} answers")
    yield from _hosts(hosts)
    for report, settings in configuration.reports.items():
        if enrolled and not any(matches(host, settings.hosts) for host in enrolled):
            todo = f"compare hosts of reports.{report} with f2b-digest fleet list --all"
            yield warning("configuration", f"report {report} selects none of the enrolled hosts", todo)
        if not settings.channels:
            todo = f'add channels = ["…"] to reports.{report}'
            yield error("configuration", f"report {report} has no channel, so nobody would receive it", todo)
    known = {report: runs.known(outbox, report, settings) for report, settings in configuration.reports.items()}
    yield from schedule.examine(schedules, {report: run.told(now) for report, run in known.items()}, "")
    for report, run in known.items():
        yield from runs.late(configuration, report, run, pending[report], now)
    yield from geoip.examine(configuration, now)
    yield from templates.examine(configuration, renderer)
    yield from channels.examine(configuration, {report: run.every or DAY for report, run in known.items()}, clock)


def _hosts(hosts: Mapping[str, int]) -> Iterator[Finding]:
    enrolled = sum(hosts.values())
    if not enrolled:
        yield warning("hosts", "no host is enrolled", "f2b-digest fleet add HOST")
    elif hosts["silent"] or hosts["never"]:
        text = f"of {enrolled} hosts, {hosts['silent']} are silent and {hosts['never']} were never heard"
        yield warning("hosts", text, "f2b-digest fleet list")
    else:
        yield ok("hosts", f"all {enrolled} are heard")
