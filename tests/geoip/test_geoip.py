"""Country and network of an address: against real databases, and their own programs; with broken and hostile files."""

import csv
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

from f2b_digest.geoip import find
from f2b_digest.geoip.reading import country, name, network
from f2b_digest.model.host_context import Geography, Place
from tests.support.parts import PARTS, missing, unpacked

CI_FETCHES = "see .ci/run for how it is fetched"
ORACLE = """
import json, sys
try:
    import location
except ImportError as error:
    sys.exit(f"cannot import: {error}")
database = location.Database(sys.argv[1])
found = {}
for address in sys.stdin.read().split():
    network = database.lookup(address)
    system = database.get_as(network.asn) if network and network.asn else None
    found[address] = [network and network.country_code, network and network.asn, system and system.name]
json.dump(found, sys.stdout)
"""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every test in which a socket is made."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a socket was made")

    monkeypatch.setattr(socket, "socket", refuse)


@pytest.fixture
def libloc() -> Path:
    """Give Debian's location database."""
    return unpacked("libloc-database", "trixie", "libloc-database") / "usr/share/libloc-location/location.db"


@pytest.fixture
def tor() -> list[Path]:
    """Give Debian's ranges for tor."""
    folder = unpacked("tor-geoipdb", "trixie", "tor-geoipdb") / "usr/share/tor"
    return [folder / "geoip", folder / "geoip6"]


@pytest.fixture
def maxmind() -> Path:
    """Provide the folder of MaxMind's own test databases, which the source of maxminddb carries."""
    folder = PARTS / "maxminddb-source/tests/data"
    return folder if folder.is_dir() else missing("the source of maxminddb", CI_FETCHES)


@pytest.fixture
def dbip() -> Path:
    """Provide a folder with DB-IP's databases of countries."""
    folder = PARTS / "dbip-country"
    return folder if folder.is_dir() else missing("DB-IP's database", CI_FETCHES)


