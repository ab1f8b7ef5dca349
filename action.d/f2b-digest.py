"""Append one event to the store, whatever happens: the INSERT, the event table and the spool live here.

Never here: reading for a digest, configuration, any import that is not in the standard library.

One self-contained file with several entry points, for Python 3.7 and later:

- fail2ban loads it into its server as ``action.d/f2b-digest.py`` (class `Action`);
- a shell action runs it as a program (`main`);
- the package imports it as ``f2b_digest.recorder`` for ``f2b-digest record`` and for importing the spool.

Recording is time-critical: a ban is never delayed by more than a second. What the store
cannot take in that time goes, as one line of JSON, to the spool file beside it.
"""

import os
import stat
import sys
import time

# Imported where needed: _sqlite3, json, fcntl, logging, threading. The shell action pays for each one at every ban,
# and a Python without sqlite3 must still load this file (fail2ban starts no jail at all if an action's import fails).

DEFAULT_STORE = "/var/lib/fail2ban/f2b-digest/bans.sqlite3"
APPLICATION_ID = 0x66326264  # "f2bd" in the file's header, so that another program's database is never written to
SCHEMA_VERSION = 5
KINDS = ("ban", "prolong", "unban", "start", "stop")
SCRATCH_JAIL = "f2b-digest-setup"  # setup's test ban uses it; excluded from sources and digests

STORE_WAIT = 0.6  # seconds for the store's write lock
STORE_NAP = 0.02  # maximum seconds between two attempts
SPOOL_WAIT = 0.2  # seconds to wait for the spool's lock, after the store failed
PATIENCE = 30.0  # seconds to wait for the spool's lock if the jail does not wait
DISK_WAIT = 1.0  # seconds until a jail goes on while a hanging disk blocks the append
BURST = 0.1  # seconds that fail2ban's action keeps the store open after an event, for the next one
SPOOL_RESERVE = 256 * 1024  # bytes reserved in the spool for a full disk: about 800 bans
TEXT_LIMIT = 65536  # maximum characters of a text: an attacker can choose its length
LINE_LIMIT = 6 * 1024 * 1024  # maximum bytes of a spool line; an event with all texts at their limit needs 5 MB
BATCH = 500, 1024 * 1024  # events, and bytes, imported from the spool per transaction
BLOCK = 65536  # bytes read at once when searching the end of the spool

SAID_BEFORE_NAMES = ("invalid user ", "illegal user ", "authenticating user ")

COLUMNS = (
    "kind", "host", "jail", "ip", "at", "recorded_at", "failures", "bantime", "bancount", "users", "matches",
    "source", "history",
)  # fmt: skip
EVENT_DDL = """
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    host TEXT NOT NULL,
    jail TEXT NOT NULL,
    ip TEXT NOT NULL,
    at REAL NOT NULL,
    recorded_at REAL NOT NULL,
    failures INTEGER,
    bantime INTEGER,
    bancount INTEGER,
    users TEXT,
    matches TEXT,
    source TEXT NOT NULL,
    history INTEGER NOT NULL DEFAULT 0,
    UNIQUE (jail, ip, kind, at, host)
)
"""
# For the baseline (a jail's bans of a period, an address's first ban), for prune, and for
# user names.
# They cost a ban some microseconds, and make a digest's cost independent of the history.
EVENT_INDEXES = (
    "CREATE INDEX IF NOT EXISTS event_when ON event (jail, at, history) WHERE kind = 'ban'",
    "CREATE INDEX IF NOT EXISTS event_who ON event (ip, at) WHERE kind = 'ban'",
    "CREATE INDEX IF NOT EXISTS event_age ON event (recorded_at)",
    "CREATE INDEX IF NOT EXISTS event_names ON event (users) WHERE kind = 'ban' AND users IS NOT NULL",
)
INSERT = "INSERT INTO event ({}) VALUES ({}) ON CONFLICT (jail, ip, kind, at, host) DO NOTHING".format(
    ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
)


class NotStored(Exception):
    """The event is neither in the store nor in the spool; the text says why, without secrets."""


class ForeignStore(Exception):
    """The file at the store's path must not be written to by this recorder."""


class NoFolder(ForeignStore):
    """The store's folder does not exist, and is not the default one, which would be created."""


