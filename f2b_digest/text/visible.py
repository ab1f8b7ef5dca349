"""The sanitizer: makes texts chosen by attackers short and visible. Who writes HTML or CSV escapes for that as well."""

import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

LONGEST_TEXT = 60
"""Maximum characters of a text; an IPv6 network has 43."""
LONGEST_SENTENCE = 300
"""Maximum characters of a reason or a note."""
SENTENCES = frozenset(
    (
        "notes", "reason", "unban", "ignore", "block", "lines", "line", "commands", "retire", "intended", "licence",
        "samples", "store", "registered", "recipient",
    )
)  # fmt: skip
"""Keys of a document with sentences, shell or configuration lines, or log lines."""
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of control and invisible characters: control, direction, zero width, surrogates."""


def visible(value: Any, longest: int = LONGEST_TEXT) -> Any:
    """Return a document, or a dataclass, in which every text is short and shows its control characters as escapes."""
    if isinstance(value, str):
        return _visible_text(value, longest)
    if isinstance(value, Mapping):
        return {key: visible(item, LONGEST_SENTENCE if key in SENTENCES else longest) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [visible(item, longest) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: visible(getattr(value, each.name), longest) for each in fields(value)})
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
