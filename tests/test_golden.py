"""What people see of some digests, byte for byte, in tests/golden: read by eye before it was committed; and the schema.

The sample week of the demo as channels send it; and digests in which every section is filled, or none; the fullest
in French too.

`python -m tests.test_golden` writes the files anew; look at the difference before you commit it.
"""

import json
from functools import cache
from pathlib import Path

import pytest

from f2b_digest import delivery, resources
from f2b_digest.channels import KINDS
from f2b_digest.model.document import document, schema, to_json
from f2b_digest.model.message import Stamp
from f2b_digest.rendering.renderer import Renderer
from tests import samples
from tests.conftest import Command
from tests.readme import sample_digest

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = Path(__file__).parent.parent / "f2b_digest/digest.schema.json"
"""Beside the code, so that who installs the package has it."""
CHANNELS = (
    KINDS["email"].model_validate({"kind": "email", "from": "f2b@web1.example.org", "to": ["admin@example.org"]}),
    KINDS["ntfy"].model_validate({"kind": "ntfy", "url": "https://ntfy.example.org", "topic": "web1", "tags": ["x"]}),
)
BY_HAND = {"telling": samples.telling, "week": samples.telling_week, "quiet": samples.quiet}
TEMPLATES = (
    "email/subject.txt", "email/body.txt", "email/body.html", "ntfy/title.txt", "ntfy/message.txt",
    "free-mobile/sms.txt", "syslog/lines.txt", "webhook/slack.json",
)  # fmt: skip


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
        parts, _ = delivery.fit(channel.templates, digest, renderer, lambda parts: channel.fits(parts, stamp))
        files |= {name.replace("/", "-"): text.encode() for name, text in parts.items()}
        files[f"{channel.kind}.message"] = channel.pack(parts, stamp)
    for name, make in BY_HAND.items():
        rendered = renderer.render(TEMPLATES, document(make()))
        files |= {f"{name}-{each.replace('/', '-')}": text.encode() for each, text in rendered.items()}
    files["telling-digest.json"] = to_json(samples.telling(), indent=2).encode()
    rendered = renderer.speaking("fr").render(TEMPLATES, document(samples.telling()))
    return files | {f"fr-telling-{each.replace('/', '-')}": text.encode() for each, text in rendered.items()}


@pytest.mark.parametrize("name", sorted(seen()))
def test_what_people_see_is_what_was_looked_at(name: str) -> None:
    """Each form of the sample digest is the one that somebody read."""
    assert seen()[name].decode() == (GOLDEN / name).read_text()


def test_no_golden_file_is_left_over() -> None:
    """A file that nothing makes any more proves nothing."""
    assert {file.name for file in GOLDEN.iterdir()} == set(seen())


def test_the_published_schema_is_the_one_of_what_is_sent(f2b_digest: Command) -> None:
    """Who reads a webhook's JSON by the package's file, or by what preview prints, reads the same."""
    assert SCHEMA.read_text() == published() == f2b_digest("preview", "--format", "schema").out


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for golden, content in seen().items():
        (GOLDEN / golden).write_bytes(content)
    SCHEMA.write_text(published())