def addresses(count: int) -> list[str]:
    """Return random addresses, the same in each run, half of them IPv6 where the registries give blocks."""
    dice = random.Random(7)
    blocks = (0x2001, 0x2400, 0x240E, 0x2600, 0x2804, 0x2A00, 0x2A01)
    groups = [(dice.choice(blocks), dice.randrange(2**16), dice.randrange(2**16)) for _ in range(count // 2)]
    return [str(ip_address(dice.randrange(2**32))) for _ in range(count // 2)] + [
        f"{first:x}:{second:x}:{third:x}::1" for first, second, third in groups
    ]


def known(*paths: Path, root: Path = Path("/nonexistent")) -> Geography:
    """Return the databases at these paths, or of a root, of which each can be read."""
    geography, notes = find(paths, root)
    assert notes == []
    assert geography is not None
    return geography


def put(root: Path, place: str, source: Path) -> None:
    """Lay a database where a host has it."""
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(source)


def made(
    path: Path,
    records: Mapping[str, dict[str, Any]],
    database_type: str = "test",
    version: int = 6,
) -> Path:
    """Write a database of MaxMind's format."""
    writer = MMDBWriter(version, database_type, description="", ipv4_compatible=version == 6)
    for block, record in records.items():
        writer.insert_network(IPSet([block]), record)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.to_db_file(str(path))
    return path


# Against the real ones


@pytest.mark.slow
def test_a_libloc_database_is_read_as_its_own_library_reads_it(libloc: Path) -> None:
    """Country, network and name are those of IPFire's own library, for thousands of addresses of both families."""
    libraries = unpacked("libloc1", "bookworm", "libloc1") / "usr/lib/x86_64-linux-gnu"
    modules = unpacked("python3-location", "bookworm", "python3-location") / "usr/lib/python3/dist-packages"
    sample = addresses(6000)
    command = ["/usr/bin/python3", "-c", ORACLE, str(libloc)]
    environment = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(modules)}
    done = subprocess.run(
        command, env=environment, input="\n".join(sample), capture_output=True, text=True, check=False
    )
    if done.stderr.startswith("cannot import"):
        missing("a system's Python that fits python3-location", done.stderr)
    theirs: dict[str, list[Any]] = json.loads(done.stdout)
    geography = known(libloc)
    count = 0
    for address in sample:
        code, asn, holder = theirs[address]
        expected = Place(country(code), asn or None, name(holder))
        assert (geography.find(address) or Place(None, None, None)) == expected, address
        count += expected != Place(None, None, None)
    assert count > 2500


@pytest.mark.parametrize("address", ["192.0.2.77", "2001:db8::77"])
def test_a_libloc_network_of_one_address_is_found(address: str, tmp_path: Path) -> None:
    """The last level of the tree counts too, and a wider network applies outside of the narrow one."""
    wanted = ip_address(address)
    bits = int(wanted) | (0xFFFF << 32 if wanted.version == 4 else 0)
    nodes, none = bytearray(), 0xFFFFFFFF
    for level in range(129):
        following = [0, 0]
        if level < 128:
            following[bits >> (127 - level) & 1] = level + 1
        nodes += struct.pack(">3I", *following, {120: 1, 128: 0}.get(level, none))
    networks = struct.pack(">2s2xIH2x", b"FR", 3215, 0) + struct.pack(">2s2xIH2x", b"DE", 0, 0)
    systems, pool = struct.pack(">2I", 3215, 1), b"\0Orange\0"
    sections, content = [], b""
    for section in (systems, networks, nodes, b"", pool):
        sections += [8192 + len(content), len(section)]
        content += section
    head = struct.pack(">7sBQ3I10I", b"LOCDBXX", 1, 1_790_000_000, 0, 0, 0, *sections)
    path = tmp_path / "own"
    path.write_bytes(head.ljust(8192, b"\0") + bytes(content))
    geography = known(path)
    assert geography.find(address) == Place("FR", 3215, "Orange")
    assert geography.find(str(wanted + 1)) == Place("DE", None, None)
    assert geography.find(str(wanted + 256)) is None
    assert geography.licence == ""


def test_a_libloc_database_says_who_made_it_when_and_under_which_licence(libloc: Path) -> None:
    """The attribution is the database's own."""
    geography = known(libloc)
    assert geography.source == "libloc"
    assert geography.made_at == 1742964182
    assert geography.licence == (
        "IPFire Project, CC BY-SA 4.0. This database has been obtained from https://location.ipfire.org/ "
        "Find the full license terms at https://creativecommons.org/licenses/by-sa/4.0/"
    )
    assert geography.find("8.8.8.8") == Place("US", 15169, "Google LLC")


def scanned(path: Path, wanted: Sequence[int]) -> Iterator[str | None]:
    """Yield the code of each of these addresses, in order, by reading a file of tor's from beginning to end."""
    with path.open() as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        low, high, code = 0, -1, ""
        for address in wanted:
            while high < address and (row := next(rows, None)):
                low, high = (int(each) if each.isdecimal() else int(ip_address(each)) for each in row[:2])
                code = row[2]
            yield code if low <= address <= high else None


@pytest.mark.slow
@pytest.mark.parametrize("family", [4, 6])
def test_an_address_is_found_in_tors_ranges_as_by_reading_them_all(family: int, tor: list[Path]) -> None:
    """The addresses are random, the edges of ranges, and those beside the edges."""
    path = tor[family == 6]
    dice = random.Random(7)
    with path.open() as file:
        lines = [line.split(",") for line in file if not line.startswith("#")]
    chosen = [lines[0], lines[1], lines[-1], *dice.sample(lines, 1000)]
    edges = [int(each) if family == 4 else int(ip_address(each)) for line in chosen for each in line[:2]]
    wanted = {int(ip_address(each)) for each in addresses(4000) if ip_address(each).version == family}
    wanted |= {edge + step for edge in edges for step in (-1, 0, 1)}
    geography = known(*tor)
    numbers = sorted(number for number in wanted if 0 <= number < 2 ** (32 if family == 4 else 128))
    for number, code in zip(numbers, scanned(path, numbers), strict=True):
        address = str(ip_address(number)) if family == 4 else str(ip_address(number.to_bytes(16, "big")))
        expected = Place(code, None, None) if country(code) else None
        assert geography.find(address) == expected, address


def test_tors_ranges_say_who_made_them_when_and_under_which_licence(tor: list[Path]) -> None:
    """Both files together are one source; the time is that of the data, not of the package."""
    geography = known(*tor)
    assert geography.source == "tor-geoipdb"
    head = tor[0].read_text()[:2000]
    assert time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(geography.made_at)) in head
    assert geography.licence.startswith("IPFire Project, CC BY-SA 4.0. ")
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in geography.licence


def test_ranges_without_a_date_are_as_old_as_their_file(tmp_path: Path) -> None:
    """Older files word it differently, or lack it."""
    path = tmp_path / "geoip"
    path.write_text("# Last updated based on February 7 2018 Maxmind GeoLite2 Country\n16777216,16777471,AU\n")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    geography = known(path)
    assert (geography.made_at, geography.licence) == (1_500_000_000, "")
    assert geography.find("1.0.0.7") == Place("AU", None, None)


def test_dbips_countries_are_found_and_dbip_is_named(dbip: Path) -> None:
    """DB-IP's licence asks for its name; the database itself says no more than `country ipvAll`."""
    geography = known(dbip / "dbip-country.mmdb")
    assert geography.find("8.8.8.8") == Place("US", None, None)
    assert geography.find("2a00:1450:4001::1") is not None
    assert geography.source == "dbip-country"
    assert geography.licence == "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0"
    assert time.gmtime(geography.made_at)[:2] == (2026, 6)


def test_a_host_with_maxminds_databases_has_country_and_network_from_them(maxmind: Path, tmp_path: Path) -> None:
    """Of the editions that geoipupdate lays side by side, one serves for countries and one for networks."""
    editions = ("GeoLite2-ASN", "GeoLite2-City", "GeoLite2-Country", "GeoIP2-Anonymous-IP")
    for edition in editions[:3]:
        put(tmp_path, f"var/lib/GeoIP/{edition}.mmdb", maxmind / f"test-data/{edition}-Test.mmdb")
    geography = known(root=tmp_path)
    assert set(geography.source.split(", ")) in (
        {"GeoLite2 ASN", "GeoLite2 City"},
        {"GeoLite2 ASN", "GeoLite2 Country"},
    )
    assert geography.licence == (
        "This product includes GeoLite Data created by MaxMind, available from https://www.maxmind.com"
    )
    assert geography.find("89.160.20.113") == Place("DE", 29518, "Bredband2 AB")
    assert geography.find("::ffff:89.160.20.113") == Place("DE", 29518, "Bredband2 AB")


def test_the_country_is_the_one_where_the_block_is_registered(maxmind: Path) -> None:
    """MaxMind believes this address to be in Bhutan; its block is registered in Romania."""
    geography = known(maxmind / "test-data/GeoIP2-City-Test.mmdb")
    assert geography.find("67.43.156.1") == Place("RO", None, None)
    assert (geography.source, geography.licence) == ("GeoIP2 City", "")


# Shapes


@pytest.mark.parametrize(
    ("database_type", "record", "expected"),
    [
        ("DBIP-Country-Lite", {"country": {"iso_code": "FR", "names": {"en": "France"}}}, ("FR", None, None)),
        (
            "DBIP-ASN-Lite (compat=GeoLite2-ASN)",
            {"autonomous_system_number": 3215, "autonomous_system_organization": "Orange S.A."},
            (None, 3215, "Orange S.A."),
        ),
        (
            "ipinfo bundle_location_lite.mmdb",
            {"country": "France", "country_code": "FR", "asn": "AS3215", "as_name": "Orange S.A."},
            ("FR", 3215, "Orange S.A."),
        ),
        ("ipinfo country_asn.mmdb", {"country": "FR", "asn": "AS3215", "as_name": "Orange"}, ("FR", 3215, "Orange")),
        ("ipinfo standard_asn.mmdb", {"asn": "AS3215", "name": "Orange", "type": "isp"}, (None, 3215, "Orange")),
        ("country ipvAll", {"country_code": "FR"}, ("FR", None, None)),
        (
            "GeoIP2-Enterprise",
            {"country": {"iso_code": "FR"}, "traits": {"autonomous_system_number": 3215}},
            ("FR", 3215, None),
        ),
    ],
)
def test_each_makers_records_are_understood(
    database_type: str, record: dict[str, Any], expected: tuple[str | None, int | None, str | None], tmp_path: Path
) -> None:
    """Makers put the same things under other keys."""
    geography = known(made(tmp_path / "some.mmdb", {"2.2.0.0/16": record, "2a01:c000::/19": record}, database_type))
    assert geography.find("2.2.3.4") == Place(*expected)
    assert geography.find("2a01:c000::1") == Place(*expected)
    assert geography.find("10.0.0.1") is None


@pytest.mark.parametrize(
    ("database_type", "source", "licence"),
    [
        ("DBIP-Country-Lite", "DB-IP Country Lite", "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0"),
        (
            "DBIP-ASN-Lite (compat=GeoLite2-ASN)",
            "DB-IP ASN Lite",
            "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0",
        ),
        ("DBIP-Location-ISP (compat=Enterprise)", "DB-IP Location ISP", ""),
        ("GeoIP2-Country", "GeoIP2 Country", ""),
        ("ipinfo country_asn.mmdb", "ipinfo country_asn.mmdb", "IP address data powered by IPinfo (https://ipinfo.io)"),
        ("My own\r\n\x1b[31m ranges", "My own [31m ranges", ""),
    ],
)
def test_a_maker_is_named_as_its_licence_asks_and_none_is_invented(
    database_type: str, source: str, licence: str, tmp_path: Path
) -> None:
    """Of an unknown maker there is the database's own name, in one line, and no licence."""
    geography = known(made(tmp_path / "x.mmdb", {"2.2.0.0/16": {"country_code": "FR"}}, database_type))
    assert (geography.source, geography.licence) == (source, licence)


def test_codes_that_are_no_countries_are_unknown() -> None:
    """What registries and databases use beside ISO's codes says nothing that a reader could trust."""
    assert [country(code) for code in ("FR", "GB", "XK")] == ["FR", "GB", "XK"]
    odd = ("??", "A1", "T1", "XD", "EU", "AP", "UK", "ZZ", "fr", "FRA", "", "\0\0", "F\n", None, 7, {"a": 1})
    assert [country(code) for code in odd] == [None] * len(odd)


def test_numbers_that_are_no_networks_are_unknown() -> None:
    """0 means none; AS numbers have 32 bits."""
    assert [network(number) for number in (1, "AS13335", "as13335", 2**32 - 1)] == [1, 13335, 13335, 2**32 - 1]
    odd = (0, -1, 2**32, True, 1.5, "AS", "ASX", "", "AS0", "AS²", "9" * 5000, None, [1])
    assert [network(number) for number in odd] == [None] * len(odd)


def test_a_hostile_name_is_one_short_printable_line(tmp_path: Path) -> None:
    """A name is in a mail beside others: it does not break its line, colour a terminal or fill the page."""
    record = {"autonomous_system_number": 7, "autonomous_system_organization": "A\r\nB\x1b[2J\u202e\0" + "x" * 9000}
    place = known(made(tmp_path / "x.mmdb", {"2.2.0.0/16": record})).find("2.2.2.2")
    assert place is not None
    assert place.name == "A B[2J" + "x" * 94


# Which are used


def test_without_a_database_nothing_is_known_and_no_reader_imported(tmp_path: Path) -> None:
    """A host that has none pays a look into a few folders."""
    code = (
        "import sys, pathlib; from f2b_digest.geoip import find;"
        "assert find(root=pathlib.Path(sys.argv[1])) == (None, []);"
        "print([name for name in sys.modules if name in ('maxminddb', 'mmap') or 'geoip.' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == "['f2b_digest.geoip.reading']\n"


def test_the_first_kind_that_a_host_has_is_used(dbip: Path, libloc: Path, tor: list[Path], tmp_path: Path) -> None:
    """MaxMind's format before libloc before tor."""
    for path in tor:
        put(tmp_path, f"usr/share/tor/{path.name}", path)
    assert known(root=tmp_path).source == "tor-geoipdb"
    put(tmp_path, "usr/share/libloc-location/location.db", libloc)
    assert known(root=tmp_path).source == "libloc"
    put(tmp_path, "usr/share/GeoIP/dbip-country.mmdb", dbip / "dbip-country.mmdb")
    assert known(root=tmp_path).source == "dbip-country"


def test_both_families_come_from_two_files_that_have_one_each(dbip: Path, tmp_path: Path) -> None:
    """DB-IP's countries also come as a file for IPv4 and one for IPv6."""
    for file in ("dbip-country-ipv4.mmdb", "dbip-country-ipv6.mmdb"):
        put(tmp_path, f"var/lib/GeoIP/{file}", dbip / file)
    geography, whole = known(root=tmp_path), known(dbip / "dbip-country.mmdb")
    for address in addresses(1000):
        assert geography.find(address) == whole.find(address), address


def test_of_two_that_know_the_same_the_newest_is_used(dbip: Path, maxmind: Path, tmp_path: Path, libloc: Path) -> None:
    """An outdated database may lie beside its replacement."""
    put(tmp_path, "var/lib/GeoIP/GeoLite2-Country.mmdb", maxmind / "test-data/GeoLite2-Country-Test.mmdb")
    put(tmp_path, "usr/share/GeoIP/dbip-country.mmdb", dbip / "dbip-country.mmdb")
    assert known(root=tmp_path).source == "dbip-country"
    other = tmp_path / "other"
    put(other, "usr/share/libloc-location/location.db", libloc)
    fresh = bytearray(libloc.read_bytes())
    fresh[8:16] = (1_790_000_000).to_bytes(8, "big")
    (other / "var/lib/location").mkdir(parents=True)
    (other / "var/lib/location/database.db").write_bytes(fresh)
    assert known(root=other).made_at == 1_790_000_000


def test_a_broken_database_of_the_host_is_noted_and_the_next_kind_used(tor: list[Path], tmp_path: Path) -> None:
    """A download that was cut off costs no more than its own content."""
    (tmp_path / "var/lib/GeoIP").mkdir(parents=True)
    (tmp_path / "var/lib/GeoIP/GeoLite2-City.mmdb").write_bytes(b"\0" * 1000)
    for path in tor:
        put(tmp_path, f"usr/share/tor/{path.name}", path)
    geography, notes = find(root=tmp_path)
    assert geography is not None
    assert geography.source == "tor-geoipdb"
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path}/var/lib/GeoIP/GeoLite2-City.mmdb: not an address database")


def test_named_databases_are_used_in_their_order_whatever_their_names(
    tmp_path: Path, libloc: Path, tor: list[Path]
) -> None:
    """The kind is detected by content; the second fills gaps of the first; the age is that of the oldest."""
    own = made(tmp_path / "own", {"8.8.8.0/24": {"country_code": "CH"}}, "Own")
    both = known(own, libloc)
    assert both.find("8.8.8.8") == Place("CH", 15169, "Google LLC")
    assert both.find("1.1.1.1") == known(libloc).find("1.1.1.1")
    assert both.source == "Own, libloc"
    assert both.made_at == 1742964182
    assert known(libloc, own).find("8.8.8.8") == Place("US", 15169, "Google LLC")
    renamed = tmp_path / "x.mmdb"
    renamed.symlink_to(tor[0])
    assert known(renamed).source == "tor-geoipdb"


def test_a_named_database_that_cannot_be_used_is_noted_and_the_others_are_used(tmp_path: Path, maxmind: Path) -> None:
    """The admin sees in a line each which file it is, and why; nothing waits at a FIFO."""
    good = made(tmp_path / "good", {"8.8.8.0/24": {"country_code": "CH"}})
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "empty").touch()
    other = maxmind / "test-data/GeoIP2-Anonymous-IP-Test.mmdb"
    names = ("none", "fifo", "text", "empty")
    geography, notes = find([*(tmp_path / each for each in names), tmp_path, other, good])
    assert geography is not None
    assert geography.find("8.8.8.8") == Place("CH", None, None)
    assert [note.partition(": ")[0] for note in notes] == [
        *(f"{tmp_path}/{each}" for each in names),
        str(tmp_path),
        str(other),
    ]
    assert notes[0].endswith(": No such file or directory")
    assert notes[1].endswith(": not a file")
    assert notes[5].endswith(": GeoIP2 Anonymous IP has neither countries nor networks")
    assert find([tmp_path / "none"], tmp_path)[0] is None


