"""The options of `setup`, and what installing and uninstalling share: running programs, questions, showing steps."""

import logging
import subprocess
from dataclasses import dataclass
from pathlib import Path

import click

from f2b_digest import installation
from f2b_digest.cli import language
from f2b_digest.cli.program import complain, say
from f2b_digest.errors import SetupError
from f2b_digest.installation import CRON_FILE, File, Manifest, Step, Tree, crontab

log = logging.getLogger(__name__)

FAIL2BAN = "/etc/fail2ban"
SYSTEMD = Path("/run/systemd/system")
"""Exists if systemd runs (sd_booted(3))."""
UNITS = "/etc/systemd/system/"
ENABLED = "/etc/systemd/system/timers.target.wants"


@dataclass(frozen=True)
class Job:
    """The options."""

    tree: Tree
    live: bool
    """Whether the tree is the running system: users are created, and programs run."""
    dry: bool
    yes: bool
    user: str
    """The owner of the store."""
    packaged: bool = False
    """The package manager owns the program, the action, the units and the user: none is written or removed here."""

    @property
    def jails(self) -> Path:
        """fail2ban's folder."""
        return self.tree.at(FAIL2BAN)

    def manifest(self) -> Manifest:
        """Return the manifest of an earlier setup, without files now owned by the package. Raises SetupError."""
        manifest = self.tree.manifest()
        if self.packaged:
            for path in installation.ACTIONS:
                manifest.files.pop(path, None)
        return manifest

    def run(self, *words: str) -> None:
        """Print a command and run it; in a dry run or a tree, only print it. Raises SetupError."""
        if self.dry or not self.live:
            say(f"{'would run' if self.dry else 'to run there'}  {' '.join(words)}")
            return
        say(f"run    {' '.join(words)}")
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - setup's own words, no shell
        except OSError as error:
            raise SetupError(f"{words[0]}: {error.strerror}") from None
        if done.returncode:
            raise SetupError(f"{' '.join(words)}: {' '.join(done.stderr.split()) or 'failed'}")

    def systemctl(self, *words: str) -> None:
        """Run systemctl; if systemd does not run, print what to do once it does."""
        if self.live and not self.dry and not SYSTEMD.is_dir():
            complain(f"systemd does not run here; once it does: systemctl {' '.join(words)}")
        else:
            self.run("systemctl", *words)

    def agreed(self, question: str) -> bool:
        """Ask, unless --yes was given; without a terminal the answer is no."""
        if self.yes:
            return True
        try:
            return click.confirm(language.told(question))
        except click.Abort:
            log.info("no answer: %s", question)
            click.echo()
            return False

    def show(self, steps: list[Step]) -> None:
        """Print the changes to files, and the files that are kept."""
        for step in steps:
            path = self.tree.at(step.path)
            if step.verb in ("keep", "leave"):
                complain(f"{path} was edited and is kept{f'; it {step.why}' if step.why else ''}")
                continue
            verb = {"move": "change"}.get(step.verb, step.verb)
            say(f"{'would ' if self.dry else ''}{verb:6} {path}{f'  ({step.why})' if step.why else ''}")
            if self.dry and step.file and step.verb != "chmod" and step.path not in installation.ACTIONS:
                lines = step.file.content.decode(errors="replace").splitlines()
                click.echo("".join(f"    {line}\n" for line in lines), nl=False)

    def retired(self, steps: list[Step]) -> list[Step]:
        """Return the steps, with our lines in an edited cron file turned off."""
        return [self._off(step) if step.verb == "leave" and step.path == CRON_FILE else step for step in steps]

    def _off(self, step: Step) -> Step:
        text = (self.tree.read(CRON_FILE) or b"").decode("utf-8", "surrogateescape")
        content = crontab.turned_off(text).encode("utf-8", "surrogateescape")
        why = f"edited by hand: only its f2b-digest lines are turned off; or  rm {self.tree.at(CRON_FILE)}"
        return Step("move", CRON_FILE, File(CRON_FILE, content), why)

    def stop_timers(self, steps: list[Step]) -> None:
        """Stop the timers that are removed, or kept because they were edited."""
        if any(step.path.startswith(UNITS) and step.verb in ("remove", "leave") for step in steps):
            fleet = any(step.path.startswith(f"{UNITS}f2b-digest-forward") for step in steps)
            self.systemctl("disable", "--now", *installation.timers(["daily", "weekly"], fleet=fleet))

    def stop_the_packages_timers(self) -> None:
        """Stop the enabled ones; their files are kept."""
        enabled = [link.name for link in self.tree.at(ENABLED).glob("f2b-digest-*.timer")] if self.packaged else []
        if enabled:
            self.systemctl("disable", "--now", *sorted(enabled))


def has(steps: list[Step], verb: str, start: str) -> bool:
    """Return whether a step of this kind is about a path that starts so."""
    return any(step.verb == verb and step.path.startswith(start) for step in steps)
