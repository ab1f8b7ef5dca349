"""Templates to text: the only Jinja2. Whatever an attacker chose is made harmless here, before a template sees it.

Templates get the digest's document (see `digest.document`) and nothing else. They run in a sandbox: a folder of
templates may belong to somebody who may not run programs as the user of `f2b-digest send`.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    FileSystemLoader,
    FunctionLoader,
    StrictUndefined,
    TemplateSyntaxError,
    pass_context,
    pass_eval_context,
)
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.exceptions import SecurityError
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from f2b_digest.errors import TemplateError
from f2b_digest.look import MAIL, MAIL_WIDTH, STYLES, Look, fold, indent_of, painted
from f2b_digest.words import SOURCE, Words, words_of

LONGEST_TEXT = 60
"""Characters of one text: an IPv6 network has 43."""
LONGEST_SENTENCE = 300
"""Characters of a reason or a note."""
SENTENCES = frozenset({"notes", "reason", "unban", "lines", "licence", "samples"})
"""Keys of a document that hold sentences, lines for a shell or a configuration, or log lines."""
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or a reader cannot see: control, direction, zero width, surrogates."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, without powers: no deadline ends `9**9**9`, which is one step of the interpreter."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse."""
        raise SecurityError(f"{operator} is not for templates")


class _Compiled(BytecodeCache):
    """What templates were compiled to, by name and content.

    For one language and one screen: Jinja2 works filters of constants out when it compiles.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take a template's code out."""
        code = self._code.get((bucket.key, bucket.checksum))
        if code is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep a template's code."""
        self._code[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


_COMPILED: defaultdict[tuple[str, Look], _Compiled] = defaultdict(_Compiled)
"""What this process has compiled, by language and screen: each report has a renderer of its own."""


class Renderer:
    """Renders templates from the admin's folder where it has them, else the built-in ones."""

    def __init__(
        self,
        built_in: Path,
        *own: Path | None,
        broken: frozenset[str] = frozenset(),
        language: str = SOURCE,
        look: Look = MAIL,
    ) -> None:
        """Take the folder of the built-in templates, and the admin's; of these, the `broken` templates do not count.

        A language that there is no catalogue for is English.
        """
        self._built_in, self._own, self._broken = built_in, tuple(folder for folder in own if folder), broken
        self._language, self._look = language, look

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        loaders: list[BaseLoader] = [FileSystemLoader(self._built_in)]
        if self._own:
            loaders.insert(0, FunctionLoader(self._own_source))
        environment = _Sandbox(
            loader=ChoiceLoader(loaders),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            extensions=["jinja2.ext.i18n"],
            bytecode_cache=_COMPILED[self._language, self._look],
        )
        words = words_of(self._language)
        environment.newstyle_gettext = True  # type: ignore[attr-defined]
        environment.globals.update(_sentences(words))
        environment.globals.update(language=words.language.replace("_", "-"), width=self._look.columns)
        environment.filters.update(_filters(words, self._look))
        return environment

    def without(self, template: str) -> "Renderer | None":
        """Return a renderer that takes a built-in template instead of the admin's, or None if there is none.

        Where the template itself is ours, something that it takes in is the admin's: then all are the built-in ones.
        """
        if _source(self._built_in, template) is None or not self._own:
            return None
        if self._own_source(template) is None:
            return self._but(own=())
        return self._but(broken=self._broken | {template})

    def preferring(self, folder: Path | None) -> "Renderer":
        """Return a renderer that looks into one more folder first."""
        return self._but(own=(folder, *self._own)) if folder else self

    def speaking(self, language: str) -> "Renderer":
        """Return a renderer of another language: "fr", "fr_FR.UTF-8"; English if there is no such catalogue."""
        return self._but(language=language) if language != self._language else self

    def looking(self, look: Look) -> "Renderer":
        """Return a renderer for another screen."""
        return self._but(look=look) if look != self._look else self

    def _but(self, *, own: tuple[Path, ...] | None = None, **changed: Any) -> "Renderer":
        same: dict[str, Any] = {"broken": self._broken, "language": self._language, "look": self._look}
        return Renderer(self._built_in, *(self._own if own is None else own), **(same | changed))

    def _own_source(self, name: str) -> str | None:
        if name in self._broken:
            return None
        return next(filter(None, (_source(folder, name) for folder in self._own)), None)

    def render(self, names: Iterable[str], document: Mapping[str, Any]) -> dict[str, str]:
        """Return each template's text. Raises TemplateError, which names the template and its line."""
        harmless = visible(document)
        return {name: self._render(name, harmless) for name in names}

    def _render(self, name: str, document: Mapping[str, Any]) -> str:
        try:
            text = self._environment.get_template(name).render(document)
        except TemplateSyntaxError as error:
            place = f", line {error.lineno}" if error.name == name else f" in {error.name}, line {error.lineno}"
            raise TemplateError(name, f"{place}: {error.message}") from None
        except Exception as error:  # unknown names, or anything: "{{ 1 / 0 }}"
            raise TemplateError(name, f": {type(error).__name__}: {error}") from None
        width = self._look.width
        if width is None or not name.endswith(".txt"):
            return text
        return "\n".join(fold(line, width, indent_of(line) + 4) for line in text.split("\n"))


def _source(folder: Path, name: str) -> str | None:
    """Return a template's text, or None where the folder has no such file; a name cannot lead out of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    return path.read_text(encoding="utf-8")


# ---- making text harmless


def visible(value: Any, longest: int = LONGEST_TEXT) -> Any:
    """Return a document in which every text is short and shows its control characters as escapes."""
    if isinstance(value, str):
        return _visible_text(value, longest)
    if isinstance(value, Mapping):
        return {key: visible(item, LONGEST_SENTENCE if key in SENTENCES else longest) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible(item, longest) for item in value]
    return value


def _visible_text(text: str, longest: int) -> str:
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in HIDDEN else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def nolink(text: str) -> Markup:
    """Return text as HTML that mail programs do not turn into a link to where an attacker wants."""
    if not re.search(r"[.:/@]", text) or _is_address(text):  # an address is there to be copied
        return escape(text)
    return Markup("&#8203;").join(  # a constant; what it joins is escaped
        escape(part) for part in re.split(r"(?<=[.:/@])", text)
    )


def _is_address(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text  # a zone can be any text


# ---- what templates say


def _sentences(words: Words) -> dict[str, Any]:
    """Return the functions behind `_(…)`, `ngettext(…)` and {% trans %}, for Jinja's "newstyle".

    Numbers in a sentence are written as the language writes them. On a page, values are escaped; the sentence itself
    is ours. A value is put in once: what it holds is never a place for another.
    """

    def said(context: Context, sentence: str, values: Mapping[str, Any]) -> str:
        shown = {name: _counted(words, value) for name, value in values.items()}
        return (Markup(sentence) if context.eval_ctx.autoescape else sentence) % shown  # noqa: S704 - the catalogue's

    @pass_context
    def gettext(context: Context, message: str, /, **values: Any) -> str:
        return said(context, words.gettext(message), values)

    @pass_context
    def pgettext(context: Context, about: str, message: str, /, **values: Any) -> str:
        return said(context, words.pgettext(about, message), values)

    @pass_context
    def ngettext(context: Context, one: str, many: str, value: float, /, **values: Any) -> str:
        return said(context, words.ngettext(one, many, value), {"num": value} | values)

    @pass_context
    def npgettext(context: Context, about: str, one: str, many: str, value: float, /, **values: Any) -> str:
        return said(context, words.npgettext(about, one, many, value), {"num": value} | values)

    return {"gettext": gettext, "pgettext": pgettext, "ngettext": ngettext, "npgettext": npgettext}


def _counted(words: Words, value: Any) -> Any:
    return words.number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _filters(words: Words, look: Look) -> dict[str, Callable[..., Any]]:
    def counted(value: int, one: str, many: str) -> str:
        """Say a count with a noun of the template's own language: built-in templates have ngettext."""
        return f"{words.number(value)} {one if value == 1 else many}"

    @pass_eval_context
    def listed(context: EvalContext, items: Sequence[str]) -> str:
        if context.autoescape:
            return Markup(words.list_of([escape(item) for item in items]))  # noqa: S704 - all of it is escaped
        return words.list_of(items)

    def bar(value: int, most: int, width: int) -> str:
        """Draw a bar, at least one long. The rest of its line has the width that it has in a mail."""
        room = max(1, width + look.columns - MAIL_WIDTH)
        return ("█" if look.blocks else "#") * max(1, round(room * value / most)) if value and most else ""

    def paint(text: str, style: str) -> str:
        if style not in STYLES:
            raise ValueError(f"there is no style {style!r} (known: {', '.join(STYLES)})")
        return painted(text, style) if look.colour else text

    def wrap(text: str, indent: int = 0, first: str = "") -> str:
        """Break a text into lines: the first begins with `first`, the others with so many spaces."""
        return fold(first + " ".join(re.split(r"[ \t\n]+", text.strip(" \t\n"))), look.columns, indent)

    return {
        "bar": bar, "clock": words.clock, "date": words.date, "day": words.day, "duration": words.duration,
        "listed": listed, "nolink": nolink, "number": words.number, "paint": paint, "plural": counted,
        "span": words.span, "territory": words.territory, "weekday": words.weekday, "wrap": wrap,
    }  # fmt: skip


def plural(value: int, one: str, many: str) -> str:
    """Return a count with its noun, in English: what commands say."""
    return f"{value:,} {one if value == 1 else many}"
