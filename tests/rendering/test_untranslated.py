"""No sentence reaches a digest untranslated: digests in a language without a Latin letter are searched for one."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from f2b_digest import resources
from f2b_digest.model.digest import Digest
from f2b_digest.model.document import document
from f2b_digest.model.facts import NotDelivered
from f2b_digest.rendering import environment, recorded, renderer
from f2b_digest.rendering.i18n import Language, load_language
from f2b_digest.rendering.renderer import Renderer
from tests import ROOT
from tests.support import samples
from tests.support.veil import LATIN, Veiled

TEMPLATES = (
    "email/subject.txt", "email/body.txt", "email/body.html", "ntfy/title.txt", "ntfy/message.txt",
    "free-mobile/sms.txt", "syslog/lines.txt",
)  # fmt: skip
COMMANDS = re.compile(
    r"\bAS\b|\bAS(?=\d)|f2b-digest(?: show [\w-]+ --all| history [\w-]+)?"
    r"|fail2ban-client [^\n<]*|IP Geolocation by [^\n<]*"
)
NO_TEXT = re.compile(r"<(style|title)\b.*?</\1>|<!--.*?-->|<[^>]*>|&\w+;", re.DOTALL)
PACKAGE = ROOT / "f2b_digest"
REASONS = (*sorted((PACKAGE / "channels").glob("*.py")), *sorted((PACKAGE / "delivery").glob("*.py")))
NOTES = (
    PACKAGE / "composition/__init__.py",
    PACKAGE / "delivery/__init__.py",
    PACKAGE / "store/geo.py",
    PACKAGE / "errors.py",
)
RAISED = ("DeliveryError", "_Result", "Overdue", "_InDoubt", "Stopped", "OverdueError")
"""What is made of a text that ends as a delivery's reason."""


@pytest.fixture
def veil(monkeypatch: pytest.MonkeyPatch) -> Language:
    """A language whose sentences are masked, with names of days, months and countries in Russian."""
    language = Language("ru", Veiled())
    for module in (environment, renderer):
        monkeypatch.setattr(module, "load_language", lambda name: language)
    return language


def values(of: Any) -> Iterator[str]:
    """Yield every text of a digest, which is no sentence of a template; but what the digest must have translated."""
    if isinstance(of, str):
        yield of
    elif isinstance(of, dict):
        for key, each in of.items():
            if key not in ("reason", "notes", "kind", "verdict", "why", "unit", "status"):
                yield from values(each)
    elif isinstance(of, (list, tuple)):
        for each in of:
            yield from values(each)


def left_in(digest: Digest) -> set[str]:
    """Return the words of a rendered digest that come from no value of it and no command."""
    found = document(digest)
    ours = {word for value in values(found) for word in LATIN.findall(value)} - {digest.report}
    left = set()
    for name, text in Renderer(resources.folder("templates"), language="ru").render(TEMPLATES, found).items():
        words = ours | {digest.report} if name.startswith("syslog/") else ours  # there it is what a log is searched for
        shown = NO_TEXT.sub(" ", text) if name.endswith(".html") else text
        left |= {f"{name}: {word}" for word in LATIN.findall(COMMANDS.sub(" ", shown)) if word not in words}
    return left


def with_our_own_words(digest: Digest) -> Digest:
    """Return a digest whose reasons and notes are all our own sentences, without quotes of others."""
    reason = "given up after 5 days: 192.0.2.1: HTTP status 503: (no output)"
    note = "the analysis failed: a bug in f2b-digest: 7 at 7.7, line 7; please report it"
    return replace(
        digest,
        notes=(note,),
        undelivered=tuple(replace(row, reason=reason) for row in digest.undelivered),
        facts=tuple(replace(fact, reason=reason) if isinstance(fact, NotDelivered) else fact for fact in digest.facts),
    )


def every_digest() -> Iterator[Digest]:
    """Yield digests with every fact, advice, note and reason kind there is."""
    for digest in (samples.telling(), samples.telling_week(), samples.quiet()):
        yield with_our_own_words(digest)
    for fact in samples.every_fact():
        telling = replace(samples.telling(), facts=(fact,), advice=samples.every_advice())
        yield with_our_own_words(telling)


