"""README.md, docs/ and CONTRIBUTING.md are true: they show what the program says, and what they name is there."""

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from f2b_digest.channels import KINDS
from f2b_digest.cli import COMMANDS, reference
from f2b_digest.config import load
from noxfile import GENERATED
from tests import ROOT
from tests.tools import readme

DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
ARCHITECTURE = (DOCS / "development/architecture.md").read_text()


class Page(HTMLParser):
    """The links and the anchors of a page of the built site."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag refers to, and what it can be referred to by."""
        values = dict(attrs)
        self.anchors |= {values.get("id") or "", values.get("name") or ""}
        if tag == "a":
            self.links.append(values.get("href") or "")
        elif tag in ("script", "img") or "stylesheet" in (values.get("rel") or ""):
            self.fetched.append(values.get("src") or values.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation as CI does; a warning, such as for a dead link, ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """To an existing page and heading; external links are not followed."""
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) == len(PAGES) - 1
    for path, page in pages.items():
        for link in filter(None, page.links):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not parts.scheme:
                assert target.exists(), f"{path}: {link}"
                assert not parts.fragment or parts.fragment in pages[target].anchors, f"{path}: {link}"


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    """It can be read from a disk, and behind a firewall."""
    for path in site.rglob("*.html"):
        if path.name != "404.html":
            assert [file for file in Page(path).fetched if urlsplit(file).netloc] == []


@pytest.mark.slow
def test_what_the_pages_show_is_what_the_program_says() -> None:
    """The sample digest, every --help and every key are the present ones; `nox -s renew` renews them."""
    command = [sys.executable, "-m", "cogapp", "--check", "--diff", *GENERATED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_page_with_a_generator_is_renewed() -> None:
    """A page that nox does not know would grow old."""
    assert {str(path.relative_to(ROOT)) for path in PAGES if "[[[cog" in path.read_text()} == set(GENERATED)


def test_every_command_and_every_key_is_documented() -> None:
    """An undocumented command or key does not exist for users."""
    commands, configuration = (DOCS / "commands.md").read_text(), (DOCS / "configuration.md").read_text()
    assert all(f"$ f2b-digest {name} --help" in commands for name in COMMANDS)
    sections = configuration.split("\n### ")
    for table, section in zip(reference.tables(), sections[1:], strict=True):
        assert all(f"| `{key.name}` |" in section for key in table.keys)
        assert table.meaning in section


# ---- examples


def examples() -> list[tuple[str, str]]:
    """Return each configuration that the pages show, with its place."""
    return [
        (f"{path.relative_to(ROOT)} {number}", text)
        for path in PAGES
        for number, text in enumerate(re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL), start=1)
    ]


def whole(text: str) -> str:
    """Return an example with channels for the names that it does not define, and without a list's indentation."""
    text = re.sub(r"^ {4}", "", text, flags=re.MULTILINE)
    table = tomllib.loads(text)
    named = {name for report in table.get("reports", {}).values() for name in report.get("channels", ())}
    missing = sorted(named - set(table.get("channels", {})))
    return text + "".join(f'\n[channels.{name}]\nkind = "file"\nfolder = "out"\n' for name in missing)


@pytest.mark.parametrize(("place", "text"), examples(), ids=[place for place, _ in examples()])
def test_an_example_loads(place: str, text: str, tmp_path: Path) -> None:
    """It can be copied without a mistake."""
    path = tmp_path / "config.toml"
    path.write_text(whole(text))
    assert load(path, host="web1.example.org", timezone="UTC").reports


def test_every_channel_kind_has_a_page_with_an_example() -> None:
    """A channel is documented where people copy from, and named in both tables of channels."""
    index, readme_text = (DOCS / "channels/index.md").read_text(), (ROOT / "README.md").read_text()
    assert {path.stem for path in (DOCS / "channels").glob("*.md")} == {*KINDS, "index"}
    for kind in KINDS:
        page = (DOCS / f"channels/{kind}.md").read_text()
        blocks = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
        assert kind in {channel["kind"] for block in blocks for channel in block["channels"].values()}
        assert f"[`{kind}`]({kind}.md)" in index
        assert f"[`{kind}`](docs/channels/{kind}.md)" in readme_text


# ---- README


def test_the_readme_is_short() -> None:
    """One screen to a first digest, and the rest is linked."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    demo = next(number for number, line in enumerate(lines) if line.endswith("f2b-digest demo"))
    assert demo < 50


def test_the_readmes_links_lead_somewhere() -> None:
    """To files of the checkout, pictures too; and every page of docs/ can be reached from one that it links to."""
    text = (ROOT / "README.md").read_text()
    targets = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    for target in targets:
        assert (ROOT / target.partition("#")[0]).exists(), target


def test_the_readme_names_no_command_line_that_is_not_there() -> None:
    """Its two commands for a fresh machine are the ones that CI runs."""
    commands = re.findall(r"^python3 -m venv .* && .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    commands = [command for command in commands if ".venv " in command]
    assert [command.split(" && ")[-1] for command in commands] == [".venv/bin/f2b-digest demo", ".venv/bin/pytest"]


def test_the_sample_digest_says_what_is_worth_telling() -> None:
    """The first lines of a mail, not a page of it."""
    assert 10 <= len(readme.sample_text().splitlines()) <= 30


# ---- CONTRIBUTING.md and the list of rooms


def test_the_files_that_contributors_are_sent_to_are_there() -> None:
    """Each path in CONTRIBUTING.md exists, with a real kind and language filled in."""
    paths = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|yml))(?: --[^`]*)?`", CONTRIBUTING))
    known = {path.replace("KIND.py", "ntfy.py").replace("KIND", "ntfy").replace("/it/", "/fr/") for path in paths}
    missing = {path for path in known - {".venv/bin/pytest", ".venv/bin/nox"} if not (ROOT / path).exists()}
    assert missing == set()
    assert len(known) > 25


@pytest.mark.parametrize("what", ["channel", "fact", "column on `event`", "language"])
def test_what_is_added_is_described_file_by_file(what: str) -> None:
    """A numbered list of files or commands."""
    section = re.search(rf"## Adding a {what}\n(.*?)\n## ", CONTRIBUTING, re.DOTALL)
    assert section
    assert len(re.findall(r"^\d\. .*(`[\w./-]+/|`python|`LC_ALL)", section[1], re.MULTILINE)) >= 3


def test_the_list_of_rooms_is_that_of_the_package() -> None:
    """Every file and folder of the package has one row, and no row is stale."""
    package = ROOT / "f2b_digest"
    present = {
        path.stem
        for path in package.iterdir()
        if path.name not in ("__init__.py", "__pycache__", "data") and not path.name.endswith(".json")
    }
    rooms = [
        name for row in re.findall(r"^\| (`.*?) \|", ARCHITECTURE, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(rooms) == sorted(present)
    drawing = ARCHITECTURE.partition("## Layers")[2].partition("## Rooms")[0]
    assert [room for room in rooms if room not in ("__main__", "man") and room not in drawing] == []
