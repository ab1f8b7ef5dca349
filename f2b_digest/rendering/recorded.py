"""Translation of texts stored in English: reasons of failed deliveries, notes of a digest, names of reports.

The output of servers and programs is not translated. Nothing is stored or rendered here.
"""

from f2b_digest.rendering.i18n import Language
from f2b_digest.rendering.phrasebook import N_, Phrasebook

REPORTS = {"daily": N_("daily"), "weekly": N_("weekly"), "monthly": N_("monthly"), "hourly": N_("hourly")}
"""Usual names of reports; any other is the admin's own."""
SENTENCES = (
    # ---- deliveries
    N_("given up after %(days)s days: %(reason)s"),
    N_("channel %(channel)s is no longer in the configuration"),
    N_("%(reason)s; if you changed the channel, `%(command)s`"),
    N_("row %(row)s of the store's table delivery"),
    N_("malformed message identity"),
    N_("not an Apprise message"),
    N_("%(recipient)s is not a valid address"),
    N_("%(taken)s of %(rows)s rows reported, then %(reason)s"),
    N_("timed out after %(seconds)s s"),
    N_("killed by signal %(signal)s"),
    N_("ended without a result"),
    N_("result exceeds %(size)s MB"),
    N_("exit status %(status)s"),
    N_("no such program, or not executable by this user"),
    N_("not writable by this user"),
    N_("no space left for a complete digest"),
    # ---- servers
    N_("HTTP status %(status)s"),
    N_("(no output)"),
    N_("not HTTP"),
    N_("not an HTTP response (%(kind)s)"),
    N_("the response was truncated"),
    N_("certificate refused"),
    N_("HTTP 200, but not an ntfy response: is this an ntfy server?"),
    N_("HTTP 200, but not an AbuseIPDB response: check the url"),
    N_("HTTP 200, but a web page: is this the Free Mobile API?"),
    N_("%(url)s redirects (%(status)s): set url to the final address"),
    N_("not an ntfy response: is this an ntfy server?"),
    N_("token or user refused (%(status)s)"),
    N_("check the token or user, and its access to topic %(topic)s"),
    N_("%(words)s (ntfy code %(code)s)"),
    N_("a parameter is missing"),
    N_("too many SMS in a short time"),
    N_("service not enabled, or wrong user or key: see Options, SMS notifications in the subscriber account"),
    N_("server error"),
    N_("no reply after the end of the message, which may have arrived"),
    N_("malformed SMTP reply"),
    N_("reply exceeds %(size)s KiB"),
    N_("%(reason)s (the server must offer STARTTLS, or use smtps://)"),
    N_("%(reason)s (it offers no login)"),
    N_("user and password must be ASCII"),
    N_("the URL must look like https://example.org/uuid"),
    N_("Apprise is missing: %(command)s"),
    # ---- secrets and certificates
    N_("the token or password contains a line break or control character"),
    N_("%(place)s contains a line break or control character"),
    N_("the %(name)s contains a non-ASCII character"),
    N_("contains no PEM certificate"),
    N_("the url must not contain credentials: use user and password, or token"),
    N_("the url must name the host in ASCII (xn--…)"),
    N_("the url %(reason)s"),
    # ---- notes
    N_("%(reason)s; the built-in template was used"),
    N_("%(reason)s; the digest was sent as JSON"),
    N_("no such template"),
    N_("needs more than %(size)s MB of memory"),
    N_("output exceeds %(size)s characters"),
    N_("the analysis failed: %(reason)s"),
    N_("a bug in f2b-digest: %(kind)s at %(place)s, line %(line)s; please report it"),
    N_("%(source)s lookup failed: %(kind)s"),
    N_("This is a test message of `f2b-digest check --send`: it reports no bans and marks nothing as reported."),
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


def report_name(language: Language, name: str) -> str:
    """Return a report's translated name; unchanged if it is the admin's own."""
    return language.gettext(REPORTS[name]) if name in REPORTS else name


def told(language: Language, text: str) -> str:
    """Translate a reason or note: whole sentences, and the parts of "place: reason: output"."""
    return _KNOWN.told(language, text)


_KNOWN = Phrasebook(SENTENCES)
