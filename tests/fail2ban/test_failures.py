"""Tests of who failed and was never banned: by logs of real servers, beside a naive count of their lines."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from f2b_digest import host
from f2b_digest.fail2ban import failures, log_lines, server
from f2b_digest.fail2ban.client import CRON, Client
from f2b_digest.fail2ban.failures import Log, count, hold
from f2b_digest.fail2ban.server import LogTarget
from f2b_digest.model.host_context import Failed
from tests.support.fail2ban_server import VERSIONS, Fail2ban
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill, query

DAY = 86400.0


def everything(_: str) -> bool:
    """Want every jail."""
    return True


def naively(*texts: str) -> tuple[dict[str, int], int]:
    """Return, by jail, how many addresses have a "Found" and no "Ban", and how many there are in all."""
    text = "\n".join(texts)
    found = set(re.findall(r"fail2ban\.filter .*\[(\w+)\] Found (\S+)", text))
    banned = set(re.findall(r"\[\w+\] Ban (\S+)", text))
    left = {(jail, ip) for jail, ip in found if ip not in banned}
    jails = {jail: sum(each == jail for each, _ in left) for jail, _ in left}
    return jails, len({ip for _, ip in left})


def line(at: float, text: str, component: str = "filter", level: str = "INFO") -> str:
    """Return a line as fail2ban writes it, at a time of this system's."""
    stamp = datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")  # noqa: DTZ006 - as fail2ban's logging does
    return f"{stamp},{round(at % 1 * 1000):03} {'fail2ban.' + component:<24}[123]: {level:<7} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Provide the place of a log."""
    return tmp_path / "fail2ban.log"


def told(log: Path) -> LogTarget:
    """Return what a server says that writes to a log."""
    return LogTarget(str(log), "INFO")


# ---- real servers


@pytest.fixture(params=VERSIONS)
def fail2ban(request: pytest.FixtureRequest) -> Iterator[Fail2ban]:
    """Provide a running server of each version with two jails that ban at the third failure."""
    with Fail2ban(request.param) as running:
        for jail in ("ssh", "web"):
            running.jail(jail, maxretry="3")
        running.start()
        yield running


def ask(running: Fail2ban) -> LogTarget:
    """Return what a server says of its log, by the client of its own version."""
    folder = running.folder / "bin"
    folder.mkdir(exist_ok=True)
    script = folder / "fail2ban-client"
    script.write_text(f'#!/bin/sh\nexec {" ".join(running._command("fail2ban-client"))} "$@"\n')
    script.chmod(0o755)
    client = Client(environment=running._environment | {"PATH": f"{folder}:{CRON['PATH']}"})
    return server.ask(client).log


def fail(running: Fail2ban, jail: str, ip: str, times: int = 1) -> None:
    """Let an address fail, and wait until fail2ban has seen it."""
    before = running.messages().count(f"[{jail}] Found {ip} ")
    running.log(jail, *[f'FAIL user="root" from {ip}'] * times)
    running.wait_until(lambda: running.messages().count(f"[{jail}] Found {ip} ") == before + times, f"{ip} in {jail}")


@pytest.mark.slow
def test_a_real_log_is_counted_as_its_lines_are(fail2ban: Fail2ban) -> None:
    """Nobody who was banned in any jail, by failures or by hand; also of what was rotated and packed meanwhile."""
    begun = time.time() - 60
    log = fail2ban.folder / "fail2ban.log"
    fail(fail2ban, "ssh", "192.0.2.1")
    fail(fail2ban, "web", "192.0.2.1")
    fail(fail2ban, "ssh", "2001:db8::1", 2)
    fail(fail2ban, "ssh", "192.0.2.3", 3)
    fail(fail2ban, "web", "192.0.2.4")
    fail2ban.client("set", "ssh", "banip", "192.0.2.4")
    fail2ban.wait_until(lambda: fail2ban.messages().count("] Ban ") == 2, "two bans")
    assert ask(fail2ban) == LogTarget(str(log), "INFO")
    answer = count(hold(ask(fail2ban)), begun, time.time() + 60, everything)
    assert answer is not None
    assert (dict(answer.jails), answer.addresses) == naively(log.read_text()) == ({"ssh": 2, "web": 1}, 2)
    assert answer.jails == (("ssh", 2), ("web", 1)), "the most first"
    before = log.read_text()
    packed = log.with_name("fail2ban.log.1.gz")
    packed.write_bytes(gzip.compress(before.encode()))
    log.unlink()
    fail2ban.client("flushlogs")
    time.sleep(1.1)
    turned = time.time() // 1  # a log has whole seconds
    fail(fail2ban, "web", "192.0.2.5")
    after = log.read_text()
    held = hold(ask(fail2ban))
    whole = count(held, begun, time.time() + 60, everything)
    late = count(held, turned, time.time() + 60, everything)
    assert whole is not None
    assert late is not None
    assert (dict(whole.jails), whole.addresses) == naively(before, after) == ({"ssh": 2, "web": 2}, 3)
    assert late == Failed((("web", 1),), 1, turned), "and nothing of before the period"


