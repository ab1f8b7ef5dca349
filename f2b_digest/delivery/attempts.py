"""The attempts of a run: claimed, made in parallel children, settled. No SQL, no rendering, no network here."""

# Host names and headers need these codecs, and the delivering user may be unable to read Python's own files.
import encodings.ascii
import encodings.idna
import encodings.latin_1  # noqa: F401
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from f2b_digest import isolation
from f2b_digest.channels.base import DEADLINE, Channel, deadline
from f2b_digest.config import Configuration
from f2b_digest.errors import DeliveryError, PartlyDeliveredError
from f2b_digest.isolation import Children, Finished, NotStartedError, OverdueError, Stopped
from f2b_digest.model.message import Message
from f2b_digest.store import LONGEST_WAIT, Delivery, Outbox

log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Returns UTC epoch seconds."""

# The first wait is longer than an attempt's deadline, so that no running attempt is started twice.
FIRST_WAIT, GIVE_UP = 300.0, 5 * 86400.0
"""Seconds: the retry schedule of a mail queue, with at most `LONGEST_WAIT` between two attempts."""
FEWEST_ATTEMPTS = 5
"""Seconds after which a delivery is given up."""
GRACE = 5.0
"""Seconds before the deadline for a channel to report its progress; then it is killed."""
MEMORY_PER_BYTE = 10
"""Memory per byte of the message, beside that of any delivery: an address report is parsed as JSON."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a delivery, or of a channel's templates."""

    report: str
    channel: str
    recipient: str
    status: str
    """A delivery's status; or "noted": the digest was sent, but something failed while it was made."""
    reason: str = ""


@dataclass(frozen=True)
class _Result:
    """The result of one attempt."""

    status: str
    reason: str = ""
    in_doubt: bool = False
    remaining: bytes | None = None
    unreachable: bool = False
    """The server did not answer."""


def try_all(configuration: Configuration, store: Outbox, deliveries: Iterable[Delivery], clock: Clock) -> list[Outcome]:
    """Attempt deliveries, those of a channel one after the other, the channels in parallel; return the outcomes.

    Only this process writes to the store: each attempt is claimed before it starts, and settled as soon as it ends.
    If a channel's server does not answer, its other deliveries are postponed. The caller holds the sender's lock.
    """
    rows = list(deliveries)
    with Children() as children:
        run = _Run(configuration, store, clock, children, rows)
        for channel in run.queues:
            run.begin_next(channel)
        while children:
            run.end(children.wait())
    return [run.outcomes[row.id] for row in rows if row.id in run.outcomes]


@dataclass
class _Run:
    configuration: Configuration
    store: Outbox
    clock: Clock
    children: Children
    rows: list[Delivery]
    queues: dict[str, deque[Delivery]] = field(default_factory=dict)
    """Open deliveries by channel: those with the fewest attempts first, so that a dead recipient does not block
    the others."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """By the delivery's id."""

    def __post_init__(self) -> None:
        for row in sorted(self.rows, key=lambda row: (row.attempts, row.id)):
            self.queues.setdefault(row.channel, deque()).append(row)

    def begin_next(self, channel: str) -> None:
        """Start a channel's next attempt; those that fail before starting are settled."""
        queue = self.queues[channel]
        while queue and not self._begin(queue.popleft()):
            pass

    def _begin(self, row: Delivery) -> bool:
        """Claim a delivery and start its attempt; return false if another sender has it, or it has already failed."""
        now = self.clock()
        message = self.store.claim(row.id, attempts=row.attempts, next_at=now + wait_of(row))
        if message is None:
            return False
        message = replace(message, at=now)
        channel = self.configuration.channels.get(row.channel)
        mistake = _mistake(channel, row, message)
        if channel is None or mistake:
            self._settle(row, message, mistake or _Result("deferred"))
            return False
        memory = isolation.MEMORY + MEMORY_PER_BYTE * len(message.body)
        log.info("delivery %d: %s to %s, attempt %d", row.id, row.channel, row.recipient, row.attempts + 1)
        try:
            work = _work(channel, message)
            self.children.start((row, message), work, seconds=DEADLINE, memory=memory)
        except NotStartedError as error:
            self._settle(row, message, _Result("deferred", str(error)))
            return False
        return True

    def end(self, finished: Finished) -> None:
        """Settle a finished attempt, and start its channel's next one, or postpone the rest."""
        row, message = finished.key
        result = _result(finished)
        self._settle(row, message, result)
        if result.unreachable:
            self._put_off(self.queues[row.channel], result.reason)
        self.begin_next(row.channel)

    def _settle(self, row: Delivery, message: Message, result: _Result) -> None:
        status, reason = result.status, result.reason
        if status == "deferred" and _is_to_be_given_up(row, message.at, row.attempts + 1):
            status, reason = "failed", _given_up(reason)
        self.store.settle(
            row.id,
            status=status,
            error=reason or None,
            in_doubt=message.in_doubt or result.in_doubt,
            now=self.clock(),
            remaining=result.remaining,
        )
        self._tell(row, status, reason)

    def _put_off(self, queue: deque[Delivery], reason: str) -> None:
        """Postpone deliveries to the same server; no attempt is made or counted."""
        now = self.clock()
        while queue:
            row = queue.popleft()
            status = "failed" if _is_to_be_given_up(row, now, row.attempts) else "deferred"
            why = _given_up(reason) if status == "failed" else reason
            if self.store.put_off(
                row.id, attempts=row.attempts, status=status, error=why, next_at=now + wait_of(row), now=now
            ):
                self._tell(row, status, why)

    def _tell(self, row: Delivery, status: str, reason: str) -> None:
        log.info("delivery %d: %s", row.id, f"{status}: {reason}" if reason else status)
        self.outcomes[row.id] = Outcome(row.report, row.channel, row.recipient, status, reason)


def wait_of(row: Delivery) -> float:
    """Return the seconds from an attempt to the next one."""
    return min(FIRST_WAIT * 2.0 ** min(row.attempts, 20), LONGEST_WAIT)


def _is_to_be_given_up(row: Delivery, now: float, attempts: int) -> bool:
    # Not by age alone: a clock that jumps ahead would end a delivery after its first attempts.
    return now + wait_of(row) > row.made_at + GIVE_UP and attempts >= FEWEST_ATTEMPTS


def _given_up(reason: str) -> str:
    return f"given up after {GIVE_UP / 86400:.0f} days: {reason}"


def _mistake(channel: Channel | None, row: Delivery, message: Message) -> _Result | None:
    """Return why a stored delivery cannot be attempted."""
    if channel is None:
        return _Result("deferred", f"channel {row.channel!r} is no longer in the configuration")
    try:
        channel.accept(message)
    except (ValueError, RecursionError) as error:
        place = f"row {row.id} of the store's table delivery: {error}"
        return _Result("deferred", f"{place}; if you changed the channel, `f2b-digest resend {row.digest}`")
    return None


def _work(channel: Channel, message: Message) -> Callable[[], str | None]:
    def work() -> str | None:
        with deadline(DEADLINE - GRACE):
            return channel.deliver(message)

    return work


def _result(finished: Finished) -> _Result:
    try:
        return _Result("sent", finished.result() or "")
    except DeliveryError as error:
        status = "failed" if error.permanent else "deferred"
        remaining = error.remaining if isinstance(error, PartlyDeliveredError) else None
        return _Result(status, error.reason, error.in_doubt, remaining, error.unreachable)
    except Stopped as error:  # a bug in one channel must not stop the others
        log.debug("an attempt ended without a result", exc_info=True)
        return _Result("deferred", str(error), in_doubt=True, unreachable=isinstance(error, OverdueError))
