"""Template files to text: a folder is read once, and no more of it than templates need. Nothing is rendered here."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from stat import S_ISREG

log = logging.getLogger(__name__)

LARGEST = 1 << 20
"""Bytes of one template."""
ALL = 8 << 20
"""Bytes of all templates of a folder."""
MOST = 500
"""Files and folders in a folder of templates: with more it is another folder, such as /etc."""


@dataclass
class Folder:
    """What a folder of templates held when it was read; names are relative to it, as "email/body.txt"."""

    path: Path
    texts: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """Why a file, or all that is in a folder, cannot be used; "." is the whole folder."""
    folders: set[str] = field(default_factory=set)

    def fault(self, name: str) -> str:
        """Return why this folder's template of a name cannot be used, or ""; also "" where it has none."""
        for place in (name, *map(str, PurePosixPath(name).parents)):
            if place in self.faults:
                return f"{self.path / place}: {self.faults[place]}"
        return f"{self.path / name}: is a folder" if name in self.folders else ""


def read(path: Path) -> Folder:
    """Read a folder of templates; unreadable and binary files are in its `faults`. Raises nothing.

    Only regular files are opened, by links only within the folder, and without waiting: no FIFO and no device.
    """
    folder = Folder(path)
    root, room = os.path.realpath(path), ALL
    for name in _files(folder):
        try:
            folder.texts[name] = _text(root, name, room)
            room -= len(folder.texts[name].encode())
        except (OSError, ValueError) as error:
            folder.faults[name] = _reason(error)
    for name, reason in folder.faults.items():
        log.info("template %s: %s", path / name, reason)
    return folder


def _files(folder: Folder) -> Iterator[str]:
    """Yield the names of the files, and record the folders; hidden ones (.git) are left out."""
    waiting, seen = [""], 0
    for inside in waiting:  # grows
        try:
            with os.scandir(folder.path / inside) as found:
                for entry in found:
                    seen += 1
                    if seen > MOST:
                        folder.faults["."] = f"more than {MOST} files: is this a template folder?"
                        return
                    if entry.name.startswith("."):
                        continue
                    name = f"{inside}/{entry.name}".lstrip("/")
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                        folder.folders.add(name)
                    else:
                        yield name
        except OSError as error:
            folder.faults[inside or "."] = _reason(error)


def _text(root: str, name: str, room: int) -> str:
    """Return a file's text. Raises OSError, or ValueError if it is unusable as a template."""
    real = os.path.realpath(f"{root}/{name}")
    if not real.startswith(root.rstrip("/") + "/"):
        raise ValueError("is a symlink out of the folder: copy the file instead")
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"is larger than {LARGEST >> 20} MiB")
    if len(content) > room:
        raise ValueError(f"exceeds the limit of {ALL >> 20} MiB for all templates of a folder")
    return content.decode("utf-8")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8 text (byte 0x{error.object[error.start]:02x}): save it as UTF-8"
    return (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
