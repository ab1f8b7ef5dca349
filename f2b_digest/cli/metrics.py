"""`status` as metrics in Prometheus's text format, for node_exporter's textfile collector. No store is read here."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

LARGEST = 1 << 24
"""Maximum bytes of the metrics."""
READABLE = 0o644
"""Readable by node_exporter's user."""

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """The metrics of one report. Times are UTC epoch seconds."""

    pending: int
    last_run: float | None
    last_digest: float | None


@dataclass(frozen=True)
class State:
    """The values of all metrics."""

    bans: Mapping[str, int]
    """By jail."""
    reports: Mapping[str, Report]
    undelivered: Iterable[tuple[str, str, str]]
    """Report, channel and status of each delivery."""
    spooled: int
    bytes: int
    damaged: bool
    hosts: Mapping[str, int] = field(default_factory=dict)
    """At a fleet's centre: the enrolled hosts by whether they are heard, silent or were never heard."""


def exposition(state: State) -> str:
    """Return the metrics; unknown times are omitted."""
    reports = state.reports.items()
    undelivered = Counter(state.undelivered)
    families: tuple[tuple[str, str, str, list[tuple[Labels, float | None]]], ...] = (
        ("bans_total", "counter", "Bans in the store, by jail; falls when old events are pruned.",
         [({"jail": jail}, count) for jail, count in sorted(state.bans.items())]),
        ("pending_bans", "gauge", "Bans pending for the next digest of a report.",
         [({"report": name}, report.pending) for name, report in reports]),
        ("undelivered_messages", "gauge", "Messages that are still being retried or failed permanently.",
         [({"report": report, "channel": channel, "status": status}, count)
          for (report, channel, status), count in sorted(undelivered.items())]),
        ("last_run_timestamp_seconds", "gauge", "When a report was last sent, with or without a digest.",
         [({"report": name}, report.last_run) for name, report in reports]),
        ("last_digest_timestamp_seconds", "gauge", "When a report's newest digest was made.",
         [({"report": name}, report.last_digest) for name, report in reports]),
        ("spooled_events", "gauge", "Events in the spool file, which the next send imports.",
         [({}, state.spooled)]),
        ("store_size_bytes", "gauge", "Size of the store's files.", [({}, state.bytes)]),
        ("fleet_hosts", "gauge", "Enrolled hosts of a fleet's centre, by whether they upload.",
         [({"state": name}, count) for name, count in sorted(state.hosts.items())]),
        ("store_damaged", "gauge", "1 if the store was found damaged and set aside.", [({}, int(state.damaged))]),
    )  # fmt: skip
    return "".join(line for family in families for line in _family(*family))


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float | None]]) -> Iterator[str]:
    name = f"f2b_digest_{name}"
    yield f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        if value is not None:
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{name}{f'{{{pairs}}}' if pairs else ''} {value!r}\n"


def by_a_child(work: Callable[[], str]) -> bytes:
    """Return a text made in a child, which may switch to the store's owner; this process stays root to write it.

    The text is not parsed here. If the child fails, it prints why, and this process exits with its status.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        content = work().encode()  # errors end the child as they would end the program
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(content)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read(LARGEST)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        sys.exit(status if status > 0 else 1)
    return content


def _escaped(text: str) -> str:
    """Return an escaped label value: jail names may contain anything."""
    encodable = text.encode("utf-8", "replace").decode()
    return encodable.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(path: Path, content: bytes) -> None:
    """Replace a file atomically: the collector reads the old metrics or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # node_exporter reads *.prom only
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, READABLE), "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), READABLE)  # whatever the umask
        temporary.replace(path)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None
    finally:
        temporary.unlink(missing_ok=True)
