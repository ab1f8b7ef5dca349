"""What an attacker with a host's credential tries, and what is refused: statement by statement, on a real server."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from f2b_digest.fleet import enrolment
from f2b_digest.fleet.connection import connect, parameters
from tests.support.postgres_server import Centre, PostgreSQL

pytestmark = pytest.mark.slow
on_both = pytest.mark.on("one", "citus")

ZERO = "00000000-0000-0000-0000-000000000000"
DENIED = "42501"
UNKNOWN = "08006"
"""A worker lets a host's login not in."""


class Attacked(NamedTuple):
    """A centre with two hosts, of which the attacker has one."""

    centre: Centre
    login: str
    life: str
    other_life: str


def rows(*seqs: int, **fields: Any) -> str:
    """Return rows for append."""
    base = {"kind": "ban", "jail": "sshd", "ip": "192.0.2.1", "at": 1e9, "recorded_at": 1e9, "source": "action"}
    return json.dumps([base | {"seq": seq} | fields for seq in seqs])


def hello(connection: psycopg.Connection, life: str) -> None:
    """Introduce a life."""
    connection.execute("SELECT * FROM f2b.hello(%s, '[]', %s)", (life, json.dumps({"now": time.time()})))


def append(connection: psycopg.Connection, life: str, upto: int, body: str, after: int = 0, batch: str = ZERO) -> None:
    """Append a batch."""
    connection.execute(
        "SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)", (life, after, batch, str(uuid.uuid4()), upto, body)
    )


@pytest.fixture(scope="module")
def attacked(postgres: PostgreSQL) -> Iterator[Attacked]:
    """Provide a centre that has rows of web1 and web2; the attacker has the login of web1."""
    with postgres.centre() as centre:
        lives = []
        for name in ("web1", "web2"):
            login = parameters(centre.add(name).centre)["user"]
            life = str(uuid.uuid4())
            with psycopg.connect(centre.as_user(login), autocommit=True) as connection:
                hello(connection, life)
                append(connection, life, 1, rows(1))
            lives.append((login, life))
        yield Attacked(centre, lives[0][0], lives[0][1], lives[1][1])


