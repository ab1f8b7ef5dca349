"""Events as rows of an upload: characters that PostgreSQL refuses are escaped, and lengths limited.

Nothing is sent here.
"""

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from f2b_digest import recorder
from f2b_digest.fleet.credential import Lines
from f2b_digest.store import Uploads

LIMITS = {"kind": 20, "jail": 200, "ip": 200, "users": 4000, "matches": 8000, "source": 20}
"""Characters, as the centre keeps them."""
# A digest quotes only the worst addresses, and log lines are three quarters of all bytes.
WORST, WITHIN = 4, 3600.0
"""With "worst", a ban keeps its log lines unless so many of its jail's bans in the seconds before were as bad."""
Own = Callable[[dict[str, Any]], str | None]
"""Returns why a banned address is an own one, as JSON; None if it is not."""


def of_events(events: list[dict[str, Any]], uploads: Uploads, lines: Lines, own: Own, history_until: int) -> list[str]:
    """Return each event as a JSON object."""
    return [json.dumps(dict(_fields(event, uploads, lines, own, history_until))) for event in events]


def placeholder(event: dict[str, Any]) -> str:
    """Return an event that the centre refuses without its texts, so that it is counted: its kind and time."""
    kind = event["kind"] if event["kind"] in recorder.KINDS else "ban"
    times = {name: _time(event[name]) for name in ("at", "recorded_at")}
    texts = {"jail": "unreadable", "ip": f"unreadable ({event['id']})", "source": "upload"}
    return json.dumps({"seq": event["id"], "kind": kind, **times, **texts})


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _fields(
    event: dict[str, Any], uploads: Uploads, lines: Lines, own: Own, history_until: int
) -> Iterator[tuple[str, Any]]:
    yield "seq", event["id"]
    for name, value in event.items():
        if name in ("id", "host", "matches") or value is None:
            continue
        cut = value[: LIMITS[name]] if isinstance(value, str) and name in LIMITS else value
        if name == "users" and cut != value:
            cut = _fewer(value)
        if name == "history" and event["id"] <= history_until:
            cut = 1
        yield name, _clean(cut)
    if event["kind"] == "ban":
        if event["matches"] and _keeps_lines(event, uploads, lines):
            yield "matches", _clean(event["matches"][-LIMITS["matches"] :])  # the last failures are the most relevant
        verdict = own(event)
        if verdict is not None:
            yield "own", _clean(verdict)


def _keeps_lines(event: dict[str, Any], uploads: Uploads, lines: Lines) -> bool:
    return lines == "all" or (lines == "worst" and uploads.worse(event, WITHIN, WORST) < WORST)


def _fewer(users: str) -> str | None:
    """Return a JSON list of names cut to the limit of `users`; None if not even one fits."""
    try:
        names = list(map(str, json.loads(users)))
    except (ValueError, TypeError):
        return None
    while names and len(users) > LIMITS["users"]:
        names = names[: len(names) * 9 // 10]
        users = json.dumps(names, ensure_ascii=False)
    return users


def _clean(value: Any) -> Any:
    r"""Return a value that PostgreSQL accepts: NUL and lone surrogates become \x00 and \udc…, no number is infinite."""
    if isinstance(value, str):
        return value.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return 0.0
    return value if isinstance(value, int | float) or value is None else _clean(str(value))
