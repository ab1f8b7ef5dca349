"""Ban times of a log's bans, from its unbans and its jails' configured times. No files here.

A log dates a ban later than fail2ban does, which uses the last failure, and an unban up to some seconds after it is
due: the difference of the two is not exactly the ban time.
"""

from collections import Counter, deque

RECENT = 20
"""Number of last ended bans of a jail that determine its usual ban time, which may be reconfigured."""
FEWEST, SHARE = 3, 0.6
"""Of them, how many and which part must be alike."""
LATE, EARLY = 60, 60
"""Seconds by which the time between ban and unban may exceed, or miss, the ban time."""


class BanTimes:
    """The ban times of one log's jails, as far as it has been read."""

    def __init__(self) -> None:
        """Start without any ban time."""
        self._configured: dict[str, int] = {}
        self._recent: dict[str, deque[int]] = {}

    def configure(self, jail: str, bantime: int) -> None:
        """Set a jail's configured ban time: seconds, -1 for permanent."""
        self._configured[jail] = bantime
        self._recent.pop(jail, None)

    def usual(self, jail: str) -> int | None:
        """Return the ban time (seconds, -1 for permanent) that most recent bans had, or the configured one."""
        recent = self._recent.get(jail, ())
        bantime, times = Counter(recent).most_common(1)[0] if recent else (0, 0)
        often = times >= FEWEST and times >= SHARE * len(recent)
        return bantime if often else self._configured.get(jail)

    def of_ended(self, jail: str, seconds: float) -> int:
        """Return the ban time of a ban that ended after so many seconds, and learn from it.

        One that is far shorter than usual was lifted early; its time is the usual one.
        """
        usual = self.usual(jail)
        as_usual = usual is not None and usual > 0 and usual - EARLY <= seconds <= usual + LATE
        bantime = usual if as_usual and usual is not None else rounded(seconds)
        self._recent.setdefault(jail, deque(maxlen=RECENT)).append(bantime)
        lifted = usual is not None and (usual < 0 or seconds < usual)
        return usual if lifted and usual is not None else bantime


def rounded(seconds: float) -> int:
    """Return the time rounded to hours or minutes if it is close to that, else in seconds."""
    for unit, leeway in ((3600, 30), (60, 3)):
        near = round(seconds / unit) * unit
        if near and abs(seconds - near) <= leeway:
            return near
    return max(0, round(seconds))
