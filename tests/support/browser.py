"""Chromium, steered through a pipe by the DevTools protocol: pages opened at a width, measured, photographed.

A window of a headless Chromium is at least 500 pixels wide; the protocol sets any width.
"""

import base64
import fcntl
import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
    "--remote-debugging-pipe",
)  # fmt: skip
FIRST_FREE = 10
"""Above the two file descriptors that the protocol has by its rules: 3 to read from, 4 to write to."""


class Browser:
    """One page of the Chromium at a path; `with` ends it."""

    def __init__(self, chromium: str) -> None:
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for end in (*os.pipe(), *os.pipe())]
        read, self._write, self._read, write = ends

        def ends_by_number() -> None:
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._process = subprocess.Popen(
            [chromium, *OPTIONS, f"--user-data-dir={self._profile.name}"],
            preexec_fn=ends_by_number,  # noqa: PLW1509 - no thread was started
            pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._received, self._number, self._session = b"", 0, {}
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self("Page.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            more = os.read(self._read, 1 << 20)
            assert more, "Chromium has ended"
            self._received += more
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def open(self, page: Path, width: int, *, dark: bool = False) -> None:
        """Load a file in a window of this width, for a reader who prefers light or dark colours."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])
        self("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self, width: int) -> bytes:
        """Return the page as WebP, as high as the first element of its body."""
        height = self.value("Math.ceil(document.body.firstElementChild.getBoundingClientRect().bottom)")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self("Page.captureScreenshot", format="webp", quality=85, clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])
