"""Recognizing English sentences, to say them in another language. No sentence stands here, and nothing is rendered."""

import re
from collections.abc import Iterable
from functools import cached_property

from f2b_digest.rendering.i18n import PLACEHOLDER, SOURCE, Language

INNER = frozenset({"reason", "words", "ago", "due", "rest"})
"""Placeholders whose values may be sentences themselves."""
NUMBER = r"\d[\d,]*(?:\.\d+)?"
FORMS = {"num": NUMBER, "date": r"\d{4}-\d\d-\d\d"}
"""Placeholders whose values have a form."""
VALUE = """(?:'[^']*'|"[^"]*"|(?:(?!: ).)+?)"""
"""Any other value: a text in quotes, or without ": "."""
DEEPEST = 8
"""Maximum nesting depth."""
LONGEST = 1000
"""Maximum length in characters."""


def N_(message: str) -> str:  # noqa: N802 - gettext's name for "translated later"
    """Mark a sentence for the catalogues."""
    return message


class Phrasebook:
    """Sentences with placeholders, which are recognized in a text by what stands around these."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self._sentences = tuple(dict.fromkeys(sentences))

    @cached_property
    def _entries(self) -> tuple["_Entry", ...]:
        """The sentences, those that fix most of a text first."""
        return tuple(sorted(map(_Entry, self._sentences), key=lambda entry: -entry.fixed))

    def told(self, language: Language, text: str, deep: int = 0) -> str:
        """Translate a text: whole sentences, and the parts of "place: reason: output".

        What is no known sentence stays as it is: names, and the words of servers and programs.
        """
        if language.code == SOURCE or deep > DEEPEST or len(text) > LONGEST:
            return text
        for entry in self._entries:
            values = entry.values_in(text)
            if values is not None:
                shown = {name: self._value(language, name, value, deep + 1) for name, value in values.items()}
                return language.gettext(entry.sentence) % shown
        head, colon, tail = text.partition(": ")
        if not colon:
            return text
        parts = self.told(language, head, deep + 1), self.told(language, tail, deep + 1)
        return text if parts == (head, tail) else f"{parts[0]}{language.gettext(':')} {parts[1]}"

    def _value(self, language: Language, name: str, value: str, deep: int) -> str:
        if name in ("num", "size") and re.fullmatch(NUMBER, value):
            return language.number(float(value.replace(",", "")))
        return self.told(language, value, deep) if name in INNER else value


class _Entry:
    """A sentence, and the pattern that finds its values; it is compiled when the rest of the sentence is there."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self._parts = PLACEHOLDER.split(sentence)
        self._around = [part for part in self._parts[::2] if part]
        self.fixed = sum(map(len, self._around))

    def values_in(self, text: str) -> dict[str, str] | None:
        """Return the values of the placeholders if the text is this sentence, else None."""
        if len(self._parts) == 1:
            return {} if text == self.sentence else None
        if not all(part in text for part in self._around):
            return None
        found = self._pattern.fullmatch(text)
        return found.groupdict() if found else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(
            f"(?P<{part}>{FORMS.get(part) or ('.+?' if part in INNER else VALUE)})"
            if number % 2 else re.escape(part)
            for number, part in enumerate(self._parts)
        ))  # fmt: skip
