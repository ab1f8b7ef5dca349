"""`setup`: install on this machine, in one go and again at any time; verify by a ban; or take it back.

What is installed and how it is taken back stands in `installation`, what fail2ban says of it in `fail2ban`.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from f2b_digest import config, fail2ban, installation, recorder
from f2b_digest.cli import SYSTEM_CONFIGURATION, Program, complain, local_language, local_zone
from f2b_digest.errors import ConfigurationError, SetupError
from f2b_digest.fail2ban_client import Client
from f2b_digest.installation import File, Manifest, Step, Tree

USER = "f2b-digest"
USERADD = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
           "--shell", "/usr/sbin/nologin")  # fmt: skip
PROGRAM_FOLDERS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "usr/lib")
FAIL2BAN = "/etc/fail2ban"
SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd runs (sd_booted(3))."""
Scheduler = Literal["cron", "systemd"]


@dataclass(frozen=True)
class Job:
    """What was asked for."""

    tree: Tree
    live: bool
    """The tree is the running system: users are made, and programs run."""
    dry: bool
    yes: bool
    user: str

    @property
    def jails(self) -> Path:
        """fail2ban's folder."""
        return self.tree.at(FAIL2BAN)

    def run(self, *words: str) -> None:
        """Run a program, and say so; in a dry run or a tree, only say it. Raises SetupError."""
        if self.dry or not self.live:
            click.echo(f"{'would run' if self.dry else 'to run there'}  {' '.join(words)}")
            return
        click.echo(f"run    {' '.join(words)}")
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            raise SetupError(f"{words[0]}: {error.strerror}") from None
        if done.returncode:
            raise SetupError(f"{' '.join(words)}: {' '.join(done.stderr.split()) or 'failed'}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Show every file and command, and do nothing.")
@click.option("--uninstall", is_flag=True, help="Take it all back, but the store and the configuration.")
@click.option("--yes", is_flag=True, help="Restart fail2ban's jails without asking.")
@click.option("--user", default=USER, show_default=True, help="Who owns the store and sends; made if need be.")
@click.option("--scheduler", type=click.Choice(["cron", "systemd"]), help="Default: cron where there is one.")
@click.option("--program", "path", metavar="PATH", help="What cron calls. Default: this program's own path.")
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Install into this tree: no user is made, no program run.")  # fmt: skip
@click.pass_obj
def command(program: Program, dry_run: bool, uninstall: bool, yes: bool, user: str, scheduler: Scheduler | None,
            path: str | None, root: Path | None) -> None:  # fmt: skip
    """Install on this machine, or take it back.

    A system user, the store's folder, the action and a line in every enabled jail, a first configuration, and cron's
    file or systemd's timers. What is right already stays; a file that you changed stays, with the new one beside
    it. A ban in a scratch jail, which keeps nobody out, shows that it works; then fail2ban's jails are restarted, if
    you agree. Run it again after enabling a jail.

    \b
    Example:   f2b-digest setup --dry-run
    """  # noqa: D301 - click wants the character, not its name
    if program.config not in (None, SYSTEM_CONFIGURATION):
        raise click.UsageError(f"setup works with {SYSTEM_CONFIGURATION}, which cron reads: without --config")
    job = Job(Tree(root or Path("/")), root is None, dry_run, yes, user)
    if job.live and not dry_run and os.geteuid() != 0:
        raise SetupError("setup changes this machine and needs root; --dry-run shows what it would do")
    if uninstall:
        take_back(job)
    else:
        install(job, _store(program, job.tree, user), path or own_path(), scheduler)


# ---- the installation


