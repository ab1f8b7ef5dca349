"""A real Postfix for the tests, with its own configuration and queue, and a relay on loopback.

No tests here, and neither /etc/postfix nor the system's queue is read. Postfix starts for root only.
"""

import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.support.parts import program

PATIENCE = 60.0  # seconds until a test gives up waiting
HOW = "apt install postfix"
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
myhostname = web1.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
relayhost = [127.0.0.1]:{relay}
smtp_dns_support_level = disabled
smtp_tls_security_level = none
alias_maps =
"""
MASTER = """
pickup  unix       n - n 60  1 pickup
cleanup unix       n - n -   0 cleanup
qmgr    unix       n - n 300 1 qmgr
rewrite unix       - - n -   - trivial-rewrite
bounce  unix       - - n -   0 bounce
defer   unix       - - n -   0 bounce
trace   unix       - - n -   0 bounce
error   unix       - - n -   - error
smtp    unix       - - n -   - smtp
"""


class Postfix:
    """One Postfix without its own listener; `with` starts it, stops it and removes its folder."""

    def __init__(self, relay: int) -> None:
        """Prepare its folder, which its own user must be able to enter (pytest's are closed)."""
        self._postfix = program("postfix", HOW)
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))
        self.folder.chmod(0o755)
        for name in ("conf", "queue", "data"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "data", pwd.getpwnam("postfix").pw_uid)
        (self.folder / "conf/main.cf").write_text(MAIN.format(folder=self.folder, relay=relay))
        (self.folder / "conf/master.cf").write_text(MASTER)
        self.sendmail = f"{program('sendmail', HOW)} -C {self.folder}/conf"

    def __enter__(self) -> Self:
        self._command("start")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._command("stop")
        finally:
            shutil.rmtree(self.folder)

    def _command(self, verb: str) -> None:
        subprocess.run(
            [self._postfix, "-c", self.folder / "conf", verb], check=True, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
