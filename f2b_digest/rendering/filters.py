"""Functions for templates: translation, and filters. No template is rendered here."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any

from jinja2 import pass_context, pass_eval_context
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from markupsafe import Markup, escape

from f2b_digest.rendering import recorded
from f2b_digest.rendering.i18n import Language
from f2b_digest.rendering.layout import MAIL_WIDTH, STYLES, Layout, fold, painted


def sentences(lang: Language) -> dict[str, Any]:
    """Return the functions behind `_(…)`, `ngettext(…)` and {% trans %}, for Jinja's "newstyle" gettext.

    Numbers in a sentence are formatted for the language. In HTML, values are escaped; the sentence itself
    is trusted. Values are inserted once: a placeholder in a value is not replaced.
    """

    def said(context: Context, sentence: str, values: Mapping[str, Any]) -> str:
        shown = {name: _counted(lang, value) for name, value in values.items()}
        return (Markup(sentence) if context.eval_ctx.autoescape else sentence) % shown  # noqa: S704 - the catalogue's

    @pass_context
    def gettext(context: Context, message: str, /, **values: Any) -> str:
        return said(context, lang.gettext(message), values)

    @pass_context
    def pgettext(context: Context, about: str, message: str, /, **values: Any) -> str:
        return said(context, lang.pgettext(about, message), values)

    @pass_context
    def ngettext(context: Context, one: str, many: str, value: float, /, **values: Any) -> str:
        return said(context, lang.ngettext(one, many, value), {"num": value} | values)

    @pass_context
    def npgettext(context: Context, about: str, one: str, many: str, value: float, /, **values: Any) -> str:
        return said(context, lang.npgettext(about, one, many, value), {"num": value} | values)

    return {"gettext": gettext, "pgettext": pgettext, "ngettext": ngettext, "npgettext": npgettext}


def _counted(lang: Language, value: Any) -> Any:
    return lang.number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def filters(lang: Language, layout: Layout) -> dict[str, Callable[..., Any]]:
    """Return the filters by name, for a language and a screen."""

    def counted(value: int, one: str, many: str) -> str:
        """Return a count with a noun in the template's own language: built-in templates use ngettext."""
        return f"{lang.number(value)} {one if value == 1 else many}"

    @pass_eval_context
    def listed(context: EvalContext, items: Sequence[str]) -> str:
        if context.autoescape:
            return Markup(lang.list_of([escape(item) for item in items]))  # noqa: S704 - all of it is escaped
        return lang.list_of(items)

    def bar(value: int, most: int, width: int) -> str:
        """Draw a bar of at least one character. The rest of its line is as wide as in a mail."""
        room = max(1, width + layout.columns - MAIL_WIDTH)
        return ("█" if layout.blocks else "#") * max(1, round(room * value / most)) if value and most else ""

    def paint(text: str, style: str) -> str:
        if style not in STYLES:
            raise ValueError(f"no style {style!r} (known: {', '.join(STYLES)})")
        return painted(text, style) if layout.colour else text

    def wrap(text: str, indent: int = 0, first: str = "") -> str:
        """Wrap text: the first line begins with `first`, the others with so many spaces."""
        return fold(first + " ".join(re.split(r"[ \t\n]+", text.strip(" \t\n"))), layout.columns, indent)

    def column(text: str, width: int) -> str:
        """Return text as a column: padded, or truncated with an ellipsis."""
        return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"

    return {
        "bar": bar, "clock": lang.clock, "column": column, "date": lang.date, "day": lang.day,
        "duration": lang.duration, "eve": eve, "listed": listed, "moment": lang.moment, "nolink": nolink,
        "number": lang.number, "paint": paint, "percent": lang.percent, "plural": counted,
        "report_name": partial(recorded.report_name, lang), "span": lang.span, "territory": lang.territory,
        "told": partial(recorded.told, lang), "weekday": lang.weekday, "wrap": wrap,
    }  # fmt: skip


def eve(moment: datetime) -> datetime:
    """Return the last second before a time: a period that ends at midnight ends on the day before."""
    return moment - timedelta(seconds=1)


def nolink(text: str) -> Markup:
    """Return text as HTML in which mail programs do not find links chosen by an attacker.

    <wbr> splits what could be a link; it is not part of copied text. An address is not split, except between IPv6
    groups.
    """
    plain = str.__str__(text)  # a macro's result is marked as Markup, but is not safe
    return Markup("").join(map(_parted, re.split(r"(\s+)", plain)))


def _parted(word: str) -> Markup:
    bare = word.strip("(").rstrip(".,;:)")
    server = re.fullmatch(r"([0-9.]+):[0-9]{1,5}", bare)
    if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}", bare) or (server and is_address(server[1])):
        return escape(word)  # no link: a time of day, or an IPv4 address with its port
    address = is_address(bare)
    parts = re.split(r"(?<=:)(?=.)" if address else r"(?<=[.:/@])(?=.)", word)
    return Markup("<wbr>").join(escape(part) for part in parts)  # a constant; what it joins is escaped


def is_address(text: str) -> bool:
    """Return whether a text is an IP address or network, and nothing else."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text  # a zone can be any text
