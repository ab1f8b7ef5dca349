"""A host's state, sent to its centre with each upload. Nothing is sent here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from f2b_digest import __version__, recorder
from f2b_digest.store import Uploads

if TYPE_CHECKING:  # neither is needed when there is nothing to classify, as mostly every five minutes
    from f2b_digest.analysis import OwnAddresses

MOST_JAILS = 50
"""Number of jails that are named; further ones are only counted."""
LONGEST_NAME = 64
"""Maximum characters of a user name in a verdict."""


def told(uploads: Uploads, now: float, complete_until: float | None) -> dict[str, Any]:
    """Return a host's state by key; times are UTC epoch seconds by its own clock.

    Keys are only ever added: the centre ignores unknown ones.
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


def farewell(uploads: Uploads, now: float) -> dict[str, Any]:
    """Return the state of a host that leaves its fleet."""
    return told(uploads, now, uploads.now().complete_until) | {"left": True}


def jails(answers: Mapping[str, str | None], silence: str, store: Path) -> str:
    """Return the state of fail2ban's jails as JSON: how many run, which lack our action, and the line to add."""
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
    """Return why a banned address is an own one, as JSON, or None. Logins themselves never leave the host."""
    if not own.holds(event["ip"]):
        return None
    found = own.find(event["ip"])
    if found is None:
        return None
    user = found.user[:LONGEST_NAME] if found.user else None
    return json.dumps({"why": found.why, "near": found.near, "user": user})
