"""The commands of a fleet as people run them: processes of their own, under their own users."""

import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from f2b_digest import recorder
from f2b_digest.store import Store, Uploads, progress
from tests.fleet.hosts import told
from tests.support.postgres_server import Centre, PostgreSQL

pytestmark = pytest.mark.slow

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@dataclass(frozen=True)
class Machine:
    """A host's folders, and the program on it."""

    folder: Path

    @property
    def store(self) -> Path:
        """Its store."""
        return self.folder / "store/bans.sqlite3"

    @property
    def credential(self) -> Path:
        """What `fleet join` leaves."""
        return self.folder / "fleet.toml"

    def run(self, *arguments: str | Path, given: str = "", environment: dict[str, str] | None = None) -> "Ended":
        """Run the program, as this process's user."""
        words = [sys.executable, "-m", "f2b_digest", "--config", self.folder / "config.toml", *arguments]
        done = subprocess.run(
            words, input=given, capture_output=True, text=True, timeout=120, check=False, cwd=self.folder,
            env=ENVIRONMENT | {"PYTHONPATH": str(Path.cwd())} | (environment or {}),
        )  # fmt: skip
        return Ended(done.returncode, done.stdout, done.stderr)

    def ban(self, ip: str, at: float | None = None) -> None:
        """Record a ban."""
        now = time.time() if at is None else at
        row = recorder.event("ban", "sshd", ip, now, "x", "action", recorded_at=now)
        assert recorder.append(str(self.store), row) == ""

    def join(self, centre: Centre, host: str = "web1", *options: str) -> "Ended":
        """Enrol a host and let it join, with what the centre's command printed."""
        said = self.run("fleet", "add", host, "--centre", centre.admin)
        assert said.status == 0, said.err
        line = re.search(r"fleet join (\S+)", said.out)
        pasted = re.search(r"f2b1\.\S+", said.out)
        assert line
        assert pasted
        return self.run("fleet", "join", line[1].strip("'"), "--credential", "-", *options, given=pasted[0])


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Provide a host whose folders other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))
    folder.chmod(0o755)
    (folder / "store").mkdir(mode=0o750)
    (folder / "config.toml").write_text(f'store = "{folder}/store/bans.sqlite3"\nhost = "x"\ntimezone = "UTC"\n')
    yield Machine(folder)
    shutil.rmtree(folder)


def test_two_hosts_join_and_are_listed(centre: Centre, machine: Machine, tmp_path: Path) -> None:
    """The line and the credential that `fleet add` prints are all that it takes."""
    machine.ban("192.0.2.1")
    joined = machine.join(centre)
    assert joined.status == 0, joined.err
    assert joined.out.startswith("joined as web1: 1 event uploaded\n")
    listed = machine.run("fleet", "list", "--centre", centre.admin)
    assert listed.out.startswith("web1: heard a moment ago, last ban a moment ago\n")
    assert machine.run("fleet", "add", "web2", "--centre", centre.admin).status == 0
    listed = machine.run("fleet", "list", "--centre", centre.admin)
    assert "web2: never heard\n    never heard since it was enrolled a moment ago" in listed.out
    assert listed.status == 3
    assert told(centre) == ["192.0.2.1"]


def test_a_credential_is_seen_by_nobody(centre: Centre, machine: Machine) -> None:
    """Not in the file's mode, the server's log, a list of processes (it is read from a pipe), or an error."""
    machine.join(centre)
    assert stat.S_IMODE(machine.credential.stat().st_mode) == 0o600
    kept = re.search(r'password = "(\S+)"', machine.credential.read_text())
    assert kept
    assert kept[1] not in (centre.server.folder / "log").read_text(errors="replace")
    machine.credential.chmod(0o640)
    refused = machine.run("forward")
    assert refused.status == 78
    assert f"chmod 600 {machine.credential}" in refused.err
    assert kept[1] not in refused.err


def test_a_password_in_the_address_is_refused(centre: Centre, machine: Machine) -> None:
    """It would be in `ps`, and in the shell's history."""
    refused = machine.run("fleet", "join", "postgresql://h:secret@localhost/x", "--credential", "-", given="x")
    assert refused.status == 78
    assert "secret" not in refused.err


