"""`find --rdap`: what a registry says, by a server on loopback that answers as registries do (RFC 9083, RFC 9224)."""

import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from f2b_digest import rdap
from f2b_digest.channels import http
from tests.channels.http_service import Answer, HttpService, Request, Script, as_json, saved
from tests.support.program import Command, let_everybody_enter
from tests.support.store_making import event, fill

IP = "193.0.6.139"
Registry = Callable[[Script], HttpService]


def card(name: str, kind: str, **more: str) -> list[Any]:
    """Return a jCard."""
    return [
        "vcard",
        [["version", {}, "text", "4.0"], ["fn", {}, "text", name], ["kind", {}, "text", kind],
         *([key, {}, "text", value] for key, value in more.items())],
    ]  # fmt: skip


def entity(role: str, name: str, kind: str, *inside: Any, **more: str) -> dict[str, Any]:
    """Return an entity, which may hold others."""
    return {
        "objectClassName": "entity", "handle": name[:8], "roles": [role], "vcardArray": card(name, kind, **more),
        "entities": list(inside),
    }  # fmt: skip


def network(*entities: Any, name: str = "RIPE-NCC", **more: Any) -> dict[str, Any]:
    """Return what a registry says of a network."""
    return {
        "rdapConformance": ["rdap_level_0", "cidr0"], "objectClassName": "ip network", "ipVersion": "v4",
        "handle": "193.0.0.0 - 193.0.7.255", "startAddress": "193.0.0.0", "endAddress": "193.0.7.255", "name": name,
        "type": "ASSIGNED PA", "country": "NL", "status": ["active"], "entities": list(entities),
        "cidr0_cidrs": [{"v4prefix": "193.0.0.0", "length": 21}],
        "events": [{"eventAction": "registration", "eventDate": "2003-03-17T12:15:57Z"}],
        "notices": [{"title": "Terms and Conditions", "description": ["…"], "links": [{"href": "https://example.org"}]}],
    } | more  # fmt: skip


RIPE = network(
    entity("registrant", "RIPE-NCC-MNT", "individual"),
    entity("registrant", "Réseaux IP Européens", "org"),
    entity("abuse", "Abuse contact", "group", email="abuse@ripe.example"),
)
ARIN = network(
    entity(
        "registrant", "Example LLC", "org", entity("abuse", "Abuse", "group", email="network-abuse@example.com"),
    ),
    name="EXMP",
)  # fmt: skip
BARE = network(entity("registrant", "RIPE-NCC-MNT", "individual"), name="NET-WITHOUT-ORGANISATION")


class Drip(threading.Thread):
    """A server by TLS whose answer begins and never ends, a byte at a time or as fast as it goes; or that is silent."""

    def __init__(self, authority: trustme.CA, sent: bytes, pause: float) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.authority, self.sent, self.pause = authority, sent, pause

    def run(self) -> None:
        """Serve one client, until it goes away."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        try:
            with context.wrap_socket(self.listener.accept()[0], server_side=True) as client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/rdap+json\r\n\r\n" if self.sent else b"")
                while True:
                    client.sendall(self.sent)
                    time.sleep(self.pause)
        except OSError:
            pass


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Provide the authority of the registry's certificate."""
    return trustme.CA()


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the authority be one of the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(saved(authority, tmp_path)))


@pytest.fixture
def registry(authority: trustme.CA, trusted: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Provide what starts IANA's directory and a registry, in one server; it ends with the test."""
    begun: list[HttpService] = []

    def begin(script: Script) -> HttpService:
        service = HttpService(lambda request: directory(request) or script(request), authority)

        def directory(request: Request) -> Answer | None:
            ranges = {"/ipv4.json": ["193.0.0.0/8"], "/ipv6.json": ["2001:600::/23"]}.get(request.path)
            return as_json(200, {"services": [[ranges, [f"{service.url}/registry/"]]]}) if ranges else None

        service.__enter__()
        begun.append(service)
        monkeypatch.setattr(rdap, "DIRECTORY", f"{service.url}/")
        return service

    yield begin
    for service in begun:
        service.__exit__()


def banned(path: Path, *ips: str) -> None:
    """Fill a store."""
    fill(path, [event(ip=ip) for ip in ips])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RIPE, "registry: Réseaux IP Européens (RIPE-NCC, 193.0.0.0/21); abuse contact: abuse@ripe.example"),
        (ARIN, "registry: Example LLC (EXMP, 193.0.0.0/21); abuse contact: network-abuse@example.com"),
        (BARE, "registry: NET-WITHOUT-ORGANISATION (193.0.0.0/21); no abuse contact"),
    ],
    ids=["ripe", "arin", "bare"],
)  # fmt: skip
def test_an_answer_names_the_holder_and_whom_to_tell_of_abuse(
    f2b_digest: Command, config: Path, path: Path, registry: Registry, answer: Any, said: str
) -> None:
    """Of an address and of a network, with bans and without; the registry is asked for just that."""
    service = registry(lambda request: as_json(200, answer))
    banned(path, IP)
    for what, asked in ((IP, IP), ("193.0.6.0/24", "193.0.6.0/24"), ("193.0.7.1", "193.0.7.1")):
        service.requests.clear()
        ended = f2b_digest("--config", config, "find", what, "--rdap")
        assert (ended.status, ended.err) == (0, "")
        assert said in " ".join(ended.out.split())
        assert [request.path for request in service.requests] == ["/ipv4.json", f"/registry/ip/{asked}"]
    [document] = json.loads(f2b_digest("--config", config, "find", IP, "--rdap", "--json").out)
    assert document["registered"]["network"] == "193.0.0.0/21"


