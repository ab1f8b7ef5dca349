"""`fleet list` at a hub of many hosts, and what the commands of a fleet say on a machine that has none."""

import json
import uuid
from pathlib import Path

import pytest

from f2b_digest import __version__
from f2b_digest.cli import forward
from f2b_digest.fleet.credential import Credential, write
from f2b_digest.store import Received, Said
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill

NOW = NOON + 3600
"""The clock of the program in these tests."""


def hello(received: Received, host: str, life: str = "", at: float = NOW, **state: object) -> str:
    """Let a host's store be heard; return its life."""
    life = life or str(uuid.uuid4())
    said = Said(json.dumps({"version": __version__, "backlog": 0} | state), 0.0, at)
    received.hello(host, life, [], said, at)
    return life


@pytest.fixture
def hub(path: Path) -> Path:
    """Provide the store of a hub."""
    fill(path, [event()])
    return path


def test_of_many_hosts_those_with_problems_are_listed(f2b_digest: Command, config: Path, hub: Path) -> None:
    """The others are a number, and those that run another version; --all and --json have each."""
    with Received(hub) as received:
        for number in range(100):
            received.enrol(f"web{number:02}", NOW - 9e5)
            version = "0.0.1" if number == 7 else __version__
            hello(received, f"web{number:02}", at=NOW - 7200 if number == 42 else NOW, version=version)
        received.retire("web99", NOW)
    listed = f2b_digest("--config", config, "fleet", "list")
    assert listed.out.splitlines() == [
        "web42: heard 2 hours ago",
        "    silent since 2 hours ago: check that it is up and that cron runs f2b-digest forward",
        "98 hosts without problems (--all lists them)",
        f"    1 of them runs f2b-digest 0.0.1, and this is {__version__}",
        "1 host retired",
    ]
    assert listed.status == 3
    everyone = f2b_digest("--config", config, "fleet", "list", "--all").out
    assert sum(line.startswith("web") for line in everyone.splitlines()) == 100
    assert "web99: retired" in everyone
    as_json = json.loads(f2b_digest("--config", config, "fleet", "list", "--json").out)
    assert [host["host"] for host in as_json if host["troubles"]] == ["web42"]
    assert len(as_json) == 100


def test_a_few_hosts_are_listed_whole(f2b_digest: Command, config: Path, hub: Path) -> None:
    """And another version is no problem: the centre is upgraded first."""
    with Received(hub) as received:
        for host in ("web1", "web2"):
            received.enrol(host, NOW)
            hello(received, host, version="0.0.1")
    listed = f2b_digest("--config", config, "fleet", "list")
    note = f"    runs f2b-digest 0.0.1, and this is {__version__}"
    assert listed.out.splitlines() == ["web1: heard a moment ago", note, "web2: heard a moment ago", note]
    assert listed.status == 0


def test_a_host_that_left_is_no_clone(f2b_digest: Command, config: Path, hub: Path) -> None:
    """It said goodbye: it can be retired, or it joins again as a new store. Whoever stays is the host."""
    with Received(hub) as received:
        received.enrol("web1", NOW - 9e5)
        first, clone = (hello(received, "web1", at=NOW - 1800) for _ in range(2))
        hello(received, "web1", first, NOW - 300)
        hello(received, "web1", clone, NOW - 200)
        assert "2 stores report as this host" in f2b_digest("--config", config, "fleet", "list").out
        hello(received, "web1", clone, NOW - 100, left=True)
        assert f2b_digest("--config", config, "fleet", "list").out.splitlines() == ["web1: heard 5 minutes ago"]
        hello(received, "web1", first, NOW, left=True)
        left = f2b_digest("--config", config, "fleet", "list")
        assert "    left the fleet a moment ago: f2b-digest fleet retire web1" in left.out
        assert left.status == 3
        hello(received, "web1")
        assert f2b_digest("--config", config, "fleet", "list").status == 0


def test_a_hub_whose_hosts_are_all_gone(f2b_digest: Command, config: Path, hub: Path) -> None:
    """What comes next is said."""
    Received(hub).__exit__()
    assert f2b_digest("--config", config, "fleet", "list").out == "no host is enrolled: f2b-digest fleet add HOST\n"


@pytest.mark.parametrize("command", [("list",), ("add", "web1"), ("rotate", "web1"), ("retire", "web1")])
def test_a_machine_without_the_extra_is_told_what_it_is(
    f2b_digest: Command, config: Path, hub: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that uploads: where to run this; a centre: the extra; a single host: both ways to have a fleet."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    single = f2b_digest("--config", config, "fleet", *command)
    assert forward.MISSING in single.err
    assert "f2b-digest fleet add HOST --ssh makes this host a hub" in single.err
    write(config.parent / "fleet.toml", Credential("postgresql://h-1@db.example.org:5432/f2b_digest", "secret"))
    host = f2b_digest("--config", config, "fleet", *command)
    assert host.err == "f2b-digest: this host uploads to db.example.org:5432: run this there\n"
    (config.parent / "fleet.toml").unlink()
    centre = f2b_digest("--config", config, "--store", "postgresql://f2b_digest@/x", "fleet", *command)
    assert centre.err == f"f2b-digest: {forward.MISSING}\n"
    assert {single.status, host.status, centre.status} == {78}
