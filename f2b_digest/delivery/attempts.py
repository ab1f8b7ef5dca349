"""The attempts of a run: claimed, made in children side by side, settled. No SQL, no rendering, no network here."""

# Names of hosts and headers need these codecs, and who delivers may not be able to read Python's own files any more.
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

FIRST_WAIT, GIVE_UP = 300.0, 5 * 86400.0
"""Seconds: a mail queue's schedule, with at most `LONGEST_WAIT` between two attempts.

The first wait is longer than an attempt's deadline, so that no attempt under way is begun a second time."""
FEWEST_ATTEMPTS = 5
"""Before a delivery is given up."""
GRACE = 5.0
"""Seconds before its deadline in which a channel may still say how far it came; then it is killed."""
MEMORY_PER_BYTE = 10
"""Of a message, beside what any delivery may take: a report of addresses is read as JSON."""


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery, or of a channel's own templates."""

    report: str
    channel: str
    recipient: str
    status: str
    """One of a delivery's; or "noted": something went wrong in the making of the digest, which went out."""
    reason: str = ""


@dataclass(frozen=True)
class _Result:
    """What one attempt led to."""

    status: str
    reason: str = ""
    in_doubt: bool = False
    remaining: bytes | None = None
    unreachable: bool = False
    """The channel's other side did not answer."""


def try_all(configuration: Configuration, store: Outbox, deliveries: Iterable[Delivery], clock: Clock) -> list[Outcome]:
    """Try some deliveries, each channel's one after the other, the channels side by side; return what became of them.

    Only this process writes to the store: each attempt is claimed before it begins, and settled as soon as it ends.
    Where a channel's other side does not answer, its other deliveries are put off. The caller holds the sender's lock.
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
    """What is still to be tried, by channel: first what was tried least, so that no dead recipient stands in the way
    of the others for ever."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """By the delivery's id."""

    def __post_init__(self) -> None:
        for row in sorted(self.rows, key=lambda row: (row.attempts, row.id)):
            self.queues.setdefault(row.channel, deque()).append(row)

    def begin_next(self, channel: str) -> None:
        """Begin a channel's next attempt; those that end before they begin are settled on the way."""
        queue = self.queues[channel]
        while queue and not self._begin(queue.popleft()):
            pass

    def _begin(self, row: Delivery) -> bool:
        """Claim a delivery and start its attempt; return false if it was another sender's, or has ended already."""
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
        """Settle the attempt that has ended, and begin its channel's next one, or put off the rest."""
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
        """Defer what waits for the same other side; no attempt is made or counted."""
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
    # Not by age alone: a clock that jumps ahead would end a delivery that had hardly begun.
    return now + wait_of(row) > row.made_at + GIVE_UP and attempts >= FEWEST_ATTEMPTS


def _given_up(reason: str) -> str:
    return f"given up after {GIVE_UP / 86400:.0f} days: {reason}"


def _mistake(channel: Channel | None, row: Delivery, message: Message) -> _Result | None:
    """Return why a delivery cannot be tried as it stands in the store."""
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
    except Stopped as error:  # a bug of one channel must not keep the others waiting
        log.debug("an attempt ended without a result", exc_info=True)
        return _Result("deferred", str(error), in_doubt=True, unreachable=isinstance(error, OverdueError))
