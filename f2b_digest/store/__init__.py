"""The store's façade, imported lazily: `retry` and `record` run all day and do not need all of it.

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
        Statements,
        Store,
        append_events,
        begin_week,
        damage,
        fault,
        has_ban,
        is_due,
        is_there,
        judged,
        keep_in_mind,
        no_store,
        recover,
        refusal,
        sender_lock,
        spooled_events,
        states,
        take_spool_in,
        verify,
        verify_all,
    )
    from f2b_digest.store.grouped import GroupedSource
    from f2b_digest.store.host_states import state_of, unfinished
    from f2b_digest.store.hosts import host_set
    from f2b_digest.store.received import FROM_A_HOST, Arrived, Chain, Received, Refused, Said
    from f2b_digest.store.times import pack
    from f2b_digest.store.uploaders import Life, is_hub, life_of, lives
    from f2b_digest.store.uploads import NOTHING, Backlog, End, Progress, Upload, Uploads, only_upload, progress

_MODULES = {
    "grouped": ("GroupedSource",),
    "hosts": ("host_set",),
    "host_states": ("state_of", "unfinished"),
    "received": ("FROM_A_HOST", "Arrived", "Chain", "Received", "Refused", "Said"),
    "times": ("pack",),
    "uploaders": ("Life", "is_hub", "life_of", "lives"),
    "uploads": ("NOTHING", "Backlog", "End", "Progress", "Upload", "Uploads", "only_upload", "progress"),
}
__all__ = [
    "FROM_A_HOST",
    "HOW_TO_RECOVER",
    "LONGEST_WAIT",
    "NOTHING",
    "OPEN",
    "OVERDUE",
    "Arrived",
    "Asked",
    "Backlog",
    "Chain",
    "Delivery",
    "End",
    "Found",
    "GroupedSource",
    "Last",
    "Life",
    "Lookup",
    "Outbox",
    "Pending",
    "Progress",
    "Reads",
    "Received",
    "Refused",
    "Said",
    "Sealed",
    "Source",
    "Statements",
    "Store",
    "Upload",
    "Uploads",
    "append_events",
    "begin_week",
    "damage",
    "fault",
    "has_ban",
    "host_set",
    "is_check_due",
    "is_due",
    "is_hub",
    "is_idle",
    "is_there",
    "judged",
    "keep_in_mind",
    "life_of",
    "lives",
    "no_store",
    "only_upload",
    "pack",
    "progress",
    "recover",
    "refusal",
    "sender_lock",
    "spooled_events",
    "state_of",
    "states",
    "take_spool_in",
    "unfinished",
    "verify",
    "verify_all",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "facade")
    return getattr(import_module(f"f2b_digest.store.{module}"), name)