# Hostile


HOSTILE = (
    "", "8.8.8.8/32", "8.8.8.8 ", " 8.8.8.8", "8.8.8", "8.8.8.8.8", "08.8.8.8", "134744072", "%", ":::",
    "2001:4860:4860::8888%eth0", "2001:db8::/32", "localhost",
    "8.8.8.8\n", "8.8.8.8\0", "\udc80", "٨.8.8.8", "{{ 1 }}", "A" * 1_000_000, ":" * 44,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["libloc", "tor", "maxmind"])
def test_text_that_is_no_address_is_unknown(kind: str, libloc: Path, tor: list[Path], dbip: Path) -> None:
    """fail2ban's ids can be any text."""
    geography = known(*{"libloc": [libloc], "tor": tor, "maxmind": [dbip / "dbip-country.mmdb"]}[kind])
    assert [geography.find(text) for text in HOSTILE] == [None] * len(HOSTILE)
    assert geography.find("10.1.2.3") is None
    assert geography.find("fd00::1") is None
    assert geography.find("::ffff:8.8.8.8") == geography.find("8.8.8.8") != None  # noqa: E711
    assert geography.find("0.0.0.0") is None
    assert geography.find("255.255.255.255") is None
    assert geography.find("::") is None
    assert geography.find("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") is None