def test_ipv6_is_looked_up_in_its_own_directory(
    f2b_digest: Command, config: Path, path: Path, registry: Registry
) -> None:
    """Two addresses of one version load its directory once."""
    service = registry(lambda request: as_json(200, RIPE))
    banned(path, IP)
    assert f2b_digest("--config", config, "find", "2001:610::1", "2001:610::2", "--rdap").err == ""
    wanted = ["/ipv6.json", "/registry/ip/2001:610::1", "/registry/ip/2001:610::2"]
    assert [request.path for request in service.requests] == wanted


@pytest.mark.parametrize("what", ["192.168.1.1", "10.0.0.0/8", "203.0.113.5", "fe80::1", "224.0.0.1", "127.0.0.1"])
def test_of_a_private_or_reserved_address_nothing_is_asked(
    f2b_digest: Command, config: Path, path: Path, registry: Registry, what: str
) -> None:
    """It says so, and the rest of the answer is shown."""
    service = registry(lambda request: as_json(200, RIPE))
    banned(path, IP)
    ended = f2b_digest("--config", config, "find", what, "--rdap")
    assert (ended.status, service.requests) == (0, [])
    assert ended.err == f"f2b-digest: --rdap: {what}: {what} is private or reserved: no registry was asked\n"
    assert "no ban" in ended.out


def test_nothing_is_asked_without_the_option_nor_of_a_name(
    f2b_digest: Command, config: Path, path: Path, registry: Registry
) -> None:
    """A jail has no registry."""
    service = registry(lambda request: as_json(200, RIPE))
    banned(path, IP)
    assert "registry" not in f2b_digest("--config", config, "find", IP).out
    assert "about addresses and networks only" in f2b_digest("--config", config, "find", "sshd", "--rdap").err
    assert service.requests == []