def install(job: Job, store: str, program: str, scheduler: Scheduler | None) -> None:
    """Bring the machine to what it should be, and verify that. Raises SetupError, and then the files are as before."""
    reports = _reports(job.tree)
    jails = _jails(job, store)
    manifest = job.tree.manifest()
    files = [_first_configuration(job, store, _make_user(job))]
    if jails:
        files += installation.actions()
    if jails and jails.snippet:
        files.append(File(f"{FAIL2BAN}/{fail2ban.SNIPPET}", jails.snippet.encode()))
    scheduler = scheduler or _scheduler(job.tree)
    if scheduler == "cron":
        files.append(installation.cron_file(program, job.user, reports))
    else:
        files += installation.units(program, job.user)
    steps = job.tree.plan(files, manifest)
    _show(job, steps)
    _stop_timers(job, steps)
    if not job.dry:
        _apply(job, steps, manifest, store, verify=bool(jails))
    elif not job.tree.at(store).parent.is_dir():
        click.echo(f"would make  {job.tree.at(store).parent} ({job.user}, 0750)")
    if scheduler == "systemd":
        _start_timers(job, steps, installation.timers(reports))
    if job.live and job.dry:
        click.echo(f"would ban  {fail2ban.ADDRESS} in a scratch jail without any other action")
        click.echo("would run  fail2ban-client reload --restart  (if fail2ban runs, and after asking)")
    elif job.live:
        works = _check_sender(job.user, program)
        new = any(step.path == installation.ACTIONS[0] and step.verb == "write" for step in steps)
        _restart(job, _tell_jails(job, store), store, changed=new)
        sys.exit(0 if works else 1)


def _jails(job: Job, store: str) -> fail2ban.Jails | None:
    if (job.jails / "jail.conf").exists():
        return fail2ban.plan_jails(job.jails, store)
    if job.live:
        raise SetupError(f"no fail2ban here ({FAIL2BAN}/jail.conf is missing): install it first")
    click.echo(f"no {FAIL2BAN}/jail.conf in this tree: its action and jails are left out")
    return None


def _make_user(job: Job) -> int:
    """Return the group of the user, who is made if need be; 0 in a tree."""
    if not job.live:
        return 0
    with suppress(KeyError):
        return pwd.getpwnam(job.user).pw_gid
    job.run(*USERADD, job.user)
    return 0 if job.dry else pwd.getpwnam(job.user).pw_gid


def _apply(job: Job, steps: list[Step], manifest: Manifest, store: str, *, verify: bool) -> None:
    """Write the files; if fail2ban then refuses its configuration or does not record, take them back and raise."""
    client = Client("-c", job.jails)
    # Its test refuses a jail without a log, for one: that was so before, and is not ours to mend.
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
            click.echo(f"made   {store}")


def _make_folder(job: Job, store: str, manifest: Manifest) -> None:
    """Make the store's folder for the user. A folder of root's is given to the user only if it is the default."""
    folder = job.tree.at(str(Path(store).parent))
    made = not folder.is_dir()
    job.tree.make_folder(str(Path(store).parent), manifest)
    if made:
        folder.chmod(0o750)
    if not job.live:
        return
    user, owner = pwd.getpwnam(job.user), folder.stat().st_uid
    if made or (owner == 0 and store == recorder.DEFAULT_STORE):
        for path in [*folder.iterdir(), folder]:  # last the folder: while it is root's, nobody lays a trap in it
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    elif owner != user.pw_uid:
        name = pwd.getpwuid(owner).pw_name
        raise SetupError(f"{folder} belongs to {name}: run `setup --user {name}`, or give it to {job.user}")


def _try_a_ban(folder: Path) -> None:
    action = Path(installation.ACTIONS[0])
    client = Client()
    if client.succeeds("ping"):
        fail2ban.try_a_ban(client, action, folder)
        click.echo(f"a ban of {fail2ban.ADDRESS} in a scratch jail of the running fail2ban was recorded")
    else:
        with fail2ban.scratch_server() as server:
            fail2ban.try_a_ban(server, action, folder)
        click.echo(f"a ban of {fail2ban.ADDRESS} in a scratch fail2ban was recorded")


def _start_timers(job: Job, steps: list[Step], timers: list[str]) -> None:
    """Tell systemd of units that were just written, and start the timers that do not run."""
    written = any(step.verb == "write" and step.path.startswith("/etc/systemd/") for step in steps)
    if written:
        _systemctl(job, "daemon-reload")
    if written or (job.live and SYSTEMD.is_dir() and not all(map(_enabled, timers))):
        _systemctl(job, "enable", "--now", *timers)


