"""Pings to a dead-man's-switch monitor after the deliveries of a run. No store, no printing here.

The conventions are those of healthchecks (POST to the URL, or to URL/fail, with a text that it keeps) and of Uptime
Kuma (GET of /api/push/… with status=up or down). A ping that fails changes nothing: its monitor raises the alarm.
"""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from urllib.parse import parse_qsl, urlencode, urlunsplit

from f2b_digest import isolation
from f2b_digest.channels import urls
from f2b_digest.channels.base import deadline
from f2b_digest.config import Configuration
from f2b_digest.delivery.attempts import Outcome
from f2b_digest.errors import DeliveryError
from f2b_digest.isolation import Stopped

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Timeout of a ping in seconds; it runs after all deliveries."""
KUMA = "/api/push/"
TROUBLE = frozenset({"failed", "deferred"})


def ping_all(
    configuration: Configuration, reports: Iterable[str], outcomes: Sequence[Outcome], waits: set[str]
) -> None:
    """Ping for each report that is configured so: success if all of its deliveries were sent.

    `waits` are the reports with deliveries that will be retried.
    """
    for name in reports:
        mine = [outcome for outcome in outcomes if outcome.report == name]
        well = name not in waits and TROUBLE.isdisjoint(outcome.status for outcome in mine)
        ping(configuration, name, summary(mine), well=well)


def summary(outcomes: Iterable[Outcome]) -> str:
    """Return a line for the monitor, a third party: names of channels, no recipients, no reasons."""
    told = dict.fromkeys(f"{outcome.channel} {outcome.status}" for outcome in outcomes if outcome.status != "noted")
    return ", ".join(told) or "nothing to deliver"


def ping(configuration: Configuration, report: str, text: str, *, well: bool) -> None:
    """Ping the monitor of a report, if it has one. Never raises: errors are logged, without the URL."""
    secret = configuration.reports[report].ping
    if secret is None:
        return
    try:
        status = isolation.run(partial(_send, secret.reveal(), text, well=well), seconds=PATIENCE)
    except (DeliveryError, Stopped) as error:
        log.info("report %s: no ping: %s", report, error)
    else:
        log.info("report %s: ping for %s: HTTP status %d", report, "success" if well else "failure", status)


def _send(url: str, text: str, *, well: bool) -> int:
    from f2b_digest.channels import http  # noqa: PLC0415 - a library that only few reports need

    try:
        parts = urls.check_server(url)
    except ValueError:
        raise DeliveryError("the URL must look like https://example.org/uuid", permanent=True) from None
    with deadline(PATIENCE - 1):
        if KUMA in parts.path:
            query = dict(parse_qsl(parts.query)) | {"status": "up" if well else "down", "msg": text}
            answer, _ = http.get(urlunsplit(parts._replace(query=urlencode(query))), {})
            return answer.status
        path = parts.path if well else f"{parts.path.rstrip('/')}/fail"
        return http.post(urlunsplit(parts._replace(path=path)), text.encode(), {"Content-Type": "text/plain"}).status
