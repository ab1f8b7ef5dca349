"""A power cut at any moment: what was acknowledged is there, nothing is called damaged, no copy comes unmarked.

The program runs for real and is traced; the states that a cut may leave are made of its writes, names and syncs, and
the program opens each of them.
"""

import random
import shutil
import sys
from collections import Counter
from email import message_from_bytes
from pathlib import Path

import pytest

from f2b_digest import recorder
from tests.support.figures import Keep
from tests.support.program import Ended
from tests.support.store_making import NOON, query
from tests.system.faults.scenarios import CONFIGURATION, MAILBOX
from tests.system.faults.warm import Warm
from tests.system.powercut import disk, life
from tests.system.powercut.recording import Step, record

pytestmark = pytest.mark.slow
LATER = NOON + 2 * life.DAY
SEED = 9
HARMLESS = "more incomplete lines"
"""What a send may say: it has found half a line, which nobody acknowledged."""


def configure(root: Path) -> None:
    """Write a configuration that mails to another machine, and puts files beside the store."""
    mail = f"sendmail = '/usr/bin/python3 -I -S {MAILBOX} {root}/away'"
    file = root / "config.toml"
    file.write_text(CONFIGURATION.format(channels=["mail", "box"], mail=mail))
    file.chmod(0o600)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Step]]:
    """Provide a folder, and all that a host's first days did to it."""
    root = tmp_path_factory.mktemp("life")
    configure(root)
    (root / "away").mkdir()
    trace = tmp_path_factory.mktemp("trace") / "trace"
    found = record([sys.executable, "-m", life.__name__, str(root)], root, trace)
    return str(root), found


def acknowledged(steps: list[Step]) -> set[str]:
    """Return the addresses whose bans were acknowledged."""
    said = [step.data.decode().split() for step in steps if step.kind == "told"]
    return {words[1] for words in said if words[0] == "ACK"}  # others may say something, too


def mails(folder: Path) -> list[tuple[str, bool]]:
    """Return each mail that arrived: for whom and which, and whether it says that it may be a copy."""
    found = []
    for file in sorted(folder.iterdir()):
        if not file.name.startswith("."):
            mail = message_from_bytes(file.read_bytes())
            found.append((f"{mail['Delivered-To']} {mail['Message-ID']}", "Possible-Duplicate" in mail))
    return found


def test_a_power_cut_at_any_moment_loses_nothing(
    steps: tuple[str, list[Step]], tmp_path: Path, pytestconfig: pytest.Config, figures: Keep
) -> None:
    """Whatever the disk kept of what was not synced, the next send is in order, and has all that was acknowledged."""
    root, taken = steps
    count = pytestconfig.getoption("--power-cuts")
    chance = random.Random(SEED)
    problems: list[str] = []
    counts: Counter[str] = Counter(cuts=0, acknowledged=0, lost=0, unmarked=0, crashes=0, damaged=0)
    target = Path(root)  # a channel refuses what the store has for another folder than the configuration's
    with Warm(tmp_path) as warm:
        for number in range(count):
            cut = chance.randrange(len(taken) + 1)
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            (target / "away").mkdir()
            disk.lay_out(disk.image(taken[:cut], root, f"{root}/away", chance), root, target)
            configure(target)
            known = acknowledged(taken[:cut])
            found = judge(warm, target, known, counts)
            problems += [f"image {number}, cut at {cut}: {problem}" for problem in found]
    figures(
        "power cuts",
        f"{counts['cuts']} images of a power cut, in {len(taken)} steps: {counts['acknowledged']} acknowledged bans, "
        f"{counts['lost']} lost; {counts['unmarked']} unmarked second copies, {counts['crashes']} crashes, "
        f"{counts['damaged']} called damaged",
    )
    assert not problems, "\n".join(problems[:20])


def judge(warm: Warm, target: Path, known: set[str], counts: Counter[str]) -> list[str]:
    """Open what a cut left, as the next cron job does; return what is wrong."""
    store = target / "store" / "bans.sqlite3"
    arrived = Counter(key for key, _ in mails(target / "away"))
    counts["cuts"] += 1
    counts["acknowledged"] += len(known)
    reads = counts["cuts"] % 4 == 0  # a reader may not write, and comes before whoever may
    read = warm.digest("--config", target / "config.toml", "status", now=LATER) if reads else Ended(0, "", "")
    sent = warm.digest("--config", target / "config.toml", "send", now=LATER)
    problems = []
    for ended in (read, sent):
        no_store = ended.status == 1 and "no store at" in ended.err and not known
        rest = [line for line in ended.err.splitlines() if HARMLESS not in line]
        before_send = ended is read and ended.status == 1 and "no store at" in ended.err
        if "Traceback" in ended.err or "a bug in" in ended.err:
            counts["crashes"] += 1
            problems.append(ended.err[-900:])
        elif not no_store and not before_send and (ended.status or rest):
            problems.append(f"status {ended.status}: {ended.err}")
        if "damaged" in ended.err or Path(recorder.damage_mark(str(store))).exists():
            counts["damaged"] += 1
            problems.append(f"damaged: {ended.err}")
    there = {ip for (ip,) in query(store, "SELECT ip FROM event")} if store.exists() and known else set()
    lost = {
        ip for ip in known - there if int(ip.split(".")[2]) > 2
    }  # the first two blocks are old enough to be dropped
    if lost:
        counts["lost"] += len(lost)
        problems.append(f"lost: {sorted(lost)}")
    if there and query(store, "SELECT count(*) FROM event WHERE id > (SELECT max(last_id) FROM digest)") != [(0,)]:
        problems.append("not all was told")
    copies = mails(target / "away")
    for key, times in Counter(key for key, _ in copies).items():
        unmarked = sum(1 for other, marked in copies if other == key and not marked)
        if unmarked > 1 or times > max(2, arrived[key] + 1):
            counts["unmarked"] += unmarked - 1
            problems.append(f"{key} came {times} times, {unmarked} of them unmarked")
    return problems
