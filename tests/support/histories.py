"""Replays real histories of bans through the real `send`: what was reported, and when. Nothing is judged here.

They are read from a folder of the form of ../shared/histories (bans/NAME.csv.gz: at, jail, kind, ip, bantime, and where
known failures, users, matches; NAME.logins: ip, user, at), and are no part of this project.
"""

import csv
import gzip
import json
import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from f2b_digest import config, delivery, geoip, recorder, resources
from f2b_digest.config import Configuration
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import from_json
from f2b_digest.model.host_context import HostContext, Login
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.support.parts import PARTS
from tests.support.store_making import Row

FOLDER = Path(os.environ.get("F2B_DIGEST_HISTORIES", Path(__file__).parent.parent.parent.parent / "shared/histories"))
DAY = 86400.0
SENT_AT = 6.4 * 3600
"""Seconds after midnight UTC: when cron runs; the weekly report on Mondays."""
CONFIGURATION = """
host = "web1"
timezone = "UTC"
[reports.daily]
channels = ["box"]
[reports.weekly]
channels = ["box"]
[channels.box]
kind = "file"
append = "box.txt"
"""


@dataclass(frozen=True)
class History:
    """What a host banned; events in the order of their times, UTC epoch seconds."""

    name: str
    rows: Sequence[Row]
    times: Sequence[float]
    logins: tuple[Login, ...] = ()

    @property
    def days(self) -> float:
        """How long it is."""
        return (self.times[-1] - self.times[0]) / DAY

    def between(self, since: float, until: float) -> Sequence[Row]:
        """Return the events of a time, the end excluded."""
        return self.rows[bisect_left(self.times, since) : bisect_left(self.times, until)]


def histories(folder: Path, names: Sequence[str] = ()) -> Iterator[History]:
    """Yield the histories in a folder, or those of these names, the shortest file first."""
    bans = folder / "bans" if (folder / "bans").is_dir() else folder
    for file in sorted(bans.glob("*.csv.gz"), key=lambda file: file.stat().st_size):
        name = file.name.removesuffix(".csv.gz")
        if not names or name in names:
            yield _read(file, name)


def _read(file: Path, name: str) -> History:
    with gzip.open(file, "rt", newline="") as lines:
        rows = sorted((_row(entry) for entry in csv.DictReader(lines)), key=lambda row: row[4])
    logins = file.with_name(f"{name}.logins")
    known: tuple[Login, ...] = ()
    if logins.is_file():
        with logins.open(newline="") as lines:
            known = tuple(Login(entry["ip"], entry["user"], float(entry["at"])) for entry in csv.DictReader(lines))
    return History(name, rows, [row[4] for row in rows], known)


def _row(entry: dict[str, str]) -> Row:
    at = float(entry["at"])
    number = {key: int(entry[key]) for key in ("bantime", "failures") if entry.get(key)}
    made: Row = recorder.event(
        entry["kind"], entry["jail"], entry["ip"], at, "web1", "action", recorded_at=at,
        users=json.loads(entry.get("users") or "[]"), matches=entry.get("matches") or None, **number,
    )  # fmt: skip
    return made


@dataclass(frozen=True)
class Issue:
    """A digest that went out."""

    report: str
    sent_at: float
    digest: Digest
    text: str


@dataclass
class Replay:
    """A host with a history, in its own folder, with a daily and a weekly report."""

    history: History
    folder: Path
    reports: tuple[str, ...] = ("daily", "weekly")
    now: float = 0.0
    """UTC epoch seconds: the last run of cron."""
    host_context: HostContext = field(default_factory=HostContext)

    def __post_init__(self) -> None:
        """Begin at the run of cron before the first event."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "config.toml"
        file.write_text(CONFIGURATION)
        self.configuration: Configuration = config.load(file, host="web1", timezone="UTC")
        self.renderer = Renderer(resources.folder("templates"))
        if not self.now:
            self.now = (self.history.times[0] - SENT_AT) // DAY * DAY + SENT_AT
        self.host_context = replace(
            self.host_context, geography=geoip.find(root=PARTS / "libloc-database")[0], logins=self.history.logins,
            users=frozenset({"root", *(login.user for login in self.history.logins)}),
        )  # fmt: skip

    @property
    def store(self) -> Path:
        """Where the store is."""
        return self.folder / "bans.sqlite3"

    def run(self, until: float | None = None) -> Iterator[list[Issue]]:
        """Yield what each day's run of cron sends, up to a time, or to the last event."""
        end = self.history.times[-1] if until is None else until
        while self.now < end:
            yield self.live(self.now + DAY)

    def live(self, until: float, dead_from: float | None = None) -> list[Issue]:
        """Record what happens up to the next run of cron, or to a death before it, and send; return the digests."""
        self.record(self.history.between(self.now, min(until, until if dead_from is None else dead_from)))
        self.now = until
        due = [name for name in self.reports if name == "daily" or (self.now // DAY + 3) % 7 == 0]
        return [issue for name in due if (issue := self._send(name))]

    def record(self, rows: Sequence[Row]) -> None:
        """Append events in one transaction."""
        with closing(recorder.connect(str(self.store))) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN")
            connection.executemany(recorder.INSERT, rows)
            connection.execute("COMMIT")

    def _send(self, report: str) -> Issue | None:
        box = self.folder / "box.txt"
        box.unlink(missing_ok=True)
        known = replace(self.host_context, logins=tuple(each for each in self.history.logins if each.at <= self.now))
        with Store(self.store, read_only=False) as store:
            outcomes = delivery.send(
                self.configuration, store, self.renderer, [report], lambda: self.now, host_context=known
            )
            assert all(outcome.status == "sent" for outcome in outcomes), outcomes
            if not outcomes:
                return None
            (sealed,) = store.digests(report, most=1)
            document = store.document(sealed.id)
        assert document
        return Issue(report, self.now, from_json(document), box.read_text())

    def copy(self, folder: Path) -> "Replay":
        """Return another host with the same history so far."""
        folder.mkdir(parents=True)
        for file in self.folder.glob("bans.sqlite3*"):
            shutil.copy(file, folder)
        return Replay(self.history, folder, self.reports, self.now)
