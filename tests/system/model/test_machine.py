"""A machine that does to the product whatever can happen to it, in any order, and compares it with the model."""

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from f2b_digest.config import Report
from f2b_digest.errors import ConfigurationError
from tests.support.figures import Keep
from tests.system.model.reference import Event
from tests.system.model.simulation import ALL, TROUBLE, Plan, Post, Simulation

DAY = 86400.0
STEPS_OF_A_RUN = 50
RUNS_OF_A_BATCH = 200


names = st.sampled_from(("daily", "weekly", "web"))
channel_names = st.sampled_from(("mail", "phone"))
people = st.sampled_from(("ann", "bob", "eve"))
patterns = st.sampled_from((("*",), ("*", "!ssh*"), ("web",), ("ssh*", "web")))
happenings = st.sampled_from(
    ("crash", "crash", "second_send", "second_retry", "locked_out", "ban", "spooled_ban", "jump_on", "jump_back")
)
attempt = ("claim", "claimed", "deliver", "delivered", "settle", "settled")
spooling = ("store_spool", "spool_stored", "empty_spool")
sealing = ("last_event", "report", "seal", "sealed")


def plans(*points: str) -> st.SearchStrategy[Plan | None]:
    """Return what may happen at these points; mostly something."""
    plan = st.builds(Plan, st.sampled_from(points), st.sampled_from((0, 0, 0, 1, 2)), happenings)
    return st.one_of(st.none(), plan, plan)


events = st.builds(
    Event,
    st.sampled_from(("ban", "ban", "ban", "unban", "prolong")),
    st.sampled_from(("sshd", "web", "recidive")),
    st.sampled_from([f"192.0.2.{n}" for n in range(4)]),
    st.integers(0, 30).map(float),
    st.just(0.0),
    st.sampled_from((False,) * 7 + (True,)),
)
clocks = st.sampled_from((3600.0, -3600.0, 3 * DAY, -3 * DAY, 400 * DAY, -400 * DAY, -1e12))
counts: Counter[str] = Counter()
"""What the machines of this process did."""


