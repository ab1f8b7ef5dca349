"""Jails as fail2ban itself sees them, and a test ban in a scratch jail.

No file of fail2ban's is changed here: changes are tried on a copy of the configuration.
"""

import ast
import configparser
import json
import logging
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from f2b_digest.errors import SetupError
from f2b_digest.fail2ban.client import Client
from f2b_digest.recorder import SCRATCH_JAIL

log = logging.getLogger(__name__)

ACTION = "f2b-digest"
# fail2ban reads it last, so that "known/…" in it has the values of all other files.
SNIPPET = "jail.d/zz-f2b-digest.local"
"""Our jail configuration, below fail2ban's folder."""
ADDRESS = "192.0.2.1"
"""A documentation address (RFC 5737); no real jail sees it."""
PLAIN_PATH = re.compile(r"/[\w./@+=,:%~ -]+")
"""A store's path in which only % needs escaping in fail2ban's configuration."""
NAMED = re.compile(r"^(?![ \t]*[#;]).*?(?:^|[\s=])f2b-digest(?:\.py)?[ \t]*(?:\[|$)", re.MULTILINE)
HEAD = """\
# Written by `f2b-digest setup`: each enabled jail does what it did, and records its bans. Run it again after enabling a
# jail. A change of yours here survives; setup then says what differs.
"""
ACTIONS_OF = re.compile(r"The jail .+ has the following actions:\n")
PROPERTIES_OF = re.compile(r"The jail .+ has the following properties:\n")
OPTIONS = ("dbpath", "store")
"""The store's option in our Python action and in our shell action; no other action has either."""
PROMPT = "fail2ban> "
PATIENCE = 30.0
"""Timeout in seconds for the answers to one kind of question."""
Commands = list[list[Any]]
"""What fail2ban-client would configure for one jail."""


# ---- actions of the jails


def effective(folder: Path) -> dict[str, Commands]:
    """Return the actions of each enabled jail of a configuration, as fail2ban reads it. Raises SetupError."""
    jails: dict[str, Commands] = {}
    for line in Client("-c", folder)("-d").splitlines():
        if line.startswith("["):
            command = ast.literal_eval(line)
            if command[0] == "add":
                jails[command[1]] = []
            if len(command) > 1 and command[1] in jails:
                jails[command[1]].append(command)
    return jails


def records(commands: Commands) -> bool:
    """Return whether a jail has our action, the Python or the shell one, under any name."""
    return any(_is_ours(command) for command in commands)


def records_to(commands: Commands, store: str) -> bool:
    """Return whether a jail has the Python action with this store."""
    return any(
        command[2:4] == ["addaction", ACTION] and len(command) > 5 and json.loads(command[5]).get("dbpath") == store
        for command in commands
    )


def _is_ours(command: list[Any]) -> bool:
    match command:
        case ["set", _, "addaction", name, *rest]:
            return name == ACTION or (bool(rest) and Path(rest[0]).name == f"{ACTION}.py")
        case ["multi-set", _, "action", _, list(properties)]:
            return any(key == "actionban" and ACTION in str(value) for key, value in properties)
    return False


@dataclass(frozen=True)
class Jails:
    """What the enabled jails need."""

    snippet: str
    """For `SNIPPET`; empty where no jail needs it."""
    added: tuple[str, ...]
    present: tuple[str, ...]
    """They have our action by other means."""
    refused: tuple[str, ...]
    """Our line cannot be added: their action is set in a later file, or uses known/action itself."""


def plan_jails(folder: Path, store: str) -> Jails:
    """Find the lines that add our action to every enabled jail and change nothing else, verified on a copy.

    Raises SetupError if fail2ban cannot read its current configuration.
    """
    if not PLAIN_PATH.fullmatch(store):
        raise SetupError(f"store {store}: this path cannot be used in fail2ban's configuration")
    with _scratch_folder() as scratch:
        copy = Path(scratch) / "fail2ban"
        try:
            shutil.copytree(folder, copy, ignore_dangling_symlinks=True)
            (copy / SNIPPET).unlink(missing_ok=True)
            (copy / SNIPPET).parent.mkdir(exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise SetupError(f"{folder} cannot be copied to {copy}: {error}") from None
        before = effective(copy)
        missing = [jail for jail, commands in before.items() if not records(commands)]
        added = missing
        if not _only_adds(copy, before, missing, store):
            added = [jail for jail in missing if _only_adds(copy, before, [jail], store)]
            if not _only_adds(copy, before, added, store):
                raise SetupError(f"{folder}: cannot add the f2b-digest action to {', '.join(added)} together")
    return Jails(
        _snippet(added, store) if added else "", tuple(added),
        tuple(jail for jail in before if jail not in missing), tuple(jail for jail in missing if jail not in added),
    )  # fmt: skip


def _scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="f2b-digest-", ignore_cleanup_errors=True)
    except OSError as refused:
        reason = f"{refused.filename}: {refused.strerror}" if refused.filename else refused.strerror
        raise SetupError(f"cannot create a temporary folder ({reason}): set TMPDIR to a folder with room") from None


def action_line(store: str) -> str:
    """Return the line that adds our action to a jail."""
    return f'{ACTION}.py[dbpath="{store.replace("%", "%%")}"]'


def _snippet(jails: Sequence[str], store: str) -> str:
    sections = [f"\n[{jail}]\naction = %(known/action)s\n         {action_line(store)}\n" for jail in jails]
    return HEAD + "".join(sections)


