"""What the facts have in common that lead to something. No SQL, no text, no judgement here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fact that leads to something: all but what is told in passing."""

    commands: tuple[str, ...] = ()
    """What to type next in a shell, quoted for it; none in digests that were sealed before there were any."""
