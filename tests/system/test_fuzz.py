"""Fuzzing of the parsers: real files, changed at random, until the time is up; a file that broke one is kept for ever.

A parser may refuse a file by the errors that it documents, or find less in it. Anything else is a bug, which is written
to tests/fuzz_cases/PARSER/ and read again in each run before anything new.
"""

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from f2b_digest import config, geoip, recorder
from f2b_digest.errors import ConfigurationError
from f2b_digest.fail2ban import history
from f2b_digest.fail2ban.files import SourceError, Tally
from f2b_digest.host import logins
from tests import ROOT
from tests.support.figures import Keep
from tests.support.parts import unpacked
from tests.support.store_making import NOON

pytestmark = pytest.mark.slow

CASES = ROOT / "tests/fuzz_cases"
LONGEST = 5.0
"""Seconds that a small file may take on a busy machine."""
LARGEST = 200_000
"""Bytes of a file that is begun with."""
LOG = """\
2026-11-18 03:00:00,123 fail2ban.filter         [77]: INFO    [sshd] Found 192.0.2.1 - 2026-11-18 03:00:00
2026-11-18 03:00:01,456 fail2ban.actions        [77]: NOTICE  [sshd] Ban 192.0.2.1
2026-11-18 03:00:02,456 fail2ban.actions        [77]: NOTICE  [sshd] Restore Ban 2001:db8::1
2026-11-18 03:10:01,456 fail2ban.actions        [77]: NOTICE  [sshd] Unban 192.0.2.1
2026-11-18 03:10:02,456 fail2ban.observer       [77]: INFO    [recidive] Increase Ban 192.0.2.7 (3 # 0:40:00 -> x)
"""
SPOOL = (
    b'{"kind": "ban", "host": "web1", "jail": "sshd", "ip": "192.0.2.1", "at": 1763434801.4,'
    b' "recorded_at": 1763434801.5,'
    b' "failures": 5, "bantime": 600, "bancount": 1, "users": "[\\"root\\"]", "matches": "x", "source": "action",'
    b' "history": 0}\n'
)
LAST = b"root     pts/0        192.0.2.9        2026-11-18T03:00:00+00:00 - 2026-11-18T04:00:00+00:00  (01:00)\n"
JOURNAL = (
    b'{"MESSAGE":"Accepted publickey for root from 192.0.2.9 port 22 ssh2","__REALTIME_TIMESTAMP":"1763434801000000"}\n'
)
AUTH = b"Nov 18 03:00:00 web1 sshd[7]: Accepted publickey for root from 192.0.2.9 port 22 ssh2: RSA SHA256:x\n"
DIGITS = (
    b"0",
    b"-1",
    b"9" * 40,
    b"1e999",
    b"NaN",
    b"\xff",
    b"\0",
    b"[",
    b"{" * 3000,
    b'"',
    b"'",
    b"\\",
    b"\n",
    b",",
    b"\x1b[31m",
)
"""What is put into a file, beside parts of itself."""


# ---- the parsers


def read_history(path: Path, folder: Path) -> None:
    """Read logs, fail2ban's database and sendmail-buffered's file, as `import` and `preview --from` do."""
    with suppress(SourceError):
        for _ in history.read([path], "web1", ZoneInfo("Europe/Paris"), Tally(), history=True):
            pass


def read_spool(path: Path, folder: Path) -> None:
    """Take a spool into a new store."""
    store = folder / "bans.sqlite3"
    path.rename(recorder.spool_path(str(store)))
    with closing(recorder.connect(str(store))):
        pass
    recorder.take_in(str(store))


def read_geography(path: Path, folder: Path) -> None:
    """Find addresses in a database of countries, as a digest does."""
    known, _ = geoip.find([path])
    if known:
        for address in ("192.0.2.1", "1.1.1.1", "81.2.69.142", "2001:db8::1", "2001:218::1", "255.255.255.255", "::"):
            known.find(address)


def read_configuration(path: Path, folder: Path) -> None:
    """Read a configuration."""
    with suppress(ConfigurationError):
        config.parse(path.read_bytes(), path, host="web1", timezone="UTC")


def read_logins(path: Path, folder: Path) -> None:
    """Read what `last`, journalctl and auth.log say."""
    said = path.read_bytes()
    descriptor = os.open(path, os.O_RDONLY)
    list(logins.from_file(descriptor, NOON))
    list(logins.from_wtmp(said))
    list(logins.from_journal(said))


# ---- what they are given


