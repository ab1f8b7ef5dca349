"""A real fail2ban-server for the tests: unprivileged, in the foreground, with its own configuration and folder.

No tests here; /etc/fail2ban is not read.
"""

import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from f2b_digest import recorder
from tests.support.parts import program, unpacked

VERSIONS = ("0.11", "1.0", "1.1.0", "new")  # 1.0 is the system's own (Debian 12)
SUITES = {"0.11": "11", "1.1.0": "13", "new": "sid"}
ACTIONS = Path(recorder.__file__).resolve().parent
PATIENCE = 60.0  # seconds until a test gives up waiting

FAIL2BAN_CONF = """
[DEFAULT]
loglevel = INFO
logtarget = {folder}/fail2ban.log
syslogsocket = auto
socket = {folder}/run/f2b.sock
pidfile = {folder}/run/f2b.pid
dbfile = {dbfile}
dbmaxmatches = 10
dbpurgeage = 1d
allowipv6 = auto
[Definition]
[Thread]
"""
USER_FILTER = r"""
[Definition]
datepattern = {^LN-BEG}Epoch
failregex = ^ FAIL user="<F-USER>.*</F-USER>" from <ADDR>$
"""
ID_FILTER = r"""
[Definition]
datepattern = {^LN-BEG}Epoch
failregex = ^ FAIL user="<F-USER>.*</F-USER>" id="<F-ID>.*</F-ID>"$
"""
# fail2ban 0.11 looks for these where Python 3.10 no longer has them.
OLDER_PYTHON = """
import collections, collections.abc
vars(collections).update({name: getattr(collections.abc, name) for name in collections.abc.__all__})
"""
JAIL_DEFAULTS = {
    "enabled": "true",
    "backend": "polling",
    "logencoding": "utf-8",
    "usedns": "no",
    "ignoreself": "false",
    "filter": "user",
    "maxretry": "1",
    "findtime": "600",
    "bantime": "600",
}


