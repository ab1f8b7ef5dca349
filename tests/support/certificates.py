"""Certificates for the scripted servers. No tests here."""

import datetime as dt
import ssl
from dataclasses import dataclass, field

import trustme


@dataclass
class Certificates:
    """Certificates, valid and not, for a client that trusts one authority."""

    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        """Issue them once for all servers."""
        past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        self.good = _context(self.authority.issue_cert("127.0.0.1"))
        self.expired = _context(self.authority.issue_cert("127.0.0.1", not_after=past))
        self.unknown = _context(trustme.CA().issue_cert("127.0.0.1"))


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context