def _enabled(timer: str) -> bool:
    return subprocess.run(["systemctl", "is-enabled", "--quiet", timer], check=False).returncode == 0


def _stop_timers(job: Job, steps: list[Step]) -> None:
    """Stop the timers that go."""
    if _has(steps, "remove", installation.RETRY_TIMER):
        _systemctl(job, "disable", "--now", *installation.timers(["daily", "weekly"]))


def _has(steps: list[Step], verb: str, path: str) -> bool:
    return any(step.verb == verb and step.path == path for step in steps)


def _systemctl(job: Job, *words: str) -> None:
    if job.live and not job.dry and not SYSTEMD.is_dir():
        complain(f"systemd does not run here; once it does: systemctl {' '.join(words)}")
    else:
        job.run("systemctl", *words)


def _tell_jails(job: Job, store: str) -> list[str]:
    """Say which jails record and which cannot be made to; return those that record to this store by our action."""
    now = fail2ban.effective(job.jails)
    deaf = [jail for jail, commands in now.items() if not fail2ban.records(commands)]
    click.echo(f"enabled jails that record their bans: {', '.join(jail for jail in now if jail not in deaf) or 'none'}")
    for jail in deaf:
        complain(
            f"jail {jail}: its actions cannot be added to from outside; "
            f"where they stand, add the line  {fail2ban.action_line(store)}"
        )
    return [jail for jail, commands in now.items() if fail2ban.records_to(commands, store)]


def _check_sender(user: str, program: str) -> bool:
    """Run the program as cron will, and say whether it can read its configuration and its store."""
    account = pwd.getpwnam(user)
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            [*program.split(), "status"], user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/",
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        trouble = str(error)
    else:
        if done.returncode == 0:
            return True
        trouble = " ".join(done.stderr.split())
    complain(f"{user} cannot run `{program} status`, so that cron could not send: {trouble}")
    return False


def _restart(job: Job, jails: list[str], store: str, *, changed: bool) -> None:
    """Make the action live in the running jails, after asking: a plain reload drops what is new."""
    client = Client()
    if not client.succeeds("ping"):
        click.echo("fail2ban does not run: it takes the action in when it starts")
        return
    if not changed and all(fail2ban.recording(client, jail) == store for jail in jails):
        return
    if not _agreed(job, "Restart fail2ban's jails now (bans stay)?"):
        click.echo("not recording yet; when you like:  fail2ban-client reload --restart")
        return
    click.echo("run    fail2ban-client reload --restart")
    client("reload", "--restart")
    for jail in jails:
        if fail2ban.recording(client, jail) != store:
            complain(f"jail {jail} does not record although it was restarted: see fail2ban's log")


def _agreed(job: Job, question: str) -> bool:
    if job.yes:
        return True
    try:
        return click.confirm(question)
    except click.Abort:  # nobody to ask
        click.echo()
        return False


# ---- and back


def take_back(job: Job) -> None:
    """Remove what setup wrote and nobody changed since; the store, the configuration and the user stay."""
    manifest = job.tree.manifest()
    steps = job.tree.plan([], manifest)
    removed = [job.tree.at(step.path) for step in steps if step.verb == "remove"]
    users = fail2ban.names_us(job.jails, without=removed)
    if users:
        complain(f"{users[0]} names our action: fail2ban needs its file, which stays")
        steps = [step for step in steps if step.path not in installation.ACTIONS]
    _show(job, steps)
    _stop_timers(job, steps)
    if job.dry:
        return
    kept = {path: known for path, known in manifest.files.items() if users and path in installation.ACTIONS}
    job.tree.apply(steps, manifest)
    manifest.files = kept
    job.tree.settle()  # a folder that holds a copy is not empty
    job.tree.save(manifest)
    job.tree.settle()
    if _has(steps, "remove", installation.RETRY_TIMER):
        _systemctl(job, "daemon-reload")
    click.echo(f"the store, {installation.CONFIGURATION} and the user {job.user} stay")
    client = Client()
    if job.live and removed and client.succeeds("ping"):
        if _agreed(job, "Reload fail2ban now, so that its jails let go of the action (bans stay)?"):
            click.echo("run    fail2ban-client reload")
            client("reload")
        else:
            click.echo("its jails let go of the action at the next  fail2ban-client reload")


