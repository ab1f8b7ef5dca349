"""The mail's page in a real browser: short, as wide as the screen, fit for every reader; no attacker's script runs.

All pages are opened in one browser, once in light and once in dark colours, with axe-core looking at each.
"""

import html
import json
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from f2b_digest import resources
from f2b_digest.cli.output import show
from f2b_digest.model.digest import Digest
from f2b_digest.rendering.renderer import Renderer
from tests.support import parts, samples
from tests.support.stories import STORIES
from tests.tools import readme
from tests.tools.golden import story_pages

pytestmark = pytest.mark.slow
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
    "--virtual-time-budget=120000", "--dump-dom",
)  # fmt: skip
COLOURS = {"light": "1", "dark": "0"}
"""The value of Chromium's preferredColorScheme."""
WIDTHS = (640, 360, 320)
HARNESS = """<!DOCTYPE html><title>x</title><pre id=out></pre><script src="axe.min.js"></script><script>
onload = async () => {
  const source = await (await fetch("axe.min.js")).text(), found = {};
  for (const name of NAMES) for (const width of WIDTHS) {
    const frame = document.createElement("iframe");
    Object.assign(frame, {width, height: 600, src: name + ".html"});
    await new Promise(done => { frame.onload = done; document.body.append(frame) });
    const page = frame.contentDocument, root = page.documentElement;
    const each = found[name + " " + width] = {
      height: Math.ceil(page.body.firstElementChild.getBoundingClientRect().height), title: page.title,
      beyond: root.scrollWidth - root.clientWidth,
      others: page.scripts.length + page.images.length + page.links.length,
      headings: page.querySelectorAll("h1").length,
      tables: [...page.querySelectorAll("table:not([role])")].filter(t => !t.querySelector("th[scope]")).length };
    if (width == 640) {
      const script = page.createElement("script");
      script.textContent = source;
      page.head.append(script);
      const result = await frame.contentWindow.axe.run(page);
      each.violations = result.violations.map(v => v.id + ": " + v.nodes.map(n => n.html.slice(0, 200)).join(" | "));
    }
    frame.remove();
  }
  out.textContent = JSON.stringify(found);
}
</script>"""


def all_said() -> Digest:
    """Return a digest with all that needs attention, and with names that leave no room to break a line."""
    jails = tuple(replace(jail, name=jail.name * 9) for jail in samples.telling().jails)
    return replace(samples.telling(), facts=samples.every_fact(), advice=samples.every_advice(), jails=jails)


BY_HAND = {"sample": readme.sample_digest, "telling": samples.telling, "all": all_said, "by_week": samples.telling_week,
           "fleet": samples.fleet}  # fmt: skip


def pages() -> dict[str, str]:
    """Return every page, by name."""
    made = {name: show(make(), "html", Renderer(resources.folder("templates")))[0] for name, make in BY_HAND.items()}
    return made | {name: story_pages(name)[f"{name}.html"] for name in STORIES}


@cache
def looked_at(colours: str) -> dict[str, dict[str, Any]]:
    """Return what the browser found of each page at each width."""
    chromium = parts.program("chromium", "apt-get install chromium")
    axe = parts.PARTS / "axe-core/axe.min.js"
    if not axe.exists():
        parts.missing("axe-core", f"npm pack axe-core, unpacked into {axe.parent}")
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = pages()
        for page, text in made.items():
            (folder / f"{page}.html").write_text(text)
        (folder / "axe.min.js").write_bytes(axe.read_bytes())
        harness = HARNESS.replace("NAMES", json.dumps(list(made))).replace("WIDTHS", json.dumps(WIDTHS))
        (folder / "harness.html").write_text(harness)
        scheme = f"--blink-settings=preferredColorScheme={COLOURS[colours]}"
        command = [chromium, *CHROMIUM, scheme, f"--user-data-dir={folder}/profile", f"file://{folder}/harness.html"]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.search(r'<pre id="out">(\{.*?\})</pre>', dom, re.DOTALL)
    assert found, dom[:2000]
    result: dict[str, dict[str, Any]] = json.loads(html.unescape(found[1]))
    return result


@pytest.mark.parametrize("name", [*BY_HAND, *STORIES])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_digest_is_no_wider_than_the_screen(name: str, width: int) -> None:
    """No sideways scrolling on a phone; nothing that an attacker wrote became an element."""
    page = looked_at("light")[f"{name} {width}"]
    assert (page["beyond"], page["others"]) == (0, 0)


@pytest.mark.parametrize("name", STORIES)
def test_a_story_keeps_its_height(name: str) -> None:
    """In a window 640 pixels wide; what a story may have stands beside it in tests/support/stories.py."""
    assert looked_at("light")[f"{name} 640"]["height"] <= STORIES[name].height


@pytest.mark.parametrize("name", [*BY_HAND, *STORIES])
@pytest.mark.parametrize("colours", COLOURS)
def test_no_reader_is_left_out(name: str, colours: str) -> None:
    """axe-core finds nothing: contrast, headings, tables, languages; every table of data has headers."""
    page = looked_at(colours)[f"{name} 640"]
    assert page["violations"] == []
    assert (page["headings"], page["tables"]) == (1, 0)
