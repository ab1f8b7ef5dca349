"""`retry`: try the deliveries that are due. Where none is, this loads no library but click: cron runs it all day."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from f2b_digest import privileges, recorder
from f2b_digest.cli import Program
from f2b_digest.cli.record import settings

LONGEST_WAIT = 4 * 3600.0
"""Seconds: as `delivery.attempts.LONGEST_WAIT`, which would load all of it."""
CHECK_EVERY = 6 * 86400.0
"""Seconds: as `integrity.DUE`."""
SMALL = 16 * 2**20
"""Bytes: as `integrity.SMALL`."""
_DUE = """
SELECT (SELECT user_version FROM pragma_user_version),
       EXISTS (SELECT 1 FROM delivery WHERE status IN ('pending', 'deferred') AND (next_at <= ? OR next_at > ?))
"""


@click.command()
@click.pass_obj
def command(program: Program) -> None:
    """Try the deliveries that are due again.

    For cron, every few minutes: it seals nothing, and ends at once if nothing is due, or another send is at work. A
    delivery is tried after 5 minutes, then after twice as long up to 4 hours, for 5 days. Once a week it also checks a
    large store for damage.
    """
    path = program.store_path(settings(program.config).get("store"))
    now = program.clock()
    if not _as_owner(path, lambda: is_idle(path, now)):
        _retry(program)
    if _as_owner(path, lambda: _is_check_due(path, now)):
        program.become_owner(path)
        _check(path, now)


def _as_owner(path: Path, question: Callable[[], bool]) -> bool:
    """Answer a question as the store's owner, in a child where that is another user than this root.

    Root may still have to read the configuration: it stays root until it knows that there is work.
    """
    if os.geteuid() or privileges.owner_of(path) is None:
        return question()
    child = os.fork()
    if not child:
        answer = 2
        try:
            privileges.become_owner(path)
            answer = 0 if question() else 1
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def is_idle(path: Path, now: float) -> bool:
    """Say whether a store is surely in order and nothing in it is due; whatever is strange is for the whole program."""
    import _sqlite3

    try:
        if recorder.is_there(recorder.damage_mark(str(path))):
            return False
        seen = recorder.look(str(path))
        if seen is None or seen.st_size == 0:  # nothing was recorded yet: nothing to try
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


def _retry(program: Program) -> None:
    from f2b_digest import delivery
    from f2b_digest.cli.send import tell
    from f2b_digest.store import Store, is_there, sender_lock

    configuration = program.configuration()
    path = program.begin(configuration)
    if not is_there(path):
        return
    with sender_lock(path, 0) as alone:
        if not alone:
            return
        with Store(path, read_only=False) as store:
            outcomes = delivery.retry(configuration, store, program.clock)
    tell(outcomes, program.verbose)


def _is_check_due(path: Path, now: float) -> bool:
    try:
        if path.lstat().st_size <= SMALL:
            return False
        checked = path.with_name(path.name + ".checked").lstat().st_mtime
    except OSError:  # no store; or no send has begun its first week
        return False
    return not now - CHECK_EVERY < checked <= now + 86400


def _check(path: Path, now: float) -> None:
    from f2b_digest.store import verify_all

    verify_all(path, now)
