"""The archive: a page for each digest with every address, and an index, both as a browser shows and prints them."""

import html
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from f2b_digest.channels import archive
from f2b_digest.channels.file import File
from f2b_digest.model.message import Stamp
from tests.support import parts
from tests.support.hostile import HOSTILE, Page
from tests.support.program import Command
from tests.support.store_making import NOON, event, fill

DAY = 86400.0
FRAME = """<iframe id=f width={width} height=600 src="{page}"></iframe><pre id=out></pre><script>
f.onload = () => {{ const d = f.contentDocument, e = d.documentElement;
  out.textContent = JSON.stringify([e.scrollWidth - e.clientWidth, d.scripts.length, d.images.length, d.links.length,
    d.querySelectorAll("rect").length, d.title]) }}
</script>"""
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--allow-file-access-from-files",
            "--virtual-time-budget=2000")  # fmt: skip


@pytest.fixture
def config(path: Path, tmp_path: Path) -> Path:
    """Provide a configuration with an archive."""
    file = tmp_path / "config.toml"
    channel = 'kind = "file"\nfolder = "archive"\nformat = "html"\nindex = true\n'
    top = f'store = "{path}"\nhost = "web1"\ntimezone = "UTC"\n'
    file.write_text(f'{top}[reports.daily]\nchannels = ["all"]\n[channels.all]\n{channel}')
    return file


@pytest.fixture
def full(config: Path, path: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide an archive of three days: 120 addresses, one, and whatever an attacker may choose."""
    days = (
        [event(ip=f"192.0.2.{n}", at=NOON) for n in range(1, 121)],
        [event(ip="198.51.100.7", at=NOON + DAY)],
        [event(ip=text, jail=text or "x", at=NOON + 2 * DAY) for text in HOSTILE.values()],
    )
    for number, rows in enumerate(days):
        now = NOON + number * DAY + 3600
        monkeypatch.setattr("f2b_digest.cli.time.time", lambda now=now: now)
        fill(path, rows)
        assert f2b_digest("--config", config, "send").status == 0
    return config.parent / "archive"


def chromium(folder: Path, *arguments: str) -> str:
    """Run the browser; return what it prints."""
    program = parts.program("chromium", "apt-get install chromium")
    command = [program, *CHROMIUM, f"--user-data-dir={folder}/profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout


def look(tmp_path: Path, page: Path, width: int) -> list[object]:
    """Return what the browser makes of a page in a window of some width."""
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=page.as_uri()))
    dom = chromium(tmp_path, "--dump-dom", (tmp_path / "frame.html").as_uri())
    found = re.search(r'<pre id="out">(\[.*?\])</pre>', dom)
    assert found, dom
    return list(json.loads(html.unescape(found[1])))


def test_each_send_adds_a_page_with_every_address(full: Path) -> None:
    """Not only the 50 of a jail that a mail shows; names sort by time; nobody else on the host may read them."""
    pages = sorted(file for file in full.iterdir() if file.name != "index.html")
    assert [page.name[:16] for page in pages] == ["20261119T130000Z", "20261120T130000Z", "20261121T130000Z"]
    cells = re.findall(r">(192\.0\.2\.\d+)</td>", pages[0].read_text())
    assert set(cells) == {f"192.0.2.{n}" for n in range(1, 121)}
    assert {file.stat().st_mode & 0o777 for file in full.iterdir()} == {0o640}


def test_the_index_lists_the_pages_and_links_to_them(full: Path) -> None:
    """The newest first, each with its verdict and bans."""
    index = (full / "index.html").read_text()
    links = re.findall(r'href="([^"]+)"', index)
    assert links == sorted((file.name for file in full.iterdir() if file.name != "index.html"), reverse=True)
    assert re.findall(r"<td class=n>([\d,]+)</td>", index) == [str(len(HOSTILE)), "1", "120"]
    assert "120 addresses" in Page(index).text
    assert "<script" not in index
    assert index.count("<rect") == 1, "one week"


def test_the_index_is_in_the_language_of_its_digests(path: Path, config: Path, f2b_digest: Command) -> None:
    """Headings, the report's name and the numbers of each row; an older page, without these, as it was."""
    fill(path, [event(ip=f"192.0.{n // 250}.{n % 250 + 1}", at=NOON + n) for n in range(1200)])
    config.write_text('language = "fr"\n' + config.read_text())
    assert f2b_digest("--config", config, "send").status == 0
    folder = config.parent / "archive"
    about = archive.about(Stamp("0" * 32, "weekly", "all", "web1", NOON - DAY, 2000), "x", "\n".join(archive.LABELS))
    old = archive.described("<html><head></head></html>", about)
    (folder / archive.name_of(Stamp("0" * 32, "weekly", "all", "web1", NOON - DAY, 2000))).write_text(old)
    text = Page(archive.index(folder).decode()).text
    assert "quotidien" in text
    assert "1,200" not in text
    assert "2,000" in text
    assert "daily" not in text
    assert "weekly" in text


def test_a_page_that_was_deleted_is_forgotten(full: Path, config: Path, path: Path, f2b_digest: Command) -> None:
    """The index is made of what is there: old pages are removed as any file is, and strangers' files stay out."""
    oldest = min(file for file in full.iterdir() if file.name != "index.html")
    oldest.unlink()
    (full / "notes.html").write_text('<meta name="f2b-digest" content="{}">')
    (full / f"20261121T140000Z-{'0' * 32}.all.html").write_text('<meta name="f2b-digest" content="[1, {">')
    (full / f"20261121T150000Z-{'0' * 32}.all.html").symlink_to("/dev/zero/x")
    fill(path, [event(ip="203.0.113.1", at=NOON + 2 * DAY + 10)])
    assert f2b_digest("--config", config, "send").status == 0
    index = (full / "index.html").read_text()
    assert oldest.name not in index
    assert index.count("<a href=") == 3


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1000])
def test_a_browser_shows_the_archive(full: Path, tmp_path: Path, width: int) -> None:
    """No sideways scrolling, no script, no image, nothing that an attacker wrote became an element."""
    beyond, scripts, images, links, bars, title = look(tmp_path, full / "index.html", width)
    assert (beyond, scripts, images, links, bars, title) == (0, 0, 0, 3, 1, "Digests of web1")
    for page in sorted(full.glob("2026*.html")):
        beyond, scripts, images, links, _, _ = look(tmp_path, page, width)
        assert (beyond, scripts, images, links) == (0, 0, 0, 0), page.name


