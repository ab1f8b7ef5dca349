"""`history`: the digests that were sealed, and what became of them. Opens the store read-only."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from f2b_digest.cli import Program, report_named, zone_of
from f2b_digest.cli.console import plural
from f2b_digest.config import Configuration
from f2b_digest.rendering.renderer import visible
from f2b_digest.store import Delivery, Sealed, Store


@click.command()
@click.argument("report", default="")
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: times are UTC epoch seconds.")
@click.pass_obj
def command(program: Program, report: str, limit: int, as_json: bool) -> None:
    """List the digests and what became of each delivery.

    Of one REPORT, or of all. The number in front is the ID for `show` and `resend`.
    """
    configuration = program.configuration()
    name = report_named(configuration, report) if report else None
    with Store(program.begin(configuration), read_only=True) as store:
        digests = store.digests(name, most=limit)
        deliveries = store.deliveries(digests=[digest.id for digest in digests]) if digests else []
    rows = [_digest(digest, [row for row in deliveries if row.digest == digest.id]) for digest in digests]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for line in _lines(visible(rows, 300), configuration):
        click.echo(line)


@dataclass(frozen=True)
class _Delivery:
    channel: str
    recipient: str
    status: str
    attempts: int
    settled_at: float | None
    error: str | None


@dataclass(frozen=True)
class _Digest:
    """What `--json` prints of each; times are in UTC epoch seconds."""

    id: int
    report: str
    period_start: float
    period_end: float
    sealed_at: float
    bans: int
    deliveries: Sequence[_Delivery]


def _digest(digest: Sealed, deliveries: Iterable[Delivery]) -> _Digest:
    rows = [
        _Delivery(row.channel, row.recipient, row.status, row.attempts, row.settled_at, row.error) for row in deliveries
    ]
    return _Digest(
        digest.id, digest.report, digest.period_start, digest.period_end, digest.sealed_at, digest.bans, rows
    )


def _lines(digests: Sequence[_Digest], configuration: Configuration) -> Iterable[str]:
    if not digests:
        yield "no digest yet"
    for digest in digests:
        zone = zone_of(configuration, digest.report)
        period = f"{_moment(digest.period_start, zone)} to {_moment(digest.period_end, zone)}"
        yield f"{digest.id:5}  {digest.report}, {period}: {plural(digest.bans, 'ban', 'bans')}"
        for row in digest.deliveries:
            when = f" {_moment(row.settled_at, zone)}" if row.settled_at else ""
            tried = f", {plural(row.attempts, 'attempt', 'attempts')}" if row.attempts != 1 else ""
            error = f": {row.error}" if row.error else ""
            yield f"       {row.status}{when}: {row.channel} to {row.recipient}{tried}{error}"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%a %-d %b %Y %H:%M")
