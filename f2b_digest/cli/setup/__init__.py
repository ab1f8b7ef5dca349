"""`setup`: install, upgrade or uninstall on this machine. The command and its options.

The files of an installation are in `installation`, fail2ban's view of them in `fail2ban`.
"""

import os
from pathlib import Path

import click

from f2b_digest import recorder, resources
from f2b_digest.cli.program import SYSTEM_CONFIGURATION, Program
from f2b_digest.cli.setup import machine
from f2b_digest.cli.setup.install import install, install_centre
from f2b_digest.cli.setup.job import Job
from f2b_digest.cli.setup.machine import Scheduler
from f2b_digest.cli.setup.uninstall import purge as remove_all
from f2b_digest.cli.setup.uninstall import take_back
from f2b_digest.errors import SetupError
from f2b_digest.installation import Tree

USER = "f2b-digest"


@click.command()
@click.option("--dry-run", is_flag=True, help="Show every change without making it.")
@click.option("--uninstall", is_flag=True, help="Uninstall everything except the store and the configuration.")
@click.option("--purge", is_flag=True, help="Uninstall everything, including store, configuration and user.")
@click.option("--yes", is_flag=True, help="Do not ask before restarting jails or removing files.")
@click.option("--user", default=USER, show_default=True, help="Owner of the store, created if missing.")
@click.option(
    "--scheduler",
    type=click.Choice(["cron", "systemd", "periodic"]),
    help="Default: cron where there is one; from a package, systemd; with busybox's crond, /etc/periodic.",
)
@click.option("--program", "path", metavar="PATH", help="The program that cron starts. Default: this one.")
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Install into this tree: creates no user and runs no program.")  # fmt: skip
@click.pass_obj
def command(program: Program, dry_run: bool, uninstall: bool, purge: bool, yes: bool, user: str,
            scheduler: Scheduler | None, path: str | None, root: Path | None) -> None:  # fmt: skip
    """Install on or uninstall from this machine.

    Creates a system user and a folder for the store, the fail2ban action with a line in every enabled jail, a first
    configuration, and a cron file, systemd timers or programs in /etc/periodic; these start the program as root, and it
    switches to that user. Files that are up to date or that you changed are left alone. A test ban in a scratch jail,
    which blocks nobody, verifies the result; then fail2ban's jails are restarted, if you agree. Run it again after
    enabling a jail and after an upgrade. At a fleet's centre, only the user and what starts `send` are installed.

    \b
    Example:   f2b-digest setup --dry-run
    """  # noqa: D301 - click wants the character, not its name
    if program.config not in (None, SYSTEM_CONFIGURATION):
        raise click.UsageError(f"setup always uses {SYSTEM_CONFIGURATION}, which cron reads: omit --config")
    job = Job(Tree(root or Path("/")), root is None, dry_run, yes, user, root is None and resources.packaged())
    if job.live and not dry_run and os.geteuid() != 0:
        raise SetupError("setup changes this machine and needs root; --dry-run shows what it would do")
    if purge:
        centre = machine.is_centre(program, job.tree)
        remove_all(job, recorder.DEFAULT_STORE if centre else machine.store(program, job.tree))
    elif uninstall:
        take_back(job)
    elif machine.is_centre(program, job.tree):
        install_centre(job, path or machine.own_path(), scheduler)
    else:
        install(job, machine.store(program, job.tree), path or machine.own_path(), scheduler)