@pytest.mark.slow
def test_what_is_no_file_or_has_no_failures_is_not_looked_at(fail2ban: Fail2ban) -> None:
    """The reason names what fail2ban is set to; a server that is down has its configuration."""
    assert hold(ask(fail2ban)).files
    fail2ban.client("set", "loglevel", "NOTICE")
    assert "NOTICE" in hold(ask(fail2ban)).reason
    fail2ban.client("set", "loglevel", "INFO")
    fail2ban.client("set", "logtarget", "STDOUT")
    held = hold(ask(fail2ban))
    assert (held.files, held.reason) == ((), "fail2ban logs to STDOUT, which is no file")
    fail2ban.stop()
    assert ask(fail2ban) == LogTarget(str(fail2ban.folder / "fail2ban.log"), "INFO")


# ---- files


def test_a_log_that_cannot_be_opened_is_not_looked_at(log: Path) -> None:
    """A link is not followed by who may be root, and a pipe does not hang."""
    assert "No such file" in hold(told(log)).reason
    log.symlink_to("/etc/passwd")
    assert hold(told(log)).reason
    log.unlink()
    os.mkfifo(log)
    assert "not a regular file" in hold(told(log)).reason
    assert hold(LogTarget()).reason == "fail2ban does not say where it logs to"


def test_only_files_of_the_log_are_read_and_how_far_they_reach_is_told(log: Path) -> None:
    """Debian's names and Red Hat's, newest first; a log that begins within the period says when it does."""
    ages = {"fail2ban.log": 0, "fail2ban.log.1": 7, "fail2ban.log-20261104.gz": 14, "fail2ban.log.old": 15}
    for number, (name, age) in enumerate(ages.items()):
        end = NOON - age * DAY
        text = line(end - 6 * DAY, f"[ssh] Found 192.0.2.{number}") + line(end - 60, f"[ssh] Found 198.51.100.{number}")
        content = text.encode()
        file = log.with_name(name)
        file.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        os.utime(file, (end, end))
    held = hold(told(log))
    assert [file.name for file in held.files] == [*ages][:3]
    assert count(held, NOON - DAY, NOON, everything) == Failed((("ssh", 1),), 1, NOON - DAY)
    assert count(held, NOON - 8 * DAY, NOON, everything) == Failed((("ssh", 3),), 3, NOON - 8 * DAY)
    assert count(held, NOON - 99 * DAY, NOON, everything) == Failed((("ssh", 6),), 6, NOON - 20 * DAY)
    assert count(held, NOON - 8 * DAY, NOON - 6.5 * DAY, everything) == Failed((("ssh", 1),), 1, NOON - 8 * DAY)
    assert count(held, NOON - DAY, NOON, lambda jail: jail == "web") == Failed((), 0, NOON - DAY)


def test_a_damaged_file_leaves_the_period_uncounted(log: Path) -> None:
    """Half a count is none."""
    log.write_text(line(NOON, "[ssh] Found 192.0.2.1"))
    packed = log.with_name("fail2ban.log.1.gz")
    packed.write_bytes(gzip.compress(b"x" * 100_000)[:40])
    os.utime(log, (NOON, NOON))
    os.utime(packed, (NOON, NOON))
    assert count(hold(told(log)), NOON - DAY, NOON + 1, everything) is None


