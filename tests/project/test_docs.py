"""README.md, docs/ and CONTRIBUTING.md are true: they show what the program says, and what they name is there."""

import re
import shlex
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from f2b_digest.channels import KINDS
from f2b_digest.cli import COMMANDS, cli, reference
from f2b_digest.config import load
from noxfile import GENERATED
from tests import ROOT
from tests.support import parts
from tests.support.browser import Browser
from tests.support.stories import STORIES
from tests.tools import readme
from tests.tools.site import KINDS as PICTURES

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


def built(site: Path) -> list[Path]:
    """Return the pages of the site, without the digests that it shows."""
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html" and path.parent.name != "pictures"]


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    """To an existing page and heading; external links are not followed."""
    pages = {path: Page(path) for path in built(site)}
    assert len(pages) == len(PAGES) - 1
    for path, page in pages.items():
        for link in filter(None, [*page.links, *page.fetched]):
            place = urlsplit(link)
            target = (path.parent / unquote(place.path)).resolve() if place.path else path
            if not place.scheme:
                assert target.exists(), f"{path}: {link}"
                assert target not in pages or not place.fragment or place.fragment in pages[target].anchors, (
                    f"{path}: {link}"
                )


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    """It can be read from a disk, and behind a firewall."""
    for path in built(site):
        assert [file for file in Page(path).fetched if urlsplit(file).netloc] == []


@pytest.mark.slow
def test_the_site_can_be_read_on_a_phone(site: Path) -> None:
    """No page is wider than a screen of 360 pixels: tables and code scroll by themselves."""
    beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    with Browser(parts.program("chromium", "apt-get install chromium")) as browser:
        for path in built(site):
            browser.open(path, 360)
            assert browser.value(beyond) == 0, path.relative_to(site)


@pytest.mark.slow
def test_every_story_is_shown_with_its_pictures(site: Path) -> None:
    """In light and dark, as mail and on a phone; whole: a phone's picture is as high as its page."""
    parts.program("chromium", "apt-get install chromium")
    page = Page(site / "digests.html")
    shown = {urlsplit(image).path for image in page.fetched if image.startswith("pictures/")}
    assert shown == {f"pictures/{story}{end}.webp" for story in STORIES for end in PICTURES}
    sizes = [size(site / f"pictures/busy{end}.webp") for end in ("", "-phone")]
    assert [width for width, _ in sizes] == [640, 360]
    assert sizes[1][1] > sizes[0][1]


def size(picture: Path) -> tuple[int, int]:
    """Return the width and height of a WebP picture, of the extended kind that Chromium makes."""
    head = picture.read_bytes()[:30]
    assert head[12:16] == b"VP8X"
    return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1


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
    assert [command.split(" && ")[-1] for command in commands] == [
        ".venv/bin/f2b-digest demo",
        ".venv/bin/pytest -n 2",
    ]


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
    listed = ARCHITECTURE.partition("\n## Rooms")[2].partition("\n## ")[0]
    rooms = [name for row in re.findall(r"^\| (`.*?) \|", listed, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert sorted(rooms) == sorted(present)
    drawing = ARCHITECTURE.partition("## Layers")[2].partition("## Rooms")[0]
    assert [room for room in rooms if room not in ("__main__", "man") and room not in drawing] == []


def test_ten_questions_are_answered_by_the_file_that_one_opens_first() -> None:
    """Each function stands in its file."""
    section = ARCHITECTURE.partition("## Ten questions")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .+\? \| `(.+?)` \| `(\w+)`.* \|$", section, re.MULTILINE)
    assert len(rows) == 10
    for file, function in rows:
        assert re.search(rf"^ *def {function}\(", (ROOT / file).read_text(), re.MULTILINE), (file, function)


# ---- commands


def commands_shown() -> list[tuple[str, str]]:
    """Return each command line of our program in the pages, in blocks and within sentences, with its page."""
    shown = []
    for path in (*PAGES, ROOT / "CONTRIBUTING.md"):
        text = re.sub(r"\[\[\[cog.*?\[\[\[end\]\]\]", "", path.read_text(), flags=re.DOTALL)
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]*\bf2b-digest [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        shown += [(str(path.relative_to(ROOT)), line.strip()) for line in lines if re.search(r"\bf2b-digest \S", line)]
    return shown


def words_of(line: str) -> list[str]:
    """Return the words after our program's name, up to what the shell does with its output."""
    command = re.split(r"(?:^|[\s/])f2b-digest (?=[a-z-])", line, maxsplit=1)[1]
    return shlex.split(re.split(r"\s[|>&#\\]|;|  |…", command)[0], comments=True)


@pytest.mark.parametrize(("page", "line"), commands_shown())
def test_a_command_that_is_shown_is_one_that_there_is(page: str, line: str) -> None:
    """With options that it has; whether its values make sense is not looked at."""
    if not re.search(r"(?:^|[\s/])f2b-digest (?=[a-z-])", line) or re.search(
        r"apt|user(add|mod)|install -m|systemctl", line
    ):
        return
    group: click.Group = cli
    context, words = None, words_of(line)
    while True:  # with the settings of each: click remembers the help option of the first context
        context = click.Context(group, context, **group.context_settings)
        context.allow_interspersed_args = False
        _, words, _ = group.make_parser(context).parse_args(list(words))
        if not words:
            return
        command = group.get_command(context, words[0])
        assert command is not None, words
        words = words[1:]
        if not isinstance(command, click.Group):
            context = click.Context(command, context, **command.context_settings)
            command.make_parser(context).parse_args([word.strip("[]") for word in words])
            return
        group = command
