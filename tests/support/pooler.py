"""A real pgbouncer in transaction mode before a test's PostgreSQL, with TLS. No test stands here."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.parts import missing
from tests.support.postgres_server import USER, Centre, free_port

PROGRAM = "/usr/sbin/pgbouncer"
PATIENCE = 20.0  # seconds
SETTINGS = """
[databases]
* = host={folder} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
pool_mode = transaction
max_client_conn = 100
default_pool_size = 3
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
client_tls_sslmode = require
client_tls_cert_file = {folder}/server.pem
client_tls_key_file = {folder}/server.key
logfile = {folder}/pgbouncer.log
pidfile =
"""


@contextmanager
def pooler(centre: Centre) -> Iterator[int]:
    """Run one that knows the passwords of the centre's roles as they are now; yield its port."""
    if not Path(PROGRAM).exists():
        missing("pgbouncer", "apt install pgbouncer")
    folder, own = centre.server.folder, free_port()
    roles = centre.rows("SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
    (folder / "userlist.txt").write_text("".join(f'"{name}" "{secret}"\n' for name, secret in roles))
    (folder / "pgbouncer.ini").write_text(SETTINGS.format(folder=folder, port=centre.server.port, own=own))
    if USER:
        for name in ("userlist.txt", "pgbouncer.ini"):
            shutil.chown(folder / name, USER, USER)
    words = [PROGRAM, "-q", str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(words, user=USER, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        _wait(own, process)
        yield own
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="nobody", dbname="x", connect_timeout=2).close()
        except psycopg.OperationalError as refused:
            if "refused" not in str(refused):
                return
        time.sleep(0.05)
    raise AssertionError(f"pgbouncer does not answer: {process.poll()}, as {os.geteuid()}")
