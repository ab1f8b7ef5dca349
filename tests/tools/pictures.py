"""The pictures of README.md: the demo's digest in Chromium, light, dark and on a phone.

`python -m tests.tools.pictures` makes .github/digest*.png anew; look at them before you commit them.
"""

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from f2b_digest import resources
from f2b_digest.cli.output import show
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import parts
from tests.tools.readme import sample_digest

PICTURES = {
    "digest.png": (640, "1"), "digest-dark.png": (640, "0"),
    "digest-phone.png": (360, "1"), "digest-dark-phone.png": (360, "0"),
}  # fmt: skip
"""Width in pixels, and the value of Chromium's preferredColorScheme."""
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1")
HEIGHT = """<script>onload = () => document.title = "height " + document.body.firstElementChild.offsetHeight</script>"""


def main() -> None:
    """Make all pictures, each as high as its page."""
    chromium = parts.program("chromium", "apt-get install chromium")
    page, _ = show(sample_digest(), "html", Renderer(resources.folder("templates")))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "digest.html"
        file.write_text(page.replace("</head>", f"{HEIGHT}</head>"))
        for name, (width, scheme) in PICTURES.items():
            common = [chromium, *CHROMIUM, f"--user-data-dir={folder}/profile",
                      f"--blink-settings=preferredColorScheme={scheme}"]  # fmt: skip
            dom = _run([*common, f"--window-size={width},2000", "--dump-dom", str(file)])
            found = re.search(r"<title>height (\d+)</title>", dom)
            assert found, dom[:500]
            size = f"--window-size={width},{found[1]}"
            _run([*common, size, f"--screenshot={ROOT / '.github' / name}", str(file)])


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


if __name__ == "__main__":
    main()
