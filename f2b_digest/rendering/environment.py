"""Jinja2's environment: the sandbox, the cache of compiled templates, filters and sentences. No file is read here.

Imported when something is rendered: a day without news does without Jinja2.
"""

import codecs
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jinja2.debug
from jinja2 import FunctionLoader, StrictUndefined
from jinja2.bccache import Bucket, BytecodeCache
from jinja2.exceptions import SecurityError
from jinja2.ext import i18n
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from f2b_digest.rendering.filters import filters, is_address, sentences
from f2b_digest.rendering.i18n import load_language
from f2b_digest.rendering.layout import Layout

# Loaded lazily by Jinja2, when Python's folder may be unreadable for the user that we are by then.
assert jinja2.debug
codecs.lookup("unicode-escape")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, without `**`: a deadline cannot interrupt `9**9**9`, a single interpreter step."""

    intercepted_binops = frozenset({"**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse."""
        raise SecurityError(f"{operator} is not allowed in templates")


class _Compiled(BytecodeCache):
    """Cache of compiled templates, by name and content.

    For one language and one screen: Jinja2 evaluates filters of constants at compile time.
    """

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a template's code."""
        code = self._code.get((bucket.key, bucket.checksum))
        if code is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store a template's code."""
        self._code[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


_COMPILED: defaultdict[tuple[str, Layout], _Compiled] = defaultdict(_Compiled)
"""This process's caches, by language and screen: each report has its own renderer."""


def environment(source: Callable[[str], str | None], language: str, layout: Layout) -> ImmutableSandboxedEnvironment:
    """Return the environment of a language and a screen. `source` returns a template's text, or None."""
    made = _Sandbox(
        loader=FunctionLoader(source),
        autoescape=lambda name: name is not None and name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=[i18n],
        bytecode_cache=_COMPILED[language, layout],
    )
    lang = load_language(language)
    made.newstyle_gettext = True  # type: ignore[attr-defined]
    made.globals.update(sentences(lang))
    made.globals.update(language=lang.code.replace("_", "-"), width=layout.columns, stored=layout.stored)
    made.filters.update(filters(lang, layout))
    made.tests["address"] = is_address
    return made
