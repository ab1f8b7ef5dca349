"""docs/fleet.md, tried word by word: its commands and files as they stand there, on machines apart, as it says.

Two hosts with a real fail2ban and a centre with a PostgreSQL as apt installs it, and a hub with a real sshd. Only what
the page marks as an example is replaced: the login, the password, and the credential that is typed.
"""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests import ROOT
from tests.support.fleet_machines import CentreMachine, DatabaseMachine, FleetMachine
from tests.support.postgres_server import ASKED

pytestmark = pytest.mark.slow
PASSWORD = "correct horse: 'battery' %41"
QUOTED = "correct%20horse%3A%20%27battery%27%20%2541"
"""The same in a URL."""
PATIENCE = 90.0
"""Seconds."""
YES = {"[y/N]:": "y"}
CRON = "/etc/cron.d/f2b-digest"


class Block(NamedTuple):
    """A block of code of a page, and what introduces it."""

    before: str
    language: str
    text: str


def blocks(title: str) -> Iterator[Block]:
    """Yield the blocks of a section of the page, in order."""
    section = re.search(
        rf"^## {re.escape(title)}\n(.*?)^## ", (ROOT / "docs/fleet.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert section, title
    end = 0
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL):
        yield Block(section[1][end : found.start()], found[1], found[2].replace("\\\n", " "))
        end = found.end()


def typed(machine: FleetMachine, block: Block, answers: dict[str, str]) -> str:
    """Type a block's commands; return what they showed. Each must succeed."""
    assert block.language == "sh", block
    text = ""
    for line in block.text.splitlines():
        status, shown = machine.typed(line, answers)
        assert status == 0, f"{machine.name}: {line}\n{shown}"
        text += shown
    return text


def joins(machine: FleetMachine, block: Block, printed: str) -> str:
    """Let a host join by its block, with the address and credential that `fleet add` printed for it."""
    of_host = printed[printed.index(f"On {machine.name}, as root:") :]
    address, credential = (re.search(what, of_host) for what in (r"fleet join (\S+)", r"f2b1\.\S+"))
    assert address
    assert credential
    text, count = re.subn(r"(?<=fleet join )\S+", address[1], block.text)
    assert count == 1
    return typed(machine, block._replace(text=text), {"Credential:": credential[0], **YES})


def test_two_hosts_and_a_centre_in_ten_minutes(figures: Callable[..., None]) -> None:
    """From three machines without anything to a mail that tells the bans of two."""
    begun = time.monotonic()
    with (
        CentreMachine("db.example.org") as centre,
        FleetMachine("web1", centre) as web1,
        FleetMachine("web2", centre) as web2,
    ):
        centre.mail_server(sys.executable)
        installed = time.monotonic()
        certificate, settings, rules, at_centre, on_host, listing = blocks("Two hosts and a centre in ten minutes")
        set_up(web1, web2)
        web1.ban("203.0.113.1")
        typed(centre, certificate, {})
        assert "`postgresql.conf`" in settings.before
        assert "`pg_hba.conf`" in rules.before
        for block, file in ((settings, "postgresql.conf"), (rules, "pg_hba.conf")):
            centre.append(file, block.text)
        centre.restart()
        printed = typed(centre, at_centre, {})
        assert "to do:" not in printed
        with ThreadPoolExecutor() as pool:
            joined = list(pool.map(lambda host: joins(host, on_host, printed), (web1, web2)))
        assert "joined as web1: 3 events uploaded" in joined[0], joined
        for host in (web1, web2):
            assert "forward" in host.do(f"cat {CRON}")
        listed = typed(centre, listing, {})
        assert listed.startswith("web1: heard a moment ago, last ban a moment ago\nweb2: heard a moment ago\n")
        digests(centre, web1, web2)
        seconds = time.monotonic() - installed
        figures(
            "a fleet by its documentation",
            f"two hosts and a centre: {seconds:.0f} s for all commands, {installed - begun:.0f} s for the machines",
        )
        assert seconds < 600


def set_up(*machines: FleetMachine) -> None:
    """Start fail2ban, and install the program as its own page says."""
    with ThreadPoolExecutor() as pool:
        for shown in pool.map(lambda machine: machine.do("fail2ban-client start && f2b-digest setup --yes"), machines):
            assert "enabled jails that record their bans: sshd, own" in shown


def digests(centre: CentreMachine, web1: FleetMachine, web2: FleetMachine) -> None:
    """Follow the section on the digest of all hosts, and then wait for cron."""
    _, _, set_up_cron, cron, commands = blocks("The digest of all hosts")
    configure(centre, "/etc/ssl/f2b-digest-ca.pem")
    web1.ban("203.0.113.2", "203.0.113.3")
    web2.ban("203.0.113.3")
    for host in (web1, web2):
        host.do(forward_of(host))
    typed(centre, set_up_cron, {})
    assert f"`{CRON}`" in cron.before
    with (centre.folder / CRON[1:]).open("a") as opened:
        opened.write(cron.text)
    centre.cron()
    shown = typed(centre, commands, {})
    assert "3 bans" in shown, shown
    centre.do("f2b-digest send")
    mails = centre.mails()
    assert any("203.0.113.3" in mail and "web2" in mail for mail in mails), mails
    listed = centre.typed("sudo -u postgres f2b-digest fleet list", {})
    assert listed[0] == 0, listed


def configure(centre: CentreMachine, authority: str) -> None:
    """Write the configuration of a sender."""
    password, configuration, *_ = blocks("The digest of all hosts")
    typed(centre, password, {'Enter new password for user "f2b_digest":': PASSWORD, "Enter it again:": PASSWORD})
    assert configuration.language == "toml"
    assert "PASSWORD" in configuration.text
    written = centre.folder / "etc/f2b-digest/config.toml"
    assert (written.stat().st_mode & 0o777, written.read_text()) == (0o600, "")
    text = configuration.text.replace("PASSWORD", QUOTED)
    written.write_text(re.sub(r"(?<=sslrootcert=)[^\"]+", authority, text))


def forward_of(host: FleetMachine) -> str:
    """Return the command with which cron uploads, without its wait."""
    found = re.search(r"root\s+(.*forward.*)$", host.do(f"cat {CRON}"), re.MULTILINE)
    assert found
    return found[1].replace(" --scheduled", "")


def test_a_hub_without_a_database() -> None:
    """Its section, with a real sshd on its port."""
    with FleetMachine("hub.example.org") as hub, FleetMachine("web2", hub) as web2:
        hub.sshd()
        set_up(hub, web2)
        on_hub, on_host = blocks("A few hosts, without a database: a hub")
        printed = typed(hub, on_hub, {})
        line = re.search(r"^    (restrict,.*)$", printed, re.MULTILINE)
        assert line
        hub.do(f"cat >> /root/.ssh/authorized_keys <<'END'\n{line[1]}\nEND")
        web2.ban("203.0.113.4")
        joined = joins(web2, on_host, printed)
        assert "joined as web2: 3 events uploaded" in joined, joined
        web2.ban("203.0.113.5")
        web2.do(forward_of(web2))
        hub.ban("203.0.113.6")
        assert "203.0.113.5" in hub.do("f2b-digest preview")
        assert hub.do("f2b-digest fleet list").startswith("web2: heard a moment ago")


@pytest.mark.skipif(ASKED != "citus", reason="takes long: F2B_DIGEST_POSTGRES=citus runs it")
def test_citus_on_three_machines(figures: Callable[..., None]) -> None:
    """A coordinator and two workers, a host that joins, and what the centre tells of its bans."""
    begun = time.monotonic()
    with (
        CentreMachine("db.example.org") as centre,
        DatabaseMachine("db1.example.org") as db1,
        DatabaseMachine("db2.example.org") as db2,
        FleetMachine("web1", centre) as web1,
    ):
        nodes = (centre, db1, db2)
        for worker in (db1, db2):
            centre.cable(worker)
        set_up(web1)
        installed = time.monotonic()
        certificate, owner, settings, idents, of_workers, of_coordinator, on_each, at_coordinator, *_ = blocks(
            "On several machines: Citus"
        )
        typed(centre, certificate, {})
        for node in nodes:
            for name in ("nodes.key", "nodes.pem") if node is not centre else ():
                shutil.copy(centre.folder / "etc/postgresql" / name, node.folder / "etc/postgresql" / name)
            typed(node, owner, {})
            node.append("postgresql.conf", settings.text)
            node.append("pg_ident.conf", idents.text)
            rules = node.configuration("pg_hba.conf")
            rules.write_text((of_coordinator if node is centre else of_workers).text + rules.read_text())
            node.restart()
            typed(node, on_each, {})
        printed = typed(centre, at_coordinator, {})
        assert "its events are distributed over 2 workers by Citus" in printed
        assert "to do:" not in printed
        web1.ban("203.0.113.1")
        on_host = list(blocks("Two hosts and a centre in ten minutes"))[4]
        assert "joined as web1: 3 events uploaded" in joins(web1, on_host, printed)
        web1.ban("203.0.113.2")
        web1.do(forward_of(web1))
        configure(centre, "/etc/postgresql/nodes.pem")
        assert "203.0.113.2" in centre.do("f2b-digest preview")
        move_shards(centre)
        assert "203.0.113.2" in centre.do("f2b-digest preview")
        figures(
            "a fleet by its documentation",
            f"Citus: {time.monotonic() - installed:.0f} s for all commands, {installed - begun:.0f} s for the machines",
        )


def move_shards(centre: CentreMachine) -> None:
    """Have nodes connect to each other in every way that moving shards takes: from one worker, and back."""

    def ask(query: str) -> str:
        return centre.do(f'sudo -u postgres psql -qAt f2b_digest -c "SET statement_timeout = 0" -c "{query}"').strip()

    shards = "FROM citus_shards WHERE table_name = 'f2b.event'::regclass AND nodename = 'db2.example.org'"
    for shard in ask(f"SELECT shardid {shards} ORDER BY 1 LIMIT 2").split():
        ask(f"SELECT citus_move_shard_placement({shard}, 'db2.example.org', 5432, 'db1.example.org', 5432)")
    left = int(ask(f"SELECT count(*) {shards}"))
    ask("SELECT citus_rebalance_start()")
    until = time.monotonic() + PATIENCE
    while (state := ask("SELECT state FROM citus_rebalance_status()")) != "finished":
        assert time.monotonic() < until, state
        time.sleep(1)
    assert int(ask(f"SELECT count(*) {shards}")) > left