def event(kind, jail, ip, at, host, source, recorded_at=None, failures=None, bantime=None, bancount=None, users=(),
          matches=None, history=False):  # fmt: skip
    """Return one event as a tuple in the order of `COLUMNS`; any text, number or None is made storable.

    `at` and `recorded_at` (default: now) are UTC epoch seconds, `bantime` is in seconds (-1: permanent).
    """
    return (
        kind if kind in KINDS else "ban",
        _text(host), _text(jail), _text(ip),
        _number(at, float, time.time()), _number(recorded_at, float, time.time()),
        _number(failures), _number(bantime), _number(bancount),
        _names(users), _text(matches) if matches else None,
        _text(source), int(bool(history)),
    )  # fmt: skip


def append(path, row, wait=STORE_WAIT, spool_wait=SPOOL_WAIT):
    """Append one event to the store and return ""; or to its spool, and return why the store failed.

    Waits at most `wait` seconds for the store's lock, and then `spool_wait` for the spool's. Creates the store if
    there is none, and its folder if that is the default one. Raises NotStored if neither took it.
    """
    until = time.monotonic() + wait
    try:
        connection = connect(path, wait)
        try:
            _insert(connection, [row], until)
        finally:
            connection.close()
        return ""
    except NoFolder as refusal:
        raise NotStored(str(refusal))
    except Exception as refusal:  # no sqlite3, no folder, locked, full, damaged, newer: all go to the spool
        reason = _reason(refusal)
    try:
        _spool(path, row, spool_wait)
    except Exception as refusal:
        raise NotStored("{}; spool: {}".format(reason, _reason(refusal)))
    return reason


def _insert(connection, rows, until):
    """Insert events in one transaction. Raises sqlite3.OperationalError if the store stays locked until then.

    `until` is a time of the monotonic clock. SQLite's own busy handler sleeps longer and longer, so that with many
    writers the last to come is first, and one starves. Short random sleeps give all the same chance: of 6400 events
    of 16 processes without a pause, 0 to 2 and not 26 to 68 went to the spool.
    """
    connection.execute("PRAGMA busy_timeout=0")
    while True:
        try:
            _transaction(connection, rows)
            return
        except Exception as refusal:
            if "is locked" not in str(refusal) or time.monotonic() > until:
                raise
        time.sleep(os.urandom(1)[0] / 255 * STORE_NAP)


