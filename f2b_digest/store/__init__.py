"""The store's façade, imported lazily: `retry` and `record` run all day and do not need SQLAlchemy.

Nothing else lives here; see `facade`. Other packages import from here only.
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
        Outbox,
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
    from f2b_digest.store.uploads import NOTHING, Backlog, End, Progress, Upload, Uploads, only_upload, progress

_UPLOADS = ("NOTHING", "Backlog", "End", "Progress", "Upload", "Uploads", "only_upload", "progress")
__all__ = [
    "HOW_TO_RECOVER", "LONGEST_WAIT", "NOTHING", "OPEN", "OVERDUE", "Asked", "Backlog", "Delivery", "End", "Found",
    "Last", "Lookup", "Outbox", "Pending", "Progress", "Reads", "Sealed", "Source", "Store", "Upload", "Uploads",
    "append_events", "begin_week", "damage", "fault", "has_ban", "is_check_due", "is_due", "is_idle", "is_there",
    "keep_in_mind", "no_store", "only_upload", "progress", "recover", "refusal", "sender_lock", "spooled_events",
    "take_spool_in", "verify", "verify_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"f2b_digest.store.{'uploads' if name in _UPLOADS else 'facade'}"), name)
