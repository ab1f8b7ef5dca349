"""What a channel's URL may be. Nothing is requested here: what only checks a URL does without an HTTP library."""

from urllib.parse import SplitResult, urlsplit


def check_address(url: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError if it is not an http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("must look like https://example.org")
    try:
        parts.port  # noqa: B018 - raises ValueError for an invalid port
    except ValueError as error:  # the message would quote it, and it can be a password
        raise ValueError("Port out of range" if "range" in str(error) else "Port is not a number") from None
    return parts


def check_server(url: str) -> SplitResult:
    """Return a URL's parts. Raises ValueError if it cannot be posted to, or contains credentials."""
    parts = check_address(url)
    if "@" in parts.netloc:
        raise ValueError("must not contain credentials: use user and password, or token")
    if not parts.netloc.isascii():
        raise ValueError("must name the host in ASCII (xn--…)")
    return parts
