"""The comparison with sendmail-buffered: it runs the peer's real text, and its table is no show."""

import pytest

from tests.benchmarks import peers
from tests.support.parts import missing


@pytest.fixture(autouse=True)
def peer_is_there() -> None:
    """Skip where fail2ban's actions are not installed."""
    if not peers.ACTION.exists():
        missing(str(peers.ACTION), "apt-get install fail2ban")


@pytest.mark.slow
def test_a_failing_mailer_costs_the_peer_bans_and_us_none() -> None:
    """The peer removes its buffer whether or not the mail went out; a digest is tried again."""
    names = ["the mail server is away for a while", "the mailer is killed"]
    for row in peers.table(names, dict.fromkeys(names, 20)):
        assert row[1:] == (10, 20, 0, 20)


@pytest.mark.slow
def test_without_a_fault_neither_loses_a_ban() -> None:
    """The count is fair to both."""

    def no_fault(side: peers.Side, bans: int) -> int:
        for number in range(bans):
            side.ban(1, number)
        side.report()
        return bans

    assert peers.lost(peers.Peer, no_fault, 12) == (0, 12)
    assert peers.lost(peers.Ours, no_fault, 12) == (0, 12)


@pytest.mark.slow
def test_jails_that_ban_at_once_cost_us_none() -> None:
    """Eight threads append while a send runs."""
    assert peers.lost(peers.Ours, peers.jails_at_once, 20) == (0, 160)
