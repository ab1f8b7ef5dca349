"""The upload of a host's events: each is at the centre once, whatever was cut, killed, restored or copied."""

import json
import os
import signal
import sqlite3
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import recorder
from f2b_digest.errors import CentreError, ConfigurationError
from f2b_digest.fleet import by_sql, rows
from f2b_digest.fleet import forward as forwarding
from f2b_digest.fleet.connection import ask, connect, parameters
from f2b_digest.store import NOTHING, End, Uploads
from tests.fleet.hosts import Host, restore, told
from tests.support.postgres_server import Centre, PostgreSQL

pytestmark = pytest.mark.slow

ADDRESSES = [f"192.0.2.{number}" for number in range(1, 30)]


def bans(host: Host, *addresses: str) -> None:
    """Record a ban of each."""
    host.bans(addresses)


def test_what_is_recorded_arrives_once(centre: Centre, host: Host) -> None:
    """In the order of recording, with all that fail2ban told, and not again."""
    host.ban("192.0.2.1", failures=5, bantime=600, bancount=2, users=["root", "admin"], matches="a line")
    assert host.forward().events == 1
    assert host.forward().events == 0
    found = centre.rows(
        "SELECT seq, kind, jail, ip, failures, bantime, bancount, users, matches, source FROM f2b.event"
    )
    assert found == [(1, "ban", "sshd", "192.0.2.1", 5, 600, 2, '["root", "admin"]', "a line", "action")]


def test_the_result_names_the_host_as_the_centre_does(host: Host) -> None:
    """A credential that was pasted on the wrong machine shows."""
    assert host.forward().host == "web1"


def test_an_upload_of_many_goes_in_batches(centre: Centre, host: Host) -> None:
    """And no row is left between two."""
    bans(host, *(f"10.0.{number // 250}.{number % 250}" for number in range(1201)))
    assert host.forward().events == 1201
    assert centre.rows("SELECT count(DISTINCT ip), max(seq) FROM f2b.event") == [(1201, 1201)]


