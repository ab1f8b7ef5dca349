"""The files of an installation: fail2ban's action, cron's file or systemd's units, an initial configuration."""

import json
import re
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from f2b_digest import resources
from f2b_digest.installation import crontab
from f2b_digest.installation.tree import File, essence

CONFIGURATION = "/etc/f2b-digest/config.toml"
ACTIONS = ("/etc/fail2ban/action.d/f2b-digest.py", "/etc/fail2ban/action.d/f2b-digest.conf")
CRON_FILE = "/etc/cron.d/f2b-digest"
PERIODIC = "/etc/periodic"
"""Folders of programs that Alpine's busybox crond runs, such as `daily`."""
RETRY_TIMER = "/etc/systemd/system/f2b-digest-retry.timer"
FLEET = "/etc/f2b-digest/fleet.toml"
"""What `fleet join` leaves: this host uploads to a fleet's centre."""
FORWARD_UNITS = ("forward.service", "forward.timer")
UNITS = ("send@.service", "send@.timer", "retry.service", "retry.timer", "failed@.service", ".service.d/sandbox.conf")
IsThere = Callable[[str], bool]
"""Says whether the system has a program."""


def actions() -> list[File]:
    """Return the files for fail2ban's action.d."""
    return [File(path, (resources.folder("action.d") / Path(path).name).read_bytes()) for path in ACTIONS]


def cron_file(program: str, reports: Collection[str], is_there: IsThere, *, fleet: bool) -> File:
    """Return the file for cron, with a line for each of `daily` and `weekly` that is among the reports.

    With `fleet`, it also has the upload to a fleet's centre.

    In an edited version the times are kept. Its lines run as root, and call `program` if theirs is gone.
    """
    text = (resources.folder("cron") / "f2b-digest").read_text(encoding="utf-8")
    for report in ("daily", "weekly"):
        text = re.sub(
            rf"^#?@{report}\b", f"@{report}" if report in reports else f"#@{report}", text, flags=re.MULTILINE
        )
    if fleet:
        text = re.sub(r"^#(?=\S.* f2b-digest forward )", "", text, flags=re.MULTILINE)
    command = program.replace("%", r"\%")  # cron's line end
    text = text.replace("root  f2b-digest ", f"root  {command} ")
    moved = partial(crontab.moved, program=program, is_there=is_there)
    return File(CRON_FILE, text.encode(), moved=moved, essence=crontab.essence)


def periodic(program: str, reports: Collection[str], *, fleet: bool) -> list[File]:
    """Return the programs for /etc/periodic: one for each of `daily` and `weekly` among the reports, and the retry.

    With `fleet`, also the upload to a fleet's centre, every 15 minutes.
    """
    commands = {name: [f"send {name}"] for name in ("daily", "weekly") if name in reports}
    commands["15min"] = ["retry", *(["forward --scheduled"] if fleet else [])]
    head = "#!/bin/sh\n# Written by `f2b-digest setup`. crond logs what this prints: trouble, one line each.\n"
    return [
        File(
            f"{PERIODIC}/{folder}/f2b-digest",
            (head + "".join(f"{program} {words}\n" for words in lines)).encode(),
            0o755,
        )
        for folder, lines in commands.items()
    ]


def units(program: str, is_there: IsThere, *, fleet: bool) -> list[File]:
    """Return systemd's units, for a machine without cron; edited versions are treated as cron's file is."""
    files = []
    for name in (*UNITS, *(FORWARD_UNITS if fleet else ())):
        text = (resources.folder("cron") / f"f2b-digest-{name}").read_text(encoding="utf-8")
        text = text.replace("/usr/local/bin/f2b-digest ", f"{program.replace('%', '%%')} ")
        moved = partial(_moved_unit, program=program, is_there=is_there)
        files.append(File(f"/etc/systemd/system/f2b-digest-{name}", text.encode(), moved=moved, essence=_unit_essence))
    return files


def _moved_unit(text: str, program: str, is_there: IsThere) -> str:
    text = re.sub(r"^User[ \t]*=.*$", "User=root", text, flags=re.MULTILINE)
    started = re.search(rf"^ExecStart[ \t]*=[ \t]*[-@:+!]*{crontab.COMMAND.pattern}", text, re.MULTILINE)
    if started and not is_there(started["program"].replace("%%", "%")):
        text = text[: started.start("program")] + program.replace("%", "%%") + text[started.end("program") :]
    return text


def _unit_essence(line: str) -> str:
    """Return the essence of a unit's line, without the admin's times."""
    if line.startswith("OnCalendar"):
        return "OnCalendar"
    if line.startswith("ExecStart"):
        found = crontab.COMMAND.search(line)
        return " ".join(["ExecStart", found["verb"], *found["reports"].split()]) if found else line
    return essence(line)


def store_files(store: str) -> list[str]:
    """Return the file names of a store and its side files."""
    name = Path(store).name
    ends = ("", "-wal", "-shm", "-journal", ".spool", ".spool.taken", ".spool.torn", ".damaged", ".checked", ".upload")
    return [name + end for end in ends]


def timers(reports: Collection[str], *, fleet: bool) -> list[str]:
    """Return the timers to enable: systemd knows the names `daily` and `weekly` as times."""
    sends = [f"f2b-digest-send@{name}.timer" for name in ("daily", "weekly") if name in reports]
    return [*sends, "f2b-digest-retry.timer", *(["f2b-digest-forward.timer"] if fleet else [])]


def first_configuration(
    *, timezone: str, language: str, store: str, sendmail: str | None, sender: str, to: list[str]
) -> File:
    """Return an initial configuration; without sendmail, its mail channel is a comment.

    It names zone and language, for cron's environment is not the admin's. Root alone reads it: it may hold
    passwords.
    """
    lines = [
        "# Begun by `f2b-digest setup`, which never changes it again. `f2b-digest config` prints every key.",
        f"timezone = {_toml(timezone)}",
        f"language = {_toml(language)}",
        f"store = {_toml(store)}",
        "",
        "[reports.daily]",
        f"channels = [{_toml('mail') if sendmail else ''}]",
        "",
    ]
    mail = [
        "[channels.mail]",
        'kind = "email"',
        f"from = {_toml(sender)}",
        f"to = [{', '.join(map(_toml, to))}]",
    ]
    if sendmail:
        lines += [*mail, f"sendmail = {_toml(sendmail)}"]
    else:
        lines += [
            '# No sendmail was found: name a mail server below, and write channels = ["mail"] above.',
            *(
                f"# {line}"
                for line in [*mail, 'smtp = "smtp://user@mail.example.org:587"', 'password_file = "smtp.password"']
            ),
        ]
    return File(CONFIGURATION, "\n".join([*lines, ""]).encode(), 0o600, first=True)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
