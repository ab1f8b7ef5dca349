"""Digests that no bans stand behind, to try templates with: each part of a digest is in one of them. No text here."""

from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from f2b_digest.model.digest import Digest, LeftOut, Totals

START = datetime(2026, 11, 19, tzinfo=UTC)
TEXTS = {"ip": "192.0.2.7", "network": "192.0.2.0/24", "cidrs": "192.0.2.0/24", "near": "192.0.2.0/24", "code": "DE",
         "country": "DE", "jail": "sshd", "unit": "hour", "status": "deferred"}  # fmt: skip
"""By field, where not any text will do."""


def digests(report: str, host: str) -> tuple[Digest, Digest, Digest]:
    """Return a digest of all there is to tell, one in which all is unknown that may be, and a quiet one."""
    own: dict[str, Any] = {
        "report": report,
        "host": host,
        "timezone": "UTC",
        "start": START,
        "end": START + timedelta(days=1),
    }
    quiet = Digest(**own, totals=Totals())
    full: Digest = _made(Digest, own, full=True)
    return full, _made(Digest, own | {"left_out": LeftOut()}, full=False), quiet


def _made(kind: Any, given: dict[str, Any], *, full: bool) -> Any:
    """Return an object of a dataclass; what is not `given` is made up by its type."""
    hints = get_type_hints(kind)
    fixed = {
        each.name for each in fields(kind) if get_origin(hints[each.name]) is Literal and each.default is not MISSING
    }
    made = {name: _value(name, hint, full=full) for name, hint in hints.items() if name not in fixed}
    return kind(**made | given)


def _value(name: str, hint: Any, *, full: bool) -> Any:
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return None if NoneType in inner and not full else _value(name, inner[0], full=full)
    if kind is tuple:
        return _several(name, inner[0], full=full)
    if kind is Literal:
        return inner[0]
    if is_dataclass(hint):
        return _made(hint, {}, full=full)
    return {str: TEXTS.get(name, name), int: 3, float: 3.0, bool: full, datetime: START + timedelta(hours=3)}[hint]


def _several(name: str, hint: Any, *, full: bool) -> tuple[Any, ...]:
    """Return one of each kind that there is (of facts, say); else two, or as many as a week of hours needs."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    if kinds:
        return tuple(_value(name, kind, full=full) for kind in kinds)
    if name == "heat":
        return ((3,) * 24,) * 7 if full else ()
    return (_value(name, hint, full=full),) * (2 if full or is_dataclass(hint) else 0)
