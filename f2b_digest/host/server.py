"""The running fail2ban-server, asked for what a digest says beside its bans: which jails run, whom they ignore."""

import ast
import re
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from f2b_digest.fail2ban_client import Client, NoAnswerError, NoProgramError
from f2b_digest.surroundings import AnyNetwork

DEADLINE = 5.0
"""Seconds for all questions together."""
PROMPT = "fail2ban> "
_IGNORED = re.compile(r"^(?:\|-|`-) (\S+)$", re.MULTILINE)
_NO_SOCKET = re.compile(r"Failed to access socket path: (.+)\. Is fail2ban running\?$")
_NO_SERVER = re.compile(r"Unable to contact server\. Is it running\?$")
_REFUSED = "Connection refused"


@dataclass(frozen=True)
class Answers:
    """What the server says; the fields are those of `Surroundings`."""

    running: tuple[str, ...] | None
    ignored: tuple[AnyNetwork, ...] = ()
    increments: bool | None = None


UNKNOWN = Answers(None)


def ask(client: Client) -> Answers:
    """Ask within the deadline. A server that does not run has no jails; one that we may not ask is unknown.

    Where the server does not tell (to other users than root, it does not), its configuration does, but for what runs.
    Two programs are run, however many jails there are: each takes a fifth of a second to start.
    """
    until = time.monotonic() + DEADLINE
    try:
        jails = tuple(client.jails(DEADLINE))
    except NoProgramError:
        return UNKNOWN
    except NoAnswerError as silence:
        return _configured(client, () if _is_down(silence.reason) else None, until)
    questions = [f"get {shlex.quote(jail)} {what}\n" for jail in jails for what in ("ignoreip", "bantime.increment")]
    try:
        said = client.converse("".join(questions), max(until - time.monotonic(), 0.1)) if questions else ""
    except NoAnswerError:
        return Answers(jails)
    return Answers(jails, _networks(said), _increments(said, len(jails)))


def _configured(client: Client, running: tuple[str, ...] | None, until: float) -> Answers:
    """Return what the configuration of the enabled jails says, as fail2ban reads it."""
    try:
        lines = client("-d", patience=max(until - time.monotonic(), 0.1)).splitlines()
    except NoAnswerError:
        return Answers(running)
    ignored: list[str] = []
    increments = False
    for line in lines:
        match ast.literal_eval(line) if line.startswith("['set', ") else None:
            case ["set", _, "addignoreip", *entries]:
                ignored += map(str, entries)
            case ["set", _, "bantime.increment", value]:
                increments = increments or value is True
    return Answers(running, _parsed(ignored), increments)


def _is_down(reason: str) -> bool:
    """Say whether fail2ban's words mean that no server runs, and not that this user cannot see it.

    It says "Is fail2ban running?" of a socket in a folder that is closed to the user, too: we look ourselves.
    """
    if _NO_SERVER.search(reason):
        return _REFUSED in reason
    missing = _NO_SOCKET.search(reason)
    if missing is None:
        return False
    try:
        Path(missing[1]).lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _networks(said: str) -> tuple[AnyNetwork, ...]:
    """Return the addresses and networks of ignoreip's trees."""
    return _parsed(_IGNORED.findall(said))


def _parsed(entries: Iterable[str]) -> tuple[AnyNetwork, ...]:
    """Return addresses and networks. Names are left out: nothing is resolved for a digest."""
    found: dict[AnyNetwork, None] = {}
    for entry in entries:
        try:
            found[ip_network(entry, strict=False)] = None
        except ValueError:
            continue
    return tuple(found)


def _increments(said: str, jails: int) -> bool | None:
    """Return whether some jail has bantime.increment; None unless all have answered."""
    answers = [text.strip() for text in said.split(PROMPT)]
    found = [text for text in answers if text in ("True", "False", "None")]  # None: it was never set
    if "True" in found:
        return True
    return False if found and len(found) == jails else None