# ---- what the machine says


def own_path() -> str:
    """Return this program's path, for a scheduler that has no PATH of ours."""
    called = shutil.which(sys.argv[0])
    if called and Path(called).name == "f2b-digest":
        return str(Path(called).absolute())
    beside = Path(sys.executable).with_name("f2b-digest")
    return str(beside) if beside.exists() else f"{sys.executable} -m f2b_digest"


def _find(tree: Tree, name: str) -> str | None:
    found = (f"/{folder}/{name}" for folder in PROGRAM_FOLDERS if tree.at(f"/{folder}/{name}").exists())
    return next(found, None)


def _scheduler(tree: Tree) -> Scheduler:
    if _find(tree, "cron") or _find(tree, "crond") or not _find(tree, "systemctl"):
        return "cron"
    return "systemd"


def _store(program: Program, tree: Tree, user: str) -> str:
    """Return the store's path: --store, else that of the configuration that is there, else the default."""
    text = tree.read(installation.CONFIGURATION)
    try:
        configured = tomllib.loads(text.decode()).get("store") if text else None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{tree.at(installation.CONFIGURATION)}: {error}"]) from None
    base = Path.cwd() if program.store else Path(installation.CONFIGURATION).parent
    store = str(base / program.store_path(configured or recorder.DEFAULT_STORE))
    if text and not configured and user != "root":
        reason = f'add  store = "{store}"  (without it, {user} looks elsewhere), or run `setup --user root`'
        raise ConfigurationError([f"{tree.at(installation.CONFIGURATION)}: {reason}"])
    if configured and program.store and store != configured:
        raise ConfigurationError([f"{tree.at(installation.CONFIGURATION)}: store: is not {store}, as --store says"])
    return store


def _reports(tree: Tree) -> list[str]:
    """Return the reports of the configuration that is there, or of the first one."""
    path = tree.at(installation.CONFIGURATION)
    if not path.exists():
        return ["daily"]
    return list(config.load(path, host="localhost", timezone="UTC", environment=os.environ).reports)


def _first_configuration(job: Job, store: str, group: int) -> File:
    """Return a configuration of what fail2ban and the machine say; what is no address gives way to root's."""
    host = os.uname().nodename
    options = fail2ban.mail_options(job.jails)
    sender = options.get("sender", "").replace("<fq-hostname>", socket.getfqdn()).replace("<sh-hostname>", host)
    to = re.split(r"[,\s]+", options.get("destemail", "").strip())
    for sender_, to_ in ((sender, to), (f"root@{host}", to), (f"root@{host}", ["root@localhost"])):
        file = installation.first_configuration(
            timezone=local_zone(), language=local_language(os.environ), store=store,
            sendmail=_find(job.tree, "sendmail"), sender=sender_, to=to_, group=group,
        )  # fmt: skip
        with tempfile.NamedTemporaryFile() as trial, suppress(ConfigurationError):
            Path(trial.name).write_bytes(file.content)
            config.load(Path(trial.name), host=host, timezone="UTC")
            return file
    return file


def _show(job: Job, steps: list[Step]) -> None:
    for step in steps:
        if step.verb in ("beside", "leave"):
            beside = f"; the new one is beside it: {step.path}{installation.BESIDE}" if step.verb == "beside" else ""
            complain(f"{job.tree.at(step.path)} was changed by hand and stays{beside}")
            continue
        click.echo(f"{'would ' if job.dry else ''}{step.verb:6} {job.tree.at(step.path)}")
        if job.dry and step.file and step.path not in installation.ACTIONS:
            click.echo("".join(f"    {line}\n" for line in step.file.content.decode().splitlines()), nl=False)
    if not steps:
        click.echo("every file is as it should be")
