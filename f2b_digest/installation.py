"""The files of an installation: which are written, which belong to a person by now, and how to take them back.

Paths are those of the installed system; a `Tree` says where that system lies. Nothing is asked or printed here, and no
program is run.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from f2b_digest import places
from f2b_digest.errors import SetupError

MANIFEST = "/etc/f2b-digest/setup.json"
"""What setup wrote. Not in the store's folder: its owner must not tell root what to delete."""
CONFIGURATION = "/etc/f2b-digest/config.toml"
ACTIONS = ("/etc/fail2ban/action.d/f2b-digest.py", "/etc/fail2ban/action.d/f2b-digest.conf")
RETRY_TIMER = "/etc/systemd/system/f2b-digest-retry.timer"
UNITS = ("send@.service", "send@.timer", "retry.service", "retry.timer")
BESIDE = ".new"
"""No program reads a file of this name: not cron, not fail2ban, not systemd."""


@dataclass(frozen=True)
class File:
    """A file that an installation has."""

    path: str
    content: bytes
    mode: int = 0o644
    group: int = 0
    first: bool = False
    """Written where there is none, and the admin's from then on: never changed, never taken back."""


@dataclass(frozen=True)
class Step:
    """One change, or one file that a person changed and that stays."""

    verb: Literal["write", "beside", "remove", "leave"]
    path: str
    file: File | None = None


@dataclass
class Manifest:
    """What setup wrote: each file with its hash, and the folders that it made."""

    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


