"""An unban ends a ban wherever it is reported; bans that ran out or were restored by a restart are not news."""

import json
import re
import shutil
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from f2b_digest import recorder
from f2b_digest.model.host_context import HostContext
from tests.support.fail2ban_history import AGAIN, BY_HAND, FAILED, LIFTED, PARDONED, history
from tests.support.fail2ban_server import VERSIONS, Fail2ban
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill

pytestmark = pytest.mark.slow

LIFTED_BY_HAND = re.compile(r"(192\S+) in sshd, banned \d\d:\d\d, lifted \d\d:\d\d")
"""What a message says of a ban that was lifted."""


def addresses(f2b_digest: Command, config: Path, *words: str | Path) -> dict[str, dict[str, Any]]:
    """Return the addresses of a preview, by their text."""
    ended = f2b_digest("--config", config, "preview", "--format", "json", *words)
    assert ended.status == 0, ended.err
    return {address["ip"]: address for jail in json.loads(ended.out)["jails"] for address in jail["worst"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_unban_ends_its_ban(
    version: str, f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lifted manually, with or without failures; not those that ran out, nor those restored by a restart."""
    past = history(version)
    shutil.copy(past.store, path)
    now = max(row["recorded_at"] for row in past.events) + 60
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: now))
    friends = HostContext(friends=(ip_network(PARDONED), ip_network("192.0.2.1")))
    monkeypatch.setattr("f2b_digest.host.read", lambda *_: (friends, []))
    found = addresses(f2b_digest, config)
    assert {ip for ip in found if found[ip]["lifted"]} == {LIFTED, PARDONED}
    assert {*FAILED, *BY_HAND, AGAIN} < {*found}
    text = f2b_digest("--config", config, "preview").out
    html = f2b_digest("--config", config, "preview", "--format", "html").out
    for said in (text, html):
        assert sorted(LIFTED_BY_HAND.findall(shown(said))) == sorted([LIFTED, PARDONED])
        assert f"unbanip {PARDONED}" not in said
        assert "unbanip 192.0.2.1" in said
    document = json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)
    own = {fact["ip"]: fact for fact in document["facts"] if fact["kind"] in ("own", "own_over")}
    assert {ip: own[ip]["kind"] for ip in (PARDONED, "192.0.2.1")} == {PARDONED: "own_over", "192.0.2.1": "own"}
    (unban,) = past.recorded(PARDONED, "unban")
    for said in (own[PARDONED]["until"], found[PARDONED]["until"]):
        assert pytest.approx(unban["recorded_at"], abs=1) == _epoch(said)
    assert "The ban is over:" in " ".join(text.split())


def shown(message: str) -> str:
    """Return what a message says, without its tags."""
    return re.sub(r"<[^>]*>", " ", message)


def _epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("version", VERSIONS)
def test_who_unbans_all_at_once_ends_each_ban(version: str) -> None:
    """`fail2ban-client unban --all`; a stop ends none, for the next start restores them."""
    ips = ("192.0.2.1", "2001:db8::1")
    with Fail2ban(version) as server:
        server.jail("ssh")
        server.start()
        server.client("set", "ssh", "banip", *ips)
        server.wait_until(lambda: len(server.events()) == 2, "two bans")
        server.client("unban", "--all")
        server.wait_until(lambda: {row["ip"] for row in server.events("unban")} == {*ips}, "two unbans")
        server.client("set", "ssh", "banip", "192.0.2.3")
        server.wait_until(lambda: len(server.events()) == 3, "a third ban")
        for stop in (("reload", "--restart"), ("restart", "ssh")):
            server.client(*stop)
            server.wait_until(lambda: server.jails_up() == ["ssh"], "the jail")
        server.stop()
        assert server.events("unban", ip="192.0.2.3") == []
        assert len(server.events("stop")) == 3


@pytest.mark.parametrize(
    ("ban", "unbanned", "lifted", "said"),
    [
        ({"bantime": 600}, NOON + 60, True, "unbanned 19 Nov 12:01"),
        ({"bantime": -1}, NOON + 60, True, "unbanned 19 Nov 12:01"),
        ({"bantime": None}, NOON + 60, False, "banned until 19 Nov 12:01"),
        ({"bantime": 600}, NOON + 600.4, False, "banned until 19 Nov 12:10"),
        ({"bantime": 600}, NOON - 60, False, "banned until 19 Nov 12:10"),
        ({"bantime": 600}, None, False, "banned until 19 Nov 12:10"),
    ],
    ids=["lifted", "permanent", "of an unknown time", "ran out", "an older ban's", "none"],
)
def test_what_is_said_of_a_ban_and_its_end(
    f2b_digest: Command, config: Path, path: Path, ban: dict[str, Any], unbanned: float | None, lifted: bool, said: str
) -> None:
    """In the mail and in the notification; fail2ban tells each end as an unban, with the ban's own time."""
    fill(path, [event(failures=5, recorded_at=NOON, **ban)])
    if unbanned is not None:
        fill(path, [event("unban", at=NOON if unbanned > NOON else NOON - 660, recorded_at=unbanned)])
    text = f2b_digest("--config", config, "preview").out
    assert re.search(rf"192\.0\.2\.7 +1  {said}$", text, re.MULTILINE)
    notification = f2b_digest("--config", config, "preview", "--format", "ntfy").out
    for message in (text, notification):
        assert ("192.0.2.7 in sshd, banned 12:00, lifted 12:01" in message) == lifted
        assert ("lifted" in message.lower()) == lifted
    assert addresses(f2b_digest, config)["192.0.2.7"]["lifted"] is lifted


def test_a_restored_ban_is_lifted_too(f2b_digest: Command, config: Path, path: Path) -> None:
    """After a restart fail2ban knows a ban's time in whole seconds."""
    fill(path, [event(at=NOON + 0.6, failures=0, bantime=600, recorded_at=NOON + 0.6)])
    fill(path, [event("unban", at=NOON + 1, recorded_at=NOON + 90)])
    assert addresses(f2b_digest, config)["192.0.2.7"]["lifted"] is True


def test_who_is_banned_again_within_a_second_is_banned(f2b_digest: Command, config: Path, path: Path) -> None:
    """The unban before is that of the ban before."""
    bans = [event(at=at, failures=0, bantime=600, recorded_at=at) for at in (NOON, NOON + 0.8)]
    fill(path, [*bans, event("unban", at=NOON, recorded_at=NOON + 0.4)])
    assert addresses(f2b_digest, config)["192.0.2.7"]["lifted"] is False


def test_our_scratch_jail_is_in_no_digest(f2b_digest: Command, config: Path, path: Path) -> None:
    """An earlier version imported it from fail2ban's log: neither its ban nor its stop is reported any more."""
    scratch = recorder.SCRATCH_JAIL
    fill(path, [event("start", "sshd", "", NOON - 9e4), event(failures=5, bantime=600)])
    fill(path, [event("start", scratch, "", NOON), event(jail=scratch), event("stop", scratch, "", NOON + 1)])
    ended = f2b_digest("--config", config, "preview")
    assert re.search(r"\n +1 ban\n +1 address\n", ended.out)
    document = json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)
    assert [document["totals"][name] for name in ("bans", "addresses", "jails")] == [1, 1, 1]
    for form in ("text", "html", "ntfy", "json"):
        assert scratch not in f2b_digest("--config", config, "preview", "--format", form).out


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_log_does_not_know_is_unknown(version: str, f2b_digest: Command, config: Path) -> None:
    """Its failures are counted; those of bans by hand are unknown, in the totals as well, and never 0."""
    log = history(version).log
    found = addresses(f2b_digest, config, "--from", log)
    assert [found["192.0.2.1"][key] for key in ("failures", "uncounted")] == [2, 0]
    assert [found[LIFTED][key] for key in ("failures", "uncounted")] == [None, 1]
    totals = json.loads(f2b_digest("--config", config, "preview", "--format", "json", "--from", log).out)["totals"]
    assert (totals["failures"], totals["uncounted"]) == (2 * len(FAILED) + 2 + 2, len(BY_HAND) + 1)
    for form in ("text", "html"):
        said = " ".join(shown(f2b_digest("--config", config, "preview", "--format", form, "--from", log).out).split())
        told = f"at least, as {len(BY_HAND) + 1} bans tell none"
        assert re.search(rf"\b18 failed attempts:? {told}", said)
        assert not re.search(r"\b0 (failures|failed)", said)
    assert "at least 18 failures" in f2b_digest("--config", config, "preview", "--format", "ntfy", "--from", log).out


def test_a_log_without_failures_has_none_in_its_totals(f2b_digest: Command, config: Path, tmp_path: Path) -> None:
    """Its level was NOTICE: nothing was found in it but bans."""
    line = "2026-11-19 04:00:00,635 fail2ban.actions        [20514]: NOTICE  [sshd] Ban 192.0.2.1\n"
    (tmp_path / "fail2ban.log").write_text(line)
    preview = ("--config", config, "preview", "--from", tmp_path / "fail2ban.log", "--format")
    assert "1 ban 1 address ? failed attempts Jails" in " ".join(f2b_digest(*preview, "text").out.split())
    assert "1 ban, 1 address, 1 jail, failures unknown" in f2b_digest(*preview, "ntfy").out
    document = json.loads(f2b_digest(*preview, "json").out)
    assert [document["totals"]["failures"], document["jails"][0]["failures"]] == [None, None]
    assert ">?</div>" in f2b_digest(*preview, "html").out
