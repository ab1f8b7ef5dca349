"""Any order of recording, uploading, dying, restoring, cloning and sealing, against what must be true of each."""

import tempfile
from contextlib import suppress
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

from f2b_digest.fleet import by_sql
from f2b_digest.fleet.connection import ask
from tests.fleet.hosts import Host, restore, seal, told_by_digests
from tests.support.postgres_server import Centre, PostgreSQL

TABLES = ("store", "link", "event", "digest", "taken", "mark")


class Died(Exception):
    """The host's process was killed."""


class Fleet(RuleBasedStateMachine):
    """Machines that share credentials or not, and a centre; each step is one that happens to somebody."""

    server: PostgreSQL

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.context = self.server.centre()
        self.centre: Centre = self.context.__enter__()
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
            self.machines.append(Host(Path(self.folder.name) / name, self.centre.add(name)))

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

        def dying(connection: Any, *rest: Any) -> Any:
            if "append" not in rest[0]:
                return ask(connection, *rest)
            if after:
                ask(connection, *rest)
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(by_sql, "ask", dying)
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

    @rule()
    def seal_all(self) -> None:
        """A digest takes what is there."""
        assert seal(self.centre) >= 0

    @rule()
    def back_up_centre(self) -> None:
        """The database is saved."""
        drops = [f"DROP TABLE IF EXISTS saved_{table}" for table in TABLES]
        self.centre.do(*drops, *(f"CREATE TABLE saved_{table} AS TABLE f2b.{table}" for table in TABLES))
        self.saved = True

    @precondition(lambda self: self.saved)
    @rule()
    def restore_centre(self) -> None:
        """The database goes back, digests and all."""
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
def test_in_any_order_each_ban_is_told_once(postgres: PostgreSQL) -> None:
    """Uploads, seals, crashes, restores, clones, of either side."""
    Fleet.server = postgres
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
