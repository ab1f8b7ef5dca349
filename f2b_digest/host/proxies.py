"""Proxies in front of this host: large CDNs, and those that its web servers trust. Nothing is analysed here.

The web servers' configurations may be readable by root alone: `gather` reads them as bytes, `parse` comes later.
"""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

from f2b_digest.model.host_context import AnyNetwork, Proxy

CDN = Path(__file__).with_name("cdn.toml")
FILES = (
    "etc/nginx/nginx.conf", "etc/nginx/conf.d/*.conf", "etc/nginx/sites-enabled/*", "etc/nginx/snippets/*.conf",
    "etc/apache2/apache2.conf", "etc/apache2/*-enabled/*.conf", "etc/httpd/conf/*.conf", "etc/httpd/conf*.d/*.conf",
    "etc/caddy/Caddyfile", "etc/caddy/*.caddy", "etc/caddy/conf.d/*",
)  # fmt: skip
"""Where Debian and Red Hat have them."""
MOST_FILES, MOST_BYTES = 300, 256 * 1024
"""Files, and bytes of each, that are read."""
FORWARDED = "X-Forwarded-For"
"""The default header of a proxy."""
WIDEST = {4: 8, 6: 16}
"""Shortest prefix lengths, by IP version: trusting a larger network does not name a proxy."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fd00::/8", "::1/128")
"""What Caddy calls private_ranges."""
_NGINX = re.compile(rb"^\s*set_real_ip_from\s+([^;\s]+)\s*;", re.MULTILINE)
_APACHE = re.compile(rb"^\s*RemoteIP(?:Trusted|Internal)Proxy\s+([^#\n]+)", re.MULTILINE | re.IGNORECASE)
_CADDY = re.compile(rb"^\s*trusted_proxies\s+(?:static\s+)?([^#\n{}]+)", re.MULTILINE)
SERVERS = (("nginx", _NGINX), ("Apache", _APACHE), ("Caddy", _CADDY))


def cdn() -> Iterator[Proxy]:
    """Yield the published ranges of large CDNs, of the list beside this module."""
    for entry in tomllib.loads(CDN.read_text(encoding="utf-8"))["cdn"]:
        yield from (Proxy(ip_network(text), entry["name"], entry["header"]) for text in entry["ranges"])


def configured(networks: Iterable[AnyNetwork]) -> Iterator[Proxy]:
    """Yield those of the configuration."""
    yield from (Proxy(network, "proxies", FORWARDED, own=True) for network in networks)


def gather(root: Path = Path("/")) -> tuple[bytes, ...]:
    """Return the start of each web server configuration that this user may read."""
    paths = (path for pattern in FILES for path in sorted(root.glob(pattern)))
    found = (_read(path) for path, _ in zip(paths, range(MOST_FILES), strict=False))
    return tuple(content for content in found if content)


def _read(path: Path) -> bytes:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return file.read(MOST_BYTES)
    return b""


def parse(contents: Sequence[bytes]) -> Iterator[Proxy]:
    """Yield the proxies that the web servers trust for the visitor's address."""
    for content in contents:
        for server, directive in SERVERS:
            for found in directive.finditer(content):
                for word in found[1].decode("ascii", "replace").split():
                    for text in PRIVATE if word == "private_ranges" else (word,):
                        yield from _proxy(text, server)


def _proxy(text: str, server: str) -> Iterator[Proxy]:
    with suppress(ValueError):  # a name, or unix:
        network = ip_network(text, strict=False)
        if network.prefixlen >= WIDEST[network.version]:
            yield Proxy(network, server, FORWARDED, own=True)
