"""The catalogues of f2b_digest/rendering/locale, held beside what templates and code say.

`python -m tests.tools.catalogues` adds new sentences to each catalogue, untranslated, and drops those no longer used;
`python -m tests.tools.catalogues de` creates one. Prints what is missing or wrong.
"""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from f2b_digest import cli, resources
from f2b_digest.rendering import i18n, recorded, spoken

OPTIONS = {"trim_blocks": "true", "lstrip_blocks": "true", "keep_trailing_newline": "true", "silent": "false",
           "newstyle_gettext": "true"}  # fmt: skip
"""As in f2b_digest.rendering.renderer: white space is a part of a sentence."""
HEAD = """msgid ""
msgstr ""
"Project-Id-Version: f2b-digest\\n"
"Language: %s\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: %s\\n"

"""
TEMPLATES = resources.folder("templates")
CODE = (
    Path(i18n.__file__), Path(recorded.__file__), *sorted(Path(spoken.__file__).parent.glob("*.py")),
    *sorted(Path(cli.__file__).parent.rglob("*.py")),
)  # fmt: skip
PERCENT = re.compile(r"%(?!%|\(\w+\)s)(?<!%%)")
"""A percent sign that is no place for a value, and not doubled."""


def said(templates: Path = TEMPLATES) -> Catalog:
    """Return every sentence of the templates and of `CODE`, in English, with the files that say it."""
    catalogue = Catalog(project="f2b-digest")
    for file in (*sorted(file for file in templates.rglob("*") if file.is_file()), *CODE):
        method: Any = "python" if file in CODE else babel_extract
        with file.open("rb") as source:
            for _, sentence, comments, context in extract(method, source, DEFAULT_KEYWORDS, ["NOTE:"], OPTIONS):
                place = f"{file.parent.name}/{file.name}"
                catalogue.add(sentence, locations=[(place, 0)], auto_comments=comments, context=context)
    return catalogue


def read(language: str) -> Catalog:
    """Return a language's catalogue."""
    with (i18n.FOLDER / language / i18n.CATALOGUE).open("rb") as file:
        return read_po(file, locale=language)


def updated(language: str, source: Catalog) -> str:
    """Return a catalogue's file with the sentences of `source`, and the translations that it has of them."""
    catalogue, file = read(language), io.BytesIO()
    catalogue.update(source, no_fuzzy_matching=True)
    write_po(file, catalogue, width=100, omit_header=True, ignore_obsolete=True, include_lineno=False)
    head = (i18n.FOLDER / language / i18n.CATALOGUE).read_text(encoding="utf-8").partition("\n\n")[0]
    return f"{head.rstrip()}\n\n{file.getvalue().decode().strip()}\n"


def faults(catalogue: Catalog, source: Catalog) -> Iterator[str]:
    """Say what a catalogue lacks, has too much, or has wrong."""
    for message in source:
        if message.id and not _is_translated(catalogue.get(_key(message), message.context)):
            yield f"missing: {_key(message)}"
    for message in catalogue:
        if not message.id:
            continue
        if message.fuzzy:
            yield f"fuzzy: {_key(message)}"
        if source.get(_key(message), message.context) is None:
            yield f"nobody says it: {_key(message)}"
        places_of = [set(i18n.PLACEHOLDER.findall(text)) for text in _texts(message.id)]
        for text in (*_texts(message.id), *filter(None, _texts(message.string))):
            if set(i18n.PLACEHOLDER.findall(text)) not in places_of or PERCENT.search(text.replace("%%", "")):
                yield f"other places for values: {text}"
        if message.pluralizable and len(_texts(message.string)) != catalogue.num_plurals:
            yield f"not {catalogue.num_plurals} forms: {_key(message)}"


def _key(message: Message) -> str:
    return _texts(message.id)[0]


def _texts(text: object) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text) if isinstance(text, (list, tuple)) else ()


def _is_translated(message: Message | None) -> bool:
    return message is not None and bool(message.string) and all(_texts(message.string))


def main(new: list[str]) -> None:
    """Update the catalogues, and make the new ones."""
    source = said()
    for language in new:
        file = i18n.FOLDER / language / i18n.CATALOGUE
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            file.write_text(HEAD % (language, Catalog(language).plural_forms), encoding="utf-8")
    for language in i18n.known()[1:]:
        text = updated(language, source)
        (i18n.FOLDER / language / i18n.CATALOGUE).write_text(text, encoding="utf-8")
        for fault in faults(read(language), source):
            print(f"{language}: {fault}")  # noqa: T201 - what it is for


if __name__ == "__main__":
    main(sys.argv[1:])
