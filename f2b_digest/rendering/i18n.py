"""A language: its sentences, counts, times and places. No template, no digest, no environment here.

English is in the source; every other language is a catalogue in the folder `locale` beside this file, and what
all programs have in common (names of days, months and countries, separators of numbers) comes from Babel.
"""

import logging
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from math import floor
from pathlib import Path

from babel.core import Locale, negotiate_locale
from babel.lists import format_list
from babel.numbers import format_decimal, format_percent

log = logging.getLogger(__name__)
SOURCE = "en"
FOLDER = Path(__file__).parent / "locale"
CATALOGUE = "f2b-digest.po"
PLACEHOLDER = re.compile(r"%\((\w+)\)s")
"""A placeholder in a sentence."""


class Language:
    """One language. Its methods format values as text, and never raise for a value of their type."""

    def __init__(self, language: str, translations: NullTranslations) -> None:
        """Load a language known to Babel. Raises ValueError or LookupError."""
        self.code = language
        """Of the catalogue: "en", "fr", "pt_BR"."""
        self._translations = translations
        self._locale = Locale.parse(language)
        self._lists = Locale("en", "GB") if language == SOURCE else self._locale  # without a comma before "and"
        # Babel reads a language's file at its first use, when it may be unreadable for this user.
        self.list_of("abc")
        self.number(1.5)

    # ---- sentences

    def gettext(self, message: str) -> str:
        """Return a translated sentence, with its placeholders."""
        return self._translations.gettext(message)

    def pgettext(self, context: str, message: str) -> str:
        """Return the translation of a text in a context."""
        return self._translations.pgettext(context, message)

    def ngettext(self, one: str, many: str, value: float) -> str:
        """Return the plural form of a sentence for a count, with its placeholders."""
        return self._translations.ngettext(one, many, self._whole(value))

    def npgettext(self, context: str, one: str, many: str, value: float) -> str:
        """Return the plural form for a count, in a context."""
        return self._translations.npgettext(context, one, many, self._whole(value))

    def _whole(self, value: float) -> int:
        """Return the count whose plural form a fraction takes: 1.5 is plural in English, singular in French."""
        whole = floor(value)
        return 2 if whole != value and self.code == SOURCE else whole

    def list_of(self, items: Sequence[str]) -> str:
        """Return "a, b and c"; "" for an empty list."""
        return format_list(list(items), locale=self._lists) if items else ""

    # ---- counts

    def number(self, value: float) -> str:
        """Return a number with thousands separated, and three decimals at most: "1,234", "1.5"."""
        return format_decimal(value, locale=self._locale)

    def percent(self, share: float) -> str:
        """Return a change as a signed percentage: "+24%", "0%"."""
        sign = "" if round(100 * share) == 0 else "+" if share > 0 else "\N{MINUS SIGN}"
        return sign + format_percent(abs(round(share, 2)), locale=self._locale)

    def duration(self, seconds: float | None) -> str:
        """Return a time in its two largest units: "1 h 30 min", "2 weeks", "permanent"."""
        if seconds is None or seconds < -1:
            return self.pgettext("ban time", "unknown")
        if seconds == -1:
            return self.pgettext("ban time", "permanent")
        weeks, rest = divmod(seconds, 604800)
        days, rest = divmod(rest, 86400)
        hours, rest = divmod(rest, 3600)
        minutes, rest = divmod(rest, 60)
        parts = [
            (weeks, self.ngettext("%(num)s week", "%(num)s weeks", weeks)),
            (days, self.ngettext("%(num)s day", "%(num)s days", days)),
            (hours, self.gettext("%(num)s h")),
            (minutes, self.gettext("%(num)s min")),
            (rest, self.gettext("%(num)s s")),
        ]
        shown = [(count, text) for count, text in parts if count][:2] or parts[-1:]
        return " ".join(text % {"num": self.number(count)} for count, text in shown)

    # ---- times

    def weekday(self, day: datetime | int) -> str:
        """Return the short name of a day of the week, of a time or of a number from 0 for Monday: "Thu"."""
        index = day if isinstance(day, int) else day.weekday()
        return str(self._locale.days["format"]["abbreviated"][index])

    def day(self, moment: datetime) -> str:
        """Return a date and time for a heading: "Thu 19 Nov 2026 00:00"."""
        return self._said(self.gettext("%(weekday)s %(day)s %(month)s %(year)s %(time)s"), moment)

    def date(self, moment: datetime, beside: datetime | None = None) -> str:
        """Return a date, without its year where that is the year of `beside`: "19 Nov 2026", "19 Nov"."""
        if beside is not None and beside.year == moment.year:
            return self._said(self.gettext("%(day)s %(month)s"), moment)
        return self._said(self.gettext("%(day)s %(month)s %(year)s"), moment)

    def clock(self, moment: datetime, beside: datetime) -> str:
        """Return a time, with its date where that is not the date of `beside`: "23:40", "18 Nov 23:40"."""
        return moment.strftime("%H:%M") if moment.date() == beside.date() else self.moment(moment, beside)

    def moment(self, moment: datetime, beside: datetime) -> str:
        """Return a date and time, without its year where that is the year of `beside`: "18 Nov 23:40"."""
        if moment.year == beside.year:
            return self._said(self.gettext("%(day)s %(month)s %(time)s"), moment)
        return self._said(self.gettext("%(day)s %(month)s %(year)s %(time)s"), moment)

    def span(self, first: datetime, last: datetime, beside: datetime) -> str:
        """Return the first and last time of something, as one time where they are the same minute."""
        start = self.clock(first, beside)
        if first.replace(tzinfo=None, second=0, microsecond=0) == last.replace(tzinfo=None, second=0, microsecond=0):
            return start
        return f"{start} – {self.clock(last, first)}"  # the end with its date only if that is another one

    def _said(self, pattern: str, moment: datetime) -> str:
        return pattern % {
            "weekday": self.weekday(moment),
            "day": moment.day,
            "month": self._locale.months["format"]["abbreviated"][moment.month],
            "year": moment.year,
            "time": moment.strftime("%H:%M"),
        }

    # ---- places

    def territory(self, code: str | None) -> str:
        """Return a country's name for its code of ISO 3166-1; the code itself if unknown."""
        return str(self._locale.territories.get(code.upper(), code)) if code else ""


