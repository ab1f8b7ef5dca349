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
from urllib.parse import SplitResult, quote, quote_plus, urlsplit

import urllib3
import urllib3.connection

from f2b_digest import __version__
from f2b_digest.channels.base import masked
from f2b_digest.channels.keys import Contents
from f2b_digest.channels.tls import passes, trust
from f2b_digest.errors import DeliveryError

log = logging.getLogger(__name__)

ANSWER_LIMIT = 65536
"""Bytes of an answer that are read; a service's own words stand at its beginning."""
CONNECT = 10.0
TIMEOUT = urllib3.Timeout(connect=CONNECT, read=30)


TRY_AGAIN = frozenset({408, 425, 429})
"""The 4xx that pass by themselves."""


def check_address(url: str) -> SplitResult:
    """Return an address's parts. Raises ValueError where it is none of the web."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("is not like https://example.org")
    try:
        parts.port  # noqa: B018 - raises ValueError where it is no port
    except ValueError as error:  # which quotes it, and it can be a password
        raise ValueError("Port out of range" if "range" in str(error) else "Port is no number") from None
    return parts


def check_server(url: str) -> SplitResult:
    """Return an address's parts. Raises ValueError where we could not post to it, or it holds a secret in clear."""
    parts = check_address(url)
    if "@" in parts.netloc:
        raise ValueError("holds a user: put it into user and password, or token")
    if not parts.netloc.isascii():
        raise ValueError("must name the host in ASCII (xn--…)")
    return parts


def is_permanent(status: int) -> bool:
    """Say whether only the admin can mend what a status tells; redirects too, for none is followed."""
    return status < 500 and status not in TRY_AGAIN


class Answer(NamedTuple):
    """What a server said."""

    status: int
    body: bytes
    """Its beginning."""
    whole: bool
    """Whether it told its length. One that ends where the connection ends may have been cut, its head too."""
    location: str = ""
    """Where a redirect leads."""


def post(
    url: str, body: bytes, headers: Mapping[str, str], ca_file: Contents | None = None, most: int = ANSWER_LIMIT
) -> Answer:
    """Send one POST and return the answer, of which at most so many bytes are read.

    A redirect is an answer like any other: following one would lose the body or show the secret to a stranger.
    Raises DeliveryError where there is no answer.
    """
    return _request("POST", url, body, headers, ca_file, most)[0]


def get(
    url: str, headers: Mapping[str, str], ca_file: Contents | None = None, most: int = ANSWER_LIMIT
) -> tuple[Answer, float | None]:
    """Send one GET; return the answer, and the server's time in UTC epoch seconds if it told it.

    As for `post`, no redirect is followed, and DeliveryError is raised where there is no answer.
    """
    answer, date = _request("GET", url, None, headers, ca_file, most)
    try:
        return answer, parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):  # no date, or none that is one
        return answer, None


def reach(url: str, ca_file: Contents | None = None) -> str:
    """Connect to an address's server, with TLS where it says so, ask nothing, and return the host.

    For services where any request could be taken for a message. Raises DeliveryError.
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
    """Return the answer to one request, and its Date."""
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
        # Anything but the certificate may have broken behind the request.
        raise DeliveryError(f"{host}: TLS: {error}", permanent=permanent, in_doubt=not refused) from None
    except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
        raise DeliveryError(f"{host}: {_plain(error)}", permanent=False, unreachable=True) from None
    except (urllib3.exceptions.HTTPError, OSError) as error:  # it may have got the request
        late = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        raise DeliveryError(f"{host}: {_unquoted(error)}", permanent=False, in_doubt=True, unreachable=late) from None


def _content(answer: urllib3.BaseHTTPResponse, most: int) -> bytes:
    """Return the beginning of an answer's body. Raises urllib3's HTTPError."""
    try:
        return answer.read(most, decode_content=True)
    except (ValueError, ArithmeticError, LookupError, AssertionError) as error:  # a chunk of fewer bytes than none
        log.debug("an answer that urllib3 does not understand", exc_info=True)
        raise urllib3.exceptions.ProtocolError("no HTTP", error) from None


class _FinalResponse(http.client.HTTPResponse):
    """The answer behind those that only announce it: Python knows 100 among them, and takes 103 for the end."""

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
    """Return what a server says, without a page's tags and without the secrets, which it may repeat in any dress."""
    dresses = (str, quote, quote_plus, html.escape, lambda text: json.dumps(text)[1:-1])
    worn = {dress(secret) for secret in secrets if secret for dress in dresses}
    text = masked(body.decode("utf-8", "replace"), *sorted(worn, key=len, reverse=True))[:4096]
    return " ".join(re.sub(r"(?is)<(script|style)\b.*?</\1>|<[!/a-z][^<>]*>", " ", text).split())


def _unquoted(error: Exception) -> str:
    """Return a reason without the server's words: what is no HTTP may be our own request, secrets and all."""
    lost = any(isinstance(each, (OSError, urllib3.exceptions.TimeoutError)) for each in (error, *error.args))
    return _plain(error) if lost else f"no HTTP answer ({type(error.args[-1] if error.args else error).__name__})"


def _plain(error: Exception) -> str:
    """Return urllib3's reason without the object in front of it: "<…>: …" or "HTTPSConnection(…): …"."""
    return re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", str(error)) or type(error).__name__
