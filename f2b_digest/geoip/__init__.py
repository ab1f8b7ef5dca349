"""Finds country and network of an address in this host's databases. Works offline.

Without a database, this only lists a few folders: the readers are imported when there is something to
read.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

from f2b_digest.geoip.reading import Database, Gift, Unreadable, address
from f2b_digest.model.host_context import Geography, Place

log = logging.getLogger(__name__)

MAXMIND_FOLDERS = ("var/lib/GeoIP", "usr/share/GeoIP", "usr/local/share/GeoIP")
"""Debian's geoipupdate; MaxMind's own package of it; one that was built on this host."""
LIBLOC_FILES = ("var/lib/location/database.db", "usr/share/libloc-location/location.db")
"""Where `location update` writes; Debian's libloc-database."""
TOR_FILES = ("usr/share/tor/geoip", "usr/share/tor/geoip6")
"""Debian's tor-geoipdb."""
HEAD = 16_384
"""Bytes at a file's start that identify its format."""
MAXMIND_MARK, TAIL = b"\xab\xcd\xefMaxMind.com", 131_072
"""Stands in the last bytes of a file of MaxMind's format: https://maxmind.github.io/MaxMind-DB/ ."""

Notes = list[str]


def find(paths: Sequence[Path] = (), root: Path = Path("/")) -> tuple[Geography | None, Notes]:
    """Return the databases at these paths as one, in their order; without paths, those that this host has under `root`.

    Those are of the first available format: MaxMind's, libloc, tor-geoipdb; of several with the same data,
    the newest. The notes, one line each, name unreadable ones. None if there is none. Never raises.
    """
    notes: Notes = []
    if paths:
        return _as_one(_opened(paths, notes)), notes
    for names in (_maxmind(root), LIBLOC_FILES, TOR_FILES):
        present = [root / name for name in names if _is_there(root / name)]
        databases = sorted(_opened(present, notes), key=attrgetter("made_at"), reverse=True)
        known: set[Gift] = set()
        used = []
        for database in databases:
            if not database.gives <= known:
                used.append(database)
                known |= database.gives
        if used:
            return _as_one(used), notes
    return None, notes


def _maxmind(root: Path) -> list[Path]:
    """Return the files of MaxMind's format in the usual folders."""
    found: list[Path] = []
    for folder in MAXMIND_FOLDERS:
        with suppress(OSError):  # a folder that this user may not list
            found += sorted((root / folder).glob("*.mmdb"))
    return found


def _is_there(path: Path) -> bool:
    """Return whether a file exists; also true if this user may not see it."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _opened(paths: Iterable[Path], notes: Notes) -> list[Database]:
    """Open the readable ones, with notes on the others."""
    databases = []
    for path in paths:
        try:
            databases.append(_reader(path)(path))
        except OSError as error:
            notes.append(f"{path}: {error.strerror or error}")
        except Exception as error:  # a broken database must not prevent the digest
            log.info("address database %s cannot be opened", path, exc_info=True)
            notes.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return databases


def _reader(path: Path) -> Callable[[Path], Database]:
    """Return the reader of a file, by its content. Raises OSError, and Unreadable if there is none."""
    if not path.is_file():  # do not block at a FIFO
        path.stat()
        raise Unreadable("not a file")
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(0, path.stat().st_size - TAIL))
        tail = file.read(TAIL)
    if MAXMIND_MARK in tail:
        from f2b_digest.geoip import maxmind

        return maxmind.open_database
    from f2b_digest.geoip import libloc, tor

    if head.startswith(libloc.MARK):
        return libloc.open_database
    if tor.ranges_begin(head):
        return tor.open_database
    raise Unreadable("not an address database, or incomplete (known: MaxMind, libloc, tor-geoipdb)")


def _as_one(databases: Sequence[Database]) -> Geography | None:
    """Return databases as one: each fills the gaps of those before it. Its date is that of the oldest."""
    if not databases:
        return None

    def lookup(text: str) -> Place | None:
        """Return an address's place, or None."""
        wanted = address(text)
        if wanted is None:
            return None
        country, asn, name = None, None, None
        for database in databases:
            try:
                place = database.lookup(wanted)
            except Exception:  # broken at this address: treated as unknown
                log.debug("%s is broken where %s would be", database.source, wanted, exc_info=True)
                continue
            country = country or place.country
            if asn is None:
                asn, name = place.asn, place.name
            if country and asn:
                break
        return Place(country, asn, name) if country or asn else None

    return Geography(
        source=", ".join(dict.fromkeys(database.source for database in databases)),
        made_at=min(database.made_at for database in databases),
        licence="; ".join(dict.fromkeys(database.licence for database in databases if database.licence)),
        find=lookup,
    )
