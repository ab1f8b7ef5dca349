"""What a hub takes of a host's calls, by the bytes that ssh carries: its checks one by one. Without ssh."""

import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from f2b_digest.errors import CentreError
from f2b_digest.fleet import receive
from f2b_digest.store import NOTHING, End, lives, received, state_of
from tests.support.hub import Hub, Through
from tests.support.hub import hub as running

pytestmark = pytest.mark.slow
LIFE, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
START = End(0, NOTHING)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """Give a hub with web1 and web2."""
    with running(tmp_path) as made:
        made.add("web1")
        made.add("web2")
        yield made


@pytest.fixture
def door(hub: Hub) -> Through:
    """Give web1's connection, after its hello."""
    made = Through(hub.path, "web1")
    made.hello(LIFE, [], {})
    return made


def row(seq: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a ban as a host sends it."""
    ban = {"seq": seq, "kind": "ban", "jail": "sshd", "ip": f"192.0.2.{seq}", "at": 1e9, "recorded_at": 1e9}
    return ban | {"source": "action"} | fields


def batch(seq: int) -> End:
    """Return the end of a batch."""
    return End(seq, str(uuid.UUID(int=1000 + seq)))


def append(door: Through, *rows: dict[str, Any], after: End = START, upto: int = 1, life: str = LIFE) -> None:
    """Send a batch."""
    named = {"life": life, "after_seq": after.seq, "after_batch": after.batch, "batch": batch(upto).batch, "upto": upto}
    door._ask(json.dumps({"append": named | {"rows": list(rows)}}))


def events(hub: Hub, columns: str = "ip") -> list[Any]:
    """Return columns of all that the hub has."""
    return hub.rows(f"SELECT {columns} FROM event ORDER BY id")


@pytest.mark.parametrize(
    ("rows", "upto", "state"),
    [
        ([], 1, "F2B03"),
        ([row(1)], 0, "F2B03"),
        ([row(2)], 1, "F2B03"),
        ([row(0)], 1, "F2B03"),
        ([row(1, jail=None)], 1, "23502"),
        ([row(1, at="now")], 1, "22P02"),
        ([row(1, ip=7)], 1, "22P02"),
        ([row(True)], 1, "22P02"),
        (["text"], 1, "22P02"),
        ([row(1)] * (receive.MOST_ROWS + 1), 1, "F2B03"),
    ],
)
def test_a_batch_that_is_none_is_refused(hub: Hub, door: Through, rows: list[Any], upto: int, state: str) -> None:
    """With the state by which the host knows whether to bisect; nothing of it is stored."""
    with pytest.raises(CentreError) as refused:
        append(door, *rows, upto=upto)
    assert refused.value.state == state
    assert events(hub) == []


def test_a_call_that_is_too_long_is_refused_unread(hub: Hub, door: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ends the connection."""
    monkeypatch.setattr(receive, "MOST_BYTES", 1000)
    with pytest.raises(CentreError, match="at most 1000 bytes") as refused:
        append(door, row(1, matches="x" * 900))
    assert refused.value.state == "F2B03"


def test_what_no_clock_and_no_column_has_is_cut(hub: Hub, door: Through) -> None:
    """A time of the year 9999, a duration of centuries, a text of megabytes; recorded in the future is recorded now."""
    append(door, row(1, at=1e12, recorded_at=time.time() + 9e5, bantime=1e15, failures=-5, matches="x" * 10_000))
    ((at, recorded, bantime, failures, length),) = events(hub, "at, recorded_at, bantime, failures, length(matches)")
    assert (at, bantime, failures, length) == (receive.LAST_TIME, receive.LONGEST, 0, receive.LIMITS["matches"])
    assert abs(recorded - time.time()) < 60


def test_a_batch_whose_answer_was_lost_is_taken_once(hub: Hub, door: Through) -> None:
    """What does not follow is refused."""
    append(door, row(1))
    append(door, row(1))
    append(door, row(2), after=batch(1), upto=2)
    assert events(hub) == [("192.0.2.1",), ("192.0.2.2",)]
    for after in (START, batch(1), End(2, batch(1).batch), End(1, batch(2).batch)):
        with pytest.raises(CentreError) as refused:
            append(door, row(3), after=after, upto=3)
        assert refused.value.state == "F2B02"
    with pytest.raises(CentreError, match="hello first"):
        append(door, row(3), after=batch(2), upto=3, life=OTHER)


def test_a_batch_is_stored_whole_or_not_at_all(hub: Hub, door: Through) -> None:
    """Starts and stops of other hosts' jails are not stored: the hub would take them for its own."""
    with pytest.raises(CentreError):
        append(door, row(1), row(2, jail=None), upto=2)
    append(door, row(1, kind="start"), row(2, kind="stop"), row(3), upto=3)
    assert events(hub, "kind, ip, host, source") == [("ban", "192.0.2.3", "web1", "fleet")]


def test_the_name_of_the_host_is_that_of_its_key(hub: Hub, door: Through) -> None:
    """Whatever a row says; another host's store is neither continued nor changed by its name."""
    append(door, row(1, host="web2", source="action"))
    assert events(hub, "host, source") == [("web1", "fleet")]
    other = Through(hub.path, "web2")
    assert other.hello(OTHER, [(LIFE, batch(1).batch, 1)], {}).end == START
    with pytest.raises(CentreError):
        append(other, row(2), after=batch(1), upto=2)
    other.hello(LIFE, None, {"version": "9"})
    assert hub.rows("SELECT state FROM fleet_store WHERE host = 'web1'") == [("{}",)]


def test_a_copy_begins_where_its_chain_is_known(hub: Hub, door: Through) -> None:
    """What was uploaded before is not sent again; after twenty copies in a day it is no copy, but an attack."""
    append(door, row(1))
    end = door.hello(OTHER, [(LIFE, str(uuid.UUID(int=9)), 5), (LIFE, batch(1).batch, 1)], {}).end
    assert end == End(1, NOTHING)
    with pytest.raises(CentreError, match="20 copies") as refused:
        for number in range(3, 3 + received.MOST_LIVES):
            door.hello(str(uuid.UUID(int=number)), [], {})
    assert refused.value.state == "F2B03"


def test_of_copies_the_last_day_is_described(hub: Hub, door: Through) -> None:
    """Twenty a day, of 64 KiB each, would be read for each digest."""
    hub.do("UPDATE fleet_store SET seen_at = seen_at - 90000")
    door.hello(OTHER, [], {"version": "2"})
    assert hub.rows("SELECT life, state FROM fleet_store ORDER BY id") == [(LIFE, None), (OTHER, '{"version": "2"}')]


def test_a_host_that_leaves_after_it_was_restored_has_left(hub: Hub, door: Through) -> None:
    """Its store from before is not silent: another took its place. That of a clone's original would be."""
    hub.do("UPDATE fleet_store SET began_at = began_at - 9000, seen_at = seen_at - 900")
    door.hello(OTHER, [], {"left": True})
    assert state_of(lives(hub.path)[:2]).left
    hub.do(f"UPDATE fleet_store SET began_at = began_at - 1000 WHERE life = '{OTHER}'")
    assert not state_of(lives(hub.path)[:2]).left


def test_a_call_that_takes_too_much_memory_is_refused(hub: Hub, door: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits into 16 MiB of JSON can be half a gigabyte of Python."""
    monkeypatch.setattr(receive, "_append", lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(CentreError, match="too much memory") as refused:
        append(door, row(1))
    assert refused.value.state == "F2B03"


def test_a_connection_that_is_refused_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host could open any number of them, and say nothing."""
    monkeypatch.setattr(receive, "SOON", 0.1)
    silent, other = os.pipe()
    with os.fdopen(silent, "rb") as asked, os.fdopen(other, "wb"):
        begun = time.monotonic()
        receive.refuse(asked, io.BytesIO(), "another upload of this host is running")
        assert time.monotonic() - begun < 10


def test_a_host_has_so_many_jails(hub: Hub, door: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs every digest for a month; what is of more is kept, under one name. Another host has its own."""
    monkeypatch.setattr(received, "MOST_JAILS", 2)
    append(door, row(1, jail="a"), row(2, jail="b"), row(3, jail="c"), upto=3)
    append(door, row(4, jail="d"), row(5, jail="b"), after=batch(3), upto=5)
    web2 = Through(hub.path, "web2")
    web2.hello(LIFE, [], {})
    append(web2, row(1, jail="z"))
    assert [jail for (jail,) in events(hub, "jail")] == ["a", "b", "other-jails", "other-jails", "b", "z"]


def test_what_was_told_and_pruned_is_no_news_again(hub: Hub, door: Through) -> None:
    """Of a restored store; what a host kept while it was cut off for months is news."""
    now = time.time()
    old, older = now - 40 * 86400, now - 50 * 86400
    append(door, row(1, at=old, recorded_at=old))
    with hub.opened() as store:
        assert store.prune(now - 30 * 86400, {}, lambda _: None) == 1
    append(door, row(2, at=older, recorded_at=older), after=batch(1), upto=2)
    door.hello(OTHER, [], {})
    append(door, row(1, at=old, recorded_at=old), row(3, at=now, recorded_at=now), upto=3, life=OTHER)
    web2 = Through(hub.path, "web2")
    for life, after, number in ((LIFE, START, 4), (OTHER, START, 5)):
        web2.hello(life, [], {})
        append(web2, row(number, at=older, recorded_at=older), after=after, upto=number, life=life)
    assert events(hub, "ip, history") == [
        ("192.0.2.2", 0), ("192.0.2.1", 1), ("192.0.2.3", 0), ("192.0.2.4", 0), ("192.0.2.5", 0)
    ]  # fmt: skip


def test_a_hub_of_the_first_version_prunes(hub: Hub, door: Through) -> None:
    """It has no table for what was dropped, until then."""
    append(door, row(1))
    hub.do("DROP TABLE fleet_dropped")
    with hub.opened() as store:
        assert store.prune(time.time(), {}, lambda _: None) == 1
    assert hub.rows("SELECT * FROM fleet_dropped") == [(1, 1e9)]


def test_a_host_sends_so_much_in_a_day(hub: Hub, door: Through, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sum of its batches; the rest waits on the host until the next day."""
    monkeypatch.setattr(received, "DAILY_ROWS", 3)
    append(door, row(1), row(2), upto=2)
    with pytest.raises(CentreError) as refused:
        append(door, row(3), row(4), after=batch(2), upto=4)
    assert (refused.value.state, refused.value.away) == ("F2B04", True)
    append(door, row(3), after=batch(2), upto=3)
    hub.do("UPDATE fleet_host SET day = day - 1")
    append(door, row(4), after=batch(3), upto=4)
    assert len(events(hub)) == 4


def test_a_host_that_was_retired_says_nothing_more(hub: Hub, door: Through) -> None:
    """Neither a hello nor a batch."""
    hub.do("UPDATE fleet_host SET retired_at = 1 WHERE host = 'web1'")
    for call in (lambda: door.hello(LIFE, None, {}), lambda: append(door, row(1))):
        with pytest.raises(CentreError, match="not enrolled"):
            call()
    assert events(hub) == []


@pytest.mark.parametrize("state", [[], "text", {"a": "x" * 70_000}])
def test_what_a_host_says_of_itself_is_an_object_of_some_size(hub: Hub, door: Through, state: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(CentreError):
        door.hello(LIFE, None, state)