def _transaction(connection, rows):
    if len(rows) == 1:
        connection.execute(INSERT, rows[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(INSERT, rows)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled it back already
            connection.execute("ROLLBACK")
        raise


def connect(path, wait=STORE_WAIT):
    """Open the store for appending, in autocommit mode; create it if there is none.

    Raises ForeignStore, NoFolder, OSError or sqlite3.Error.
    """
    return _connect(path, wait)[0]


def _connect(path, wait):
    """Open the store as `connect` does; return also what `look` saw of its file."""
    if is_there(damage_mark(path)):
        raise ForeignStore("{} was set aside as damaged".format(path))
    import _sqlite3 as sqlite3  # without sqlite3's date adapters, to keep the shell action fast

    if not is_there(path):
        _make_store(path)
    seen = look(path)
    connection = sqlite3.connect(uri(path), timeout=wait, isolation_level=None, uri=True)
    try:
        refuse_another(connection, path, seen)
        # In this order: both are set at once, maybe just now by another process.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == 0 and version == 0:  # an empty file
            _make_schema(connection)
            _sync(os.path.dirname(path))
        elif application != APPLICATION_ID:
            raise ForeignStore("{} is another program's database".format(path))
        # A newer version is accepted: an upgrade of the package must not stop a fail2ban that still runs
        # the older recorder. If the table of events ever changes shape, the INSERT fails, and the spool takes over.
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # stays in the file, unless a copy of it lost that
        except sqlite3.OperationalError:  # another process is just doing it; a row is as durable without
            pass
        connection.execute("PRAGMA synchronous=FULL")  # an acknowledged event survives a power cut
        return connection, seen
    except BaseException:
        connection.close()
        raise


def damage_mark(path):
    """Return the path of the file that marks a store as damaged: while it exists, the store is not written to."""
    return path + ".damaged"


def look(path):
    """Return the os.stat result of the store's path before SQLite opens it, or None if it does not exist.

    Raises ForeignStore for what must not be opened as a store: SQLite would block at a FIFO forever, and root would follow
    another user's symlink to any file.
    """
    try:
        seen = os.lstat(path)  # and not stat: a file may be replaced by a link at any moment
        _refuse_foreign_link(path, seen)
        if stat.S_ISLNK(seen.st_mode):
            seen = os.stat(path)
    except FileNotFoundError:
        return None
    _refuse_foreign_file(path, seen)
    for name in (path + "-wal", path + "-shm", path + "-journal"):
        try:
            beside = os.lstat(name)
        except FileNotFoundError:
            continue
        _refuse_foreign_file(name, beside)
    return seen


def refuse_another(connection, path, seen):
    """Raise ForeignStore if SQLite has opened another file than `look` saw: it was replaced meanwhile.

    Only for root in a folder that others may write to: only then is such a file a risk.
    Nothing has been read or written by then.
    """
    if not _is_shared(os.path.dirname(path)):
        return
    opened = connection.execute("PRAGMA database_list").fetchone()[2]
    if opened != os.path.realpath(path) or not _is_open(seen):
        raise ForeignStore("{} was changed while it was opened".format(path))


def _refuse_foreign_link(path, status):
    if os.geteuid() == 0 and stat.S_ISLNK(status.st_mode) and status.st_uid != 0:
        raise ForeignStore("{} is a symlink of user {}: not followed by root".format(path, status.st_uid))


def _refuse_foreign_file(path, status):
    if not stat.S_ISREG(status.st_mode):
        raise ForeignStore("{} is not a regular file".format(path))
    # A hard link to another user's file, on systems without protected_hardlinks.
    folder = os.path.dirname(path) or "."
    if status.st_nlink > 1 and _is_shared(folder) and (not status.st_uid or status.st_uid != os.stat(folder).st_uid):
        raise ForeignStore("{} belongs to another user and has a second hard link".format(path))


def _is_shared(folder):
    """Return whether this is root in a folder that others may write to."""
    if os.geteuid() != 0:
        return False
    status = os.stat(folder or ".")
    return status.st_uid != 0 or bool(status.st_mode & 0o022)


def _is_open(seen):
    """Return whether this process has a file open; true if unknown."""
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return True
    for number in numbers:
        try:
            if os.path.samestat(os.fstat(int(number)), seen):
                return True
        except OSError:  # closed meanwhile, as listdir's own is
            continue
    return False


# ---- creating the store


def _make_store(path):
    """Create an empty store, atomically with respect to power cuts."""
    folder = os.path.dirname(path) or "."
    _need_folder(folder)
    try:
        image = _image()
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o640)
    except (AttributeError, OSError):  # an older Python, or a file system without O_TMPFILE
        return _make_file(path, folder)
    try:
        _give_to_owner(descriptor, folder)
        if os.write(descriptor, image) != len(image):
            raise OSError("no space left for a store")
        os.fsync(descriptor)
        # dir_fd makes Python use linkat with AT_SYMLINK_FOLLOW on the open file.
        os.link("/proc/self/fd/{}".format(descriptor), path, src_dir_fd=descriptor, follow_symlinks=True)
    except FileExistsError:  # another process was first
        pass
    except OSError:
        return _make_file(path, folder)
    finally:
        os.close(descriptor)
    _sync(folder)


def _image():
    """Return the bytes of an empty store. Raises AttributeError before Python 3.11."""
    import _sqlite3 as sqlite3

    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        _make_schema(connection)
        image = bytearray(connection.serialize())
    finally:
        connection.close()
    image[18:20] = b"\2\2"  # it starts in WAL mode: a reader never finds a journal that only a writer may roll back
    return image


def _make_file(path, folder):
    """Create an empty file, in which SQLite creates the store."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except FileExistsError:  # another process was first
        return
    try:
        _give_to_owner(descriptor, folder)
    finally:
        os.close(descriptor)


def _need_folder(folder):
    """Create the default store's folder if missing; any other must exist, as its name may be mistyped."""
    if not os.path.isdir(folder):
        if folder != os.path.dirname(DEFAULT_STORE):
            raise NoFolder("no folder {}: create it, or correct the store's path".format(folder))
        make_folder(folder)
    _sync(os.path.dirname(os.path.abspath(folder)))  # its creator may not have done so yet


def make_folder(folder):
    """Create a store's folder, without access for others, if missing, and sync it. Raises OSError."""
    parent = os.path.dirname(os.path.abspath(folder))
    if not os.path.isdir(parent):
        make_folder(parent)
    try:
        os.mkdir(folder, 0o750)
    except FileExistsError:
        pass
    _sync(parent)


def _sync(folder):
    """Sync a folder's entries."""
    try:
        descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # without read permission, nothing was created here
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def uri(path, mode="rw"):
    """Return a store as a URI for SQLite that creates no file: `_make_store` does, never through a symlink."""
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return "file://" + name + "?mode=" + mode


def _give_to_owner(descriptor, folder):
    os.fchmod(descriptor, 0o640)  # fail2ban's umask of 077 would exclude the group
    if os.geteuid() == 0:
        owner = os.stat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _make_schema(connection):
    """Turn an empty database into a store, in one transaction; safe with concurrent processes."""
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # so that prune can return space
    connection.execute("BEGIN IMMEDIATE")  # before the first write: nothing of another program's database is changed
    if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise ForeignStore("the file is another program's database")  # close() rolls back
        connection.execute(EVENT_DDL)
        for index in EVENT_INDEXES:
            connection.execute(index)
        connection.execute("PRAGMA application_id={}".format(APPLICATION_ID))
        connection.execute("PRAGMA user_version={}".format(SCHEMA_VERSION))
    connection.execute("COMMIT")


# ---- the spool: one event per line, while the store is unavailable


def spool_path(path):
    """Return the path of the spool that belongs to a store."""
    return path + ".spool"


def _spool(path, row, wait=SPOOL_WAIT):
    """Append one event to the spool and sync it. Raises OSError if it cannot be locked within `wait`."""
    import fcntl
    import json

    line = json.dumps(dict(zip(COLUMNS, row))).encode() + b"\n"
    descriptor = _locked_spool(path, wait)
    try:
        end = _end_of_data(descriptor)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            line = b"\n" + line  # a writer died in the middle of its line
        written = os.pwrite(descriptor, line, end)
        if written != len(line):
            os.ftruncate(descriptor, end)  # no partial events, and no NULs of the reserve after one
            raise OSError("no space left for a complete line")
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a slow disk must not block the next writer; both then sync
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync(os.path.dirname(path))  # the spool may be new, and its name must survive too


def _locked_spool(path, wait=SPOOL_WAIT):
    """Open the spool, created if missing, and lock it. Raises OSError."""
    import fcntl

    name = spool_path(path)
    until = time.monotonic() + wait
    while time.monotonic() <= until:
        descriptor = open_regular(name, os.O_CREAT | os.O_RDWR)
        try:
            if os.fstat(descriptor).st_size == 0:
                _give_to_owner(descriptor, os.path.dirname(name) or ".")
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise OSError("locked by another writer")
                    time.sleep(0.005)
            if _is_file(name, descriptor):  # an earlier version's `take_in` renames it
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError("renamed repeatedly")


def open_regular(name, flags):
    """Open a regular file without following symlinks or blocking: an unprivileged user may own the folder.

    Raises OSError.
    """
    descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
    try:
        _refuse_foreign_file(name, os.fstat(descriptor))
    except ForeignStore as refusal:
        os.close(descriptor)
        raise OSError(str(refusal))
    return descriptor


def _is_file(name, descriptor):
    try:
        return os.path.samestat(os.lstat(name), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _end_of_data(descriptor):
    """Return the offset of the next line: after the last byte that is not a NUL of the reserve; JSON has none.

    Searched from the end, because a power cut may leave NULs in place of an unacknowledged line.
    """
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - BLOCK)
        data = os.pread(descriptor, end - start, start).rstrip(b"\0")
        if data:
            return start + len(data)
        end = start
    return 0


def reserve_spool(path):
    """Reserve `SPOOL_RESERVE` bytes in the spool while the disk has space. Raises OSError if it has not."""
    descriptor = _locked_spool(path)
    try:
        if os.fstat(descriptor).st_size < SPOOL_RESERVE:
            os.posix_fallocate(descriptor, 0, SPOOL_RESERVE)
    finally:
        os.close(descriptor)


def spooled(path):
    """Return the number of events in the spool; takes no lock (for `status`)."""
    count = 0
    for name in (spool_path(path), spool_path(path) + ".taken"):
        try:
            count += sum(1 for _ in spool_lines(name))
        except OSError:
            continue
    return count


def spool_lines(name, start=0, end=None):
    """Yield the lines of a spool between two offsets, without the NULs of the reserve and of a torn line.

    A line beyond `LINE_LIMIT`, which no event has, is split. Raises OSError.
    """
    with os.fdopen(open_regular(name, os.O_RDONLY), "rb") as file:
        file.seek(start)
        rest = os.fstat(file.fileno()).st_size - start if end is None else end - start
        while rest > 0:
            line = file.readline(min(rest, LINE_LIMIT))
            if not line:
                return
            rest -= len(line)
            line = line.strip(b"\0\n")
            if line:
                yield line


def event_of(line):
    """Return the event of a spool line, or None if it is invalid."""
    if not line.startswith(b"{"):
        return None
    import json

    try:
        fields = json.loads(line.decode())
        users = json.loads(fields.pop("users") or "[]")
        return event(users=users, **fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def take_in(path):
    """Move every spooled event into the store, each exactly once; return their number and that of the torn lines.

    Invalid lines (torn by a crash) are kept in a file named ``…spool.torn``. The spool is emptied only when
    the store has all of it, so that an unavailable store (a full disk) does not use up the spool's reserve; a crash
    halfway is repaired by the next call, as the store ignores duplicates. The spool may be larger than memory.
    Only one process may call this at a time: the caller holds the sender's lock. Raises sqlite3.Error, ForeignStore,
    NoFolder or OSError; nothing is lost then.
    """
    spool, taken = spool_path(path), spool_path(path) + ".taken"
    count, torn = 0, 0
    if is_there(taken):  # an earlier version renamed the spool first, and died
        count, torn = _store_lines(path, taken, 0, os.stat(taken).st_size)
        os.unlink(taken)
        _sync(os.path.dirname(path))
    start = 0
    while is_there(spool):
        end = _empty_spool(path, start)
        if end == start:
            break
        taken_in = _store_lines(path, spool, start, end)  # new bans are appended after `end`
        count, torn, start = count + taken_in[0], torn + taken_in[1], end
    return count, torn


def _empty_spool(path, start):
    """Return the end of the spool's lines; if all of them are before `start`, empty it, and keep its reserve."""
    descriptor = _locked_spool(path, 5.0)
    try:
        end = _end_of_data(descriptor)
        if 0 < end <= start:
            os.ftruncate(descriptor, 0)
            try:
                os.posix_fallocate(descriptor, 0, SPOOL_RESERVE)
            except OSError:  # the disk is full now: the next start of fail2ban tries again
                pass
            os.fsync(descriptor)
            return start
        return end
    finally:
        os.close(descriptor)


def _store_lines(path, name, start, end):
    """Import the events of a part of the spool, and keep its torn lines; return the number of each."""
    count, torn = 0, 0
    connection = connect(path, 5.0)
    try:
        for lines in _batches(spool_lines(name, start, end)):
            events = [row for row in map(event_of, lines) if row]
            connection.execute("BEGIN IMMEDIATE")  # short transactions: bans are not delayed
            connection.executemany(INSERT, events)
            connection.execute("COMMIT")
            count, torn = count + len(events), torn + len(lines) - len(events)
    finally:
        connection.close()
    if torn:
        _keep(spool_path(path) + ".torn", (line for line in spool_lines(name, start, end) if not event_of(line)))
    return count, torn


def _batches(lines):
    batch, size = [], 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) >= BATCH[0] or size >= BATCH[1]:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def is_there(name):
    """Return whether a path exists, as anything. Raises OSError."""
    # Not os.path.exists(), which is false for I/O errors and broken symlinks.
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _keep(name, lines):
    with os.fdopen(open_regular(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), "wb") as file:
        _give_to_owner(file.fileno(), os.path.dirname(name) or ".")
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    _sync(os.path.dirname(name))


# ---- making any value storable


def _text(value):
    """Return any value as text valid for SQLite and UTF-8; undecodable bytes become ``\\udc…`` escapes."""
    return ("" if value is None else str(value))[:TEXT_LIMIT].encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value, kind=int, default=None):
    """Return any value as a number that fits SQLite's 64 bits, or `default` if it is not a number."""
    try:
        number = kind(float(value))
        return number if -(2**63) <= number < 2**63 else default
    except (TypeError, ValueError, OverflowError):
        return default


