"""What people see of some digests, byte for byte, in tests/golden: read by eye before it was committed; and the schema.

The sample week of the demo as channels send it; and digests in which every section is filled, or none; the fullest
in French too.
"""

import pytest

from tests.support.program import Command
from tests.tools.golden import GOLDEN, SCHEMA, published, seen


@pytest.mark.parametrize("name", sorted(seen()))
def test_what_people_see_is_what_was_looked_at(name: str) -> None:
    """Each form of the sample digest is the one that somebody read."""
    assert seen()[name].decode() == (GOLDEN / name).read_text()


def test_no_golden_file_is_left_over() -> None:
    """A file that nothing makes any more proves nothing."""
    assert {file.name for file in GOLDEN.iterdir() if file.is_file()} == set(seen())


def test_the_published_schema_is_the_one_of_what_is_sent(f2b_digest: Command) -> None:
    """Who reads a webhook's JSON by the package's file, or by what preview prints, reads the same."""
    assert SCHEMA.read_text() == published() == f2b_digest("preview", "--format", "schema").out
