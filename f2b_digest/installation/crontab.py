"""Finding and changing the lines of a cron table that start our program.

Their times are not parsed: they are the admin's.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TIMES = r"@\w+|\S+(?:[ \t]+\S+){4}"
LINE = re.compile(rf"^[ \t]*(?P<times>{TIMES})[ \t]+(?P<rest>\S.*)$")
COMMAND = re.compile(
    r"(?P<program>\S*python[\d.]*[ \t]+-m[ \t]+f2b_digest|\S*f2b-digest)(?P<options>(?:[ \t]+[^\s|;&>]+)*?)"
    r"[ \t]+(?P<verb>send|retry|forward)\b(?P<reports>(?:[ \t]+(?!\d*[<>])[\w.%][\w.-]*)*)"
)
SETTING = re.compile(r"[ \t]*(\w+)[ \t]*=[ \t]*[\"']?([^\"']*?)[\"']?[ \t]*")
PATH = "/usr/bin:/bin"
"""cron's default PATH."""
OFF = "#off# "
"""Prefix of a line turned off by uninstall."""


@dataclass(frozen=True)
class Job:
    """A command that starts our program."""

    user: str
    """Empty in a table without a user column."""
    program: str
    options: str
    verb: str
    reports: tuple[str, ...]
    """Empty for all reports."""
    path: str
    """The daemon's PATH."""


def jobs(text: str, *, with_user: bool) -> Iterator[Job]:
    """Yield the commands of a table; `with_user`: it is a system table, with a user column."""
    path = PATH
    for line in text.splitlines():
        setting = SETTING.fullmatch(line)
        if setting and setting[1] == "PATH":
            path = setting[2]
        found = _parts(line, with_user=with_user)
        if found:
            yield job(found[1], found[0], path)


def job(found: re.Match[str], user: str, path: str) -> Job:
    """Return the command of a match of `COMMAND`."""
    program = found["program"].replace(r"\%", "%")
    return Job(
        user,
        program,
        found["options"].replace(r"\%", "%").strip(),
        found["verb"],
        tuple(found["reports"].split()),
        path,
    )


def times(text: str) -> dict[str, str]:
    """Return each report's time fields in a system table."""
    found = ((LINE.match(line), _parts(line)) for line in text.splitlines())
    return {
        report: schedule["times"]
        for schedule, parts in found
        if schedule and parts and parts[1]["verb"] == "send"
        for report in parts[1]["reports"].split()
    }


def _parts(line: str, *, with_user: bool = True) -> tuple[str, re.Match[str]] | None:
    """Return the user and the command of a line that starts our program."""
    schedule = LINE.match(line)
    if not schedule or line.lstrip().startswith("#") or SETTING.fullmatch(line):
        return None
    user = schedule["rest"].split(maxsplit=1)[0] if with_user else ""
    command = COMMAND.search(line, schedule.start("rest") + len(user))  # a user can have our program's name
    return (user, command) if command else None


def moved(text: str, program: str, is_there: Callable[[str], bool]) -> str:
    """Return a table of the system whose lines start our program as root, and the program that is there.

    Lines turned off by uninstall are on again; everything else is kept.
    """
    return "".join(_moved(line, program, is_there) for line in text.splitlines(keepends=True))


def _moved(line: str, program: str, is_there: Callable[[str], bool]) -> str:
    kept, line = line, line.removeprefix(OFF)
    found, schedule = _parts(line), LINE.match(line)
    if not found or not schedule:
        return kept
    user, command = found
    if not is_there(command["program"].replace(r"\%", "%")):
        line = line[: command.start("program")] + program.replace("%", r"\%") + line[command.end("program") :]
    at = schedule.start("rest")
    return line[:at] + "root" + line[at + len(user) :]


def turned_off(text: str) -> str:
    """Return a table of the system without our program: its lines are comments."""
    return "".join(OFF + line if _parts(line) else line for line in text.splitlines(keepends=True))


def is_only_ours(text: str) -> bool:
    """Return whether a table starts nothing but our program."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return all(_parts(line) or SETTING.fullmatch(line) for line in lines)


def essence(line: str) -> str:
    """Return a line's command without its times; "" for a comment."""
    found = _parts(line)
    if found:
        return " ".join([found[0], found[1]["verb"], *found[1]["reports"].split()])
    return "" if line.lstrip().startswith("#") else " ".join(line.split())
