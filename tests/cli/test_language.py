"""Commands speak the configured language, or that of the environment, and no English sentence is left in it."""

import ast
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from f2b_digest.cli import COMMANDS, language
from f2b_digest.config.mistakes import PLAIN
from f2b_digest.rendering import spoken
from f2b_digest.rendering.i18n import Language, load_language
from f2b_digest.rendering.phrasebook import LONGEST, Phrasebook
from tests import ROOT
from tests.support.program import Command, program
from tests.support.veil import LATIN, Veiled

PACKAGE = ROOT / "f2b_digest"
SAYING = frozenset({"complain", "say", "ok", "warning", "error", "Health", "working", "confirm", "agreed", "prompt"})
"""Functions whose text a person reads; and every exception's."""
NO_PERSON_READS = frozenset({
    "AttributeError", "SecurityError", "_UnknownError", "ProtocolError", "TypeError", "AssertionError", "HelpError",
})  # fmt: skip
SILENT = ("rendering/filters.py", "rendering/renderer.py", "isolation.py", "cli/reference.py")
"""Modules that other programs load, or whose errors become a line of another module's."""
LISTED = re.compile(r"(?:tally\.)?(?:mistakes|todo|notes|lines|torn)\.append")
YIELDING = ("cli/trouble.py", "cli/fleet/listing.py", "checks/templates.py")
"""Modules that yield lines as they are printed."""
MOST = 64
"""Alternatives of one text that are looked at."""
VALUE = "7"


VEIL = Language("ru", Veiled())


def alternatives(expression: ast.expr | None, known: dict[str, list[ast.expr]], deep: int = 0) -> list[str]:
    """Return the texts that an expression can be, a 7 for each value."""
    if deep > 6:
        return [VALUE]
    if isinstance(expression, ast.Constant):
        return [expression.value] if isinstance(expression.value, str) else [VALUE]
    if isinstance(expression, ast.JoinedStr):
        parts = [alternatives(part, known, deep + 1) for part in expression.values]
        return ["".join(each) for each in itertools.islice(itertools.product(*parts), MOST)]
    if isinstance(expression, ast.FormattedValue):
        form = expression.format_spec
        if form and "%Y" in ast.unparse(form):
            return ["2026-11-17"]
        return alternatives(expression.value, known, deep + 1)
    if isinstance(expression, ast.IfExp):
        return [*alternatives(expression.body, known, deep + 1), *alternatives(expression.orelse, known, deep + 1)]
    if isinstance(expression, ast.BoolOp) and isinstance(expression.op, ast.And):
        return ["", *alternatives(expression.values[-1], known, deep + 1)]
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Mult):
        return ["", *alternatives(expression.left, known, deep + 1)]
    if isinstance(expression, ast.BoolOp):
        found = [text for each in expression.values for text in alternatives(each, known, deep + 1)]
        return [text for text in found if text != VALUE] or [VALUE]
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        sides = alternatives(expression.left, known, deep + 1), alternatives(expression.right, known, deep + 1)
        return ["".join(each) for each in itertools.islice(itertools.product(*sides), MOST)]
    if isinstance(expression, ast.Name):
        found = [text for each in known.get(expression.id, ()) for text in alternatives(each, known, deep + 1)]
        return found[:MOST] or [VALUE]
    if isinstance(expression, ast.List | ast.Tuple):
        return [text for each in expression.elts for text in alternatives(each, known, deep + 1)]
    if isinstance(expression, ast.ListComp):
        return alternatives(expression.elt, known, deep + 1)
    if isinstance(expression, ast.Call):
        return called(expression, known, deep)
    return [VALUE]


def called(call: ast.Call, known: dict[str, list[ast.expr]], deep: int) -> list[str]:
    """Return what the functions give that count, and that guess what was meant."""
    name = name_of(call)
    if name == "plural":
        return [f"{VALUE} {text}" for each in call.args[1:] for text in alternatives(each, known, deep + 1)]
    if name == "hint":
        return [f"did you mean {VALUE}?", *(f"{text}: {VALUE}" for text in alternatives(call.args[0], known, deep + 1))]
    if name in ("ago", "_ago"):
        return ["7 days ago", "1 hour ago", "a moment ago"]
    if name == "due":
        return ["daily", "every 7 h"]
    if name == "format" and isinstance(call.func, ast.Attribute):
        return [text.replace("{}", VALUE) for text in alternatives(call.func.value, known, deep + 1)]
    if name in known and name not in ("told", "visible"):  # a function of the same module
        return [text for each in known[name] for text in alternatives(each, known, deep + 1) if text][:MOST]
    if name == "explain":
        return [f"{VALUE}: {text}" for text in alternatives(call.args[1], known, deep + 1)]
    return [VALUE]