class Tree:
    """A system's files, below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._undo: list[tuple[Path, Path | None]] = []

    def at(self, path: str) -> Path:
        """Return where a path of the system is."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> bytes | None:
        """Return a file's content; None if there is none. Raises SetupError."""
        try:
            return self.at(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SetupError(f"{self.at(path)}: {error.strerror}") from None

    def manifest(self) -> Manifest:
        """Return what an earlier setup wrote. Raises SetupError."""
        text = self.read(MANIFEST)
        try:
            return Manifest(**json.loads(text)) if text else Manifest()
        except (ValueError, TypeError):
            raise SetupError(
                f"{self.at(MANIFEST)} is damaged: move it away, and what is there counts as yours"
            ) from None

    # ---- the plan

    def plan(self, files: Iterable[File], manifest: Manifest) -> list[Step]:
        """Return the steps to these files from what is there; what setup wrote before and is not among them goes."""
        steps = [step for file in files for step in self._steps(file, manifest)]
        wanted = {step.path for step in steps} | {file.path for file in files}
        wanted |= {step.path + BESIDE for step in steps if step.verb == "beside"}
        return steps + list(self._stale(manifest, wanted))

    def _steps(self, file: File, manifest: Manifest) -> Iterator[Step]:
        present = self.read(file.path)
        if present == file.content or (present is not None and file.first):
            return
        if present is None or _hash(present) == manifest.files.get(file.path):
            yield Step("write", file.path, file)
        elif self.read(file.path + BESIDE) != file.content:
            yield Step("beside", file.path, File(file.path + BESIDE, file.content, file.mode))
        else:
            yield Step("beside", file.path)

    def _stale(self, manifest: Manifest, wanted: set[str]) -> Iterator[Step]:
        for path, known in sorted(manifest.files.items(), reverse=True):  # jail.d before action.d
            present = self.read(path)
            if path not in wanted and present is not None:
                yield Step("remove" if _hash(present) == known else "leave", path)

    # ---- the deed

    def apply(self, steps: Iterable[Step], manifest: Manifest) -> None:
        """Do the steps, and keep the manifest up to date. `take_back` undoes them."""
        for step in steps:
            if step.file:
                self.make_folder(str(Path(step.path).parent), manifest)
                self._replace(step.file)
                if not step.file.first:
                    manifest.files[step.file.path] = _hash(step.file.content)
            elif step.verb == "remove":
                self._keep(self.at(step.path))
                self.at(step.path).unlink()
                del manifest.files[step.path]

    def save(self, manifest: Manifest) -> None:
        """Store the manifest, if it changed; without files, take it and the folders that setup made away."""
        if manifest.files:
            content = json.dumps(vars(manifest), indent=1, sort_keys=True).encode() + b"\n"
            if content != self.read(MANIFEST):
                self._replace(File(MANIFEST, content))
            return
        self.at(MANIFEST).unlink(missing_ok=True)
        for folder in sorted(manifest.folders, key=len, reverse=True):
            with suppress(OSError):  # it holds the configuration, the store, or something of the admin's
                self.at(folder).rmdir()

    def make_folder(self, path: str, manifest: Manifest) -> None:
        """Make a folder and those above it, and note which."""
        if path == "/" or self.at(path).is_dir():
            return
        self.make_folder(str(Path(path).parent), manifest)
        self.at(path).mkdir(mode=0o755)
        self.at(path).chmod(0o755)  # whatever the umask
        manifest.folders.append(path)
        self._undo.append((self.at(path), None))

    def take_back(self) -> None:
        """Undo every change that was made through this object."""
        for path, kept in reversed(self._undo):
            if kept:
                kept.replace(path)
            elif path.is_dir():
                with suppress(OSError):  # somebody put something into it
                    path.rmdir()
            else:
                path.unlink(missing_ok=True)
        self._undo.clear()

    def settle(self) -> None:
        """Forget how to undo."""
        for _, kept in self._undo:
            if kept:
                kept.unlink(missing_ok=True)
        self._undo.clear()

    def _keep(self, path: Path) -> None:
        kept = None
        if path.exists():
            kept = path.with_name(f".{path.name}.before-setup")  # hidden: no program reads it
            shutil.copy2(path, kept)
            owner = path.stat()
            if os.geteuid() == 0:
                os.chown(kept, owner.st_uid, owner.st_gid)
        self._undo.append((path, kept))

    def _replace(self, file: File) -> None:
        """Write a file whole or not at all."""
        path = self.at(file.path)
        self._keep(path)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as new:
                new.write(file.content)
                os.fchmod(new.fileno(), file.mode)
                if os.geteuid() == 0:
                    os.fchown(new.fileno(), 0, file.group)
                new.flush()
                os.fsync(new.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- what an installation consists of


def actions() -> list[File]:
    """Return the files for fail2ban's action.d."""
    return [File(path, (places.folder("action.d") / Path(path).name).read_bytes()) for path in ACTIONS]


def cron_file(program: str, user: str, reports: Collection[str]) -> File:
    """Return the file for cron, with a line for each of `daily` and `weekly` that is among the reports."""
    text = (places.folder("cron") / "f2b-digest").read_text(encoding="utf-8")
    for report in ("daily", "weekly"):
        text = re.sub(
            rf"^#?@{report}\b", f"@{report}" if report in reports else f"#@{report}", text, flags=re.MULTILINE
        )
    command = program.replace("%", r"\%")  # cron's line end
    text = text.replace("root  f2b-digest ", f"{user}  {command} ")
    return File("/etc/cron.d/f2b-digest", text.encode())


def units(program: str, user: str) -> list[File]:
    """Return systemd's units, for a machine without cron."""
    files = []
    for name in UNITS:
        text = (places.folder("cron") / f"f2b-digest-{name}").read_text(encoding="utf-8")
        text = text.replace("User=root", f"User={user}")
        text = text.replace("/usr/local/bin/f2b-digest ", f"{program.replace('%', '%%')} ")
        files.append(File(f"/etc/systemd/system/f2b-digest-{name}", text.encode()))
    return files


def timers(reports: Collection[str]) -> list[str]:
    """Return the timers to enable: systemd knows the names `daily` and `weekly` as times."""
    return [f"f2b-digest-send@{name}.timer" for name in ("daily", "weekly") if name in reports] + [
        "f2b-digest-retry.timer"
    ]


def first_configuration(
    *, timezone: str, language: str, store: str, sendmail: str | None, sender: str, to: list[str], group: int
) -> File:
    """Return a configuration to begin with; without a sendmail, its mail waits for an SMTP server's name.

    It names zone and language, for cron's environment is not the admin's.
    """
    lines = [
        "# Begun by `f2b-digest setup`, which never changes it again: it is yours. The README shows every key.",
        f"timezone = {_toml(timezone)}",
        f"language = {_toml(language)}",
        f"store = {_toml(store)}",
        "",
        "[reports.daily]",
        f"channels = [{_toml('mail') if sendmail else ''}]",
        "",
    ]
    mail = [
        "[channels.mail]",
        'kind = "email"',
        f"from = {_toml(sender)}",
        f"to = [{', '.join(map(_toml, to))}]",
    ]
    if sendmail:
        lines += [*mail, f"sendmail = {_toml(sendmail)}"]
    else:
        lines += [
            '# No sendmail was found: name a mail server below, and write channels = ["mail"] above.',
            *(
                f"# {line}"
                for line in [*mail, 'smtp = "smtp://user@mail.example.org:587"', 'password_file = "smtp.password"']
            ),
        ]
    return File(CONFIGURATION, "\n".join([*lines, ""]).encode(), 0o640, group, first=True)


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
