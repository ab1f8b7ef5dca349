"""Verdicts that hosts of a fleet sent along with bans: why an address is of their own side. Their data is untrusted."""

import json
from collections.abc import Iterable
from typing import get_args

from f2b_digest.model.host_context import Belonging
from f2b_digest.store.received import OWN
from f2b_digest.store.sql import Connection


def judged(verdicts: Iterable[tuple[str, str]]) -> dict[str, Belonging]:
    """Return the ids that were classified as own, and why; invalid verdicts are ignored."""
    return {ip: said for ip, own in verdicts if (said := _belonging(own))}


def of_hub(connection: Connection, first_id: int) -> dict[str, Belonging]:
    """Return the same of a hub's bans from an id on; nothing of a store that is no hub."""
    if not connection.has_table(OWN):
        return {}
    query = f"SELECT ip, own FROM {OWN} JOIN event USING (id) WHERE id >= :first"  # noqa: S608 - our own name
    return judged(connection.execute(query, {"first": first_id}))


def _belonging(text: str) -> Belonging | None:
    try:
        said = json.loads(text)
        why, near, user = said["why"], said.get("near"), said.get("user")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if why not in get_args(Belonging.__annotations__["why"]):
        return None
    return Belonging(why, None if near is None else str(near), None if user is None else str(user))
