"""`history`: sealed digests and their deliveries. Opens the store read-only."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from zoneinfo import ZoneInfo

import click

from f2b_digest.cli import completion
from f2b_digest.cli.centre import archive
from f2b_digest.cli.language import gettext as _
from f2b_digest.cli.language import moment, ngettext, status, told
from f2b_digest.cli.program import Program, report_named, zone_of
from f2b_digest.config import Configuration
from f2b_digest.store import Delivery, Sealed
from f2b_digest.text.visible import visible

MARK = "!"


@click.command()
@click.argument("report", default="", shell_complete=completion.completes(completion.reports))
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Maximum number of digests, newest first.",
)
@click.option("--json", "as_json", is_flag=True, help="JSON output; times are UTC epoch seconds.")
@click.pass_obj
def command(program: Program, report: str, limit: int, as_json: bool) -> None:
    """List digests and their deliveries.

    Of one REPORT, or of all. The number is the one for `show` and `resend`; failed or open deliveries are marked.
    """
    configuration = program.configuration()
    name = report_named(configuration, report) if report else None
    with archive(program, configuration, read_only=True) as store:
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
    """A digest in the output of `--json`; times are in UTC epoch seconds."""

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
    """Yield the digests by report; undelivered ones are marked."""
    if not digests:
        yield _("no digest yet")
    reports = [*configuration.reports, *sorted({each.report for each in digests} - configuration.reports.keys())]
    for report in reports:
        mine = [digest for digest in digests if digest.report == report]
        if mine:
            yield report
        for digest in mine:
            yield from _digest_lines(digest, zone_of(configuration, report))
    if any(_missing(digest) for digest in digests):
        yield MARK + " " + _("not delivered (yet); see f2b-digest status")


def _digest_lines(digest: _Digest, zone: ZoneInfo) -> Iterable[str]:
    missing = _missing(digest)
    period = _("%(start)s to %(end)s", start=moment(digest.period_start, zone), end=moment(digest.period_end, zone))
    bans = ngettext("%(num)s ban", "%(num)s bans", digest.bans)
    yield f"{MARK if missing else ' '}{digest.id:5}  {period}{_(':')} {bans}"
    for row in digest.deliveries:
        yield f"{MARK if row in missing else ' '}       {_delivery(row, zone)}"


def _delivery(row: _Delivery, zone: ZoneInfo) -> str:
    when = f" {moment(row.settled_at, zone)}" if row.settled_at else ""
    to = _("%(channel)s to %(recipient)s", channel=row.channel, recipient=row.recipient)
    tried = ", " + ngettext("%(num)s attempt", "%(num)s attempts", row.attempts) if row.attempts != 1 else ""
    error = f"{_(':')} {told(row.error)}" if row.error else ""
    return f"{status(row.status)}{when}{_(':')} {to}{tried}{error}"


def _missing(digest: _Digest) -> Sequence[_Delivery]:
    """Return the undelivered deliveries, without those of which a later copy arrived."""
    later = {(row.channel, row.recipient): row for row in digest.deliveries}
    return [row for row in later.values() if row.status != "sent"]
