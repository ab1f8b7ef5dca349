"""The golden files: some digests as people see them, and the JSON Schema; tests/rendering/test_golden.py compares.

`python -m tests.tools.golden` writes the files anew; read the difference before you commit it.
"""

import json
from functools import cache

from f2b_digest import delivery, resources
from f2b_digest.channels import KINDS
from f2b_digest.model.document import document, schema, to_json
from f2b_digest.model.message import Stamp
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import samples
from tests.support.stories import STORIES, told
from tests.tools.readme import sample_digest

GOLDEN = ROOT / "tests/golden"
STORY_PAGES = GOLDEN / "stories"
SCHEMA = ROOT / "f2b_digest/digest.schema.json"
"""Beside the code, so that who installs the package has it."""
CHANNELS = (
    KINDS["email"].model_validate({"kind": "email", "from": "f2b@web1.example.org", "to": ["admin@example.org"]}),
    KINDS["ntfy"].model_validate({"kind": "ntfy", "url": "https://ntfy.example.org", "topic": "web1", "tags": ["x"]}),
)
BY_HAND = {"telling": samples.telling, "week": samples.telling_week, "quiet": samples.quiet, "fleet": samples.fleet}
TEMPLATES = (
    "email/subject.txt", "email/body.txt", "email/body.html", "ntfy/title.txt", "ntfy/message.txt",
    "free-mobile/sms.txt", "syslog/lines.txt", "webhook/slack.json",
)  # fmt: skip


STORY_FILES = (
    {"email/subject.txt": "subject.txt", "email/body.txt": "txt", "email/body.html": "html"},
    {"ntfy/title.txt": "ntfy-title.txt", "ntfy/message.txt": "ntfy.txt"},
)


def published() -> str:
    """Return the JSON Schema of a digest as the package has it."""
    return json.dumps(schema(), indent=2) + "\n"


@cache
def seen() -> dict[str, bytes]:
    """Return the digests as people see them, the sample's notification as it is published, and its JSON."""
    digest, renderer = sample_digest(), Renderer(resources.folder("templates"))
    files = {
        "digest.json": to_json(digest, indent=2).encode(),
    }
    for channel in CHANNELS:
        stamp = Stamp("0" * 32, "weekly", "golden", digest.host, digest.end.timestamp(), digest.totals.bans)
        content, _ = delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, stamp))
        files |= {name.replace("/", "-"): text.encode() for name, text in content.parts.items()}
        files[f"{channel.kind}.message"] = channel.pack(content, stamp)
    for name, make in BY_HAND.items():
        rendered = renderer.render(TEMPLATES, document(make()))
        files |= {f"{name}-{each.replace('/', '-')}": text.encode() for each, text in rendered.items()}
    files["telling-digest.json"] = to_json(samples.telling(), indent=2).encode()
    rendered = renderer.speaking("fr").render(TEMPLATES, document(samples.telling()))
    return files | {f"fr-telling-{each.replace('/', '-')}": text.encode() for each, text in rendered.items()}


@cache
def story_pages(name: str) -> dict[str, str]:
    """Return a story's subject, text, page and notification, by the names of their golden files."""
    renderer = Renderer(resources.folder("templates"), language=STORIES[name].language)
    digest = told(name)
    pages: dict[str, str] = {}
    for channel, files in zip(CHANNELS, STORY_FILES, strict=True):
        stamp = Stamp("0" * 32, digest.report, "golden", digest.host, digest.end.timestamp(), digest.totals.bans)
        content, _ = delivery.fit(channel.needs, digest, renderer, lambda content: channel.fits(content, stamp))
        pages |= {f"{name}.{file}": content.parts[template] for template, file in files.items()}
    return pages


if __name__ == "__main__":
    STORY_PAGES.mkdir(parents=True, exist_ok=True)
    for story in STORIES:
        for golden, text in story_pages(story).items():
            (STORY_PAGES / golden).write_text(text)
    GOLDEN.mkdir(exist_ok=True)
    for golden, content in seen().items():
        (GOLDEN / golden).write_bytes(content)
    SCHEMA.write_text(published())
