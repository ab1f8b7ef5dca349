"""What MkDocs adds to the pages in docs/: pictures of digests, made of the golden pages that the tests hold true.

mkdocs.yml names this file as a hook. `<!-- digest: busy -->` in a page becomes the pictures, the subject, the text and
the notification of that story. Without Chromium, the pictures are left out. `<!-- recording -->` becomes the
recording of a terminal.
"""

import html
import logging
import re
import shutil
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from tests.support.browser import Browser  # noqa: E402 - MkDocs runs this file as it is
from tests.tools import terminal  # noqa: E402

log = logging.getLogger("mkdocs.hooks.digests")
STORIES = ROOT / "tests/golden/stories"
RECORDING = ROOT / "docs/recording.cast"
KEPT = ROOT / ".cache/pictures"
"""Pictures stay here, so that `mkdocs serve` does not make them for each change of a page."""
KINDS = {"": (640, False), "-dark": (640, True), "-phone": (360, False), "-phone-dark": (360, True)}
"""The end of a picture's name; the width of the window, and whether its reader prefers dark colours."""
MARK = re.compile(r"<!-- digest: (\w+) -->")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the golden pages and their pictures to the site."""
    pages = sorted(STORIES.glob("*.html"))
    for file in (*pages, *_pictures(pages)):
        files.append(File.generated(config, f"pictures/{file.name}", abs_src_path=str(file)))
    files.append(File.generated(config, "pictures/recording.svg", content=terminal.svg(RECORDING)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace each mark by its digest."""
    pictured = files.get_file_from_path("pictures/quiet.webp") is not None
    markdown = markdown.replace("<!-- recording -->", _recording())
    return MARK.sub(lambda found: _shown(found[1], pictured=pictured), markdown)


def _recording() -> str:
    shown = html.escape(terminal.text(RECORDING), quote=False)
    return (
        '<p><img alt="A terminal: the text is below" src="pictures/recording.svg"></p>'
        f'<details class="digest"><summary>As text</summary><pre>{shown}</pre></details>'
    )


def _pictures(pages: list[Path]) -> list[Path]:
    """Return the pictures of the pages, those made anew that are missing or older than their page."""
    chromium = shutil.which("chromium")
    if not chromium:
        log.info("chromium is missing (apt install chromium): the pictures of digests are left out")
        return []
    KEPT.mkdir(parents=True, exist_ok=True)
    wanted = {KEPT / f"{page.stem}{end}.webp": (page, *how) for page in pages for end, how in KINDS.items()}
    old = {path: how for path, how in wanted.items() if not _is_newer(path, how[0])}
    if old:
        with Browser(chromium) as browser:
            for path, (page, width, dark) in old.items():
                browser.open(page, width, dark=dark)
                path.write_bytes(browser.picture(width))
    return list(wanted)


def _is_newer(path: Path, page: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= page.stat().st_mtime


def _shown(story: str, *, pictured: bool) -> str:
    """Return a digest as HTML."""
    subject, text, title, message = (
        html.escape((STORIES / f"{story}.{end}").read_text(encoding="utf-8").strip(), quote=False)
        for end in ("subject.txt", "txt", "ntfy-title.txt", "ntfy.txt")
    )
    images = "".join(_image(story, end) for end in KINDS) if pictured else "The mail"
    return "\n".join([
        '<div class="digest">',
        f"<p>Subject: <strong>{subject}</strong></p>",
        f'<p><a href="pictures/{story}.html">{images}</a></p>',
        f"<details><summary>As text</summary><pre>{text}</pre></details>",
        f"<details><summary>As a notification</summary><pre><strong>{title}</strong>\n{message}</pre></details>",
        "</div>",
    ])  # fmt: skip


def _image(story: str, end: str) -> str:
    width, dark = KINDS[end]
    which = "phone" if width < 640 else "mail"
    alt = "The same on a phone" if which == "phone" else "The mail, which links to its page"
    shade = "dark" if dark else "light"
    return f'<img class="{which}" loading="lazy" alt="{alt}" src="pictures/{story}{end}.webp#only-{shade}">'
