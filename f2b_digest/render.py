"""Templates to text: the only Jinja2. Whatever an attacker chose is made harmless here, before a template sees it.

Templates get the digest's document (see `digest.document`) and nothing else. They run in a sandbox: a folder of
templates may belong to somebody who may not run programs as the user of `f2b-digest send`.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, FileSystemLoader, FunctionLoader, StrictUndefined, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from f2b_digest.errors import TemplateError

LONGEST_TEXT = 60
"""Characters of one text: an IPv6 network has 43."""
LONGEST_SENTENCE = 300
"""Characters of a reason or a note."""
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or a reader cannot see: control, direction, zero width, surrogates."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, without powers: no deadline ends `9**9**9`, which is one step of the interpreter."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse."""
        raise SecurityError(f"{operator} is not for templates")


class Renderer:
    """Renders templates from the admin's folder where it has them, else the built-in ones."""

    def __init__(self, built_in: Path, *own: Path | None, broken: frozenset[str] = frozenset()) -> None:
        """Take the folder of the built-in templates, and the admin's; of these, the `broken` templates do not count."""
        self._built_in, self._own, self._broken = built_in, tuple(folder for folder in own if folder), broken
        loaders: list[BaseLoader] = [FileSystemLoader(built_in)]
        if self._own:
            loaders.insert(0, FunctionLoader(self._own_source))
        self._environment = _Sandbox(
            loader=ChoiceLoader(loaders),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            extensions=["jinja2.ext.i18n"],
        )
        self._environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
        self._environment.filters.update(
            bar=bar, clock=clock, day=day, duration=duration, nolink=nolink, number=number, plural=plural, span=span
        )

    def without(self, template: str) -> "Renderer | None":
        """Return a renderer that takes a built-in template instead of the admin's, or None if there is none."""
        if self._own_source(template) is None or _source(self._built_in, template) is None:
            return None
        return Renderer(self._built_in, *self._own, broken=self._broken | {template})

    def preferring(self, folder: Path | None) -> "Renderer":
        """Return a renderer that looks into one more folder first."""
        return Renderer(self._built_in, folder, *self._own, broken=self._broken) if folder else self

    def _own_source(self, name: str) -> str | None:
        if name in self._broken:
            return None
        return next(filter(None, (_source(folder, name) for folder in self._own)), None)

    def render(self, names: Iterable[str], document: Mapping[str, Any]) -> dict[str, str]:
        """Return each template's text. Raises TemplateError, which names the template and its line."""
        harmless = visible(document)
        for key in ("notes", "undelivered"):  # sentences, not names
            harmless[key] = visible(document[key], LONGEST_SENTENCE)
        return {name: self._render(name, harmless) for name in names}

    def _render(self, name: str, document: Mapping[str, Any]) -> str:
        try:
            return self._environment.get_template(name).render(document)
        except TemplateSyntaxError as error:
            place = f", line {error.lineno}" if error.name == name else f" in {error.name}, line {error.lineno}"
            raise TemplateError(name, f"{place}: {error.message}") from None
        except Exception as error:  # unknown names, or anything: "{{ 1 / 0 }}"
            raise TemplateError(name, f": {type(error).__name__}: {error}") from None


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
        return {key: visible(item, longest) for key, item in value.items()}
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


# ---- how numbers and times read


def number(value: int) -> str:
    """Return a count with thousands separated."""
    return f"{value:,}"


def plural(value: int, one: str, many: str) -> str:
    """Return a count with its noun."""
    return f"{number(value)} {one if value == 1 else many}"


def duration(seconds: int | None) -> str:
    """Return a ban time in its two largest units: "1 h 30 min", "2 weeks", "permanent"."""
    if seconds is None:
        return "unknown"
    if seconds < 0:
        return "permanent" if seconds == -1 else "unknown"
    parts = []
    for size, name in ((604800, "week"), (86400, "day"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,} {name}{'s' if count > 1 and name in ('week', 'day') else ''}")
    return " ".join(parts[:2]) or "0 s"


def day(moment: datetime) -> str:
    """Return a date and time for a heading: "Thu 19 Nov 2026 00:00"."""
    return moment.strftime("%a %-d %b %Y %H:%M")


def clock(moment: datetime, beside: datetime) -> str:
    """Return a time, with its date where that is not the date of `beside`: "23:40", "18 Nov 23:40"."""
    if moment.date() == beside.date():
        return moment.strftime("%H:%M")
    return moment.strftime("%-d %b %H:%M" if moment.year == beside.year else "%-d %b %Y %H:%M")


def span(first: datetime, last: datetime, beside: datetime) -> str:
    """Return the first and last time of something, as one time where they are the same minute."""
    start = clock(first, beside)
    end = clock(last, first)  # with its date if that is another one, even where that is the date of `beside`
    return start if start.endswith(end) else f"{start} – {end}"


def bar(value: int, most: int, width: int) -> str:
    """Return a bar of blocks, at least one long, for a terminal."""
    return "█" * max(1, round(width * value / most)) if value and most else ""
