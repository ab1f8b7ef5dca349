"""Sentences of errors, warnings and findings, which all rooms say in English and a command prints in its language.

They are listed by what says them; a test finds those that are missing. Nothing is printed here.
"""

from f2b_digest.rendering import recorded
from f2b_digest.rendering.i18n import Language
from f2b_digest.rendering.phrasebook import Phrasebook
from f2b_digest.rendering.spoken import checks, commands, configuring, installing

_KNOWN = Phrasebook(
    (*commands.SENTENCES, *checks.SENTENCES, *installing.SENTENCES, *configuring.SENTENCES, *recorded.SENTENCES)
)


def told(language: Language, text: str) -> str:
    """Translate a line that a command prints; names and the words of servers and programs stay."""
    return _KNOWN.told(language, text)
