"""The running fail2ban-server, asked over its socket: which jails there are, and whether each records its bans here."""

from collections.abc import Iterator
from pathlib import Path

from f2b_digest.config import Configuration
from f2b_digest.doctor.finding import Finding, ago, error, ok, warning
from f2b_digest.fail2ban_client import CRON, Client, NoAnswerError
from f2b_digest.store import Last, Store
from f2b_digest.store.summary import matches

PATIENCE = 10.0
"""Seconds for each answer: a client of fail2ban takes a fifth of one to start."""
RECENT = 30 * 86400.0
"""Seconds for which a jail that is gone is missed."""
RESTART = "then systemctl restart fail2ban (a reload drops a new action)"
OPTIONS = ("dbpath", "store")
"""What our Python action, and our shell action, call the store: no other action has either."""


def examine(
    configuration: Configuration, store: Store | None, path: Path, socket: Path | None, now: float
) -> Iterator[Finding]:
    """Examine each running jail, and miss those that recorded not long ago and run no more."""
    client = Client(*(("-s", socket) if socket else ()), patience=PATIENCE, environment=CRON)
    try:
        jails = client.jails()
    except NoAnswerError as silence:
        todo = "run this as root" if "ermission" in silence.reason else "start it: systemctl start fail2ban"
        yield error("fail2ban", silence.reason, todo)
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
        records_to = _store_of(client, jail)
    except NoAnswerError as silence:
        return error(what, silence.reason, "ask again")
    if records_to is None:
        return error(what, f"bans without our action; {told}", f"add f2b-digest.py[…] to its action, {RESTART}")
    if Path(records_to).resolve() != path.resolve():
        text = f"records to {records_to}, and this configuration reads {path}"
        return error(what, text, f"give both the same path, {RESTART}")
    return ok(what, f"records; {told}")


def _store_of(client: Client, jail: str) -> str | None:
    """Return the store that a jail's live action records to, None where it has none of ours. Raises NoAnswerError."""
    actions = [name.strip() for name in client("get", jail, "actions").splitlines()[-1].split(",")]
    # By their options, not by their names: `actname` gives an action any name.
    for action in sorted(actions, key=lambda name: "f2b-digest" not in name):
        for option in OPTIONS:
            try:
                return client("get", jail, "action", action, option).strip()
            except NoAnswerError:  # it has no such option
                continue
    return None
