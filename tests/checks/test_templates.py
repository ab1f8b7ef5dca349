"""`check` renders every configured template: anything that would fail in a digest is an error with its name."""

from pathlib import Path

import pytest

from f2b_digest import resources
from f2b_digest.checks.sample import digests
from f2b_digest.model.document import document
from f2b_digest.rendering import renderer
from f2b_digest.rendering.i18n import known
from f2b_digest.rendering.renderer import Renderer
from tests.support.program import Command

TEMPLATES = resources.folder("templates")
BUILT_IN = sorted(
    file.relative_to(TEMPLATES).as_posix() for file in TEMPLATES.glob("*/*") if file.parent.name != "terminal"
)  # those of find get an answer, not a digest
HOOK = 'kind = "webhook"\nurl = "http://127.0.0.1:9/"\n'


def told(f2b_digest: Command, config: Path, state: str = "error") -> list[str]:
    """Return what `check` says of the templates."""
    lines = [line.partition(" ") for line in f2b_digest("--config", config, "check").out.splitlines()]
    return [rest.strip() for word, _, rest in lines if word == state and rest.strip().startswith("templates: ")]


MACROS = {"shared/facts.txt", "shared/hosts.txt", "shared/words.txt"}
"""Templates that print nothing: others import them."""


@pytest.fixture
def own(tmp_path: Path, config: Path) -> Path:
    """Provide the folder of templates that the configuration names."""
    config.write_text('templates = "own"\n' + config.read_text())
    (tmp_path / "own/email").mkdir(parents=True)
    return tmp_path / "own"


@pytest.mark.parametrize("language", known())
@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_built_in_template_shows_the_made_up_digests(language: str, number: int) -> None:
    """Otherwise every admin would see our errors; the first sample fills every part of a digest."""
    digest = digests("daily", "web1")[number]
    parts = Renderer(TEMPLATES, language=language).render(BUILT_IN, document(digest))
    assert {name for name, text in parts.items() if not text} <= MACROS
    if number == 0:
        empty = [key for key, value in document(digest).items() if value in (None, (), [], {}, "")]
        assert empty == []
        assert {fact.kind for fact in digest.facts} >= {"own", "silent", "late", "surge", "campaign", "first"}


def test_without_templates_of_ones_own_all_is_well(f2b_digest: Command, config: Path) -> None:
    """One line."""
    assert told(f2b_digest, config) == []
    assert len(told(f2b_digest, config, "ok")) == 1


def test_a_webhook_s_template_that_is_not_there(f2b_digest: Command, config: Path) -> None:
    """Named, with what may have been meant; and what is sent meanwhile."""
    config.write_text(config.read_text() + f'[channels.chat]\n{HOOK}template = "slak.json"\n')
    (line,) = told(f2b_digest, config)
    assert "template webhook/slak.json: no such template (did you mean webhook/slack.json?)" in line
    assert "the digest was sent as JSON" in line


@pytest.mark.parametrize("of", ["", "[reports.daily]\n"])
def test_a_folder_that_is_not_there(f2b_digest: Command, config: Path, of: str) -> None:
    """The configuration's or a report's; once."""
    line = 'templates = "nowhere"\n'
    text = config.read_text()
    config.write_text(text.replace(of, of + line) if of else line + text)
    (told_line,) = told(f2b_digest, config)
    assert f"folder {config.parent / 'nowhere'}: No such file or directory" in told_line


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"{{ no_such_name }}", "'no_such_name' is undefined"),
        (b"one\n{% if %}", "line 2"),
        (b"r\xe9sum\xe9", "line 1 is not UTF-8"),
        (b"{{ facts[0].kind }}", "no element 0"),  # on a quiet day
        (b"{% for jail in jails %}{{ jail.usual + 1 }}{% endfor %}", "NoneType"),  # in the first weeks
        (b"{% for fact in facts %}{{ fact.jail }}{% endfor %}", "has no attribute 'jail'"),
        (b"{{ 1 | round(-999999999) }}", "timed out after 2 s"),
    ],
)
def test_a_template_that_breaks_on_some_day(
    f2b_digest: Command, config: Path, own: Path, source: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether on a day with everything, with nothing known, or with nothing at all: one line, before it happens."""
    monkeypatch.setattr(renderer, "RENDERING", 2.0)
    (own / "email/body.txt").write_bytes(source)
    (line,) = told(f2b_digest, config)
    assert "email/body.txt" in line
    assert words in line
    assert line.endswith("the built-in template was used (fix it, or the built-in template is used)")


def test_each_report_is_tried_with_its_own_folder_and_language(f2b_digest: Command, config: Path, own: Path) -> None:
    """A fault that only French meets, and one in the templates of one report."""
    text = config.read_text()
    config.write_text(text + '[reports.weekly]\nchannels = ["out"]\nlanguage = "fr"\ntemplates = "weekly"\n')
    (own / "email/subject.txt").write_text("{% if language == 'fr' %}{{ nul }}{% endif %}{{ host }}")
    (config.parent / "weekly/email").mkdir(parents=True)
    (config.parent / "weekly/email/body.txt").write_text("{{ nothing }}")
    names = [line.partition("UndefinedError: ")[2].partition(" is")[0] for line in told(f2b_digest, config)]
    assert sorted(names) == ["'nothing'", "'nul'"]


def test_a_file_that_nothing_uses_is_a_warning(f2b_digest: Command, config: Path, own: Path) -> None:
    """A typo in its name; included templates count as used."""
    (own / "email/boddy.txt").write_text("Mine")
    (own / "part.txt").write_text("A part")
    (own / "email/body.txt").write_text("{% include 'part.txt' %}")
    (line,) = told(f2b_digest, config, "warning")
    assert f"{own / 'email/boddy.txt'} is not used by any channel (did you mean email/body.txt?)" in line
    assert told(f2b_digest, config, "ok") == ["templates: 3 custom and the built-in ones, rendered with sample digests"]
