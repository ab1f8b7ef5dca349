"""Append one event to the store, whatever happens: the INSERT, the event table and the spool live here.

Never here: reading for a digest, configuration, any import that is not in the standard library.

One file, several doors, so that it must stand alone and run on Python 3.7 and later:

- fail2ban loads it into its server as ``action.d/f2b-digest.py`` (class `Action`);
- a shell action runs it as a program (`main`);
- the package imports it as ``f2b_digest.recorder`` for ``f2b-digest record`` and for taking the spool in.

Whoever writes to the store is in a hurry: a ban is never held up for longer than a second. What the store
cannot take in that time goes, as one line of JSON, to the spool file beside it.
"""

import os
import sys
import time

# Imported where needed: _sqlite3, json, fcntl, logging, threading. A shell door pays for each of them at every ban,
# and a Python without sqlite3 must still load this file (fail2ban starts no jail at all if an action's import fails).

DEFAULT_STORE = "/var/lib/fail2ban/f2b-digest/bans.sqlite3"
APPLICATION_ID = 0x66326264  # "f2bd" in the file's header, so that another program's database is never written to
SCHEMA_VERSION = 3
KINDS = ("ban", "prolong", "unban", "start", "stop")
SCRATCH_JAIL = "f2b-digest-setup"  # setup tries a ban there: a jail of nobody's, which no source and no digest tells

STORE_WAIT = 0.6  # seconds for the store's write lock
STORE_NAP = 0.02  # seconds at most between two looks at it
SPOOL_WAIT = 0.2  # seconds for the spool's lock, after the store has refused
PATIENCE = 30.0  # seconds for the spool's lock where nobody waits for the append
DISK_WAIT = 1.0  # seconds until a jail goes on while a disk that hangs keeps the append
SPOOL_RESERVE = 256 * 1024  # bytes kept free in the spool for the day the disk is full: about 800 bans
TEXT_LIMIT = 65536  # characters of one text: an attacker can choose its length

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
# For what a digest compares with: a jail's bans of a time, and when an address came first. Without the history of
# years they cost a ban some microseconds; with it, they make a digest's look back a matter of seconds.
EVENT_INDEXES = (
    "CREATE INDEX IF NOT EXISTS event_when ON event (jail, at, history) WHERE kind = 'ban'",
    "CREATE INDEX IF NOT EXISTS event_who ON event (ip, at) WHERE kind = 'ban'",
)
INSERT = "INSERT INTO event ({}) VALUES ({}) ON CONFLICT (jail, ip, kind, at, host) DO NOTHING".format(
    ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS))
)


class NotStored(Exception):
    """The event is neither in the store nor in the spool; the text says why and holds no secret."""


class ForeignStore(Exception):
    """The file is a database, but not one that this recorder may write to."""


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
    """Append one event to the store and return ""; or to its spool, and return why the store did not take it.

    Waits at most `wait` seconds for the store's lock, and then `spool_wait` for the spool's. Creates the store,
    with its folder, if there is none. Raises NotStored if neither took it.
    """
    until = time.monotonic() + wait
    try:
        connection = connect(path, wait)
        try:
            _insert(connection, row, until)
        finally:
            connection.close()
        return ""
    except Exception as refusal:  # no sqlite3, no folder, locked, full, damaged, newer: each is the spool's case
        reason = _reason(refusal)
    try:
        _spool(path, row, spool_wait)
    except Exception as refusal:
        raise NotStored("{}; the spool beside it: {}".format(reason, _reason(refusal)))
    return reason


def _insert(connection, row, until):
    """Insert one event. Raises sqlite3.OperationalError if the store stays locked until then, by the monotonic clock.

    SQLite's own waiting naps for longer and longer, so that of many doors at once the last to come are first, and one
    waits in vain. Short naps of any length give all the same chance: of 6400 events of 16 processes without a pause,
    0 to 2 and not 26 to 68 went to the spool.
    """
    connection.execute("PRAGMA busy_timeout=0")
    while True:
        try:
            connection.execute(INSERT, row)
            return
        except Exception as refusal:
            if "is locked" not in str(refusal) or time.monotonic() > until:
                raise
        time.sleep(os.urandom(1)[0] / 255 * STORE_NAP)


