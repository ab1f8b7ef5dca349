"""Fast check whether `retry` has nothing to do. Few imports: cron runs this all day."""

import _sqlite3  # the sqlite3 package would load datetime and its adapters
from pathlib import Path

from f2b_digest import recorder

LONGEST_WAIT = 4 * 3600.0
"""Longest time between two attempts of a delivery, in seconds: a later next_at means the clock was set back."""
CHECK_EVERY = 6 * 86400.0
"""Seconds between two checks of a large store."""
SMALL = 16 * 2**20
"""Stores up to this size in bytes are fully checked before each send: 0.1 s, some 40,000 bans."""
_DUE = """
SELECT (SELECT user_version FROM pragma_user_version),
       EXISTS (SELECT 1 FROM delivery WHERE status IN ('pending', 'deferred') AND (next_at <= ? OR next_at > ?))
"""


def is_idle(path: Path, now: float) -> bool:
    """Return whether a store is known to be intact with nothing due; False if in doubt.

    `now` is in UTC epoch seconds.
    """
    try:
        if recorder.is_there(recorder.damage_mark(str(path))):
            return False
        seen = recorder.look(str(path))
        if seen is None or seen.st_size == 0:  # nothing recorded yet: nothing to retry
            return True
        connection = _sqlite3.connect(recorder.uri(str(path), "ro"), uri=True, timeout=5)
        try:
            recorder.refuse_another(connection, str(path), seen)
            version, due = connection.execute(_DUE, (now, now + LONGEST_WAIT)).fetchone()
        finally:
            connection.close()
    except (_sqlite3.Error, OSError, recorder.ForeignStore):
        return False
    return version == recorder.SCHEMA_VERSION and not due


def is_check_due(path: Path, now: float) -> bool:
    """Return whether a large store was not checked for `CHECK_EVERY`; False if no send ever checked it."""
    try:
        if path.lstat().st_size <= SMALL:
            return False
        checked = path.with_name(path.name + ".checked").lstat().st_mtime
    except OSError:  # no store, or no send yet
        return False
    return not now - CHECK_EVERY < checked <= now + 86400
