"""The archive of the file channel: self-describing pages, and the index of a folder. Nothing is written here.

Only the pages are stored: the index is rebuilt from the folder, so deleting a page is enough to
remove it.
"""

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from f2b_digest.channels.base import one_line
from f2b_digest.model.message import Stamp

NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}\.[^/]{1,80}\.html")
META = re.compile(r'<meta name="f2b-digest" content="([^"]*)">')
HEAD_BYTES = 8192
"""Bytes at the start of a page that contain its description."""
WEEK = 7 * 86400
WEEKS = 53
LABELS = ("Digests", "Date", "Report", "Bans", "Digest", "Bans of a year, by week: %s")
"""Defaults for a page whose template lacks some."""
STYLE = """:root{color-scheme:light dark}body{max-width:60rem;margin:0 auto;padding:1rem;
font:16px/1.45 system-ui,sans-serif}table{width:100%;border-collapse:collapse}
th,td{padding:.35rem .75rem .35rem 0;text-align:left;vertical-align:top;border-top:1px solid #8884;
overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums}.d{white-space:nowrap}svg{width:100%;height:3rem;fill:#b04a2e}
@media(max-width:30rem){th,td{padding-right:.4rem;font-size:.9rem}}"""


@dataclass(frozen=True)
class About:
    """A page's description."""

    at: float
    """When the digest was made, in UTC epoch seconds."""
    report: str
    bans: int
    verdict: str
    """The digest's subject."""
    labels: tuple[str, ...]
    """The words of the index, in the digest's language (see LABELS), then the report's name and the number of bans."""

    @property
    def report_shown(self) -> str:
        """The report's name in the digest's language."""
        return self.labels[len(LABELS)] if len(self.labels) > len(LABELS) else self.report

    @property
    def bans_shown(self) -> str:
        """The number of bans as the digest's language writes it."""
        return self.labels[len(LABELS) + 1] if len(self.labels) > len(LABELS) + 1 else f"{self.bans:,}"


def name_of(stamp: Stamp) -> str:
    """Return a page's name; names sort by time, which is UTC."""
    return f"{datetime.fromtimestamp(stamp.made_at, UTC):%Y%m%dT%H%M%SZ}-{stamp.identity}.html"


def described(page: str, about: About) -> str:
    """Return a page with its description in its head."""
    content = html.escape(json.dumps(asdict(about)))
    meta = f'<meta name="f2b-digest" content="{content}">'
    head, tag, rest = page.partition("<head>")
    return f"{head}{tag}\n{meta}{rest}" if tag else f"{meta}\n{page}"


def about(stamp: Stamp, subject: str, labels: str) -> About:
    """Return the description of a digest."""
    words = tuple(one_line(line, 80) for line in labels.splitlines())
    return About(stamp.made_at, stamp.report, stamp.bans, one_line(subject, 200), words)


def index(folder: Path) -> bytes:
    """Return the index of a folder's pages, the newest first. Raises OSError."""
    names = sorted((path.name for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)
    pages = [(name, told) for name in names if (told := _read(folder / name))]
    labels = next((told.labels[: len(LABELS)] for _, told in pages if len(told.labels) >= len(LABELS)), LABELS)
    title, *columns, chart = map(html.escape, labels)
    heads = "".join(f'<th scope="col"{" class=n" * (n == 2)}>{column}</th>' for n, column in enumerate(columns))
    return f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="robots" content="noindex"><title>{title}</title><style>{STYLE}</style></head>
<body><h1>{title}</h1>
{"".join(_charts([told for _, told in pages], chart))}<table><thead><tr>{heads}</tr></thead><tbody>
{"".join(_row(name, told) for name, told in pages)}</tbody></table></body></html>
""".encode("utf-8", "replace")


def _read(page: Path) -> About | None:
    """Return a page's description; None if it has none, or is gone."""
    try:
        with page.open("rb") as file:
            found = META.search(file.read(HEAD_BYTES).decode("utf-8", "replace"))
        told = json.loads(html.unescape(found[1])) if found else None
        if not isinstance(told, dict):
            return None
        labels = tuple(map(str, told["labels"]))
        return About(float(told["at"]), str(told["report"]), int(told["bans"]), str(told["verdict"]), labels)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _row(name: str, told: About) -> str:
    date = datetime.fromtimestamp(told.at).astimezone()
    return (
        f'<tr><td class=d><a href="{html.escape(name)}">{date:%Y-%m-%d %H:%M}</a></td>'
        f"<td>{html.escape(told.report_shown)}</td><td class=n>{html.escape(told.bans_shown)}</td>"
        f"<td>{html.escape(told.verdict)}</td></tr>\n"
    )


def _charts(pages: Sequence[About], caption: str) -> Iterable[str]:
    """Yield a chart of each report's last year: the bans of its digests, by week."""
    newest = max((told.at for told in pages), default=0.0)
    weeks: defaultdict[str, list[int]] = defaultdict(lambda: [0] * WEEKS)
    shown: dict[str, str] = {}
    for told in pages:
        shown.setdefault(told.report, told.report_shown)
        age = int((newest - told.at) // WEEK)
        if age < WEEKS:
            weeks[told.report][WEEKS - 1 - age] += told.bans
    for report, sums in sorted(weeks.items()):
        top = max(sums) or 1
        bars = "".join(
            f'<rect x="{n}" y="{100 - 100 * bans / top:.1f}" width=".8" height="{100 * bans / top:.1f}"/>'
            for n, bans in enumerate(sums)
            if bans
        )
        text = html.escape(shown[report]).join(caption.split("%s"))
        yield (
            f'<figure style="margin:0 0 1rem"><svg viewBox="0 0 {WEEKS} 100" preserveAspectRatio="none" role="img" '
            f'aria-label="{text}">{bars}</svg><figcaption>{text}</figcaption></figure>\n'
        )
