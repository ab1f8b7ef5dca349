"""A host's state, sent to its centre with each upload. Nothing is sent here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f2b_digest import __version__, recorder
from f2b_digest.store import Uploads

if TYPE_CHECKING:  # every five minutes, with nothing to judge, neither is needed
    from f2b_digest.analysis import OwnAddresses

MOST_JAILS = 50
"""That are named; of more, the number is told."""
LONGEST_NAME = 64
"""Characters of a user's name in a verdict."""


def told(uploads: Uploads, now: float, complete_until: float | None) -> dict[str, Any]:
    """Return what a host says of itself; times are UTC epoch seconds by its clock.

    Keys are only ever added: the centre passes over what it does not know.
    """
    backlog, known = uploads.backlog(), uploads.now()
    return {
        "now": now,
        "version": __version__,
        "complete_until": complete_until,
        "backlog": backlog.events,
        "oldest": backlog.oldest,
        "last_ban": uploads.last_ban(),
        "spooled": recorder.spooled(str(uploads.path)),
        "replaced": known.replaced,
        "fail2ban": json.loads(known.jails) if known.jails else None,
    }


def jails(answers: Mapping[str, str | None], silence: str, store: Path) -> str:
    """Return what fail2ban says of its jails, as JSON: how many run, which lack our action, and the line to add."""
    from f2b_digest.fail2ban.jails import action_line  # noqa: PLC0415 - as above

    lacking = sorted(jail for jail, records_to in answers.items() if records_to is None)
    return json.dumps(
        {
            "jails": len(answers),
            "silence": silence,
            "lacking": lacking[:MOST_JAILS],
            "lacking_more": max(len(lacking) - MOST_JAILS, 0),
            "line": action_line(str(store)) if lacking else None,
        }
    )


def verdict(own: "OwnAddresses", event: Mapping[str, Any]) -> str | None:
    """Return why a ban is one of the host's own side, as JSON, or None. Only this leaves the host, and no log-in."""
    if not own.holds(event["ip"]):
        return None
    found = own.find(event["ip"])
    if found is None:
        return None
    user = found.user[:LONGEST_NAME] if found.user else None
    return json.dumps({"why": found.why, "near": found.near, "user": user})
