"""What `setup` finds on the machine: programs, scheduler, existing configuration. Nothing is changed here."""

import logging
import os
import re
import shutil
import socket
import sys
import tomllib
from pathlib import Path
from typing import Literal

from f2b_digest import config, installation, recorder
from f2b_digest.cli.environment import local_language, local_zone
from f2b_digest.cli.program import Program
from f2b_digest.cli.setup.job import SYSTEMD, Job
from f2b_digest.errors import ConfigurationError
from f2b_digest.fail2ban import jails
from f2b_digest.installation import File, Tree

log = logging.getLogger(__name__)

PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "usr/lib")
Scheduler = Literal["cron", "systemd", "periodic"]
"""`periodic`: the folders that busybox's crond runs, which reads no /etc/cron.d."""


def own_path() -> str:
    """Return this program's path, for a scheduler with another PATH."""
    called = shutil.which(sys.argv[0])
    if called and Path(called).name == "f2b-digest":
        return str(Path(called).absolute())
    beside = Path(sys.executable).with_name("f2b-digest")
    return str(beside) if beside.exists() else f"{sys.executable} -m f2b_digest"


def find(tree: Tree, name: str) -> str | None:
    """Return where a tree has a program."""
    found = (f"/{folder}/{name}" for folder in PROGRAM_FOLDERS if os.path.lexists(tree.at(f"/{folder}/{name}")))
    return next(found, None)  # a link can lead to a place outside of the tree


def has_program(tree: Tree, program: str) -> bool:
    """Return whether a tree has what a cron line or a unit calls."""
    word = program.split(maxsplit=1)[0]
    return tree.at(word).exists() if word.startswith("/") else find(tree, word) is not None


def scheduler(job: Job) -> Scheduler:
    """Return the scheduler: cron if there is one; a package's timers, unless cron already runs it."""
    tree = job.tree
    if job.packaged and SYSTEMD.is_dir() and tree.read(installation.CRON_FILE) is None:
        return "systemd"
    if job.packaged and not SYSTEMD.is_dir():
        return "cron"
    if _has_busybox_crond(tree):
        return "periodic"
    if find(tree, "cron") or find(tree, "crond") or not find(tree, "systemctl"):
        return "cron"
    return "systemd"


def _has_busybox_crond(tree: Tree) -> bool:
    """Return whether the only cron is busybox's, with Alpine's folders."""
    crond = find(tree, "crond")
    is_busybox = crond is not None and tree.at(crond).is_symlink() and tree.at(crond).readlink().name == "busybox"
    return is_busybox and not find(tree, "cron") and tree.at(installation.PERIODIC).is_dir()


def store(program: Program, tree: Tree) -> str:
    """Return the store's path: --store, else that of the existing configuration, else the default."""
    text = tree.read(installation.CONFIGURATION)
    try:
        configured = tomllib.loads(text.decode()).get("store") if text else None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{tree.at(installation.CONFIGURATION)}: {error}"]) from None
    base = Path.cwd() if program.store else Path(installation.CONFIGURATION).parent
    path = str(base / program.store_path(configured or recorder.DEFAULT_STORE))
    known = configured or (recorder.DEFAULT_STORE if text else path)
    if program.store and path != known:
        raise ConfigurationError([f"{tree.at(installation.CONFIGURATION)}: store: is not {path}, as --store says"])
    return path


def is_centre(program: Program, tree: Tree) -> bool:
    """Return whether the existing configuration, or --store, is that of a fleet's centre."""
    text = tree.read(installation.CONFIGURATION)
    try:
        configured = tomllib.loads(text.decode()).get("store") if text else None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # `store` says it
        return False
    return program.is_centre(configured)


def reports(tree: Tree) -> list[str]:
    """Return the reports of the existing configuration, or of the initial one."""
    path = tree.at(installation.CONFIGURATION)
    if not path.exists():
        return ["daily"]
    return list(config.load(path, host="localhost", timezone="UTC", environment=os.environ).reports)


def is_in_fleet(tree: Tree) -> bool:
    """Return whether this host uploads to a fleet's centre."""
    return tree.at(installation.FLEET).exists()


def first_configuration(job: Job, store_path: str) -> File:
    """Return an initial configuration from fail2ban's settings; invalid addresses are replaced by root's."""
    host = os.uname().nodename
    options = jails.mail_options(job.jails)
    sender = options.get("sender", "").replace("<fq-hostname>", socket.getfqdn()).replace("<sh-hostname>", host)
    found = re.split(r"[,\s]+", options.get("destemail", "").strip())
    nobody = ["root@localhost"]
    choices = ((sender, found), (f"root@{host}", found), (f"root@{host}", nobody), (nobody[0], nobody))

    def written(choice: tuple[str, list[str]], sendmail: str | None) -> File:
        return installation.first_configuration(
            timezone=local_zone(), language=local_language(os.environ), store=store_path, sendmail=sendmail,
            sender=choice[0], to=choice[1],
        )  # fmt: skip

    # With sendmail: without it, the addresses are in comments, which are always valid.
    usable = (choice for choice in choices if _is_valid(written(choice, "/usr/sbin/sendmail")))
    return written(next(usable, choices[-1]), find(job.tree, "sendmail"))


def _is_valid(file: File) -> bool:
    """Return whether a configuration is valid."""
    try:
        config.parse(file.content, Path(file.path), host="localhost", timezone="UTC")
    except ConfigurationError as error:
        log.info("not written: %s", error)
        return False
    return True