STATEMENTS = [
    # read
    "SELECT * FROM f2b.event",
    "SELECT * FROM f2b.event_rest",
    "SELECT * FROM f2b.host",
    "SELECT * FROM f2b.store",
    "SELECT * FROM f2b.link",
    "SELECT * FROM f2b.jail",
    "SELECT * FROM f2b.centre",
    "SELECT * FROM f2b.version",
    "TABLE pg_catalog.pg_authid",
    "TABLE pg_catalog.pg_statistic",
    "SELECT * FROM pg_hba_file_rules",
    # write around the functions, rewrite the past
    (
        "INSERT INTO f2b.event (store_id, seq, kind, jail, ip, at, recorded_at, source) "
        "VALUES (1, 9, 'ban', 'sshd', '192.0.2.9', 1, 1, 'x')"
    ),
    "UPDATE f2b.event SET ip = '192.0.2.9'",
    "DELETE FROM f2b.event",
    "TRUNCATE f2b.event",
    "DROP TABLE f2b.event",
    "ALTER TABLE f2b.event DISABLE ROW LEVEL SECURITY",
    "UPDATE f2b.host SET login = session_user",
    "UPDATE f2b.host SET daily_rows = 1000000000",
    "UPDATE f2b.store SET last_seq = 0",
    "DELETE FROM f2b.jail",
    "COPY (SELECT * FROM f2b.event) TO STDOUT",
    "COPY f2b.event FROM STDIN",
    "BEGIN; LOCK TABLE f2b.event IN ACCESS EXCLUSIVE MODE",
    # become somebody else
    "SET ROLE f2b_owner",
    "SET ROLE f2b_ingest",
    "SET ROLE f2b_digest",
    "SET SESSION AUTHORIZATION f2b_owner",
    "GRANT f2b_ingest TO CURRENT_USER",
    "CREATE ROLE friend LOGIN",
    "ALTER FUNCTION f2b.append(uuid, bigint, uuid, uuid, bigint, jsonb) OWNER TO CURRENT_USER",
    (
        "CREATE OR REPLACE FUNCTION f2b.append(uuid, bigint, uuid, uuid, bigint, jsonb) RETURNS bigint "
        "LANGUAGE sql AS 'SELECT 1'"
    ),
    # the server's files and programs, its disk and its other users
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "COPY (SELECT 1) TO '/tmp/f2b-digest-refused'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_create(0)",
    "SELECT lo_import('/etc/passwd')",
    "CREATE TEMP TABLE heap AS SELECT 1",
    "CREATE TABLE public.heap (a int)",
    "CREATE TABLE f2b.heap (a int)",
    "CREATE SCHEMA heap",
    "CREATE FUNCTION f2b.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SET temp_file_limit = -1",
    "ALTER SYSTEM SET ssl = off",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_sleep(0.1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "CREATE LANGUAGE f2b HANDLER plpgsql_call_handler",
]


@on_both
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_host_can_do_nothing_but_call_two_functions(attacked: Attacked, statement: str) -> None:
    """Each is refused, most for lack of a privilege."""
    with (
        psycopg.connect(attacked.centre.as_user(attacked.login), autocommit=True) as connection,
        pytest.raises(psycopg.Error) as refused,
    ):
        connection.execute(statement.encode())
    assert refused.value.sqlstate == DENIED, str(refused.value)


def _refused(attacked: Attacked, query: str, *values: object) -> str | None:
    with (
        psycopg.connect(attacked.centre.as_user(attacked.login), autocommit=True) as connection,
        pytest.raises(psycopg.Error) as refused,
    ):
        connection.execute(query.encode(), values)
    return refused.value.sqlstate


def _is_cluster(attacked: Attacked) -> bool:
    return len(attacked.centre.server.nodes) > 1


def _append(attacked: Attacked, life: str, after: int, batch: str, upto: int, body: str) -> str | None:
    values = (life, after, batch, str(uuid.uuid4()), upto, body)
    return _refused(attacked, "SELECT f2b.append(%s, %s, %s, %s, %s, %s::jsonb)", *values)


def _last_batch(attacked: Attacked) -> str:
    return str(attacked.centre.rows("SELECT last_batch FROM f2b.store WHERE life = %s", attacked.life)[0][0])


@on_both
def test_another_hosts_chain_cannot_be_continued(attacked: Attacked) -> None:
    """A life is looked up among the session's own: another host's is unknown, whatever is known of it."""
    theirs = attacked.centre.rows("SELECT last_batch FROM f2b.store WHERE life = %s", attacked.other_life)[0][0]
    assert _append(attacked, attacked.other_life, 1, str(theirs), 2, rows(2)) == "F2B02"


@on_both
def test_a_batch_must_follow_its_chain(attacked: Attacked) -> None:
    """Neither the past nor a gap can be written."""
    assert _append(attacked, attacked.life, 0, ZERO, 1, rows(1)) == "F2B02"
    assert _append(attacked, attacked.life, 1, str(uuid.uuid4()), 2, rows(2)) == "F2B02"


@on_both
@pytest.mark.parametrize(
    ("upto", "body"),
    [
        (2, rows(1)),  # at or before the end
        (2, rows(3)),  # beyond what it says
        (1, rows(1)),
        (10_000, rows(*range(2, 5003))),  # 5001 rows
        (2, "[]"),
        (2, rows(2, matches="x" * 17_000_000)),
    ],
)
def test_a_batch_has_limits(attacked: Attacked, upto: int, body: str) -> None:
    """Ranges and sizes are checked by the centre, whatever a host's program does."""
    assert _append(attacked, attacked.life, 1, _last_batch(attacked), upto, body) == "F2B03"


@on_both
def test_a_host_can_send_so_many_rows_a_day(attacked: Attacked) -> None:
    """What a compromised host can cost is the administrator's to say."""
    attacked.centre.do("UPDATE f2b.host SET daily_rows = rows_today + 1")
    try:
        assert _append(attacked, attacked.life, 1, _last_batch(attacked), 3, rows(2, 3)) == "F2B04"
    finally:
        attacked.centre.do("UPDATE f2b.host SET daily_rows = 200000")


def test_a_host_can_draw_so_many_lives_a_day(postgres: PostgreSQL) -> None:
    """A store row costs little, a million of them do not."""
    with postgres.centre() as centre:
        login = parameters(centre.add("web1").centre)["user"]
        with psycopg.connect(centre.as_user(login), autocommit=True) as connection:
            for _ in range(20):
                hello(connection, str(uuid.uuid4()))
            with pytest.raises(psycopg.Error) as refused:
                hello(connection, str(uuid.uuid4()))
    assert refused.value.sqlstate == "F2B03"


def test_what_a_host_says_of_itself_has_a_limit(attacked: Attacked) -> None:
    """It is stored, and read for each digest."""
    state = json.dumps({"now": 1, "version": "x" * 70_000})
    assert _refused(attacked, "SELECT * FROM f2b.hello(%s, NULL, %s::jsonb)", attacked.life, state) == "F2B03"


@on_both
def test_texts_and_numbers_that_harm_a_digest_are_cut(postgres: PostgreSQL) -> None:
    """No year that a calendar does not have, no text without end; what is missing stays missing."""
    with postgres.centre() as centre:
        login = parameters(centre.add("web1").centre)["user"]
        life = str(uuid.uuid4())
        with psycopg.connect(centre.as_user(login), autocommit=True) as connection:
            hello(connection, life)
            body = rows(
                1, jail="j" * 5000, ip="i" * 5000, at="Infinity", recorded_at="-Infinity", bantime=2**62, failures=-5,
                users="u" * 9000, matches="m" * 9000, source="s" * 99, own="o" * 999, colour="a key of next year",
            )  # fmt: skip
            append(connection, life, 1, body)
        found = centre.rows(
            "SELECT length(jail), length(ip), at, recorded_at, bantime, failures, bancount, length(users), "
            "length(matches), length(source), length(own) FROM f2b.event"
        )
    assert found == [(200, 200, 4102444800.0, 0.0, 10**10, 0, None, 4000, 8000, 20, 200)]


@on_both
@pytest.mark.parametrize("missing", ["kind", "jail", "ip", "at", "recorded_at", "source"])
def test_a_row_without_what_makes_a_ban_is_refused(attacked: Attacked, missing: str) -> None:
    """It would be a ban of 1970, or of nobody."""
    assert _append(attacked, attacked.life, 1, _last_batch(attacked), 2, rows(2, **{missing: None})) == "23502"


def test_a_retired_host_is_shut_out(postgres: PostgreSQL) -> None:
    """Its login is gone, and a session that was open is ended."""
    with postgres.centre() as centre:
        login = parameters(centre.add("web1").centre)["user"]
        with psycopg.connect(centre.as_user(login), autocommit=True) as connection:
            hello(connection, str(uuid.uuid4()))
            with connect(centre.admin) as admin:
                enrolment.retire(admin, "web1")
            with pytest.raises(psycopg.Error):
                hello(connection, str(uuid.uuid4()))
        with pytest.raises(psycopg.Error):
            psycopg.connect(centre.as_user(login))
        assert centre.rows("SELECT count(*) FROM pg_roles WHERE rolname = %s", login) == [(0,)]


# ---- the second line: even as the role that the functions run as


SECOND_LINE = [
    "UPDATE f2b.event SET ip = '192.0.2.9'",
    "DELETE FROM f2b.event",
    "UPDATE f2b.host SET host = 'web2'",
    "UPDATE f2b.host SET daily_rows = 1000000000",
    (
        "INSERT INTO f2b.event (store_id, seq, kind, jail, ip, at, recorded_at, source) "
        "SELECT 2, 9, 'ban', 'sshd', '192.0.2.9', 1, 1, 'x'"
    ),
    "INSERT INTO f2b.link (store_id, day, batch, upto) VALUES (2, '2026-11-30', gen_random_uuid(), 9)",
    "INSERT INTO f2b.store (host, life) VALUES ('web2', gen_random_uuid())",
    "SELECT * FROM f2b.event_rest",
]


@on_both
@pytest.mark.parametrize("statement", SECOND_LINE)
def test_row_security_stands_behind_the_functions(attacked: Attacked, statement: str) -> None:
    """A hole in a function still reaches no row of another host, and none of the past.

    Distributed tables have no such policy: there, it is the workers that know no host.
    """
    attacked.centre.do(f'GRANT f2b_ingest TO "{attacked.login}"')
    try:
        assert _refused(attacked, statement) in ((DENIED, UNKNOWN) if _is_cluster(attacked) else (DENIED,))
    finally:
        attacked.centre.do(f'REVOKE f2b_ingest FROM "{attacked.login}"')


@on_both
def test_row_security_shows_a_host_its_own_rows_only(attacked: Attacked) -> None:
    """There are two of each. A cluster shows none of the events."""
    attacked.centre.do(f'GRANT f2b_ingest TO "{attacked.login}"')
    try:
        with psycopg.connect(attacked.centre.as_user(attacked.login), autocommit=True) as connection:
            for table in ("host", "store", "link", "event"):
                if table == "event" and _is_cluster(attacked):
                    assert _refused(attacked, "SELECT count(*) FROM f2b.event") == UNKNOWN
                    continue
                assert connection.execute(f"SELECT count(*) FROM f2b.{table}".encode()).fetchone() == (1,), table
    finally:
        attacked.centre.do(f'REVOKE f2b_ingest FROM "{attacked.login}"')


@on_both
@pytest.mark.parametrize(
    "statement",
    [
        (
            "INSERT INTO f2b.event (store_id, seq, kind, jail, ip, at, recorded_at, source) "
            "VALUES (1, 9, 'ban', 'sshd', '192.0.2.9', 1, 1, 'x')"
        ),
        "UPDATE f2b.event SET ip = '192.0.2.9'",
        "DELETE FROM f2b.event",
        "UPDATE f2b.host SET retired_at = NULL",
        "SET ROLE f2b_owner",
        "SELECT f2b.hello(gen_random_uuid(), '[]', '{}')",
    ],
)
def test_the_digests_role_reads_events_and_forges_none(attacked: Attacked, statement: str) -> None:
    """Who renders hostile text must not be able to write the past."""
    with psycopg.connect(attacked.centre.as_user("f2b_digest"), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM f2b.event").fetchone() == (2,)
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(statement.encode())
    assert refused.value.sqlstate == DENIED
