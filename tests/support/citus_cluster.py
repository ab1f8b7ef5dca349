"""A real Citus for the tests: a coordinator and two workers, each a PostgreSQL in its own folder.

No tests here. The nodes prove to each other by a certificate who they are, as docs/fleet.md has it, and take no
connection of a host.
"""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg
import trustme

from tests.support.parts import missing
from tests.support.postgres_server import RULES, PostgreSQL, chown

LIBRARY = "citus.so"
NODE = "citus"
"""The name in the nodes' certificate."""
ROLES = ("postgres", "f2b_owner", "f2b_ingest", "f2b_digest")
SETTINGS = """
shared_preload_libraries = 'citus'
wal_level = logical
max_prepared_transactions = 120
citus.node_conninfo = '{conninfo}'
citus.recover_2pc_interval = 2s
citus.shard_count = 8
"""
CONNINFO = "sslmode=verify-full sslrootcert={folder}/ca.pem sslcert={folder}/node.pem sslkey={folder}/node.key"
AMONG_NODES = f"hostssl all {','.join(ROLES)} 127.0.0.1/32 cert map={NODE}\n"


class Node(PostgreSQL):
    """A worker: no host and no password gets in."""

    def __init__(self, authority: trustme.CA | None = None) -> None:
        """Add the certificate by which it is known to the others."""
        super().__init__(authority)
        if not list(Path(self.bin).parent.glob(f"lib/{LIBRARY}")):
            missing("Citus", "../shared/tools/citus-cluster builds it")
        certificate = self.authority.issue_cert(common_name=NODE)
        certificate.cert_chain_pems[0].write_to_path(self.folder / "node.pem")
        certificate.private_key_pem.write_to_path(self.folder / "node.key")
        (self.folder / "node.key").chmod(0o600)
        chown(self.folder)

    def settings(self) -> str:
        """Add what Citus needs."""
        return SETTINGS.format(conninfo=CONNINFO.format(folder=self.folder))

    def rules(self) -> str:
        """Let the other nodes in, and whoever is on the machine."""
        (self.folder / "data/pg_ident.conf").write_text("".join(f"{NODE} {NODE} {role}\n" for role in ROLES))
        return f"local all all trust\nlocal replication all trust\n{AMONG_NODES}"

    def back_up(self) -> None:
        """Copy it as it is now."""
        socket = ("-h", str(self.folder), "-p", str(self.port), "-U", "postgres")
        self.run("pg_basebackup", "-D", self.folder / "backup", "-X", "stream", "--checkpoint=fast", *socket)

    def restore(self) -> None:
        """Lose everything, and start from the backup."""
        self.stop("immediate")
        shutil.rmtree(self.folder / "data")
        (self.folder / "backup").rename(self.folder / "data")
        self.start()


class Citus(Node):
    """A coordinator with its workers; `with` starts them all."""

    def __init__(self) -> None:
        """Prepare three nodes of one authority."""
        super().__init__()
        self.workers = [Node(self.authority) for _ in range(2)]
        self._running = ExitStack()

    @property
    def nodes(self) -> tuple[PostgreSQL, ...]:
        """The coordinator, and its workers."""
        return (self, *self.workers)

    def rules(self) -> str:
        """Let hosts in, too."""
        among_nodes = super().rules().replace(",f2b_digest", "")  # which comes by a password
        return among_nodes + RULES

    def __enter__(self) -> Self:
        for worker in self.workers:
            self._running.enter_context(worker)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._running.close()

    def create(self, database: str) -> None:
        """Create a database with Citus on all nodes."""
        for node in self.nodes:
            PostgreSQL.create(node, database)
        self.extend(database)

    def extend(self, database: str) -> None:
        """Add Citus to a database that is there on all nodes."""
        for node in self.nodes:
            node.do("CREATE EXTENSION citus", database=database)
        self.do(
            f"SELECT citus_set_coordinator_host('127.0.0.1', {self.port})",
            *(f"SELECT citus_add_node('127.0.0.1', {worker.port})" for worker in self.workers),
            database=database,
        )

    def drop(self, database: str) -> None:
        """Drop a database on all nodes; where a process of Citus is slow to leave it, on a busy machine, once more."""
        for node in self.nodes:
            try:
                PostgreSQL.drop(node, database)
            except psycopg.errors.ObjectInUse:
                PostgreSQL.drop(node, database)
