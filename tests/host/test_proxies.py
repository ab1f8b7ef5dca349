"""What passes visitors on to a host: the list of CDNs, and what the web servers' configurations say."""

from ipaddress import ip_network
from pathlib import Path

from f2b_digest.host import proxies

NGINX = b"""
http {
    set_real_ip_from 198.51.100.0/24;
    set_real_ip_from 2001:db8::/32 ;
    # set_real_ip_from 192.0.2.0/24;
    set_real_ip_from unix:;
    set_real_ip_from 0.0.0.0/0;
    real_ip_header X-Forwarded-For;
}
"""
APACHE = (
    b"RemoteIPHeader X-Forwarded-For\n  RemoteIPTrustedProxy 198.51.100.7 proxy.example.org 203.0.113.0/28 # ours\n"
)
CADDY = b"{\n\tservers {\n\t\ttrusted_proxies static private_ranges 203.0.113.64/26\n\t}\n}\n"


def write(root: Path, name: str, content: bytes) -> None:
    """Write a file of a host."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def test_the_web_servers_name_whom_they_trust(tmp_path: Path) -> None:
    """Networks of each directive; no names, no sockets, no comments, and not the whole world."""
    write(tmp_path, "etc/nginx/conf.d/proxy.conf", NGINX)
    write(tmp_path, "etc/apache2/conf-enabled/remoteip.conf", APACHE)
    write(tmp_path, "etc/caddy/Caddyfile", CADDY)
    write(tmp_path, "etc/nginx/sites-available/old", b"set_real_ip_from 192.0.2.1;")
    found = [(str(proxy.network), proxy.name) for proxy in proxies.parse(proxies.gather(tmp_path))]
    assert found[:5] == [
        ("198.51.100.0/24", "nginx"), ("2001:db8::/32", "nginx"), ("198.51.100.7/32", "Apache"),
        ("203.0.113.0/28", "Apache"), ("10.0.0.0/8", "Caddy"),
    ]  # fmt: skip
    assert found[-1] == ("203.0.113.64/26", "Caddy")


def test_what_is_no_file_or_not_text_does_no_harm(tmp_path: Path) -> None:
    """A directory, a pipe, bytes of a program."""
    import os  # noqa: PLC0415 - for one line

    (tmp_path / "etc/nginx/sites-enabled/folder").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/nginx/sites-enabled/pipe")
    write(tmp_path, "etc/nginx/sites-enabled/binary", b"set_real_ip_from \xff\x00;\n\x00" * 100_000)
    assert list(proxies.parse(proxies.gather(tmp_path))) == []
    assert proxies.gather(tmp_path / "nothing") == ()


def test_the_list_of_cdns_can_be_read() -> None:
    """Networks of some length, none twice, with the header that has the visitor."""
    found = list(proxies.cdn())
    assert len({proxy.network for proxy in found}) == len(found) > 90
    assert all(proxy.network.prefixlen >= (13 if proxy.network.version == 4 else 29) for proxy in found)
    assert not any(one.network.overlaps(ip_network("1.1.1.0/24")) for one in found)
    assert {proxy.header for proxy in found if proxy.name == "Cloudflare"} == {"CF-Connecting-IP"}