def connect(path, wait=STORE_WAIT):
    """Open the store for appending, in autocommit mode; create it if there is none.

    Raises ForeignStore, OSError or sqlite3.Error.
    """
    if _is_there(damage_mark(path)):
        raise ForeignStore("{} was set aside as damaged".format(path))
    import _sqlite3 as sqlite3  # without the date adapters of sqlite3, which a shell door would load for nothing

    if not os.path.exists(path):
        _make_file(path)
    refuse_foreign_link(path)
    connection = sqlite3.connect(_uri(path), timeout=wait, isolation_level=None, uri=True)
    try:
        # In this order: both are set at once, maybe just now by another door.
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if application == 0 and version == 0:
            _make_schema(connection)
        elif application != APPLICATION_ID:
            raise ForeignStore("{} is another program's database".format(path))
        # A newer version is no reason to refuse: an upgrade of the package must not stop a fail2ban that still runs
        # the older recorder. If the table of events ever changes shape, the INSERT fails, and the spool takes over.
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # stays in the file, unless a copy of it lost that
        except sqlite3.OperationalError:  # another door is just doing it; a row is as durable without
            pass
        connection.execute("PRAGMA synchronous=FULL")  # what is acknowledged survives a power cut
        return connection
    except BaseException:
        connection.close()
        raise


def damage_mark(path):
    """Return the path of the file that marks a store as damaged: nobody writes to the store while it is there."""
    return path + ".damaged"


def _make_file(path):
    """Create an empty file that belongs to whoever owns its folder, so that fail2ban (root) and `send` share it."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o750, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o640)
    except FileExistsError:  # another door was faster
        return
    _give_to_owner(descriptor, folder)
    os.close(descriptor)


def refuse_foreign_link(path):
    """Raise ForeignStore where root would follow another user's link to whatever that user wants changed."""
    if os.geteuid() == 0 and os.path.islink(path):
        owner = os.lstat(path).st_uid
        if owner != 0:
            raise ForeignStore("{} is a link that user {} made: not followed by root".format(path, owner))


def _uri(path):
    """Return a store as a URI that makes no file: `_make_file` does, and never behind a link."""
    name = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return "file://" + name + "?mode=rw"


def _give_to_owner(descriptor, folder):
    os.fchmod(descriptor, 0o640)  # fail2ban's umask of 077 would shut the group out
    if os.geteuid() == 0:
        owner = os.stat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _make_schema(connection):
    """Turn an empty database into a store, in one transaction; any number of doors may try at once."""
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # so that prune can give space back
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


# ---- the spool: one event a line, for the time in which the store takes none


def spool_path(path):
    """Return the path of the spool that belongs to a store."""
    return path + ".spool"


