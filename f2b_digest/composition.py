"""What a report's next digest is: which events it takes, of which period, what is made of them. Nothing is sealed."""

import logging
import os
from dataclasses import replace
from zoneinfo import ZoneInfo

from f2b_digest import periods
from f2b_digest.analysis import FREQUENT, Inputs, OwnAddresses, analyse
from f2b_digest.config import Configuration, Report
from f2b_digest.errors import F2bDigestError, bug
from f2b_digest.model.digest import Digest, Jail, Undelivered, moment
from f2b_digest.model.host_context import UNKNOWN_HOST, HostContext, of_another
from f2b_digest.model.selection import Selection
from f2b_digest.reconcile import Known
from f2b_digest.store import Sealed, Store
from f2b_digest.text.redaction import samples

log = logging.getLogger(__name__)

SAMPLED = 4
"""The worst addresses of a jail that are asked for log lines; not each has any."""
ALARMED_AGAIN = 20 * 3600.0
"""Seconds between two digests that have no bans, and say that something is not at work."""


def pending(store: Store, name: str, report: Report) -> Selection:
    """Return what a report has not sealed, up to the newest event there is now."""
    last = store.last_digest(name)
    first, after = (last.last_id + 1, last.id) if last else (1, 0)
    return Selection(first_id=first, last_id=store.last_event(), after=after, jails=report.jails)


def zone_of(configuration: Configuration, name: str) -> ZoneInfo:
    """Return the zone of a report's days and times."""
    own = configuration.reports[name].timezone
    return ZoneInfo(own) if own else configuration.timezone


def due(configuration: Configuration, store: Store, name: str, now: float) -> tuple[Selection, float] | None:
    """Return what a report's next digest takes, and when its period ends; None while a calendar period is running.

    A calendar report takes whole periods: in the order of ids, all up to the first event that was recorded since the
    last period ended. An event from later than `now` was recorded before the clock was set back, and stops nothing. A
    digest whose period has not ended yet was sealed before that too: the report waits until the clock has passed it,
    but not for more than one period, for the clock may have been years ahead.
    """
    report = configuration.reports[name]
    selection = pending(store, name, report)
    if report.period == "pending" or report.every is None:
        return selection, now
    zone = zone_of(configuration, name)
    end = periods.boundary(now, report.every, zone)
    last = store.last_digest(name)
    if last and end <= last.period_end <= periods.ending(now, report.every, zone):
        return None
    running = store.first_recorded(selection.first_id, since=end, until=now)
    if running is None:
        return selection, end
    if last is None and store.first_recorded(0, since=0.0, until=end) is None:  # its first day
        return None
    return replace(selection, last_id=min(selection.last_id, running - 1)), end


def is_fed(store: Store, host_context: HostContext) -> bool:
    """Say whether this host's fail2ban feeds a store: what runs here says nothing of a store of other bans.

    Where its actions name no store, or could not be asked, a store counts in which our action told of a jail's start
    (nobody does so by hand) and that it recorded to lately: the alarm that a jail lost our action must not end with it.
    """
    if host_context.stores:
        return os.path.realpath(store.path) in host_context.stores
    return store.is_fed() and bool(store.starts_and_stops(("*",), 0.0))


def compose(
    configuration: Configuration,
    store: Store,
    name: str,
    selection: Selection,
    end: float,
    host_context: HostContext = UNKNOWN_HOST,
    known: Known | None = None,
) -> Digest:
    """Return a report's digest of a selection; `preview` and `send` both show this.

    `end`, in UTC epoch seconds, ends an open period. `host_context` is what this host knows, `known` what fail2ban's
    own database does: what is not given is not told.
    """
    report, zone = configuration.reports[name], zone_of(configuration, name)
    last = store.last_digest(name)
    past = selection.since is not None or selection.until is not None
    if not is_fed(store, host_context):
        host_context = of_another(host_context)
    digest = store.summarise(
        selection,
        report=name,
        host=configuration.host,
        zone=zone,
        start=selection.since if past else _start(report, store, selection, zone, last, end),
        end=end if selection.until is None else selection.until,
        campaign=report.campaign,
        users=host_context.users,
        geography=host_context.geography,
    )
    digest = replace(digest, shown=report.addresses)
    if not past:
        digest = replace(
            digest,
            undelivered=_undelivered(configuration, store, name, last),
            reconciliation=known.of(selection, digest.totals.bans) if known else None,
            unseen=host_context.unseen,
        )
    return _judged(configuration, store, digest, selection, host_context, first=not last, complete=not past)