@pytest.mark.slow
def test_a_browser_prints_the_archive(full: Path, tmp_path: Path) -> None:
    """To PDF, with its text."""
    for page in (full / "index.html", min(full.glob("2026*.html"))):
        chromium(tmp_path, f"--print-to-pdf={tmp_path}/out.pdf", page.as_uri())
        content = (tmp_path / "out.pdf").read_bytes()
        assert content.startswith(b"%PDF")
        assert len(content) > 5000


@pytest.mark.parametrize("settings", [{"append": "x"}, {"folder": "x"}, {"folder": "x", "format": "text"}])
def test_an_index_needs_pages(settings: dict[str, str]) -> None:
    """Mails and texts are not for a browser."""
    with pytest.raises(ValueError, match='index needs folder and format = "html"'):
        File.model_validate({"kind": "file", "index": True} | settings)


def test_a_page_without_a_head_is_described_too() -> None:
    """A template of the admin's may be anything."""
    stamp = Stamp("0" * 32, "daily", "all", "web1", NOON, 3)
    page = archive.described("<p>mine</p>", archive.about(stamp, "3 bans", "a\nb"))
    assert page.endswith("<p>mine</p>")
    assert archive.META.search(page)


def test_a_thousand_pages_are_indexed_in_a_second(tmp_path: Path) -> None:
    """A page an hour for six weeks, or a page a day for three years."""
    for number in range(1000):
        stamp = Stamp(f"{number:032x}", "daily", "all", "web1", NOON + number * DAY, number)
        page = archive.described("<html><head></head></html>", archive.about(stamp, "x", "\n".join(archive.LABELS)))
        (tmp_path / archive.name_of(stamp)).write_text(page)
    begun = os.times().user
    index = archive.index(tmp_path).decode()
    assert os.times().user - begun < 1
    assert index.count("<a href=") == 1000
    assert index.count("<rect") == archive.WEEKS
