"""A real ntfy server for the tests: on loopback, closed to strangers, with its own folder.

No tests here; /etc/ntfy is not read.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import trustme

from tests.support.parts import unpacked

VERSIONS = ("2.11", "new")
SUITES = {"2.11": "trixie", "new": "sid"}
PATIENCE = 60.0  # seconds until a test gives up waiting
USER = "f2b"
READER = "reader"
PASSWORD = "a password: with é"
# `ntfy user hash` wants a terminal; this is bcrypt's for PASSWORD.
PASSWORD_HASH = "$2a$10$bfDXemlOpLYzqdo4DYS.tO2zgRll/uBW1fgVVGeMa2YyhAr8otDTm"
TOPICS = "f2b-*"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NtfyServer:
    """One ntfy server; `with` starts it, waits until it answers, and removes its folder at the end.

    USER may write to and read from TOPICS, READER may only read; nobody else may do anything.
    """

    def __init__(self, version: str, **settings: object) -> None:
        """Prepare a folder; settings are ntfy's own, with `_` for `-`."""
        self.version = version
        self._program = unpacked(f"ntfy-{version}", SUITES[version], "ntfy") / "usr/bin/ntfy"
        self._settings = {name.replace("_", "-"): value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))
        self.url = self.tls_url = ""
        self.token = self.reader_token = ""
        self.ca_file = self.folder / "ca.pem"

    def __enter__(self) -> Self:
        with ExitStack() as cleaning:
            cleaning.callback(shutil.rmtree, self.folder)
            cleaning.callback(self._stop)
            self._configure()
            self._start()
            if self.version == "2.11":
                self._admit()
            self._cleaning = cleaning.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleaning.close()

    def poll(self, topic: str) -> list[dict[str, Any]]:
        """Return a topic's messages, as a phone receives them, oldest first."""
        request = urllib.request.Request(
            f"{self.url}/{topic}/json?poll=1&since=all", headers={"Authorization": f"Bearer {self.token}"}
        )
        with _DIRECT.open(request, timeout=PATIENCE) as answer:
            return [json.loads(line) for line in answer]

    # ---- life

    def _configure(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(self.folder / "cert.pem", append=True)
        port, tls_port = _free_ports(2)
        self.url, self.tls_url = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}"
        settings: dict[str, object] = {
            "base-url": self.url,
            "listen-http": f"127.0.0.1:{port}",
            "listen-https": f"127.0.0.1:{tls_port}",
            "key-file": str(self.folder / "key.pem"),
            "cert-file": str(self.folder / "cert.pem"),
            "cache-file": str(self.folder / "cache.db"),
            "auth-file": str(self.folder / "user.db"),
            "auth-default-access": "deny-all",
        }
        if self.version == "new":
            self.token, self.reader_token = "tk_" + "t" * 29, "tk_" + "r" * 29
            settings |= {
                "attachment-cache-dir": str(self.folder / "attachments"),
                "auth-users": [f"{name}:{PASSWORD_HASH}:user" for name in (USER, READER)],
                "auth-access": [f"{USER}:{TOPICS}:rw", f"{READER}:{TOPICS}:ro"],
                "auth-tokens": [f"{USER}:{self.token}:digest", f"{READER}:{self.reader_token}:reader"],
            }
        # JSON is YAML.
        (self.folder / "server.yml").write_text(json.dumps(settings | self._settings), encoding="utf-8")

    def _start(self) -> None:
        with (self.folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, "serve", "--config", self.folder / "server.yml"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(),
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"ntfy {self.version} does not answer:\n{(self.folder / 'output').read_text()}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with _DIRECT.open(f"{self.url}/v1/health", timeout=PATIENCE) as answer:
                return bool(json.load(answer)["healthy"])
        except OSError:
            return False

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    # ---- users, for versions without users in the configuration

    def _admit(self) -> None:
        for name, permission in ((USER, "read-write"), (READER, "read-only")):
            self._command("user", "add", name)
            self._command("access", name, TOPICS, permission)
        self.token, self.reader_token = self._new_token(USER), self._new_token(READER)

    def _new_token(self, name: str) -> str:
        said = self._command("token", "add", name).split()
        return next(word for word in said if word.startswith("tk_"))

    def _command(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._program, command, "-c", self.folder / "server.yml", *arguments],
            env=_environment() | {"NTFY_PASSWORD": PASSWORD}, check=True, timeout=PATIENCE, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("NTFY_")}


def _free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago: ntfy does not say which port it got for 0."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
