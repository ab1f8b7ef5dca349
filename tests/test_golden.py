"""What people see of the sample week, byte for byte, in tests/golden: read by eye before it was committed.

`python -m tests.test_golden` writes the files anew; look at the difference before you commit it.
"""

import json
from pathlib import Path

import pytest

from f2b_digest import delivery, places
from f2b_digest.channels import KINDS
from f2b_digest.digest import schema, to_json
from f2b_digest.message import Stamp
from f2b_digest.render import Renderer
from tests.readme import sample_digest

GOLDEN = Path(__file__).parent / "golden"
CHANNELS = (
    KINDS["email"].model_validate({"kind": "email", "from": "f2b@web1.example.org", "to": ["admin@example.org"]}),
    KINDS["ntfy"].model_validate({"kind": "ntfy", "url": "https://ntfy.example.org", "topic": "web1", "tags": ["x"]}),
)


def seen() -> dict[str, bytes]:
    """Return every rendered template of the sample digest, the notification as it is published, and the JSON."""
    digest, renderer = sample_digest(), Renderer(places.folder("templates"))
    files = {
        "digest.json": to_json(digest, indent=2).encode(),
        "digest.schema.json": json.dumps(schema(), indent=2).encode(),
    }
    for channel in CHANNELS:
        stamp = Stamp("0" * 32, "weekly", "golden", digest.host, digest.end.timestamp(), digest.totals.bans)
        parts, _ = delivery.fit(channel.templates, digest, renderer, lambda parts: channel.fits(parts, stamp))
        files |= {name.replace("/", "-"): text.encode() for name, text in parts.items()}
        files[f"{channel.kind}.message"] = channel.pack(parts, stamp)
    return files


@pytest.mark.parametrize("name", sorted(seen()))
def test_what_people_see_is_what_was_looked_at(name: str) -> None:
    """Each form of the sample digest is the one that somebody read."""
    assert seen()[name].decode() == (GOLDEN / name).read_text()


def test_no_golden_file_is_left_over() -> None:
    """A file that nothing makes any more proves nothing."""
    assert {file.name for file in GOLDEN.iterdir()} == set(seen())


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for golden, content in seen().items():
        (GOLDEN / golden).write_bytes(content)
