"""A web server for the tests, on loopback, that keeps every request and answers from a script, by TLS if asked.

No tests here.
"""

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import trustme


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a server says."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Request], Answer]


def says(status: int, text: str = "", **headers: str) -> Script:
    """Give one answer to everybody; a header's name is written with `_` for `-`."""
    return lambda request: Answer(status, text.encode(), {name.replace("_", "-"): headers[name] for name in headers})


def as_json(status: int, document: Any, **headers: str) -> Answer:
    """Return an answer that is JSON."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"} | more)


class HttpService:
    """One server; `with` ends it. `script` may be exchanged while it runs."""

    def __init__(self, script: Script, authority: trustme.CA | None = None) -> None:
        """Listen; with an authority, by TLS."""
        self.script = script
        self.requests: list[Request] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.path, headers, body)
                service.requests.append(request)
                answer = service.script(request)
                self.send_response(answer.status)
                for name, value in ({"Content-Type": "text/html"} | answer.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST  # noqa: N815 - http.server's name

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, *_: Any) -> None:  # a client that goes away says so itself
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if authority:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{'https' if authority else 'http'}://{self.netloc}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def saved(authority: trustme.CA, folder: Path) -> Path:
    """Return the file of an authority's certificate."""
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path
