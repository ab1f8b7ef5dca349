"""A month in the life of an installation: each ban is told once, and no alarm is false.

Real parts only: fail2ban, Postfix, the program as `setup` leaves it, cron's lines; the bans are those of real
histories. Only the clock is moved. The mailboxes are the witness.
"""

import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.support.figures import Keep
from tests.system import wheels
from tests.system.month.installation import ZONE, Ban, Installation, told
from tests.system.month.life import Month

pytestmark = pytest.mark.slow


def test_a_month(request: pytest.FixtureRequest, tmp_path: Path, figures: Keep) -> None:
    """One month with always the same troubles, or months by chance until `--month` seconds have passed."""
    built = wheels.present_and_newer(tmp_path)
    seconds, seed = (request.config.getoption(name) for name in ("month", "month_seed"))
    until = time.monotonic() + (seconds or 0)
    seed = seed or (random.randrange(10**6) if seconds else 1)
    while True:
        month = live(seed, built)
        counts = {"months" if seconds else "month": 1, "bans": month.here.fed.total(), "troubles": len(month.plan)}
        figures("a month in the life", counts=counts)
        seed += 1
        if time.monotonic() >= until:
            break


def live(seed: int, built: tuple[Path, Path]) -> Month:
    """Live through a month and judge it; a failure names the seed and the troubles."""
    rng = random.Random(seed)
    begin = datetime(2027, 1, 1, tzinfo=ZONE) + timedelta(days=rng.randrange(365))
    with Installation(begin.astimezone(UTC)) as here:
        month = Month(rng, built, here)
        try:
            month.live()
            judge(month)
        except BaseException as error:
            error.add_note("\n".join([f"--month-seed {seed}", *month.log]))
            raise
    return month


def judge(month: Month) -> None:
    """Compare what arrived with what happened."""
    here = month.here
    here.settled()
    assert here("f2b-digest", "retry").returncode == 0
    here.settled()
    for user in ("anna", "ben"):
        mails = here.mails(user)
        each_digest_arrived_once(month, mails)
        counts = told(mails)
        assert set(counts) == {"daily", "weekly"}
        for report in counts:
            each_ban_is_told_once(month, f"{user}: {report}", counts[report])
    each_trouble_is_told(month)
    nothing_else_is_told(month)
    cron_was_quiet(month)
    status = here.program("status")
    assert status.startswith("OK."), status
    assert "all digests delivered" in status


def each_digest_arrived_once(month: Month, mails: Sequence[EmailMessage]) -> None:
    """Or says of itself that it may be a copy, where a send was killed."""
    arrived = Counter(mail["Message-ID"] for mail in mails)
    marked = Counter(mail["Message-ID"] for mail in mails if mail["Possible-Duplicate"])
    twice = {name: count for name, count in arrived.items() if count > 1 + marked[name]}
    assert not twice, [(mail["Subject"], mail["Date"]) for mail in mails if mail["Message-ID"] in twice]


def each_ban_is_told_once(month: Month, who: str, counts: Counter[Ban]) -> None:
    """Whatever happened; beside a kill, fail2ban may have banned what it did not come to record."""
    here = month.here
    banned = here.banned()
    wrong = {ban: (banned[ban], counts[ban]) for ban in banned | counts if counts[ban] != banned[ban]}
    unexcused = {ban: numbers for ban, numbers in wrong.items() if ban not in here.doubtful and ban not in month.again}
    assert not unexcused, f"{who}: banned and told: {unexcused}"
    never = [ban for ban in month.again - here.doubtful if not counts[ban]]
    assert not never, f"{who}: lost with the restored store: {never}"
    assert all(told <= had for ban, (had, told) in wrong.items() if ban not in month.again), f"{who}: {wrong}"


def each_trouble_is_told(month: Month) -> None:
    """By a daily digest, within the time that is promised for it."""
    documents = [(at, fact) for at, document in month.here.documents() for fact in document["facts"]]
    missing = [
        wanted
        for wanted in month.wanted
        if not any(
            fact["kind"] == wanted.kind
            and wanted.since <= at <= wanted.until
            and wanted.jail in (None, fact.get("jail"))
            for at, fact in documents
        )
    ]
    assert not missing, f"{missing}\n{_told(documents)}"


def nothing_else_is_told(month: Month) -> None:
    """A digest needs nobody but for what happened."""
    documents = [(at, fact) for at, document in month.here.documents() for fact in document["facts"]]
    false = [(at, fact) for at, fact in documents if fact["needs_you"] and not is_true(month, at, fact)]
    assert not false, _told(false)


def is_true(month: Month, at: datetime, fact: dict[str, Any]) -> bool:
    """Return whether something happened that a digest may tell so; a silence is one if nothing was there to ban."""
    if fact["kind"] == "silent":
        last = datetime.fromisoformat(fact["last"])
        within = [when for when in month.here.times.get(fact["jail"], []) if last + timedelta(minutes=5) < when < at]
        if at - last >= timedelta(hours=20) and not within:
            return True
    return any(fact["kind"] in one.kinds and one.since <= at <= one.until for one in month.allowed)


def cron_was_quiet(month: Month) -> None:
    """But for what happened."""
    said = [(datetime.fromisoformat(mail["X-At"]), mail.get_content()) for mail in month.here.mails("root")]
    times = [one for one in month.allowed if "cron" in one.kinds]
    false = [(at, text) for at, text in said if not any(one.since <= at <= one.until for one in times)]
    assert not false, false


def _told(facts: Iterable[tuple[datetime, object]]) -> str:
    return "\n".join(f"{at.astimezone(ZONE):%a %d %b %Y %H:%M} {fact}" for at, fact in facts)