def test_a_join_without_a_credential_says_how_to_give_one(centre: Centre, machine: Machine) -> None:
    """Without a terminal, and with a file that is not there; nothing is left."""
    address = centre.add("web1").centre
    words = [
        sys.executable,
        "-m",
        "f2b_digest",
        "--config",
        str(machine.folder / "config.toml"),
        "fleet",
        "join",
        address,
    ]
    alone = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
                           check=False, timeout=60)  # fmt: skip
    said = "f2b-digest: no terminal to ask for the credential: use --credential FILE, or - for standard input\n"
    assert (alone.returncode, alone.stderr) == (78, said)
    missing = machine.run("fleet", "join", address, "--credential", "/nonexistent")
    assert (missing.status, missing.err) == (78, "f2b-digest: /nonexistent: No such file or directory\n")
    shutil.rmtree(machine.folder / "store")
    unset = machine.run("fleet", "join", address)
    assert (unset.status, "run f2b-digest setup first" in unset.err) == (78, True)
    assert not machine.credential.exists()


def test_what_cannot_be_reached_is_not_joined(centre: Centre, machine: Machine) -> None:
    """A wrong credential leaves no file, and says why; a right one that was there stays."""
    address = f"postgresql://h-none@localhost:{centre.server.port}/{centre.name}"
    authority = centre.server.folder / "ca.pem"
    refused = machine.run("fleet", "join", address, "--credential", "-", "--ca", authority, given="wrong\n")
    assert refused.status == 1
    assert "password authentication failed" in refused.err
    assert "f2b-digest fleet rotate gives a new one" in refused.err
    assert not machine.credential.exists()
    machine.join(centre)
    before = machine.credential.read_bytes()
    assert machine.run("fleet", "join", address, "--credential", "-", "--ca", authority, given="wrong\n").status == 1
    assert machine.credential.read_bytes() == before


def test_half_a_credential_is_told(centre: Centre, machine: Machine) -> None:
    """A line that a terminal cut."""
    address = f"postgresql://h-none@localhost:{centre.server.port}/{centre.name}"
    refused = machine.run("fleet", "join", address, "--credential", "-", given="f2b1.eyJwYXNzd29yZCI6\n")
    assert refused.status == 78
    assert "incomplete" in refused.err


def test_forward_is_silent_when_all_is_well(centre: Centre, machine: Machine) -> None:
    """As cron wants it, with and without anything to upload."""
    machine.join(centre)
    machine.ban("192.0.2.7")
    assert machine.run("forward") == Ended(0, "", "")
    assert machine.run("forward") == Ended(0, "", "")
    assert told(centre) == ["192.0.2.7"]


def test_forward_on_a_host_of_no_fleet(machine: Machine) -> None:
    """Says what to do."""
    refused = machine.run("forward")
    assert refused.status == 78
    assert "fleet join" in refused.err


def test_cron_hears_of_a_centre_that_is_away_after_an_hour(postgres: PostgreSQL, machine: Machine) -> None:
    """A restart of the centre is no news on a thousand hosts; by hand it is told at once."""
    with postgres.centre() as centre:
        machine.join(centre)
    machine.ban("192.0.2.7")
    scheduled = ("forward", "--scheduled")
    by_hand = machine.run("forward")
    assert by_hand.status == 75
    assert "1 event is kept here until the centre has them" in by_hand.err
    with Uploads(machine.store) as uploads:
        uploads._set(next_at=0.0, told_at=None)
    assert _unspread(machine, scheduled) == Ended(75, "", "")
    with Uploads(machine.store) as uploads:
        uploads._set(next_at=0.0, reached_at=time.time() - 3700)
    told_once = _unspread(machine, scheduled)
    assert (told_once.status, told_once.out) == (75, "")
    assert "does not exist" in told_once.err
    with Uploads(machine.store) as uploads:
        uploads._set(next_at=0.0)
    assert _unspread(machine, scheduled) == Ended(75, "", "")
    assert _unspread(machine, scheduled) == Ended(75, "", "")  # too early for another attempt
    state = json.loads(machine.run("status", "--json").out)["fleet"]
    assert state["backlog"] == 1
    assert "does not exist" in state["reason"]


