"""The abuseipdb channel: its configuration, and the conversation with the service. The rows are made in `abuse_rows`.

Limits and codes: https://docs.abuseipdb.com.
"""

import json
import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlencode

from pydantic import AfterValidator, Field, model_validator

from f2b_digest.channels import http, urls
from f2b_digest.channels.abuse_rows import CATEGORIES, Row, Rules, pieces, rows_of, to_csv
from f2b_digest.channels.base import Channel, Health, Overdue, one_line
from f2b_digest.channels.keys import CertificateFile, ConfiguredPath, Secret
from f2b_digest.errors import DeliveryError, PartlyDeliveredError
from f2b_digest.model.message import Content, Message, Needs, Stamp
from f2b_digest.text.redaction import names

SERVICE = "https://api.abuseipdb.com/api/v2"
BULK_FROM = 20
"""Rows from which on a bulk report is used; a free account has five a day."""
AGAIN = 900.0
"""Seconds in which the service rejects repeated reports of an address."""
ANSWER_LIMIT = 4_000_000
"""Bytes: a bulk report's response can name every row."""
NAMED = 20
"""Number of omitted jails or addresses named in the result; the rest is counted."""


def _check_network(text: str) -> str:
    ip_network(text, strict=False)
    return text


def _check_categories(categories: dict[str, str]) -> dict[str, str]:
    wrong = [
        f"{jail}: {numbers!r}"
        for jail, numbers in categories.items()
        if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", numbers) or not all(1 <= int(n) <= 23 for n in numbers.split(","))
    ]
    if wrong:
        raise ValueError(f'{", ".join(wrong)}: must look like "18,22" (1 to 23, see abuseipdb.com/categories)')
    return categories


