"""The running fail2ban-server, asked over its socket: which jails there are, and whether each records its bans here."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from f2b_digest.config import Configuration
from f2b_digest.doctor.finding import Finding, ago, error, ok, warning
from f2b_digest.store import Last, Store
from f2b_digest.store.summary import matches

CLIENT = "fail2ban-client"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE = 10.0
"""Seconds for each answer: a client of fail2ban takes a fifth of one to start."""
RECENT = 30 * 86400.0
"""Seconds for which a jail that is gone is missed."""
RESTART = "then systemctl restart fail2ban (a reload drops a new action)"
OPTIONS = ("dbpath", "store")
"""What our Python action, and our shell action, call the store: no other action has either."""


class NoAnswer(Exception):
    """The server did not tell; the text says why."""


class Client:
    """fail2ban-client and the socket it asks at."""

    def __init__(self, socket: Path | None) -> None:
        """Ask at a socket; None is the default of fail2ban's configuration."""
        self._command = [CLIENT, *(["-s", str(socket)] if socket else [])]

    def ask(self, *words: str) -> str:
        """Return the server's answer. Raises NoAnswer."""
        try:
            done = subprocess.run(
                [*self._command, *words], env={"PATH": PATH, "LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise NoAnswer(f"there is no {CLIENT} on this host") from None
        except OSError as refused:
            raise NoAnswer(f"{CLIENT}: {refused.strerror}") from None
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"it does not answer within {PATIENCE:g} s") from None
        if done.returncode:
            words_of_it = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise NoAnswer(re.sub(r"^.*? ERROR\s+", "", " ".join(words_of_it[-1].split())))
        return done.stdout

    def jails(self) -> list[str]:
        """Return the names of the running jails. Raises NoAnswer."""
        names = self.ask("status").rpartition("Jail list:")[2]
        return [name.strip() for name in names.split(",") if name.strip()]

    def store_of(self, jail: str) -> str | None:
        """Return the store that a jail's live action records to, or None where it has none of ours. Raises NoAnswer."""
        actions = [name.strip() for name in self.ask("get", jail, "actions").splitlines()[-1].split(",")]
        # By their options, not by their names: `actname` gives an action any name.
        for action in sorted(actions, key=lambda name: "f2b-digest" not in name):
            for option in OPTIONS:
                try:
                    return self.ask("get", jail, "action", action, option).strip()
                except NoAnswer:  # it has no such option
                    continue
        return None


def examine(
    configuration: Configuration, store: Store | None, path: Path, socket: Path | None, now: float
) -> Iterator[Finding]:
    """Examine each running jail, and miss those that recorded not long ago and run no more."""
    client = Client(socket)
    try:
        jails = client.jails()
    except NoAnswer as silence:
        todo = "run this as root" if "ermission" in str(silence) else "start it: systemctl start fail2ban"
        yield error("fail2ban", str(silence), todo)
        return
    if jails:
        yield ok("fail2ban", f"runs, jails: {len(jails)}")
    else:
        yield error("fail2ban", "runs, but has no jail", "enable one in jail.local")
    last = store.last_events() if store else {}
    for jail in jails:
        yield _jail(client, jail, path, last.get(jail), now)
    for jail, event in last.items():
        if jail not in jails and now - event.at < RECENT:
            text = f"does not run any more; its last event ({event.kind}) was {ago(now - event.at)}"
            yield warning(f"jail {jail}", text, "if that is not meant, enable it in jail.local")
    for name, report in configuration.reports.items():
        if jails and not any(matches(jail, report.jails) for jail in (*jails, *last)):
            yield warning("configuration", f"report {name} takes in none of the jails", f"see reports.{name}.jails")


def _jail(client: Client, jail: str, path: Path, last: Last | None, now: float) -> Finding:
    what, told = f"jail {jail}", f"last event {ago(now - last.at)}" if last else "nothing recorded yet"
    try:
        records_to = client.store_of(jail)
    except NoAnswer as silence:
        return error(what, str(silence), "ask again")
    if records_to is None:
        return error(what, f"bans without our action; {told}", f"add f2b-digest.py[…] to its action, {RESTART}")
    if Path(records_to).resolve() != path.resolve():
        text = f"records to {records_to}, and this configuration reads {path}"
        return error(what, text, f"give both the same path, {RESTART}")
    return ok(what, f"records; {told}")