HOSTILE = [
    line(NOON, "[ssh] Found 192.0.2.1"),
    line(NOON, "[ssh] Found 192.0.2.1 - 2026-11-20 12:00:00"),
    line(NOON, "[ssh] Found 192.0.2.1, bad - 2026-11-20 12:00:00, 1 # -> 2.0", "observer"),
    line(NOON, "[ssh] Found 192.0.2.2"),
    line(NOON, "[ssh] Increase Ban 192.0.2.2 (2 # 5m -> 2026-11-20 12:05:00)", "observer", "NOTICE"),
    line(NOON, "[ssh] Found 192.0.2.3"),
    line(NOON, "[ssh] 192.0.2.3 already banned", "actions", "NOTICE"),
    line(NOON, "[ssh] Found 192.0.2.4"),
    line(NOON, "[web] Restore Ban 192.0.2.4", "actions", "NOTICE"),
    line(NOON, "[ids] Found eve [ssh] Ban 192.0.2.1 - 2026-11-20 12:00:00"),
    line(NOON, "[ids] Found <script>\x00'; DROP TABLE failed; --"),
    f"Nov 20 12:00:00 web1 sshd[1]: Invalid user {line(NOON, '[ssh] Ban 192.0.2.1', 'actions').strip()} from ::1\n",
    f"Invalid user x {line(NOON, '[ssh] Found 203.0.113.1')}",
    "\n",
    "[ssh] Found 203.0.113.2\n",
    "x" * 3_000_000 + "\n",
    "2026-99-99 99:99:99,000 fail2ban.filter         [1]: INFO    [ssh] Found 203.0.113.3\n",
]


def test_who_writes_what_looks_like_fail2bans_lines_changes_no_count(log: Path) -> None:
    """An id may be any text; only what fail2ban itself says counts, and whom it says it has banned is not counted."""
    log.write_bytes("".join(HOSTILE).encode() + b"\xff\xfe" + HOSTILE[0].encode() + HOSTILE[0].encode()[:-20])
    answer = count(hold(told(log)), NOON - 60, NOON + 60, everything)
    assert answer is not None
    assert (answer.jails, answer.addresses) == ((("ids", 2), ("ssh", 1)), 3)


