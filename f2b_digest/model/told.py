"""Facts and advice of earlier digests, as plain values, read from documents of any version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Told:
    """One earlier digest."""

    report: str
    at: float
    """When its period ended, in UTC epoch seconds."""
    facts: Sequence[Mapping[str, Any]] = ()
    """As the document has them: each with its `kind`, times in ISO 8601."""
    advice: Sequence[Mapping[str, Any]] = ()
