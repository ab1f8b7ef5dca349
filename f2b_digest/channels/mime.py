"""An email's bytes: headers and the text and HTML alternatives. No sending here.

The legacy email classes are used on purpose: folding by the modern policies (email.policy.SMTP) corrupts long
non-ASCII subjects in every Python up to 3.13, and some servers refuse the result.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.charset import QP, Charset
from email.generator import BytesGenerator
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime, parseaddr
from io import BytesIO

from f2b_digest import __version__
from f2b_digest.channels.base import one_line
from f2b_digest.model.message import Stamp

TEMPLATES = ("email/subject.txt", "email/body.txt", "email/body.html")
BODY_LIMIT = 80_000
"""Bytes of a part: Gmail cuts a message at about 102 kB of HTML."""
SUBJECT_LIMIT = 120
"""Characters; a phone shows about 40, a mail program about 100."""
LINE_LENGTH = 76
NAME_LIMIT = 120
"""Characters of a display name."""


def fits(parts: Mapping[str, str]) -> bool:
    """Say whether neither alternative is cut by the large mail providers."""
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
        raise ValueError(f"{address!r}: the part before @ must be ASCII, the domain a valid name") from None
    return address


def bare_address(text: str) -> str:
    """Return the address alone, its domain in ASCII. Raises ValueError where it is none."""
    return ascii_address(parseaddr(check_address(text))[1])


def build(
    *, sender: str, recipients: Sequence[str], subject: str, text: str, html: str, stamp: Stamp, message_id: str
) -> bytes:
    """Return a whole message with LF line ends, the same bytes for the same arguments."""
    mail = MIMEMultipart("alternative", boundary=f"=_{stamp.uuid}")
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
    mail.attach(_part("plain", text))
    mail.attach(_part("html", html))
    output = BytesIO()
    policy = compat32.clone(linesep="\n", max_line_length=LINE_LENGTH)
    BytesGenerator(output, mangle_from_=False, policy=policy).flatten(mail)
    return output.getvalue()


def _part(subtype: str, text: str) -> MIMENonMultipart:
    charset = Charset("utf-8")
    charset.body_encoding = QP  # 7 bits and short lines whatever the text: no server has to rewrite it
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
    """Say whether text reads the same in a header as it is: ASCII, not like an encoded word, and easy to fold."""
    return text.isascii() and "=?" not in text and all(len(word) <= 60 for word in text.split())


def _token(text: str) -> str:
    """Return text as a word for a header of our own."""
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-_") else "-" for c in text)[:80] or "-"
