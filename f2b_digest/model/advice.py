"""A digest's recommendations, as plain values with the lines that carry them out. No SQL, text or analysis here.

Lines are for a configuration or a shell.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True)
class Increment:
    """Increasing ban times would have prevented bans."""

    spared: int
    """Bans that happened while a doubling ban time would still have been active, of the addresses with the most
    bans."""
    addresses: int
    """Whose bans these were."""
    bans: int
    """All bans of the digest."""
    lines: tuple[str, ...]
    kind: Literal["increment"] = "increment"


@dataclass(frozen=True)
class Recidive:
    """A recidive jail for repeat offenders."""

    addresses: int
    """Banned at least `from_bans` times in the period."""
    from_bans: int
    bans: int
    """Of these addresses."""
    lines: tuple[str, ...]
    kind: Literal["recidive"] = "recidive"


@dataclass(frozen=True)
class Block:
    """Blocking a network of a campaign."""

    network: str
    addresses: int
    bans: int
    lines: tuple[str, ...]
    """For a shell: for the jail's ban time; until the next boot."""
    bantime: int | None = None
    """Seconds that the first one lasts: the jail's last ban time; -1 is permanent; None if unknown."""
    kind: Literal["block"] = "block"


Advice = Annotated[Increment | Recidive | Block, Field(discriminator="kind")]