def _spool(path, row, wait=SPOOL_WAIT):
    """Append one event to the spool, on disk when this returns. Raises OSError if it cannot lock it within `wait`."""
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
            os.ftruncate(descriptor, end)  # no half events, and no reserve of NULs behind one
            raise OSError("no space for a whole line")
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a slow disk must not keep the next from writing; both then sync
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _locked_spool(path, wait=SPOOL_WAIT):
    """Open the spool and lock it; `take_in` may rename it meanwhile, so the name is checked once it is locked."""
    import fcntl

    name = spool_path(path)
    until = time.monotonic() + wait
    while time.monotonic() <= until:
        descriptor = _no_link(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
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
            if _is_file(name, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError("renamed again and again")


def _no_link(name, flags):
    """Open a file, but not through a link: the folder may belong to an unprivileged user, and root comes here."""
    return os.open(name, flags | os.O_NOFOLLOW, 0o640)


def _is_file(name, descriptor):
    try:
        return os.path.samestat(os.lstat(name), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _end_of_data(descriptor):
    """Return where the next line goes: behind it there are only the reserve's NULs, which JSON never holds."""
    low, high = 0, os.fstat(descriptor).st_size
    while low < high:
        middle = (low + high) // 2
        if os.pread(descriptor, 1, middle) == b"\0":
            high = middle
        else:
            low = middle + 1
    return low


def reserve_spool(path):
    """Set `SPOOL_RESERVE` bytes aside in the spool while the disk has room. Raises OSError if there is none."""
    descriptor = _locked_spool(path)
    try:
        if os.fstat(descriptor).st_size < SPOOL_RESERVE:
            os.posix_fallocate(descriptor, 0, SPOOL_RESERVE)
    finally:
        os.close(descriptor)


def spooled(path):
    """Return how many events wait in the spool, without a lock: a number for `status`."""
    count = 0
    for name in (spool_path(path), spool_path(path) + ".taken"):
        try:
            with open(name, "rb") as file:
                count += sum(1 for line in file if line.strip(b"\0\n"))
        except OSError:
            continue
    return count


def take_in(path):
    """Move every spooled event into the store, each exactly once; return their number and that of the torn lines.

    Lines that are no event (torn by a crash) are kept in a file named ``…spool.torn``. A crash halfway is mended by
    the next call: the taken file goes only when all of it is in the store, and the store ignores what it has.
    Only one process may call this at a time: the caller holds the sender's lock. Raises sqlite3.Error, ForeignStore or
    OSError; nothing is lost then.
    """
    spool, taken = spool_path(path), spool_path(path) + ".taken"
    count, torn = 0, 0
    while _is_there(taken) or _holds_events(spool):
        if not _is_there(taken):
            descriptor = _locked_spool(path, 5.0)
            try:
                os.rename(spool, taken)
            finally:
                os.close(descriptor)
        events, rest = _parse(taken)
        connection = connect(path, 5.0)
        try:
            for start in range(0, len(events), 500):  # short transactions: bans go on meanwhile
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT, events[start : start + 500])
                connection.execute("COMMIT")
        finally:
            connection.close()
        if rest:
            _keep(spool + ".torn", rest)
        os.unlink(taken)
        count, torn = count + len(events), torn + len(rest)
    if count + torn:
        try:
            reserve_spool(path)  # the one there was went with the taken file
        except OSError:  # a full disk: the next start of fail2ban or take_in tries again
            pass
    return count, torn


def _is_there(name):
    # Not os.path.exists(), which says no where the disk does not answer (EIO): a taken spool would be written over.
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _holds_events(name):
    try:
        with open(name, "rb", opener=_no_link) as file:
            return file.read(1) not in (b"", b"\0")
    except FileNotFoundError:
        return False


def _parse(name):
    """Return the events of a spool file, and the lines that are none."""
    import json

    events, rest = [], []
    with open(name, "rb", opener=_no_link) as file:
        lines = file.read().rstrip(b"\0").split(b"\n")
    for line in lines:
        if not line:
            continue
        try:
            fields = json.loads(line.decode())
            users = json.loads(fields.pop("users") or "[]")
            events.append(event(users=users, **fields))
        except (ValueError, KeyError, TypeError, AttributeError):
            rest.append(line)
    return events, rest


def _keep(name, lines):
    with open(name, "ab", opener=_no_link) as file:
        _give_to_owner(file.fileno(), os.path.dirname(name) or ".")
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


# ---- making any value storable


def _text(value):
    """Return any value as text that SQLite and UTF-8 take; bytes that are no text show as ``\\udc…`` escapes."""
    return ("" if value is None else str(value))[:TEXT_LIMIT].encode("utf-8", "backslashreplace").decode("utf-8")


def _number(value, kind=int, default=None):
    """Return any value as a number that fits SQLite's 64 bits, or `default` where it is none."""
    try:
        number = kind(float(value))
        return number if -(2**63) <= number < 2**63 else default
    except (TypeError, ValueError, OverflowError):
        return default


def _names(users):
    """Return user names as a JSON list, each once and in order, or None where there are none."""
    names = [_text(name) for name in users if name]
    if not names:
        return None
    import json

    return json.dumps(list(dict.fromkeys(names)), ensure_ascii=False)


def _reason(error):
    return "{}: {}".format(type(error).__name__, error)


# ---- fail2ban's door


class Action:
    """fail2ban's Python action; none of its methods ever raises or keeps a jail waiting for long.

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
        import logging

        self._log = logging.getLogger("fail2ban.f2b-digest")
        self._stuck = None
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
        """Take the options of a reloaded configuration; fail2ban drops an action that lacks this."""
        arguments[0]._set(options)

    def clearAllParams(self):
        """Do nothing: `reload` sets every option anew. fail2ban drops an action that lacks this."""

    def consistencyCheck(self, beforeRepair=None):
        """Say that all is well; fail2ban 0.11 asks before each ban."""
        return True

    def flush(self):
        """Say that all is done where the jail stops: its next start restores the bans, so that they did not end.

        Otherwise somebody unbans all, and fail2ban calls unban() for each address.
        """
        return not getattr(getattr(self._jail, "actions", None), "active", False)

    def start(self):
        """Record that the jail started, and set the spool's reserve aside."""
        self._record("start", {})

    def stop(self):
        """Record that the jail stopped."""
        self._record("stop", {})

    def ban(self, aInfo):
        """Record a ban."""
        self._record("ban", aInfo)

    def reban(self, aInfo):
        """Do nothing: the firewall lost the ban, the store did not."""

    def unban(self, aInfo):
        """Record the end of a ban."""
        self._record("unban", aInfo)

    def prolong(self, aInfo):
        """Record the final duration of a ban, as bantime.increment made it."""
        self._record("prolong", aInfo)

    def _record(self, kind, aInfo):
        try:
            import threading

            row = self._event(kind, aInfo)
            # A lock has its own time limit; a disk that hangs has none, so that the append has a thread of its own.
            # fail2ban calls from several threads at once (the jail's, the observer's, the main one).
            thread = threading.Thread(target=self._append, args=(row,), daemon=True)
            thread.start()
            stuck = self._stuck is not None and self._stuck.is_alive()
            thread.join(0.0 if stuck else DISK_WAIT)  # no second ban waits for a disk that is known to hang
            if thread.is_alive():
                self._stuck = thread
                self._log.warning("%s keeps the %s of %r waiting: the disk is slow", self.dbpath, kind, row[3])
        except Exception as error:
            self._log.error("cannot record a %s: %s", kind, _reason(error))

    def _append(self, row):
        try:
            # In its own thread: after DISK_WAIT the jail goes on, and the ban is still not lost.
            reason = append(self.dbpath, row, spool_wait=PATIENCE)
            if reason:
                self._log.warning("%s of %r is in %s: %s", row[0], row[3], spool_path(self.dbpath), reason)
        except Exception as error:
            self._log.error("NOT RECORDED: %r: %s", dict(zip(COLUMNS, row)), _reason(error))
        if row[0] == "start":
            self._reserve()

    def _reserve(self):
        try:
            reserve_spool(self.dbpath)
        except Exception as refusal:
            self._log.warning("no reserve for a full disk beside %s: %s", self.dbpath, _reason(refusal))

    def _event(self, kind, aInfo):
        """Return the event that fail2ban's action info describes; its values are computed, and fail, one by one."""
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

    fail2ban's ticket keeps only the names of its first failure; those of the others stand in the matched lines,
    where the jail's own expressions find them again.
    """
    names = list(data.get("users") or ())
    names.append(data.get("user"))
    lines = data.get("matches") or ()
    if len(lines) > 1 and any(names):
        try:
            names.extend(_users_in(jail.filter, lines))
        except Exception:  # another fail2ban inside than the ones known: the first names are what there is
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


# ---- the shell's door


def main(arguments):
    """Append one event from ``--name=value`` arguments; return the exit status.

    For action.d/f2b-digest.conf, which documents the names. The matched lines come in the environment variable
    F2B_DIGEST_MATCHES. What it cannot use it names on standard error, and records the rest: a ban weighs more than an option.
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
        sys.stderr.write("f2b-digest: not understood, left out: {!r}\n".format(argument))
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
    os._exit(status)  # the event is on disk: taking the interpreter down in order would take longer than storing it
