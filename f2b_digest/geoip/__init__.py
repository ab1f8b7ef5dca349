"""Finds country and network of an address in the databases that this host has. No network is ever asked here.

Where there is no database, this costs a look into a few folders: the readers are imported when there is something to
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
"""Bytes at a file's beginning that tell its kind."""
MAXMIND_MARK, TAIL = b"\xab\xcd\xefMaxMind.com", 131_072
"""Stands in the last bytes of a file of MaxMind's format: https://maxmind.github.io/MaxMind-DB/ ."""

Notes = list[str]


def find(paths: Sequence[Path] = (), root: Path = Path("/")) -> tuple[Geography | None, Notes]:
    """Return the databases at these paths as one, in their order; without paths, those that this host has under `root`.

    Those are of the first kind that there is: of MaxMind's format, libloc, tor-geoipdb; of several that know the same,
    the newest. The notes, a line each, tell what could not be read. None if nothing could. Raises nothing.
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
        with suppress(OSError):  # a folder that this user may not look into
            found += sorted((root / folder).glob("*.mmdb"))
    return found


def _is_there(path: Path) -> bool:
    """Return whether there is such a file; one that this user may not see is there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _opened(paths: Iterable[Path], notes: Notes) -> list[Database]:
    """Open what can be opened, and note the others."""
    databases = []
    for path in paths:
        try:
            databases.append(_reader(path)(path))
        except OSError as error:
            notes.append(f"{path}: {error.strerror or error}")
        except Exception as error:  # a broken database costs its content, never the digest
            log.info("database of addresses %s cannot be opened", path, exc_info=True)
            notes.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return databases


def _reader(path: Path) -> Callable[[Path], Database]:
    """Return what opens a file, by its content. Raises OSError, and Unreadable if nothing does."""
    if not path.is_file():  # nor is it waited for at a FIFO
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
    """Return databases as one: each tells what those before it do not know. As old as its oldest part."""
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
            except Exception:  # broken at this address: not known here; the digest goes out
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