@pytest.mark.slow
def test_the_broken_databases_of_maxminds_own_tests_do_no_harm(maxmind: Path) -> None:
    """Loops, false lengths, endless nesting: each is a note, or unknown addresses, and none takes long."""
    paths = [*maxmind.glob("bad-data/*/*.mmdb"), *maxmind.glob("test-data/MaxMind-DB-*.mmdb")]
    assert len(paths) > 40
    for path in paths:
        started = time.monotonic()
        geography, notes = find([path])
        assert len(notes) == (geography is None)
        assert "\n" not in "".join(notes)
        if geography:
            for address in ("1.1.1.1", "1.2.3.4", "::1", "2001:db8::1"):
                geography.find(address)
        assert time.monotonic() - started < 5, path


def tried(path: Path, sample: Sequence[str]) -> None:
    """Open and ask a database that may be broken: it raises nothing and says nothing that is no place."""
    geography, notes = find([path])
    assert len(notes) == (geography is None)
    if geography is None:
        return
    assert 0 < geography.made_at < 4_102_444_800
    assert geography.licence.isprintable()
    for address in sample:
        place = geography.find(address)
        assert place is None or (place.country is None or len(place.country) == 2)
        assert place is None or len(place.name or "") <= 100


Breaker = Callable[[Callable[[int, int], bytes], int, random.Random], tuple[int, bytes]]