def _judged(
    configuration: Configuration,
    store: Store,
    digest: Digest,
    selection: Selection,
    host_context: HostContext,
    *,
    first: bool,
    complete: bool,
) -> Digest:
    """Return a digest with log lines and what it is judged to mean; with a note where that fails."""
    try:
        digest = replace(digest, jails=_with_samples(digest, store, selection, host_context))
        inputs = _inputs(configuration, store, digest, selection, host_context, first=first, complete=complete)
        return analyse(digest, inputs)
    except F2bDigestError:  # of the store, and no fault of what is judged
        raise
    except Exception as error:  # a digest that judges nothing is better than none
        log.debug("nothing was judged", exc_info=True)
        return replace(digest, notes=(*digest.notes, f"nothing was judged: {bug(error)}"))


def is_alarming(digest: Digest) -> bool:
    """Say whether a digest is to go out however few bans it has: one's own side was banned, or bans are missed.

    The latter not more often than once a day: it stays so until somebody acts.
    """
    kinds = {fact.kind for fact in digest.facts}
    daily = (digest.end - digest.start).total_seconds() >= ALARMED_AGAIN
    return "own" in kinds or (daily and not kinds.isdisjoint(("down", "stopped", "silent")))


def _with_samples(digest: Digest, store: Store, selection: Selection, host_context: HostContext) -> tuple[Jail, ...]:
    """Return the jails with log lines of their worst addresses, made fit for the admin's eyes."""
    worst = {jail.name: [address.ip for address in jail.worst[:SAMPLED]] for jail in digest.jails}
    lines = store.samples(selection, worst)
    own = (*host_context.own, *host_context.friends)
    return tuple(replace(jail, samples=samples(lines.get(jail.name, ()), (), own)) for jail in digest.jails)


def _inputs(
    configuration: Configuration,
    store: Store,
    digest: Digest,
    selection: Selection,
    host_context: HostContext,
    *,
    first: bool,
    complete: bool,
) -> Inputs:
    """Return what a digest is judged by."""
    report, zone = configuration.reports[digest.report], zone_of(configuration, digest.report)
    start, end = digest.start.timestamp(), digest.end.timestamp()
    windows = periods.previous(start, end, report.every, zone, report.period == "calendar")
    waits = [configuration.channels[channel].min_bans for channel in report.channels]
    on_purpose = first or report.min_bans > 1 or (bool(waits) and min(waits) > 0)
    return Inputs(
        baseline=store.baseline(windows, report.jails, before=start),
        rebans=store.rebans(selection, FREQUENT),
        host_context=host_context,
        starts_and_stops=store.starts_and_stops(report.jails, start),
        own_bans=store.chosen(selection, OwnAddresses(host_context, start, end).holds),
        waits_since=None if on_purpose else _waits_since(store, selection, start),
        every=periods.pace(report.every, [each.period_end for each in store.digests(digest.report, most=11)]),
        first=first,
        complete=complete,
    )


def _waits_since(store: Store, selection: Selection, start: float) -> float | None:
    """Return when the first ban was recorded that waits, in UTC epoch seconds, or None.

    By a clock that was wrong for a moment it may be years ago; it was not before the period that the last digest ended.
    """
    since = store.pending(selection).since
    return None if since is None else max(since, start)


def _start(
    report: Report, store: Store, selection: Selection, zone: ZoneInfo, last: Sealed | None, end: float
) -> float | None:
    """Return when an open period began, in UTC epoch seconds; None: with its first ban."""
    if last and last.period_end <= end:
        return last.period_end
    if report.period == "pending" or report.every is None:
        return None
    recorded = store.pending(selection).since
    return periods.boundary(end - 1 if recorded is None else min(recorded, end - 1), report.every, zone)


def _undelivered(configuration: Configuration, store: Store, name: str, last: Sealed | None) -> tuple[Undelivered, ...]:
    """Return what a report still tries to deliver, and what it gave up since its last digest, which told the rest."""
    told = last.sealed_at if last else 0.0
    zone = zone_of(configuration, name)
    return tuple(
        Undelivered(
            digest=row.digest, sealed_at=moment(row.sealed_at, zone), channel=row.channel,
            recipient=row.recipient, status=row.status, reason=row.error or "",
        )
        for row in store.undelivered()
        if row.report == name and row.error and (row.status != "failed" or (row.settled_at or 0.0) >= told)
    )  # fmt: skip
