"""A centre of the first release that `fleet init` upgrades while hosts upload: nothing is lost or told twice."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from f2b_digest.fleet import enrolment, schema
from f2b_digest.fleet.connection import connect
from tests.fleet.hosts import Host
from tests.fleet.living import PATIENCE, Lives, grow
from tests.support.postgres_server import PostgreSQL

pytestmark = pytest.mark.slow
RELEASED = 4
"""The schema of 0.1.0."""


def test_a_centre_in_use_is_upgraded(
    postgres: PostgreSQL, tmp_path: Path, figures: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts do not notice; senders go on as soon as it is done."""
    released = [step for step in schema.steps() if step.number <= RELEASED]
    with ExitStack() as stack:
        with monkeypatch.context() as before:
            before.setattr(schema, "steps", lambda: released)
            centre = stack.enter_context(postgres.centre())
        assert centre.rows("SELECT max(number) FROM f2b.version") == [(RELEASED,)]
        hosts = {f"h{number}": Host(tmp_path / f"h{number}", centre.add(f"h{number}")) for number in range(3)}
        with Lives(hosts, centre) as lives:
            until = time.monotonic() + PATIENCE
            while centre.rows("SELECT count(*) < 100 FROM f2b.event") == [(True,)]:
                assert time.monotonic() < until
                time.sleep(0.1)
            with connect(centre.admin) as connection:
                enrolment.set_up(connection, None, None, "unused:1")
            grow(centre)
            outcome = lives.settle()
        assert centre.rows("SELECT max(number) FROM f2b.version") == [(schema.steps()[-1].number,)]
        figures("a fleet's centre", f"of 0.1.0, upgraded: {outcome}")
        assert not outcome.lost
        assert not outcome.twice
