"""`status`: pending bans and undelivered digests. Opens the store read-only."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from f2b_digest import composition, recorder
from f2b_digest.cli import centre, console, metrics, trouble
from f2b_digest.cli.console import plural
from f2b_digest.cli.program import Program, zone_of
from f2b_digest.config import Configuration, Report
from f2b_digest.store import HOW_TO_RECOVER, Delivery, Outbox, Pending, Sealed, Store, damage, progress
from f2b_digest.text.visible import visible

if TYPE_CHECKING:
    from f2b_digest.fleet.centre import Centre

LONGEST_TEXT = 4096
"""Maximum characters: a truncated path or reason would be useless."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "prometheus"]),
    help="text; json for programs, with times in UTC epoch seconds; prometheus: metrics.",
)
@click.option(
    "--textfile",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the metrics atomically to a file for node_exporter.",
)
@click.pass_obj
def command(program: Program, as_json: bool, form: str | None, textfile: Path | None) -> None:
    """Show pending bans and undelivered digests.

    The first line is the overall state.

    \b
    Example:   f2b-digest status --textfile /var/lib/prometheus/node-exporter/bans.prom
    """  # noqa: D301 - click wants the character, not its name
    if textfile and (as_json or form not in (None, "prometheus")):
        raise click.UsageError("--textfile writes the format prometheus only")
    configuration = program.configuration()
    if textfile:
        if program.becomes_another(configuration):
            content = metrics.by_a_child(lambda: _metrics(program, configuration))
        else:
            content = _metrics(program, configuration).encode()
        metrics.write(textfile, content)
    elif form == "prometheus":
        click.echo(_metrics(program, configuration), nl=False)
    else:
        state = _state_of(program, configuration)
        as_json = as_json or form == "json"
        click.echo(json.dumps(asdict(state), indent=2) if as_json else "\n".join(_lines(state, configuration)))


@dataclass(frozen=True)
class _Last:
    sealed_at: float
    bans: int


@dataclass(frozen=True)
class _Report:
    pending_bans: int
    pending_since: float | None
    last_digest: _Last | None
    channels: Sequence[str]


@dataclass(frozen=True)
class _Trouble:
    """A delivery that is open, failed, or was sent with a note."""

    report: str
    sealed_at: float
    channel: str
    recipient: str
    status: str
    attempts: int
    next_at: float
    error: str | None

    @classmethod
    def of(cls, row: Delivery) -> "_Trouble":
        return cls(**{each.name: getattr(row, each.name) for each in fields(cls)})


@dataclass(frozen=True)
class _Upload:
    """What the fleet's centre does not have, and when it last answered."""

    backlog: int
    oldest: float | None
    reached_at: float | None
    reason: str | None
    """Why the last attempt failed."""


@dataclass(frozen=True)
class _State:
    """The output of `--json`; times are in UTC epoch seconds."""

    store: str
    bytes: int
    spooled: int
    damage: str
    """Why the store was set aside, or ""."""
    reports: Mapping[str, _Report]
    noted: Sequence[_Trouble]
    undelivered: Sequence[_Trouble]
    fleet: _Upload | None
    """None if the host has not joined a fleet."""
    trouble: Sequence[str]
    """Problems, one line each."""


def _state_of_fleet(configuration: Configuration, fleet: "Centre") -> _State:
    reports = {}
    for name, report in configuration.reports.items():
        pending = fleet.pending_of(name, report.hosts, report.jails)
        reports[name] = _report_of(report, pending, fleet.last_digest(name))
    noted, undelivered = _troubles(configuration, fleet)
    lines = list(trouble.of_deliveries(configuration, fleet))
    return _State(fleet.name, fleet.size(), 0, "", reports, noted, undelivered, None, lines)


def _troubles(configuration: Configuration, store: Outbox) -> tuple[list[_Trouble], list[_Trouble]]:
    """Return the newest digests' deliveries with notes, and undelivered ones."""
    newest = [last.id for name in configuration.reports if (last := store.last_digest(name))]
    noted = store.deliveries(("sent",), digests=newest) if newest else []
    return [_Trouble.of(row) for row in noted if row.error], [_Trouble.of(row) for row in store.undelivered()]


def _state(configuration: Configuration, store: Store, path: Path, now: float) -> _State:
    noted, undelivered = _troubles(configuration, store)
    return _State(
        store=str(path),
        bytes=sum(file.stat().st_size for file in (path, Path(f"{path}-wal")) if file.exists()),
        spooled=recorder.spooled(str(path)),
        damage=damage(path),
        reports={name: _report(configuration, store, name) for name in configuration.reports},
        noted=noted,
        undelivered=undelivered,
        fleet=_upload(path),
        trouble=list(trouble.found(configuration, store, path, now)),
    )


