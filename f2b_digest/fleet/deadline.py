"""A deadline for whatever blocks in this process. Standard library only."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class TooLongError(Exception):
    """The deadline has passed."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TooLongError after some seconds: a stopped server keeps its connections open without answering."""

    def end(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