def _names(users):
    """Return user names as a JSON list, unique and in order, or None if there are none.

    Names beyond `TEXT_LIMIT` characters in total are dropped, as an attacker can choose how many there are.
    """
    names, room = [], TEXT_LIMIT
    for name in dict.fromkeys(filter(None, map(_name, users))):
        room -= len(name)
        if room >= 0:
            names.append(name)
    if not names:
        return None
    import json

    return json.dumps(names, ensure_ascii=False)


def _name(value):
    """Return a user name without sshd's prefix, which fail2ban's filter includes in the name.

    "maximum authentication attempts exceeded for invalid user admin from 192.0.2.7" is of a user "admin".
    """
    name = _text(value)
    for said in SAID_BEFORE_NAMES:
        if name.startswith(said):
            return name[len(said) :].strip()
    return name


def _reason(error):
    return "{}: {}".format(type(error).__name__, error)


# ---- a burst of events in fail2ban's server


class _Burst:
    """The store at one path, kept open while events follow each other; a thread of its own appends them.

    All jails of a server share it, and what they record at the same moment is one transaction with one sync. Thread and
    connection end when nothing has come for `BURST`. At rest the store is thus one file that nobody has open: it can be copied,
    replaced or unmounted, and an upgraded recorder takes over.
    """

    def __init__(self, path):
        import threading

        self._path = path
        self._process = os.getpid()
        self._arrival = threading.Condition()
        self._waiting = []  # entries: the event, when it came (monotonic clock), and a lock that is released when it is done
        self._running = False
        self._late = None  # the lock of the last event that a jail did not wait for
        self._connection = self._seen = None

    def record(self, row):
        """Append one event, or log why not; return False if the disk hangs and it is only appended later."""
        import threading

        if self._process != os.getpid():  # a child that was forked during the burst: SQLite's locks are not its own
            _spool(self._path, row, PATIENCE)
            return True
        done = threading.Lock()
        done.acquire()
        with self._arrival:
            self._waiting.append((row, time.monotonic(), done))
            self._arrival.notify()
            if not self._running:
                try:
                    threading.Thread(target=self._run, daemon=True).start()
                    self._running = True
                except RuntimeError:  # no more threads: the jail's own appends, without a limit for a hanging disk
                    self._append([self._waiting.pop()])
                    self._close()
        # No second event waits for a disk known to hang.
        if done.acquire(timeout=0 if self._late and self._late.locked() else DISK_WAIT):
            return True
        self._late = done
        return False

    def _run(self):
        while True:
            with self._arrival:
                if self._connection and not self._waiting:
                    self._arrival.wait(BURST)
                entries, self._waiting = self._waiting, []
                if not entries and not self._connection:
                    self._running = False
                    _bursts().pop(self._path, None)
                    return
            if entries:
                self._append(entries)
            else:
                self._close()

    def _append(self, entries):
        until = entries[0][1] + STORE_WAIT
        try:
            self._open()
            _insert(self._connection, [row for row, _, _ in entries], until)
            stored = True
        except Exception:  # whatever it is: each event by itself, with a new connection, else to the spool
            stored = False
        if not stored or any(row[0] == "stop" for row, _, _ in entries):  # fail2ban may end now
            self._close()
        for row, arrived, done in entries:
            if not stored:
                _log_append(self._path, row, max(0.0, arrived + STORE_WAIT - time.monotonic()))
            if row[0] == "start":
                _log_reserve(self._path)
            done.release()

    def _open(self):
        """Open the store, or open it anew where its path leads to another file by now, or must not be followed."""
        if self._connection and (is_there(damage_mark(self._path)) or self._is_elsewhere(look(self._path))):
            self._close()
        if not self._connection:
            self._connection, self._seen = _connect(self._path, STORE_WAIT)

    def _is_elsewhere(self, now):
        return now is None or not os.path.samestat(now, self._seen)

    def _close(self):
        connection, self._connection = self._connection, None
        if not connection:
            return
        try:
            if self._is_elsewhere(os.stat(self._path) if is_there(self._path) else None):
                # SQLite would leave the log of a file that was moved or removed beside the one that is there now.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
        except Exception as error:  # all events are stored; the next process that opens the store tidies up
            _logger().debug("closing %s: %s", self._path, _reason(error))