@cache
def fail2ban_files() -> tuple[bytes, ...]:
    """Return a log, a buffered mail, and a database of fail2ban's tables."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(
            "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES (4);"
            "CREATE TABLE bans(jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);"
            "CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);"
            "INSERT INTO bans VALUES ('sshd', '192.0.2.1', 1763434801, 600, 1,"
            ' \'{"matches": ["x", ["a", "b"]], "failures": 5, "user": "root"}\')'
        )
        whole = database.serialize()
    buffered = b"Wed Nov 18 03:00:01 2026: Banned 192.0.2.1 after 5 attempts against sshd\n"
    return (LOG.encode(), whole, buffered)


@cache
def geographies() -> tuple[bytes, ...]:
    """Return databases of each kind; of the large ones, the beginning, which is told to be cut short."""
    tests = unpacked("maxminddb-source", "", "maxminddb's source (see .ci/run)") / "tests/data/test-data"
    tor = unpacked("tor-geoipdb", "trixie", "tor-geoipdb") / "usr/share/tor"
    libloc = unpacked("libloc-database", "trixie", "libloc-database") / "usr/share/libloc-location/location.db"
    small = [path.read_bytes() for path in sorted(tests.glob("*.mmdb")) if path.stat().st_size < LARGEST]
    return (*small, *(path.read_bytes()[:LARGEST] for path in (tor / "geoip", tor / "geoip6", libloc)))


@cache
def configurations() -> tuple[bytes, ...]:
    """Return the TOML of the documentation."""
    pages = "\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))
    blocks = [block.partition("```")[0] for block in pages.split("```toml\n")[1:]]
    return tuple(block.encode() for block in blocks)


PARSERS: dict[str, tuple[Callable[[Path, Path], None], Callable[[], tuple[bytes, ...]]]] = {
    "history": (read_history, fail2ban_files),
    "spool": (read_spool, lambda: (SPOOL * 2, SPOOL + b"\0" * 512)),
    "geography": (read_geography, geographies),
    "configuration": (read_configuration, configurations),
    "logins": (read_logins, lambda: (LAST * 2, JOURNAL * 2, AUTH * 2)),
}


def changed(content: bytes, chance: random.Random) -> bytes:
    """Return a file with some bytes flipped, cut, doubled, moved or put in."""
    new = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at, length = chance.randrange(len(new) + 1), chance.choice((1, 2, 4, 8, 64, 1024))
        match chance.randrange(6):
            case 0:
                new[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del new[at : at + length]
            case 2:
                new[at:at] = new[at : at + length] * chance.choice((1, 2, 50))
            case 3:
                source = chance.randrange(len(new) + 1)
                new[at : at + length] = new[source : source + length]
            case 4:
                new[at : at + chance.choice((0, 1, 4))] = chance.choice(DIGITS)
            case 5 if chance.random() < 0.2:
                del new[at:]
    return bytes(new)


def generated(name: str, seed: int) -> Iterator[bytes]:
    """Yield files for a parser, without end; the same ones for the same seed."""
    seeds, chance = PARSERS[name][1](), random.Random(f"{name} {seed}")
    while True:
        yield changed(chance.choice(seeds), chance)


def survives(name: str, content: bytes, folder: Path) -> None:
    """Let a parser read a file; keep the file if it breaks the parser."""
    folder.mkdir()
    path = folder / "file"
    path.write_bytes(content)
    begun = time.monotonic()
    try:
        PARSERS[name][0](path, folder)
        assert time.monotonic() - begun < LONGEST, f"{name}: took {time.monotonic() - begun:.0f} s"
    except BaseException as broken:
        case = CASES / name / hashlib.sha256(content).hexdigest()[:16]
        case.parent.mkdir(parents=True, exist_ok=True)
        case.write_bytes(content)
        broken.add_note(f"kept as {case}")
        raise
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


@pytest.mark.parametrize("name", PARSERS)
def test_what_broke_a_parser_once_does_not_again(name: str, tmp_path: Path) -> None:
    """Each kept file."""
    for case in sorted((CASES / name).glob("*")):
        survives(name, case.read_bytes(), tmp_path / case.name)


@pytest.mark.parametrize("name", PARSERS)
def test_a_changed_file_breaks_no_parser(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, figures: Keep
) -> None:
    """For --fuzz seconds, or once through a hundred files where the machine is slow."""
    seconds, count = request.config.getoption("--fuzz"), 0
    end = time.monotonic() + seconds
    seed = 0 if seconds <= 10 else time.time_ns()
    for content in generated(name, seed):
        survives(name, content, tmp_path / "one")
        count += 1
        if count >= 100 and time.monotonic() > end:
            break
    figures("fuzzing", counts={f"files for {name}": count})


def test_the_files_are_not_all_refused() -> None:
    """Some changed logs still hold bans: else nothing behind the first check was tried."""
    found = [content for content in islice(generated("history", 0), 50) if b"Ban 192.0.2.1" in content]
    assert len(found) > 5