@cache
def known() -> tuple[str, ...]:
    """Return the supported languages, English first; looked up once, as the folder may be unreadable later."""
    return (SOURCE, *sorted(file.parent.name for file in FOLDER.glob(f"*/{CATALOGUE}")))


def language_of(name: str) -> str | None:
    """Return the supported language for a name like "fr", "fr-CA" or "fr_FR.UTF-8", or None.

    "C", "POSIX" and no name at all mean English, as everywhere in a system.
    """
    if not name:
        return SOURCE
    wanted = re.split(r"[.@]", name)[0].replace("-", "_")
    if wanted in ("C", "POSIX"):
        return SOURCE
    found = negotiate_locale([wanted], known())
    return {language.lower(): language for language in known()}[found.lower()] if found else None


def load_language(name: str) -> Language:
    """Return a language, or English if it is unknown or its catalogue cannot be read."""
    return _load_language(language_of(name) or SOURCE)


@cache
def _load_language(language: str) -> Language:
    if language != SOURCE:
        try:
            return Language(language, _catalogue(language))
        except Exception:  # a broken catalogue must not prevent a digest
            log.warning("language %s cannot be read; using English", language, exc_info=True)
            return _load_language(SOURCE)
    return Language(SOURCE, NullTranslations())


def _catalogue(language: str) -> GNUTranslations:
    """Read a catalogue, without fuzzy entries."""
    from babel.messages.mofile import write_mo  # noqa: PLC0415 - English does without
    from babel.messages.pofile import read_po  # noqa: PLC0415

    compiled = BytesIO()
    with (FOLDER / language / CATALOGUE).open("rb") as file:
        write_mo(compiled, read_po(file, locale=language, abort_invalid=True))
    compiled.seek(0)
    return GNUTranslations(compiled)
