"""A system's files: planning, applying, rolling back and uninstalling changes.

Edited files are detected by their hash in the manifest, and kept. Nothing is asked or printed here, no program runs.
"""

import glob
import hashlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from f2b_digest.errors import SetupError

log = logging.getLogger(__name__)

# Not in the store's folder: its owner must not control what root deletes.
MANIFEST = "/etc/f2b-digest/setup.json"
"""The manifest of setup's files."""
SHOWN = 2
"""Lines shown of a difference."""


def unchanged(text: str) -> str:
    """Return the text."""
    return text


def essence(line: str) -> str:
    """Return a line's essence; "" for a comment."""
    return "" if line.lstrip().startswith(("#", ";")) else " ".join(line.split())


@dataclass(frozen=True)
class File:
    """A file that an installation has."""

    path: str
    content: bytes
    mode: int = 0o644
    first: bool = False
    """Whether it is written only if missing, and then the admin's: never changed, never removed."""
    former_group: int | None = None
    """A group that an earlier setup let read it; now only its owner may."""
    moved: Callable[[str], str] = unchanged
    """Returns an edited version with the necessary changes only."""
    essence: Callable[[str], str] = essence
    """Returns a line's essence: lines of the same essence differ only in the admin's choices."""


@dataclass(frozen=True)
class Step:
    """One change, or one edited file that is kept: in an installation ("keep"), or at an uninstall."""

    verb: Literal["write", "move", "chmod", "keep", "remove", "leave"]
    path: str
    file: File | None = None
    """The new content."""
    why: str = ""
    """How a kept file differs."""


@dataclass
class Manifest:
    """What setup created: each file with its hash, the folders, and the user."""

    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    user: str = ""