def bits(read: Callable[[int, int], bytes], size: int, dice: random.Random) -> tuple[int, bytes]:
    """Return a place and its byte with another bit."""
    place = min(int(size * dice.random() ** 4), size - 1)  # most at the beginning, where header and tree are
    return place, bytes([read(place, 1)[0] ^ 1 << dice.randrange(8)])


def noise(read: Callable[[int, int], bytes], size: int, dice: random.Random) -> tuple[int, bytes]:
    """Return a place and 64 bytes of noise, or of ones."""
    place = int((size - 64) * dice.random() ** 4)
    return place, dice.choice((dice.randbytes(64), b"\xff" * 64, b"\0" * 64))


@pytest.mark.slow
@pytest.mark.parametrize("breaker", [bits, noise])
@pytest.mark.parametrize("kind", ["libloc", "tor", "maxmind"])
def test_a_database_with_broken_bytes_raises_nothing(
    kind: str, breaker: Breaker, libloc: Path, tor: list[Path], maxmind: Path, tmp_path: Path
) -> None:
    """Damage anywhere is a note, or costs some addresses."""
    dice = random.Random(11)
    path, sample = tmp_path / "broken", addresses(60)
    original = {"libloc": libloc, "tor": tor[0], "maxmind": maxmind / "test-data/GeoLite2-Country-Test.mmdb"}[kind]
    content = original.read_bytes()
    if kind == "tor":
        content = content[:100_000]
    if kind == "maxmind":
        sample += ["2.125.160.217", "67.43.156.1", "81.2.69.143", "89.160.20.113", "2a02:cf40::1"]
    path.write_bytes(content)
    with path.open("r+b", buffering=0) as file:
        for _ in range(400):
            place, put_in = breaker(lambda place, length: content[place : place + length], len(content), dice)
            os.pwrite(file.fileno(), put_in, place)
            tried(path, sample)
            os.pwrite(file.fileno(), content[place : place + len(put_in)], place)


