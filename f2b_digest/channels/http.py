"""One HTTP request with verified TLS, no redirects and a cap on the answer, for the channels that speak HTTP."""

import html
import http.client
import json
import logging
import re
import socket
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

import urllib3
import urllib3.connection

from f2b_digest import __version__
from f2b_digest.channels.base import masked
from f2b_digest.channels.keys import Contents
from f2b_digest.channels.tls import passes, trust
from f2b_digest.errors import DeliveryError

log = logging.getLogger(__name__)

ANSWER_LIMIT = 65536
"""Bytes read of a response; a service's error message is at its start."""
CONNECT = 10.0
TIMEOUT = urllib3.Timeout(connect=CONNECT, read=30)


TRY_AGAIN = frozenset({408, 425, 429})
"""The temporary 4xx statuses."""


def is_permanent(status: int) -> bool:
    """Return whether a status is a permanent failure; redirects are, as they are not followed."""
    return status < 500 and status not in TRY_AGAIN


class Answer(NamedTuple):
    """A server's response."""

    status: int
    body: bytes
    """Its beginning."""
    whole: bool
    """Whether it had a length. Without one, the response may have been truncated, including its head."""
    location: str = ""
    """Where a redirect leads."""


def post(
    url: str, body: bytes, headers: Mapping[str, str], ca_file: Contents | None = None, most: int = ANSWER_LIMIT
) -> Answer:
    """Send one POST and return the response, of which at most so many bytes are read.

    Redirects are not followed: that would lose the body or leak the secret to another host.
    Raises DeliveryError if there is no response.
    """
    return _request("POST", url, body, headers, ca_file, most)[0]


def get(
    url: str, headers: Mapping[str, str], ca_file: Contents | None = None, most: int = ANSWER_LIMIT
) -> tuple[Answer, float | None]:
    """Send one GET; return the response, and the server's time in UTC epoch seconds, if any.

    As with `post`, redirects are not followed, and DeliveryError is raised if there is no response.
    """
    answer, date = _request("GET", url, None, headers, ca_file, most)
    try:
        return answer, parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):  # no date, or an invalid one
        return answer, None


def reach(url: str, ca_file: Contents | None = None) -> str:
    """Connect to a URL's server, with TLS for https, without a request; return the host.

    For services where any request would be a message. Raises DeliveryError.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        with socket.create_connection((host, port), timeout=CONNECT) as connection:
            if parts.scheme == "https":
                trust(ca_file).wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        reason = f"{parts.netloc}: certificate refused: {error.verify_message}"
        raise DeliveryError(reason, permanent=not passes(error)) from None
    except OSError as error:
        raise DeliveryError(f"{parts.netloc}: {error.strerror or error}", permanent=False, unreachable=True) from None
    return parts.netloc


def _request(
    method: str, url: str, body: bytes | None, headers: Mapping[str, str], ca_file: Contents | None, most: int
) -> tuple[Answer, str]:
    """Return the response to one request, and its Date."""
    host = urlsplit(url).netloc
    context = trust(ca_file) if url.startswith("https:") else None
    try:
        with _Pools(ssl_context=context, retries=False) as pool:
            answer = pool.request(
                method, url, body=body, headers={"User-Agent": f"f2b-digest/{__version__}", **headers},
                timeout=TIMEOUT, redirect=False, preload_content=False,
            )  # fmt: skip
            try:
                whole = "Content-Length" in answer.headers or "Transfer-Encoding" in answer.headers
                told = answer.headers.get
                return Answer(answer.status, _content(answer, most), whole, told("Location", "")), told("Date", "")
            finally:
                answer.close()
    except urllib3.exceptions.SSLError as error:
        cause = error.args[0]
        refused = isinstance(cause, ssl.SSLCertVerificationError)
        permanent = refused and not passes(cause)
        # Anything but a certificate error may have happened after the request.
        raise DeliveryError(f"{host}: TLS: {error}", permanent=permanent, in_doubt=not refused) from None
    except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
        raise DeliveryError(f"{host}: {_plain(error)}", permanent=False, unreachable=True) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:  # it may have got the request
        late = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        raise DeliveryError(f"{host}: {_unquoted(error)}", permanent=False, in_doubt=True, unreachable=late) from None


def _content(answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Return the start of a response's body. Raises urllib3's HTTPError."""
    try:
        return answer.read(most, decode_content=True)
    except (ValueError, ArithmeticError, LookupError, AssertionError) as error:  # a chunk of negative length
        log.debug("an answer that urllib3 does not understand", exc_info=True)
        raise urllib3.exceptions.ProtocolError("not HTTP", error) from None


class _FinalResponse(http.client.HTTPResponse):
    """Skips informational responses: Python handles 100 only, and takes 103 as final."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        while 100 < status < 200 and status != 101:
            http.client.parse_headers(self.fp)
            version, status, reason = super()._read_status()  # type: ignore[misc]
        return version, status, reason


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _FinalResponse


class _SecuredConnection(urllib3.connection.HTTPSConnection):
    response_class = _FinalResponse


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecuredPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecuredConnection


class _Pools(urllib3.PoolManager):
    """Connections that wait for the final answer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _SecuredPool}


def words(body: bytes, *secrets: str) -> str:
    """Return a response's text, without HTML tags and without the secrets, which it may echo in any encoding."""
    dresses = (str, quote, quote_plus, html.escape, lambda text: json.dumps(text)[1:-1])
    worn = {dress(secret) for secret in secrets if secret for dress in dresses}
    text = masked(body.decode("utf-8", "replace"), *sorted(worn, key=len, reverse=True))[:4096]
    return " ".join(re.sub(r"(?is)<(script|style)\b.*?</\1>|<[!/a-z][^<>]*>", " ", text).split())


def _unquoted(error: Exception) -> str:
    """Return a reason without the server's text: a non-HTTP reply may echo our request, with secrets."""
    lost = any(isinstance(each, (OSError, urllib3.exceptions.TimeoutError)) for each in (error, *error.args))
    return _plain(error) if lost else f"not an HTTP response ({type(error.args[-1] if error.args else error).__name__})"


def _plain(error: Exception) -> str:
    """Return urllib3's reason without the object in front of it: "<…>: …" or "HTTPSConnection(…): …"."""
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", str(error)) or type(error).__name__
