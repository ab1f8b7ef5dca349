"""Queries to the running fail2ban-server: which jails run, and whom they ignore."""

import ast
import json
import logging
import os
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from f2b_digest.fail2ban.client import Client, NoAnswerError, NoProgramError
from f2b_digest.model.host_context import AnyNetwork

log = logging.getLogger(__name__)
DEADLINE = 15.0
"""Deadline in seconds for all questions: on a small or busy machine, each program takes two to start."""
AT_ONCE = 3.0
"""Deadline in seconds for an interactive question."""
QUESTIONS = ("ignoreip", "bantime.increment", "actions")
LOG_QUESTIONS = ("get logtarget", "get loglevel")
OPTIONS = ("dbpath", "store")
"""The store's option in our Python action and in our shell action; no other action has either."""
ACTION = "f2b-digest"
PROMPT = "fail2ban> "
_IGNORED = re.compile(r"^(?:\|-|`-) (\S+)$", re.MULTILINE)
_NO_SOCKET = re.compile(r"Failed to access socket path: (.+)\. Is fail2ban running\?$")
_NO_SERVER = re.compile(r"Unable to contact server\. Is it running\?$")
_REFUSED = "Connection refused"


class LogTarget(NamedTuple):
    """The server's log target; empty if unknown."""

    target: str = ""
    """A file's path, or SYSLOG, SYSTEMD-JOURNAL, STDOUT…"""
    level: str = ""


NOT_TOLD = LogTarget()


@dataclass(frozen=True)
class Answers:
    """The server's answers; the fields are those of `HostContext`."""

    running: tuple[str, ...] | None
    ignored: tuple[AnyNetwork, ...] = ()
    increments: bool | None = None
    stores: tuple[str, ...] | None = None
    """Resolved absolute paths; None if unknown."""
    log: LogTarget = NOT_TOLD
    asked: bool = True
    """False if fail2ban answered only in part; if it is down, its configuration is used."""


UNKNOWN = Answers(None)


def ask(client: Client) -> Answers:
    """Ask within the deadline. A server that is down has no jails; one that we may not ask is unknown.

    If the server does not answer (it does so to root only), its configuration is used, except for what runs.
    Four programs are run, whatever the number of jails: each takes 0.2 s to start. Only what exists is
    asked for: fail2ban logs any other question as an error.
    """
    until = time.monotonic() + DEADLINE
    try:
        jails = tuple(client.jails(DEADLINE))
    except NoProgramError:
        return UNKNOWN  # nothing to be asked
    except NoAnswerError as silence:
        log.info("fail2ban does not answer: %s", silence.reason)
        return _configured(client, () if _is_down(silence.reason) else None, until)
    try:
        questions = [f"get {shlex.quote(jail)} {what}" for jail in jails for what in QUESTIONS]
        *said, target, level = _each(client, [*questions, *LOG_QUESTIONS], until)
        stores = _stores(client, jails, said[2 :: len(QUESTIONS)], until)
    except NoAnswerError:
        log.info("fail2ban did not answer everything", exc_info=log.isEnabledFor(logging.DEBUG))
        return Answers(jails, asked=False)
    logged = LogTarget(target.rpartition("`- ")[2], level.rpartition(" ")[2].strip("'"))
    return Answers(jails, _networks("\n".join(said)), _increments(said, len(jails)), stores, logged)


def _each(client: Client, questions: Sequence[str], until: float) -> list[str]:
    """Return the answer to each question, asked in one session. Raises NoAnswerError."""
    if not questions:
        return []
    said = client.converse("".join(f"{each}\n" for each in questions), max(until - time.monotonic(), 0.1))
    answers = [text.strip() for text in said.split(PROMPT)[1:]]
    if len(answers) < len(questions):
        reason = "incomplete reply"
        raise NoAnswerError(reason, reason)
    return answers[: len(questions)]