@pytest.mark.parametrize("kind", ["libloc", "tor", "maxmind"])
def test_a_database_of_zeros_between_head_and_end_raises_nothing(
    kind: str, libloc: Path, tor: list[Path], maxmind: Path, tmp_path: Path
) -> None:
    """A power cut can leave a file of the right length whose middle was never written."""
    original = {"libloc": libloc, "tor": tor[0], "maxmind": maxmind / "test-data/GeoLite2-ASN-Test.mmdb"}[kind]
    content = original.read_bytes()
    begin, end = (0, content.rindex(b"MaxMind.com") - 3) if kind == "maxmind" else (4096, len(content))
    path = tmp_path / "broken"
    path.write_bytes(content[:begin] + b"\0" * (end - begin) + content[end:])
    tried(path, addresses(100))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["libloc", "tor", "maxmind"])
def test_a_database_that_is_cut_short_raises_nothing(
    kind: str, libloc: Path, tor: list[Path], maxmind: Path, tmp_path: Path
) -> None:
    """A disk was full, or a download stopped."""
    dice = random.Random(13)
    original = {"libloc": libloc, "tor": tor[1], "maxmind": maxmind / "test-data/GeoLite2-ASN-Test.mmdb"}[kind]
    path, size = tmp_path / "broken", original.stat().st_size
    path.write_bytes(original.read_bytes())
    for length in sorted({*range(0, 120, 7), *(dice.randrange(size) for _ in range(60))}, reverse=True):
        os.truncate(path, length)
        tried(path, addresses(40))
        if kind != "tor":  # its lines have no end that one could miss
            assert find([path])[0] is None


@pytest.mark.parametrize("kind", ["libloc", "tor"])
def test_a_database_that_is_cut_short_while_it_is_read_raises_nothing(
    kind: str, libloc: Path, tor: list[Path], tmp_path: Path
) -> None:
    """Somebody writes a new one over the old one in place, while a digest is made."""
    path = tmp_path / "database"
    path.write_bytes((libloc if kind == "libloc" else tor[0]).read_bytes())
    geography = known(path)
    assert geography.find("8.8.8.8")
    os.truncate(path, 1000)
    assert [geography.find(address) for address in addresses(100)] == [None] * 100
