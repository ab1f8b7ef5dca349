"""What the facts have in common that lead to something. No SQL, no text, no judgement here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fact to act on: every kind except those that only inform."""

    commands: tuple[str, ...] = ()
    """What to type next in a shell, quoted for it; none in digests that were sealed before there were any."""
    run_on: str | None = None
    """Of a fleet: the host on which this is typed, "*" for each host concerned; None: here, as on a single host."""
