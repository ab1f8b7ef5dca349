"""Runs the program fail2ban-client. Its answers are interpreted elsewhere."""

import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path

from f2b_digest.errors import SetupError

log = logging.getLogger(__name__)

PROGRAM = "fail2ban-client"
PATIENCE = 60.0
"""Timeout in seconds: a reload of many jails is slow."""
CRON: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""Environment for unattended runs: finds fail2ban despite cron's short PATH."""


class NoAnswerError(SetupError):
    """fail2ban-client did not answer; `reason` is its message, the text adds the command."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class NoProgramError(NoAnswerError):
    """There is no fail2ban-client on this host."""


class Client:
    """fail2ban-client, of the running server or, with options, of another."""

    def __init__(
        self, *options: str | Path, patience: float = PATIENCE, environment: Mapping[str, str] | None = None
    ) -> None:
        """Wait so many seconds for each answer; the environment defaults to this process's."""
        self._words = [PROGRAM, *map(str, options)]
        self._patience = patience
        self._environment = environment

    def __call__(self, *words: str, patience: float | None = None) -> str:
        """Return the answer to a command. Raises NoAnswerError with fail2ban's own words."""
        done = self._run(words, self._patience if patience is None else patience)
        if done.returncode:
            reason = _reason(done.stderr + done.stdout)
            raise NoAnswerError(f"{PROGRAM} {' '.join(words)}: {reason}", reason)
        return done.stdout

    def jails(self, patience: float | None = None) -> list[str]:
        """Return the names of the running jails. Raises NoAnswerError."""
        names = self("status", patience=patience).rpartition("Jail list:")[2]
        return [name.strip() for name in names.split(",") if name.strip()]

    def succeeds(self, *words: str) -> bool:
        """Return whether a command is answered without an error."""
        try:
            self(*words)
        except SetupError as refused:
            log.info("%s", refused)
            return False
        return True

    def converse(self, lines: str, patience: float) -> str:
        """Return the output, with prompts, for commands of one line each, run in one interactive session.

        The exit status is ignored: it is always that of end of input. Raises NoAnswerError.
        """
        return self._run(("-i",), patience, lines).stdout

    def _run(self, words: tuple[str, ...], patience: float, given: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - no shell; names are single words
                [*self._words, *words], env=self._environment, input=given, capture_output=True, text=True,
                errors="replace", timeout=patience, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            text = f"fail2ban is not installed ({PROGRAM} is not in the PATH): install fail2ban first"
            raise NoProgramError(text, f"{PROGRAM} is not installed on this host") from None
        except OSError as refused:
            reason = f"{PROGRAM}: {refused.strerror}"
            raise NoAnswerError(reason, reason) from None
        except subprocess.TimeoutExpired:
            text = f"{PROGRAM} {' '.join(words)}: no answer within {patience:g} s"
            raise NoAnswerError(text, f"it does not answer within {patience:g} s") from None


def _reason(output: str) -> str:
    """Return the first error of fail2ban's output, without its time and place; or the last line."""
    lines = [line for line in output.splitlines() if line.strip()] or ["failed without output"]
    errors = [line.partition("ERROR")[2] for line in lines if "ERROR " in line]
    return " ".join((errors[0] if errors else lines[-1]).split())
