"""The store's façade, loaded when it is asked for: `retry` and `record` run all day, and need no SQLAlchemy.

Nothing else stands here; see `facade`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from f2b_digest.store.facade import (
        HOW_TO_RECOVER,
        OPEN,
        Baseline,
        Chosen,
        Delivery,
        Last,
        Pending,
        Rebans,
        Sample,
        Sealed,
        Store,
        is_there,
    )

__all__ = [
    "HOW_TO_RECOVER", "OPEN", "Baseline", "Chosen", "Delivery", "Last", "Pending", "Rebans", "Sample", "Sealed",
    "Store", "is_there",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("f2b_digest.store.facade"), name)
