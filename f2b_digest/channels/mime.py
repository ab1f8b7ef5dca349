"""An email's bytes: headers and the text and HTML alternatives. No sending here.

The legacy email classes are used on purpose: folding by the modern policies (email.policy.SMTP) corrupts long
non-ASCII subjects in every Python up to 3.13, and some servers refuse the result.
"""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.generator import BytesGenerator
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime, parseaddr
from io import BytesIO, StringIO
from typing import NamedTuple

from f2b_digest import __version__
from f2b_digest.channels.base import one_line
from f2b_digest.model.bans import Banned
from f2b_digest.model.message import Stamp

TEMPLATES = ("email/subject.txt", "email/body.txt", "email/body.html")
PAGE = "file/page.html"
"""The template of an attached page, which has every address."""
BODY_LIMIT = 80_000
"""Bytes of a part: Gmail cuts a message at about 102 kB of HTML."""
SUBJECT_LIMIT = 120
"""Characters; a phone shows about 40, a mail program about 100."""
LINE_LENGTH = 76
CELL_LIMIT = 200
"""Characters of a cell that an attacker chose."""
NAME_LIMIT = 120
"""Characters of a display name."""


class Attached(NamedTuple):
    """A file beside the two alternatives."""

    name: str
    subtype: str
    """Of text/."""
    text: str


def table(addresses: Sequence[Banned]) -> str:
    """Return addresses as CSV (RFC 4180); times in UTC. No cell is a formula to a spreadsheet."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("jail", "address", "bans", "failures", "first", "last", "lifted", "users"))
    for each in addresses:
        times = (datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") for at in (each.first, each.last))
        failures = "" if each.failures is None else each.failures
        users = _cell(" ".join(each.users))
        row = (_cell(each.jail), _cell(each.ip), each.bans, failures, *times, "yes" if each.lifted else "no", users)
        writer.writerow(row)
    return file.getvalue()


def _cell(text: str) -> str:
    line = one_line(text, CELL_LIMIT)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def fits(parts: Mapping[str, str]) -> bool:
    """Return whether neither alternative is cut by the large mail providers."""
    return all(len(parts[name].encode("utf-8", "replace")) <= BODY_LIMIT for name in TEMPLATES)


def domain_of(address: str) -> str:
    """Return an address's domain in ASCII (IDNA)."""
    return address.rpartition("@")[2].encode("idna").decode("ascii")


def ascii_address(address: str) -> str:
    """Return a bare address with its domain in ASCII. Raises UnicodeError where the local part is not."""
    local = address.rpartition("@")[0]
    local.encode("ascii")
    return f"{local}@{domain_of(address)}"


def check_address(address: str) -> str:
    """Return an address, with a name or without. Raises ValueError where it is none."""
    bare = parseaddr(address)[1]
    local, at, domain = bare.rpartition("@")
    if not (local and at and domain) or not address.isprintable() or any(c.isspace() for c in bare):
        raise ValueError(f"{address!r} is not an address like admin@example.org or Name <admin@example.org>")
    try:
        ascii_address(bare)
    except UnicodeError:
        raise ValueError(f"{address!r}: the part before @ must be ASCII and the domain valid") from None
    return address


def bare_address(text: str) -> str:
    """Return the address alone, its domain in ASCII. Raises ValueError where it is none."""
    return ascii_address(parseaddr(check_address(text))[1])


def build(
    *, sender: str, recipients: Sequence[str], subject: str, text: str, html: str, stamp: Stamp, message_id: str,
    attached: Attached | None = None,
) -> bytes:  # fmt: skip
    """Return a whole message with LF line ends, the same bytes for the same arguments."""
    both = MIMEMultipart("alternative", boundary=f"=_{stamp.uuid}")
    mail = both if attached is None else MIMEMultipart("mixed", boundary=f"=_{stamp.uuid}.m")
    mail["From"] = _address(sender)
    mail["To"] = Header(", ".join(_address(recipient) for recipient in recipients), header_name="To").encode()
    subject = one_line(subject, SUBJECT_LIMIT)
    charset = "us-ascii" if _travels(subject) else "utf-8"
    # Only a Header, not its text, is folded for good; typeshed knows texts only.
    mail["Subject"] = Header(subject, charset, header_name="Subject")  # type: ignore[assignment]
    mail["Date"] = format_datetime(datetime.fromtimestamp(stamp.made_at, UTC))
    mail["Message-ID"] = f"<{message_id}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["List-Id"] = f"<f2b-digest.{_token(stamp.host)}>"
    mail["X-F2B-Digest"] = f"{__version__}; run={stamp.uuid}; report={_token(stamp.report)}; host={_token(stamp.host)}"
    both.attach(_part("plain", text))
    both.attach(_part("html", html))
    if attached is not None:
        del both["MIME-Version"]  # the whole mail's is enough
        file = _part(attached.subtype, attached.text)
        file.add_header("Content-Disposition", "attachment", filename=_token(attached.name))
        mail.attach(both)
        mail.attach(file)
    output = BytesIO()
    policy = compat32.clone(linesep="\n", max_line_length=LINE_LENGTH)
    BytesGenerator(output, mangle_from_=False, policy=policy).flatten(mail)
    return output.getvalue()


def _part(subtype: str, text: str) -> MIMENonMultipart:
    charset = Charset("utf-8")
    charset.body_encoding = QP  # always 7 bits and short lines, so that no server has to rewrite it
    part = MIMENonMultipart("text", subtype, charset="utf-8")
    part.set_payload(text.encode("utf-8", "backslashreplace").decode("utf-8"), charset)
    return part


def _address(address: str) -> str:
    name, bare = parseaddr(address)
    name, bare = one_line(name, NAME_LIMIT), ascii_address(bare)
    if not name:
        return bare
    if _travels(name):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{bare}>'
    # A line of 76 holds a blank and an encoded word of the 75 characters that are allowed; Header's default is 78.
    return f"{Header(name, 'utf-8', maxlinelen=LINE_LENGTH, header_name='From').encode()} <{bare}>"


def _travels(text: str) -> bool:
    """Return whether text reads the same in a header as it is: ASCII, not like an encoded word, and easy to fold."""
    return text.isascii() and "=?" not in text and all(len(word) <= 60 for word in text.split())


def _token(text: str) -> str:
    """Return text as a word for a header of our own."""
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in text)[:80] or "-"