@pytest.mark.on("one", "citus")
@pytest.mark.parametrize("moment", ["intend", "acknowledge"])
def test_a_host_that_dies_before_or_after_the_answer_sends_once(
    centre: Centre, host: Host, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between the intention and the answer, nobody knows whether the batch arrived; the next run asks."""
    bans(host, *ADDRESSES[:3])
    monkeypatch.setattr(Uploads, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        host.forward()
    monkeypatch.undo()
    bans(host, *ADDRESSES[3:5])
    assert not host.forward().notes
    assert told(centre) == ADDRESSES[:5]


@pytest.mark.on("one", "citus")
def test_a_store_restored_from_a_backup_goes_on_as_another(centre: Centre, host: Host, tmp_path: Path) -> None:
    """Its new events have ids that the centre knows: none is swallowed, none told twice."""
    bans(host, *ADDRESSES[:5])
    host.forward()
    restore(host.store, tmp_path / "backup")
    bans(host, *ADDRESSES[5:10])
    host.forward()
    restore(tmp_path / "backup", host.store)
    bans(host, *ADDRESSES[10:15])
    assert "copy" in host.forward().notes[0]
    assert told(centre) == sorted(ADDRESSES[:15])
    bans(host, ADDRESSES[15])
    assert not host.forward().notes
    assert told(centre) == sorted(ADDRESSES[:16])


def test_what_a_restored_store_takes_in_again_is_not_told_again(centre: Centre, host: Host, tmp_path: Path) -> None:
    """fail2ban's database gives back bans that the lost part of the store had, and that were uploaded."""
    restore_point = tmp_path / "backup"
    bans(host, *ADDRESSES[:3])
    host.forward()
    restore(host.store, restore_point)
    at = time.time()
    host.ban(ADDRESSES[3], at=at)
    host.forward()
    restore(restore_point, host.store)
    host.ban(ADDRESSES[3], at=at)
    host.ban(ADDRESSES[4])
    host.forward()
    assert told(centre) == ADDRESSES[:5]


def test_a_backup_taken_while_a_batch_was_on_its_way(
    centre: Centre, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The centre has it, and more; the backup only knows that it may have."""
    bans(host, *ADDRESSES[:3])
    monkeypatch.setattr(Uploads, "acknowledge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        host.forward()
    monkeypatch.undo()
    restore(host.store, tmp_path / "backup")
    bans(host, ADDRESSES[3])
    host.forward()
    restore(tmp_path / "backup", host.store)
    bans(host, ADDRESSES[4])
    host.forward()
    assert told(centre) == ADDRESSES[:5]


def test_two_machines_with_one_credential_are_two_stores(centre: Centre, host: Host, tmp_path: Path) -> None:
    """A cloned machine takes its store along; both go on, and the centre can tell."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    clone = host.copy(tmp_path / "clone.sqlite3")
    for place in range(3, 13, 2):
        bans(clone, ADDRESSES[place])
        clone.forward()
        bans(host, ADDRESSES[place + 1])
        host.forward()
    assert told(centre) == sorted(ADDRESSES[:13])
    assert centre.rows("SELECT count(*) FROM f2b.store") == [(2,)]


@pytest.mark.on("one", "citus")
def test_a_clone_with_events_that_were_not_sent_yet(centre: Centre, host: Host, tmp_path: Path) -> None:
    """Both have the same events to send: they are reported once."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    bans(host, *ADDRESSES[3:6])
    clone = host.copy(tmp_path / "clone.sqlite3")
    host.forward()
    bans(clone, ADDRESSES[6])
    clone.forward()
    assert told(centre) == ADDRESSES[:7]


@pytest.mark.on("one", "citus")
def test_a_clone_that_goes_on_with_its_backlog_later(centre: Centre, host: Host, tmp_path: Path) -> None:
    """The original took it for its own meanwhile, in a life that began later: its events are told once."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    clone = host.copy(tmp_path / "clone.sqlite3")
    bans(clone, ADDRESSES[3])
    clone.forward()
    now = time.time()
    for store in (host, clone):
        for place, each in enumerate(ADDRESSES[4:7]):
            store.ban(each, at=now + place)
    host.forward()
    centre.do("UPDATE f2b.store SET began_at = began_at - interval '30 days' WHERE store_id = 1")
    clone.forward()
    assert told(centre) == ADDRESSES[:7]


@pytest.mark.on("one", "citus")
def test_a_host_that_was_cut_off_for_longer_than_events_are_kept(centre: Centre, host: Host, tmp_path: Path) -> None:
    """Its bans are news; those of a copy from before what was dropped may be told already, and are not."""
    now = time.time()
    host.forward()
    host.ban(ADDRESSES[0], at=now - 20 * 86400)
    centre.do("UPDATE f2b.centre SET events_since = now() - interval '10 days'")
    host.forward()
    assert told(centre) == ADDRESSES[:1]
    clone = host.copy(tmp_path / "clone.sqlite3")
    bans(host, ADDRESSES[1])
    host.forward()
    for address, days in ((ADDRESSES[2], 20), (ADDRESSES[3], 5)):
        clone.ban(address, at=now - days * 86400)
    clone.forward()
    assert told(centre) == [*ADDRESSES[:2], ADDRESSES[3]]


@pytest.mark.on("one", "citus")
@pytest.mark.parametrize("lost", ["events", "everything of the host", "the database"])
def test_a_centre_that_went_back_gets_what_it_lacks_again(centre: Centre, host: Host, lost: str) -> None:
    """From a backup, from none, or from a replica that lagged: the hosts fill it up."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    centre.do("CREATE TABLE saved AS TABLE f2b.event", "CREATE TABLE saved_store AS TABLE f2b.store",
              "CREATE TABLE saved_link AS TABLE f2b.link")  # fmt: skip
    bans(host, *ADDRESSES[3:6])
    host.forward()
    bans(host, ADDRESSES[6])
    if lost == "events":
        centre.do(
            "DELETE FROM f2b.event", "DELETE FROM f2b.link", "INSERT INTO f2b.event TABLE saved",
            "INSERT INTO f2b.link TABLE saved_link",
            "UPDATE f2b.store s SET last_seq = o.last_seq, last_batch = o.last_batch FROM saved_store o",
        )  # fmt: skip
    elif lost == "everything of the host":
        centre.do("DELETE FROM f2b.event", "DELETE FROM f2b.link", "DELETE FROM f2b.store")
    else:
        with centre.server.centre() as new:
            moved = replace(host, credential=new.add("web1"))
            moved.forward()
            assert told(new) == ADDRESSES[:7]
        return
    assert host.forward().notes
    assert told(centre) == ADDRESSES[:7]


def test_a_centre_and_a_store_that_both_went_back(centre: Centre, host: Host, tmp_path: Path) -> None:
    """The chain of neither is the other's; what both once had is found by a batch that both know."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    restore(host.store, tmp_path / "backup")
    bans(host, *ADDRESSES[3:6])
    host.forward()
    restore(tmp_path / "backup", host.store)
    bans(host, *ADDRESSES[6:9])
    host.forward()
    centre.do("DELETE FROM f2b.event", "DELETE FROM f2b.link", "DELETE FROM f2b.store")
    bans(host, ADDRESSES[9])
    host.forward()
    assert told(centre) == sorted(ADDRESSES[:3] + ADDRESSES[6:10])


def test_a_reinstalled_host_begins_anew(centre: Centre, host: Host, tmp_path: Path) -> None:
    """Its store is empty, and knows of no life before."""
    bans(host, *ADDRESSES[:3])
    host.forward()
    new = replace(host, store=tmp_path / "new.sqlite3")
    bans(new, *ADDRESSES[3:5])
    assert not new.forward().notes
    assert told(centre) == ADDRESSES[:5]


def test_what_was_recorded_long_before_joining_is_history(centre: Centre, host: Host) -> None:
    """The host's own digests have told it: the fleet's first digest is not a year of bans."""
    now = time.time()
    host.ban("192.0.2.1", at=now - 3 * 86400)
    host.ban("192.0.2.2", at=now - 3600)
    host.forward()
    assert centre.rows("SELECT ip, history FROM f2b.event ORDER BY seq") == [("192.0.2.1", 1), ("192.0.2.2", 0)]


# ---- poison


def test_what_postgresql_cannot_hold_is_made_visible(centre: Centre, host: Host) -> None:
    r"""NUL and lone surrogates, which an attacker can have logged."""
    host.ban("a\0b", users=["r\0ot", "\udc80"], matches="x\0y \udcff")
    host.forward()
    found = centre.rows("SELECT ip, users, matches FROM f2b.event")
    assert found == [("a\\x00b", json.dumps(["r\\x00ot", "\\udc80"]).replace("\\\\", "\\"), "x\\x00y \\udcff")] or (
        found[0][0] == "a\\x00b" and "\0" not in found[0][1] and found[0][2] == "x\\x00y \\udcff"
    )


@pytest.mark.parametrize(
    "poison", ["at = 'abc'", "at = 9e999", "at = -9e999", "failures = 'many'", "bantime = x'ff'", "history = 7e9"]
)
def test_one_poison_row_stops_nothing(centre: Centre, host: Host, poison: str) -> None:
    """Somebody wrote to the store: the row counts as a ban, the others arrive whole, and it is told."""
    bans(host, *ADDRESSES[:9])
    with sqlite3.connect(host.store) as store:
        store.execute(f"UPDATE event SET {poison} WHERE id = 5")
    store.close()
    host.forward()
    bans(host, ADDRESSES[9])
    host.forward()
    found = [ip for (ip,) in centre.rows("SELECT ip FROM f2b.event ORDER BY seq")]
    assert [*found[:4], *found[5:]] == ADDRESSES[:4] + ADDRESSES[5:10]
    assert found[4] in (ADDRESSES[4], "unreadable (5)")


@pytest.mark.on("one")  # a worker's refusal has no state, and is taken for a trouble that passes
def test_a_row_that_the_centre_refuses_is_told(centre: Centre, host: Host) -> None:
    """Here and, by what the host says of itself, there."""
    centre.do("ALTER TABLE f2b.event ADD CHECK (ip <> '192.0.2.3')")
    bans(host, *ADDRESSES[:5])
    assert "event 3 went without log lines and names" in " ".join(host.forward().notes)
    assert centre.rows("SELECT ip FROM f2b.event WHERE seq = 3") == [("unreadable (3)",)]
    assert centre.rows("SELECT state->>'replaced' FROM f2b.store") == [("1",)]


def test_texts_of_any_length_go_in_batches_that_the_centre_takes(centre: Centre, host: Host) -> None:
    """Each text is cut to what the centre keeps, the log lines to the last failures."""
    for number in range(20):
        host.ban(f"192.0.2.{number}", matches="é" * 60_000 + f"end {number}", users=[f"u{i}" * 9 for i in range(3000)])
    host.forward()
    found = centre.rows("SELECT matches, users FROM f2b.event ORDER BY seq")
    assert len(found) == 20
    assert all(len(lines) == 8000 and lines.endswith(f"end {number}") for number, (lines, _) in enumerate(found))
    assert all(json.loads(names)[0] == "u0" * 9 for _, names in found)


def test_only_the_worst_bans_take_their_log_lines_along(centre: Centre, host: Host) -> None:
    """By default: they are three quarters of all bytes, and a digest shows those of the worst."""
    thrifty = replace(host, credential=replace(host.credential, matches="worst"))
    for number in range(10):
        thrifty.ban(f"192.0.2.{number}", failures=5, matches=f"line {number}")
    thrifty.ban("192.0.2.99", failures=50, matches="the worst")
    thrifty.ban("192.0.2.100", jail="nginx", failures=1, matches="another jail")
    thrifty.forward()
    found = [lines for (lines,) in centre.rows("SELECT matches FROM f2b.event WHERE matches <> '' ORDER BY seq")]
    assert found == [*(f"line {number}" for number in range(4)), "the worst", "another jail"]


def test_the_verdict_on_an_own_address_travels_with_its_ban(centre: Centre, host: Host) -> None:
    """And nothing else of what the host knows."""
    bans(host, "192.0.2.1", "192.0.2.2")
    host.forward(own=lambda event: '{"why": "login"}' if event["ip"] == "192.0.2.2" else None)
    assert centre.rows("SELECT ip, own FROM f2b.event ORDER BY seq") == [
        ("192.0.2.1", None),
        ("192.0.2.2", '{"why": "login"}'),
    ]


# ---- the way there


def test_a_certificate_of_another_name_or_authority_is_refused(centre: Centre, host: Host) -> None:
    """And the password has not been sent by then."""
    bans(host, "192.0.2.1")
    elsewhere = replace(host.credential, centre=host.credential.centre.replace("localhost", "127.0.0.1"))
    assert replace(host, credential=elsewhere).forward().events == 1  # the certificate has this name, too
    unknown = replace(host.credential, ca=None)
    with pytest.raises(CentreError, match="certificate") as refused:
        replace(host, credential=unknown).forward()
    assert not refused.value.away


@pytest.mark.parametrize("choice", ["sslmode=disable", "sslmode=require", "options=-crole%3Dx", "passfile=/etc/x"])
def test_tls_is_not_for_choosing(host: Host, choice: str) -> None:
    """An address that asks for less is refused."""
    with pytest.raises(ConfigurationError, match="is not allowed"):
        replace(host, credential=replace(host.credential, centre=f"{host.credential.centre}?{choice}")).forward()


def test_a_host_comes_by_a_certificate_of_its_own(postgres: PostgreSQL, tmp_path: Path) -> None:
    """Where the centre wants one; its name is the login's, and another's is refused."""
    with postgres.centre("certified") as centre:
        enrolled = centre.add("web1")
        login = parameters(enrolled.centre)["user"]
        for name in (login, "h-another"):
            issued = postgres.authority.issue_cert(common_name=name)
            credential = replace(
                enrolled,
                password=None,
                certificate=issued.cert_chain_pems[0].bytes().decode(),
                key=issued.private_key_pem.bytes().decode(),
            )
            host = Host(tmp_path / "web1.sqlite3", credential)
            bans(host, f"{name}")
            if name == login:
                host.forward()
            else:
                with pytest.raises(CentreError, match="certificate"):
                    host.forward()
        assert told(centre) == [login]


def test_a_wrong_password_is_told_without_it(host: Host) -> None:
    """And is no reason to wait."""
    with pytest.raises(CentreError, match="password authentication failed") as refused:
        replace(host, credential=replace(host.credential, password="hunter2")).forward()
    assert not refused.value.away
    assert "hunter2" not in str(refused.value)


def test_a_centre_that_is_read_only_is_away(centre: Centre, host: Host) -> None:
    """A standby that was not promoted yet, or a disk that is full: it will pass."""
    bans(host, "192.0.2.1")
    here_only = "SET citus.enable_ddl_propagation = off"  # says nothing to a single server
    centre.do(here_only, f"ALTER DATABASE {centre.name} SET default_transaction_read_only = on")
    with pytest.raises(CentreError) as refused:
        host.forward()
    assert refused.value.away
    centre.do(
        "SET default_transaction_read_only = off",
        here_only,
        f"ALTER DATABASE {centre.name} SET default_transaction_read_only = off",
    )
    host.forward()
    assert told(centre) == ["192.0.2.1"]


def test_a_centre_that_hangs_is_given_up(centre: Centre, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is stopped keeps its connections open, and answers nothing."""
    monkeypatch.setattr("f2b_digest.fleet.connection.DEADLINE", 2)
    bans(host, "192.0.2.1")
    stopped: list[int] = []

    def stop_first(connection: Any, *rest: Any) -> Any:
        if not stopped:
            stopped.append(connection.info.backend_pid)
            os.kill(stopped[0], signal.SIGSTOP)
        return ask(connection, *rest)

    monkeypatch.setattr(by_sql, "ask", stop_first)
    start = time.monotonic()
    try:
        with pytest.raises(CentreError) as refused:
            host.forward()
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    assert refused.value.away
    assert time.monotonic() - start < 15
    monkeypatch.undo()
    host.forward()
    assert told(centre) == ["192.0.2.1"]


def test_the_daily_limit_is_no_reason_to_give_up(centre: Centre, host: Host) -> None:
    """The next day goes on."""
    centre.do("UPDATE f2b.host SET daily_rows = 3")
    bans(host, *ADDRESSES[:5])
    with pytest.raises(CentreError) as refused:
        host.forward()
    assert refused.value.exit_status == 75
    centre.do("UPDATE f2b.host SET daily_rows = 100, day = current_date - 1")
    host.forward()
    assert told(centre) == ADDRESSES[:5]


@pytest.mark.on("one", "citus")
def test_a_host_has_a_thousand_jails(centre: Centre, host: Host) -> None:
    """Each costs every digest for a month; what is of more is kept, under one name, until there is room again."""
    for number in range(1002):
        host.ban("192.0.2.1", jail=f"jail-{number:04}")
    host.forward()
    for jail in ("jail-0000", "one more"):
        host.ban("192.0.2.2", jail=jail)
    host.forward()
    of_second = "SELECT jail FROM f2b.event WHERE ip = '192.0.2.2' ORDER BY jail"
    counted = "SELECT count(DISTINCT jail), count(*) FILTER (WHERE jail = 'other-jails') FROM f2b.event"
    assert centre.rows(counted) == [(1001, 3)]
    assert centre.rows(of_second) == [("jail-0000",), ("other-jails",)]
    centre.do("UPDATE f2b.jail SET seen = current_date - 32 WHERE jail <> 'jail-0000'")
    host.ban("192.0.2.2", jail="one more")
    host.forward()
    assert centre.rows(of_second) == [("jail-0000",), ("one more",), ("other-jails",)]


# ---- what the centre is told


def test_complete_until_is_claimed_only_when_everything_is_there(centre: Centre, host: Host) -> None:
    """A digest of yesterday waits for it."""

    def claimed() -> float | None:
        value = centre.rows("SELECT complete_until FROM f2b.store")[0][0]
        return None if value is None else float(value)

    bans(host, "192.0.2.1")
    before = time.time()
    host.forward()
    first = claimed()
    assert first is not None
    assert before - 60 < first < before
    centre.do("UPDATE f2b.host SET daily_rows = 1")
    bans(host, "192.0.2.2")
    with pytest.raises(CentreError):
        host.forward()
    assert claimed() == first


def test_a_newer_host_and_a_newer_centre_understand_each_other(centre: Centre, host: Host) -> None:
    """Keys that are unknown are passed over, those that are missing are NULL; the signatures stay."""
    with connect(host.credential.centre, host.credential.secrets) as connection:
        life, batch = str(uuid.uuid4()), str(uuid.uuid4())
        connection.execute("SELECT * FROM f2b.hello(%s, '[]', %s)", (life, json.dumps({"colour": "green"})))
        row = {"seq": 1, "kind": "ban", "jail": "sshd", "ip": "192.0.2.1", "at": 1e9, "recorded_at": 1e9, "source": "a"}
        values = (life, 0, NOTHING, batch, 1, json.dumps([row | {"colour": "green"}]))
        connection.execute("SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)", values)
        again = connection.execute("SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)", values).fetchone()
    assert again == (1,)
    assert told(centre) == ["192.0.2.1"]


def test_an_event_keeps_within_a_batch_of_its_size(host: Host) -> None:
    """Rows are cut by bytes as well as by number; one alone always goes."""
    lines = ["x" * (forwarding.MOST_BYTES // 2 - 10)] * 3
    assert len(list(forwarding._fitting(lines))) == 2
    assert len(list(forwarding._fitting(["x" * (forwarding.MOST_BYTES + 1)]))) == 1


def test_the_local_notes_survive_a_reopening(host: Host) -> None:
    """What the protocol notes is on disk when it says so."""
    bans(host, "192.0.2.1")
    with Uploads(host.store) as uploads:
        uploads.join(time.time())
        uploads.intend(End(1, "b"))
    with Uploads(host.store) as uploads:
        assert uploads.now().sending == End(1, "b")
        uploads.acknowledge(uploads.now().life, End(1, "b"))
        assert uploads.now().acked == End(1, "b")
        assert uploads.chain() == [(uploads.now().life, "b", 1)]
        assert recorder.COLUMNS
        assert rows.LIMITS
