"""`setup`: installs, and verifies the result with a test ban; on failure, all files are restored."""

import logging
import os
import pwd
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from f2b_digest import installation, recorder
from f2b_digest.checks import schedule
from f2b_digest.checks import store as checks_store
from f2b_digest.cli.program import complain, say
from f2b_digest.cli.setup import machine
from f2b_digest.cli.setup.job import FAIL2BAN, SYSTEMD, UNITS, Job, has
from f2b_digest.errors import SetupError
from f2b_digest.fail2ban import jails as fail2ban_jails
from f2b_digest.fail2ban.client import Client
from f2b_digest.installation import CRON_FILE, File, Manifest, Step, crontab
from f2b_digest.store import has_ban

log = logging.getLogger(__name__)

USERADD = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
           "--shell", "/usr/sbin/nologin")  # fmt: skip
ADDUSER = ("adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", "/sbin/nologin", "-G")
"""busybox's, followed by the group and the name, where there is no useradd."""

KNOWN_TIMES = {"@daily": "at midnight", "@weekly": "at midnight before Sunday"}
"""The times of the file that setup writes, in words."""


def install(job: Job, store: str, program: str, scheduler: machine.Scheduler | None) -> None:
    """Install and verify. Raises SetupError; the files are then restored."""
    reports = machine.reports(job.tree)
    jails = _jails(job, store)
    manifest = job.manifest()
    scheduler = scheduler or machine.scheduler(job)
    files = [replace(machine.first_configuration(job, store), former_group=_make_user(job, manifest))]
    files += _files(job, jails, program, scheduler, reports)
    steps = job.retired(job.tree.plan(files, manifest))
    job.show(steps)
    if not any(step.verb != "keep" for step in steps):
        say("all files are up to date" if not steps else "all other files are up to date")
    job.stop_timers(steps)
    if scheduler == "cron":
        job.stop_the_packages_timers()
    if job.dry:
        _announce_store(job, store)
    else:
        _apply(job, steps, manifest, store, verify=bool(jails))
    if scheduler == "systemd":
        _start_timers(job, steps, installation.timers(reports, fleet=machine.is_in_fleet(job.tree)))
    changed = has(steps, "write", installation.ACTIONS[0])
    if job.dry:
        _announce_restart(job, jails, store, changed=changed)
    elif job.live:
        works = [_check_sender(program), _restart(job, _tell_jails(job, store), store, changed=changed)]
        _next(job, scheduler, reports)
        sys.exit(0 if all(works) else 1)


def install_centre(job: Job, program: str, scheduler: machine.Scheduler | None) -> None:
    """Install what a fleet's centre needs: the user that `send` becomes, and what starts it. Raises SetupError."""
    reports, manifest = machine.reports(job.tree), job.manifest()
    scheduler = scheduler or machine.scheduler(job)
    _make_user(job, manifest)
    steps = job.retired(job.tree.plan(_files(job, None, program, scheduler, reports), manifest))
    job.show(steps)
    job.stop_timers(steps)
    if scheduler == "cron":
        job.stop_the_packages_timers()
    if not job.dry:
        try:
            job.tree.apply(steps, manifest)
            job.tree.save(manifest)
        except BaseException:
            job.tree.take_back()
            raise
        job.tree.settle()
    if scheduler == "systemd":
        _start_timers(job, steps, installation.timers(reports, fleet=False))
    if job.live and not job.dry:
        works = _check_sender(program)
        _next(job, scheduler, reports)
        sys.exit(0 if works else 1)


def _files(
    job: Job, jails: fail2ban_jails.Jails | None, program: str, scheduler: machine.Scheduler, reports: list[str]
) -> list[File]:
    files = installation.actions() if jails and not job.packaged else []
    if job.packaged:
        _demand_actions(job)
    if jails and jails.snippet:
        files.append(File(f"{FAIL2BAN}/{fail2ban_jails.SNIPPET}", jails.snippet.encode()))

    def is_there(name: str) -> bool:
        return machine.has_program(job.tree, name)

    if scheduler == "cron":
        return [*files, installation.cron_file(program, reports, is_there, fleet=machine.is_in_fleet(job.tree))]
    if scheduler == "periodic":
        return files + installation.periodic(program, reports, fleet=machine.is_in_fleet(job.tree))
    if job.packaged:
        return files
    return files + installation.units(program, is_there, fleet=machine.is_in_fleet(job.tree))


