"""`demo`: every step on a week of sample bans. Addresses are documentation addresses (RFC 5737, 3849)."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import click

from f2b_digest import recorder
from f2b_digest.cli import SAMPLES, cli, scratch
from f2b_digest.cli.environment import local_language
from f2b_digest.cli.program import Program, say
from f2b_digest.errors import F2bDigestError
from f2b_digest.model.event import Event

HOST = "web1.example.org"
CONFIGURATION = f"""\
host = "{HOST}"

[reports.weekly]
channels = ["outbox"]

[channels.outbox]
kind = "file"
folder = "outbox"
"""
DAY = 86400
ATTACK = 3 * 3600 - 60
"""Seconds of a campaign from one network, for the digest to find."""
USERS = ("root", "admin", "ubuntu", "oracle", "test", "git", "postgres", "pi", '"><script>alert(1)</script>')


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), help="Folder to use. Default: a new temporary folder.")
@click.pass_obj
def command(program: Program, folder: Path | None) -> None:
    """Run every step on sample bans in a temporary folder.

    It needs no root, no fail2ban and no configuration, and sends nothing: the digest is written to a file.
    """
    if folder is None:
        folder = scratch.make("f2b-digest-demo-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        program.become_owner(folder / "bans.sqlite3", [local_language(os.environ)])
        config = folder / "config.toml"
        config.write_text(f'store = "{folder.absolute()}/bans.sqlite3"\n' + CONFIGURATION, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(folder), error.strerror) from None
    events = list(sample_week(program.clock()))
    try:
        for event in events:
            recorder.append(str(folder / "bans.sqlite3"), event)
    except recorder.NotStored as error:
        raise F2bDigestError(f"{folder} cannot hold the sample bans: {error}") from None
    say(f"{len(events)} sample events recorded in {folder}/bans.sqlite3")
    click.echo()
    html = folder / "digest.html"
    for words in (
        ("preview", "weekly", "--no-pager"),
        ("preview", "weekly", "--format", "html", "--output", str(html)),
        ("-v", "send", "weekly"),
        ("status",),
    ):
        _run(config, *words)
    say(f"The digest as HTML: {html}")
    say(f"The mail as sent: {folder}/outbox")


def _run(config: Path, *words: str) -> None:
    """Echo a command line and run it."""
    arguments = ["--config", str(config), *words]
    click.secho(f"$ f2b-digest {' '.join(arguments)}", bold=True)
    try:
        cli.main(arguments, standalone_mode=False, obj=SAMPLES)
    except SystemExit as end:
        if end.code:
            raise
    click.echo()


def sample_week(now: float) -> Iterator[Event]:
    """Yield the events of the week before `now` (UTC epoch seconds), always the same except for the dates."""
    chance = random.Random(832)  # noqa: S311 - samples; the number of fail2ban's issue that asks for a digest
    swarm = [f"203.0.113.{chance.randrange(1, 255) % 19 + 1}" for _ in range(9)]
    attack = now - 2.25 * DAY
    for day in range(7):
        start = now - (7 - day) * DAY
        for _ in range(chance.randrange(6, 14)):
            at = attack + chance.random() * ATTACK
            ip = f"{chance.choice(swarm)}{day}"
            yield _ban("sshd", ip, at, chance.randrange(5, 9), 600, chance.sample(USERS, 2))
        for hour in (3, 11, 19):
            at = start + hour * 3600 + chance.random() * 600
            yield _ban("sshd", "198.51.100.23", at, 5, 600, ["root"])
            yield Event.of("prolong", "sshd", "198.51.100.23", at, HOST, "demo", bantime=600 * 2 ** (day + 2))
        for _ in range(chance.randrange(2, 7)):
            at = start + chance.random() * DAY
            yield _ban("nginx-botsearch", f"192.0.2.{chance.randrange(1, 9)}", at, 2, 3600, [])
        yield _ban("postfix-sasl", "2001:db8:1f:9::7", start + chance.random() * DAY, 3, 3600, ["info@example.org"])
    yield _ban("recidive", "198.51.100.23", now - 2 * DAY, 5, -1, [])


def _ban(jail: str, ip: str, at: float, failures: int, bantime: int, users: list[str]) -> Event:
    return Event.of("ban", jail, ip, at, HOST, "demo", failures=failures, bantime=bantime, users=users)
