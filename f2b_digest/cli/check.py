"""`check`: prints the findings of f2b_digest.checks; the store is opened read-only."""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from f2b_digest import __version__, checks, delivery
from f2b_digest.checks import Finding, Subject, channels, schedule
from f2b_digest.checks import centre as checks_centre
from f2b_digest.cli import centre, console
from f2b_digest.cli.language import gettext as _
from f2b_digest.cli.language import told
from f2b_digest.cli.program import Program
from f2b_digest.config import Configuration
from f2b_digest.errors import CentreError, ConfigurationError, StoreError
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.text.visible import visible

ERROR, WARNING, CONFIGURATION = 1, 3, 78
LONGEST_TEXT = 4096


@click.command()
@click.option("--send", is_flag=True, help="Send a marked test message through each channel.")
@click.option("--json", "as_json", is_flag=True, help="JSON output: state, what, text and todo of each line.")
@click.option("--fail2ban-socket", "socket", type=click.Path(path_type=Path), metavar="PATH",
              help="Default: from fail2ban's configuration.")  # fmt: skip
@click.pass_obj
def command(program: Program, send: bool, as_json: bool, socket: Path | None) -> None:
    """Check the installation and report problems.

    The configuration and its secrets, the store, the action in each running jail, cron, the database of addresses, the
    templates, and each channel, without sending anything. One line each: ok, warning or error.

    \b
    Exit status, for monitoring: 0 all is well; 1 an error; 3 warnings only;
    78 the configuration cannot be used.
    Example:   f2b-digest check --send
    """  # noqa: D301 - click wants the character, not its name
    try:
        findings, unusable = _findings(program, socket, send=send), 0
        shown = list(_shown(findings, as_json))
    except ConfigurationError as mistaken:
        unusable = CONFIGURATION
        shown = list(_shown((checks.error("configuration", line) for line in mistaken.mistakes), as_json))
    states = {finding.state for finding in shown}
    if as_json:
        state = "error" if "error" in states else "warning" if "warning" in states else "ok"
        click.echo(json.dumps({"state": state, "findings": [asdict(finding) for finding in shown]}, indent=2))
    sys.exit(unusable or (ERROR if "error" in states else WARNING if "warning" in states else 0))


def _findings(program: Program, socket: Path | None, *, send: bool) -> Iterator[Finding]:
    configuration = program.quiet_configuration()
    renderer = delivery.renderer_of(configuration)
    if program.is_centre(configuration.store):
        yield from _of_centre(program, configuration, renderer)
        if send:
            yield from channels.send_tests(configuration, renderer, program.clock)
        return
    host = checks.look(socket)  # before switching to the store's owner, who may not ask
    try:
        path = program.begin(configuration, looks=True)
    except StoreError as refused:
        yield checks.error("store", str(refused))
        return
    theirs = program.gathered.database if program.gathered else None
    log = program.gathered.log if program.gathered else None
    known = program.host_context(configuration)
    yield checks.ok("program", f"f2b-digest {__version__}, Python {platform.python_version()}")
    subject = Subject(configuration, program.config, path, program.clock, renderer, known, theirs, log)
    yield from checks.examine(subject, host)
    if send:
        yield from channels.send_tests(configuration, renderer, program.clock)


def _of_centre(program: Program, configuration: Configuration, renderer: Renderer) -> Iterator[Finding]:
    """Yield the findings at a fleet's centre; an unreachable one is a finding."""
    schedules = schedule.look()
    yield checks.ok("program", f"f2b-digest {__version__}, Python {platform.python_version()}")
    for line in configuration.warnings:
        yield checks.warning("configuration", line)
    try:
        with centre.opened(program, configuration) as fleet:
            reports = configuration.reports.items()
            pending = {name: fleet.pending_of(name, report.hosts, report.jails) for name, report in reports}
            hosts, enrolled = fleet.hosts_by_state(program.clock()), fleet.enrolled()
            yield from checks_centre.examine(
                configuration, fleet, fleet.name, hosts, enrolled, pending, renderer, schedules, program.clock
            )
    except CentreError as refused:
        yield checks.error("centre", str(refused))


def _shown(findings: Iterator[Finding], as_json: bool) -> Iterator[Finding]:
    """Print each finding at once (some take seconds), unless JSON is requested."""
    while True:
        with console.working("Examining"):
            finding = next(findings, None)
        if finding is None:
            return
        if not as_json:
            click.echo(_line(finding))
        yield finding


def _line(finding: Finding) -> str:
    """Return a finding in the language."""
    shown = {key: told(text) for key, text in visible(asdict(finding), LONGEST_TEXT).items()}
    width = max(len(told(state)) for state in ("ok", "warning", "error")) + 1
    todo = f" ({shown['todo']})" if shown["todo"] else ""
    return f"{shown['state']:{width}}{shown['what']}{_(':')} {shown['text']}{todo}"