class AbuseIPDB(Channel):
    """Failed or missing rows are retried alone; a row that the service has is not resent."""

    testable: ClassVar[bool] = False  # a test would be a false report

    kind: Literal["abuseipdb"]
    key: Secret | None = None
    """API key. Example: "0123456789abcdef"."""
    categories: Annotated[dict[str, str], AfterValidator(_check_categories)] = Field(default_factory=dict)
    """AbuseIPDB categories by jail, in addition to the built-in table. Jails without any are not reported.
    Example: { "my-jail" = "18,21" }.
    """
    comment: Literal["generated", "matches"] = "generated"
    """Comment of a report: "generated" has numbers only, "matches" adds log lines with private data masked."""
    ignore: tuple[Annotated[str, AfterValidator(_check_network)], ...] = ()
    """Addresses and networks that are never reported. Example: ["198.51.100.0/24"]."""
    private: tuple[str, ...] = ()
    """Words to remove from comments, such as names of hosts, domains and people. Example: ["example.org"]."""
    dry_run: bool = False
    """Write the rows to dry_run_file instead of reporting them."""
    dry_run_file: ConfiguredPath | None = None
    """CSV file for dry_run. Example: "abuseipdb.csv"."""
    url: str = SERVICE
    """Base address of the API."""
    ca_file: CertificateFile | None = None
    """PEM file of the certificate authorities to trust, instead of the system's. Example: "ca.pem"."""

    @model_validator(mode="after")
    def _dry_run(self) -> Self:
        if self.dry_run != (self.dry_run_file is not None):
            raise ValueError("dry_run = true needs dry_run_file, and the reverse")
        return self

    @model_validator(mode="after")
    def _key(self) -> Self:
        if not self.dry_run and not self.key:
            raise ValueError("key, key_file or key_env is missing")
        return self

    @model_validator(mode="after")
    def _server(self) -> Self:
        urls.check_server(self.url)
        return self

    @property
    def needs(self) -> Needs:
        """All addresses, and this channel's recent reports."""
        return Needs(addresses=True, delivered=AGAIN)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Return the service, or the file."""
        return (str(self.dry_run_file) if self.dry_run else urls.check_server(self.url).netloc,)

    def pack(self, content: Content, stamp: Stamp) -> bytes:
        """Return the rows, and what was omitted, as JSON."""
        earlier = {ip for body in content.delivered for ip in _reported(body, stamp.made_at - AGAIN)}
        rules = Rules(
            categories=CATEGORIES | self.categories,
            ignored=tuple(ip_network(text, strict=False) for text in self.ignore),
            private=(*names(stamp.host), *self.private),
            with_lines=self.comment == "matches",
        )
        rows, left_out = rows_of(content.addresses, rules, earlier, stamp.made_at)
        return json.dumps({"rows": rows, "left_out": left_out}, ensure_ascii=False).encode("utf-8", "replace")

    def wire(self, body: bytes) -> bytes:
        """Return the rows as the service gets them."""
        return to_csv(json.loads(body)["rows"])

    def accept(self, message: Message) -> None:
        """Raise ValueError if the stored message is not a report."""
        super().accept(message)
        document = json.loads(message.body)
        try:
            whole = all(all(isinstance(field, str) for field in row) and len(row) == 4 for row in document["rows"])
            document["left_out"].items()
        except (TypeError, LookupError, AttributeError):
            whole = False
        if not whole:
            raise ValueError("not an AbuseIPDB report")

    def deliver(self, message: Message) -> str | None:
        """Report the rows; return what the service rejected and what was omitted.

        Raises DeliveryError, with the rows that are still to be reported.
        """
        document = json.loads(message.body)
        rows: list[Row] = document["rows"]
        said: list[str] = document.get("said", [])
        reported: dict[str, float] = document.get("reported", {})
        left_out = [f"{why}: {_first(names)}" for why, names in document["left_out"].items()]
        if self.dry_run and self.dry_run_file:
            _append(self.dry_run_file, rows)
            return "; ".join([_rows(rows, "written"), *left_out])
        key = self.key.for_header("key") if self.key else ""
        report = self._bulk if len(rows) >= BULK_FROM else self._single
        done = 0
        try:
            for count, words in report(rows, key):
                done += count
                said += words
        except (DeliveryError, Overdue) as error:
            taken = reported | {row[0]: message.at for row in rows[:done]}
            rest = document | {"rows": rows[done:], "reported": taken, "said": said}
            raise _part_of(error, len(taken), len(rows) - done, json.dumps(rest, ensure_ascii=False).encode()) from None
        return "; ".join([_rows([*rows, *reported], "reported"), *said, *left_out])

    def check(self) -> Health:
        """Read the key, and connect to the service: any request would count against the daily limit."""
        super().check()
        if self.dry_run:
            return Health(f"dry run: nothing leaves this host, rows go to {self.dry_run_file}")
        return Health(f"{http.reach(self.url, self.ca_file)} is reachable")

    def _bulk(self, rows: Sequence[Row], key: str) -> Iterator[tuple[int, list[str]]]:
        """Report in chunks; yield the number of rows of each, and the service's errors."""
        for piece in pieces(rows):
            boundary = "f2b-digest-csv"
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="csv"; filename="report.csv"\r\n'
            body = f"{head}Content-Type: text/csv\r\n\r\n".encode() + to_csv(piece) + f"\r\n--{boundary}--\r\n".encode()
            answer = self._post("bulk-report", body, f"multipart/form-data; boundary={boundary}", key)
            data = answer["data"]
            invalid = data.get("invalidReports") if isinstance(data, dict) else None
            words = [
                f"{one_line(http.words(str(row.get('input')).encode(), key), 50)}: "
                f"{one_line(http.words(str(row.get('error')).encode(), key), 80)}"
                for row in (invalid if isinstance(invalid, list) else ())
                if isinstance(row, dict) and row.get("error") != "Duplicate IP"
            ]
            yield len(piece), [f"{len(words)} invalid ({', '.join(words[:10])})"] if words else []

    def _single(self, rows: Sequence[Row], key: str) -> Iterator[tuple[int, list[str]]]:
        """Report one by one; yield 1 for each."""
        for ip, categories, date, comment in rows:
            body = urlencode({"ip": ip, "categories": categories, "timestamp": date, "comment": comment}).encode()
            try:
                self._post("report", body, "application/x-www-form-urlencoded", key)
                yield 1, []
            except _RowRefusedError as error:
                yield 1, [] if error.known else [f"{ip}: {error}"]

    def _post(self, endpoint: str, body: bytes, content_type: str, key: str) -> dict[str, Any]:
        headers = {"Key": key, "Accept": "application/json", "Content-Type": content_type}
        status, answer, whole, _ = http.post(f"{self.url}/{endpoint}", body, headers, self.ca_file, ANSWER_LIMIT)
        try:
            said = json.loads(answer)
        except (ValueError, RecursionError):  # not JSON, or nested too deeply
            said = {}
        if not isinstance(said, dict):
            said = {}
        if status == 200 and "data" in said:
            return said
        listed = said.get("errors")
        errors = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
        details = "; ".join(str(error.get("detail")) for error in errors)
        words = http.words(details.encode() if errors else answer, key) or "(no output)"
        sources = [error.get("source") for error in errors]
        about_the_row = any(isinstance(source, dict) and source.get("parameter") for source in sources)
        if endpoint == "report" and about_the_row and status in (422, 429):
            raise _RowRefusedError(words, known=status == 429)
        if status == 200 and not whole:
            raise DeliveryError(f"{self.recipients[0]}: the response was truncated", permanent=False, in_doubt=True)
        if status == 200:
            raise DeliveryError(
                f"{self.recipients[0]}: HTTP 200, but not an AbuseIPDB response: check the url", permanent=True
            )
        raise DeliveryError(f"{self.recipients[0]}: HTTP status {status}: {words}", permanent=http.is_permanent(status))


class _RowRefusedError(Exception):
    """The service rejected a row; `known`: because it was reported within 15 minutes, which counts as success."""

    def __init__(self, words: str, *, known: bool) -> None:
        super().__init__(one_line(words, 80))
        self.known = known


def _reported(body: bytes, since: float) -> Iterator[str]:
    """Yield the addresses of a delivered message reported since a time, in UTC epoch seconds."""
    try:
        document = json.loads(body)
        yield from (row[0] for row in document["rows"])
        yield from (ip for ip, at in document.get("reported", {}).items() if at >= since)
    except (ValueError, LookupError, TypeError):  # a channel of another kind had this name
        return


def _rows(rows: Sequence[object], done: str) -> str:
    return f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} {done}"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _part_of(error: DeliveryError | Overdue, taken: int, left: int, rest: bytes) -> DeliveryError:
    """Return an error with the progress and the remaining rows."""
    if isinstance(error, Overdue):
        error = DeliveryError(str(error), permanent=False, in_doubt=True, unreachable=True)
    reason = f"{taken} of {taken + left} rows reported, then {error.reason}" if taken else error.reason
    told = DeliveryError(reason, permanent=error.permanent, in_doubt=error.in_doubt, unreachable=error.unreachable)
    return PartlyDeliveredError(told, rest)


def _append(path: Path, rows: Sequence[Row]) -> None:
    try:
        with path.open("ab") as file:
            content = to_csv(rows)
            file.write(content.partition(b"\n")[2] if file.tell() else content)
    except OSError as error:
        raise DeliveryError(f"{path}: {error.strerror}", permanent=False) from None
