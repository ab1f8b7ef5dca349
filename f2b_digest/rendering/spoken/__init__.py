"""Sentences of errors, warnings and findings, which all rooms say in English and a command prints in its language.

They are listed by what says them; a test finds those that are missing. Nothing is printed here.
"""

from f2b_digest.rendering import recorded
from f2b_digest.rendering.i18n import Language
from f2b_digest.rendering.phrasebook import Phrasebook
from f2b_digest.rendering.spoken import checks, commands, configuring, fleets, installing

_MODULES = (commands, checks, fleets, installing, configuring, recorded)
_KNOWN = Phrasebook(sentence for module in _MODULES for sentence in module.SENTENCES)


def told(language: Language, text: str) -> str:
    """Translate a line that a command prints; its indent, names and the words of servers and programs stay."""
    found, line = _KNOWN.told(language, text), text.lstrip(" ")
    return found if found != text or line == text else text[: len(text) - len(line)] + _KNOWN.told(language, line)
