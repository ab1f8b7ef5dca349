"""The package's own log, for -v and -vv, on standard error.

Libraries' logs are dropped: they may contain a URL with a secret.
"""

import logging
import sqlite3
import traceback
from types import TracebackType

from f2b_digest.cli.program import complain_as_is
from f2b_digest.errors import F2bDigestError

TELLING = (F2bDigestError, OSError, sqlite3.Error)
"""Exceptions whose text contains no secret; of any other, only the class is logged."""


def begin(verbosity: int) -> None:
    """Log to standard error: with 1 what is done, with 2 also each suppressed error, with its traceback."""
    log = logging.getLogger("f2b_digest")
    log.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    log.handlers[:] = [_Lines()]
    log.propagate = False


def end() -> None:
    """Stop logging."""
    logging.getLogger("f2b_digest").handlers.clear()


def keep_silent() -> None:
    """Without -v: keep Python from printing warnings, as it does for a log without a handler."""
    log = logging.getLogger("f2b_digest")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


class _Lines(logging.Handler):
    """Prints each record with control characters escaped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, with -vv also its traceback."""
        complain_as_is(record.getMessage())
        if record.exc_info and record.exc_info[1] and logging.getLogger("f2b_digest").isEnabledFor(logging.DEBUG):
            for line in _way(record.exc_info[1], record.exc_info[2]):
                complain_as_is(line)


def _way(error: BaseException, place: TracebackType | None) -> list[str]:
    lines = [
        f"  {frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(place)
    ]
    text = f": {error}" if isinstance(error, TELLING) else ""
    return [*lines, f"  {type(error).__name__}{text}"]