class Tree:
    """A system's files, below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._undo: list[Callable[[], object]] = []
        self._kept: list[Path] = []
        self._left: list[Path] = []
        """Folders of ours that a removed file was in."""

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
                f"{self.at(MANIFEST)} is damaged: move it away; setup then treats existing files as yours"
            ) from None

    # ---- the plan

    def plan(self, files: Iterable[File], manifest: Manifest) -> list[Step]:
        """Return the steps to these files from the current state; other files of an earlier setup are removed."""
        files = list(files)
        steps = [step for file in files for step in self._steps(file, manifest)]
        return steps + list(self._stale(manifest, {file.path for file in files}))

    def _steps(self, file: File, manifest: Manifest) -> Iterator[Step]:
        present = self.read(file.path)
        if present is None:
            yield Step("write", file.path, file)
        elif file.first:
            yield from self._closed(file)
        elif present != file.content:
            if hash_of(present) == manifest.files.get(file.path):
                yield Step("write", file.path, file)
            else:
                yield from self._a_persons(file, present.decode("utf-8", "surrogateescape"))

    def _closed(self, file: File) -> Iterator[Step]:
        status = self.at(file.path).stat()
        if status.st_gid == file.former_group and status.st_mode & 0o077 == 0o040:
            yield Step("chmod", file.path, file)

    def _a_persons(self, file: File, present: str) -> Iterator[Step]:
        """Yield the necessary changes of an edited file, and how it differs otherwise."""
        moved = file.moved(present)
        if moved != present:
            mode = stat.S_IMODE(self.at(file.path).stat().st_mode)
            yield Step("move", file.path, File(file.path, moved.encode("utf-8", "surrogateescape"), mode))
        why = difference(moved, file.content.decode(), file.essence)
        if why:
            yield Step("keep", file.path, why=why)

    def _stale(self, manifest: Manifest, wanted: set[str]) -> Iterator[Step]:
        for path, known in sorted(manifest.files.items(), reverse=True):  # jail.d before action.d
            present = self.read(path)
            if path not in wanted and present is not None:
                yield Step("remove" if hash_of(present) == known else "leave", path)

    # ---- execution

    def apply(self, steps: Iterable[Step], manifest: Manifest) -> None:
        """Execute the steps, and keep the manifest up to date. `take_back` undoes them."""
        for step in steps:
            if step.verb == "chmod":
                self._close(self.at(step.path))
            elif step.file:
                self.make_folder(str(Path(step.path).parent), manifest)
                self.replace(step.file)
                if step.verb == "write" and not step.file.first:
                    manifest.files[step.path] = hash_of(step.file.content)
            elif step.verb == "remove":
                self._keep(self.at(step.path))
                remove_file(self.at(step.path))
                manifest.files.pop(step.path, None)
                folder = str(Path(step.path).parent)
                self._left += [self.at(folder)] if folder in manifest.folders else []

    def save(self, manifest: Manifest) -> None:
        """Store the manifest, if changed; without files, remove it and the folders that setup created."""
        if manifest.files:
            content = json.dumps(vars(manifest), indent=1, sort_keys=True).encode() + b"\n"
            if content != self.read(MANIFEST):
                self.replace(File(MANIFEST, content))
            return
        self.at(MANIFEST).unlink(missing_ok=True)
        for folder in sorted(manifest.folders, key=len, reverse=True):
            remove_folder(self.at(folder))  # not if it contains the configuration, the store, or files of the admin's

    def make_folder(self, path: str, manifest: Manifest) -> None:
        """Create a folder and its parents, and record which."""
        if path == "/" or self.at(path).is_dir():
            return
        self.make_folder(str(Path(path).parent), manifest)
        folder = self.at(path)
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)  # whatever the umask
        manifest.folders.append(path)
        self._undo.append(lambda: remove_folder(folder))

    def take_back(self) -> None:
        """Undo every change that was made through this object."""
        for undo in reversed(self._undo):
            undo()
        for done in (self._undo, self._kept, self._left):
            done.clear()

    def settle(self) -> None:
        """Discard the undo information, and remove empty folders."""
        for kept in self._kept:
            kept.unlink(missing_ok=True)
        for folder in self._left:
            remove_folder(folder)
        for done in (self._undo, self._kept, self._left):
            done.clear()

    def _close(self, path: Path) -> None:
        """Restrict a file to its owner."""
        status = path.stat()

        def open_again() -> None:
            os.chown(path, -1, status.st_gid)
            path.chmod(stat.S_IMODE(status.st_mode))

        self._undo.append(open_again)
        path.chmod(0o600)
        os.chown(path, -1, 0)

    def _keep(self, path: Path) -> None:
        if not path.exists():
            self._undo.append(lambda: remove_file(path))
            return
        kept = path.with_name(f".{path.name}.before-setup")  # hidden: no program reads it
        shutil.copy2(path, kept)
        self._undo.append(lambda: kept.replace(path))
        self._kept.append(kept)
        owner = path.stat()
        if os.geteuid() == 0:
            os.chown(kept, owner.st_uid, owner.st_gid)

    def replace(self, file: File) -> None:
        """Write a file atomically, owned by root."""
        path = self.at(file.path)
        self._keep(path)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as new:
                new.write(file.content)
                os.fchmod(new.fileno(), file.mode)
                if os.geteuid() == 0:
                    os.fchown(new.fileno(), 0, 0)
                new.flush()
                os.fsync(new.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise


def hash_of(content: bytes) -> str:
    """Return the hash of a file's content."""
    return hashlib.sha256(content).hexdigest()


def remove_file(path: Path) -> None:
    """Remove a file and its compiled versions, which fail2ban leaves beside an action."""
    path.unlink(missing_ok=True)
    compiled = path.parent / "__pycache__"
    if path.suffix == ".py" and compiled.is_dir():
        for each in compiled.glob(f"{glob.escape(path.stem)}.*.pyc"):
            each.unlink(missing_ok=True)
        remove_folder(compiled)


def remove_folder(folder: Path) -> bool:
    """Remove a folder if it is empty, and return whether it was."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        log.info("%s stays: it is not empty", folder, exc_info=True)
        return False
    return True


def difference(present: str, wanted: str, essence: Callable[[str], str]) -> str:
    """Return a short description of how a file differs from setup's version, or "" if only in the admin's choices."""
    here, there = present.splitlines(), wanted.splitlines()
    known, needed = {"", *map(essence, here)}, {"", *map(essence, there)}
    lacks = [line for line in there if essence(line) not in known]
    has = [line for line in here if essence(line) not in needed]
    return ", and ".join(_told(word, lines) for word, lines in (("lacks", lacks), ("has", has)) if lines)


def _told(word: str, lines: list[str]) -> str:
    shown = " and ".join(f"`{' '.join(line.split())}`" for line in lines[:SHOWN])
    return f"{word} {shown}" + (f" and {len(lines) - SHOWN} more lines" if len(lines) > SHOWN else "")
