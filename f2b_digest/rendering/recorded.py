"""Why a delivery failed, notes of a digest, names of reports: stored in English, told in a reader's language here.

What a server or a program said stays as it is. Nothing is stored or rendered here.
"""

import re
from functools import cache

from f2b_digest.rendering.i18n import PLACEHOLDER, SOURCE, Language


def N_(message: str) -> str:  # noqa: N802 - gettext's name for "translated later"
    """Mark a sentence for the catalogues."""
    return message


REPORTS = {"daily": N_("daily"), "weekly": N_("weekly"), "monthly": N_("monthly"), "hourly": N_("hourly")}
"""Usual names of reports; any other is the admin's own word."""
SENTENCES = (
    # ---- deliveries
    N_("given up after %(days)s days: %(reason)s"),
    N_("there is no channel %(channel)s in the configuration any more"),
    N_("%(reason)s; if you changed the channel, `%(command)s`"),
    N_("row %(row)s of the store's table delivery"),
    N_("its identity is none that is ever made here"),
    N_("its message is no notification"),
    N_("its recipient %(recipient)s is no address"),
    N_("%(taken)s of %(rows)s rows reported, then %(reason)s"),
    N_("no end after %(seconds)s s"),
    N_("killed by signal %(signal)s"),
    N_("ended without a result"),
    N_("a result of more than %(size)s MB"),
    N_("exit status %(status)s"),
    N_("there is no such program that this user can run"),
    N_("this user cannot write there"),
    N_("no space for a whole digest"),
    # ---- servers
    N_("HTTP status %(status)s"),
    N_("(it said nothing)"),
    N_("no HTTP"),
    N_("no HTTP answer (%(kind)s)"),
    N_("the answer was cut"),
    N_("certificate refused"),
    N_("%(url)s answered 200, but not as ntfy does: is it an ntfy server?"),
    N_("%(url)s answered 200, but not as AbuseIPDB does"),
    N_("%(url)s answered 200, but with a web page: is it Free Mobile's service?"),
    N_("%(url)s redirects elsewhere (%(status)s): set url to where it leads"),
    N_("%(url)s does not answer as ntfy does: is it one?"),
    N_("refuses the token or the user (%(status)s)"),
    N_("check the token or the user, and its access to topic %(topic)s"),
    N_("%(words)s (ntfy code %(code)s)"),
    N_("a parameter is missing"),
    N_("too many SMS in too little time"),
    N_("the service is not enabled, or user or key is wrong: see the subscriber's page, options, SMS notifications"),
    N_("the service has an error"),
    N_("no answer to the end of the message, which may have arrived"),
    N_("the server's answer was no answer"),
    N_("a reply of more than %(size)s KiB"),
    N_("%(reason)s (the server must offer STARTTLS, or use smtps://)"),
    N_("%(reason)s (it knows no login)"),
    N_("user and password must be ASCII: smtplib sends no others"),
    N_("its URL is none like https://example.org/uuid"),
    N_("Apprise is missing: %(command)s"),
    # ---- secrets and certificates
    N_("the token or password holds a line end or a control character"),
    N_("%(place)s holds a line end or a control character"),
    N_("the %(name)s holds a character that is not ASCII"),
    N_("holds no certificate in PEM"),
    N_("the url holds a user: put it into user and password, or token"),
    N_("the url must name the host in ASCII (xn--…)"),
    N_("the url %(reason)s"),
    # ---- notes
    N_("%(reason)s; the built-in template was used"),
    N_("%(reason)s; the digest was sent as JSON"),
    N_("there is no such template"),
    N_("needs more than %(size)s MB of memory"),
    N_("makes a text of more than %(size)s characters"),
    N_("nothing was judged: %(reason)s"),
    N_("a bug in f2b-digest: %(kind)s at %(place)s, line %(line)s; please report it"),
    N_("%(source)s could not be asked where addresses are: %(kind)s"),
    N_("This is a test message of `f2b-digest check --send`: it tells of no ban, and nothing was marked."),
    # ---- what the system says most often
    N_("[Errno %(number)s] %(reason)s"),
    N_("Failed to establish a new connection"),
    N_("Failed to resolve %(host)s (%(reason)s)"),
    N_("Connection to %(host)s timed out. (connect timeout=%(seconds)s)"),
    N_("Read timed out. (read timeout=%(seconds)s)"),
    N_("Connection refused"),
    N_("Connection timed out"),
    N_("timed out"),
    N_("Connection reset by peer"),
    N_("No route to host"),
    N_("Network is unreachable"),
    N_("Name or service not known"),
    N_("Temporary failure in name resolution"),
    N_("No space left on device"),
    N_("Read-only file system"),
    N_("Disk quota exceeded"),
    N_("Permission denied"),
    N_("No such file or directory"),
    N_("certificate has expired"),
    N_("self-signed certificate"),
    N_("unable to get local issuer certificate"),
)
INNER = ("reason", "words")
"""Places of values that may be such texts themselves."""
DEEPEST = 8
"""A text of more parts than this is none of ours."""
LONGEST = 1000
"""Characters; neither is one that is longer."""


def report_name(language: Language, name: str) -> str:
    """Return what a report is called for people; its name where that is the admin's own."""
    return language.gettext(REPORTS[name]) if name in REPORTS else name


def told(language: Language, text: str, deep: int = 0) -> str:
    """Return a reason or note in a language: whole sentences, and the parts of "place: reason: what was said"."""
    if language.code == SOURCE or deep > DEEPEST or len(text) > LONGEST:
        return text
    for sentence, pattern in _patterns():
        found = pattern.fullmatch(text)
        if found:
            values = {
                name: told(language, value, deep + 1) if name in INNER else value
                for name, value in found.groupdict().items()
            }
            return language.gettext(sentence) % values
    head, colon, tail = text.partition(": ")
    if not colon:
        return text
    parts = told(language, head, deep + 1), told(language, tail, deep + 1)
    return text if parts == (head, tail) else f"{parts[0]}{language.gettext(':')} {parts[1]}"


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((sentence, _pattern(sentence)) for sentence in SENTENCES)


def _pattern(sentence: str) -> re.Pattern[str]:
    parts = PLACEHOLDER.split(sentence)
    return re.compile("".join(
        f"(?P<{part}>{'.+?' if part in INNER else '(?:(?!: ).)+?'})" if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    ))  # fmt: skip