class Machine(RuleBasedStateMachine):
    """What fail2ban, cron, the admin, other processes and the machine's clock do."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.simulation = Simulation(Path(self._folder.name))

    def teardown(self) -> None:
        """Bring everything to an end, and see that nothing is left."""
        try:
            self.finish()
            counts.update(self.simulation.happened)
            counts["digests"] += len(self.simulation.model.digests)
            counts["events pruned"] += len(self.simulation.model.events) - len(self.simulation.model.live)
            counts["copies"] += self.simulation.arrived.total()
            counts["copies in doubt"] += self.simulation.doubts.total()
        finally:
            self.simulation.close()
            self._folder.cleanup()

    # ---- fail2ban

    @rule(events=st.lists(events, min_size=1, max_size=6), locked=st.booleans())
    def record(self, events: list[Event], locked: bool) -> None:
        """Record some events, maybe ones that are there, into the store, or past a locked one."""
        now = self.simulation.now
        dated = [event._replace(recorded_at=now) for event in events]
        if locked:
            self.simulation.spool(dated)
        else:
            self.simulation.record(dated)

    # ---- cron and the admin

    @rule(wanted=st.sets(names), plan=plans(*spooling, *sealing, *sealing, *attempt), prune=st.booleans())
    def send(self, wanted: set[str], plan: Plan | None, prune: bool) -> None:
        """Send some reports, or all; to send one that has no channel is refused."""
        simulation = self.simulation
        chosen = [name for name in simulation.reports if name in wanted] or list(simulation.reports)
        heard = [name for name in chosen if simulation.reports[name].channels]
        if heard != chosen:
            with pytest.raises(ConfigurationError):
                simulation.send(chosen, None)
        simulation.send(heard, plan)
        if prune:
            simulation.prune(DAY, None)

    @rule(bans=st.lists(events, min_size=3, max_size=6), plan=plans(*sealing, *attempt, *attempt))
    def live_a_day(self, bans: list[Event], plan: Plan | None) -> None:
        """Record some events, and send all reports a day later."""
        self.record(bans, locked=False)
        self.wait(DAY)
        self.send(set(), plan, prune=False)

    @rule(plan=plans(*attempt))
    def retry(self, plan: Plan | None) -> None:
        """Try what is due."""
        self.simulation.retry(without(plan, "second_send"))

    @precondition(lambda self: self.simulation.model.digests)
    @rule(data=st.data(), to=st.none() | people, plan=plans(*("copied",) * 4, *attempt))
    def resend(self, data: st.DataObject, to: str | None, plan: Plan | None) -> None:
        """Deliver something once more, to the same person or another."""
        self.simulation.resend(lambda several: data.draw(st.sampled_from(several)), to, without(plan, "second_send"))

    @rule(keep=st.sampled_from((0.0, 1.0, 30.0)), plan=plans("prune", *spooling))
    def prune(self, keep: float, plan: Plan | None) -> None:
        """Drop what is older than this many days."""
        self.simulation.prune(keep * DAY, without(plan, "second_send"))

    # ---- time and surroundings

    @rule(seconds=st.sampled_from((1.0, 59.0, 300.0, 3600.0, DAY)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.simulation.now += seconds

    @rule(seconds=clocks)
    def change_clock(self, seconds: float) -> None:
        """Set the clock: by hours, days, a year, to 1970."""
        self.simulation.jump(self.simulation.now + seconds)

    @rule(person=people, trouble=st.none() | st.sampled_from(sorted(TROUBLE)))
    def trouble(self, person: str, trouble: str | None) -> None:
        """Let somebody's mail server have a bad day, or recover."""
        self.simulation.trouble.pop(person, None)
        if trouble:
            self.simulation.trouble[person] = trouble

    # ---- the configuration

    @rule(
        name=names, channels=st.sets(channel_names), jails=patterns,
        min_bans=st.sampled_from((1, 1, 2, 3)), quiet=st.sampled_from(("skip", "send")),
    )  # fmt: skip
    def set_report(self, name: str, channels: set[str], jails: tuple[str, ...], min_bans: int, quiet: Any) -> None:
        """Add or change a report, or take it out."""
        reports = self.simulation.reports
        for channel in channels - set(self.simulation.channels):
            self.set_channel(channel, {"ann", "bob"})
        if channels:
            reports[name] = Report(
                channels=tuple(sorted(channels)), jails=jails, min_bans=min_bans, quiet=quiet, addresses=ALL
            )
        elif set(reports) - {name}:
            reports.pop(name, None)

    @rule(name=channel_names, to=st.sets(people))
    def set_channel(self, name: str, to: set[str]) -> None:
        """Add a channel, or change who gets its messages, or take it out."""
        if to:
            self.simulation.channels[name] = Post(to=tuple(sorted(to)), simulation=self.simulation)
            return
        self.simulation.channels.pop(name, None)
        for report, old in self.simulation.reports.items():
            left = tuple(channel for channel in old.channels if channel != name)
            self.simulation.reports[report] = old.model_copy(update={"channels": left})

    # ---- what must hold

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        """Compare all that is there."""
        counts["steps"] += 1
        self.simulation.check()

    def finish(self) -> None:
        """Let every trouble end: then everybody gets everything that was not given up."""
        simulation = self.simulation
        simulation.trouble.clear()
        simulation.channels.setdefault("mail", Post(to=("ann",), simulation=simulation))
        for name, report in simulation.reports.items():
            simulation.reports[name] = report.model_copy(
                update={"channels": report.channels or ("mail",), "min_bans": 1}
            )
        simulation.send(list(simulation.reports), None)
        simulation.now += 4 * 3600.0
        simulation.retry(None)
        simulation.check()
        simulation.check_the_end()


def without(plan: Plan | None, happening: str) -> Plan | None:
    """Return a plan, unless this is what happens in it."""
    return None if plan and plan.happening == happening else plan


@pytest.mark.slow
def test_the_product_agrees_with_the_model(request: pytest.FixtureRequest, figures: Keep) -> None:
    """Whatever happens in whatever order: no ban is lost, none told twice, no copy is sent without need."""
    steps, start = request.config.getoption("--steps"), time.monotonic()
    counts.clear()
    while counts["steps"] < steps:  # in batches: Hypothesis remembers each run of one
        runs = min(RUNS_OF_A_BATCH, max(1, (steps - counts["steps"]) // STEPS_OF_A_RUN))
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=runs, stateful_step_count=STEPS_OF_A_RUN, deadline=None, derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    took = time.monotonic() - start
    speed = counts["steps"] / took
    figures("model", f"{counts['steps']:,} steps in {took:.0f} s: {speed:.0f} a second; {dict(counts)}")
