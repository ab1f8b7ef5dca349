"""What a host may ask of its centre: two calls, whose meaning never changes. `by_sql` and `by_ssh` carry them."""

from typing import Any, NamedTuple, Protocol

from f2b_digest.store import Chain, End

NOT_ENROLLED, ELSEWHERE, TOO_MUCH, ENOUGH = "F2B01", "F2B02", "F2B03", "F2B04"
"""The centre's states for a host that it does not know, a batch that does not follow, one beyond its limits, and a host
that has used up its quota of today."""
MALFORMED, MISSING = "22P02", "23502"
"""PostgreSQL's states for a value of the wrong type, and for a missing one: a batch with either is bisected."""
AWAY = ("08", "40", "53", "55", "57", "58")
"""Classes of temporary states: connection, serialization, no room, not now, shut down or cancelled, I/O."""
PASSING = ("25006", "XX000", ENOUGH)
"""And single ones: read-only; a fault of Citus's workers, which it does not classify; quota used up."""


def passes(state: str) -> bool:
    """Return whether a refusal with this state can be gone at the next attempt."""
    return state[:2] in AWAY or state in PASSING


class Answer(NamedTuple):
    """What the centre says to a hello."""

    host: str
    """The centre's name for the host."""
    end: End | None
    """Where the life's chain ends; None if the life is unknown."""


class Door(Protocol):
    """An open connection. Both calls raise CentreError, and can be repeated."""

    def hello(self, life: str, chain: Chain | None, state: dict[str, Any]) -> Answer:
        """Report a host's state, and ask where a life's chain ends.

        With a chain, an unknown life begins where the newest known batch of it ends.
        """

    def append(self, life: str, after: End, batch: End, rows: str) -> None:
        """Append a batch of rows (a JSON array of objects) to a life's chain, which must end with `after`."""
