"""Certificates: what the channels trust, and which refusal passes by itself. No connection is made here."""

import re
import ssl

from f2b_digest.channels.keys import Contents
from f2b_digest.errors import DeliveryError

CERTIFICATE = re.compile(r"(?s)-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----.*?-----END \1-----")
OUT_OF_DATE = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


def trust(ca_file: Contents | None) -> ssl.SSLContext:
    """Return a context that verifies by the certificates of a file, or by the system's. Raises DeliveryError."""
    if ca_file is None:
        return ssl.create_default_context()
    if ca_file.trouble:
        raise DeliveryError(f"ca_file {ca_file.path}: {ca_file.trouble}", permanent=False)
    # Without its comments, in any language. None at all would mean the system's certificates to Python.
    found = [match[0] for match in CERTIFICATE.finditer(ca_file.held.get_secret_value())]
    if not found:
        raise DeliveryError(f"ca_file {ca_file.path}: contains no PEM certificate", permanent=False)
    try:
        return ssl.create_default_context(cadata="\n".join(found))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DeliveryError(f"ca_file {ca_file.path}: {reason}", permanent=False) from None


def passes(refused: ssl.SSLCertVerificationError) -> bool:
    """Return whether a certificate was refused for its dates, which a renewal or a correct clock fixes."""
    return refused.verify_code in OUT_OF_DATE