def name_of(call: ast.Call) -> str:
    """Return the name of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_said(call: ast.Call) -> bool:
    """Return whether a person reads the text of a call."""
    name = name_of(call)
    if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("log", "logger", "logging"):
        return False
    return name in SAYING or (
        name.endswith(("Error", "ForeignStore", "NotStored", "NoFolder")) and name not in NO_PERSON_READS
    )


def assigned(scope: ast.AST) -> dict[str, list[ast.expr]]:
    """Return what each name of a function, or of a module, may stand for."""
    known: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name):
                known.setdefault(target.id, []).append(node.value)
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=False)
                for name, value in pairs:
                    known.setdefault(getattr(name, "id", ""), []).append(value)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
            for item in node.iter.elts:
                names = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
                items = item.elts if isinstance(item, ast.Tuple) else [item]
                for name, value in zip(names, items, strict=False):
                    known.setdefault(getattr(name, "id", ""), []).append(value)
    return known


def said_by(file: Path) -> Iterator[str]:
    """Yield every text of a module that a command may print."""
    module, yields = ast.parse(file.read_text()), str(file).endswith(YIELDING)
    of_module = assigned(ast.Module([node for node in module.body if isinstance(node, ast.Assign)], []))
    for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
        returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
        of_module.setdefault(function.name, []).extend(returned)
    for scope in ast.walk(module):
        if not isinstance(scope, ast.FunctionDef):
            continue
        known = of_module | assigned(scope)
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and is_said(node):
                for argument in (*node.args, *(word.value for word in node.keywords if word.arg == "todo")):
                    yield from alternatives(argument, known)
            elif isinstance(node, ast.Call) and LISTED.fullmatch(ast.unparse(node.func)):
                yield from alternatives(node.args[0], known)
            elif (isinstance(node, ast.keyword) and node.arg == "reason") or (yields and isinstance(node, ast.Yield)):
                yield from alternatives(node.value, known)


MODULES = [
    file for file in sorted(PACKAGE.rglob("*.py")) if not str(file.relative_to(PACKAGE)).startswith((*SILENT, "man"))
]
KEPT = re.compile(
    r"f2b-digest[\w -]*|--[\w-]+|postgresql://\S*|ssl = on\S*|systemctl[\w -]*|WAL|MB|FAIL2BAN|CONF\w*"
    r"|(?:reports|channels)\.[\w.]*|chmod [\w.-]*|chown|store:|root|templates|\bas\b|would 7|TLS|ca_file"
    r"|pip install \S+"
    r"|7[/.](?:bans.sqlite3|outbox|jail.conf|spool.torn|kind|name)|`7 status`|setup --user|apt install [\w:.= -]+"
    r"|fail2ban-client[\w -]*|\b(?:matches|centre|spool|fail2ban):"
    r"|apt purge|ssh-keygen|\bssh\b"
    r"|rm -r \S+ \S+|yesterday, monday|ssl_\w+|listen_addresses|hostssl 7 \S+ all scram-sha-256"
)
"""What is the same in any language: commands, options, keys."""


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_sentence_of_a_command_is_translated(file: Path) -> None:
    """A new one without a line in rendering/spoken is named here."""
    left = {}
    for text in said_by(file):
        for line in text.splitlines():
            if " " not in line.strip() or re.search("%[rs]", line):  # a log's format
                continue
            words = LATIN.findall(KEPT.sub(" ", spoken.told(VEIL, line)))
            if words:
                left[line] = words
    assert left == {}


@pytest.mark.parametrize("text", sorted({re.sub(r"\{\w+\}", VALUE, text) for text in PLAIN.values()}))
def test_every_mistake_of_a_configuration_is_translated(text: str) -> None:
    """What pydantic found, in our words."""
    assert LATIN.findall(re.sub("true|false", "", spoken.told(VEIL, text))) == []


def test_an_untranslated_sentence_is_found(tmp_path: Path) -> None:
    """Whether it stands at the call, in a variable, in a branch or in a function beside it."""
    file = tmp_path / "module.py"
    file.write_text(
        "def end():\n    return 'by the dog'\n"
        "def f(a):\n    text = f'{a} was eaten' if a else 'all gone'\n    complain(f'{text} {end()}')\n"
    )
    assert set(said_by(file)) >= {"7 was eaten by the dog", "all gone by the dog"}


# ---- as commands print them


@pytest.fixture
def veiled(monkeypatch: pytest.MonkeyPatch) -> Language:
    """All commands speak a language without a letter of English."""
    monkeypatch.setattr(language, "language", lambda: VEIL)
    monkeypatch.setattr(language, "code", lambda: "ru")
    return VEIL


SAME_IN_ANY_LANGUAGE = re.compile(
    r"f2b-digest[\w -]*|/\S+|--[\w-]+|`[^`]*`|'[^']*'|"
    r"\b(?:daily|mail|MiB|bans|sqlite3|Python|web1|sendmail|email|admin@example.org|sshd|ok|monday|yesterday|"
    r"bash|fish|zsh|no-store)\b|" + "|".join(rf"\b{name}\b" for name in COMMANDS)
)


def readable(text: str) -> set[str]:
    """Return the words of what a command printed that are no names, commands or options."""
    words = LATIN.findall(SAME_IN_ANY_LANGUAGE.sub(" ", text))
    return {word for word in words if not word.isupper()}


@pytest.mark.parametrize(
    "words",
    [("status",), ("history",), ("show", "wekly"), ("show", "99"), ("send", "dayly"), ("sned",), ("show", "--foo"),
     ("find",), ("resend", "7"), ("resend", "x"), ("preview", "--since", "never"), ("preview", "--format", "pdf"),
     ("config", "--check", "/nonexistent.toml"), ("import", "/nonexistent"), ("completion",), ("help", "nothing")],
    ids=" ".join,
)  # fmt: skip
def test_no_english_reaches_the_terminal(
    words: tuple[str, ...], veiled: Language, config: Path, f2b_digest: Command
) -> None:
    """Of what went well, and of what did not."""
    f2b_digest("--config", config, "record", "--jail", "sshd", "--ip", "192.0.2.7")
    ended = f2b_digest("--config", config, *words)
    assert readable(ended.err + ended.out) == set()


def test_programs_read_english(config: Path, f2b_digest: Command) -> None:
    """JSON, metrics and the log of -v are the same in any language."""
    config.write_text('language = "de"\n' + config.read_text())
    f2b_digest("--config", config, "record", "--jail", "sshd", "--ip", "192.0.2.7")
    assert "Ban ausstehend" in f2b_digest("--config", config, "status").out
    assert '"pending_bans": 1' in f2b_digest("--config", config, "status", "--json").out
    assert (
        "# HELP f2b_digest_pending_bans Bans pending"
        in f2b_digest("--config", config, "status", "--format", "prometheus").out
    )


def test_the_configured_language_goes_before_that_of_the_environment(
    config: Path, f2b_digest: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where no configuration can be read, the environment's is left."""
    config.write_text('language = "de"\n' + config.read_text())
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert "kein Bericht 'dayly'" in f2b_digest("--config", config, "send", "dayly").err
    assert "pas de commande 'sned'" in f2b_digest("sned").err
    config.write_text("language = ")
    assert "pas de rapport" not in f2b_digest("--config", config, "send", "dayly").err