def _bursts():
    """Return this process's bursts by path. fail2ban executes this file once for each jail, so no global is shared."""
    return sys.modules.setdefault("f2b-digest-bursts", type(sys)("f2b-digest-bursts")).__dict__


def _logger():
    import logging

    return logging.getLogger("fail2ban.f2b-digest")


def _log_append(path, row, wait):
    """Append one event by itself; fail2ban's log gets what did not go into the store."""
    try:
        reason = append(path, row, wait, PATIENCE)  # after DISK_WAIT the jail goes on, without losing the ban
        if reason:
            _logger().warning("%s of %r is in %s: %s", row[0], row[3], spool_path(path), reason)
    except Exception as error:
        _logger().error("NOT RECORDED: %r: %s", dict(zip(COLUMNS, row)), _reason(error))


def _log_reserve(path):
    try:
        reserve_spool(path)
    except Exception as refusal:
        _logger().warning("no reserve for a full disk beside %s: %s", path, _reason(refusal))


# ---- fail2ban's Python action


class Action:
    """fail2ban's Python action; none of its methods ever raises or blocks a jail for long.

    Options (all text): ``dbpath``, the store; ``host``, this host's name in the digest.
    It duck-types fail2ban's ActionBase, so that this file loads without fail2ban.
    """

    banEpoch = 0  # without it, fail2ban stops re-banning with the jail's firewall action
    norestored = True  # a ban that fail2ban restores at its start was recorded when it was new
    _prolongable = True  # the final ban time under bantime.increment comes through prolong()

    # Not (self, jail, name, **options): an option called "name", "jail" or "self" would be a TypeError, and that keeps
    # fail2ban from starting any jail.
    def __init__(*arguments, **options):
        self, self._jail, self._name = (arguments + (None, None))[:3]
        self._log = _logger()
        self._set(options)

    def _set(self, options):
        dbpath = options.pop("dbpath", None)
        self.dbpath = str(dbpath)
        self.host = str(options.pop("host", "") or "") or os.uname().nodename
        if not os.path.isabs(self.dbpath):
            if dbpath is not None:
                self._log.error("dbpath=%r is not an absolute path: recording to %s", dbpath, DEFAULT_STORE)
            self.dbpath = DEFAULT_STORE
        options.pop("actname", None)  # fail2ban's own
        for option in sorted(options):
            self._log.error("no such option: %r (known: dbpath, host)", option)

    def reload(*arguments, **options):
        """Apply the options of a reloaded configuration; fail2ban drops an action without this method."""
        arguments[0]._set(options)

    def clearAllParams(self):
        """Do nothing: `reload` sets every option again. fail2ban drops an action without this method."""

    def consistencyCheck(self, beforeRepair=None):
        """Return True; fail2ban 0.11 checks before each ban."""
        return True

    def flush(self):
        """Return True where the jail stops: its next start restores the bans, so they have not ended.

        Otherwise it is a manual unban of all, and fail2ban calls unban() for each address.
        """
        return not getattr(getattr(self._jail, "actions", None), "active", False)

    def start(self):
        """Record that the jail started, and allocate the spool's reserve."""
        self._record("start", {})

    def stop(self):
        """Record that the jail stopped."""
        self._record("stop", {})

    def ban(self, aInfo):
        """Record a ban."""
        self._record("ban", aInfo)

    def reban(self, aInfo):
        """Do nothing: only the firewall lost the ban."""

    def unban(self, aInfo):
        """Record the end of a ban."""
        self._record("unban", aInfo)

    def prolong(self, aInfo):
        """Record the final duration of a ban under bantime.increment."""
        self._record("prolong", aInfo)

    def _record(self, kind, aInfo):
        try:
            row = self._event(kind, aInfo)
            # Locks have timeouts, a hanging disk has none, so a thread of its own appends.
            # fail2ban calls from several threads at once (the jail's, the observer's, the main one).
            bursts = _bursts()
            if not (bursts.get(self.dbpath) or bursts.setdefault(self.dbpath, _Burst(self.dbpath))).record(row):
                self._log.warning("%s keeps the %s of %r waiting: the disk is slow", self.dbpath, kind, row[3])
        except Exception as error:
            self._log.error("cannot record a %s: %s", kind, _reason(error))

    def _event(self, kind, aInfo):
        """Return the event of fail2ban's action info; its values are computed lazily, and may fail, one by one."""
        if not aInfo:
            return event(kind, _jail_name(self._jail), "", time.time(), self.host, "action")
        data = _get(aInfo, "F-*")
        data = data if isinstance(data, dict) else {}
        return event(
            kind,
            _jail_name(self._jail),
            _get(aInfo, "fid") or _get(aInfo, "ip"),
            _get(aInfo, "time"),
            self.host,
            "action",
            failures=_get(aInfo, "failures"),
            bantime=_get(aInfo, "bantime"),
            bancount=_get(aInfo, "bancount"),
            users=_users(self._jail, data) if kind == "ban" else (),
            matches=_get(aInfo, "matches") if kind == "ban" else None,
        )