def _unspread(machine: Machine, arguments: tuple[str, ...]) -> Ended:
    """Run the program without the seconds that a host waits for its turn."""
    code = "import f2b_digest.cli.forward as f; f.SPREAD = 1; from f2b_digest.__main__ import run; run()"
    words = [sys.executable, "-c", code, "--config", str(machine.folder / "config.toml"), *arguments]
    environment = ENVIRONMENT | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, cwd=machine.folder, env=environment
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_the_spool_is_uploaded_too(centre: Centre, machine: Machine) -> None:
    """On its own host without digests nobody else takes it in."""
    machine.join(centre)
    with closing(recorder.connect(str(machine.store))) as locked:
        locked.execute("BEGIN IMMEDIATE")
        row = recorder.event("ban", "sshd", "192.0.2.9", time.time(), "x", "action")
        assert recorder.append(str(machine.store), row)
        locked.execute("ROLLBACK")
    assert machine.run("forward") == Ended(0, "", "")
    assert told(centre) == ["192.0.2.9"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_root_uploads_as_the_owner_of_the_store(centre: Centre, machine: Machine) -> None:
    """The credential is root's, the store is another user's: nothing in its folder becomes root's."""
    owner = pwd.getpwnam("nobody")
    machine.ban("192.0.2.1")
    for path in (machine.store.parent, *machine.store.parent.iterdir()):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    joined = machine.join(centre)
    assert joined.status == 0, joined.err
    machine.ban("192.0.2.2")
    for path in machine.store.parent.iterdir():
        os.chown(path, owner.pw_uid, owner.pw_gid)
    assert machine.run("forward") == Ended(0, "", "")
    assert told(centre) == ["192.0.2.1", "192.0.2.2"]
    assert {path.stat().st_uid for path in machine.store.parent.iterdir()} == {owner.pw_uid}
    assert machine.credential.stat().st_uid == 0


def test_rotate_ends_the_old_credential(centre: Centre, machine: Machine) -> None:
    """And the host goes on where it was once it has joined again."""
    machine.join(centre)
    said = machine.run("fleet", "rotate", "web1", "--centre", centre.admin)
    machine.ban("192.0.2.7")
    assert machine.run("forward").status == 1
    line, pasted = re.search(r"fleet join (\S+)", said.out), re.search(r"f2b1\.\S+", said.out)
    assert line
    assert pasted
    again = machine.run("fleet", "join", line[1], "--credential", "-", given=pasted[0])
    assert again.status == 0, again.err
    assert told(centre) == ["192.0.2.7"]
    assert centre.rows("SELECT count(*) FROM f2b.store") == [(1,)]


def test_retire_and_enrol_again(centre: Centre, machine: Machine) -> None:
    """What was uploaded stays; the host may come back."""
    machine.join(centre)
    assert machine.run("fleet", "retire", "web1", "--centre", centre.admin) == Ended(0, "", "")
    assert machine.run("forward").status == 1
    assert machine.run("fleet", "list", "--centre", centre.admin).out == "web1: retired\n"
    refused = machine.run("fleet", "retire", "web1", "--centre", centre.admin)
    assert (refused.status, refused.out) == (1, "")
    assert machine.join(centre).status == 0


def test_leaving_lets_old_events_go(centre: Centre, machine: Machine) -> None:
    """What the centre has not acknowledged is not pruned, whatever its age; after `fleet leave` it is."""
    machine.join(centre)
    old = time.time() - 500 * 86400
    for number in range(3):
        machine.ban(f"192.0.2.{number}", at=old)
    everything: dict[str, list[str]] = {}
    with Store(machine.store, read_only=False) as store:
        assert store.prune(time.time() - 400 * 86400, everything, lambda seconds: None) == 0
    left = machine.run("fleet", "leave")
    assert (left.status, left.err) == (0, "")
    assert not machine.credential.exists()
    assert progress(machine.store) is None
    with Store(machine.store, read_only=False) as store:
        assert store.prune(time.time() - 400 * 86400, everything, lambda seconds: None) == 3


def test_who_leaves_says_so(centre: Centre, machine: Machine) -> None:
    """The centre lists a host that left, not a silent one, and no clone once it is back; a dead centre stops nobody."""
    assert machine.join(centre).status == 0
    left = machine.run("fleet", "leave")
    assert (left.status, left.err) == (0, "")
    assert left.out.endswith("at the centre: f2b-digest fleet retire web1\n")
    listed = machine.run("fleet", "list", "--centre", centre.admin)
    assert "    left the fleet a moment ago: f2b-digest fleet retire web1" in listed.out
    assert machine.run("fleet", "leave") == Ended(0, "", "")
    said = machine.run("fleet", "rotate", "web1", "--centre", centre.admin).out
    line, pasted = re.search(r"fleet join (\S+)", said), re.search(r"f2b1\.\S+", said)
    assert line
    assert pasted
    assert machine.run("fleet", "join", line[1].strip("'"), "--credential", "-", given=pasted[0]).status == 0
    listed = machine.run("fleet", "list", "--centre", centre.admin)
    assert "left" not in listed.out
    assert "stores" not in listed.out
    centre.server.do(f"ALTER DATABASE {centre.name} WITH ALLOW_CONNECTIONS false")
    left = machine.run("fleet", "leave")
    assert (left.status, machine.credential.exists()) == (0, False)
    assert "the centre was not told that this host leaves" in left.err


def test_what_is_acknowledged_is_pruned_as_ever(centre: Centre, machine: Machine) -> None:
    """Once it is at the centre, `keep` decides."""
    machine.join(centre)
    machine.ban("192.0.2.1", at=time.time() - 500 * 86400)
    machine.run("forward")
    with Store(machine.store, read_only=False) as store:
        assert store.prune(time.time() - 400 * 86400, {}, lambda seconds: None) == 1


def test_a_recovered_store_gives_no_id_again_that_was_uploaded(centre: Centre, machine: Machine) -> None:
    """Its last event is damaged and its ids forgotten; a new ban must go beyond what the centre acknowledged."""
    for number in range(3):
        machine.ban(f"192.0.2.{number}")
    machine.join(centre)
    with closing(recorder.connect(str(machine.store))) as store:
        store.execute("DELETE FROM event WHERE id = 3")
        store.execute("DELETE FROM sqlite_sequence")
    Path(f"{machine.store}.damaged").write_text("a test says so\n")
    recovered = machine.run("recover")
    assert recovered.status == 0, recovered.err
    machine.ban("192.0.2.7")
    assert machine.run("forward") == Ended(0, "", "")
    assert told(centre) == ["192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.7"]
    assert centre.rows("SELECT count(*) FROM f2b.store") == [(1,)]


def test_status_tells_how_the_upload_stands(centre: Centre, machine: Machine) -> None:
    """The backlog, its age, and when the centre was reached."""
    machine.join(centre)
    machine.ban("192.0.2.7")
    lines = machine.run("status").out
    assert re.search(r"fleet {4}1 event is not at the centre, of .*; reached ", lines)
    machine.run("forward")
    assert "fleet    the centre has everything; reached " in machine.run("status").out


def test_init_says_what_the_server_lacks(postgres: PostgreSQL, machine: Machine) -> None:
    """And can be run again: nothing of what is there is dropped."""
    with postgres.centre() as centre:
        said = machine.run("fleet", "init", centre.admin)
        assert said.status == 0, said.err
        assert said.out.startswith("the centre is already at schema ")
        assert "listen_addresses" in said.out
        assert "hostssl" in said.out


def test_the_schema_is_a_script_for_psql(postgres: PostgreSQL, machine: Machine) -> None:
    """In one transaction; `fleet init` then finds it done."""
    script = machine.run("fleet", "schema").out
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE by_psql")
    psql = [str(postgres.bin / "psql"), "-X", "-q", postgres.address("by_psql")]
    done = subprocess.run(psql, input=script, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert machine.run("fleet", "init", postgres.address("by_psql")).out.startswith("the centre is already at")
    with psycopg.connect(postgres.address(), autocommit=True) as connection:
        connection.execute("DROP DATABASE by_psql WITH (FORCE)")


def test_who_may_not_administer_is_told_what_to_do(centre: Centre, machine: Machine) -> None:
    """In words, and not by PostgreSQL's alone."""
    refused = machine.run("fleet", "add", "web9", "--centre", centre.as_user("f2b_digest"))
    assert refused.status == 1
    assert "sudo -u postgres" in refused.err


def test_a_host_whose_name_is_mistyped(centre: Centre, machine: Machine) -> None:
    """The one that is meant is named."""
    machine.run("fleet", "add", "web1.example.org", "--centre", centre.admin)
    refused = machine.run("fleet", "rotate", "web1.exmaple.org", "--centre", centre.admin)
    assert "did you mean web1.example.org?" in refused.err


# ---- a host that only forwards, and one that has reports of its own


def test_a_host_without_reports_drops_what_the_centre_has(centre: Centre, machine: Machine) -> None:
    """After `keep`, and nothing before it is acknowledged; `send` has nothing to do there."""
    (machine.folder / "config.toml").write_text(
        f'store = "{machine.store}"\nhost = "x"\ntimezone = "UTC"\nkeep = "30d"\n[reports]\n'
    )
    refused = machine.run("forward")
    assert "none defined" in machine.run("send").err
    assert refused.status == 78
    assert machine.join(centre).status == 0
    now = time.time()
    machine.ban("192.0.2.1", at=now - 40 * 86400)
    machine.ban("192.0.2.2", at=now - 20 * 86400)
    assert machine.run("forward") == Ended(0, "", "")
    with Store(machine.store, read_only=True) as store:
        assert store.bans_by_jail() == {"sshd": 1}
    assert told(centre) == ["192.0.2.1", "192.0.2.2"]
    assert machine.run("send") == Ended(0, "", "")
    assert machine.run("status").status == 0
    assert "no report" in machine.run("preview").err
    machine.ban("192.0.2.3", at=now - 40 * 86400)
    centre.do("UPDATE f2b.host SET retired_at = now()")
    assert machine.run("forward").status == 1
    with Store(machine.store, read_only=True) as store:
        assert store.bans_by_jail() == {"sshd": 2}


@pytest.mark.parametrize(("reports", "news"), [("", 1), ('[reports.daily]\nchannels = ["out"]', 0)])
def test_what_a_hosts_own_reports_tell_is_history_at_the_centre(
    centre: Centre, machine: Machine, reports: str, news: int
) -> None:
    """The day before a host joins is told once: by the host if its reports reach somebody, else by the centre."""
    with (machine.folder / "config.toml").open("a") as file:
        file.write(f'{reports}\n[channels.out]\nkind = "file"\nfolder = "{machine.folder}"\n')
    machine.ban("192.0.2.1")
    assert machine.join(centre).status == 0
    assert len(told(centre)) == news
    machine.ban("192.0.2.2")
    machine.run("forward")
    assert len(told(centre)) == news + 1


def test_a_scheduled_run_with_nothing_to_say_asks_nothing(centre: Centre, machine: Machine) -> None:
    """Every second run: the centre's log has no new connection; what is new goes at once."""
    machine.join(centre)
    log = centre.server.folder / "log"
    seen = log.read_text(errors="replace").count("f2b.hello(")
    assert _unspread(machine, ("forward", "--scheduled")) == Ended(0, "", "")
    assert log.read_text(errors="replace").count("f2b.hello(") == seen
    with Uploads(machine.store) as uploads:
        uploads._set(reached_at=time.time() - 600)
    assert _unspread(machine, ("forward", "--scheduled")) == Ended(0, "", "")
    assert log.read_text(errors="replace").count("f2b.hello(") > seen
    machine.ban("192.0.2.1")
    _unspread(machine, ("forward", "--scheduled"))
    assert told(centre) == ["192.0.2.1"]


@pytest.mark.parametrize("name", ["", " ", "web*", "a b", "-x", "!web", "web1\n", "../x", "web1.", "x" * 254])
def test_what_cannot_be_a_hosts_name_is_refused(centre: Centre, machine: Machine, name: str) -> None:
    """It stands in patterns, commands and digests; of several names, none is enrolled."""
    refused = machine.run("fleet", "add", "--centre", centre.admin, "--", "web1", name)
    assert (refused.status, refused.out) == (78, "")
    assert "cannot be a host's name" in refused.err
    assert (
        machine.run("fleet", "list", "--centre", centre.admin).out == "no host is enrolled: f2b-digest fleet add HOST\n"
    )


def test_an_address_that_no_host_could_use_is_refused(centre: Centre, machine: Machine) -> None:
    """By `fleet init`, before it is in every credential; several servers, and IPv6, are good ones."""
    for address in ("", "bad host", "http://db.example.org", "db:5432:3", "db:x", "db:0"):
        refused = machine.run("fleet", "init", centre.admin, "--address", address)
        assert (refused.status, "must be HOST or HOST:PORT" in refused.err) == (78, True), address
    port = centre.server.port
    for address, kept in (("db1,db2:6432", f"db1:{port},db2:6432"), ("[2001:db8::1]", f"[2001:db8::1]:{port}")):
        assert machine.run("fleet", "init", centre.admin, "--address", address).status == 0
        assert centre.rows("SELECT address FROM f2b.centre") == [(kept,)]


def test_a_port_that_is_none_is_a_mistake(machine: Machine) -> None:
    """It was called unreachable for now."""
    for port in ("99999", "0", "abc"):
        refused = machine.run(
            "fleet", "join", f"postgresql://h@localhost:{port}/x", "--credential", "-", given="secret"
        )
        assert (refused.status, "the port of a centre's address" in refused.err) == (78, True)


def test_who_has_no_role_is_told_who_has(centre: Centre, machine: Machine) -> None:
    """Root at a centre, for one: that does not pass by waiting."""
    refused = machine.run("fleet", "list", "--centre", centre.admin.replace("postgres@", "nobody-at-all@"))
    assert (refused.status, "sudo -u postgres" in refused.err) == (1, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_join_that_is_ended_leaves_what_was(centre: Centre, machine: Machine, number: int) -> None:
    """Neither a credential nor an upload in the background; the next one continues."""
    now = time.time()
    rows = [recorder.event("ban", "sshd", f"10.0.{n >> 8}.{n & 255}", now, "x", "action") for n in range(6000)]
    with closing(recorder.connect(str(machine.store))) as connection:
        connection.execute("BEGIN")
        connection.executemany(recorder.INSERT, rows)
        connection.execute("COMMIT")
    said = json.loads(machine.run("fleet", "add", "web1", "--json", "--centre", centre.admin).out)[0]
    centre.do(
        "CREATE FUNCTION f2b.nap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        "AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.5); RETURN NULL; END'",
        "CREATE TRIGGER slow AFTER INSERT ON f2b.event FOR EACH STATEMENT EXECUTE FUNCTION f2b.nap()",
    )
    program = [sys.executable, "-m", "f2b_digest", "--config", str(machine.folder / "config.toml")]
    words = ["env", "--default-signal", *program, "fleet", "join"]  # a background job of a shell ignores SIGINT
    with subprocess.Popen(
        [*words, said["address"], "--credential", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=ENVIRONMENT | {"PYTHONPATH": str(Path.cwd())}, cwd=machine.folder,
    ) as joining:  # fmt: skip
        assert joining.stdin
        joining.stdin.write(said["credential"].encode() + b"\n")
        joining.stdin.close()
        while not told(centre):
            time.sleep(0.02)
        joining.send_signal(number)
        assert joining.wait(30) in (1, 128 + number)
    assert not machine.credential.exists()
    time.sleep(1)  # until the batch that was on its way is there
    there = len(told(centre))
    time.sleep(1)
    assert len(told(centre)) == there < len(rows)
    centre.do("DROP TRIGGER slow ON f2b.event")
    joined = machine.run("fleet", "join", said["address"], "--credential", "-", given=said["credential"])
    assert joined.status == 0, joined.err
    assert len(set(told(centre))) == len(told(centre)) == len(rows)


def test_a_full_disk_of_this_host_is_called_that(centre: Centre, machine: Machine) -> None:
    """As `status` does."""
    machine.join(centre)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0750", "small", machine.store.parent], check=True)
    try:
        machine.ban("192.0.2.1")
        (machine.store.parent / "filler").write_bytes(b"")
        with (machine.store.parent / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        full = machine.run("forward")
        assert (full.status, "the disk is full" in full.err) == (1, True)
        (machine.store.parent / "filler").unlink()
        assert machine.run("forward").status == 0
    finally:
        subprocess.run(["umount", "-l", machine.store.parent], check=True)
    assert told(centre) == ["192.0.2.1"]
