"""`setup --uninstall`: removes what setup wrote, and with --purge also the store, the configuration and the user."""

import logging
import os
import pwd
import shutil
from pathlib import Path

from f2b_digest import installation, recorder
from f2b_digest.checks import schedule
from f2b_digest.cli.program import complain, say
from f2b_digest.cli.setup.job import UNITS, Job, has
from f2b_digest.errors import SetupError
from f2b_digest.fail2ban import jails
from f2b_digest.fail2ban.client import Client
from f2b_digest.installation import CONFIGURATION, CRON_FILE, MANIFEST, Manifest, Step, crontab

log = logging.getLogger(__name__)

HOMELESS = "/nonexistent"
"""The home of a user created by setup."""
REMOVE_PROGRAM = "if you installed it as documented, remove it with:  rm -r /opt/f2b-digest /usr/local/bin/f2b-digest"
REMOVE_PACKAGE = "remove it with:  apt purge f2b-digest"


def take_back(job: Job) -> None:
    """Remove unchanged files of setup; the store, the configuration and the user are kept."""
    manifest = job.manifest()
    steps, users = _steps(job, manifest)
    if users:
        complain(f"{users[0]} uses the f2b-digest action: its file is kept, because fail2ban needs it")
    job.show(steps)
    _do(job, steps, manifest)
    if not steps:
        say("nothing left to uninstall")
    if job.tree.read(CONFIGURATION) is not None:
        say(f"the store, {CONFIGURATION} and the user {job.user} are kept; --purge removes them too")
    _reload(job, steps)
    _tell_other_tables(job)


def _steps(job: Job, manifest: Manifest) -> tuple[list[Step], list[Path]]:
    """Return the steps, and the jail files that still use our action, whose file is then kept."""
    steps = job.retired(job.tree.plan([], manifest))
    removed = [job.tree.at(step.path) for step in steps if step.verb == "remove"]
    users = jails.names_us(job.jails, without=removed)
    return [step for step in steps if not (users and step.path in installation.ACTIONS)], users


def _do(job: Job, steps: list[Step], manifest: Manifest) -> None:
    job.stop_timers(steps)
    job.stop_the_packages_timers()
    if job.dry:
        return
    kept = {path: known for path, known in manifest.files.items() if path in installation.ACTIONS}
    job.tree.apply(steps, manifest)
    manifest.files = {path: known for path, known in kept.items() if path in manifest.files}
    job.tree.settle()  # a folder that holds a copy is not empty
    job.tree.save(manifest)
    job.tree.settle()
    if has(steps, "remove", UNITS):
        job.systemctl("daemon-reload")


def _reload(job: Job, steps: list[Step]) -> None:
    client = Client()
    if not (job.live and has(steps, "remove", "/") and client.succeeds("ping")):
        return
    if job.dry:
        say("would ask, and then run  fail2ban-client reload")
    elif job.agreed("Reload fail2ban now, so that its jails drop the action (bans stay)?"):
        say("run    fail2ban-client reload")
        client("reload")
    else:
        say("its jails record until you run:  fail2ban-client reload")


def _tell_other_tables(job: Job) -> None:
    """Warn of what still starts the program: it would fail each time, and cron mails that."""
    if not job.live:
        return
    own = {job.tree.at(CRON_FILE)} if job.dry else set()
    for table in sorted({found.table for found in schedule.read()[0]} - own):
        complain(f"{table} still starts f2b-digest: remove its line, or it will fail each time")


# ---- everything


def purge(job: Job, store: str) -> None:
    """Remove everything that setup created, after confirmation. Follows no symlink, removes no foreign file.

    Raises SetupError, before anything is removed, if fail2ban's jails would go on recording.
    """
    manifest = job.manifest()
    steps, users = _steps(job, manifest)
    if users:
        line = jails.ACTION
        raise SetupError(
            f"{', '.join(map(str, users))}: remove the lines of {line}, then run this again: jails still use it"
        )
    steps = [_gone(job, step) for step in steps] + _unlisted(job, steps)
    files = _files(job, store)
    user = _made_user(job, manifest)
    if not (steps or files or user):
        say(f"only the program is left to remove; {_how(job)}")
        _tell_cron_file(job)
        return
    job.show(steps)
    for path in files:
        say(f"{'would ' if job.dry else ''}remove {path}")
    if user:
        say(f"{'would ' if job.dry else ''}remove the user {user}")
    if not job.dry and not job.agreed("Remove all this? It cannot be undone."):
        say("nothing was removed")
        return
    folders = _folders(manifest)
    _do(job, steps, manifest)
    _let_go(job)
    if not job.dry:
        _remove(job, files, str(Path(store).parent), folders)
        if user:
            job.run("userdel" if shutil.which("userdel") else "deluser", user)
    _tell_other_tables(job)
    say(f"the program stays; {_how(job)}")