def _get(info, key):
    try:
        return info.get(key)
    except Exception:
        return None


def _jail_name(jail):
    return getattr(jail, "name", jail)


def _users(jail, data):
    """Return every user name that was tried.

    fail2ban's ticket has only the names of its first failure; the others are in the matched lines,
    where the jail's own expressions find them again.
    """
    names = list(data.get("users") or ())
    names.append(data.get("user"))
    lines = data.get("matches") or ()
    if len(lines) > 1 and any(names):
        try:
            names.extend(_users_in(jail.filter, lines))
        except Exception:  # unknown fail2ban internals: only the first names are available
            pass
    return [name for name in names if isinstance(name, str)]


def _users_in(source, lines):
    import re

    prefix = source.prefRegex and re.compile(source.prefRegex.getRegex())
    expressions = [re.compile(expression) for expression in source.getFailRegex()]
    dates = [template.template for template in source.dateDetector.templates]
    for line in lines:
        text = _without_date(line, dates) + "\n"
        if prefix:
            found = prefix.search(text)
            if not found:
                continue
            text = found.groupdict().get("content", text)
        for expression in expressions:
            found = expression.search(text)
            if found:
                for group, value in found.groupdict().items():
                    if value and (group == "user" or group.startswith("alt_user")):
                        yield value
                break


