"""Resolves which archived digest is meant: by number, report, day, or the last one. Nothing is printed here."""

from collections.abc import Sequence

import click

from f2b_digest.cli import language, times
from f2b_digest.cli.program import complain, zone_of
from f2b_digest.config import Configuration
from f2b_digest.errors import F2bDigestError, hint
from f2b_digest.store import Outbox, Sealed

LAST = "last"
_ALL = "see `f2b-digest history`"


def meant(configuration: Configuration, store: Outbox, words: Sequence[str], now: float) -> Sealed:
    """Return the digest named by some words; of several, the newest.

    Raises F2bDigestError if there is none, and click's UsageError for invalid words.
    """
    digests = store.digests()
    for word in words or (LAST,):
        digests = _narrowed(configuration, digests, word, now)
        if not digests:
            raise F2bDigestError(f"no digest {' '.join(words or (LAST,))} is stored; {_ALL}")
    if len(digests) > 1 and _names_a_day(configuration, words, now):
        others = ", ".join(f"{each.id} ({each.report})" for each in digests[1:9])
        complain(f"this is digest {digests[0].id} ({digests[0].report}); of the same day: {others}")
    return digests[0]


def _narrowed(configuration: Configuration, digests: list[Sealed], word: str, now: float) -> list[Sealed]:
    """Return the digests that match a word, the newest first."""
    if word.isdecimal():
        return [each for each in digests if str(each.id) == word.lstrip("0")]
    if word == LAST:
        return digests[:1]
    reports = {**dict.fromkeys(configuration.reports), **dict.fromkeys(each.report for each in digests)}
    if word in reports:
        return [each for each in digests if each.report == word]
    found = [each for each in digests if _is_of(configuration, each, word, now)]
    if not found and not _is_day(word, now, configuration):
        known = hint("there is", reports, word)
        raise click.UsageError(
            f"{word!r} is not a digest number, report ({known}) or day (e.g. 2026-11-17, yesterday, monday)"
        )
    return found


def _is_of(configuration: Configuration, digest: Sealed, word: str, now: float) -> bool:
    """Return whether a digest was sealed on a day, in its report's zone."""
    day = times.day_of(word, now, zone_of(configuration, digest.report))
    return day is not None and day.start <= digest.sealed_at < day.end


def _is_day(word: str, now: float, configuration: Configuration) -> bool:
    return times.day_of(word, now, configuration.timezone) is not None


def _names_a_day(configuration: Configuration, words: Sequence[str], now: float) -> bool:
    return LAST not in words and any(_is_day(word, now, configuration) for word in words)


def said(at: float, configuration: Configuration, report: str) -> str:
    """Return a time in a report's zone."""
    return language.moment(at, zone_of(configuration, report))
