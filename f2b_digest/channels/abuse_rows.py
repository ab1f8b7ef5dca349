"""A report to AbuseIPDB: which of a digest's addresses, with which comments, and its CSV. No configuration, no network.

Everything here is published: the reporting policy is at https://www.abuseipdb.com/reporting-policy.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from f2b_digest.channels.base import one_line
from f2b_digest.model.bans import Banned
from f2b_digest.model.digest import moment
from f2b_digest.text.redaction import anonymous, words

BULK_LINES, BULK_BYTES = 10_000, 2_000_000
"""Limits of a bulk report; the header counts as a line."""
OLDEST = 60 * 86400.0
"""Seconds: the policy excludes older attacks."""
COMMENT_LIMIT = 1000
"""Bytes; the service cuts at 1,024."""
HEADER = ("IP", "Categories", "ReportDate", "Comment")

# Without recidive, whose bans other jails have reported; without named-refused and nsd, as a datagram's sender is
# easily forged; without pass2allow-ftp, which does not ban.
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
"""AbuseIPDB's category numbers, by fail2ban's own jails."""

Row = list[str]
"""One address of a report, in the columns of `HEADER`."""


@dataclass(frozen=True)
class Rules:
    """What one channel reports, and how much of it."""

    categories: Mapping[str, str]
    """By jail; addresses of other jails are not reported."""
    ignored: Sequence[IPv4Network | IPv6Network]
    private: Sequence[str]
    """Words to remove from the log lines."""
    with_lines: bool
    """Whether comments quote log lines."""


def rows_of(
    addresses: Iterable[Banned], rules: Rules, earlier: set[str], now: float
) -> tuple[list[Row], dict[str, list[str]]]:
    """Return the rows of a report, and the jails or addresses left out of it, sorted, by reason.

    `earlier` are the addresses that the service would refuse as repeated; `now` is in UTC epoch seconds.
    """
    reported: dict[str, list[Banned]] = {}
    left_out: dict[str, set[str]] = {}
    for address in addresses:
        ip = _public(address.ip)
        if address.jail not in rules.categories:
            left_out.setdefault("jails without a category", set()).add(address.jail)
        elif ip is None or any(ip in network for network in rules.ignored):
            left_out.setdefault("private, reserved or ignored", set()).add(address.ip)
        elif why := _not_for_the_public(address, now):
            left_out.setdefault(why, set()).add(address.ip)
        elif str(ip) in earlier:
            left_out.setdefault("reported less than 15 minutes ago", set()).add(str(ip))
        else:
            reported.setdefault(str(ip), []).append(address)
    rows = [_row(ip, bans, rules, now) for ip, bans in reported.items()]
    return rows, {why: sorted({one_line(name, 60) for name in what}) for why, what in left_out.items()}


def _row(ip: str, bans: Sequence[Banned], rules: Rules, now: float) -> Row:
    """Return the row of an address that one or more jails banned: the service accepts an address once in 15 minutes."""
    categories = {number for each in bans for number in rules.categories[each.jail].split(",")}
    newest = min(max(each.last for each in bans), now)  # the service rejects times in the future
    comments = "; ".join(_comment(each, rules) for each in bans)
    return [ip, ",".join(sorted(categories, key=int)), _date(newest), _cut(comments)]


def _comment(address: Banned, rules: Rules) -> str:
    period = f"{_date(address.first)} to {_date(address.last)}"
    text = f"fail2ban jail {address.jail}: {address.bans}x banned, {_failures(address)}{period}"
    if rules.with_lines and address.matches:
        text += f": {redacted(address.matches, address.ip, rules.private, address.users)}"
    return text


def _not_for_the_public(address: Banned, now: float) -> str:
    """Return why an address must not be reported in public, or ""."""
    if address.failures == 0 and not address.uncounted:
        return "banned manually, without a failure"
    if address.lifted:
        return "unbanned early"
    return "older than 60 days" if address.last < now - OLDEST else ""


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


def _date(at: float) -> str:
    return moment(at, UTC).isoformat(timespec="seconds")


def _cut(text: str) -> str:
    """Return text for the service's CSV, in which a backslash escapes the quote but not itself."""
    plain = one_line(text.replace('"', "'").replace("\\", "/"), COMMENT_LIMIT)
    return plain.encode("utf-8", "replace")[:COMMENT_LIMIT].decode("utf-8", "ignore")


def redacted(text: str, reported: str, private: Sequence[str], users: Sequence[str] = ()) -> str:
    """Return the last log lines without names, mail addresses, queries, tokens and other addresses."""
    known = words(private), words(users, apart_from_dots=True)
    return " | ".join(one_line(anonymous(line, reported, known), 200) for line in text.splitlines()[-3:])


def to_csv(rows: Sequence[Row]) -> bytes:
    """Return rows as the service wants them: this header, these columns, every field quoted."""
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerow(HEADER)
    csv.writer(output, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return output.getvalue().encode()


def pieces(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows in chunks that fit a bulk report."""
    piece: list[Row] = []
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