def _upload(path: Path) -> _Upload | None:
    known = progress(path)
    return _Upload(known.backlog.events, known.backlog.oldest, known.reached_at, known.reason) if known else None


def _report(configuration: Configuration, store: Store, name: str) -> _Report:
    report = configuration.reports[name]
    return _report_of(report, store.pending(composition.pending(store, name, report)), store.last_digest(name))


def _report_of(report: Report, pending: Pending, last: Sealed | None) -> _Report:
    sealed = _Last(last.sealed_at, last.bans) if last else None
    return _Report(pending.bans, pending.since, sealed, report.channels)


def _state_of(program: Program, configuration: Configuration) -> _State:
    if program.is_centre(configuration.store):
        with centre.opened(program, configuration) as fleet, console.working("Reading the centre"):
            return _state_of_fleet(configuration, fleet)
    path = program.begin(configuration)
    with Store(path, read_only=True) as store, console.working("Reading the store"):
        return _state(configuration, store, path, program.clock())


def _metrics(program: Program, configuration: Configuration) -> str:
    if program.is_centre(configuration.store):
        with centre.opened(program, configuration) as fleet:
            # No bans by jail: counting them would read all events of the fleet at each scrape.
            state, hosts = _state_of_fleet(configuration, fleet), fleet.hosts_by_state(program.clock())
            return metrics.exposition(_measured(state, fleet, {}, hosts))
    path = program.begin(configuration)
    with Store(path, read_only=True) as store:
        state = _state(configuration, store, path, program.clock())
        return metrics.exposition(_measured(state, store, store.bans_by_jail(), {}))


def _measured(state: _State, outbox: Outbox, bans: Mapping[str, int], hosts: Mapping[str, int]) -> metrics.State:
    reports = {
        name: metrics.Report(
            report.pending_bans,
            max(outbox.runs(name), default=None),
            report.last_digest.sealed_at if report.last_digest else None,
        )
        for name, report in state.reports.items()
    }
    undelivered = [(row.report, row.channel, row.status) for row in state.undelivered]
    return metrics.State(
        bans, reports, undelivered, state.spooled, state.bytes, damaged=bool(state.damage), hosts=hosts
    )


def _lines(state: _State, configuration: Configuration) -> Iterator[str]:
    state = visible(state, LONGEST_TEXT)
    yield f"PROBLEMS: {'; '.join(state.trouble)}" if state.trouble else "OK."
    yield f"store    {state.store}, {state.bytes / 1e6:.1f} MB"
    if state.damage:
        yield f"DAMAGED  set aside: {state.damage}: {HOW_TO_RECOVER}"
    if state.spooled:
        yield f"spool    {plural(state.spooled, 'event waits', 'events wait')} for the next send"
    for name, report in state.reports.items():
        yield from _report_lines(name, report, zone_of(configuration, name))
    for row in (*state.noted, *state.undelivered):
        yield from _delivery_lines(row, zone_of(configuration, row.report))
    if not state.undelivered:
        yield "all digests delivered"
    if state.fleet:
        yield from _fleet_lines(state.fleet, configuration.timezone)


def _report_lines(name: str, report: _Report, zone: ZoneInfo) -> Iterator[str]:
    pending, last = plural(report.pending_bans, "ban", "bans") + " pending", report.last_digest
    if report.pending_bans and report.pending_since is not None:
        pending += f" since {_moment(report.pending_since, zone)}"
    sealed = f"last digest {_moment(last.sealed_at, zone)}, {plural(last.bans, 'ban', 'bans')}" if last else ""
    yield f"{name:8} {pending}; {sealed or 'no digest yet'}"
    if not report.channels:
        yield f"{'':8} no channel: send does not run without one"


def _fleet_lines(upload: _Upload, zone: ZoneInfo) -> Iterator[str]:
    reached = f"reached {_moment(upload.reached_at, zone)}" if upload.reached_at else "never reached"
    waits = "has everything"
    if upload.oldest is not None:
        events = plural(upload.backlog, "event is", "events are")
        waits = f"{events} not there, the oldest of {_moment(upload.oldest, zone)}"
    yield f"fleet    the centre {waits}; {reached}"
    if upload.reason:
        yield f"{'':8} {upload.reason}"


def _delivery_lines(row: _Trouble, zone: ZoneInfo) -> Iterator[str]:
    digest = f"{row.report} of {_moment(row.sealed_at, zone)}"
    tried = f", {plural(row.attempts, 'attempt', 'attempts')}" if row.status != "sent" else ""
    when = f", next attempt {_moment(row.next_at, zone)}" if row.status == "deferred" else ""
    yield f"{row.status:8} {digest}: {row.channel} to {row.recipient}{tried}{when}"
    if row.error:
        yield f"{'':8} {row.error}"


def _moment(at: float, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(at, zone).strftime("%a %-d %b %Y %H:%M")
