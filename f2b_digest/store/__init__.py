"""The store's façade, loaded when it is asked for: `retry` and `record` run all day, and need no SQLAlchemy.

Nothing else stands here; see `facade`. The other rooms import from here only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from f2b_digest.store.idle import LONGEST_WAIT, is_check_due, is_idle

if TYPE_CHECKING:
    from f2b_digest.store.facade import (
        HOW_TO_RECOVER,
        OPEN,
        OVERDUE,
        Asked,
        Delivery,
        Found,
        Last,
        Lookup,
        Pending,
        Reads,
        Sealed,
        Source,
        Store,
        append_events,
        begin_week,
        damage,
        fault,
        has_ban,
        is_due,
        is_there,
        keep_in_mind,
        no_store,
        recover,
        refusal,
        sender_lock,
        spooled_events,
        take_spool_in,
        verify,
        verify_all,
    )

__all__ = [
    "HOW_TO_RECOVER", "LONGEST_WAIT", "OPEN", "OVERDUE", "Asked", "Delivery", "Found", "Last", "Lookup", "Pending",
    "Reads", "Sealed", "Source", "Store", "append_events", "begin_week", "damage", "fault", "has_ban",
    "is_check_due", "is_due", "is_idle", "is_there", "keep_in_mind", "no_store", "recover", "refusal",
    "sender_lock", "spooled_events", "take_spool_in", "verify", "verify_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("f2b_digest.store.facade"), name)