def _demand_actions(job: Job) -> None:
    """Raise SetupError if a file of the package was deleted: dpkg respects that, but fail2ban would not start."""
    for path in installation.ACTIONS:
        if not job.tree.at(path).exists():
            raise SetupError(
                f"{path} of the package is gone: apt install --reinstall -o Dpkg::Options::=--force-confmiss f2b-digest"
            )


def _jails(job: Job, store: str) -> fail2ban_jails.Jails | None:
    if (job.jails / "jail.conf").exists():
        return fail2ban_jails.plan_jails(job.jails, store)
    if job.live:
        raise SetupError(f"fail2ban is not installed ({FAIL2BAN}/jail.conf is missing): install it first")
    say(f"no {FAIL2BAN}/jail.conf in this tree: skipping its action and jails")
    return None


def _make_user(job: Job, manifest: Manifest) -> int | None:
    """Return the user's group, creating the user if necessary; None in a tree, and for root."""
    if not job.live:
        return None
    try:
        return pwd.getpwnam(job.user).pw_gid or None
    except KeyError:
        _add_user(job)
    if job.dry:
        return None
    manifest.user = job.user
    return pwd.getpwnam(job.user).pw_gid


def _add_user(job: Job) -> None:
    if shutil.which("useradd") or not shutil.which("adduser"):
        job.run(*USERADD, job.user)
    else:
        job.run("addgroup", "-S", job.user)
        job.run(*ADDUSER, job.user, job.user)


def _apply(job: Job, steps: list[Step], manifest: Manifest, store: str, *, verify: bool) -> None:
    """Write the files; if fail2ban then refuses its configuration or does not record, roll back and raise."""
    client = Client("-c", job.jails)
    # For example, its test refuses a jail without a log; an error from before is not ours to fix.
    was_right = verify and bool(steps) and client.succeeds("-t")
    try:
        _make_folder(job, store, manifest)
        job.tree.apply(steps, manifest)
        if was_right:
            client("-t")
        if verify and job.live:
            _try_a_ban(Path(store).parent)
        job.tree.save(manifest)
    except BaseException as error:
        job.tree.take_back()
        if isinstance(error, (SetupError, OSError)):
            raise SetupError(f"{error}\nnothing was installed: every file is as it was") from None
        raise
    job.tree.settle()
    if job.live and not Path(store).exists():
        with closing(recorder.connect(store)):
            say(f"made   {store}")


# ---- the store's folder


def _announce_store(job: Job, store: str) -> None:
    folder = job.tree.at(str(Path(store).parent))
    if not folder.is_dir():
        say(f"would create  {folder} ({job.user}, 0750)")
    if job.live and not Path(store).exists():
        say(f"would create  {store}")
    if job.live:
        say(f"would ban    {fail2ban_jails.ADDRESS} in a scratch jail that has no other action")


def _make_folder(job: Job, store: str, manifest: Manifest) -> None:
    """Create the store's folder for the user. A folder of root's is given to the user only if it is the default."""
    folder = job.tree.at(str(Path(store).parent))
    made = not folder.is_dir()
    job.tree.make_folder(str(Path(store).parent), manifest)
    if made:
        folder.chmod(0o750)
    if not job.live:
        return
    user, owner = pwd.getpwnam(job.user), folder.stat().st_uid
    if made or (owner == 0 and store == recorder.DEFAULT_STORE):
        for path in [*folder.iterdir(), folder]:  # the folder last: until then only root can add files
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    elif owner != user.pw_uid:
        name = checks_store.user(owner)
        raise SetupError(f"{folder} belongs to {name}: run `setup --user {name}`, or chown it to {job.user}")


# ---- verification


def _try_a_ban(folder: Path) -> None:
    action = Path(installation.ACTIONS[0])
    client = Client()
    if client.succeeds("ping"):
        fail2ban_jails.try_a_ban(client, action, folder, has_ban)
        say(f"a ban of {fail2ban_jails.ADDRESS} in a scratch jail of the running fail2ban was recorded")
    else:
        with fail2ban_jails.scratch_server() as server:
            fail2ban_jails.try_a_ban(server, action, folder, has_ban)
        say(f"a ban of {fail2ban_jails.ADDRESS} in a scratch fail2ban was recorded")