def test_of_a_long_log_only_the_period_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week's log of many lines for a day's digest: what is older is passed over, and nothing of the day is."""
    with log.open("w") as file:
        for number in range(100_000):
            file.write(
                line(NOON - 10 * DAY + number * 8.64, f"[ssh] Found 10.{number % 7}.{number >> 8}.{number & 255}")
            )
    starts = []
    reads = log_lines.failures_and_bans

    def noted(path: Path, start: int = 0) -> Iterator[log_lines.Line]:
        starts.append(start)
        return reads(path, start)

    monkeypatch.setattr(log_lines, "failures_and_bans", noted)
    answer = count(hold(told(log)), NOON - DAY, NOON, everything)
    assert answer == Failed((("ssh", 10_000),), 10_000, NOON - DAY)
    assert 0.85 < starts[0] / log.stat().st_size < 0.9
    monkeypatch.setattr(failures, "MOST", 100_000)
    cut = count(hold(told(log)), NOON - DAY, NOON, everything)
    assert cut is not None
    assert cut.since > NOON - DAY / 2, "where not all is read, it is said from when on"
    assert 0 < cut.addresses < 2_000


PEAK = """
import resource, sys
from pathlib import Path
from f2b_digest.fail2ban.failures import count, hold
from f2b_digest.fail2ban.server import LogTarget
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer = count(hold(LogTarget(sys.argv[1], "INFO")), 0, 4e9, lambda jail: True)
print(answer.addresses, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_flood_of_addresses_takes_no_more_memory(log: Path) -> None:
    """Half a million distinct ones, a quarter of them banned: within 50 MB."""
    head, banned = (
        line(NOON, "[ssh] Found 10.").rstrip("\n"),
        line(NOON, "[ssh] Ban 10.", "actions", "NOTICE").rstrip("\n"),
    )
    with log.open("w") as file:
        for number in range(500_000):
            ip = f"{number >> 16}.{number >> 8 & 255}.{number & 255}\n"
            file.write(head + ip)
            if number % 4 == 0:
                file.write(banned + ip)
    ended = subprocess.run([sys.executable, "-c", PEAK, log], capture_output=True, text=True, check=True)
    addresses, kilobytes = map(int, ended.stdout.split())
    assert addresses == 375_000
    assert kilobytes < 50_000


# ---- digests


CONFIGURATION = """
store = "{path}"
host = "web1"
[reports.daily]
failures = {failures}
jails = ["*", "!web"]
channels = ["out"]
[channels.out]
kind = "file"
folder = "{folder}/out"
format = "{form}"
"""


@pytest.fixture
def config(tmp_path: Path, path: Path) -> Path:
    """Provide a configuration whose report counts failures, beside a store with a ban."""
    fill(path, [event("start", ip="", at=NOON - DAY), event(ip="192.0.2.9", at=NOON, recorded_at=NOON)])
    query(path, "UPDATE event SET source = 'action'")
    return configured(tmp_path, path)


def configured(folder: Path, path: Path, failures: str = "true", form: str = "text") -> Path:
    """Write a configuration."""
    file = folder / "config.toml"
    file.write_text(CONFIGURATION.format(path=path, folder=folder, failures=failures, form=form))
    return file


def look(monkeypatch: pytest.MonkeyPatch, held: Log) -> None:
    """Let this host have a log."""
    before = host.gather
    monkeypatch.setattr(host, "gather", lambda *given: replace(before(*given), log=held))


def test_preview_and_send_tell_the_same_in_text_html_and_json(
    log: Path, config: Path, path: Path, tmp_path: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the report's jails and period only, in one line; in other languages too."""
    texts = ["[ssh] Found 192.0.2.1", "[ssh] Found 192.0.2.2", "[mail] Found 192.0.2.2", "[web] Found 192.0.2.3"]
    log.write_text(line(NOON - 9 * DAY, "[ssh] Found 192.0.2.7") + "".join(line(NOON + 60, text) for text in texts))
    look(monkeypatch, hold(told(log)))
    said = "2 addresses failed and were never banned (ssh 2, mail 1)."
    for form in ("text", "html"):
        assert said in f2b_digest("--config", config, "preview", "--format", form).out
    found = json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)
    assert found["never_banned"]["jails"] == [{"name": "ssh", "addresses": 2}, {"name": "mail", "addresses": 1}]
    assert (found["never_banned"]["addresses"], found["unseen"]) == (2, [])
    for language, words in (("de", "2 Adressen hatten Fehlversuche"), ("fr", "2 adresses ont échoué")):
        config.write_text(f'language = "{language}"\n' + config.read_text())
        assert words in f2b_digest("--config", config, "preview").out
        config = configured(tmp_path, path)
    assert f2b_digest("--config", config, "send").status == 0
    [sent] = (tmp_path / "out").iterdir()
    assert said in sent.read_text()


def test_a_log_that_cannot_be_read_is_told_and_only_if_it_was_asked_for(
    path: Path, config: Path, tmp_path: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest says that it was not checked, and names the command that says why."""
    look(monkeypatch, hold(LogTarget("SYSLOG", "INFO")))
    assert "Not checked: fail2ban's log; f2b-digest check says why." in f2b_digest("--config", config, "preview").out
    assert json.loads(f2b_digest("--config", config, "preview", "--format", "json").out)["unseen"] == ["log"]
    why = f2b_digest("--config", config, "check").out
    assert "reports with failures = true cannot count them: fail2ban logs to SYSLOG, which is no file" in why
    without = configured(tmp_path, path, failures="false")
    assert "fail2ban's log" not in f2b_digest("--config", without, "preview").out


def test_the_log_is_opened_only_where_a_report_asks_for_it() -> None:
    """It is no business of the others."""
    from f2b_digest import config  # noqa: PLC0415

    for wanted in (False, True):
        text = f"[reports.daily]\nfailures = {str(wanted).lower()}\n"
        loaded = config.parse(text.encode(), None, host="web1", timezone="UTC")
        assert (host.gather(loaded, time.time()).log is not None) == wanted
