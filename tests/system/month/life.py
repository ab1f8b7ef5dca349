"""The days of a month, and what goes wrong in them: each trouble says what must be told of it, and by when.

No test stands here; nothing is judged before the end of the month.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.system import wheels
from tests.system.month.bans import DAY, Attempt, attempts
from tests.system.month.installation import FOLDER, LATER, ZONE, Ban, Installation

Task = Callable[[], None]
DAYS = 30
HOUR = timedelta(hours=1)
LEARNT = 17
"""Days after which a silence of a jail can be told from its habit."""
SILENCE = 7 * DAY
"""Within which the silence of a jail with 15 bans or more on each day is told (nine in ten: within 3.1 days)."""


@dataclass(frozen=True)
class Wanted:
    """A finding that a daily digest must have within a time."""

    kind: str
    since: datetime
    until: datetime
    jail: str | None = None


@dataclass(frozen=True)
class Allowed:
    """What may be told within a time: findings of these kinds, or by cron ("cron")."""

    kinds: tuple[str, ...]
    since: datetime
    until: datetime


@dataclass
class Month:
    """An installation, its bans, and its troubles."""

    rng: random.Random
    built: tuple[Path, Path]
    here: Installation
    wanted: list[Wanted] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    """What went wrong, for people."""
    silent: set[str] = field(default_factory=lambda: {"late"})
    """Jails that have nothing to ban now."""
    again: set[Ban] = field(default_factory=set)
    """Bans that a restored store had lost: told before, and maybe again."""
    copies: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Times in which a digest may arrive twice."""
    killing: bool = False
    """Whether the next send is killed."""

    def __post_init__(self) -> None:
        """Choose the days of the troubles, and the bans."""
        self.begin = self.here.now
        self.attempts = attempts(self.rng, self.begin, DAYS)
        free = self.rng.sample(range(1, DAYS - 3), DAYS - 4)
        dying = next(day for day in free if LEARNT < day < DAYS - 1 - SILENCE.days)
        free.remove(dying)
        self.plan = dict(zip(free, self._troubles(), strict=False)) | {dying: self._jail_falls_silent}
        self.next: dict[int, list[Task]] = {}

    def _troubles(self) -> list[Task]:
        return [
            self._sender_killed, self._sender_killed, self._fail2ban_killed, self._full_disk, self._no_mail_server,
            self._clock_jumps, self._clock_jumps, self._power_cut, self._upgrade, self._restored, self._new_jail,
            self._jail_stopped,
        ]  # fmt: skip

    # ---- days

    def live(self) -> None:
        """Live through the month, and some quiet days at its end."""
        self.here.install(self.built[0])
        for day in range(DAYS):
            moment = self._clock(day, self.rng.uniform(6, 20))
            for task in self.next.pop(day, []):
                self._until(self._clock(day, self.rng.uniform(1, 5)))
                task()
            if day in self.plan:
                self._until(moment)
                self._note(self.plan[day].__name__)
                self.plan[day]()
            self._until(self._midnight(day))
            self._cron(day)

    def _midnight(self, day: int) -> datetime:
        """Return the end of a day."""
        local = self.begin.astimezone(ZONE).date() + timedelta(days=day + 1)
        return datetime(local.year, local.month, local.day, tzinfo=ZONE).astimezone(UTC)

    def _clock(self, day: int, hour: float) -> datetime:
        return self._midnight(day - 1) + hour * HOUR

    def _day(self) -> int:
        """Return the number of the present day."""
        return (self.here.now.astimezone(ZONE).date() - self.begin.astimezone(ZONE).date()).days

    def _due(self, until: datetime) -> Iterator[Attempt]:
        """Yield what is to be banned until then; what a jail was too dead for is gone."""
        while self.attempts and self.attempts[0][0] < until:
            at, (jail, address) = self.attempts.pop(0)
            if jail not in self.silent and at >= self.here.now:
                yield at, (jail, address)

    def _until(self, until: datetime) -> None:
        if until > self.here.now:
            self.here.attack(until, self._due(until))

    def _cron(self, day: int) -> None:
        """Do what cron does at midnight, and ten minutes later."""
        weekday = self._midnight(day).astimezone(ZONE).weekday()
        last = day == DAYS - 1
        whens = ["@daily"] + (["@weekly"] if weekday == 6 or last else [])
        lines = [(line.command, self.here.cron_begins(line.command)) for line in self.here.lines(*whens)]
        if self.killing:
            self.killing = False
            time.sleep(self.rng.uniform(0.1, 3))
            oldest = ["-o"] if self.rng.random() < 0.5 else []
            self.here("pkill", "-9", *oldest, "-f", "f2b-digest send")
        for command, process in lines:
            self.here.cron_ends(command, process)
        if last:
            self.attempts.clear()  # no digest would tell them
        self._until(self._midnight(day) + timedelta(minutes=10))
        self.here.cron("*/10 * * * *")

    def _note(self, text: str) -> None:
        self.log.append(f"{self.here.now.astimezone(ZONE):%a %d %b %H:%M} {text.strip('_').replace('_', ' ')}")

    def _allow(self, *kinds: str, days: float = 1.5) -> None:
        self.allowed.append(Allowed(kinds, self.here.now - HOUR, self.here.now + days * DAY))

    def _want(self, kind: str, jail: str | None = None, within: timedelta = DAY + HOUR) -> None:
        self.wanted.append(Wanted(kind, self.here.now, self.here.now + within, jail))

    def _tomorrow(self, task: Task, days: int = 1) -> None:
        self.next.setdefault(self._day() + days, []).append(task)

    # ---- troubles

    def _sender_killed(self) -> None:
        """At the next midnight; the digest after it may say that it is late."""
        self.killing = True
        self.copies.append((self.here.now, self.here.now + 2 * DAY))
        self._allow("late", "undelivered", "cron", days=2.5)

    def _fail2ban_killed(self) -> None:
        """While it bans; what it was about to do it does again, or never."""
        here = self.here
        burst = [(here.now + timedelta(seconds=number), ("sshd", f"198.51.100.{number}")) for number in range(1, 41)]
        for at, (jail, address) in burst:
            here.set_clock(at)
            here.fail2ban(f"set {jail} attempt {address}")
        time.sleep(self.rng.uniform(0, 1.5))
        here.well("pkill", "-9", "-f", "fail2ban-server")
        here.now = burst[-1][0]
        here.well("sh", "-ec", "rm -f /run/fail2ban/*; fail2ban-client start")
        self._allow("unrecorded")  # what fail2ban's database knows, and its action did not come to record
        self._doubt({ban for _, ban in burst})

    def _doubt(self, bans: set[Ban]) -> None:
        """Take for banned what fail2ban says it banned."""
        time.sleep(2.5)
        here = self.here
        here.doubtful |= bans
        here.fed.update({ban: here.banned()[ban] - here.fed[ban] for ban in bans})

    def _full_disk(self) -> None:
        """Beside the store, over midnight or not; bans go on."""
        here = self.here
        here("sh", "-c", "cat /dev/zero >/var/lib/fail2ban/fill")
        self._allow("late", "undelivered", "unrecorded", "cron", days=2.5)
        over_midnight = self.rng.random() < 0.5
        self._note(f"full over midnight: {over_midnight}")
        self._until(here.now + 2 * HOUR)
        assert any("disk" in line for line in here.troubles()), "check does not tell of a full disk"
        if over_midnight:
            self._tomorrow(self._disk_freed)
        else:
            self._disk_freed()

    def _disk_freed(self) -> None:
        (self.here.root / FOLDER / "../fill").unlink()

    def _no_mail_server(self) -> None:
        """For two days; what goes to it directly is tried until it is back."""
        self.here.well("postfix", "stop")
        self._allow("undelivered", "cron", days=3.5)
        self._want("undelivered", within=2 * DAY + HOUR)
        self._tomorrow(self._mail_server_back, days=2)

    def _mail_server_back(self) -> None:
        self.here.well("postfix", "start")

    def _clock_jumps(self) -> None:
        """Years ahead or back, for an hour in which hosts are banned and cron runs; then it is right again."""
        here = self.here
        right = here.now
        there = right + self.rng.choice((1, 1, -1)) * timedelta(days=self.rng.choice((1, 40, 400, 1200)))
        self._note(f"to {there:%Y-%m-%d}")
        self._allow("late", "silent", "down", "cron", days=2.5)
        self.allowed.append(Allowed(("late", "silent", "down", "cron"), there - DAY, there + DAY))
        here.jump(there)
        for number in range(1, 4):
            ban = ("sshd", f"198.51.100.{100 + number + 10 * self._day()}")
            here.fail2ban(f"set {ban[0]} attempt {ban[1]}")
            here.fed[ban] += 1
        here.wait_for(lambda: not here.fed - here.banned(), "bans at a wrong time")
        here.cron(*self.rng.choice((("*/10 * * * *",), ("@daily", "*/10 * * * *"))))
        here.now = right + HOUR
        here.jump(here.now)

    def _power_cut(self) -> None:
        """While hosts are banned, without a stop; the machine is down for some hours, maybe over midnight."""
        here = self.here
        burst = {("sshd", f"198.51.100.{number}") for number in range(60, 80)}
        for jail, address in sorted(burst):
            here.fail2ban(f"set {jail} attempt {address}")
        time.sleep(self.rng.uniform(0, 1.5))
        here.die()
        here.now += self.rng.uniform(0.1, 3) * HOUR
        here.set_clock(here.now)
        here.reboot()
        self._allow("late", "unrecorded")
        self._doubt(burst)

    def _upgrade(self) -> None:
        """By pip while hosts are banned, then by setup."""
        wheels.upgrade(self.here, self.built[1])
        self._until(self.here.now + HOUR)
        assert self.here.troubles(), "check does not tell of the old action"
        self.here.program("setup", "--yes")

    def _restored(self) -> None:
        """Tomorrow, from a copy of now: what was told and recorded since is told or recovered again."""
        self._store("cp -a /{folder}/. /opt/copy")
        self._tomorrow(self._restore)
        self._copied = self.here.now

    def _restore(self) -> None:
        here = self.here
        self._note("restored")
        here.settled()
        before = here.banned()
        self._store("rm -rf /{folder}/*; cp -a /opt/copy/. /{folder}")
        self.again = {ban for ban in here.banned() if ban in before}
        self.copies.append((self._copied, here.now + DAY))
        self._allow("unrecorded", "late", "cron", days=3)

    def _store(self, script: str) -> None:
        stop, start = "fail2ban-client stop >&2; sleep 1", "fail2ban-client start"
        self.here.well("sh", "-ec", f"mkdir -p /opt/copy; {stop}; {script.format(folder=FOLDER)}; {start}")

    def _new_jail(self) -> None:
        """An admin enables a jail without setup; the next digest says that it does not record."""
        self.here.write("etc/fail2ban/jail.d/late.local", LATER)
        self.here.well("fail2ban-client", "reload")
        self.silent.discard("late")
        self._allow("unrecorded", days=2.5)  # also of the hours until an admin sets it up
        self._want("unrecorded")
        self._tomorrow(self._set_up)

    def _set_up(self) -> None:
        assert any("late" in line for line in self.here.troubles()), "check does not tell of the jail"
        self.here.program("setup", "--yes")
        self.here.recording.add("late")

    def _jail_stopped(self) -> None:
        """The next digest says so, with the command that starts it."""
        self.here.well("fail2ban-client", "stop", "sshd")
        self.silent.add("sshd")
        self._allow("stopped")
        self._want("stopped", "sshd")
        self._tomorrow(self._start_jail)

    def _start_jail(self) -> None:
        found = [
            fact for _, document in self.here.documents() for fact in document["facts"] if fact["kind"] == "stopped"
        ]
        assert found, "no digest tells of the stopped jail"
        for command in found[-1]["commands"]:
            self.here.well("sh", "-ec", command)
        self.silent.discard("sshd")

    def _jail_falls_silent(self) -> None:
        """Its log is written elsewhere now, say; nobody sees that but by its silence."""
        self.silent.add("web")
        self._want("silent", "web", within=SILENCE)
