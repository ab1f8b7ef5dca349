"""Pings of a monitor: as healthchecks and Uptime Kuma expect them, after the deliveries, without affecting them."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from f2b_digest.delivery import ping
from tests.support.program import Command
from tests.support.raw_server import RawServer, silent
from tests.support.store_making import NOON, event, fill

UUID = "5bf66975-d4c7-4bf5-bcc8-b8d8a82ea278"
TOKEN = "r4nd0mT0ken"


class Monitor:
    """A monitor on loopback that takes what healthchecks and Uptime Kuma take, and refuses the rest with 404 or 400."""

    def __init__(self) -> None:
        """Listen."""
        self.told: list[tuple[str, str]] = []
        """Each ping's state, "up" or "down", and its text."""
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == f"/api/push/{TOKEN}":
                    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                    monitor.told.append((query.get("status", "up"), query.get("msg", "OK")))
                    self._answer(200, b'{"ok":true}')
                else:
                    self._ping(parts.path, "")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._ping(urlsplit(self.path).path, body.decode())

            def _ping(self, path: str, text: str) -> None:
                known = {f"/ping/{UUID}": "up", f"/ping/{UUID}/fail": "down"}
                if path not in known:
                    self._answer(404, b"(not found)")
                    return
                monitor.told.append((known[path], text))
                self._answer(200, b"OK")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        address = f"http://127.0.0.1:{self._server.server_port}"
        self.healthchecks, self.kuma = f"{address}/ping/{UUID}", f"{address}/api/push/{TOKEN}?status=up&msg=OK&ping="
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    """Provide a monitor."""
    started = Monitor()
    yield started
    started.close()


def configure(config: Path, url: str) -> Path:
    """Add the ping to the report."""
    config.write_text(config.read_text().replace("[reports.daily]\n", f'[reports.daily]\nping = "{url}"\n'))
    config.chmod(0o600)
    return config


@pytest.mark.parametrize("kind", ["healthchecks", "kuma"])
def test_a_send_pings_for_success_and_for_failure(
    kind: str, f2b_digest: Command, config: Path, path: Path, monitor: Monitor
) -> None:
    """Also where there was nothing to tell; a failure says by which channel, and to whom is nobody's business."""
    configure(config, getattr(monitor, kind))
    fill(path, [])
    assert f2b_digest("--config", config, "send").status == 0
    fill(path, [event(ip="192.0.2.1")])
    assert f2b_digest("--config", config, "send").status == 0
    (config.parent / "out").rename(config.parent / "out.old")
    (config.parent / "out").write_text("a file where the folder should be")
    fill(path, [event(ip="192.0.2.2")])
    assert f2b_digest("--config", config, "send").status == 75
    assert monitor.told == [("up", "nothing to deliver"), ("up", "out sent"), ("down", "out deferred")]


def test_a_retry_that_delivers_what_was_late_pings_for_success(
    f2b_digest: Command, config: Path, path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a monitor would be red until the next day after five minutes without a mail server."""
    configure(config, monitor.healthchecks)
    (config.parent / "out").write_text("a file where the folder should be")
    fill(path, [event(ip="192.0.2.1")])
    f2b_digest("--config", config, "send")
    f2b_digest("--config", config, "retry")
    assert [state for state, _ in monitor.told] == ["down"], "nothing is due: nothing is told"
    (config.parent / "out").unlink()
    monkeypatch.setattr("f2b_digest.cli.time", SimpleNamespace(time=lambda: NOON + 2 * 3600))
    assert f2b_digest("--config", config, "retry").status == 0
    assert [state for state, _ in monitor.told] == ["down", "up"]


def test_a_send_that_ends_early_pings_for_failure(
    f2b_digest: Command, config: Path, path: Path, monitor: Monitor
) -> None:
    """The file is not a store."""
    configure(config, monitor.healthchecks)
    path.write_text("no database at all, and longer than a header has to be" * 100)
    assert f2b_digest("--config", config, "send").status == 1
    assert monitor.told == [("down", "send failed")]


@pytest.mark.parametrize("trouble", ["silent", "closed", "refused"])
def test_a_monitor_in_trouble_delays_and_fails_no_digest(
    trouble: str, f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch, monitor: Monitor
) -> None:
    """The digest is there before the monitor is asked; its silence ends after seconds; its URL stands nowhere."""
    monkeypatch.setattr(ping, "PATIENCE", 2.0)
    fill(path, [event(ip="192.0.2.1")])
    with RawServer(silent) as server:
        port = {"silent": server.port, "closed": 1}.get(trouble)
        url = f"http://127.0.0.1:{port}/s3cret-uuid" if port else monitor.healthchecks.replace(UUID, "s3cret-uuid")
        configure(config, url)
        begun = time.monotonic()
        ended = f2b_digest("-vv", "--config", config, "send")
        assert time.monotonic() - begun < 6
    assert ended.status == 0
    assert len(list((config.parent / "out").iterdir())) == 1
    assert "s3cret" not in ended.err + ended.out
    assert "ping" in ended.err, "-v says what became of it"


@pytest.mark.parametrize("url", ["nowhere", "ftp://example.org/x", "https://user:s3cret@example.org/x"])
def test_an_url_that_cannot_be_pinged_is_refused(url: str, f2b_digest: Command, config: Path) -> None:
    """With its place, and without the URL."""
    ended = f2b_digest("--config", configure(config, url), "status")
    assert ended.status == 78
    assert "reports.daily.ping: " in ended.err
    assert "s3cret" not in ended.err


def test_the_url_can_stand_in_a_file(f2b_digest: Command, config: Path, path: Path, monitor: Monitor) -> None:
    """The URL is a secret: it is enough to fake a ping."""
    (config.parent / "ping.url").write_text(f"{monitor.kuma}\n")
    config.write_text(config.read_text().replace("[reports.daily]\n", '[reports.daily]\nping_file = "ping.url"\n'))
    fill(path, [])
    assert f2b_digest("--config", config, "send").status == 0
    assert monitor.told == [("up", "nothing to deliver")]
