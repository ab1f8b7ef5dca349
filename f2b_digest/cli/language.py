"""The language in which commands speak to a person: the configured one, else that of the environment.

No sentence stands here. What programs read (JSON, metrics, the log of -v) is English, and does not come by here.
"""

import os
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from f2b_digest.cli.environment import local_language

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from f2b_digest.rendering.i18n import Language

SOURCE = "en"
_chosen: str | None = None


def speak(name: str | None) -> None:
    """Set the language of this process, by its name; None: that of the environment."""
    global _chosen  # noqa: PLW0603 - a process speaks one language, as with setlocale(3)
    _chosen = name


def code() -> str:
    """Return the name of the language. English is recognized without loading a library."""
    return local_language(os.environ) if _chosen is None else _chosen


def language() -> "Language":
    """Load the language; English if its files cannot be read."""
    from f2b_digest.rendering.i18n import load_language

    return load_language(code())


def gettext(message: str, /, **values: Any) -> str:
    """Return a sentence with its values; numbers have their separators."""
    lang = language()
    return lang.gettext(message) % _shown(lang, values)


def pgettext(context: str, message: str, /, **values: Any) -> str:
    """Return a sentence in a context, with its values."""
    lang = language()
    return lang.pgettext(context, message) % _shown(lang, values)


def ngettext(one: str, many: str, count: int, /, **values: Any) -> str:
    """Return a sentence for a count, which is its value `num`."""
    lang = language()
    return lang.ngettext(one, many, count) % _shown(lang, {"num": count, **values})


def _shown(lang: "Language", values: dict[str, Any]) -> dict[str, Any]:
    return {name: lang.number(value) if isinstance(value, (int, float)) else value for name, value in values.items()}


def status(word: str) -> str:
    """Return the status of a delivery."""
    return {
        "sent": partial(pgettext, "delivery", "sent"),
        "pending": partial(pgettext, "delivery", "pending"),
        "deferred": partial(pgettext, "delivery", "deferred"),
        "failed": partial(pgettext, "delivery", "failed"),
    }.get(word, lambda: word)()


def moment(at: float, zone: "ZoneInfo") -> str:
    """Return a time in UTC epoch seconds as a person reads it: "Thu 19 Nov 2026 00:00"."""
    return language().day(datetime.fromtimestamp(at, zone))


def told(text: str) -> str:
    """Return an English line of another room (an error, a finding, a warning) in the language.

    What no catalogue knows stays as it is: names, and what servers and programs said.
    """
    if code() == SOURCE:
        return text
    try:
        from f2b_digest.rendering import spoken

        return spoken.told(language(), text)
    except Exception:  # files that cannot be read any more; the line itself matters more than its language
        import logging

        logging.getLogger(__name__).debug("%r is not translated", text, exc_info=True)
        return text
