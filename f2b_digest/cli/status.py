"""`status`: what is pending, what was not delivered, and why. Opens the store read-only."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from f2b_digest import composition, recorder
from f2b_digest.cli import Program, zone_of
from f2b_digest.config import Configuration
from f2b_digest.rendering.renderer import plural, visible
from f2b_digest.store import HOW_TO_RECOVER, Delivery, Store, damage

LONGEST_TEXT = 4096
"""Characters: a path, or a reason with what to do, is of no use when cut."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: times are UTC epoch seconds.")
@click.pass_obj
def command(program: Program, as_json: bool) -> None:
    """Show what is pending, what was not delivered, and why."""
    configuration = program.configuration()
    path = program.begin(configuration)
    with Store(path, read_only=True) as store:
        state = _state(configuration, store, path)
    click.echo(json.dumps(state, indent=2) if as_json else "\n".join(_lines(state, configuration)))


def _state(configuration: Configuration, store: Store, path: Path) -> dict[str, Any]:
    reports, newest = {}, []
    for name, report in configuration.reports.items():
        pending = store.pending(composition.pending(store, name, report))
        last = store.last_digest(name)
        newest += [last.id] if last else []
        reports[name] = {
            "pending_bans": pending.bans,
            "pending_since": pending.since,
            "last_digest": last and {"sealed_at": last.sealed_at, "bans": last.bans},
            "channels": list(report.channels),
        }
    return {
        "store": str(path),
        "bytes": sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()),
        "spooled": recorder.spooled(str(path)),
        "damage": damage(path),
        "reports": reports,
        "noted": [_row(row) for row in (store.deliveries(("sent",), digests=newest) if newest else ()) if row.error],
        "undelivered": [_row(row) for row in store.undelivered()],
    }


def _row(row: Delivery) -> dict[str, Any]:
    return {
        "report": row.report, "sealed_at": row.sealed_at, "channel": row.channel, "recipient": row.recipient,
        "status": row.status, "attempts": row.attempts, "next_at": row.next_at, "error": row.error,
    }  # fmt: skip


def _lines(state: dict[str, Any], configuration: Configuration) -> Iterator[str]:
    state = visible(state, LONGEST_TEXT)
    yield f"store    {state['store']}, {state['bytes'] / 1e6:.1f} MB"
    if state["damage"]:
        yield f"DAMAGED  set aside: {state['damage']}: {HOW_TO_RECOVER}"
    if state["spooled"]:
        yield f"spool    {plural(state['spooled'], 'event waits', 'events wait')} for the next send"
    for name, report in state["reports"].items():
        yield from _report_lines(name, report, zone_of(configuration, name))
    for row in state["noted"] + state["undelivered"]:
        yield from _delivery_lines(row, zone_of(configuration, row["report"]))
    if not state["undelivered"]:
        yield "nothing is undelivered"


def _report_lines(name: str, report: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    pending, last = plural(report["pending_bans"], "ban", "bans") + " pending", report["last_digest"]
    if report["pending_bans"]:
        pending += f" since {_moment(report['pending_since'], zone)}"
    sealed = f"last digest {_moment(last['sealed_at'], zone)}, {plural(last['bans'], 'ban', 'bans')}" if last else ""
    yield f"{name:8} {pending}; {sealed or 'no digest yet'}"
    if not report["channels"]:
        yield f"{'':8} no channel: send refuses to seal what nobody would see"


def _delivery_lines(row: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    digest = f"{row['report']} of {_moment(row['sealed_at'], zone)}"
    tried = f", {plural(row['attempts'], 'attempt', 'attempts')}" if row["status"] != "sent" else ""
    when = f", next attempt {_moment(row['next_at'], zone)}" if row["status"] == "deferred" else ""
    yield f"{row['status']:8} {digest}: {row['channel']} to {row['recipient']}{tried}{when}"
    if row["error"]:
        yield f"{'':8} {row['error']}"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%a %-d %b %Y %H:%M")