def _remove(job: Job, files: list[Path], folder_of_store: str, folders: set[str]) -> None:
    """Remove files, and folders if empty; print what is kept."""
    for path in files:
        _unlink(path)
    for folder in sorted({folder_of_store, *folders}, key=len, reverse=True):
        _tell_kept(job, folder, made=folder in folders)
    _tell_cron_file(job)


def _tell_cron_file(job: Job) -> None:
    if job.tree.at(CRON_FILE).exists():
        complain(f"{job.tree.at(CRON_FILE)} is kept: it also starts something else")


def _gone(job: Job, step: Step) -> Step:
    """Return the step that removes an edited file, unless it also starts something else."""
    text = (job.tree.read(step.path) or b"").decode(errors="replace")
    if step.verb == "remove" or (step.path == CRON_FILE and not crontab.is_only_ours(text)):
        return step
    return Step("remove", step.path)


def _unlisted(job: Job, steps: list[Step]) -> list[Step]:
    """Return the step that removes a cron file of our name that setup did not write, if it starts nothing else."""
    text = (job.tree.read(CRON_FILE) or b"").decode(errors="replace")
    listed = any(step.path == CRON_FILE for step in steps)
    return [Step("remove", CRON_FILE)] if text and not listed and crontab.is_only_ours(text) else []


def _files(job: Job, store: str) -> list[Path]:
    """Return the existing files of the store, the configuration and a fleet's credential."""
    of_store = (str(Path(store).parent / name) for name in installation.store_files(store))
    names = [*of_store, CONFIGURATION, installation.FLEET, MANIFEST]
    return [path for path in map(job.tree.at, names) if path.is_symlink() or path.is_file()]


def _folders(manifest: Manifest) -> set[str]:
    """Return the folders that setup created, or would have: after an uninstall, there is no manifest."""
    return {*manifest.folders, str(Path(CONFIGURATION).parent), str(Path(recorder.DEFAULT_STORE).parent)}


def _how(job: Job) -> str:
    return REMOVE_PACKAGE if job.packaged else REMOVE_PROGRAM


def _made_user(job: Job, manifest: Manifest) -> str:
    """Return the user created by setup, or ""; one of an earlier version is recognized by name and home."""
    try:
        account = pwd.getpwnam(manifest.user or job.user)
    except KeyError:
        return ""
    ours = manifest.user or (account.pw_name == "f2b-digest" and account.pw_dir == HOMELESS)
    return account.pw_name if job.live and ours and not job.packaged else ""


def _let_go(job: Job) -> None:
    """Reload fail2ban: an action that is still loaded would recreate the store at the next ban."""
    client = Client()
    if not (job.live and client.succeeds("ping")):
        return
    if job.dry:
        say("would run  fail2ban-client reload")
    else:
        say("run    fail2ban-client reload")
        client("reload")


def _unlink(path: Path) -> None:
    """Remove a file in a folder that may be another user's, without following symlinks."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as refused:
        log.debug("%s cannot be opened", path.parent, exc_info=True)
        if path.exists():
            complain(f"{path} stays: {refused.strerror}")
        return
    try:
        os.unlink(path.name, dir_fd=folder)
    except FileNotFoundError:
        log.debug("%s is gone", path)
    except OSError as refused:
        complain(f"{path} stays: {refused.strerror}")
    finally:
        os.close(folder)


def _tell_kept(job: Job, folder: str, *, made: bool) -> None:
    """Remove a folder created by setup if empty; else print what it contains."""
    path = job.tree.at(folder)
    if path.is_symlink() or not path.is_dir():
        return
    if made and not installation.remove_folder(path):
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:10])
        complain(f"{path} is kept: it contains files that setup did not create: {names}")