class Fail2ban:
    """One fail2ban-server; `with` stops it and removes its folder.

    Jails are added with `jail` before `start`; each reads its own log, written with `log`.
    """

    def __init__(self, version: str) -> None:
        """Prepare a folder that the server, as nobody, may write to (pytest's own are closed to nobody)."""
        self._environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC",
        }  # fmt: skip
        if version == "1.0":
            self._programs = Path(program("fail2ban-server", "apt install fail2ban")).parent
            self._stock = Path("/etc/fail2ban")
        else:
            part = unpacked(f"fail2ban-{version}", SUITES[version], "fail2ban")
            self._programs = part / "usr/bin"
            self._stock = part / "etc/fail2ban"
            self._environment["PYTHONPATH"] = str(part / "usr/lib/python3/dist-packages")
        self._python = program("/usr/bin/python3", "apt install python3")
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="f2b-digest-test-"))
        self.folder.chmod(0o755)
        self.store = self.folder / "store" / "bans.sqlite3"
        self.dbfile = str(self.folder / "fail2ban.sqlite3")
        for name in ("conf/action.d", "conf/filter.d", "run", "store", "python"):
            (self.folder / name).mkdir(parents=True)
        for file in ACTIONS.glob("f2b-digest.*"):  # a wrong option must not make a test use this machine's store
            text = file.read_text(encoding="utf-8").replace(recorder.DEFAULT_STORE, str(self.store))
            self.write(f"conf/action.d/{file.name}", text)
        self.write("conf/filter.d/user.conf", USER_FILTER)
        self.write("conf/filter.d/id.conf", ID_FILTER)
        if version == "0.11":
            self._environment["PYTHONPATH"] += f":{self.write('python/sitecustomize.py', OLDER_PYTHON).parent}"
        self._jails: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder)

    # ---- configuration

    def write(self, name: str, text: str) -> Path:
        """Write a file of the server's folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def python_action(self, /, **options: str) -> str:
        """Return the `action` line of our Python action, recording to this server's store."""
        return _action("f2b-digest.py", {"dbpath": str(self.store)} | options)

    def shell_action(self, /, **options: str) -> str:
        """Return the `action` line of our shell action, recording to this server's store."""
        recorder_file = str(self.folder / "conf/action.d/f2b-digest.py")
        return _action(
            "f2b-digest", {"python": self._python, "recorder": recorder_file, "store": str(self.store)} | options
        )

    def jail(self, name: str, *actions: str, **options: str) -> None:
        """Add a jail, or change it, with these actions (default: our Python action)."""
        log = self.folder / f"{name}.log"
        log.touch()
        given = {"logpath": str(log), "action": "\n         ".join(actions or (self.python_action(),))}
        given["maxmatches"] = options.get("maxretry", "1")  # as in the stock jail.conf
        self._jails[name] = JAIL_DEFAULTS | given | {key.replace("_", "."): value for key, value in options.items()}
        self.configure()

    def configure(self) -> None:
        """Write the configuration; a running server sees it at its next reload."""
        self.write("conf/fail2ban.conf", FAIL2BAN_CONF.format(folder=self.folder, dbfile=self.dbfile))
        lines: list[str] = []
        for name, options in self._jails.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in options.items())]
        self.write("conf/jail.conf", "\n".join(lines) + "\n")

    def stock(self, *names: str) -> None:
        """Copy files of the configuration in fail2ban's package."""
        for name in names:
            shutil.copy(self._stock / name, self.folder / "conf" / name)

    # ---- life

    def start(self) -> None:
        """Start the server and wait until it answers and every jail is up."""
        _give(self.folder)
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [*_unprivileged(), *self._command("fail2ban-server"), "-xf", "start"],
                env=self._environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self.wait_until(lambda: self.jails_up() == sorted(self._jails), "all jails up")

    def stop(self) -> None:
        """Stop the server as its service manager does, if it runs."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """Stop and start the server."""
        self.stop()
        self.start()

    def client(self, *arguments: str) -> str:
        """Run fail2ban-client and return its answer; raise CalledProcessError if it fails."""
        return subprocess.run(
            [*self._command("fail2ban-client"), *arguments],
            env=self._environment, check=True, timeout=2 * PATIENCE, text=True, capture_output=True,
        ).stdout  # fmt: skip

    def jails_up(self) -> list[str]:
        """Return the names of the running jails."""
        try:
            answer = self.client("status")
        except subprocess.CalledProcessError:  # not listening yet
            return []
        return sorted(answer.rpartition(":")[2].replace(",", " ").split())

    def wait_until(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until the condition holds; fail with the server's log if it never does."""
        until = time.monotonic() + PATIENCE
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"fail2ban-server ended with {self._process.returncode}:\n{self.report()}")
            if time.monotonic() > until:
                raise AssertionError(f"never came: {what or condition}\n{self.report()}")
            time.sleep(0.02)

    def report(self) -> str:
        """Return what the server wrote, for failure messages."""
        output = self.folder / "output"
        return self.messages() + (output.read_text(errors="replace") if output.exists() else "")

    def messages(self) -> str:
        """Return fail2ban's own log."""
        log = self.folder / "fail2ban.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _command(self, name: str) -> list[str]:
        folder = self.folder
        files = ["-c", folder / "conf", "-s", folder / "run/f2b.sock", "-p", folder / "run/f2b.pid"]
        return [self._python, str(self._programs / name), *map(str, files)]

    # ---- logs, and recorded events

    def log(self, jail: str, *lines: str | bytes, ago: int = 0) -> int:
        """Write lines to a jail's log, each dated this many seconds ago; return that UTC epoch second."""
        second = int(time.time()) - ago
        raw = [line.encode() if isinstance(line, str) else line for line in lines]
        self.append_log(jail, *(b"%d %s" % (second, line) for line in raw))
        return second

    def append_log(self, jail: str, *lines: bytes) -> None:
        """Write lines to a jail's log at once, as they stand."""
        with (self.folder / f"{jail}.log").open("ab") as log:
            log.write(b"".join(line + b"\n" for line in lines))

    def events(self, kind: str = "ban", **fields: object) -> list[dict[str, Any]]:
        """Return the recorded events of a kind that have these fields, oldest first."""
        rows = [dict(row) for row in _read(self.store, "SELECT * FROM event ORDER BY id")]
        return [row for row in rows if row["kind"] == kind and fields.items() <= row.items()]

    def known_bans(self, jail: str) -> list[tuple[int, int]]:
        """Return (bantime, bancount) of a jail's active bans, from fail2ban's own database."""
        return [
            tuple(row) for row in _read(Path(self.dbfile), "SELECT bantime, bancount FROM bips WHERE jail = ?", jail)
        ]

    def wait_for_rest(self) -> None:
        """Wait until the action has closed the store: it is one file then."""
        log = self.store.with_name(self.store.name + "-wal")
        self.wait_until(lambda: not log.exists(), "the store is closed")

    def ban_of(self, ip: str) -> dict[str, Any]:
        """Wait for the ban of an address and return it; it must be the only one."""
        self.wait_until(lambda: self.events(ip=ip), f"a ban of {ip}")
        [ban] = self.events(ip=ip)
        return ban


def _action(name: str, options: Mapping[str, str]) -> str:
    return name + "[" + ", ".join(f'{key}="{value}"' for key, value in options.items()) + "]"


def _read(database: Path, query: str, *values: str) -> list[sqlite3.Row]:
    """Return the rows of a query; none while the database is just being made."""
    if not database.exists():
        return []
    with (
        as_the_server(),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=PATIENCE)) as connection,
    ):
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def _unprivileged() -> list[str]:
    """Return the command prefix that runs a command as nobody, if the tests run as root."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    setpriv = program("setpriv", "apt install util-linux")
    return [setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


@contextmanager
def as_the_server() -> Iterator[None]:
    """Become nobody for a while, if the tests run as root: SQLite's files beside the store stay nobody's."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(user)


def _give(folder: Path) -> None:
    """Make nobody the owner of a folder and its content, where the tests run as root."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