def _only_adds(copy: Path, before: dict[str, Commands], jails: Sequence[str], store: str) -> bool:
    """Return whether our lines for these jails add one action to each of them and change nothing else."""
    (copy / SNIPPET).write_text(_snippet(jails, store), encoding="utf-8")
    try:
        after = effective(copy)
    except SetupError as refused:
        log.info("fail2ban does not take our lines for %s: %s", ", ".join(jails), refused)
        return False
    rest = {
        jail: [command for command in commands if jail not in jails or not _is_ours(command)]
        for jail, commands in after.items()
    }
    return rest == before and all(sum(map(_is_ours, after[jail])) == 1 for jail in jails)


def names_us(folder: Path, without: Sequence[Path] = ()) -> list[Path]:
    """Return the jail files that name our action: fail2ban starts no jail at all if the action's file is missing."""
    files = [*folder.glob("jail.conf"), *folder.glob("jail.local"), *sorted(folder.glob("jail.d/*"))]
    return [
        file
        for file in files
        if file.suffix in (".conf", ".local") and file not in without and NAMED.search(file.read_text(errors="replace"))
    ]


def mail_options(folder: Path) -> dict[str, str]:
    """Return `destemail` and `sender` where fail2ban's [DEFAULT] has them as plain text."""
    parser = configparser.ConfigParser(strict=False, inline_comment_prefixes=(";",), interpolation=None)
    for pattern in ("jail.conf", "jail.d/*.conf", "jail.local", "jail.d/*.local"):
        for file in sorted(folder.glob(pattern)):
            try:
                parser.read(file, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError):
                log.info("%s: its destemail and sender are left out", file, exc_info=True)
    defaults = parser.defaults()
    return {key: defaults[key] for key in ("destemail", "sender") if "%(" not in defaults.get(key, "%(")}


# ---- a server


def stores(client: Client, jails: Sequence[str]) -> dict[str, str | None]:
    """Return the store that each of these running jails records to; None where it has no action of ours.

    Our actions are recognized by their options, as `actname` can rename them. Only existing options are asked
    for: anything else is an error in fail2ban's log. Raises SetupError.
    """
    listed = _ask(client, [("get", jail, "actions") for jail in jails])
    actions = [(jail, name) for jail, answer in zip(jails, listed, strict=True) for name in _after(ACTIONS_OF, answer)]
    listed = _ask(client, [("get", jail, "actionproperties", name) for jail, name in actions])
    ours = [
        (jail, "action", name, option)
        for (jail, name), answer in zip(actions, listed, strict=True)
        for option in OPTIONS
        if option in _after(PROPERTIES_OF, answer)
    ]
    answers = _ask(client, [("get", *words) for words in ours])
    found = {words[0]: answer for words, answer in reversed([*zip(ours, answers, strict=True)])}
    return {jail: found.get(jail) for jail in jails}


def _after(head: re.Pattern[str], answer: str) -> list[str]:
    """Return the names of a list; none for other answers ("No actions for …")."""
    found = head.match(answer)
    return [name.strip() for name in answer[found.end() :].split(",") if name.strip()] if found else []


def _ask(client: Client, questions: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the answers to questions, asked in one session. Raises SetupError."""
    if not questions:
        return []
    lines = "".join(shlex.join(question) + "\n" for question in questions)
    said = client.converse(lines, PATIENCE).split(PROMPT)[1 : len(questions) + 1]
    if len(said) != len(questions):
        raise SetupError("fail2ban-client gave an incomplete answer: is fail2ban stopping?")
    return [answer.strip() for answer in said]


def try_a_ban(client: Client, action: Path, folder: Path, has_ban: Callable[[Path, str], bool]) -> None:
    """Ban a documentation address in a scratch jail that has no other action than ours, and find it in a scratch store.

    The store is created and removed below `folder`, where the real one is. `has_ban` says whether a store has a ban
    of an address. Raises SetupError.
    """
    with tempfile.TemporaryDirectory(prefix="setup-", dir=folder, ignore_cleanup_errors=True) as scratch:
        store = f"{scratch}/bans.sqlite3"
        if SCRATCH_JAIL in client.jails():  # left by a killed setup
            client.succeeds("stop", SCRATCH_JAIL)
        client("add", SCRATCH_JAIL, "polling")
        try:
            client("set", SCRATCH_JAIL, "addaction", ACTION, str(action), json.dumps({"dbpath": store}))
            client("start", SCRATCH_JAIL)
            client("set", SCRATCH_JAIL, "banip", ADDRESS)
            until = time.monotonic() + 5
            while not has_ban(Path(store), ADDRESS):
                if time.monotonic() > until:
                    raise SetupError(f"a test ban in a scratch jail did not reach {store}: see fail2ban's log")
                time.sleep(0.05)
            client("set", SCRATCH_JAIL, "unbanip", ADDRESS)
        finally:
            client.succeeds("stop", SCRATCH_JAIL)


@contextmanager
def scratch_server() -> Iterator[Client]:
    """Run a fail2ban server without jails and with its own configuration, for a machine where none runs."""
    with _scratch_folder() as scratch:
        folder = Path(scratch)
        settings = {"loglevel": "INFO", "logtarget": folder / "log", "dbfile": "None", "syslogsocket": "auto"}
        lines = [f"{key} = {value}" for key, value in settings.items()]
        (folder / "fail2ban.conf").write_text("\n".join(["[Definition]", *lines, ""]))
        (folder / "jail.conf").touch()
        client = Client("-c", folder, "-s", folder / "socket", "-p", folder / "pid")
        client("start")
        try:
            yield client
        finally:
            client("stop")
