"""What the environment and the system say of a person: language and time zone. Nothing is printed here."""

from collections.abc import Mapping


def local_zone() -> str:
    """Return the name of the system's time zone."""
    from tzlocal import get_localzone_name

    try:
        return get_localzone_name() or "UTC"
    except Exception:  # tzlocal fails if the machine's settings contradict each other
        import logging

        logging.getLogger(__name__).info("this system's time zone is unclear: UTC", exc_info=True)
        return "UTC"


def local_language(environment: Mapping[str, str]) -> str:
    """Return the first supported language of an environment, in GNU gettext's order; else English.

    English is found without loading a library.
    """
    locale = next(filter(None, map(environment.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "C")
    if locale.partition(".")[0] in ("C", "POSIX"):  # LANGUAGE alone does not count
        return "en"
    wanted = [*filter(None, environment.get("LANGUAGE", "").split(":")), locale]
    if wanted[0].partition("_")[0].partition(".")[0] == "en":
        return "en"
    from f2b_digest.rendering.i18n import SOURCE, language_of

    return next(filter(None, map(language_of, wanted)), SOURCE)
