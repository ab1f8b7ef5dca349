"""A language without a letter of English: what stays readable in it is a value, or was never translated."""

import re
from gettext import NullTranslations

from f2b_digest.rendering.i18n import PLACEHOLDER

LATIN = re.compile(r"[A-Za-z]{2,}")


def veiled(text: str) -> str:
    """Return a sentence without a letter of its own: what stays readable is a value or was never translated."""
    parts = PLACEHOLDER.split(text)
    return "".join(f"%({part})s" if number % 2 else re.sub(r"[^\W\d_]", "ж", part) for number, part in enumerate(parts))


class Veiled(NullTranslations):
    """A catalogue in which each sentence is veiled."""

    def gettext(self, message: str) -> str:
        """Return it veiled."""
        return veiled(message)

    def pgettext(self, context: str, message: str) -> str:
        """Return it veiled."""
        return veiled(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """Return it veiled."""
        return veiled(msgid1 if n == 1 else msgid2)

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        """Return it veiled."""
        return veiled(msgid1 if n == 1 else msgid2)
