"""Composes a report's next digest: its events, its period, its analysis. Nothing is sealed here."""

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC
from zoneinfo import ZoneInfo

from f2b_digest import periods
from f2b_digest.analysis import (
    FREQUENT,
    MANY_HOSTS,
    Inputs,
    Judgement,
    OwnAddresses,
    Proxies,
    Usual,
    analyse,
    campaign_rule,
    host_jails,
)
from f2b_digest.composition.baselines import Baselines
from f2b_digest.config import Configuration, Report
from f2b_digest.errors import F2bDigestError, bug
from f2b_digest.model.counts import Counts
from f2b_digest.model.digest import Compared, Digest, FailedJail, Jail, NeverBanned, Undelivered, moment
from f2b_digest.model.host_context import UNKNOWN_HOST, HostContext, of_another
from f2b_digest.model.selection import Selection, matches
from f2b_digest.reconcile import Known
from f2b_digest.store import Reads, Sealed, Source
from f2b_digest.text.redaction import samples

log = logging.getLogger(__name__)

SAMPLED = 4
"""Worst addresses of a jail searched for log lines; not every one has some."""
LATER = 86400.0
"""Seconds after a period's end in which a ban shows that a jail is running."""
A_DAY = 20 * 3600.0
"""Seconds: the least that a daily digest has, and from one without bans that says that something is not at work to the
next."""
REMEMBERED, A_MONTH = 4.0, 35 * 86400.0
"""Times the time that a period is compared with, and seconds at the least, for which it is known what was told."""


_OUTAGES = (
    "down", "stopped", "silent", "proxy", "hosts_silent", "hosts_unheard", "hosts_lacking", "hosts_copied",
    "hosts_behind",
)  # fmt: skip
"""Kinds of facts for which a digest of a day is sent whatever its number of bans."""


def pending(store: Reads, name: str, report: Report) -> Selection:
    """Return the selection of a report's pending events, up to the newest one."""
    last = store.last_digest(name)
    first, after = (last.last_id + 1, last.id) if last else (1, 0)
    return Selection(first_id=first, last_id=store.last_event(), after=after, jails=report.jails, hosts=report.hosts)


def zone_of(configuration: Configuration, name: str) -> ZoneInfo:
    """Return the zone of a report's days and times."""
    own = configuration.reports[name].timezone
    return ZoneInfo(own) if own else configuration.timezone


def ended(configuration: Configuration, name: str, now: float) -> float | None:
    """Return when a calendar report's last whole period ended, in UTC epoch seconds; None for any other report."""
    report = configuration.reports[name]
    if report.period == "pending" or report.every is None:
        return None
    return periods.boundary(now, report.every, zone_of(configuration, name))


def due(configuration: Configuration, store: Reads, name: str, now: float) -> tuple[Selection, float] | None:
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


def is_fed(store: Reads, host_context: HostContext) -> bool:
    """Return whether this host's fail2ban feeds a store; if not, the state of this host is irrelevant to it.

    If its actions name no store, or could not be asked, a store with recent events of our action counts: the alarm
    that a jail lost our action must not be lost with it.
    """
    if host_context.stores:
        return os.path.realpath(store.path) in host_context.stores
    return store.is_fed()


def compose(
    configuration: Configuration,
    source: Source,
    name: str,
    end: float,
    host_context: HostContext = UNKNOWN_HOST,
    known: Known | None = None,
) -> Digest:
    """Return a report's digest of the selection that a source holds; `preview` and `send` both show this.

    `end`, in UTC epoch seconds, ends an open period. `host_context` is what is known of this host, `known` what
    fail2ban's own database has; facts that need what is not given are left out.
    """
    report, zone, selection = configuration.reports[name], zone_of(configuration, name), source.selection
    last = source.last_digest(name)
    past = selection.since is not None or selection.until is not None
    if not is_fed(source, host_context):
        host_context = of_another(host_context)
    counts = source.counts(
        zone=zone,
        start=selection.since if past else _start(report, source, zone, last, end),
        end=end if selection.until is None else selection.until,
        campaigns=campaign_rule(report.campaign),
        users=host_context.users,
        geography=host_context.geography,
    )
    if host_context.fleet is not None:
        counts = source.spread(counts, MANY_HOSTS)
    undelivered = () if past else _undelivered(configuration, source, name, last)
    reconciliation = known.of(selection, counts.totals.bans) if known and not past else None

    def judge() -> Judged:
        inputs = _inputs(configuration, source, name, counts, host_context, first=not last, complete=not past)
        judged = analyse(counts, replace(inputs, undelivered=undelivered, reconciliation=reconciliation))
        return judged, _lines(source, counts, host_context)

    judged, lines = _or_a_note(judge, counts)
    lifted, lifted_in_all = source.lifted(zone)
    never_banned, unread = _never_banned(report, host_context, counts)
    unseen = () if past else tuple(what for what in host_context.unseen if what != "log")
    return Digest(
        report=name, host=configuration.host, timezone=str(zone), start=counts.start, end=counts.end,
        totals=counts.totals, jails=tuple(_jail(jail, judged, lines) for jail in counts.jails),
        left_out=counts.left_out, undelivered=undelivered, notes=(*counts.notes, *judged.notes),
        reconciliation=reconciliation, unseen=(*unseen, *unread), facts=judged.facts,
        verdict=judged.verdict, compared=judged.compared, several=counts.several, several_in_all=counts.several_in_all,
        campaigns=counts.campaigns, campaigns_in_all=counts.campaigns_in_all, campaign_from=report.campaign,
        users=counts.users, when=counts.when, where=counts.where, never_banned=never_banned, lifted=lifted,
        lifted_in_all=lifted_in_all, advice=judged.advice, shown=report.addresses, fleet=judged.fleet,
    )  # fmt: skip