NESTED = b"[" * 100_000
FAULTS: dict[str, tuple[Script, str]] = {
    "404": (lambda request: as_json(404, {"errorCode": 404}), "does not know this network"),
    "429": (lambda request: as_json(429, {}, Retry_After="3600"), "was asked too often"),
    "500": (lambda request: Answer(500, b"oops"), "answered with status 500"),
    "page": (lambda request: Answer(200, b"<html>"), "is no JSON"),
    "nested": (lambda request: Answer(200, NESTED), "is no JSON"),
    "list": (lambda request: as_json(200, [1]), "is not understood"),
    "null": (lambda request: as_json(200, None), "is not understood"),
    "other object": (lambda request: as_json(200, {"objectClassName": "domain", "handle": "x"}), "is not about"),
    "types": (lambda request: as_json(200, network({"roles": 7})), "is not understood"),
    "huge": (lambda request: Answer(200, b'"' + b"x" * (rdap.LARGEST + 1) + b'"'), "is longer than 1,048,576 bytes"),
    "circle": (lambda request: Answer(302, b"", {"Location": request.path}), "send from one to the other"),
    "to http": (lambda request: Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), "is not https"),
    "to a file": (lambda request: Answer(302, b"", {"Location": "file:///etc/passwd"}), "is not https"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_fails_is_one_line_and_the_rest_stands(
    f2b_digest: Command, config: Path, path: Path, registry: Registry, fault: str
) -> None:
    """Whatever it answers."""
    script, said = FAULTS[fault]
    registry(script)
    banned(path, IP)
    ended = f2b_digest("--config", config, "find", IP, "--rdap")
    assert ended.status == 0
    assert ended.err.startswith(f"f2b-digest: --rdap: {IP}: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert f"{IP}: 1 ban" in ended.out
    assert "registry:" not in ended.out


def test_a_directory_that_is_garbage_is_one_line(
    f2b_digest: Command, config: Path, path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is one that names a registry without TLS only: it is not asked."""
    service = registry(lambda request: as_json(200, {"services": []}))
    monkeypatch.setattr(rdap, "DIRECTORY", f"{service.url}/elsewhere/")
    banned(path, IP)
    assert "is not understood" in f2b_digest("--config", config, "find", IP, "--rdap").err


def test_a_network_that_was_moved_is_asked_for_where_it_is(
    f2b_digest: Command, config: Path, path: Path, registry: Registry
) -> None:
    """As ARIN does for networks of others."""

    def moved(request: Request) -> Answer:
        here = request.path.startswith("/moved")
        return as_json(200, RIPE) if here else Answer(303, b"", {"Location": f"/moved{request.path}"})

    registry(moved)
    banned(path, IP)
    assert "abuse@ripe.example" in f2b_digest("--config", config, "find", IP, "--rdap").out


def test_a_stranger_for_a_registry_is_refused(
    f2b_digest: Command, config: Path, path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A certificate of an unknown authority ends the lookup."""
    registry(lambda request: as_json(200, RIPE))
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(saved(trustme.CA(), other)))
    banned(path, IP)
    assert "TLS" in f2b_digest("--config", config, "find", IP, "--rdap").err


@pytest.mark.parametrize(
    ("sent", "pause", "said"),
    [(b"", 0.1, "within 1 seconds"), (b" ", 0.1, "within 1 seconds"), (b"[" * 65536, 0.0, "is longer than")],
    ids=["silence", "a byte at a time", "endless"],
)
def test_a_registry_never_holds_up_an_answer(
    f2b_digest: Command, config: Path, path: Path, authority: trustme.CA, trusted: None,
    monkeypatch: pytest.MonkeyPatch, sent: bytes, pause: float, said: str,
) -> None:  # fmt: skip
    """Neither by silence nor by an answer without an end."""
    monkeypatch.setattr(rdap, "DEADLINE", 1.0 if pause else 60.0)
    server = Drip(authority, sent, pause)
    monkeypatch.setattr(rdap, "DIRECTORY", f"{server.url}/")
    server.start()
    banned(path, IP)
    rdap.prepare()
    begun = time.monotonic()
    ended = f2b_digest("--config", config, "find", IP, "--rdap")
    server.listener.close()
    assert said in ended.err
    assert f"{IP}: 1 ban" in ended.out
    assert time.monotonic() - begun < 20


def test_hostile_text_is_made_fit_for_a_terminal(
    f2b_digest: Command, config: Path, path: Path, registry: Registry
) -> None:
    """No control characters, reversed text, extra lines, or overlong text."""
    holder = "Evil\x1b[2J\u202eLLC\nTo unban:\r\x07{{ 7 * 7 }}%(x)s" + "x" * 5000
    registry(lambda request: as_json(200, network(entity("registrant", holder, "org"))))
    banned(path, IP)
    ended = f2b_digest("--config", config, "find", IP, "--rdap", "--color", "never")
    assert not {"\x1b", "\u202e", "\r", "\x07"} & set(ended.out)
    assert "registry: Evil [2J LLC To unban: {{ 7 * 7 }}%(x)s" in " ".join(ended.out.split())
    assert "\nTo unban:\r" not in ended.out
    assert len(ended.out) < 2000


def test_a_host_without_the_library_is_told_how_to_get_it(
    f2b_digest: Command, config: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gets the rest of the answer."""
    monkeypatch.setitem(sys.modules, "whoisit", None)
    banned(path, IP)
    ended = f2b_digest("--config", config, "find", IP, "--rdap")
    assert (ended.status, ended.err) == (
        0, 'f2b-digest: --rdap needs a library that is missing: pip install "f2b-digest[rdap]"\n'
    )  # fmt: skip
    assert f"{IP}: 1 ban" in ended.out


def test_root_asks_as_the_store_s_owner(
    apart: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry's answer is foreign: nothing of it is read by root."""

    def document(url: str) -> None:
        raise rdap.RdapError(f"asked by {os.geteuid()}")

    monkeypatch.setattr(rdap, "_document", document)
    folder = tmp_path / "store"
    fill(folder / "bans.sqlite3", [event(ip=IP)])
    for each in (folder, *folder.iterdir()):
        os.chown(each, 65534, 65534)
    let_everybody_enter(folder)
    ended = apart("--config", config, "--store", folder / "bans.sqlite3", "find", IP, "--rdap")
    assert (ended.status, ended.err) == (0, f"f2b-digest: --rdap: {IP}: asked by 65534\n")


def test_an_answer_of_http_says_where_it_leads(registry: Registry) -> None:
    """No redirect is followed by the channels."""
    service = registry(lambda request: Answer(302, b"", {"Location": "/there"}))
    answer, _ = http.get(f"{service.url}/x", {})
    assert (answer.status, answer.location) == (302, "/there")