def _without_date(line, dates):
    """Return a matched line as fail2ban's expressions see it; the first one comes as (before, date, after)."""
    if not isinstance(line, str):
        return line[0] + line[2]
    for date in dates:
        found = date.matchDate(line)
        if found:
            return line[: found.start(1)] + line[found.end(1) :]
    return line


# ---- the shell action


def main(arguments):
    """Append one event from ``--name=value`` arguments; return the exit status.

    For action.d/f2b-digest.conf, which documents the names. The matched lines come in the environment variable
    F2B_DIGEST_MATCHES. Invalid arguments are reported on standard error, and the rest is recorded: a ban matters more than an option.
    """
    given, users, unknown = {}, [], []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == "--user" and equals:
            users.append(value)
        elif (
            name in ("--store", "--kind", "--jail", "--ip", "--at", "--failures", "--bantime", "--bancount", "--host")
            and equals
        ):
            given[name[2:]] = value
        else:
            unknown.append(argument)
    path = given.pop("store", DEFAULT_STORE)
    row = event(
        given.pop("kind", "ban"), given.pop("jail", ""), given.pop("ip", ""), given.pop("at", None),
        given.pop("host", "") or os.uname().nodename, "shell",
        users=users, matches=os.environ.get("F2B_DIGEST_MATCHES"), **given
    )  # fmt: skip
    for argument in unknown:
        sys.stderr.write("f2b-digest: invalid argument ignored: {!r}\n".format(argument))
    try:
        reason = append(path, row)
    except NotStored as error:
        sys.stderr.write("f2b-digest: NOT RECORDED: {!r}: {}\n".format(dict(zip(COLUMNS, row)), error))
        return 1
    if reason:
        sys.stderr.write("f2b-digest: in {}: {}\n".format(spool_path(path), reason))
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # the event is on disk: an orderly exit of the interpreter would take longer than storing it