def _never_banned(
    report: Report, host_context: HostContext, counts: Counts
) -> tuple[NeverBanned | None, tuple[str, ...]]:
    """Return who failed and was never banned, if the report asks for it; and what could not be looked at for that."""
    if not report.failures:
        return None, ()
    if host_context.failures is None:
        return None, tuple(what for what in host_context.unseen if what == "log")
    start, end = counts.start.timestamp(), counts.end.timestamp()
    failed = host_context.failures(start, end, lambda jail: matches(jail, report.jails))
    if failed is None:
        return None, ("log",)
    jails = tuple(FailedJail(name, addresses) for name, addresses in failed.jails)
    since = counts.start if failed.since == start else moment(failed.since, counts.start.tzinfo or UTC)
    return NeverBanned(failed.addresses, jails, since), ()


Judged = tuple[Judgement, Mapping[str, tuple[str, ...]]]
"""Return a digest's analysis, and by jail the log lines to show."""


def _or_a_note(judge: Callable[[], Judged], counts: Counts) -> Judged:
    """Call an analysis; if it fails, return an empty result with a note: such a digest is better than none.

    Raises F2bDigestError or sqlite3.Error: the store's errors are not the analysis's.
    """
    try:
        return judge()
    except (F2bDigestError, sqlite3.Error):
        raise
    except Exception as error:
        log.debug("nothing was judged", exc_info=True)
        compared = Compared(new=counts.new, returning=counts.returning)
        return Judgement(compared, notes=(f"the analysis failed: {bug(error)}",)), {}


def _jail(jail: Jail, judged: Judgement, lines: Mapping[str, tuple[str, ...]]) -> Jail:
    """Return a jail with its comparison and its log lines."""
    before, usual = judged.by_jail.get(jail.name, Usual())
    return replace(jail, before=before, usual=usual, samples=lines.get(jail.name, ()))


def is_alarming(digest: Digest) -> bool:
    """Return whether a digest must be sent whatever its number of bans: an own address was banned, or bans are missed.

    The latter at most once a day, as it lasts until somebody acts.
    """
    kinds = {fact.kind for fact in digest.facts}
    daily = (digest.end - digest.start).total_seconds() >= A_DAY
    of_nobody = digest.fleet is not None and digest.start == digest.end  # no host of a new fleet has banned yet
    return "own" in kinds or ((daily or of_nobody) and not kinds.isdisjoint(_OUTAGES))


def _lines(source: Source, counts: Counts, host_context: HostContext) -> dict[str, tuple[str, ...]]:
    """Return by jail the log lines of its worst addresses, redacted for the admin."""
    found = source.samples({jail.name: [address.ip for address in jail.worst[:SAMPLED]] for jail in counts.jails})
    own = (*host_context.own, *host_context.friends)
    return {jail: samples(lines, (), own) for jail, lines in found.items()}


def _inputs(
    configuration: Configuration,
    source: Source,
    name: str,
    counts: Counts,
    host_context: HostContext,
    *,
    first: bool,
    complete: bool,
) -> Inputs:
    """Return the inputs of a digest's analysis."""
    report, zone = configuration.reports[name], zone_of(configuration, name)
    start, end = counts.start.timestamp(), counts.end.timestamp()
    calendar = report.period == "calendar"
    windows = periods.previous(start, end, report.every, zone, calendar)
    reach = REMEMBERED * (start - windows[-1][0]) if windows else 0.0
    told = source.told(name, since=start - max(reach, A_MONTH), shortest=A_DAY)
    waits = [configuration.channels[channel].min_bans for channel in report.channels]
    on_purpose = first or report.min_bans > 1 or (bool(waits) and min(waits) > 0)

    states = host_context.fleet
    until = end + LATER if complete else end
    baselines = Baselines(source, report, zone, start, end, until, told, most=len(windows))
    by_host = {} if states is None else baselines.by_host(states)
    return Inputs(
        baseline=baselines.of(end),
        networks=source.networks_before(counts.campaigns, windows, report.jails, host_context.geography),
        rebans=source.rebans(FREQUENT),
        host_context=host_context,
        starts_and_stops=source.starts_and_stops(report.jails, start),
        own_bans=source.chosen(OwnAddresses(host_context, start, end).holds, by_host=states is not None),
        proxy_bans=source.chosen(Proxies(host_context).holds) if host_context.proxies else (),
        waits_since=None if on_purpose else _waits_since(source, start),
        every=periods.pace(report.every, [each.period_end for each in source.digests(name, most=11)]),
        first=first,
        complete=complete,
        campaign_from=report.campaign,
        report=name,
        told=told,
        known_quiet=frozenset(configuration.known_quiet),
        by_host=by_host,
        judged=host_jails(by_host),
    )  # fmt: skip


def _waits_since(source: Source, start: float) -> float | None:
    """Return when the oldest pending ban was recorded, in UTC epoch seconds, or None.

    With a clock that was wrong it may be years ago; it is limited to the end of the last digest's period.
    """
    since = source.pending(source.selection).since
    return None if since is None else max(since, start)


def _start(report: Report, source: Source, zone: ZoneInfo, last: Sealed | None, end: float) -> float | None:
    """Return when an open period began, in UTC epoch seconds; None: with its first ban."""
    if last and last.period_end <= end:
        return last.period_end
    if report.period == "pending" or report.every is None:
        return None
    recorded = source.pending(source.selection).since
    return periods.boundary(end - 1 if recorded is None else min(recorded, end - 1), report.every, zone)


def _undelivered(configuration: Configuration, store: Reads, name: str, last: Sealed | None) -> tuple[Undelivered, ...]:
    """Return a report's open deliveries, and those given up since its last digest, which reported the others."""
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