def _stores(client: Client, jails: Sequence[str], actions: Sequence[str], until: float) -> tuple[str, ...]:
    """Return where the actions of the running jails record to: our actions have a store option."""
    pairs = [
        (shlex.quote(jail), shlex.quote(name.strip()))
        for jail, said in zip(jails, actions, strict=True)
        for name in said.rpartition("\n")[2].split(",")
        if said.startswith("The jail ") and name.strip()
    ]
    options = _each(client, [f"get {jail} actionproperties {action}" for jail, action in pairs], until)
    questions = [
        f"get {jail} action {action} {option}"
        for (jail, action), said in zip(pairs, options, strict=True)
        for option in OPTIONS
        if option in said.rpartition("\n")[2].split(", ")
    ]
    return _paths(_each(client, questions, until))


def _paths(stores: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({os.path.realpath(store) for store in stores if store.startswith("/")}))


def _configured(client: Client, running: tuple[str, ...] | None, until: float) -> Answers:
    """Return the same from the configuration of the enabled jails, as fail2ban reads it."""
    try:
        lines = client("-d", patience=max(until - time.monotonic(), 0.1)).splitlines()
    except NoAnswerError as silence:
        log.info("fail2ban's configuration cannot be read: %s", silence.reason)
        return Answers(running, asked=False)
    ignored: list[str] = []
    stores: list[str] = []
    increments = False
    logged = LogTarget()
    for line in lines:
        match ast.literal_eval(line) if line.startswith("['set', ") else None:
            case ["set", _, "addignoreip", *entries]:
                ignored += map(str, entries)
            case ["set", "logtarget", target]:
                logged = logged._replace(target=str(target))
            case ["set", "loglevel", level]:
                logged = logged._replace(level=str(level))
            case ["set", _, "bantime.increment", value]:
                increments = increments or value is True
            case ["set", _, "addaction", _, _, str(options)]:
                stores += filter(None, [json.loads(options).get("dbpath")])
    stores += [options["store"] for options in _shell_options(lines) if ACTION in options.get("actionban", "")]
    return Answers(running, _parsed(ignored), increments, _paths(stores), logged, asked=running is not None)


def _shell_options(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the options of the actions that are commands and have a store."""
    for line in lines:
        match ast.literal_eval(line) if line.startswith("['multi-set', ") else None:
            case ["multi-set", _, "action", _, list(pairs)]:
                options = {str(key): str(value) for key, value in pairs}
                if "store" in options:
                    yield options


def _is_down(reason: str) -> bool:
    """Return whether fail2ban's message means that no server runs, rather than that this user cannot see it.

    It also says "Is fail2ban running?" of a socket in a folder closed to the user, so that is checked.
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
    """Return addresses and networks. Host names are skipped: nothing is resolved."""
    found: dict[AnyNetwork, None] = {}
    for entry in entries:
        try:
            found[ip_network(entry, strict=False)] = None
        except ValueError:
            continue
    return tuple(found)


def _increments(said: Sequence[str], jails: int) -> bool | None:
    """Return whether some jail has bantime.increment; None unless all have answered."""
    found = [text for text in said if text in ("True", "False", "None")]  # None: it was never set
    if "True" in found:
        return True
    return False if found and len(found) == jails else None


def ask_banned(client: Client, ips: Sequence[str]) -> str | None:
    """Return the running server's answer about some addresses, unparsed; None if there is none."""
    try:
        return client("banned", *ips, patience=AT_ONCE) if ips else None
    except NoAnswerError as silence:
        log.info("fail2ban does not say who is banned: %s", silence.reason)
        return None


def banned(said: str, ips: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    """Return by address the jails that ban it, from the answer to `ask_banned`; None if it cannot be parsed."""
    try:
        lists = ast.literal_eval(said.strip())
        return {ip: tuple(str(jail) for jail in jails) for ip, jails in zip(ips, lists, strict=True)}
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        log.info("fail2ban's answer is not understood: %.200r", said)
        return None