def test_every_sentence_of_a_digest_is_translated(veil: Language) -> None:
    """Of each fact, advice, note and reason; names, addresses and commands are what they are."""
    assert set().union(*map(left_in, every_digest())) == set()


def test_an_untranslated_sentence_is_found(veil: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a template, and in what was written down."""
    digest = replace(with_our_own_words(samples.quiet()), notes=("the dog ate it",))
    assert "email/body.txt: dog" in left_in(digest)
    monkeypatch.setattr(Veiled, "gettext", lambda self, message: message)
    assert "email/body.html: quiet" in left_in(samples.quiet())


# ---- what was written down in English


def written(text: ast.expr) -> str:
    """Return a text of the source, a 7 for each of its values."""
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in text.values)
    return text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""


def reasons_of(file: Path) -> Iterator[str]:
    """Yield the reasons in a module that are string literals."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in RAISED:
            yield from map(written, node.args)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("reason", "hint"):
            yield written(node.value)
        elif isinstance(node, ast.keyword) and node.arg == "notes" and isinstance(node.value, ast.Tuple):
            yield from map(written, node.value.elts)


WORDS_OF_OTHERS = {"sent", "deferred", "failed", "TLS", "Apprise", "ca_file", "f2b", "digest", "resend", "delivery",
                   "ntfy", "AbuseIPDB", "pip", "install", "apprise", "url", "https", "example", "org", "uuid", "ca",
                   "file"}  # fmt: skip


@pytest.mark.parametrize("file", sorted({*REASONS, *NOTES}), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_reason_and_note_is_translated(file: Path) -> None:
    """A new one without a line in recorded.SENTENCES is named here."""
    veiling = Language("ru", Veiled())
    told_of = {reason: recorded.told(veiling, reason) for reason in reasons_of(file) if LATIN.search(reason)}
    left = {reason: told for reason, told in told_of.items() if set(LATIN.findall(told)) - WORDS_OF_OTHERS}
    assert left == {}


@pytest.mark.parametrize(
    ("english", "german", "french"),
    [
        ("ntfy.example.org: HTTP status 507: full", "ntfy.example.org: HTTP-Status 507: full",
         "ntfy.example.org\u00a0: statut HTTP 507\u00a0: full"),
        ("given up after 5 days: 127.0.0.1:25: timed out", "nach 5 Tagen aufgegeben: 127.0.0.1:25: Zeitüberschreitung",
         "abandonné après 5 jours\u00a0: 127.0.0.1:25\u00a0: délai dépassé"),
        ("127.0.0.1:9: Failed to establish a new connection: [Errno 111] Connection refused",
         "127.0.0.1:9: Verbindungsaufbau fehlgeschlagen: [Errno 111] Verbindung abgelehnt",
         "127.0.0.1:9\u00a0: échec de la connexion\u00a0: [Errno 111] connexion refusée"),
        ("mail.example.org:587: RCPT TO: 550 no such user: x", "mail.example.org:587: RCPT TO: 550 no such user: x",
         "mail.example.org:587: RCPT TO: 550 no such user: x"),
    ],
)  # fmt: skip
def test_a_reason_is_told_in_the_language_and_a_servers_words_stay(english: str, german: str, french: str) -> None:
    """Our own part of it is translated; what the server said is quoted."""
    assert recorded.told(load_language("en"), english) == english
    assert recorded.told(load_language("de"), english) == german
    assert recorded.told(load_language("fr"), english) == french


@pytest.mark.parametrize("text", [": " * 400, "a: " * 330, "%(reason)s", "HTTP status %(status)s", "\n: \n", ""])
def test_hostile_words_of_a_server_stay_words(text: str) -> None:
    """And are read in no time."""
    told_it = recorded.told(load_language("de"), text)
    assert told_it == text.replace("HTTP status", "HTTP-Status")


def test_usual_reports_have_names() -> None:
    """An admin's own word for one stays."""
    names = [recorded.report_name(load_language("fr"), name) for name in ("daily", "weekly", "monthly", "office")]
    assert names == ["quotidien", "hebdomadaire", "mensuel", "office"]
