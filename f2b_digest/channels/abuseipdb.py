"""The abuseipdb channel: reports the digest's addresses to AbuseIPDB, one row each; not its text.

Limits, codes and the reporting policy: https://docs.abuseipdb.com and https://www.abuseipdb.com/reporting-policy.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlencode

from pydantic import AfterValidator, Field, model_validator

from f2b_digest.channels import http, urls
from f2b_digest.channels.base import Channel, Health, Overdue, one_line
from f2b_digest.channels.keys import CertificateFile, ConfiguredPath, Secret
from f2b_digest.errors import DeliveryError, PartlyDeliveredError
from f2b_digest.model.bans import Banned
from f2b_digest.model.digest import moment
from f2b_digest.model.message import Content, Message, Needs, Stamp
from f2b_digest.text.redaction import anonymous, names, words

SERVICE = "https://api.abuseipdb.com/api/v2"
BULK_FROM = 20
"""Rows from which on a bulk report is used; a free account has five a day."""
BULK_LINES, BULK_BYTES = 10_000, 2_000_000
"""Limits of a bulk report; the header counts as a line."""
OLDEST = 60 * 86400.0
"""Seconds: the policy excludes older attacks."""
COMMENT_LIMIT = 1000
"""Bytes; the service cuts at 1,024."""
AGAIN = 900.0
"""Seconds in which the service rejects repeated reports of an address."""
ANSWER_LIMIT = 4_000_000
"""Bytes: a bulk report's response can name every row."""
NAMED = 20
"""Number of omitted jails or addresses named in the result; the rest is counted."""
HEADER = ("IP", "Categories", "ReportDate", "Comment")

CATEGORIES: dict[str, str] = {
    "sshd": "18,22", "sshd-ddos": "4,22", "dropbear": "18,22", "selinux-ssh": "18,22",
    "vsftpd": "5,18", "proftpd": "5,18", "pure-ftpd": "5,18", "wuftpd": "5,18", "gssftpd": "5,18",
    "dovecot": "18", "sieve": "18", "courier-auth": "18", "cyrus-imap": "18", "uwimap-auth": "18", "kerio": "18",
    "postfix-sasl": "18", "exim": "18", "perdition": "18", "squirrelmail": "18", "roundcube-auth": "18",
    "postfix": "11", "postfix-rbl": "11", "exim-spam": "11", "sendmail-reject": "11", "qmail-rbl": "11",
    "courier-smtp": "11", "sendmail-auth": "18", "solid-pop3d": "18",
    "apache-auth": "18,21", "nginx-http-auth": "18,21", "lighttpd-auth": "18,21", "suhosin": "21",
    "apache-badbots": "19,21", "apache-botsearch": "19,21", "nginx-botsearch": "19,21", "nginx-bad-request": "21",
    "nginx-forbidden": "21",
    "apache-noscript": "21", "apache-nohome": "21", "apache-overflows": "21", "apache-shellshock": "21",
    "apache-modsecurity": "21", "apache-fakegooglebot": "19", "php-url-fopen": "21", "nginx-limit-req": "21",
    "wordpress": "18,21", "wordpress-auth": "18,21", "drupal-auth": "18,21", "nextcloud": "18,21",
    "phpmyadmin": "18,21",
    "phpmyadmin-syslog": "18,21", "grafana": "18", "gitlab": "18", "zoneminder": "18", "openhab-auth": "18",
    "horde": "18", "webmin-auth": "18", "froxlor-auth": "18", "ejabberd-auth": "18", "mongodb-auth": "15,18",
    "mysqld-auth": "15,18", "mssql-auth": "15,18", "freeswitch": "8,18", "asterisk": "8,18", "murmur": "18",
    "screensharingd": "18", "guacamole": "18", "haproxy-http-auth": "18,21", "squid": "15",
    "portsentry": "14", "nagios": "18", "pam-generic": "18", "xinetd-fail": "14", "bitwarden": "18",
    "vaultwarden": "18", "openwebmail": "18,21", "groupoffice": "18,21", "sogo-auth": "18,21", "tine20": "18,21",
    "monit": "18", "3proxy": "18", "assp": "11", "znc-adminlog": "18", "stunnel": "15", "counter-strike": "18",
    "softethervpn": "18", "centreon": "18,21", "oracleims": "18", "directadmin": "18", "slapd": "18",
    "domino-smtp": "18", "routeros-auth": "18", "traefik-auth": "18,21", "openvpn": "18", "scanlogd": "14",
    "monitorix": "18", "dante": "18", "proxmox": "18,21", "xrdp": "18",
}  # fmt: skip
"""Categories of fail2ban's own jails. Not recidive, whose bans other jails have reported; not named-refused and nsd, as
a datagram's sender is easily forged; not pass2allow-ftp, which does not ban."""


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
        rows: dict[str, tuple[set[str], float, list[str]]] = {}
        left_out: dict[str, list[str]] = {}
        for address in content.addresses:
            ip = _public(address.ip)
            categories = (CATEGORIES | self.categories).get(address.jail)
            why = _not_for_the_public(address)
            if categories is None:
                left_out.setdefault("jails without a category", []).append(address.jail)
            elif ip is None or self._ignored(ip):
                left_out.setdefault("private, reserved or ignored", []).append(address.ip)
            elif why:
                left_out.setdefault(why, []).append(address.ip)
            elif address.last < stamp.made_at - OLDEST:
                left_out.setdefault("older than 60 days", []).append(address.ip)
            elif str(ip) in earlier:
                left_out.setdefault("reported less than 15 minutes ago", []).append(str(ip))
            else:  # the service accepts each address once: all its categories, the newest ban's time
                known = rows.setdefault(str(ip), (set(), 0.0, []))
                known[0].update(categories.split(","))
                known[2].append(self._comment(address, stamp))
                rows[str(ip)] = (known[0], max(known[1], min(address.last, stamp.made_at)), known[2])
        table = [
            [ip, ",".join(sorted(numbers, key=int)), _date(at), _cut("; ".join(comments))]
            for ip, (numbers, at, comments) in rows.items()
        ]
        names = {why: sorted({one_line(name, 60) for name in what}) for why, what in left_out.items()}
        return json.dumps({"rows": table, "left_out": names}, ensure_ascii=False).encode("utf-8", "replace")

    def _ignored(self, ip: IPv4Address | IPv6Address) -> bool:
        networks: Iterator[IPv4Network | IPv6Network] = (ip_network(text, strict=False) for text in self.ignore)
        return any(ip in network for network in networks)

    def _comment(self, address: Banned, stamp: Stamp) -> str:
        period = f"{_date(address.first)} to {_date(address.last)}"
        text = f"fail2ban jail {address.jail}: {address.bans}x banned, {_failures(address)}{period}"
        if self.comment == "matches" and address.matches:
            private = (*names(stamp.host), *self.private)
            text += f": {redacted(address.matches, address.ip, private, address.users)}"
        return text

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
        rows: list[list[str]] = document["rows"]
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

    def _bulk(self, rows: Sequence[list[str]], key: str) -> Iterator[tuple[int, list[str]]]:
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

    def _single(self, rows: Sequence[list[str]], key: str) -> Iterator[tuple[int, list[str]]]:
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