def test_what_cron_mails_is_in_the_configured_language(config: Path) -> None:
    """In cron's empty environment; a hostile word stays that word."""
    config.write_text('language = "fr"\n' + config.read_text())
    ended = program("--config", config, "send", "daily: sent", LC_ALL="C")
    assert "pas de rapport 'daily: sent'" in ended.err


def test_english_costs_no_library() -> None:
    """`record` and an idle `retry` speak English without loading Babel, as fail2ban and cron call them all day."""
    asked = "import sys; from f2b_digest.cli import language; language.told('x'); print('babel' in sys.modules)"
    for variables in ({}, {"LANG": "en_GB.UTF-8"}, {"LC_ALL": "C"}):
        done = subprocess.run([sys.executable, "-c", asked], env=variables, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"


@pytest.mark.parametrize("code", ["de", "fr"])
def test_a_hostile_text_is_told_at_once(code: str) -> None:
    """Of the longest that is looked at, made of the words of our sentences."""
    lang = load_language(code)
    for piece in ("; ", ": ", " to ", " (", "was last sent x, but is due x; 7 bans pending, the oldest x ", "a, b, "):
        begun = time.process_time()
        spoken.told(lang, (piece * LONGEST)[:LONGEST])
        assert time.process_time() - begun < 2


def test_a_sentence_is_told_with_its_values() -> None:
    """Numbers as the language writes them; a value that is a sentence, too; what is nobody's sentence stays."""
    book = Phrasebook(("%(num)s events, %(reason)s", "disk full"))

    class Marked(Veiled):
        def gettext(self, message: str) -> str:
            return message.replace("events", "Ereignisse").replace("disk full", "Platte voll")

    german = Language("de", Marked())
    assert book.told(german, "1,234 events, disk full") == "1.234 Ereignisse, Platte voll"
    assert book.told(german, "x: disk full: y") == "x: Platte voll: y"
    assert book.told(german, "many events, disk full") == "many events, disk full"
