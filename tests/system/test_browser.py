"""The HTML in a real browser: it fits a phone, and no script of an attacker runs."""

import html
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from f2b_digest import resources
from f2b_digest.cli.preview import show
from f2b_digest.model.digest import Digest
from f2b_digest.rendering.renderer import Renderer
from tests.support import parts, samples
from tests.tools import readme

CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update", "--allow-file-access-from-files", "--virtual-time-budget=2000",
)  # fmt: skip
FRAME = """<iframe id=f width={width} height=600 src="digest.html"></iframe><pre id=out></pre><script>
f.onload = () => {{ const d = f.contentDocument, e = d.documentElement;
  out.textContent = JSON.stringify([e.scrollWidth - e.clientWidth, d.scripts.length, d.images.length, d.links.length,
    d.title]) }}
</script>"""


def all_said() -> Digest:
    """Return a digest with all that needs somebody, and with names that leave no room to break a line."""
    jails = tuple(replace(jail, name=jail.name * 9) for jail in samples.telling().jails)
    return replace(samples.telling(), facts=samples.every_fact(), advice=samples.every_advice(), jails=jails)


DIGESTS: dict[str, Callable[[], Digest]] = {
    "sample": readme.sample_digest, "day": samples.telling, "week": samples.telling_week, "quiet": samples.quiet,
    "all": all_said,
}  # fmt: skip


def look(tmp_path: Path, width: int, digest: Digest) -> list[object]:
    """Return what the browser made of a digest in a window of some width."""
    chromium = parts.program("chromium", "apt-get install chromium")
    text, _ = show(digest, "html", Renderer(resources.folder("templates")))
    (tmp_path / "digest.html").write_text(text)
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    command = [
        chromium,
        *CHROMIUM,
        f"--user-data-dir={tmp_path}/profile",
        "--dump-dom",
        f"file://{tmp_path}/frame.html",
    ]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r'<pre id="out">(\[.*?\])</pre>', dom)
    assert found, dom
    return list(json.loads(html.unescape(found[1])))


@pytest.mark.slow
@pytest.mark.parametrize("name", DIGESTS)
@pytest.mark.parametrize("width", [360, 640])
def test_the_digest_is_no_wider_than_the_screen(tmp_path: Path, width: int, name: str) -> None:
    """No sideways scrolling on a phone; nothing that an attacker wrote became an element."""
    digest = DIGESTS[name]()
    beyond, scripts, images, links, title = look(tmp_path, width, digest)
    assert beyond == 0
    assert (scripts, images, links) == (0, 0, 0)
    assert title == f"{digest.totals.bans} bans on web1.example.org"
