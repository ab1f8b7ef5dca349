"""Shell commands that investigate or fix a finding. Nothing is run or judged here.

Commands that undo or settle a finding are fields of it: `OwnBanned.unban`, `JailSilent.line`, `Block.lines`.
"""

import shlex
from dataclasses import replace
from datetime import datetime

from f2b_digest.model.facts import (
    Concerted,
    Drop,
    Fact,
    Fail2banDown,
    JailSilent,
    JailStopped,
    Late,
    NotDelivered,
    OwnBanned,
    OwnBanOver,
    Roaming,
    Surge,
    Targeted,
    Unrecorded,
)
from f2b_digest.model.finding import Finding
from f2b_digest.model.fleet_facts import (
    ClocksOff,
    HostsBehind,
    HostsCopied,
    HostsLacking,
    HostsSilent,
    HostsUnheard,
)

FORWARD = "f2b-digest forward"


def with_commands(fact: Fact, *, start: datetime, report: str, fleet: bool = False) -> Fact:
    """Return a fact with the commands to investigate or fix it, and of a fleet with the host to run them on.

    `start` is the start of the period, in its zone.
    """
    if not isinstance(fact, Finding):
        return fact
    lines = _of_what_is_broken(fact) if fact.needs_you else _of_news(fact, start.date().isoformat(), report)
    return replace(fact, commands=lines, run_on=_run_on(fact, lines) if fleet else None)


def _run_on(fact: Fact, lines: tuple[str, ...]) -> str | None:
    """Return the host of a fleet on which the lines of a fact are for, "*" for several, None for the centre."""
    match fact:
        case HostsLacking(hosts=hosts) | ClocksOff(hosts=hosts):
            return hosts[0].host if len(hosts) == 1 else "*"
        case HostsSilent(hosts=hosts) | HostsBehind(hosts=hosts) if lines == (FORWARD,):
            return hosts[0].host
        case OwnBanned() | OwnBanOver() | JailSilent() | JailStopped() | Fail2banDown() | Drop():
            return fact.host or "*"
    return None


def _of_what_is_broken(fact: Fact) -> tuple[str, ...]:
    lines: tuple[str, ...] = ()
    match fact:
        case JailSilent(jail=jail):
            lines = (_shell("fail2ban-client", "status", jail),)
        case JailStopped(jail=jail):  # `start JAIL` and `reload JAIL` fail for a stopped jail
            lines = (_shell("fail2ban-client", "reload", "--if-exists", jail),)
        case Fail2banDown():
            lines = ("fail2ban-client ping", "systemctl status fail2ban")
        case NotDelivered(failed=0):
            lines = ("f2b-digest status",)
        case NotDelivered():
            lines = (_shell("f2b-digest", "resend", str(fact.digest), "--channel", fact.channel),)
        case Unrecorded() | Late():
            lines = ("f2b-digest check",)
        case _:
            lines = _of_hosts(fact)
    return lines


def _of_hosts(fact: Fact) -> tuple[str, ...]:
    lines: tuple[str, ...] = ()
    match fact:
        case HostsSilent(hosts=hosts) | HostsBehind(hosts=hosts) if len(hosts) == 1:
            lines = (FORWARD,)
        case HostsSilent() | HostsBehind() | HostsCopied():
            lines = ("f2b-digest fleet list",)
        case HostsUnheard(hosts=hosts):
            lines = (_shell("f2b-digest", "fleet", "rotate", hosts[0].host),)
    return lines


def _of_news(fact: Fact, since: str, report: str) -> tuple[str, ...]:
    lines: tuple[str, ...] = ()
    match fact:
        case ClocksOff():
            lines = ("timedatectl set-ntp true",)
        case OwnBanOver():
            lines = (_shell("fail2ban-client", "set", fact.jail, "addignoreip", fact.ip),)
        case Surge(jail=None):
            lines = (_shell("f2b-digest", "history", report),)
        case Surge(jail=str(jail)):
            lines = (_find(jail, "--since", since),)
        case Drop(jail=jail):
            lines = (_shell("fail2ban-client", "status", jail or ""),)
        case Concerted():
            lines = (_find(fact.network or f"AS{fact.asn}"),)
        case Targeted(user=user):
            lines = (_find(user),)
        case Roaming(ip=ip):
            lines = (_find(ip),)
    return lines


def _find(what: str, *options: str) -> str:
    words = (*options, "--", what) if what.startswith("-") else (what, *options)
    return _shell("f2b-digest", "find", *words)


def _shell(*words: str) -> str:
    return shlex.join(word for word in words if word)
