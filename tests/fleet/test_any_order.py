"""Any order of recording, uploading, dying, restoring, cloning, sealing and pruning, against what must be true of each.

At a centre in PostgreSQL, and at a hub's `receive`. What a centre drops is whole months: not here.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from f2b_digest.fleet.by_sql import BySql
from f2b_digest.store import Store, Uploads, retention
from tests.fleet.hosts import Fleet, Host, restore, seal, told_by_digests
from tests.support.hub import Hub, Through, hub
from tests.support.postgres_server import Centre, PostgreSQL

TABLES = ("store", "link", "event", "digest", "taken", "mark")


class Died(Exception):
    """The host's process was killed."""


class Steps(RuleBasedStateMachine):
    """Machines that share credentials or not, and a centre; each step is one that happens to somebody."""

    make: Callable[[Path], AbstractContextManager[Fleet]]
    """Starts a centre; a folder is for it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.context = self.make(Path(self.folder.name))
        self.centre = self.context.__enter__()
        self.machines: list[Host] = []
        self.backups: list[tuple[int, Path]] = []
        self.saved = False
        self.count = 0

    def teardown(self) -> None:
        """Drop the centre's database."""
        self.context.__exit__(None, None, None)
        self.folder.cleanup()

    @initialize()
    def enrol(self) -> None:
        """Two hosts, with a credential each."""
        for name in ("web1", "web2"):
            credential = self.centre.add(name)
            self.machines.append(Host(Path(self.folder.name) / name, credential))

    def _machine(self, data: Any) -> int:
        return int(data.draw(st.integers(0, len(self.machines) - 1)))

    @rule(data=st.data(), count=st.integers(1, 4))
    def record(self, data: Any, count: int) -> None:
        """Each ban is another: what is reported twice shows."""
        self.machines[self._machine(data)].bans([f"ban-{self.count + number}" for number in range(count)])
        self.count += count

    @rule(data=st.data())
    def upload(self, data: Any) -> None:
        """A machine uploads."""
        self.machines[self._machine(data)].forward()

    @rule(data=st.data(), after=st.booleans())
    def die(self, data: Any, after: bool) -> None:
        """Before a batch is sent, or when the centre has it."""
        door = Through if isinstance(self.centre, Hub) else BySql
        append = door.append

        def dying(self: Any, *batch: Any) -> None:
            if after:
                append(self, *batch)
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(door, "append", dying)
            with suppress(Died):
                self.machines[self._machine(data)].forward()

    @rule(data=st.data())
    def back_up(self, data: Any) -> None:
        """Somebody copies a store."""
        place = self._machine(data)
        if not self.machines[place].store.exists():
            return
        target = Path(self.folder.name) / f"backup-{len(self.backups)}"
        restore(self.machines[place].store, target)
        self.backups.append((place, target))

    @precondition(lambda self: self.backups)
    @rule(data=st.data())
    def restore_backup(self, data: Any) -> None:
        """Of a host whose uploads are complete: what it alone has would be lost with its disk, and not by us."""
        place, source = self.backups[int(data.draw(st.integers(0, len(self.backups) - 1)))]
        self.machines[place].forward()
        self.saved = False  # the centre is not restored as well: nobody would have these bans
        restore(source, self.machines[place].store)

    @precondition(lambda self: len(self.machines) < 4)
    @rule(data=st.data())
    def clone(self, data: Any) -> None:
        """A machine is copied with its credential, whatever it has not uploaded yet."""
        host = self.machines[self._machine(data)]
        if host.store.exists():
            target = Path(self.folder.name) / f"clone-{len(self.machines)}"
            restore(host.store, target)
            self.machines.append(replace(host, store=target))

    @rule(share=st.sampled_from((1.0, 0.5, 0.2)))
    def seal_some(self, share: float) -> None:
        """A digest takes what is there, or what was recorded first of it."""
        assert seal(self.centre, share=share) >= 0

    @rule(data=st.data())
    def prune_machine(self, data: Any) -> None:
        """What the centre has is dropped on a host; a backup of the centre is younger than that, by `keep`."""
        machine = self.machines[self._machine(data)]
        if machine.store.exists():
            self.saved = False
            with Uploads(machine.store) as uploads:
                uploads.join(time.time())
            with Store(machine.store, read_only=False) as store:
                store.prune(time.time() + 60, {}, lambda _: None)

    @precondition(lambda self: isinstance(self.centre, Hub))
    @rule()
    def prune_hub(self) -> None:
        """All is dropped, as if it were older than a month: it was uploaded and told.

        Not the documents, by which this test knows what was told.
        """
        for machine in self.machines:
            machine.forward()
        seal(self.centre)
        assert isinstance(self.centre, Hub)
        with pytest.MonkeyPatch.context() as patch, self.centre.opened() as store:
            patch.setattr(retention, "old_digests", lambda *_: [])
            store.prune(time.time() + 60, {"daily": ("*",)}, lambda _: None)

    @rule()
    def back_up_centre(self) -> None:
        """The database is saved."""
        self.saved = True
        if isinstance(self.centre, Hub):
            restore(self.centre.path, self.centre.path.with_name("saved"))
            return
        assert isinstance(self.centre, Centre)
        drops = [f"DROP TABLE IF EXISTS saved_{table}" for table in TABLES]
        self.centre.do(*drops, *(f"CREATE TABLE saved_{table} AS TABLE f2b.{table}" for table in TABLES))

    @precondition(lambda self: self.saved)
    @rule()
    def restore_centre(self) -> None:
        """The database goes back, digests and all."""
        if isinstance(self.centre, Hub):
            restore(self.centre.path.with_name("saved"), self.centre.path)
            return
        assert isinstance(self.centre, Centre)
        deletes = [f"DELETE FROM f2b.{table}" for table in reversed(TABLES)]
        inserts = [f"INSERT INTO f2b.{table} OVERRIDING SYSTEM VALUE TABLE saved_{table}" for table in TABLES]
        self.centre.do(*deletes, *inserts)

    @invariant()
    def nothing_is_told_twice(self) -> None:
        """No ban is in two digests."""
        assert all(count == 1 for count in told_by_digests(self.centre).values())

    @rule()
    def nothing_is_lost(self) -> None:
        """Once all machines have uploaded and a digest was sealed, every ban that was ever recorded is reported."""
        for machine in self.machines:
            machine.forward()
        seal(self.centre)
        told = told_by_digests(self.centre)
        assert sorted(told) == sorted(f"ban-{number}" for number in range(self.count))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "hub"])
def test_in_any_order_each_ban_is_told_once(kind: str, request: pytest.FixtureRequest) -> None:
    """Uploads, seals, crashes, restores, clones, prunes of hosts."""

    def postgresql(_: Path) -> AbstractContextManager[Fleet]:
        server: PostgreSQL = request.getfixturevalue("postgres")
        return server.centre()

    class Here(Steps):
        make = staticmethod(hub if kind == "hub" else postgresql)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=request.config.getoption("--orders"), stateful_step_count=25, deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
