"""The pictures of README.md: the demo's digest in Chromium, light, dark and on a phone.

`python -m tests.tools.pictures` makes .github/digest*.webp anew; look at them before you commit them. Those of the
documentation are made when it is built, by tests/tools/site.py.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from f2b_digest import resources
from f2b_digest.cli.output import show
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import parts
from tests.support.browser import Browser
from tests.tools.readme import sample_digest
from tests.tools.site import KINDS


def main() -> None:
    """Make all pictures, each as high as its page."""
    page, _ = show(sample_digest(), "html", Renderer(resources.folder("templates")))
    with TemporaryDirectory() as folder, Browser(parts.program("chromium", "apt-get install chromium")) as browser:
        file = Path(folder) / "digest.html"
        file.write_text(page)
        for end, (width, dark) in KINDS.items():
            browser.open(file, width, dark=dark)
            (ROOT / f".github/digest{end}.webp").write_bytes(browser.picture(width))


if __name__ == "__main__":
    main()
