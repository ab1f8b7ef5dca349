"""Tests of the command channel with real programs: what they are given, how they end, and what they leave behind."""

import json
import os
import time
from pathlib import Path

import pytest

from f2b_digest.channels import process
from f2b_digest.channels.base import Overdue, deadline
from f2b_digest.channels.command import Command
from f2b_digest.errors import DeliveryError
from f2b_digest.model.bans import Banned
from f2b_digest.model.message import Content, Message, Stamp
from tests.support.program import Command as Program
from tests.support.store_making import NOON, event, fill

STAMP = Stamp(
    uuid="0f" * 16, report="daily", channel="script", host="web1", made_at=1_700_000_000.0, bans=118, addresses=19,
    jails=4, failures=594,
)  # fmt: skip
TEXT = "118 bans\n\n  sshd é $(touch pwned) `touch pwned`\n"


def runs(*command: str | Path, **settings: object) -> Command:
    """Return the channel as a configuration makes it."""
    return Command.model_validate({"kind": "command", "command": [str(word) for word in command]} | settings)


def shell(script: str, **settings: object) -> Command:
    """Return a channel whose program is a shell script."""
    return runs("/bin/sh", "-c", script, **settings)


def message(channel: Command, text: str = TEXT, stamp: Stamp = STAMP, *, in_doubt: bool = False) -> Message:
    """Return a digest for the program."""
    body = channel.pack(Content({"command/input.txt": text}), stamp)
    return Message(channel.recipients[0], body, channel.identity(stamp), in_doubt=in_doubt)


def refusal(channel: Command, text: str = TEXT) -> DeliveryError:
    """Return how a delivery fails."""
    with pytest.raises(DeliveryError) as caught:
        channel.deliver(message(channel, text))
    return caught.value


# ---- what the program is given


def test_the_text_comes_on_standard_input_as_it_is(tmp_path: Path) -> None:
    """Byte for byte, with its empty lines, and nothing before it."""
    channel = shell(f"cat > {tmp_path}/got")
    channel.deliver(message(channel))
    assert (tmp_path / "got").read_text() == TEXT


def test_a_large_text_arrives_whole_at_a_slow_reader(tmp_path: Path) -> None:
    """A pipe holds 64 KiB."""
    large = "192.0.2.1 sshd\n" * 100_000
    channel = shell(f"sleep 0.3; cat > {tmp_path}/got")
    channel.deliver(message(channel, large))
    assert (tmp_path / "got").read_text() == large


def test_the_totals_are_in_the_environment_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret of f2b-digest's own environment does not get to the program."""
    monkeypatch.setenv("SMTP_PASSWORD", "s3cret")
    channel = runs("/usr/bin/env", "sh", "-c", f"env > {tmp_path}/got")
    channel.deliver(message(channel))
    got = dict(line.split("=", 1) for line in (tmp_path / "got").read_text().splitlines())
    assert {name: value for name, value in got.items() if name.startswith("F2B")} == {
        "F2B_DIGEST_REPORT": "daily", "F2B_DIGEST_HOST": "web1", "F2B_DIGEST_BANS": "118",
        "F2B_DIGEST_ADDRESSES": "19", "F2B_DIGEST_JAILS": "4", "F2B_DIGEST_FAILURES": "594",
        "F2B_DIGEST_ID": STAMP.uuid,
    }  # fmt: skip
    assert "/usr/sbin" in got["PATH"]
    assert "s3cret" not in (tmp_path / "got").read_text()


def test_a_host_of_odd_characters_is_no_second_variable(tmp_path: Path) -> None:
    """Line ends and NUL, which no environment takes, become blanks."""
    odd = Stamp("0f" * 16, "daily", "script", "web1\0\nPATH=/tmp\u2028x", 0.0, 3)
    channel = shell(f'printf %s "$F2B_DIGEST_HOST" > {tmp_path}/got; env > {tmp_path}/env')
    channel.deliver(message(channel, stamp=odd))
    assert (tmp_path / "got").read_text() == "web1 PATH=/tmp x"
    assert "\nPATH=/tmp" not in (tmp_path / "env").read_text()


def test_a_second_attempt_after_an_unknown_end_is_told_to_the_program(tmp_path: Path) -> None:
    """A program that cares can look whether it did its work already."""
    channel = shell(f'printf %s "$F2B_DIGEST_POSSIBLE_DUPLICATE" >> {tmp_path}/got')
    channel.deliver(message(channel))
    channel.deliver(message(channel, in_doubt=True))
    assert (tmp_path / "got").read_text() == "yes"


def test_no_shell_sees_the_arguments(tmp_path: Path) -> None:
    """What a shell would run stays a word."""
    channel = runs("/usr/bin/env", "printf", "%s\n", f"$(touch {tmp_path}/pwned)", "; reboot", "*")
    channel.deliver(message(channel))
    assert list(tmp_path.iterdir()) == []


# ---- how it ends


def test_status_0_is_sent_though_the_program_reads_nothing() -> None:
    """Not even of a text that no pipe holds."""
    channel = runs("/bin/true")
    channel.deliver(message(channel, "x" * 1_000_000))


@pytest.mark.parametrize(
    ("script", "permanent", "in_doubt", "ending"),
    [
        ("exit 75", False, False, "exit status 75"),
        ("exit 1", True, False, "exit status 1"),
        ("exit 127", True, False, "exit status 127"),
        ("kill -9 $$", False, True, "killed by signal 9"),
    ],
)
def test_other_ends_are_failures(script: str, permanent: bool, in_doubt: bool, ending: str) -> None:
    """75 is tried again, a killed one may have done its work, and the program's own words are told as one line."""
    error = refusal(shell(f"echo 'no\troute' >&2; echo 'to host' >&2; {script}"))
    assert (error.permanent, error.in_doubt) == (permanent, in_doubt)
    assert error.reason == f"/bin/sh: {ending}: no route to host"


