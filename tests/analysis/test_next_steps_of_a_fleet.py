"""On which host of a fleet the commands of a finding run. No text, and no store, here."""

from datetime import UTC, datetime

import pytest

from f2b_digest.analysis.next_steps import with_commands
from f2b_digest.model.facts import Drop, Fact, Fail2banDown, JailSilent, JailStopped, Late, OwnBanned, Targeted
from f2b_digest.model.finding import Finding
from f2b_digest.model.fleet_facts import (
    ClocksOff,
    HostClock,
    HostJails,
    HostsBehind,
    HostSince,
    HostsLacking,
    HostsSilent,
    HostsUnheard,
    HostWaiting,
)

START = datetime(2026, 11, 18, 6, tzinfo=UTC)
SINCE, WAITING = HostSince("web7", START), HostWaiting("web5", 3, START)
RUN_ON = [
    (OwnBanned("sshd", "192.0.2.7", 1, START, None, "login", None, "anna", "unbanip", host="web3"), "web3"),
    (JailSilent("sshd", 40.0, START, host="web3"), "web3"),
    (JailSilent("sshd", 40.0, START), "*"),
    (JailStopped("sshd", START, 40.0, host="web3"), "web3"),
    (Drop("sshd", 3, 40.0, None), "*"),
    (Fail2banDown(3, 40.0, START, host="mail1"), "mail1"),
    (HostsSilent((SINCE,)), "web7"),
    (HostsSilent((SINCE, SINCE)), None),
    (HostsUnheard((SINCE,)), None),
    (HostsBehind((WAITING,)), "web5"),
    (HostsLacking((HostJails("web3", ("sshd",), 0),), "action"), "web3"),
    (ClocksOff((HostClock("web5", 95), HostClock("web6", 95))), "*"),
    (Late(START, 86400.0), None),
    (Targeted("anna", 14, 22, exists=True), None),
]


@pytest.mark.parametrize(("fact", "host"), RUN_ON)
def test_a_fleets_commands_say_on_which_host_they_run(fact: Fact, host: str | None) -> None:
    """What `f2b-digest` finds, lists and enrols is asked at the centre; of a single host nothing is said."""
    found, alone = (with_commands(fact, start=START, report="daily", fleet=fleet) for fleet in (True, False))
    assert isinstance(found, Finding)
    assert isinstance(alone, Finding)
    assert (found.run_on, alone.run_on) == (host, None)