def _tell_jails(job: Job, store: str) -> list[str]:
    """Print which jails record and which cannot; return those that record to this store with our action."""
    now = fail2ban_jails.effective(job.jails)
    deaf = [jail for jail, commands in now.items() if not fail2ban_jails.records(commands)]
    say(f"enabled jails that record their bans: {', '.join(jail for jail in now if jail not in deaf) or 'none'}")
    _tell_deaf(deaf, store)
    return [jail for jail, commands in now.items() if fail2ban_jails.records_to(commands, store)]


def _tell_deaf(jails: list[str], store: str) -> None:
    for jail in jails:
        complain(
            f"jail {jail}: setup cannot add to its actions; "
            f"where they are set, add the line  {fail2ban_jails.action_line(store)}"
        )


def _check_sender(program: str) -> bool:
    """Run the program as cron will, and report if it cannot read its configuration and store."""
    trouble = schedule.trial(
        f"{program} status", "root", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    )
    if trouble:
        complain(f"root cannot run `{program} status`, so cron could not send: {trouble}")
    return not trouble


def _restart(job: Job, jails: list[str], store: str, *, changed: bool) -> bool:
    """Activate the action in the running jails, after asking (a plain reload drops it). Return whether all record."""
    client = Client()
    if not client.succeeds("ping"):
        say("fail2ban is not running: it loads the action when it starts")
        return True
    deaf = _deaf(client, jails, store)
    if not changed and not deaf:
        return True
    if not job.agreed("Restart fail2ban's jails now (bans stay)?"):
        state = f"not recording yet: {', '.join(deaf)}" if deaf else "the jails still run the earlier action"
        say(f"{state}; when you are ready, run:  fail2ban-client reload --restart")
        return True
    say("run    fail2ban-client reload --restart")
    client("reload", "--restart")
    deaf = _deaf(client, jails, store)
    for jail in deaf:
        complain(f"jail {jail} does not record even after a restart: see fail2ban's log")
    return not deaf


def _deaf(client: Client, jails: list[str], store: str) -> list[str]:
    """Return which jails do not record to the store now, or do not run."""
    running = set(client.jails())
    stores = fail2ban_jails.stores(client, [jail for jail in jails if jail in running])
    return [jail for jail in jails if stores.get(jail) != store]


def _announce_restart(job: Job, jails: fail2ban_jails.Jails | None, store: str, *, changed: bool) -> None:
    """Print the further steps of a real run."""
    if not jails:
        return
    _tell_deaf(list(jails.refused), store)
    client = Client()
    wanted = [*jails.added, *jails.present]
    if job.live and client.succeeds("ping") and (changed or _deaf(client, wanted, store)):
        say("would ask, and then run  fail2ban-client reload --restart")


# ---- systemd


def _start_timers(job: Job, steps: list[Step], timers: list[str]) -> None:
    """Reload systemd's units, and start the timers that do not run."""
    written = any(has(steps, verb, UNITS) for verb in ("write", "move", "remove"))
    if written:
        job.systemctl("daemon-reload")
    if written or (job.live and SYSTEMD.is_dir() and not all(map(_enabled, timers))):
        job.systemctl("enable", "--now", *timers)


def _enabled(timer: str) -> bool:
    return subprocess.run(["systemctl", "is-enabled", "--quiet", timer], check=False).returncode == 0  # noqa: S603, S607 - fixed words


# ---- the end


def _next(job: Job, scheduler: machine.Scheduler, reports: list[str]) -> None:
    """Print the next steps."""
    click.echo()
    say("next:")
    say("  f2b-digest preview        shows the next digest")
    say("  f2b-digest check --send   checks all of this, and sends a test message to each channel")
    say(f"  {installation.CONFIGURATION}  holds reports, channels and recipients: edit it as you like")
    text = (job.tree.read(CRON_FILE) or b"").decode(errors="replace")
    times = crontab.times(text) if scheduler == "cron" else {}
    for report in reports:
        if report in times:
            when = KNOWN_TIMES.get(times[report], f"at `{times[report]}`")
            say(f"  the {report} digest is sent {when} ({CRON_FILE}) if anything was banned")
        elif scheduler == "periodic" and report in ("daily", "weekly"):
            say(f"  the {report} digest is sent by {installation.PERIODIC}/{report}, when crond runs it")
        elif scheduler == "systemd" and report in ("daily", "weekly"):
            say(f"  when the {report} digest is sent:  systemctl list-timers 'f2b-digest*'")
        else:
            complain(f"report {report} is not scheduled: add a cron line that runs  f2b-digest send {report}")