def test_a_program_that_is_not_there_needs_the_admin(tmp_path: Path) -> None:
    """And so does one that may not be run; both are named."""
    script = tmp_path / "script"
    assert refusal(runs(script)).reason == f"{script}: No such file or directory"
    script.write_text("#!/bin/sh\n")
    error = refusal(runs(script))
    assert (error.permanent, error.reason) == (True, f"{script}: Permission denied")


def test_a_program_that_is_being_replaced_is_tried_again(tmp_path: Path) -> None:
    """The kernel runs no file that somebody still writes."""
    program = tmp_path / "true"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with program.open("ab"):
        assert not refusal(runs(program)).permanent


def test_a_program_without_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    """After its timeout, and it is not known what it did."""
    before = time.monotonic()
    error = refusal(shell(f"sleep 60 & echo $! > {tmp_path}/child; wait", timeout=0.3))
    assert time.monotonic() - before < 5
    assert (error.permanent, error.in_doubt, error.reason) == (False, True, "/bin/sh: timed out after 0.3 s")
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    for _ in range(100):
        if not state.exists() or ") Z " in state.read_text():
            return
        time.sleep(0.02)
    os.kill(child, 9)
    pytest.fail("the child lives")


def test_the_deadline_of_the_delivery_ends_it_too() -> None:
    """No program keeps the sender's lock."""
    channel = shell("sleep 60")
    before = time.monotonic()
    with pytest.raises(DeliveryError, match=r"timed out after 0\.3 s"), deadline(0.3):
        channel.deliver(message(channel))
    assert time.monotonic() - before < 5


def test_a_start_that_the_deadline_ends_is_not_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program on a file system that does not answer may answer tomorrow."""

    def hanging(*_: object, **__: object) -> None:
        raise Overdue("timed out after 120 s")

    monkeypatch.setattr("subprocess.Popen", hanging)
    channel = runs("/bin/true")
    with pytest.raises(Overdue):
        channel.deliver(message(channel))


@pytest.mark.alone
@pytest.mark.slow
def test_what_it_leaves_behind_holds_nobody_up(tmp_path: Path) -> None:
    """A child in the background that keeps the output open is not waited for, and not killed."""
    channel = shell(f"echo 'not today' >&2; (sleep 1; touch {tmp_path}/done) & exit 75")
    before = time.monotonic()
    assert refusal(channel).reason == "/bin/sh: exit status 75: not today"
    assert time.monotonic() - before < 0.9
    while not (tmp_path / "done").exists():
        assert time.monotonic() - before < 10
        time.sleep(0.05)


def test_endless_words_fill_no_memory() -> None:
    """The beginning is kept, and the program can go on."""
    program = "head -c 50000000 /dev/zero | tr '\\0' x >&2"
    status, said = process.run(["/bin/sh", "-c", program + "; exit 3"], b"", process.environment(), 20)
    assert (status, said) == (3, "x" * process.WORDS_LIMIT)


# ---- other inputs


def banned(ip: str, jail: str = "sshd", failures: int | None = 5) -> Banned:
    """Return an address's bans."""
    return Banned(jail, ip, 2, failures, 0, 1_700_000_000.0, 1_700_003_600.0, lifted=False, users=(), matches=None)


def test_a_script_gets_a_line_for_each_address(tmp_path: Path) -> None:
    """Tab-separated; what an attacker chose adds neither a field nor a line."""
    channel = shell(f"cat > {tmp_path}/got", input="lines")
    hostile = banned("x\ty\n192.0.2.9\x1b[2J", "ssh\td\n", failures=None)
    body = channel.pack(Content(addresses=[banned("192.0.2.1"), hostile]), STAMP)
    channel.deliver(Message(channel.recipients[0], body, channel.identity(STAMP)))
    times = "2023-11-14T22:13:20+00:00\t2023-11-14T23:13:20+00:00"
    assert (tmp_path / "got").read_text() == f"sshd\t192.0.2.1\t2\t5\t{times}\nssh d\tx y 192.0.2.9 [2J\t2\t\t{times}\n"


@pytest.mark.parametrize("form", ["json", "lines"])
def test_a_script_gets_the_bans_of_a_send(form: str, tmp_path: Path, path: Path, f2b_digest: Program) -> None:
    """Every address, not only the 50 of a jail that a digest shows; or the digest's document."""
    fill(path, [event(ip=f"192.0.2.{n}", at=NOON + n) for n in range(1, 121)])
    (tmp_path / "script").write_text(f"#!/bin/sh\ncat > {tmp_path}/got\n")
    (tmp_path / "script").chmod(0o755)
    channel = f'kind = "command"\ncommand = ["{tmp_path}/script"]\ninput = "{form}"'
    config = tmp_path / "config.toml"
    config.write_text(f'store = "{path}"\n[reports.daily]\nchannels = ["script"]\n[channels.script]\n{channel}\n')
    assert f2b_digest("--config", config, "send").status == 0
    got = (tmp_path / "got").read_text()
    if form == "json":
        assert json.loads(got)["totals"]["bans"] == 120
    else:
        assert {line.split("\t")[1] for line in got.splitlines()} == {f"192.0.2.{n}" for n in range(1, 121)}
