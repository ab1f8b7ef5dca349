"""`history`: the digests that were sealed, and what became of them. Opens the store read-only."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from f2b_digest.cli import Program, report_named, zone_of
from f2b_digest.config import Configuration
from f2b_digest.rendering.renderer import plural, visible
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
    rows = [_row(digest, [row for row in deliveries if row.digest == digest.id]) for digest in digests]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for line in _lines(visible(rows, 300), configuration):
        click.echo(line)


def _row(digest: Sealed, deliveries: Iterable[Delivery]) -> dict[str, Any]:
    return {
        "id": digest.id,
        "report": digest.report,
        "period_start": digest.period_start,
        "period_end": digest.period_end,
        "sealed_at": digest.sealed_at,
        "bans": digest.bans,
        "deliveries": [
            {
                "channel": row.channel, "recipient": row.recipient, "status": row.status, "attempts": row.attempts,
                "settled_at": row.settled_at, "error": row.error,
            }
            for row in deliveries
        ],
    }  # fmt: skip


def _lines(rows: list[dict[str, Any]], configuration: Configuration) -> Iterable[str]:
    if not rows:
        yield "no digest yet"
    for row in rows:
        zone = zone_of(configuration, row["report"])
        period = f"{_moment(row['period_start'], zone)} to {_moment(row['period_end'], zone)}"
        yield f"{row['id']:5}  {row['report']}, {period}: {plural(row['bans'], 'ban', 'bans')}"
        for delivery in row["deliveries"]:
            when = f" {_moment(delivery['settled_at'], zone)}" if delivery["settled_at"] else ""
            tried = f", {plural(delivery['attempts'], 'attempt', 'attempts')}" if delivery["attempts"] != 1 else ""
            error = f": {delivery['error']}" if delivery["error"] else ""
            yield f"       {delivery['status']}{when}: {delivery['channel']} to {delivery['recipient']}{tried}{error}"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%a %-d %b %Y %H:%M")
