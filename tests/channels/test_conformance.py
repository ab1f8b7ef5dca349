"""Every kind of the registry through the same outcomes and the same hostile digest; a kind without a row here fails."""

import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from f2b_digest import composition, delivery, resources
from f2b_digest.channels import KINDS
from f2b_digest.config import Configuration, Report
from f2b_digest.model.digest import Digest
from f2b_digest.model.selection import Selection
from f2b_digest.rendering.renderer import Renderer
from f2b_digest.store import Store
from tests.channels.kinds import GOOD, OUTCOMES, ROWS, SECRET, WORDS, row_of
from tests.support.hostile import HOSTILE
from tests.support.program import Command
from tests.support.store_making import NOON, Row, event, fill, query

# ---- outcomes


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_knows_the_same_outcomes(
    kind: str, outcome: str, f2b_digest: Command, path: Path, tmp_path: Path
) -> None:
    """Through the whole program: exit status, what is stored, the other side's own words, and nothing secret."""
    row = row_of(kind)
    if outcome in row.never:
        assert row.never[outcome]
        return
    fill(path, [event(ip="9.9.9.9", at=NOON)])
    with row.provoke(outcome, tmp_path) as settings:
        config = tmp_path / "config.toml"
        keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        report = '[reports.daily]\nchannels = ["out"]\n'
        config.write_text(f'store = "{path}"\nhost = "web1"\n{report}[channels.out]\nkind = "{kind}"\n{keys}')
        config.chmod(0o600)
        ended = f2b_digest("--config", config, "send")
    exit_status, status, in_doubt = OUTCOMES[outcome]
    assert query(path, "SELECT status, in_doubt FROM delivery") == [(status, in_doubt)], ended.err
    assert (ended.status, ended.out, ended.err.count("\n")) == (exit_status, "", int(outcome != "sent"))
    if row.words and outcome in ("again", "admin"):
        assert WORDS in ended.err
    assert SECRET not in ended.err + f2b_digest("--config", config, "status").out


# ---- the hostile digest


@dataclass(frozen=True)
class Hostile:
    """A digest of which an attacker chose whatever they can choose."""

    digest: Digest
    selection: Selection
    path: Path


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    """Fill a store with 60 jails of such names, and a heavy one of 500 addresses."""
    path = tmp_path_factory.mktemp("hostile") / "bans.sqlite3"
    texts = [text or "x" * 5000 for text in HOSTILE.values()]
    rows: list[Row] = []
    for number in range(60):
        bad = texts[number % len(texts)]
        for jail, ip in ((f"{bad}{number}", f"9.9.9.{number}"), (f"{bad}{number}", bad), ("sshd", f"8.8.4.{number}")):
            rows.append(event(jail=jail, ip=ip, failures=5, users=[bad, f"{bad}2"], matches=bad, host=bad, bantime=600))
    rows += [event(ip=f"2001:4860:{number:x}::{number:x}", failures=5) for number in range(500)]
    fill(path, rows)
    with Store(path, read_only=True) as store:
        configuration = Configuration(HOSTILE["line ends"], ZoneInfo("UTC"), None, None, {"daily": Report()}, {})
        selection = composition.pending(store, "daily", Report())
        with store.report(selection) as source:
            digest = composition.compose(configuration, source, "daily", NOON + 3600)
    return Hostile(replace(digest, notes=tuple(texts)), selection, path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_packs_the_hostile_digest(kind: str, hostile: Hostile) -> None:
    """Within its limits, the same bytes each time, well-formed, without a control character but line ends."""
    channel = KINDS[kind].model_validate({"kind": kind} | GOOD[kind])
    stamp = delivery.stamp_of(hostile.digest, "0f" * 16, "out", NOON + 3600)
    bodies = []
    with Store(hostile.path, read_only=True) as store, store.report(hostile.selection) as source:
        for _ in range(2):
            renderer = Renderer(resources.folder("templates"))
            body, noted = delivery.make(channel, hostile.digest, renderer, stamp, source)
            assert noted.notes == hostile.digest.notes, "a built-in template broke"
            bodies.append(body)
    assert bodies[0] == bodies[1]
    for seen in row_of(kind).read(bodies[0]):
        assert {c for c in seen if unicodedata.category(c) == "Cc"} <= {"\n"}
    assert channel.wire(bodies[0])


def test_no_row_is_left_over() -> None:
    """A row for a kind that is gone proves nothing."""
    assert set(ROWS) == set(KINDS)