def _not_for_the_public(address: Banned) -> str:
    """Return why an address must not be reported in public, or ""."""
    if address.failures == 0 and not address.uncounted:
        return "banned manually, without a failure"
    return "unbanned early" if address.lifted else ""


def _failures(address: Banned) -> str:
    """Return the known failures, for a comment."""
    if address.failures is None:
        return ""
    return f"{'at least ' if address.uncounted else ''}{address.failures} failures, "


def _public(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address if it is a public one."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:  # any text
            return None
        ip = ip.ipv4_mapped or ip
    return ip if ip.is_global and not ip.is_multicast else None


def _reported(body: bytes, since: float) -> Iterator[str]:
    """Yield the addresses of a delivered message reported since a time, in UTC epoch seconds."""
    try:
        document = json.loads(body)
        yield from (row[0] for row in document["rows"])
        yield from (ip for ip, at in document.get("reported", {}).items() if at >= since)
    except (ValueError, LookupError, TypeError):  # a channel of another kind had this name
        return


def _date(at: float) -> str:
    return moment(at, UTC).isoformat(timespec="seconds")


def _cut(text: str) -> str:
    """Return text for the service's CSV, in which a backslash escapes the quote but not itself."""
    plain = one_line(text.replace('"', "'").replace("\\", "/"), COMMENT_LIMIT)
    return plain.encode("utf-8", "replace")[:COMMENT_LIMIT].decode("utf-8", "ignore")


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


def to_csv(rows: Sequence[Sequence[str]]) -> bytes:
    """Return rows as the service wants them: this header, these columns, every field quoted."""
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerow(HEADER)
    csv.writer(output, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return output.getvalue().encode()


def pieces(rows: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Yield rows in chunks that fit a bulk report."""
    piece: list[list[str]] = []
    size = 0
    for row in rows:
        length = len(to_csv([row]))
        if piece and (len(piece) + 1 >= BULK_LINES or size + length > BULK_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(row)
        size += length
    if piece:
        yield piece


def redacted(text: str, reported: str, private: Sequence[str], users: Sequence[str] = ()) -> str:
    """Return the last log lines without names, mail addresses, queries, tokens and other addresses."""
    known = words(private), words(users, apart_from_dots=True)
    return " | ".join(one_line(anonymous(line, reported, known), 200) for line in text.splitlines()[-3:])


def _append(path: Path, rows: Sequence[Sequence[str]]) -> None:
    try:
        with path.open("ab") as file:
            content = to_csv(rows)
            file.write(content.partition(b"\n")[2] if file.tell() else content)
    except OSError as error:
        raise DeliveryError(f"{path}: {error.strerror}", permanent=False) from None
