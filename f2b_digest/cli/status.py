"""`status`: pending bans and undelivered digests. Opens the store read-only."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from f2b_digest import composition, recorder
from f2b_digest.cli import centre, console, metrics, trouble
from f2b_digest.cli.language import gettext as _
from f2b_digest.cli.language import language, moment, ngettext, told
from f2b_digest.cli.language import status as status_word
from f2b_digest.cli.program import Program, zone_of
from f2b_digest.config import Configuration, Report
from f2b_digest.store import HOW_TO_RECOVER, Delivery, Outbox, Pending, Sealed, Store, damage, progress
from f2b_digest.text.visible import visible

if TYPE_CHECKING:
    from f2b_digest.fleet.centre import Centre

WIDEST_LABEL = 20
"""Columns; a report's name can have 40 characters."""
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


Row = tuple[str, str]
"""A label, "" where the row goes on, and what stands beside it."""


def _lines(state: _State, configuration: Configuration) -> Iterator[str]:
    state = visible(state, LONGEST_TEXT)
    yield _("PROBLEMS: %(problems)s", problems="; ".join(map(told, state.trouble))) if state.trouble else _("OK.")
    rows = list(_rows(state, configuration))
    width = min(max(8, *(len(label) for label, _text in rows)), WIDEST_LABEL)
    yield from (f"{label:{width}} {text}" for label, text in rows)
    if not state.undelivered:
        yield _("all digests delivered")
    if state.fleet:
        yield from (f"{label:{width}} {text}" for label, text in _fleet_rows(state.fleet, configuration.timezone))


def _rows(state: _State, configuration: Configuration) -> Iterator[Row]:
    yield (
        _("store"),
        _("%(store)s, %(size)s MB", store=state.store, size=f"{language().number(round(state.bytes / 1e6, 1))}"),
    )
    if state.damage:
        yield _("DAMAGED"), _("set aside: %(reason)s", reason=told(f"{state.damage}: {HOW_TO_RECOVER}"))
    if state.spooled:
        waits = ngettext(
            "%(num)s event waits for the next send", "%(num)s events wait for the next send", state.spooled
        )
        yield _("spool"), waits
    for name, report in state.reports.items():
        yield from _report_rows(name, report, zone_of(configuration, name))
    for row in (*state.noted, *state.undelivered):
        yield from _delivery_rows(row, zone_of(configuration, row.report))


def _report_rows(name: str, report: _Report, zone: ZoneInfo) -> Iterator[Row]:
    last, count = report.last_digest, report.pending_bans
    if count and report.pending_since is not None:
        since = moment(report.pending_since, zone)
        pending = ngettext(
            "%(num)s ban pending since %(since)s", "%(num)s bans pending since %(since)s", count, since=since
        )
    else:
        pending = ngettext("%(num)s ban pending", "%(num)s bans pending", count)
    sealed = _("no digest yet")
    if last:
        bans = ngettext("%(num)s ban", "%(num)s bans", last.bans)
        sealed = _("last digest %(day)s, %(bans)s", day=moment(last.sealed_at, zone), bans=bans)
    yield name, f"{pending}{_(';')} {sealed}"
    if not report.channels:
        yield "", _("no channel: send does not run without one")


def _fleet_rows(upload: _Upload, zone: ZoneInfo) -> Iterator[Row]:
    reached = _("reached %(time)s", time=moment(upload.reached_at, zone)) if upload.reached_at else _("never reached")
    waits = _("the centre has everything")
    if upload.oldest is not None:
        waits = ngettext(
            "%(num)s event is not at the centre, of %(oldest)s",
            "%(num)s events are not at the centre, the oldest of %(oldest)s",
            upload.backlog, oldest=moment(upload.oldest, zone),
        )  # fmt: skip
    yield _("fleet"), f"{waits}{_(';')} {reached}"
    if upload.reason:
        yield "", told(upload.reason)


def _delivery_rows(row: _Trouble, zone: ZoneInfo) -> Iterator[Row]:
    digest = _("%(report)s of %(day)s", report=row.report, day=moment(row.sealed_at, zone))
    to = _("%(channel)s to %(recipient)s", channel=row.channel, recipient=row.recipient)
    tried = ", " + ngettext("%(num)s attempt", "%(num)s attempts", row.attempts) if row.status != "sent" else ""
    when = ", " + _("next attempt %(time)s", time=moment(row.next_at, zone)) if row.status == "deferred" else ""
    yield status_word(row.status), f"{digest}{_(':')} {to}{tried}{when}"
    if row.error:
        yield "", told(row.error)
